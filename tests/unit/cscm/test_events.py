"""`cscm events discard`: what is deleted for good is shown first, and asked about."""

from types import SimpleNamespace

import pytest
from click.testing import CliRunner

from cscm import events
from cscm.main import main
from tests.unit.promotion.test_bridge import Queue


@pytest.fixture
def dead(monkeypatch):
    """Two dead messages."""
    held = Queue()
    held.send("one", "it is no JSON")
    held.send("other", "it is no JSON")
    monkeypatch.setattr(events, "_settings", lambda: SimpleNamespace(dead_letters=lambda: held))
    return held


def discard(*args, answer=None):
    return CliRunner().invoke(main, ["events", "discard", *args], input=answer)


@pytest.mark.parametrize(("args", "answer"), [(["--yes"], None), ([], "y\n")])
def test_the_one_that_is_named_is_shown_and_deleted(dead, args, answer):
    """And no other."""
    done = discard("message-id-1", *args, answer=answer)

    assert (done.exit_code, [each.body for each in dead.held]) == (0, ["one"])
    assert "it is no JSON" in done.stdout and "other" in done.stdout and "deleted: message-id-1" in done.stderr


@pytest.mark.parametrize(("message", "answer"), [("message-id-1", "n\n"), ("", "y\n"), ("message-id-7", "y\n")])
def test_nothing_is_deleted_without_a_yes_to_one_message(dead, message, answer):
    """Not for an empty variable either."""
    done = discard(message, answer=answer)

    assert (done.exit_code, len(dead.held)) == (1, 2)
