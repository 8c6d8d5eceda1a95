"""`cscm people`, `waive` and `waivers`: what is signed, and what is refused before it is signed."""

import json
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner, Result

from cscm import people, signing, vex, waiver_scopes
from cscm.main import main
from supply_chain.errors import DeclarationInvalid, SettingInvalid
from supply_chain.evidence.envelope import parse_keys
from supply_chain.evidence.statement import Statement
from supply_chain.policy.loading import REGISTER
from supply_chain.policy.people import FILE, read_people
from supply_chain.policy.reviews import DIRECTORY as REVIEWS
from supply_chain.policy.reviews import ReviewReport, Reviews, read_reviews
from supply_chain.policy.signed_documents import DocumentKind, Signature, locate_signature, read_bundle, verify_document
from supply_chain.policy.vex import Vex, VexReport
from supply_chain.policy.waivers import DIRECTORY, WaiverReport, Waivers, WaiverState
from tests.support.builders import NOON
from tests.support.people import Office
from tests.support.signing_service import SigningService


@pytest.fixture
def office(tmp_path, monkeypatch):
    """A project whose documents are not signed, and a cosign that signs with the key of the person."""
    made = Office(tmp_path)
    for file in (made.write_people(), made.waive("zlib")):
        locate_signature(file).unlink()
    (tmp_path / "deployments/names.yaml").write_text("names: {}")
    for module in (people, signing):
        monkeypatch.setattr(module, "find_project", lambda: tmp_path)
    return made


@pytest.fixture(autouse=True)
def applications(monkeypatch):
    """The applications of the inventory."""
    found = ["shop"]
    inventory = SimpleNamespace(open=lambda: SimpleNamespace(applications=lambda: tuple(found)))
    monkeypatch.setattr(waiver_scopes, "load_block", lambda kind, name: inventory)
    return found


@pytest.fixture(autouse=True)
def owner(monkeypatch):
    """The workbench block, which is not there unless a test puts the owner's key into it."""
    keys: list[str] = []

    def load(kind: str, name: str) -> Any:
        if not keys:
            raise SettingInvalid("there is none")
        return SimpleNamespace(people_owner=keys[0])

    monkeypatch.setattr(signing, "load_block", load)
    return keys


@pytest.fixture
def cosign(program, monkeypatch):
    recorded = program("cosign")
    tool = recorded.does('while [ $# -gt 0 ]; do [ "$1" = --bundle ] && printf bundle > "$2"; shift; done')
    monkeypatch.setattr(signing, "find_cosign", lambda: tool)
    return recorded


def cscm(*arguments: Any, answer: str | None = None) -> Result:
    return CliRunner().invoke(main, list(map(str, arguments)), input=answer)


def test_people_check_lists_roles(office):
    """A mistake in the document is an error."""
    done = cscm("people", "check")
    assert done.exit_code == 0 and "ann: may approve for production; may waive the rules scan.*" in done.stdout

    (office.project / FILE).write_text("people: {}\n")
    done = cscm("people", "check")
    assert done.exit_code == 1 and "people.yaml:1:1: expires" in done.stderr


@pytest.mark.parametrize(
    ("command", "kind", "installation"),
    [("people", DocumentKind.PEOPLE, ""), ("waive", DocumentKind.WAIVER, "example")],
)
def test_signed_document_is_verified_by_gates(office, monkeypatch, command, kind, installation):
    """The gates verify what the command writes: what a person signs is for the installation of people.yaml."""
    signed: list[Statement] = []

    def sign(tool: Any, key: str, statement: Statement, service: Any) -> bytes:
        signed.append(statement)
        assert key == "awskms:///alias/ann"
        return bytes(office.ann.sign(statement))

    monkeypatch.setattr(signing, "sign_for_person", sign)
    monkeypatch.setattr(signing, "find_cosign", lambda: SimpleNamespace(with_environment=lambda **_: None))
    file = office.project / (FILE if command == "people" else DIRECTORY / "zlib.yaml")
    words = ["people", "sign"] if command == "people" else ["waive", file]
    done = cscm(*words, "--key", "awskms:///alias/ann")

    assert done.exit_code == 0, done.output
    assert f"{file.name}.sigstore.json" in done.stdout
    keys = {"ann": parse_keys(office.ann.public, "ann")}
    found = verify_document(
        kind, file.name, file.read_bytes(), read_bundle(file), keys, installation, datetime.now(UTC)
    )
    assert found == Signature(by="ann", at=datetime.fromisoformat(signed[0].predicate["signed"]))
    assert locate_signature(file).stat().st_mode & 0o777 == 0o644


