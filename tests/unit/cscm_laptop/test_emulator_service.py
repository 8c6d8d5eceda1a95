"""Tests of the emulator's Python environment, with commands that do not run."""

from pathlib import Path

from cscm_laptop import emulator_service
from cscm_laptop.emulator_service import ensure_environment
from cscm_laptop.home import Home
from supply_chain.adapters.process.command import CommandResult


def test_environment_is_made_without_modules_of_caller(tmp_path: Path, monkeypatch):
    """`cscm up` may be called in a directory that has a file `venv.py` or `pip.py`."""
    commands: list[list[str]] = []
    home = Home(Home.find().project, tmp_path)
    home.emulator.mkdir()

    def record(argv: list[str], **_: object) -> CommandResult:
        commands.append(argv)
        return CommandResult(0, "", "", 0.0)

    monkeypatch.setattr(emulator_service, "run", record)
    ensure_environment(home, lambda _: None)

    assert [argv[1:4] for argv in commands] == [["-P", "-m", "venv"], ["-P", "-m", "pip"]]
