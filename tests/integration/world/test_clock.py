"""Clocks: an hour before the others', and an hour behind."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import botocore.auth
import pytest

from supply_chain.adapters.aws.kms import Kms
from supply_chain.adapters.registry.client import Registry
from supply_chain.errors import ClockWrong
from supply_chain.evidence.checks import Check, CheckResult
from supply_chain.evidence.statement import TEST_RESULT
from supply_chain.evidence.store import EvidenceStore
from supply_chain.model.image import ImageRef, Interval
from supply_chain.model.tier import TierName
from tests.support.application import Application

from .conftest import NAME
from .test_registry import subject_of
from .world import World

pytestmark = [pytest.mark.real, pytest.mark.usefixtures("serving")]

HOUR = timedelta(hours=1)
Store = Callable[..., EvidenceStore]


def found(at: datetime) -> CheckResult:
    return CheckResult(check=Check.SOURCE, passed=("well",), interval=Interval(started=at, finished=at))


@pytest.fixture
def ahead(world: World, store: Store, registry: Callable[[TierName], Registry]) -> ImageRef:
    """An image whose builder's clock was an hour before ours."""
    subject = subject_of(world, registry(TierName.DEVELOPMENT), "dev/ahead")
    then = datetime.now(UTC) + HOUR
    if not registry(TierName.DEVELOPMENT).referrers(subject):
        store(TierName.DEVELOPMENT).attach(subject, TEST_RESULT, found(then).predicate(), then)
    return subject


def test_evidence_of_the_future_is_judged_by_nobody(world: World, ahead: ImageRef) -> None:
    """It would count as the newest for an hour, whatever is found meanwhile; and it may say no."""
    ran = world.cscm("curate", str(ahead))

    assert ran.status == 1
    assert "[clock.wrong]" in ran.error and "development signed" in ran.error, ran.error
    assert world.last_run()["state_type"] == "FAILED"
    assert world.manifests(f"curated/{ahead.application}") == {}


def test_a_clock_that_is_behind_sees_the_future_and_one_that_agrees_does_not(ahead: ImageRef, store: Store) -> None:
    """Whose clock is wrong nobody can say; that one is, is certain."""
    with pytest.raises(ClockWrong):
        store(TierName.CURATION).read(ahead)

    later = store(TierName.CURATION, lambda: datetime.now(UTC) + HOUR).read(ahead)
    assert len(later.by(TierName.DEVELOPMENT)) == 1


@pytest.mark.parametrize("off", [HOUR, -HOUR], ids=["ahead", "behind"])
def test_aws_takes_no_call_of_another_hour(
    kms: Callable[[TierName], Kms], monkeypatch: pytest.MonkeyPatch, off: timedelta
) -> None:
    """It is told as what it is, and not as a role that may not."""
    ours = kms(TierName.CURATION)
    ours.wrap("alias/cscm-content", b"secret", {})
    now = botocore.auth.get_current_datetime
    monkeypatch.setattr(botocore.auth, "get_current_datetime", lambda *args, **kwargs: now(*args, **kwargs) + off)

    with pytest.raises(ClockWrong, match="Set this machine's clock"):
        ours.wrap("alias/cscm-content", b"secret", {})


@pytest.mark.parametrize("off", ["+1h", "-1h"])
def test_a_run_on_a_machine_whose_clock_is_wrong_says_so(world: World, application: Application, off: str) -> None:
    """The whole chain, every program of it with that clock: it ends at its first word to AWS, and offers nothing."""
    application.next_revision()
    before = world.manifests(f"dev/{NAME}")

    ran = world.cscm("chain", str(application.path), environment=wrong_clock(off))

    assert ran.status == 1
    assert "[clock.wrong]" in ran.error and "Set this machine's clock" in ran.error, ran.error
    assert world.last_run()["state_type"] == "FAILED"
    assert world.manifests(f"dev/{NAME}") == before


def wrong_clock(off: str) -> dict[str, str]:
    """What libfaketime(1) reads; how long something takes stays true."""
    (library, *_) = [*Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1")] or [Path("faketime is not installed")]
    assert library.exists(), f"{library}; on Debian as root `scripts/test-programs` does that"
    return {"LD_PRELOAD": str(library), "FAKETIME": off, "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
