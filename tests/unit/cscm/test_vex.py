"""`cscm vex`: what it writes, and what it says about a statement that is not allowed."""

import json
import os
from datetime import UTC, datetime

import pytest
from click.testing import CliRunner

from cscm.main import main
from supply_chain.curation.vex import VexAttachment
from supply_chain.model.image import ImageRef
from supply_chain.vulnerability.vex.reading import read_vex
from tests.support.builders import DIGEST
from tests.support.vex import CVE, OPENSSL, csaf, csaf_product, openvex, openvex_statement
from tests.support.vex import IMAGE as PURL

IMAGE = f"curated/hello@{DIGEST}"


def create(*arguments, image=IMAGE):
    return CliRunner().invoke(main, ["vex", "create", image, "--author", "me@example.com", *map(str, arguments)])


def test_created_document_is_printed_with_the_time():
    """It says what the options say, about the image and its package only."""
    before = datetime.now(UTC).replace(microsecond=0)

    stated = ["--status", "not_affected", "--justification", "component_not_present", "--impact", "Not built."]
    done = create("--vulnerability", CVE, "--vulnerability", "CVE-2026-0002", *stated, "--package", OPENSSL)

    assert done.exit_code == 0, done.output
    read = read_vex(done.stdout.encode(), "created")
    assert [each.vulnerability for each in read] == [CVE, "CVE-2026-0002"]
    for each in read:
        assert (each.status, each.justification, each.text) == ("not_affected", "component_not_present", "Not built.")
        assert each.author == "me@example.com" and before <= each.at <= datetime.now(UTC)
        assert [product.digests for product in each.products] == [(DIGEST,)]
        assert [part.purls for product in each.products for part in product.subcomponents] == [(OPENSSL,)]


def test_created_document_is_written_to_the_file(tmp_path):
    """Nothing else is printed."""
    file = tmp_path / "hello.vex.json"

    done = create("--vulnerability", CVE, "--status", "affected", "--action", "Upgrade to 2.0.", "--output", file)

    assert (done.exit_code, done.output) == (0, "")
    ((status, text),) = [(each.status, each.text) for each in read_vex(file.read_bytes(), str(file))]
    assert (status, text) == ("affected", "Upgrade to 2.0.")
    assert json.loads(file.read_text(encoding="utf-8"))["tooling"] == "cscm"


@pytest.mark.parametrize(
    ("arguments", "status", "mistake"),
    [
        (["--status", "not_affected"], 1, "not_affected needs a justification or an impact statement"),
        (["--status", "affected", "--impact", "x"], 1, "affected needs an action statement"),
        (["--status", "fixed", "--package", "openssl"], 1, "'openssl' is not the package URL of a package"),
        (["--status", "harmless"], 2, "Invalid value for '--status'"),
        (["--status", "not_affected", "--justification", "trust_us"], 2, "Invalid value for '--justification'"),
        ([], 2, "Missing option '--status'"),
    ],
)
def test_statement_that_is_not_allowed_is_refused(arguments, status, mistake):
    """No document is printed."""
    done = create("--vulnerability", CVE, *arguments)

    assert (done.exit_code, done.stdout) == (status, "")
    assert mistake in done.stderr


def test_image_without_its_digest_is_refused():
    """Twelve digits do not say which image is meant."""
    done = create("--vulnerability", CVE, "--status", "fixed", image="curated/hello@" + "a" * 12)

    assert done.exit_code == 1
    assert "does not name an image by digest" in done.stderr


def check(*arguments):
    return CliRunner().invoke(main, ["vex", "check", *map(str, arguments)])


def test_vex_check_prints_statements_of_documents(tmp_path):
    """Products that nothing matches are named, so that nobody relies on them."""
    own, vendor = tmp_path / "own.json", tmp_path / "vendor.json"
    parts = [{"@id": "urn:part"}]
    statement = openvex_statement(
        products=[{"@id": PURL}, {"@id": OPENSSL}, {"@id": PURL, "subcomponents": parts}, {"@id": "urn:rhel\n9"}]
    )
    own.write_text(json.dumps(openvex(statement)))
    vendor.write_text(json.dumps(csaf(tree={"full_product_names": [csaf_product(1)]})))

    done = check(own, vendor)

    assert done.exit_code == 0, done.output
    assert done.stdout.splitlines() == [
        f"{CVE}: not_affected (vulnerable_code_not_present) of 2 products, by psirt@example.com "
        "(https://openvex.dev/docs/example/vex-1, version 1), 2026-11-23 12:00 UTC",
        f"    note: matches nothing: {PURL}",
        "    note: matches nothing: urn:rhel 9",
        f"{CVE}: not_affected (component_not_present) of 0 products, by Example PSIRT (https://psirt.example.com) "
        "(2026-EX-1, version 1), 2026-11-23 12:00 UTC",
        "    note: matches nothing: Product 1",
    ]
    assert [row["unidentified"] for row in json.loads(check(own, vendor, "--json").stdout)] == [
        [PURL, "urn:rhel\n9"], ["Product 1"],
    ]  # fmt: skip


def test_check_refuses_an_invalid_document(tmp_path):
    """The other documents are not shown either."""
    valid, wrong = tmp_path / "valid.json", tmp_path / "wrong.json"
    valid.write_text(json.dumps(openvex()))
    wrong.write_text(json.dumps(openvex(openvex_statement(status="harmless"))))

    done = check(valid, wrong)

    assert (done.exit_code, done.stdout) == (1, "")
    assert f"error: {wrong}: statements.0.status: " in done.stderr


def test_check_names_a_file_that_cannot_be_read(tmp_path):
    """The remedy is to name another."""
    for path in (tmp_path, tmp_path / "none.json"):
        done = check(path)

        assert (done.exit_code, done.stdout) == (1, "")
        assert f"{path} cannot be read: " in done.stderr and "Name a VEX document." in done.stderr


def test_attach_gives_the_document_to_the_flow(tmp_path, monkeypatch):
    """The key stays where it is; its password is asked for once."""
    asked = []

    async def flow(**parameters):
        asked.append({**parameters, "password": os.environ["COSIGN_PASSWORD"]})
        return VexAttachment(image=ImageRef.parse(IMAGE), by="psirt", statements=1)

    monkeypatch.setattr("cscm.running.use_prefect", lambda **_: None)
    monkeypatch.setattr("flows.vex.attach_vex", flow)
    monkeypatch.setenv("COSIGN_PASSWORD", "secret")
    file = tmp_path / "hello.json"
    file.write_text(json.dumps(openvex()))

    done = CliRunner().invoke(main, ["vex", "attach", IMAGE, str(file), "--key", "psirt.key"])

    assert done.exit_code == 0, done.output
    text = file.read_text()
    assert asked == [{"image": IMAGE, "document": text, "key": "psirt.key", "password": "secret"}]
    assert done.stdout == f"attached to {IMAGE}: 1 statement, signed by psirt\n"
    file.write_text("{}")
    wrong = CliRunner().invoke(main, ["vex", "attach", IMAGE, str(file), "--key", "psirt.key"])
    assert wrong.exit_code == 1 and len(asked) == 1
