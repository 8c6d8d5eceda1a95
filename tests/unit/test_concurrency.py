"""Side by side: a few at a time, in order, and no more after the first error."""

import threading
import time

import pytest

from supply_chain.concurrency import one_by_one, side_by_side
from supply_chain.errors import RegistryUnavailable


def test_four_are_done_at_a_time_and_answer_in_order():
    """Four that wait for each other do meet, and a fifth does not join them."""
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

    assert side_by_side(work, range(8)) == tuple(range(0, 80, 10))
    assert max(most) == 4


def test_side_by_side_raises_the_first_error():
    """In the order of the items; of nothing there is nothing."""
    with pytest.raises(ZeroDivisionError):
        side_by_side(lambda n: 1 // n, [1, 0, 2])
    assert side_by_side(print, []) == ()


def test_after_the_first_error_no_more_is_begun():
    """A registry that does not answer is not asked a thousand times more."""
    begun = []

    def work(number):
        begun.append(number)
        time.sleep(0.01)
        raise RegistryUnavailable("it is silent\nwait")

    with pytest.raises(RegistryUnavailable):
        side_by_side(work, range(1000))
    assert len(begun) < 100


@pytest.mark.parametrize(("items", "wide"), [(range(3), 1), ([0], 4)])
def test_one_at_a_time_needs_no_other_thread(items, wide):
    """Threads cost more than what many of them would wait for, where many others wait already."""
    assert set(side_by_side(lambda _: threading.get_ident(), items, wide)) == {threading.get_ident()}


def test_one_by_one_no_more_is_begun_than_is_asked_for():
    """Each answer in its turn; what nobody asked for yet is not held, but for as many as are worked on."""
    begun = []

    def work(number):
        begun.append(number)
        time.sleep(0.01 * (number % 2))
        return number * 10

    found = one_by_one(work, iter(range(100)), 2)
    assert begun == [], "nothing before somebody asks"
    assert [next(found) for _ in range(5)] == [0, 10, 20, 30, 40]
    found.close()
    assert len(begun) <= 7
    assert list(one_by_one(work, range(20), 3)) == list(range(0, 200, 10))
    assert list(one_by_one(work, [])) == []


def test_one_by_one_the_first_error_ends_it():
    """What came before it is there."""
    found = one_by_one(lambda n: 1 // (2 - n), range(1000), 2)

    assert (next(found), next(found)) == (0, 1)
    with pytest.raises(ZeroDivisionError):
        next(found)
