"""Faulty revisions of a running application: the previous one serves on until a good one replaces it."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from tests.integration.faulty_applications.subjects import SERVING, Ended, Make, Subject

from .cases import CASES, STATUS, Case, allowed, failed

pytestmark = pytest.mark.real

GOOD = allowed("good")
ILL = failed("ill-in-place", "deployment.failed", "it ended with status 6", starts=("ill-in-place",))
"""It passes every gate and fails only where it is deployed."""
NAMED = {case.name: case for case in CASES}
NEXT: Sequence[tuple[Case, list[int]]] = (
    (NAMED["a-step-fails"], []),
    (NAMED["test-fails"], []),
    (NAMED["no-package-at-all"], [0]),
    (ILL, [1]),
)
"""Faults in the build, at the intake gate, at the release gate and in the deployment, with their signatures."""


def test_running_revision_serves_through_faulty_ones_until_a_good_one(make: Make) -> None:
    """Each fault ends with its own code and leaves no resources."""
    subject = make(SERVING)
    subject.become(GOOD)
    first = serves(subject.ended())
    for case, signatures in NEXT:
        subject.become(case)
        ran = subject.ended()
        assert (ran.status, ran.codes()) == (STATUS[case.end], case.codes), ran.words
        assert case.says in ran.words
        assert (ran.states(), ran.signatures(), ran.left()) == ([case.end], signatures, {})
        assert (running(subject), subject.eyes.answers(subject.app.url)) == (first, True)
    subject.become(GOOD)
    last = subject.ended()
    assert serves(last) != first
    assert (last.signatures(), last.left()) == ([1], {})


def serves(ran: Ended) -> str:
    """Check that the chain succeeded and that its container runs and answers; return the container."""
    assert ran.status == 0, ran.words
    container = running(ran.subject)
    assert container == ran.result["container"]
    assert ran.subject.eyes.answers(ran.subject.app.url)
    return container


def running(subject: Subject) -> str:
    container = subject.eyes.running(subject.app.name)
    assert container.status == "running"
    return str(container.id)
