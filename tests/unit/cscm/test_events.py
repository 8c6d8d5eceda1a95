"""`cscm events discard`: shows the message and asks before it deletes it."""

from types import SimpleNamespace

import pytest
from click.testing import CliRunner

from cscm import events
from cscm.main import main
from tests.support.memory_queue import MemoryQueue


@pytest.fixture
def dead(monkeypatch):
    """A dead-letter queue with two messages."""
    held = MemoryQueue()
    held.send("one", "it is no JSON")
    held.send("other", "it is no JSON")
    monkeypatch.setattr(events, "_settings", lambda: SimpleNamespace(dead_letters=lambda: held))
    return held


def discard(*args, answer=None):
    return CliRunner().invoke(main, ["events", "discard", *args], input=answer)


@pytest.mark.parametrize(("args", "answer"), [(["--yes"], None), ([], "y\n")])
def test_events_discard_shows_and_deletes_named_message(dead, args, answer):
    """The other message stays."""
    done = discard("message-id-1", *args, answer=answer)

    assert (done.exit_code, [each.body for each in dead.messages]) == (0, ["one"])
    assert "it is no JSON" in done.stdout and "other" in done.stdout and "deleted: message-id-1" in done.stderr


@pytest.mark.parametrize(("message", "answer"), [("message-id-1", "n\n"), ("", "y\n"), ("message-id-7", "y\n")])
def test_events_discard_deletes_nothing_without_confirmation(dead, message, answer):
    """An empty or unknown ID deletes nothing either."""
    done = discard(message, answer=answer)

    assert (done.exit_code, len(dead.messages)) == (1, 2)
