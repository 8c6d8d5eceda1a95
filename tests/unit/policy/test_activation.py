"""Policies decide only if they ship with this version, or if somebody who may signed all of them as they are."""

import shutil
from datetime import timedelta
from pathlib import Path

import pytest

from scripts.shipped_policies import current_digest
from supply_chain.errors import PolicyInvalid, PolicyUnsigned, SettingInvalid
from supply_chain.model.image import digest_of
from supply_chain.policy import loading
from supply_chain.policy.activation import LISTING, SHIPPED, list_policies, require_active
from supply_chain.policy.loading import DIRECTORY, read_active_policies, read_policy_state, read_unsigned_policies
from supply_chain.policy.people import FILE
from supply_chain.policy.signed_documents import DocumentKind, signature_file
from tests.support.builders import NOON
from tests.support.command import ROOT
from tests.support.people import Office
from tests.support.signer import EcdsaSigner

HOUR = timedelta(hours=1)
OTHER = "version: 1", "version: 2"
"""A change of a policy."""


@pytest.fixture
def office(tmp_path):
    """A project with the policies that ship, whose owner lets Ann change them."""
    shutil.copytree(ROOT / "deployments/environments", tmp_path / "deployments/environments")
    shutil.copytree(ROOT / DIRECTORY, tmp_path / DIRECTORY)
    made = Office(tmp_path, policies=("ann",))
    made.write_people()
    return made


def change(office: Office, name: str = "release.yaml") -> Path:
    """Change a policy so that it is still valid."""
    file: Path = office.project / DIRECTORY / name
    file.write_text(file.read_text().replace(*OTHER))
    return file


def state(office, since=None, now=NOON):
    return read_policy_state(office.project, office.owner.public, since, now)


def read(office, since=None, now=NOON):
    return read_active_policies(office.project, office.owner.public, since, now)


def test_shipped_digest_is_that_of_the_repository():
    """If it is not, the policies of every new project would have to be signed."""
    assert current_digest() == SHIPPED, "run `python -m scripts.shipped_policies`, and review both changes"


def test_list_of_policies_is_as_sha256sum_writes_it(tmp_path):
    """So that a person can check what they sign: `sha256sum *.yaml`."""
    digests = {content: digest_of(content).removeprefix("sha256:") for content in (b"a", b"b")}

    assert list_policies({"b.yaml": b"b", "a.yaml": b"a"}).decode() == (
        f"{digests[b'a']}  a.yaml\n{digests[b'b']}  b.yaml\n"
    )


@pytest.mark.parametrize("name", ["a\nb.yaml", "a b.yaml", ".yaml", "ä.yaml", "-a.yaml"])
def test_name_that_could_stand_for_two_files_is_refused(name):
    """A file named after two lines of the list would replace two policies by one."""
    with pytest.raises(PolicyInvalid, match="no name of a policy"):
        list_policies({name: b""})
    assert list_policies({"0.a_B-c.yaml": b""})


def test_shipped_policies_are_active_without_a_signature(office):
    """Neither people nor an owner are needed, and an expired people document stops nothing."""
    assert state(office).why == "they ship with this version"
    expired = read(office, now=NOON + timedelta(days=300))
    assert expired.deploy.people.distrusted and len(expired.deploy.policies) == 3
    (office.project / FILE).unlink()
    assert read_policy_state(office.project, "", None, NOON).active
    office.sign_policies(office.owner)
    assert state(office).why == "signed by the owner of deployments/people.yaml at 2026-11-24 12:00 UTC"


def test_policies_are_active_when_signed_by_who_may_change_them(office):
    """Both the owner and Ann may. What is read has the people and waivers of the project."""
    change(office)
    office.waive("zlib")
    for signer, name in ((office.ann, "ann"), (office.owner, "the owner of deployments/people.yaml")):
        office.sign_policies(signer, NOON - HOUR)
        found = state(office)
        assert (found.active, found.why) == (True, f"signed by {name} at 2026-11-24 11:00 UTC")
    policies = read(office)
    assert [str(each) for each in policies.release.policies] == ["curated 1", "image 1", "release 2"]
    assert set(policies.release.people.people) == {"ann", "bob"} and policies.waivers.valid


def test_owner_needs_no_people_document(office):
    """The block that names their key is not among the files of the project."""
    change(office)
    (office.project / FILE).unlink()
    assert state(office).why.endswith(": nobody signed it")
    office.sign_policies(office.owner)
    assert state(office).active
    assert not read_policy_state(office.project, "", None, NOON).active
    with pytest.raises(SettingInvalid, match="people_owner"):
        read_policy_state(office.project, "no key", None, NOON)


