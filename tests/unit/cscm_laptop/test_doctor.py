"""What `cscm doctor` says about the policies of the project."""

from types import SimpleNamespace
from unittest.mock import Mock

from cscm_laptop import doctor
from cscm_laptop.home import Home
from cscm_laptop.profile import Profile
from orchestration.clock import read_clock
from supply_chain.errors import EngineUnavailable
from supply_chain.model.tier import TierName
from tests.support.people import Office, copy_shipped
from tests.support.signer import EcdsaSigner


def test_policies_are_checked_with_the_owner_and_the_time_of_the_laptop(tmp_path):
    """Neither Prefect nor the registry is asked."""
    project = tmp_path / "project"
    copy_shipped(project)
    home, office, profile = Home(project, tmp_path / "home"), Office(project, installation="laptop"), Profile()
    assert doctor._policies(profile, home).actual == "active: they ship with this version"

    (project / "deployments/policies/release.yaml").rename(project / "deployments/policies/other.yaml")
    found = doctor._policies(profile, home)
    assert not found.ok and found.actual.startswith("no gate decides: ") and "cscm policy sign" in found.remedy
    home.people_owner.parent.mkdir(parents=True)
    home.people_owner.write_text(office.owner.public)
    office.sign_policies(office.owner, read_clock())
    assert doctor._policies(profile, home).actual.startswith("active: signed by the owner of deployments/people.yaml")
    since = profile.model_copy(update={"policies_signed_since": read_clock()})
    assert "do not count" in doctor._policies(since, home).actual
    home.people_owner.write_text("no key")
    assert not (failed := doctor._policies(profile, home)).ok and "people_owner" in failed.actual


def test_environment_of_another_supply_chain_on_the_engine_is_found(tmp_path, monkeypatch):
    """A chain would find out at its last step."""
    project = tmp_path / "project"
    copy_shipped(project)
    home = Home(project, tmp_path / "home")
    assert list(doctor.check_environments(home)) == [], "`cscm up` did not run yet"

    monkeypatch.setattr(Home, "is_ours", lambda _: True)
    monkeypatch.setattr(Home, "owner", "me")
    monkeypatch.setattr(doctor, "find_foreign_networks", lambda owner: {"cscm-staging": "x1", "cscm-none": "x2"})
    (found,) = doctor.check_environments(home)
    assert not found.ok and found.actual == "staging belongs to x1, another supply chain on this engine"
    assert found.remedy.endswith("where x1 is gone, `cscm reset --left-by x1`")
    monkeypatch.setattr(doctor, "find_foreign_networks", lambda owner: {"cscm-none": "x2"})
    assert [each.ok for each in doctor.check_environments(home)] == [True]
    monkeypatch.setattr(doctor, "find_foreign_networks", Mock(side_effect=EngineUnavailable("no engine\nstart it")))
    assert list(doctor.check_environments(home)) == []


def test_doctor_compares_keys_of_tiers_and_people(tmp_path, monkeypatch):
    """Whoever has two of them says what two parties have to agree on. An owner may be a person of the document too."""
    home, office, other = Home(tmp_path / "project", tmp_path / "home"), Office(tmp_path / "project"), EcdsaSigner()
    identities = {tier: SimpleNamespace(public_key=EcdsaSigner().public, verdict_public_key=None) for tier in TierName}
    monkeypatch.setattr(doctor, "load_state", lambda _: SimpleNamespace(identities=identities))
    assert doctor._public_keys(home).ok, "there are no people yet"
    office.ann = office.owner
    office.write_people()
    home.people_owner.parent.mkdir(parents=True)
    home.people_owner.write_text(office.owner.public)
    assert doctor._public_keys(home).actual == "one tier and use each"

    curation, execution = identities[TierName.CURATION], identities[TierName.EXECUTION]
    for key, changed in ((office.bob, execution), (office.owner, curation)):
        changed.public_key = key.public
    execution.verdict_public_key = other.public
    curation.verdict_public_key = other.public + office.bob.public
    found = doctor._public_keys(home)
    assert not found.ok and found.actual.split("; ") == [
        "the signing key of curation and the owner of deployments/people.yaml and ann have the same key",
        "the verdict key of curation and the verdict key of execution have the same key",
        "the verdict key of curation and the signing key of execution and bob have the same key",
    ]
    (home.project / "deployments/people.yaml").write_text("people: 7")
    assert not (failed := doctor._public_keys(home)).ok and "people.yaml" in failed.actual


def test_keys_of_a_laptop_that_was_never_up_are_missing(tmp_path):
    """There is nothing to compare, and the check says what to do."""
    found = doctor._public_keys(Home(tmp_path / "project", tmp_path / "home"))
    assert not found.ok and "cscm up" in found.actual
