"""Isolation of the build caches of two applications in the real BuildKit."""

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
    """Return a step that appends a word to a cache and reports the earlier content."""
    return f'RUN --mount=type=cache,{cache}target=/cache ["/step", "leave", "/cache/x", "{word}", "/said"]\n'


@pytest.fixture(scope="module")
def steps(tmp_path_factory: pytest.TempPathFactory, toolbox: Toolbox) -> Iterator[Steps]:
    with steps_in(tmp_path_factory.mktemp("caches"), toolbox) as made:
        yield made


@pytest.fixture
def keys() -> tuple[str, str]:
    """The keys of two new applications."""
    return uuid.uuid4().hex, uuid.uuid4().hex


def test_build_step_of_another_application_is_not_reused(steps: Steps, keys: tuple[str, str]) -> None:
    """Each application has and keeps its own result for the same Dockerfile and context."""
    ours, other = keys
    first = steps.result(RANDOM, ours)

    assert steps.result(RANDOM, other) != first
    assert steps.result(RANDOM, ours) == first


def test_fresh_build_reuses_no_step(steps: Steps, keys: tuple[str, str]) -> None:
    """Results of the same application are not reused either."""
    first = steps.result(RANDOM, keys[0])

    assert steps.result(RANDOM, keys[0], force=True) != first


@pytest.mark.parametrize(
    "identifier", ["", "id=shared,", "id=../KEY/shared,", "id=../../KEY/shared,", "id=/KEY/shared,", "id=KEY/shared,"]
)
def test_cache_mount_of_another_application_cannot_be_mounted(
    steps: Steps, keys: tuple[str, str], identifier: str
) -> None:
    """The ids include the default, a chosen name and paths to the other application's cache."""
    ours, other = keys
    named = "id=shared," if "KEY" in identifier else identifier
    steps.result(leave("secret", named), ours)

    assert steps.result(leave("read", identifier.replace("KEY", ours)), other) == ""
    assert steps.result(leave("again", named), ours) == "secret "


def test_cache_of_fresh_run_is_isolated(steps: Steps, keys: tuple[str, str]) -> None:
    """A forced run finds an empty cache, and later runs do not find its content."""
    ours, run = keys
    steps.result(leave("first", "id=x,"), ours)

    assert steps.result(leave("force", "id=x,"), ours, caches=run, force=True) == ""
    assert steps.result(leave("later", "id=x,"), ours) == "first "


def test_file_with_same_metadata_is_not_taken_from_another_context(steps: Steps, keys: tuple[str, str]) -> None:
    """BuildKit compares files by path, size, time and mode, so each run has its own transfer cache."""
    copy = "COPY said /said\n"
    orders = [steps.order(copy, key) for key in keys]
    for order, content in zip(orders, ("ours", "evil"), strict=True):
        (order.context / "said").write_text(content)
        os.utime(order.context / "said", (1, 1))
    digests = [steps.builder().build(order)[0].digest for order in orders]

    assert digests[0] != digests[1]


def test_copy_steps_are_shared_between_applications(steps: Steps, keys: tuple[str, str]) -> None:
    """Steps without a command are safe to share: their results depend on their inputs only (docs/adr/0002)."""
    same = {steps.builder().build(steps.order("COPY step /said\n", key))[0].digest for key in keys}

    assert len(same) == 1


def test_cache_key_does_not_change_the_digest(steps: Steps, keys: tuple[str, str]) -> None:
    """A build on another host has to give the same image."""
    orders = [steps.order('RUN ["/step", "identity", "/said"]\n', key) for key in (*keys, keys[0])]
    orders[2] = replace(orders[2], force=True, caches=uuid.uuid4().hex)

    assert len({steps.builder().build(replace(order, reproducible=True))[0].digest for order in orders}) == 1
