"""bench.flood: what fails while it measures is in what it reports, or fails it."""

import threading

import pytest

from bench.flood import PATIENCE, Api, _collided, beside
from supply_chain.errors import PartFailed
from supply_chain.reports.daily import NO_SLOT


class Silent(Api):
    """An API that answers nothing."""

    def ask(self, path, body=None, method="POST"):
        self.asked.release()
        raise PartFailed("no answer\nlook")


def test_question_without_an_answer_took_as_long_as_anybody_waits():
    """Else the report would be of the good answers before alone."""
    api = Silent(0, "")
    api.asked = threading.Semaphore(0)

    with api.probed():
        assert api.asked.acquire(timeout=20) and api.asked.acquire(timeout=20)

    assert len(api.seconds) > 1 and set(api.seconds) == {PATIENCE}


def test_thread_beside_that_dies_fails_the_arm():
    """Nobody would have pushed meanwhile, and nothing would be late."""

    def work(over):
        raise PartFailed("no push\nlook")

    with pytest.raises(PartFailed, match="no push"), beside(work):
        pass


@pytest.mark.parametrize(
    ("name", "message", "collided"),
    [(*NO_SLOT, True), ("Cancelled", "by ann", False), ("Cancelled", None, False), ("Completed", None, False)],
)
def test_run_that_was_called_off_for_another_alone_is_not_late(name, message, collided):
    """Whatever else cancels a run keeps it from starting on time."""
    assert _collided({"state_name": name, "state": {"message": message}}) is collided
