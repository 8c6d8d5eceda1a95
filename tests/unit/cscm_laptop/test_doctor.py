"""What `cscm doctor` says about the policies of the project."""

from cscm_laptop import doctor
from cscm_laptop.home import Home
from cscm_laptop.profile import Profile
from orchestration.clock import now
from tests.support.people import Office, copy_shipped


def test_policies_are_checked_with_the_owner_and_the_time_of_the_laptop(tmp_path):
    """Neither Prefect nor the registry is asked."""
    project = tmp_path / "project"
    copy_shipped(project)
    home, office, profile = Home(project, tmp_path / "home"), Office(project), Profile()
    assert doctor._policies(profile, home).found == "active: they ship with this version"

    (project / "deployments/policies/release.yaml").rename(project / "deployments/policies/other.yaml")
    found = doctor._policies(profile, home)
    assert not found.ok and found.found.startswith("no gate decides: ") and "cscm policy sign" in found.remedy
    home.people_owner.parent.mkdir(parents=True)
    home.people_owner.write_text(office.owner.public)
    office.sign_policies(office.owner, now())
    assert doctor._policies(profile, home).found.startswith("active: signed by the owner of deployments/people.yaml")
    since = profile.model_copy(update={"policies_signed_since": now()})
    assert "do not count" in doctor._policies(since, home).found
    home.people_owner.write_text("no key")
    assert not (failed := doctor._policies(profile, home)).ok and "people_owner" in failed.found
