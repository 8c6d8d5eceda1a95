"""What one application's build leaves in the builder, and another's tries to read: the real BuildKit."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from dataclasses import replace

import pytest

from supply_chain.adapters.tools import Toolbox
from tests.integration.adversary.steps import Steps, steps_in

pytestmark = pytest.mark.real

RANDOM = 'RUN ["/step", "random", "/said"]\n'


def leave(word: str, cache: str) -> str:
    """A step that adds a word to a cache, and says what was in it before."""
    return f'RUN --mount=type=cache,{cache}target=/cache ["/step", "leave", "/cache/x", "{word}", "/said"]\n'


@pytest.fixture(scope="module")
def steps(tmp_path_factory: pytest.TempPathFactory, toolbox: Toolbox) -> Iterator[Steps]:
    with steps_in(tmp_path_factory.mktemp("caches"), toolbox) as made:
        yield made


@pytest.fixture
def keys() -> tuple[str, str]:
    """Two applications that no test before knew."""
    return uuid.uuid4().hex, uuid.uuid4().hex


def test_a_step_of_another_application_is_made_anew(steps: Steps, keys: tuple[str, str]) -> None:
    """The same Dockerfile and context: each has its own result, and keeps it."""
    ours, theirs = keys
    first = steps.result(RANDOM, ours)

    assert steps.result(RANDOM, theirs) != first
    assert steps.result(RANDOM, ours) == first


def test_a_fresh_build_takes_no_result_of_before(steps: Steps, keys: tuple[str, str]) -> None:
    """Not of the application itself either."""
    first = steps.result(RANDOM, keys[0])

    assert steps.result(RANDOM, keys[0], fresh=True) != first


@pytest.mark.parametrize(
    "identifier", ["", "id=shared,", "id=../KEY/shared,", "id=../../KEY/shared,", "id=/KEY/shared,", "id=KEY/shared,"]
)
def test_a_cache_of_another_application_cannot_be_mounted(steps: Steps, keys: tuple[str, str], identifier: str) -> None:
    """By its default name, by a name that is chosen, and by one that leads up and over to the other's."""
    ours, theirs = keys
    named = "id=shared," if "KEY" in identifier else identifier
    steps.result(leave("secret", named), ours)

    assert steps.result(leave("read", identifier.replace("KEY", ours)), theirs) == ""
    assert steps.result(leave("again", named), ours) == "secret "


def test_a_cache_of_a_fresh_run_is_nobodys(steps: Steps, keys: tuple[str, str]) -> None:
    """It finds nothing, and what it leaves is not found."""
    ours, run = keys
    steps.result(leave("first", "id=x,"), ours)

    assert steps.result(leave("fresh", "id=x,"), ours, caches=run, fresh=True) == ""
    assert steps.result(leave("later", "id=x,"), ours) == "first "


def test_a_file_that_looks_the_same_is_not_taken_from_another_context(steps: Steps, keys: tuple[str, str]) -> None:
    """Same path, size, time and mode, other content: what BuildKit keeps of a transfer is one run's alone."""
    copy = "COPY said /said\n"
    orders = [steps.order(copy, key) for key in keys]
    for order, content in zip(orders, ("ours", "evil"), strict=True):
        (order.context / "said").write_text(content)
        os.utime(order.context / "said", (1, 1))
    digests = [steps.builder().build(order)[0].digest for order in orders]

    assert digests[0] != digests[1]


def test_what_is_copied_is_the_same_for_all(steps: Steps, keys: tuple[str, str]) -> None:
    """Steps that run nothing are shared: their results are their inputs' own content (docs/adr/0002)."""
    same = {steps.builder().build(steps.order("COPY step /said\n", key))[0].digest for key in keys}

    assert len(same) == 1


def test_a_build_is_the_same_under_every_key(steps: Steps, keys: tuple[str, str]) -> None:
    """Nothing of the key gets into what is built, so that another host builds the same image."""
    orders = [steps.order('RUN ["/step", "identity", "/said"]\n', key) for key in (*keys, keys[0])]
    orders[2] = replace(orders[2], fresh=True, caches=uuid.uuid4().hex)

    assert len({steps.builder().build(replace(order, reproducible=True))[0].digest for order in orders}) == 1
