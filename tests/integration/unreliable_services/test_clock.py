"""Clocks that are an hour fast or an hour slow."""

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
from tests.integration.unreliable_services.sandbox import NAME, subject_of
from tests.support.application import Application

from .sandbox import Sandbox

pytestmark = [pytest.mark.real, pytest.mark.usefixtures("serving")]

HOUR = timedelta(hours=1)
Store = Callable[..., EvidenceStore]


def found(at: datetime) -> CheckResult:
    return CheckResult(check=Check.SOURCE, passed=("well",), interval=Interval(started=at, finished=at))


@pytest.fixture
def ahead(sandbox: Sandbox, store: Store, registry: Callable[[TierName], Registry]) -> ImageRef:
    """An image whose builder's clock was an hour fast."""
    subject = subject_of(sandbox, registry(TierName.DEVELOPMENT), "dev/ahead")
    then = datetime.now(UTC) + HOUR
    if not registry(TierName.DEVELOPMENT).referrers(subject):
        store(TierName.DEVELOPMENT).attach(subject, TEST_RESULT, found(then).predicate(), then)
    return subject


def test_curation_stops_at_evidence_from_the_future(sandbox: Sandbox, ahead: ImageRef) -> None:
    """It would count as the newest for an hour, even against a later refusal."""
    ran = sandbox.cscm("curate", str(ahead))

    assert ran.status == 1
    assert "[clock.wrong]" in ran.error and "development signed" in ran.error, ran.error
    assert sandbox.last_run()["state_type"] == "FAILED"
    assert sandbox.manifests(f"curated/{ahead.application}") == {}


def test_evidence_from_the_future_is_read_only_by_an_equally_fast_clock(ahead: ImageRef, store: Store) -> None:
    """Which clock is wrong cannot be known, but that one is wrong is certain."""
    with pytest.raises(ClockWrong):
        store(TierName.CURATION).read(ahead)

    later = store(TierName.CURATION, lambda: datetime.now(UTC) + HOUR).read(ahead)
    assert len(later.list_signed_by(TierName.DEVELOPMENT)) == 1


@pytest.mark.parametrize("off", [HOUR, -HOUR], ids=["ahead", "behind"])
def test_aws_call_with_a_wrong_clock_raises_clock_wrong(
    kms: Callable[[TierName], Kms], monkeypatch: pytest.MonkeyPatch, off: timedelta
) -> None:
    """It must not look like a missing permission."""
    ours = kms(TierName.CURATION)
    ours.wrap("alias/cscm-content", b"secret", {})
    now = botocore.auth.get_current_datetime
    monkeypatch.setattr(botocore.auth, "get_current_datetime", lambda *args, **kwargs: now(*args, **kwargs) + off)

    with pytest.raises(ClockWrong, match="Set this machine's clock"):
        ours.wrap("alias/cscm-content", b"secret", {})


def test_chain_on_a_machine_with_a_wrong_clock_fails_with_clock_wrong(
    sandbox: Sandbox, application: Application
) -> None:
    """All of its programs see the wrong clock; it ends at the first call to AWS and offers nothing.

    The test above has clocks that are behind, too.
    """
    application.next_revision()
    before = sandbox.manifests(f"dev/{NAME}")

    ran = sandbox.cscm("chain", str(application.path), environment=wrong_clock("+1h"))

    assert ran.status == 1
    assert "[clock.wrong]" in ran.error and "Set this machine's clock" in ran.error, ran.error
    assert sandbox.last_run()["state_type"] == "FAILED"
    assert sandbox.manifests(f"dev/{NAME}") == before


def wrong_clock(off: str) -> dict[str, str]:
    """Return the environment variables for libfaketime(1); durations stay correct."""
    (library, *_) = [*Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1")] or [Path("faketime is not installed")]
    assert library.exists(), f"{library}; on Debian as root `scripts/test-programs` does that"
    return {"LD_PRELOAD": str(library), "FAKETIME": off, "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
