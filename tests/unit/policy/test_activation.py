"""Policies decide only if they ship with this version, or if somebody who may signed all of them as they are."""

from datetime import timedelta
from pathlib import Path

import pytest
import yaml

from scripts.shipped_policies import module_text
from supply_chain.errors import PolicyInvalid, PolicyUnsigned, SettingInvalid
from supply_chain.execution.environment_documents import read_environment
from supply_chain.execution.signed_project import read_project_state, read_signable, require_active_environment
from supply_chain.model.image import digest_of
from supply_chain.policy import activation, loading, shipped
from supply_chain.policy.activation import LISTING, list_files, list_next, require_active
from supply_chain.policy.loading import (
    DIRECTORY,
    ENVIRONMENTS,
    REGISTER,
    read_active_policies,
    read_active_register,
    read_project_activation,
    read_unsigned_policies,
)
from supply_chain.policy.people import FILE, PeopleOwner
from supply_chain.policy.signed_documents import DocumentKind, locate_signature, make_document_statement
from tests.support.builders import NOON
from tests.support.people import Office, copy_shipped, raise_version
from tests.support.signer import EcdsaSigner

HOUR = timedelta(hours=1)
RELEASE = ("curated", "image", "release")


@pytest.fixture
def office(tmp_path):
    """A project with the policies that ship, whose owner lets Ann change them."""
    copy_shipped(tmp_path)
    made = Office(tmp_path, policies=("ann",))
    made.write_people()
    return made


def change(office: Office, name: str = "release.yaml") -> Path:
    """Change a policy so that it is still valid."""
    file: Path = office.project / DIRECTORY / name
    raise_version(file)
    return file


def release_policies(office: Office) -> list[str]:
    """Return the names and versions in the files of the release gate."""
    documents = [yaml.safe_load((office.project / DIRECTORY / f"{name}.yaml").read_text()) for name in RELEASE]
    return [f"{each['name']} {each['version']}" for each in documents]


def state(office, since=None, now=NOON):
    return read_project_state(office.project, office.people_owner, since, now)


def read(office, since=None, now=NOON):
    return read_active_policies(office.project, office.people_owner, since, now)


def test_shipped_digests_are_those_of_the_repository():
    """If they are not, every new project would have to be signed."""
    text = Path(shipped.__file__).read_text()

    assert text == module_text(), "run `python -m scripts.shipped_policies`, and review both changes"


def test_signed_list_has_format_of_sha256sum():
    """So that a person can check what they sign: `sha256sum policies/*.yaml names.yaml`."""
    digests = {content: digest_of(content).removeprefix("sha256:") for content in (b"a", b"b")}

    assert list_files({"policies/b.yaml": b"b", "names.yaml": b"a"}).decode() == (
        f"{digests[b'a']}  names.yaml\n{digests[b'b']}  policies/b.yaml\n"
    )


@pytest.fixture
def listed(tmp_path, monkeypatch):
    """Return the names of the next list, which becomes the last one, or why it is refused."""
    monkeypatch.setattr(activation, "SHIPPED", {"versions/shipped.1": digest_of(b"a")})

    def next_list(documents):
        try:
            content = list_next(documents, tmp_path)
        except PolicyInvalid as error:
            return error.message
        (tmp_path / LISTING).write_bytes(content)
        return [line.partition("  ")[2] for line in content.decode().splitlines()]

    return next_list


def test_list_retains_the_versions_that_were_signed(listed):
    """Of policies and other files, only what is there now counts."""
    assert listed({"policies/x.yaml": b"a", "versions/x.1": b"a"}) == ["policies/x.yaml", "versions/x.1"]
    assert listed({"policies/y.yaml": b"b", "versions/x.2": b"b"}) == [
        "policies/y.yaml",
        "versions/x.1",
        "versions/x.2",
    ]
    assert listed({"versions/x.1": b"a"}) == ["versions/x.1", "versions/x.2"]


def test_other_content_under_a_listed_version_is_refused(listed):
    """Verdicts name policy and version, also verdicts of long ago."""
    listed({"versions/x.1": b"a"})
    listed({"versions/x.12": b"b", "names.yaml": b"a"})

    assert listed({"versions/x.1": b"b"}).startswith(
        "Version 1 of the policy x was signed, or ships, with another content"
    )
    assert "Version 12 of the policy x" in listed({"versions/x.12": b"c"})
    assert "Version 1 of the policy shipped" in listed({"versions/shipped.1": b"b"})
    assert listed({"versions/shipped.1": b"a", "names.yaml": b"b"})[-1] == "versions/x.12", (
        "other files have no version"
    )