def test_waiver_under_a_name_that_the_gates_do_not_read_is_not_signed(office):
    """The command would report a signature, and the gates that the file has no effect."""
    file = office.project / DIRECTORY / "Zlib fix.yaml"
    file.write_bytes((office.project / DIRECTORY / "zlib.yaml").read_bytes())

    done = cscm("waive", file, "--key", "awskms:///alias/ann")

    assert done.exit_code != 0 and "has other characters in its name" in done.output
    assert not locate_signature(file).exists()


def test_document_of_an_issuer_may_have_any_name(office):
    """The gates read VEX documents by their ending alone."""
    signing.require_place(office.project / "deployments/vex/Advisory 1.json", Path("deployments/vex"), ".json")


def test_waiver_is_not_signed_for_changed_people_document(office, cosign):
    """Somebody wrote another one into the file, and hopes that the person signs for it."""
    document, file = office.write_people(), office.project / DIRECTORY / "zlib.yaml"
    content, bundle = document.read_text(), locate_signature(document).read_bytes()
    words = ("waive", file, "--key", "awskms:///alias/ann")

    assert cscm(*words).stdout == f"signed for the installation example\nsigned: {locate_signature(file)}\n"
    for changed, signature in ((content.replace("example", "production"), bundle), (content, b"{}")):
        document.write_text(changed)
        locate_signature(document).write_bytes(signature)
        done = cscm(*words)
        assert done.exit_code == 1 and "people.yaml is not as it was signed" in done.stderr
    assert len(cosign.calls) == 1
    locate_signature(document).unlink()
    assert cscm(*words).exit_code == 0, "its owner signs it later"


def test_installation_is_verified_with_the_key_of_the_owner(office, cosign, owner):
    """Where the key is known; elsewhere the person learns that nobody verified it."""
    file, note = office.project / DIRECTORY / "zlib.yaml", "note: deployments/people.yaml is not verified: "
    words = ("waive", file, "--key", "awskms:///alias/ann")

    assert cscm(*words).stderr == f"{note}nobody signed it yet\n"
    office.write_people()
    assert cscm(*words).stderr == f"{note}the key of its owner is not known here\n"
    owner.append(office.owner.public)
    assert cscm(*words).stderr == ""
    office.write_people(signer=office.ann)
    done = cscm(*words)
    assert done.exit_code == 1 and "people.yaml is not as its owner signed it" in done.stderr
    assert len(cosign.calls) == 3


def test_scope_that_covers_no_image_is_noted_when_it_is_signed(office, cosign, applications, owner):
    """It may be a mistake in writing; whoever signs decides."""
    office.write_people()
    owner.append(office.owner.public)
    waiver = office.waive("zlib", applications=("shp", "shop"))

    done = cscm("waive", waiver, "--key", "awskms:///alias/ann")

    assert done.exit_code == 0, done.output
    assert done.stderr == "note: no known application matches shp, so that the waiver covers nothing there\n"
    applications[:] = []
    unchecked = f"note: {waiver_scopes.UNCHECKED}\n"
    assert cscm("waive", waiver, "--key", "awskms:///alias/ann").stderr == unchecked, "no inventory knows them"
    everywhere = office.waive("all", applications=("*",))
    assert cscm("waive", everywhere, "--key", "awskms:///alias/ann").stderr == ""


def test_waiver_is_signed_where_the_register_of_names_is_missing(office, cosign, applications, owner):
    """A person may have only a part of the project."""
    office.write_people()
    owner.append(office.owner.public)
    (office.project / REGISTER).unlink(missing_ok=True)

    done = cscm("waive", office.waive("zlib", applications=("shp",)), "--key", "awskms:///alias/ann")

    assert (done.exit_code, done.stderr) == (0, f"note: {waiver_scopes.UNCHECKED}\n"), done.output


