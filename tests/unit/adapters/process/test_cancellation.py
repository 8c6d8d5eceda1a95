"""Cancellation ends what a step started, and parts that run at once end together."""

import sys
import threading
import time
from concurrent.futures import wait

import pytest

from supply_chain.adapters.process.cancellation import Cancellation, get_current_cancellation, run_concurrently
from supply_chain.adapters.process.command import run
from supply_chain.errors import Cancelled, EngineUnsuitable


def test_wait_ends_with_the_cancellation():
    """A polling loop must not outlive its run."""
    scope = Cancellation()
    scope.wait(0.01)
    threading.Timer(0.1, scope.cancel).start()
    started = time.monotonic()

    with pytest.raises(Cancelled):
        scope.wait(30)

    assert time.monotonic() - started < 5


def test_default_cancellation_is_never_cancelled():
    """Code that waits needs no special case outside a run."""
    assert not get_current_cancellation().cancelled
    get_current_cancellation().wait(0)


def test_concurrent_run_starts_parts_in_parallel():
    """Each part waits for the other, so a sequential execution would time out."""
    barrier = threading.Barrier(2, timeout=10)

    assert sorted(run_concurrently(barrier.wait, barrier.wait)) == [0, 1]


def test_concurrent_run_raises_after_all_parts_ended():
    """The next `cscm up` then finds the results of the parts that succeeded."""
    finished = threading.Event()

    def fails():
        raise EngineUnsuitable("too old\nupgrade it")

    def succeeds():
        finished.wait(0.2)
        finished.set()

    with pytest.raises(EngineUnsuitable):
        run_concurrently(fails, succeeds)

    assert finished.is_set()


def test_interrupt_ends_the_commands_of_all_parts(monkeypatch):
    """Ctrl-C must leave no download and no build behind."""
    started, scopes = threading.Event(), []

    def builds():
        scopes.append(get_current_cancellation())
        started.set()
        run([sys.executable, "-c", "import time; time.sleep(60)"], name="build", timeout=60)

    def interrupted(futures):
        started.wait(10)
        raise KeyboardInterrupt

    monkeypatch.setattr("supply_chain.adapters.process.cancellation.wait", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_concurrently(builds)

    assert scopes[0].cancelled


def test_interrupt_ends_the_parts_of_nested_parts(monkeypatch):
    """The parallel downloads of tools are one part of the parallel work of `cscm up`."""
    started, events = threading.Event(), []

    def builds():
        started.set()
        try:
            run([sys.executable, "-c", "import time; time.sleep(60)"], name="build", timeout=60)
        except Cancelled:
            events.append("ended")
            raise

    def waits(futures, *, real=wait):
        if len(futures) == 2:
            return real(futures)
        started.wait(10)
        raise KeyboardInterrupt

    monkeypatch.setattr("supply_chain.adapters.process.cancellation.wait", waits)
    with pytest.raises(KeyboardInterrupt):
        run_concurrently(lambda: run_concurrently(builds, builds))

    assert events == ["ended", "ended"]