def test_signed_list_with_versions_makes_policies_active(office):
    """Only the policies themselves are compared."""
    change(office)
    office.sign_policies(office.ann)
    document = office.project / DIRECTORY / LISTING
    content = list_next({**read_signable(office.project), "versions/old.1": b"x"}, office.project / DIRECTORY)
    document.write_bytes(content)
    statement = make_document_statement(DocumentKind.POLICIES, LISTING, content, "example", NOON)
    locate_signature(document).write_bytes(office.ann.sign(statement))

    assert b"versions/old.1" in content and state(office).problems == ()


@pytest.mark.parametrize("name", ["a\nb.yaml", "a b.yaml", ".yaml", "ä.yaml", "-a.yaml", "policies/.yaml", "a/b.yaml"])
def test_name_that_could_stand_for_two_files_is_refused(name):
    """A file named after two lines of the list would replace two policies by one."""
    with pytest.raises(PolicyInvalid, match="not a name of a policy"):
        list_files({name: b""})
    assert list_files({"0.a_B-c.yaml": b"", "policies/0.yaml": b""})


def test_shipped_policies_are_active_without_a_signature(office):
    """Neither people nor an owner are needed, and an expired people document stops nothing."""
    assert state(office).why == "they ship with this version"
    expired = read(office, now=NOON + timedelta(days=300))
    assert expired.deploy.people.distrusted and len(expired.deploy.policies) == 3
    (office.project / FILE).unlink()
    assert read_project_state(office.project, PeopleOwner(), None, NOON).active
    office.write_people()
    office.sign_policies(office.owner)
    assert state(office).why == "signed by the owner of deployments/people.yaml at 2026-11-24 12:00 UTC"


def test_policies_are_active_if_signed_by_person_with_role(office):
    """Both the owner and Ann may. What is read has the people and waivers of the project."""
    change(office)
    office.waive("zlib")
    for signer, name in ((office.ann, "ann"), (office.owner, "the owner of deployments/people.yaml")):
        office.sign_policies(signer, NOON - HOUR)
        found = state(office)
        assert (found.active, found.why) == (True, f"signed by {name} at 2026-11-24 11:00 UTC")
    policies = read(office)
    assert [str(each) for each in policies.release.policies] == release_policies(office)
    assert set(policies.release.people.people) == {"ann", "bob"} and policies.waivers.valid


def test_owner_needs_no_people_document(office):
    """The block that names their key, and the installation, is not among the files of the project."""
    change(office)
    (office.project / FILE).unlink()
    assert state(office).why == (
        "differs from what ships with this version: policies/release.yaml (changed); "
        "the list of files does not count: nobody signed it"
    )
    office.sign_policies(office.owner)
    owner = office.people_owner._replace(installation="example")
    assert read_project_state(office.project, owner, None, NOON).active
    assert not read_project_state(office.project, PeopleOwner(), None, NOON).active
    with pytest.raises(SettingInvalid, match="people_owner"):
        read_project_state(office.project, PeopleOwner("no key"), None, NOON)


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

    edits = {
        lambda: change(office): "release.yaml (changed)", add: "ours.yaml (added)",
        (directory / "curated.yaml").unlink: "curated.yaml (removed)",
        rename: "release.yaml (removed), policies/zrelease.yaml (added)",
        swap: "image.yaml (changed), policies/release.yaml (changed)",
    }  # fmt: skip
    for edit, changes in edits.items():
        edit()
        before_list = (
            "differs from what was signed by ann at 2026-11-24 12:00 UTC"
            if signed
            else "differs from what ships with this version"
        )
        rest = "" if signed else "; the list of files does not count: nobody signed it"
        assert (state(office).active, state(office).why) == (False, f"{before_list}: policies/{changes}{rest}")
        for file in directory.glob("*.yaml"):
            file.unlink()
        for file, content in before.items():
            file.write_bytes(content)
    assert state(office).active


def test_changes_are_those_since_the_signature(office):
    """The list that ships counts too, but the person who signed knows their own."""
    change(office)
    office.sign_policies(office.ann)
    (office.project / DIRECTORY / "curated.yaml").unlink()

    assert (
        state(office).why
        == "differs from what was signed by ann at 2026-11-24 12:00 UTC: policies/curated.yaml (removed)"
    )