def test_password_of_a_key_file_is_asked_for_once(office, cosign, monkeypatch):
    """It is passed to cosign in the environment; a password that is set there is not asked for."""
    key = office.project / "ann.key"
    key.write_text("PRIVATE")
    file = office.project / DIRECTORY / "zlib.yaml"
    monkeypatch.delenv("COSIGN_PASSWORD", raising=False)

    assert cscm("waive", file, "--key", key, answer="secret\n").exit_code == 0
    monkeypatch.setenv("COSIGN_PASSWORD", "other")
    assert cscm("waive", file, "--key", key).exit_code == 0
    assert cscm("waive", file, "--key", "pkcs11:token=a").exit_code == 0

    assert [each["COSIGN_PASSWORD"] for each in cosign.environments] == ["secret", "other", "other"]
    assert locate_signature(file).read_bytes() == b"bundle"
    assert [call[call.index("--key") + 1] for call in cosign.calls] == [str(key), str(key), "pkcs11:token=a"]


def test_waiver_is_signed_keyless_without_a_key(office, cosign, monkeypatch):
    """No password is asked for, also beside a file of that name; documents that need a key are not signed so."""
    office.service = SigningService()
    document = office.write_people()
    (document.parent / "sigstore/signing_config.json").write_text("{}")
    file = office.project / DIRECTORY / "zlib.yaml"
    monkeypatch.delenv("COSIGN_PASSWORD", raising=False)
    monkeypatch.chdir(office.project)
    (office.project / "keyless").write_text("a file")

    done = cscm("waive", file, "--key", "keyless")
    assert done.exit_code == 0 and "Password" not in done.output, done.output
    (call,) = cosign.calls
    assert "--key" not in call and locate_signature(file).read_bytes() == b"bundle"
    for words in (("people", "sign"), ("vex", "sign", file)):
        done = cscm(*words, "--key", "keyless")
        assert done.exit_code == 2 and "counts only with a key" in done.output, done.output
    assert len(cosign.calls) == 1


def test_people_document_with_identities_but_no_root_is_refused(office, cosign):
    """Its owner learns it before signing."""
    office.may = {"identities": [{"issuer": "https://accounts.example", "subject": "ann"}]}
    document = office.write_people()
    locate_signature(document).unlink()

    for words in (("people", "check"), ("people", "sign", "--key", "awskms:///alias/owner")):
        done = cscm(*words)
        assert done.exit_code == 1 and "names no trusted root" in done.output, done.output
    assert cosign.calls == [] and not locate_signature(document).exists()


def test_invalid_or_misplaced_waiver_is_not_signed(office, cosign, tmp_path):
    """Nobody signs what could not have an effect."""
    wrong = office.project / DIRECTORY / "wrong.yaml"
    wrong.write_text("reason: because\n")
    elsewhere = tmp_path / "zlib.yaml"
    elsewhere.write_bytes((office.project / DIRECTORY / "zlib.yaml").read_bytes())
    suffix = office.project / DIRECTORY / "zlib.yml"
    suffix.write_bytes(elsewhere.read_bytes())

    for file, why in ((wrong, "Field required"), (elsewhere, "deployments/waivers"), (suffix, "NAME.yaml")):
        done = cscm("waive", file, "--key", "awskms:///alias/ann")
        assert done.exit_code == 1 and why in done.stderr, done.output
        assert f"[{DeclarationInvalid.code}]" in done.stderr and not locate_signature(file).exists()
    assert cosign.calls == []


def test_waivers_are_listed_with_state_and_use(monkeypatch):
    """They are read with the workbench block, and their uses from the inventory."""
    report = WaiverReport(name="zlib", state=WaiverState.INERT, why="nobody signed it", expires=NOON)
    blocks = {
        "Workbench": SimpleNamespace(unsigned_policies=lambda: SimpleNamespace(waivers=Waivers(reports=(report,)))),
        "Inventory": SimpleNamespace(open=lambda: SimpleNamespace(images=lambda _: iter(()))),
    }
    monkeypatch.setattr(people, "load_block", lambda kind, name: blocks[kind])

    assert cscm("waivers").stdout.splitlines()[0] == "zlib: inert (nobody signed it)"
    (row,) = json.loads(cscm("waivers", "--json").stdout)
    assert (row["waiver"]["name"], row["images"]) == ("zlib", [])


