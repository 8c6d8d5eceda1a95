"""The files that are written to install an engine on Debian."""

import json

import pytest

from cscm_laptop.engine_setup import add_release, configure, find_mirror, merge_engine_settings, read_debian_release
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


def test_newer_release_is_added_from_same_mirror_with_low_priority(apt):
    """With priority 100, it is used only where it is named, so libc is not upgraded."""
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
def test_mirror_is_found_in_one_line_sources_list(apt, line):
    """Both formats of apt sources are in use."""
    (apt / "sources.list").write_text("deb http://s.example.org/debian-security bookworm-security main\n" + line)

    assert find_mirror(apt, "bookworm") == "http://mirror.example.org/debian"


def test_missing_mirror_is_an_error(apt):
    """The user then has to install the engine."""
    (apt / "sources.list.d" / "other.sources").write_text(DEB822.replace("bookworm", "trixie"))

    with pytest.raises(EngineUnavailable, match="bookworm"):
        find_mirror(apt, "bookworm")


@pytest.mark.parametrize(
    ("text", "release"),
    [
        ('ID=debian\nVERSION_CODENAME=bookworm\nNAME="Debian GNU/Linux"\n', "bookworm"),
        ("ID=ubuntu\nID_LIKE=debian\nVERSION_CODENAME=noble\n", None),
        ('ID="fedora"\n', None),
    ],
)
def test_only_debian_is_supported_for_installation(tmp_path, text, release):
    """Other distributions have other packages."""
    (tmp_path / "os-release").write_text(text)

    assert read_debian_release(tmp_path / "os-release") == release


def test_engine_settings_are_merged_into_existing_file(tmp_path):
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


def test_engine_settings_are_created_once(tmp_path):
    """A second run changes nothing."""
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


def test_engine_with_classic_images_is_not_configured(tmp_path):
    """The change could hide images that belong to the user."""
    (tmp_path / "data" / "image").mkdir(parents=True)

    with pytest.raises(EngineUnsuitable, match="may be hidden"):
        configure(tmp_path / "daemon.json", tmp_path / "data")

    assert not (tmp_path / "daemon.json").exists()


def test_invalid_engine_settings_are_not_overwritten(tmp_path):
    """The file belongs to the user."""
    (tmp_path / "daemon.json").write_text("{")

    with pytest.raises(EngineUnsuitable, match="not JSON"):
        configure(tmp_path / "daemon.json", tmp_path / "data")

    assert (tmp_path / "daemon.json").read_text() == "{"


def test_null_in_engine_settings_counts_as_absent():
    """Docker treats it in the same way."""
    assert merge_engine_settings({"features": None})["features"] == {"containerd-snapshotter": True}
