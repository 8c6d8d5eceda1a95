"""The home directory that holds all state."""

import stat
from pathlib import Path

import pytest

from cscm_laptop.home import Home
from orchestration import project as module
from orchestration.project import MARKER
from supply_chain.errors import ComponentFailed, SettingInvalid
from supply_chain.scratch import write_private
from tests.support.command import ROOT


@pytest.fixture
def project(tmp_path):
    (tmp_path / "project" / MARKER).parent.mkdir(parents=True)
    (tmp_path / "project" / MARKER).touch()
    return tmp_path / "project"


def test_project_is_found_from_directory_inside_it(project):
    """Commands work everywhere in the clone."""
    inside = project / "examples" / "hello"
    inside.mkdir(parents=True)

    assert Home.find({}, inside) == Home(project, project / ".cscm")


def test_application_source_that_resembles_project_is_no_project(project, monkeypatch):
    """Its files would decide which programs a command runs that somebody calls in it."""
    monkeypatch.chdir(project)

    assert Home.find({}).project == ROOT
    assert Home.find({"CSCM_PROJECT": str(project)}).project == project
    with pytest.raises(SettingInvalid, match=r"CSCM_PROJECT names .*, which has no deployments"):
        Home.find({"CSCM_PROJECT": str(project.parent)})


def test_wheel_uses_project_of_working_directory(project, monkeypatch, tmp_path):
    """A worker runs there."""
    monkeypatch.setattr(module, "__file__", str(tmp_path / "site-packages/orchestration/project.py"))
    monkeypatch.chdir(project)

    assert Home.find({}).project == project


def test_cscm_home_moves_home_directory(project, tmp_path):
    """The state can be on another disk."""
    assert Home.find({"CSCM_HOME": str(tmp_path / "big")}, project).directory == tmp_path / "big"


def test_home_outside_of_project_is_an_error(tmp_path, monkeypatch):
    """An installed wheel without its project cannot start anything."""
    monkeypatch.setattr(module, "__file__", str(tmp_path / "site-packages/orchestration/project.py"))

    with pytest.raises(SettingInvalid, match="clone of the project"):
        Home.find({}, tmp_path)


def test_directory_with_other_files_is_refused_as_home(project, tmp_path):
    """`cscm reset` removes the home, so it must not be a directory of the user."""
    (tmp_path / "documents").mkdir()
    (tmp_path / "documents" / "thesis.txt").touch()
    home = Home(project, tmp_path / "documents")

    with pytest.raises(SettingInvalid, match="CSCM_HOME"):
        home.create()

    assert not home.is_ours()


def test_directory_with_python_environment_is_accepted_as_home(project):
    """`make run` creates the environment before the first start."""
    home = Home.find({}, project)
    for part in ("venv", "tools"):
        (home.directory / part).mkdir(parents=True)

    home.create()

    assert home.is_ours()


def test_home_is_private_to_its_user(project):
    """It contains credentials."""
    home = Home.find({}, project)
    home.create()
    home.create()

    assert stat.S_IMODE(home.directory.stat().st_mode) == 0o700
    assert home.is_ours()


def test_owner_of_home_is_stable_and_unique(project, tmp_path):
    """It distinguishes the containers of two homes on one engine."""
    home, other = Home.find({}, project), Home(project, tmp_path / "other")

    assert home.owner == home.owner != other.owner
    assert len(home.owner) == 12


def test_second_command_on_locked_home_fails(project):
    """Two commands must not start everything twice."""
    home = Home.find({}, project)
    home.create()

    with home.locked(), pytest.raises(ComponentFailed, match="Another cscm command"), home.locked():
        pass
    with home.locked():
        pass  # the lock is free afterwards


def test_private_file_is_readable_by_its_user_only(tmp_path):
    """This holds even if an earlier file had wider permissions."""
    file = tmp_path / "keys.json"
    file.write_text("old")
    file.chmod(0o644)

    write_private(file, "new")

    assert (file.read_text(), stat.S_IMODE(file.stat().st_mode)) == ("new", 0o600)
    assert list(tmp_path.iterdir()) == [file]


def test_failed_write_keeps_old_file(tmp_path, monkeypatch):
    """A partial file of credentials would lock out the tiers."""
    file = tmp_path / "keys.json"
    write_private(file, "old")

    def full(self: Path, target: Path) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OSError, match="no space"):
        write_private(file, "new")

    assert file.read_text() == "old"
    assert list(tmp_path.iterdir()) == [file]
