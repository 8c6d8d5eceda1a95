"""The product that the emulator builds on is the version that the emulator was written for."""

import re
import sys
from importlib import import_module, metadata
from pathlib import Path

import pytest

from supply_chain.errors import ComponentFailed

ROOT = Path(__file__).parents[3]
MODULE = "cscm_laptop.emulator.upstream"


@pytest.fixture
def load_upstream(monkeypatch):
    """Return a function that imports the module where this version of ministack is installed, without its code."""

    def load(version):
        monkeypatch.setattr(metadata, "version", lambda _: version)
        monkeypatch.delitem(sys.modules, MODULE, raising=False)
        monkeypatch.setitem(sys.modules, "ministack", None)
        import_module(MODULE)

    return load


def test_emulator_does_not_start_on_another_version_of_ministack(load_upstream):
    """Its private names may have changed; the message has both versions and what to do."""
    with pytest.raises(ComponentFailed, match=r"has ministack 9\.9\.9, but .* for 1\.5\.33") as error:
        load_upstream("9.9.9")

    assert "run `cscm up`" in str(error.value) and "upstream.py" in str(error.value)


def test_emulator_uses_ministack_of_its_version(load_upstream):
    """The check comes before the first import of ministack, which is not installed here."""
    with pytest.raises(ModuleNotFoundError, match="ministack"):
        load_upstream("1.5.33")


def test_locked_ministack_version_equals_version_of_emulator():
    """An update changes both, and every part of the module is checked."""
    (wanted,) = re.findall(r'^VERSION = "(.+)"$', (ROOT / "src" / f"{MODULE.replace('.', '/')}.py").read_text(), re.M)
    (locked,) = re.findall(r"^ministack==(\S+)", (ROOT / "deployments/emulator.lock").read_text(), re.M)

    assert locked == wanted