def test_vex_document_is_signed_and_listed(office, cosign, monkeypatch):
    """An invalid or misplaced one is not signed."""
    file = office.project / "deployments/vex/hello.json"
    file.parent.mkdir()
    create = ("vex", "create", f"curated/hello@sha256:{'a' * 64}", "--vulnerability", "CVE-2026-1", "--status", "fixed")
    assert cscm(*create, "--author", "acme", "--output", file).exit_code == 0
    elsewhere = office.project / "hello.json"
    elsewhere.write_bytes(file.read_bytes())
    invalid = file.with_name("invalid.json")
    invalid.write_text("{}")

    done = cscm("vex", "sign", file, "--key", "awskms:///alias/acme")
    assert done.exit_code == 0 and done.stdout.endswith("hello.json.sigstore.json\n")
    assert locate_signature(file).read_bytes() == b"bundle" and len(cosign.calls) == 1
    for wrong in (elsewhere, invalid):
        assert cscm("vex", "sign", wrong, "--key", "awskms:///alias/acme").exit_code == 1
    assert len(cosign.calls) == 1

    reports = (
        VexReport(name="hello.json", by="acme", statements=1),
        VexReport(name="x.json", why="nobody signed it"),
    )
    policies = SimpleNamespace(vex=Vex(reports=reports))
    monkeypatch.setattr(vex, "load_block", lambda kind, name: SimpleNamespace(unsigned_policies=lambda: policies))
    assert cscm("vex", "list").stdout.splitlines() == [
        "hello.json: counts, 1 statement, signed by acme", "x.json: does not count: nobody signed it",
    ]  # fmt: skip
    assert [each["name"] for each in json.loads(cscm("vex", "list", "--json").stdout)] == ["hello.json", "x.json"]


def test_review_is_written_and_signed(office, monkeypatch, tmp_path):
    """The gates count what the command writes."""
    monkeypatch.setattr(
        signing, "sign_for_person", lambda tool, key, statement, service: bytes(office.ann.sign(statement))
    )
    monkeypatch.setattr(signing, "find_cosign", lambda: SimpleNamespace(with_environment=lambda **_: None))
    monkeypatch.setattr(people, "read_commit", lambda directory, revision: ("shop", "3" * 40))
    office.may = {"review": True}
    office.write_people()

    done = cscm("review", tmp_path, "--by", "ann", "--reason", "all of it", "--key", "awskms:///alias/ann")

    assert done.exit_code == 0 and "333333333333-ann.yaml" in done.stdout, done.output
    trusted = read_people(office.project / FILE, office.people_owner, datetime.now(UTC))
    (found,) = read_reviews(office.project / REVIEWS, trusted, datetime.now(UTC)).valid
    assert (found.by, found.document.revision, found.document.reason) == ("ann", "3" * 40, "all of it")


def test_review_that_cannot_be_signed_is_not_written(office, monkeypatch, tmp_path):
    """An unsigned review would be listed as one that does not count."""
    monkeypatch.setattr(people, "read_commit", lambda directory, revision: ("shop", "3" * 40))

    def fail(*_):
        raise DeclarationInvalid("no key")

    monkeypatch.setattr(people, "sign_content", fail)
    for by, why in (("ann", "no key"), ("../ann", "not the name of a person")):
        done = cscm("review", tmp_path, "--by", by, "--reason", "r", "--key", "awskms:///alias/ann")
        assert done.exit_code == 1 and why in done.stderr
    assert not list((office.project / REVIEWS).glob("*"))


def test_reviews_are_listed_with_reason_if_they_do_not_count(monkeypatch):
    """In JSON, with all fields."""
    counted = ReviewReport(name="one", by="ann", repository="shop", revision="3" * 40, reason="all of it")
    found = Reviews(reports=(counted, ReviewReport(name="two", why="nobody signed it")))
    policies = SimpleNamespace(reviews=found)
    monkeypatch.setattr(people, "load_block", lambda *_: SimpleNamespace(unsigned_policies=lambda: policies))

    assert cscm("reviews").stdout.splitlines() == [
        f"one: ann reviewed {'3' * 40} of shop (all of it)", "two: does not count: nobody signed it",
    ]  # fmt: skip
    assert json.loads(cscm("reviews", "--json").stdout)[1]["why"] == "nobody signed it"
    policies.reviews = Reviews()
    assert cscm("reviews").stdout == "there are no reviews\n"
