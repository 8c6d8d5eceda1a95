"""The profile with the settings of the laptop."""

from pathlib import Path

import pytest

from cscm_laptop import profile as module
from cscm_laptop.profile import FILE, Ports, Profile, load_profile
from supply_chain.errors import DeclarationInvalid, SettingInvalid

ROOT = Path(__file__).parents[3]
DIGEST = "sha256:" + "a" * 64


def written(path: Path, text: str) -> Path:
    file = path / FILE
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return path


def test_shipped_profile_has_default_values():
    """Operators read the defaults from this file."""
    assert load_profile(ROOT, {}) == Profile()


def test_cscm_profile_selects_other_file(tmp_path):
    """It replaces the profile of the project."""
    other = tmp_path / "mine.yaml"
    other.write_text("ports: {emulator: 5000}\n")

    assert load_profile(ROOT, {"CSCM_PROFILE": str(other)}).ports == Ports(emulator=5000)


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("port: {emulator: 5000}\n", ":1:1: port"),
        ("region: us-east-1\nports:\n  emulator: 80\n", ":3:3: ports.emulator"),
        ("ports: {emulator: 5000, prefect: 5000}\n", "two different ports"),
        ("build_network: bridge\n", "build_network"),
        ("build_network: host\n", "build_network"),
        ("bases: {python: python:3.11}\n", "bases.python"),
        ("region: 'us-east-1; rm'\n", "region"),
        ("database: official\n", "database"),
        ("python_indexes: [pypi.org]\n", "python_indexes"),
        ("python_indexes: ['https://me:secret@index.invalid/simple/']\n", "python_indexes"),
        ("npm_registries: [registry.npmjs.org]\n", "npm_registries"),
        ("debian_archives: [https://deb.debian.org/debian]\n", "debian_archives"),
        ("debian_archives: ['deb https://deb.debian.org/debian bookworm main']\n", "debian_archives"),
        ("debian_archives: ['https://me:secret@archive.invalid/debian bookworm main']\n", "debian_archives"),
    ],
)
def test_mistake_in_profile_is_refused_with_its_place(tmp_path, text, part):
    """A misspelled or impossible setting is never ignored."""
    with pytest.raises(DeclarationInvalid) as caught:
        load_profile(written(tmp_path, text), {})

    assert part in str(caught.value)


def test_upstream_base_is_pinned_by_digest(tmp_path):
    """It cannot change during a build."""
    root = written(tmp_path, f"bases: {{python: docker.io/library/python@{DIGEST}}}\n")

    assert load_profile(root, {}).bases == {"python": f"docker.io/library/python@{DIGEST}"}


def test_configured_ca_bundle_must_exist(tmp_path):
    """Otherwise builds behind an inspecting proxy would fail later and less clearly."""
    with pytest.raises(SettingInvalid, match="ca_bundle"):
        Profile(ca_bundle=tmp_path / "missing.pem").certificates()


def test_missing_default_ca_bundle_is_accepted(tmp_path, monkeypatch):
    """Only a configured bundle is required."""
    monkeypatch.setattr(module, "CA_BUNDLE", tmp_path / "none.crt")

    assert Profile(ca_bundle=tmp_path / "none.crt").certificates() is None
