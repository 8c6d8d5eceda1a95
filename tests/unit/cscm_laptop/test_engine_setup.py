"""What is written on a Debian machine that has no engine."""

import json

import pytest

from cscm_laptop.engine_setup import add_release, configure, debian_release, merged, mirror_of
from supply_chain.errors import EngineUnavailable, EngineUnsuitable

DEB822 = """Types: deb
URIs: http://mirror.example.org/debian
Suites: bookworm bookworm-updates
Components: main

Types: deb
URIs: http://security.example.org/debian-security
Suites: bookworm-security
Components: main
"""


@pytest.fixture
def apt(tmp_path):
    (tmp_path / "sources.list.d").mkdir()
    return tmp_path


def test_the_newer_release_is_offered_from_the_same_mirror_and_held_back(apt):
    """Pinned at 100 it is taken only where it is named, so libc stays."""
    (apt / "sources.list.d" / "debian.sources").write_text(DEB822)

    add_release(apt, "bookworm", "trixie")

    source = (apt / "sources.list.d" / "cscm-trixie.sources").read_text()
    assert "URIs: http://mirror.example.org/debian\nSuites: trixie\n" in source
    assert "Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg" in source
    pin = (apt / "preferences.d" / "cscm-trixie").read_text()
    assert pin == "Package: *\nPin: release n=trixie\nPin-Priority: 100\n"


@pytest.mark.parametrize(
    "line",
    [
        "deb http://mirror.example.org/debian bookworm main\n",
        "# deb http://other.example.org/debian bookworm main\n"
        "deb [signed-by=/usr/share/keyrings/k.gpg arch=amd64] http://mirror.example.org/debian bookworm main contrib\n",
    ],
)
def test_the_mirror_is_found_in_a_list_of_the_old_kind(apt, line):
    """Both formats of apt's sources are in use."""
    (apt / "sources.list").write_text("deb http://s.example.org/debian-security bookworm-security main\n" + line)

    assert mirror_of(apt, "bookworm") == "http://mirror.example.org/debian"


def test_without_a_mirror_nothing_is_invented(apt):
    """The person is told to install the engine by hand."""
    (apt / "sources.list.d" / "other.sources").write_text(DEB822.replace("bookworm", "trixie"))

    with pytest.raises(EngineUnavailable, match="bookworm"):
        mirror_of(apt, "bookworm")


@pytest.mark.parametrize(
    ("text", "release"),
    [
        ('ID=debian\nVERSION_CODENAME=bookworm\nNAME="Debian GNU/Linux"\n', "bookworm"),
        ("ID=ubuntu\nID_LIKE=debian\nVERSION_CODENAME=noble\n", None),
        ('ID="fedora"\n', None),
    ],
)
def test_only_debian_itself_is_installed_on(tmp_path, text, release):
    """Others have other packages."""
    (tmp_path / "os-release").write_text(text)

    assert debian_release(tmp_path / "os-release") == release


def test_settings_are_added_to_what_is_there(tmp_path):
    """An operator's mirrors and log settings stay."""
    file = tmp_path / "docker" / "daemon.json"
    file.parent.mkdir()
    file.write_text(
        '{"registry-mirrors": ["https://m"], "features": {"cdi": true}, "live-restore": false,'
        ' "builder": {"gc": {"enabled": false}}}'
    )

    configure(file, tmp_path / "data")

    assert json.loads(file.read_text()) == {
        "registry-mirrors": ["https://m"],
        "features": {"cdi": True, "containerd-snapshotter": True},
        "live-restore": False,
        "userland-proxy": False,
        "builder": {"gc": {"enabled": False}},
    }


def test_settings_are_made_where_there_are_none(tmp_path):
    """And a second time nothing changes."""
    file = tmp_path / "docker" / "daemon.json"
    configure(file, tmp_path / "data")
    before = file.read_text()
    configure(file, tmp_path / "data")

    assert json.loads(before) == {
        "live-restore": True,
        "userland-proxy": False,
        "builder": {"gc": {"enabled": True, "defaultKeepStorage": "10GB"}},
        "features": {"containerd-snapshotter": True},
    }
    assert file.read_text() == before


def test_images_of_the_old_store_are_not_hidden_unasked(tmp_path):
    """A stopped engine that somebody used is theirs."""
    (tmp_path / "data" / "image").mkdir(parents=True)

    with pytest.raises(EngineUnsuitable, match="may be hidden"):
        configure(tmp_path / "daemon.json", tmp_path / "data")

    assert not (tmp_path / "daemon.json").exists()


def test_damaged_settings_are_not_overwritten(tmp_path):
    """They are somebody's work."""
    (tmp_path / "daemon.json").write_text("{")

    with pytest.raises(EngineUnsuitable, match="not JSON"):
        configure(tmp_path / "daemon.json", tmp_path / "data")

    assert (tmp_path / "daemon.json").read_text() == "{"


def test_a_null_in_the_settings_is_no_setting():
    """Docker takes it as absent."""
    assert merged({"features": None})["features"] == {"containerd-snapshotter": True}
