"""The one directory that holds everything."""

import stat
from pathlib import Path

import pytest

from cscm_laptop import home as module
from cscm_laptop.home import MARKER, Home, write_private
from supply_chain.errors import PartFailed, SettingInvalid


@pytest.fixture
def project(tmp_path):
    (tmp_path / "project" / MARKER).parent.mkdir(parents=True)
    (tmp_path / "project" / MARKER).touch()
    return tmp_path / "project"


def test_the_project_is_found_from_a_directory_inside_it(project):
    """A command works wherever in the clone it is run."""
    inside = project / "examples" / "hello"
    inside.mkdir(parents=True)

    assert Home.find({}, inside) == Home(project, project / ".cscm")


def test_the_home_can_be_elsewhere(project, tmp_path):
    """CSCM_HOME moves all state to another disk."""
    assert Home.find({"CSCM_HOME": str(tmp_path / "big")}, project).directory == tmp_path / "big"


def test_outside_of_a_project_the_error_says_so(tmp_path, monkeypatch):
    """A wheel without its project cannot bring anything up."""
    monkeypatch.setattr(module, "__file__", str(tmp_path / "site-packages/cscm_laptop/home.py"))

    with pytest.raises(SettingInvalid, match="clone of the project"):
        Home.find({}, tmp_path)


def test_a_directory_with_other_things_in_it_is_not_taken_over(project, tmp_path):
    """`cscm reset` removes the home, so it must never be somebody's documents."""
    (tmp_path / "documents").mkdir()
    (tmp_path / "documents" / "thesis.txt").touch()
    home = Home(project, tmp_path / "documents")

    with pytest.raises(SettingInvalid, match="CSCM_HOME"):
        home.create()

    assert not home.is_ours()


def test_a_home_in_which_make_put_its_environment_is_taken(project):
    """`make run` makes the Python environment before there is anything to bring up with it."""
    home = Home.find({}, project)
    for part in ("venv", "tools"):
        (home.directory / part).mkdir(parents=True)

    home.create()

    assert home.is_ours()


def test_the_home_is_for_its_user_alone(project):
    """It holds credentials."""
    home = Home.find({}, project)
    home.create()
    home.create()

    assert stat.S_IMODE(home.directory.stat().st_mode) == 0o700
    assert home.is_ours()


def test_a_homes_owner_stays_and_is_no_other_homes(project, tmp_path):
    """By it the containers of two homes on one engine are told apart."""
    home, other = Home.find({}, project), Home(project, tmp_path / "other")

    assert home.owner == home.owner != other.owner
    assert len(home.owner) == 12


def test_two_commands_do_not_change_one_home_at_a_time(project):
    """The second is told to wait instead of starting everything twice."""
    home = Home.find({}, project)
    home.create()

    with home.locked(), pytest.raises(PartFailed, match="Another cscm command"), home.locked():
        pass
    with home.locked():
        pass  # and it is free afterwards


def test_a_private_file_is_readable_by_its_user_alone(tmp_path):
    """Also when one with wider rights was there before."""
    file = tmp_path / "keys.json"
    file.write_text("old")
    file.chmod(0o644)

    write_private(file, "new")

    assert (file.read_text(), stat.S_IMODE(file.stat().st_mode)) == ("new", 0o600)
    assert list(tmp_path.iterdir()) == [file]


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    """Half a file of credentials would lock the tiers out."""
    file = tmp_path / "keys.json"
    write_private(file, "old")

    def full(self: Path, target: Path) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OSError, match="no space"):
        write_private(file, "new")

    assert file.read_text() == "old"
    assert list(tmp_path.iterdir()) == [file]
