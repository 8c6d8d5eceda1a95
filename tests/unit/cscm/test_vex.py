"""`cscm vex`: what it writes, and what it says about a statement that is not allowed."""

import json
from datetime import UTC, datetime

import pytest
from click.testing import CliRunner

from cscm.main import main
from supply_chain.vulnerability.vex.reading import read_vex
from tests.support.builders import DIGEST
from tests.support.vex import CVE, OPENSSL

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
