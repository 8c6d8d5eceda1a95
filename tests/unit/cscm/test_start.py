"""Start of `cscm`: in a fork of the prefork server, or in a process of its own."""

import sys

import pytest

from cscm import start
from cscm.main import MODULES, main
from orchestration import prefork_client

NOT_FORKABLE = {
    *("bridge", "check", "cluster", "doctor", "down", "events", "hook", "register", "reset", "schema", "status"),
    *("unseal", "up", "waive"),
}
"""Commands that start or end the server that would be forked, do not need it, or ask for a password."""


@pytest.fixture
def started(monkeypatch, tmp_path):
    """Return what `cscm` did with its words: where it asked for a fork, and whether it ran in this process."""

    def start_with(*words, status=0, **variables):
        asked, alone = [], []

        def run(*what):
            asked.append(what)
            return status

        monkeypatch.setattr(sys, "argv", ["/somewhere/cscm", *words])
        monkeypatch.setenv("CSCM_HOME", str(tmp_path))
        monkeypatch.delenv("COSIGN_PASSWORD", raising=False)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(prefork_client, "run", run)
        monkeypatch.setattr("cscm.main.start", lambda: alone.append(words))
        try:
            start.main()
        except SystemExit as ended:
            return asked, alone, ended.code
        return asked, alone, None

    return start_with


def test_command_that_needs_prefect_runs_in_fork(started, tmp_path):
    """The command ends with the status of the fork."""
    asked, alone, status = started("chain", "examples/hello", status=3)

    assert asked == [(str(tmp_path / "run/prefork.sock"), "cscm.main:start", ["cscm", "chain", "examples/hello"])]
    assert (alone, status) == ([], 3)


def test_completion_runs_in_fork(started):
    """A shell waits for it after each press of the tab key."""
    assert started(_CSCM_COMPLETE="bash_complete")[1:] == ([], 0)


def test_without_server_command_runs_in_its_own_process(started):
    """The laptop may not run, or have other code."""
    asked, alone, status = started("images", status=None)

    assert (len(asked), alone, status) == (1, [("images",)], None)


@pytest.mark.parametrize("key", ["ann.key", "awskms:///alias/ann"])
def test_command_with_key_and_its_password_runs_in_fork(started, key):
    """Nothing is asked for in a terminal."""
    assert started("approve", "3fb1a90c7d2e", "--key", key, COSIGN_PASSWORD="")[1:] == ([], 0)


def test_token_asks_for_its_pin_in_terminal(started):
    """It has another password than the variable's."""
    words = ("approve", "3fb1a90c7d2e", "--key", "pkcs11:token=ann")
    assert started(*words, COSIGN_PASSWORD="") == ([], [words], None)


@pytest.mark.parametrize(
    "words",
    [
        ("up",),
        (),
        ("--help",),
        ("approve", "3fb1a90c7d2e", "--key", "ann.key"),
        ("approve", "3fb1a90c7d2e", "--key=ann.key"),
        ("policy", "preview", "/dev/fd/63"),
        ("policy", "preview", "--new=/proc/self/fd/63"),
        ("monitor", "--verbose"),
        ("monitor", "-v"),
        ("unknown",),
    ],
)
def test_command_with_needs_beyond_fork_runs_in_own_process(started, words):
    """A fork has no terminal for a password, and no other open files of its caller."""
    assert started(*words) == ([], [words], None)


def test_invalid_project_is_reported_by_command(started, tmp_path):
    """The message is the same with and without a server."""
    assert started("images", CSCM_PROJECT=str(tmp_path))[1:] == ([("images",)], None)


def test_every_command_is_listed_as_forkable_or_not():
    """A new command is put in one of both lists."""
    commands = {*main.commands, *(each for listed in MODULES.values() for each in listed)}

    assert commands == start.FORKABLE | NOT_FORKABLE
    assert not start.FORKABLE & NOT_FORKABLE
