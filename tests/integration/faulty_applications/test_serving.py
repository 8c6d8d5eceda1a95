"""Faulty revisions of a running application: the previous one serves on until a good one replaces it."""

from __future__ import annotations

from concurrent.futures import Future

import pytest

from .cases import STATUS, WHILE_SERVING
from .subjects import Served

pytestmark = pytest.mark.real


def test_running_revision_serves_until_next_revision_without_fault(served: Future[tuple[Served, ...]]) -> None:
    """Each fault ends with its own code and leaves no resources."""
    first, *faulty, last = served.result()

    for good in (first, last):
        assert (good.ran.status, good.answers) == (0, True), good.ran.words
        assert good.running == good.ran.result["container"]
    for each, (case, signatures) in zip(faulty, WHILE_SERVING, strict=True):
        ran = each.ran
        assert (ran.status, ran.codes()) == (STATUS[case.end], case.codes), ran.words
        assert case.says in ran.words
        assert (each.states, each.signatures, each.left) == ([case.end], signatures, {})
        assert (each.running, each.answers) == (first.running, True)
    assert last.running != first.running
    assert (last.signatures, last.left) == ([1], {})