@pytest.mark.parametrize("who", ["bob", "stranger"])
def test_policy_signature_without_role_does_not_count(office, who):
    """Bob is a person with other roles."""
    change(office)
    office.sign_policies(office.bob if who == "bob" else EcdsaSigner())

    assert state(office).why.endswith("does not count: no key that is trusted for it signed it")


def test_policies_are_inactive_after_signer_lost_role(office):
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


def test_signature_of_other_kind_or_name_of_document_does_not_count(office):
    """Neither of another kind, nor under another name, nor what is no bundle."""
    change(office)
    bundle = office.sign_policies(office.ann, kind=DocumentKind.WAIVER)
    assert "ann signed it as another kind of document" in state(office).why
    office.sign_policies(office.ann, name="people.yaml")
    assert "ann signed it under another name" in state(office).why
    bundle.write_text("{}")
    assert "is not a sigstore bundle" in state(office).why
    assert bundle == office.project / DIRECTORY / "signed.list.sigstore.json"


def test_signature_in_the_future_does_not_count(office):
    """With it, policies could be put back after a later `policies_signed_since`."""
    change(office)
    office.sign_policies(office.ann, NOON + HOUR)

    assert "which is in the future" in state(office).why


def test_policies_signed_before_required_time_are_inactive(office):
    """Neither a set that was signed earlier, nor the one that ships: both are on disk with all that they need."""
    shipped = office.project / DIRECTORY / "release.yaml"
    content = shipped.read_bytes()
    change(office)
    earlier = office.sign_policies(office.ann, NOON - HOUR).read_bytes()
    earlier_list = (office.project / DIRECTORY / LISTING).read_bytes()
    assert state(office, since=NOON - HOUR).active

    replayed = state(office, since=NOON)
    assert not replayed.active
    assert replayed.why == (
        "the list of files does not count: signed by ann at 2026-11-24 11:00 UTC, and signatures before "
        "2026-11-24 12:00 UTC do not count (`policies_signed_since`)"
    )
    shipped.write_bytes(content)
    locate_signature(office.project / DIRECTORY / LISTING).unlink()
    assert not state(office, since=NOON).active and state(office).active
    office.sign_policies(office.ann)
    assert state(office, since=NOON).active
    locate_signature(office.project / DIRECTORY / LISTING).write_bytes(earlier)
    (office.project / DIRECTORY / LISTING).write_bytes(earlier_list)
    assert not state(office, since=NOON).active


def test_unsigned_policies_are_an_error_before_they_are_parsed(office, monkeypatch):
    """What decides nothing reads them all the same."""
    change(office)
    assert len(read_unsigned_policies(office.project, office.people_owner, NOON).release.policies) == 3
    monkeypatch.setattr(loading, "parse_document", lambda *_: pytest.fail("it is parsed"))

    with pytest.raises(PolicyUnsigned) as refused:
        read(office)
    text = str(refused.value)
    assert (
        f"policies in {office.project / DIRECTORY} are not active, so no gate decides: differs from what ships" in text
    )
    assert "does not count: nobody signed it." in text and "cscm policy sign --key REF" in text
    assert "`cscm policy check`" in text and "the owner of deployments/people.yaml, or a person with" in text
    assert text.endswith("[policy.unsigned]") and not PolicyUnsigned.retryable


def test_policies_replaced_after_signature_check_are_not_compiled(office, monkeypatch):
    """A file that is replaced after the check of its signature is not read."""
    change(office)
    office.sign_policies(office.ann)
    signed = release_policies(office)

    def replace(*given):
        require_active(*given)
        (office.project / DIRECTORY / "release.yaml").write_text("name: replaced")

    monkeypatch.setattr(loading, "require_active", replace)

    assert [str(each) for each in read(office).release.policies] == signed


def write_environment(office, name, text):
    """Write an environment's document."""
    (office.project / ENVIRONMENTS / f"{name}.yaml").write_text(f"name: {name}\n{text}")


def read_environment_active(office, name, since=None):
    """Return an environment as the deploy gate reads it."""
    activation = read_project_activation(office.project, office.people_owner, since, NOON)
    return require_active_environment(read_environment(office.project / ENVIRONMENTS, name), activation)


