"""Parallel work: a few items at a time, in order, and none after the first error."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Generator

import pytest

from supply_chain.concurrency import (
    KeyedLock,
    iterate_concurrently,
    iterate_in_processes,
    map_concurrently,
    run_in_background,
)
from supply_chain.errors import RegistryUnavailable
from tests.support.present import present
from tests.support.processes import runs
from tests.support.waiting import eventually


def test_keyed_lock_blocks_only_threads_with_same_key():
    """It forgets a key that nobody holds or waits for, also after an error."""
    lock, order, may_end = KeyedLock(), list[str](), threading.Event()

    def hold(key, event=None):
        with lock.hold(key):
            order.append(key)
            if event:
                assert event.wait(60)
            order.append(f"{key} ended")

    first = threading.Thread(target=hold, args=("a", may_end))
    first.start()
    eventually(lambda: order == ["a"])
    second = threading.Thread(target=hold, args=("a",))
    second.start()
    hold("b")
    may_end.set()
    first.join()
    second.join()

    assert order == ["a", "b", "b ended", "a ended", "a", "a ended"]
    with pytest.raises(RuntimeError), lock.hold("a"):
        raise RuntimeError
    assert lock._locks == {}


def test_side_by_side_runs_four_at_a_time_and_keeps_order():
    """Four items wait for each other, and a fifth does not start."""
    together, lock, running, most = threading.Barrier(4, timeout=60), threading.Lock(), set(), []

    def work(number):
        with lock:
            running.add(number)
            most.append(len(running))
        together.wait()
        time.sleep(0.05)
        with lock:
            running.remove(number)
        return number * 10

    assert map_concurrently(work, range(8)) == tuple(range(0, 80, 10))
    assert max(most) == 4


def test_side_by_side_raises_first_error_in_order():
    """Without items, the result is empty."""
    with pytest.raises(ZeroDivisionError):
        map_concurrently(lambda n: 1 // n, [1, 0, 2])
    assert map_concurrently(print, []) == ()


def test_side_by_side_starts_nothing_after_first_error():
    """An unavailable registry must not get a thousand more requests."""
    begun = []

    def work(number):
        begun.append(number)
        time.sleep(0.01)
        raise RegistryUnavailable("it is silent\nwait")

    with pytest.raises(RegistryUnavailable):
        map_concurrently(work, range(1000))
    assert len(begun) < 100


@pytest.mark.parametrize(("items", "wide"), [(range(3), 1), ([0], 4)])
def test_side_by_side_one_at_a_time_uses_calling_thread(items, wide):
    """Threads would cost more than they save."""
    assert set(map_concurrently(lambda _: threading.get_ident(), items, wide)) == {threading.get_ident()}


def test_background_work_ends_with_the_block():
    """Its error is raised where its result is asked for."""
    ended = threading.Event()

    def work():
        time.sleep(0.05)
        ended.set()
        return 7

    with run_in_background(work) as result:
        assert not ended.is_set()
    assert ended.is_set() and result() == 7
    with run_in_background(lambda: 1 // 0) as result, pytest.raises(ZeroDivisionError):
        result()
    with pytest.raises(KeyError), run_in_background(lambda: 1 // 0):
        raise KeyError


def test_one_by_one_starts_no_more_than_requested():
    """Results come in order, and only as many are held as are worked on."""
    begun = []

    def work(number):
        begun.append(number)
        time.sleep(0.01 * (number % 2))
        return number * 10

    found = iterate_concurrently(work, iter(range(100)), 2)
    assert begun == [], "nothing before somebody asks"
    assert [next(found) for _ in range(5)] == [0, 10, 20, 30, 40]
    assert isinstance(found, Generator)
    found.close()
    assert len(begun) <= 7
    assert list(iterate_concurrently(work, range(20), 3)) == list(range(0, 200, 10))
    assert list(iterate_concurrently(work, [])) == []


def test_one_by_one_ends_with_first_error():
    """Earlier results are returned."""
    found = iterate_concurrently(lambda n: 1 // (2 - n), range(1000), 2)

    assert (next(found), next(found)) == (0, 1)
    with pytest.raises(ZeroDivisionError):
        next(found)


def test_processes_return_results_in_order_and_raise_the_first_error():
    """Each item is calculated in another process than this one."""
    assert list(iterate_in_processes(abs, [-3, 2, -1], 2)) == [3, 2, 1]
    assert os.getpid() not in set(iterate_in_processes(_process, range(2), 2))
    found = iterate_in_processes(_divide, [1, 0, 2], 2)
    assert next(found) == 1
    with pytest.raises(ZeroDivisionError):
        next(found)


def _process(_):
    return os.getpid()


def _divide(number):
    return 1 // number


PARENT = """
import operator, os, sys
from supply_chain.concurrency import iterate_in_processes
if __name__ == "__main__":
    calls = iterate_in_processes(operator.methodcaller("__call__"), [os.getpid, os.getpid], 1)
    print(next(calls), flush=True)
    sys.stdin.read()
"""


def test_processes_end_with_a_killed_parent(tmp_path):
    """Nobody else would end them, and each holds hundreds of megabytes."""
    script = tmp_path / "parent.py"
    script.write_text(PARENT)
    with subprocess.Popen([sys.executable, script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as parent:
        child = int(present(parent.stdout).readline())
        os.kill(child, 0)
        parent.kill()
        parent.wait()
    eventually(lambda: not runs(child), 60)


def test_serial_executor_keeps_order_and_ends_with_first_error(without_threads):
    """Tests in memory replace the threads by it."""
    begun = []

    def work(number):
        begun.append((number, threading.get_ident()))
        return 1 // (2 - number)

    assert map_concurrently(lambda n: n * 10, range(3)) == (0, 10, 20)
    assert list(iterate_concurrently(lambda n: n * 10, range(6), 2)) == [0, 10, 20, 30, 40, 50]
    with pytest.raises(ZeroDivisionError):
        map_concurrently(work, range(9))
    assert begun == [(number, threading.get_ident()) for number in range(3)]
    found = iterate_concurrently(work, range(9), 2)
    assert (next(found), next(found)) == (0, 1)
    with pytest.raises(ZeroDivisionError):
        next(found)
    with run_in_background(lambda: 1 // 0) as result, pytest.raises(ZeroDivisionError):
        result()
