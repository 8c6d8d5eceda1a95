"""bench.flood: failures during the measurement are reported or fail it."""

import threading

import pytest

from bench.flood import PATIENCE, Api, _collided, in_background
from supply_chain.errors import ComponentFailed
from supply_chain.reports.daily import NO_SLOT


class Silent(Api):
    """An API that does not answer."""

    def __init__(self):
        super().__init__(0, "")
        self.asked = threading.Semaphore(0)

    def ask(self, path, body=None, method="POST"):
        self.asked.release()
        raise ComponentFailed("no answer\nlook")


def test_unanswered_request_counts_with_full_timeout():
    """Otherwise the report would cover only successful requests."""
    api = Silent()

    with api.probed():
        assert api.asked.acquire(timeout=20) and api.asked.acquire(timeout=20)

    assert len(api.seconds) > 1 and set(api.seconds) == {PATIENCE}


def test_failed_background_thread_fails_measurement():
    """Without its pushes, nothing could be late."""

    def work(over):
        raise ComponentFailed("no push\nlook")

    with pytest.raises(ComponentFailed, match="no push"), in_background(work):
        pass


@pytest.mark.parametrize(
    ("name", "message", "collided"),
    [(*NO_SLOT, True), ("Cancelled", "by ann", False), ("Cancelled", None, False), ("Completed", None, False)],
)
def test_only_run_cancelled_by_concurrency_limit_is_not_late(name, message, collided):
    """Any other cancellation means that the run did not start on time."""
    assert _collided({"state_name": name, "state": {"message": message}}) is collided