@pytest.mark.parametrize("signed", [False, True])
def test_change_of_the_files_is_not_active(office, signed):
    """A change, one file more or less, and another name: each alone is another list."""
    directory = office.project / DIRECTORY
    if signed:
        office.sign_policies(office.ann)
    before = {file: file.read_bytes() for file in directory.glob("*.yaml")}

    def add() -> None:
        (directory / "ours.yaml").write_bytes(before[directory / "release.yaml"])

    def rename() -> None:
        (directory / "release.yaml").rename(directory / "zrelease.yaml")

    def swap() -> None:
        (directory / "release.yaml").write_bytes(before[directory / "image.yaml"])
        (directory / "image.yaml").write_bytes(before[directory / "release.yaml"])

    for edit in (lambda: change(office), add, (directory / "curated.yaml").unlink, rename, swap):
        edit()
        why = "ann signed other content; it was changed since" if signed else "nobody signed it"
        assert (state(office).active, state(office).why) == (False, f"the list of their files does not count: {why}")
        for file in directory.glob("*.yaml"):
            file.unlink()
        for file, content in before.items():
            file.write_bytes(content)
    assert state(office).active


@pytest.mark.parametrize("who", ["bob", "stranger"])
def test_signature_of_who_may_not_change_policies_does_not_count(office, who):
    """Bob is a person with other roles."""
    change(office)
    office.sign_policies(office.bob if who == "bob" else EcdsaSigner())

    assert state(office).why.endswith("does not count: no key that is trusted for it signed it")


def test_person_who_may_no_longer_does_not_vouch(office):
    """Removed, without the role, with another key, or by a document that expired."""
    change(office)
    office.sign_policies(office.ann)
    assert state(office).active

    expired = state(office, now=NOON + timedelta(days=300))
    assert not expired.active and "expired on 2027-09-20; its owner signs a new one)" in expired.why
    office.policies = ("bob",)
    office.write_people()
    assert not state(office).active
    office.policies = ("ann",)
    office.ann = EcdsaSigner()
    office.write_people()
    assert not state(office).active
    (office.project / FILE).unlink()
    assert state(office).why.endswith("signed it (there is no deployments/people.yaml)")


def test_signature_for_something_else_does_not_count(office):
    """Neither of another kind, nor under another name, nor what is no bundle."""
    change(office)
    bundle = office.sign_policies(office.ann, kind=DocumentKind.WAIVER)
    assert "ann signed it as another kind of document" in state(office).why
    office.sign_policies(office.ann, name="people.yaml")
    assert "ann signed it under another name" in state(office).why
    bundle.write_text("{}")
    assert "is not a sigstore bundle" in state(office).why
    assert bundle == office.project / DIRECTORY / "policies.sigstore.json"


def test_signature_in_the_future_does_not_count(office):
    """With it, policies could be put back after a later `policies_signed_since`."""
    change(office)
    office.sign_policies(office.ann, NOON + HOUR)

    assert "which is in the future" in state(office).why


def test_earlier_policies_cannot_be_put_back_after_a_time(office):
    """Neither a set that was signed earlier, nor the one that ships: both are on disk with all that they need."""
    shipped = office.project / DIRECTORY / "release.yaml"
    content = shipped.read_bytes()
    change(office)
    earlier = office.sign_policies(office.ann, NOON - HOUR).read_bytes()
    assert state(office, since=NOON - HOUR).active

    replayed = state(office, since=NOON)
    assert not replayed.active
    assert replayed.why == (
        "signed by ann at 2026-11-24 11:00 UTC, and signatures before 2026-11-24 12:00 UTC do not count "
        "(`policies_signed_since`)"
    )
    shipped.write_bytes(content)
    signature_file(office.project / DIRECTORY / LISTING).unlink()
    assert not state(office, since=NOON).active and state(office).active
    office.sign_policies(office.ann)
    assert state(office, since=NOON).active
    signature_file(office.project / DIRECTORY / LISTING).write_bytes(earlier)
    assert not state(office, since=NOON).active


def test_unsigned_policies_are_an_error_before_they_are_parsed(office, monkeypatch):
    """What decides nothing reads them all the same."""
    change(office)
    assert len(read_unsigned_policies(office.project, office.owner.public, NOON).release.policies) == 3
    monkeypatch.setattr(loading, "parse_document", lambda *_: pytest.fail("it is parsed"))

    with pytest.raises(PolicyUnsigned) as refused:
        read(office)
    text = str(refused.value)
    assert f"policies in {office.project / DIRECTORY} are not active, so no gate decides: the list of" in text
    assert "does not count: nobody signed it." in text and "cscm policy sign --key REF" in text
    assert "`cscm policy check`" in text and "the owner of deployments/people.yaml, or a person with" in text
    assert text.endswith("[policy.unsigned]") and not PolicyUnsigned.retryable


def test_what_is_compiled_is_what_was_signed(office, monkeypatch):
    """A file that is replaced after the check of its signature is not read."""
    change(office)
    office.sign_policies(office.ann)

    def replace(*given):
        require_active(*given)
        (office.project / DIRECTORY / "release.yaml").write_text("name: replaced")

    monkeypatch.setattr(loading, "require_active", replace)

    assert [str(each) for each in read(office).release.policies] == ["curated 1", "image 1", "release 2"]