def test_environment_without_its_approval_is_not_active(office):
    """Whoever can change the file could otherwise deploy without a person. The other gates go on."""
    write_environment(office, "production", "production: true\nafter: staging\n")

    with pytest.raises(PolicyUnsigned) as refused:
        read_environment_active(office, "production")

    text, found = str(refused.value), state(office)
    assert "environment production is not active, so the deploy gate does not decide for production: " in text
    assert "environments/production (changed); the list of files does not count: nobody signed it" in text
    assert read_environment_active(office, "staging").name == "staging"
    assert read(office).deploy.policies
    assert found.problems == (f"nothing is deployed to production: {found.inactive['environments/production']}",)
    office.sign_policies(office.ann)
    assert not read_environment_active(office, "production").requires_approval and state(office).problems == ()
    write_environment(office, "production", "production: true\nafter: staging\nsoak: 1h\n")
    with pytest.raises(
        PolicyUnsigned, match=r": differs from what was signed by ann at .* UTC: environments/production \(changed"
    ):
        read_environment_active(office, "production")


def test_address_of_an_application_needs_no_signature(office):
    """Nor do variables, the description, or a default that is written out: they decide nothing."""
    applications = "applications: {shop: {port: 20000, environment: {A: b}}}\n"
    write_environment(office, "staging", f"description: Another.\nsoak: 60min\napproval: none\n{applications}")

    assert read_environment_active(office, "staging").applications["shop"].port == 20000


def test_new_environment_needs_a_signature(office):
    """It is another place where images run."""
    write_environment(office, "acceptance", "after: staging\n")

    with pytest.raises(
        PolicyUnsigned, match=r"differs from what ships with this version: environments/acceptance \(added\)"
    ):
        read_environment_active(office, "acceptance")
    office.sign_policies(office.owner)
    assert read_environment_active(office, "acceptance").after == "staging"
    change(office)
    assert read_environment_active(office, "acceptance"), "policies and environments are compared apart"
    (office.project / ENVIRONMENTS / "acceptance.yaml").unlink()
    assert state(office).inactive == {}


def test_content_of_another_environment_does_not_count(office):
    """What decides contains the name."""
    write_environment(office, "production", "soak: 1h\n")

    with pytest.raises(PolicyUnsigned):
        read_environment_active(office, "production")


def test_unsigned_name_register_is_not_parsed(office, monkeypatch):
    """It would give a reserved name to another source. Policies and environments stay active."""
    register = office.project / REGISTER

    def names():
        return read_active_register(office.project, office.people_owner, None, NOON)

    before = names()
    register.write_text("names:\n  base/*: {sources: [{repository: theirs}]}\n")
    with monkeypatch.context() as patched:
        patched.setattr(loading, "parse_register", lambda *_: pytest.fail("it is parsed"))
        with pytest.raises(
            PolicyUnsigned, match=r"is not active, so it is unknown to whom a name belongs: differs from what ships"
        ):
            names()
    assert state(office).problems == (f"the intake gate does not decide: {state(office).inactive['names.yaml']}",)
    assert state(office).active and "names.yaml (changed)" in state(office).inactive["names.yaml"]
    office.sign_policies(office.ann)
    assert names() != before and state(office).problems == ()
    register.unlink()
    with pytest.raises(SettingInvalid, match="does not exist"):
        names()


def test_shipped_documents_need_signature_after_required_time(office):
    """So nobody puts the shipped environments back."""
    found = state(office, since=NOON)
    assert (found.active, set(found.inactive)) == (
        False, {"names.yaml", "environments/production", "environments/staging"}
    )  # fmt: skip
    assert found.problems[0] == "no gate decides: the list of files does not count: nobody signed it"
    office.sign_policies(office.ann)
    assert state(office, since=NOON).problems == ()


@pytest.mark.parametrize("content", [b"", b"a list\n", b"\xff", b"0" * 64 + b"  policies/a.yaml"])
def test_signed_content_that_is_no_list_does_not_count(office, content):
    """It is of whoever signed it, and lists nothing."""
    change(office)
    document = office.project / DIRECTORY / LISTING
    document.write_bytes(content)
    statement = make_document_statement(DocumentKind.POLICIES, LISTING, content, "example", NOON)
    locate_signature(document).write_bytes(office.ann.sign(statement))

    why = "differs from what was signed by" if not content else "ann signed something else than a list of files"
    assert not state(office).active and why in state(office).why


def test_signature_without_list_of_files_does_not_count(office):
    """The bundle has only its digest."""
    change(office)
    office.sign_policies(office.ann)
    (office.project / DIRECTORY / LISTING).unlink()

    assert "ann signed other content" in state(office).why
