"""Tasks that keep published verdicts true."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest

from supply_chain.errors import (
    ClusterRefused,
    ClusterUnavailable,
    EvidenceInvalid,
    GateSuperseded,
    SupplyChainError,
)
from supply_chain.evidence.published import CurrentVerdict
from supply_chain.evidence.summary import make_summary
from supply_chain.execution.environment import DockerEnvironment, Environment
from supply_chain.model.image import ImageRef
from supply_chain.model.tier import Gate, TierName
from supply_chain.policy.outcome import Reason, Refused
from tasks import verdicts
from tests.support.builders import NOON
from tests.support.facts import CURATED

REFUSED = Refused(
    image=CURATED, gate=Gate.DEPLOY, policy="sha256:" + "b" * 64,
    reasons=(Reason(code="a.b", fact="f", remedy="r"),),
)  # fmt: skip


def published(*passed: bool, at: datetime = NOON) -> Any:
    """Return a function that reads the published verdict: for each environment, one after the other."""
    reads: Counter[str] = Counter()

    def read(ref: ImageRef, environment: str) -> CurrentVerdict:
        reads[environment] += 1
        reasons = [reason.model_dump() for reason in REFUSED.reasons]
        admits = passed[min(reads[environment], len(passed)) - 1]
        verdict = make_summary(
            ref, Gate.DEPLOY, REFUSED.policy, reasons=[] if admits else reasons, notes=[], inputs=[], now=at
        )
        return CurrentVerdict(statement=ref, verdict=verdict, admits=admits)

    return read


@pytest.mark.parametrize(
    ("tier", "gates"), [(TierName.CURATION, [Gate.INTAKE, Gate.RELEASE]), (TierName.EXECUTION, [Gate.DEPLOY])]
)
async def test_tier_withdraws_only_verdicts_of_its_own_gates(
    monkeypatch: pytest.MonkeyPatch, tier: TierName, gates: list[Gate]
) -> None:
    """Its role may remove nothing else; each image is named once."""
    asked: list[Gate] = []

    def withdraw(gate: Gate, repositories: str) -> tuple[ImageRef, ...]:
        assert repositories == "the registry"
        asked.append(gate)
        return (CURATED,)

    monkeypatch.setattr(verdicts, "withdraw_removed", withdraw)
    ports: Any = SimpleNamespace(name=tier, repositories="the registry")

    assert await verdicts.withdraw_step.fn(ports) == (CURATED,)
    assert asked == gates


async def test_release_is_judged_by_curation() -> None:
    """No other tier may sign that verdict, nor that of the intake gate."""
    verdict, intake = object(), object()
    ports: Any = SimpleNamespace(
        judge_published={CURATED: verdict}.__getitem__, judge_published_intake={CURATED: intake}.__getitem__
    )

    assert await verdicts.judge_release_step.fn(CURATED, ports) is verdict
    assert await verdicts.judge_intake_step.fn(CURATED, ports) is intake


@pytest.mark.parametrize("error", [EvidenceInvalid, GateSuperseded, ClusterUnavailable])
def test_deployments_are_renewed_although_one_cannot_be_judged(
    error: type[SupplyChainError], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each is judged for its own environment."""
    answers: dict[str, Any] = {
        "broken": error("it is damaged\ngo on"), "same": None, "refused": REFUSED, "admitted": object(),
    }  # fmt: skip

    def renew(ref: ImageRef, environment: Environment, current: CurrentVerdict) -> Any:
        assert ref == CURATED and current.verdict.passed
        if isinstance(answers[environment.name], Exception):
            raise answers[environment.name]
        return answers[environment.name]

    places = [DockerEnvironment(name=name) for name in answers]
    expected = [SimpleNamespace(environment=name, application="hello", digest=CURATED.digest) for name in answers]
    monkeypatch.setattr(verdicts, "read_expected", lambda names, *_: expected if names == list(answers) else [])
    ports: Any = SimpleNamespace(
        repositories=None, registry=None, evidence=None, renew_published=renew, read_published=published(True, False),
    )  # fmt: skip
    events: list[Any] = []
    monkeypatch.setattr(verdicts, "is_recorded", lambda _: False)
    monkeypatch.setattr(verdicts, "emit", lambda *event, **payload: events.append((*event, payload)))

    found = verdicts._renew(places, ports, False, None)

    assert found.judged == (f"{CURATED} in refused: FAILED", f"{CURATED} in admitted: PASSED")
    assert found.unknown == (f"{CURATED} in broken: it is damaged",)
    ((event, image, _, _, payload),) = events
    assert (event, image, payload["from"], payload["to"]) == ("image.verdict-changed", CURATED, "passed", "refused")
    assert (payload["running"], payload["reasons"]) == (["refused"], [{"code": "a.b", "fact": "f", "remedy": "r"}])


@pytest.mark.parametrize("was_admitted", [True, False])
def test_owner_is_not_notified_of_image_refused_before(monkeypatch: pytest.MonkeyPatch, was_admitted: bool) -> None:
    """Something else decides now, and the refusal rests on other waivers."""
    events: list[str] = []
    monkeypatch.setattr(verdicts, "emit", lambda event, *_, **__: events.append(event))
    expected = [SimpleNamespace(environment="staging", application="hello", digest=CURATED.digest)]
    monkeypatch.setattr(verdicts, "read_expected", lambda *_: expected)
    monkeypatch.setattr(verdicts, "is_recorded", lambda _: False)
    ports: Any = SimpleNamespace(
        repositories=None, registry=None, evidence=None, judge_published=lambda *_: REFUSED,
        read_published=published(was_admitted, False),
    )  # fmt: skip

    assert verdicts._renew([DockerEnvironment(name="staging")], ports, True, None).judged
    assert events == (["image.verdict-changed"] if was_admitted else [])


@pytest.mark.parametrize(
    ("began", "is_recorded", "emitted"),
    [(timedelta(hours=-1), False, 1), (timedelta(hours=-1), True, 0), (timedelta(hours=1), False, 0), (None, False, 0)],
    ids=["killed", "emitted", "another's", "no run was killed"],
)
@pytest.mark.parametrize("has_changed", [True, False])
def test_run_emits_missing_event_of_killed_run(
    monkeypatch: pytest.MonkeyPatch, began: timedelta | None, is_recorded: bool, emitted: int, has_changed: bool
) -> None:
    """Otherwise nobody notifies the owner; the event has the same id, whichever run emits it."""
    event_uuids: list[UUID] = []
    monkeypatch.setattr(verdicts, "emit", lambda event, ref, source, event_uuid, **_: event_uuids.append(event_uuid))
    monkeypatch.setattr(verdicts, "is_recorded", lambda _: False)
    expected = [SimpleNamespace(environment="staging", application="hello", digest=CURATED.digest)]
    monkeypatch.setattr(verdicts, "read_expected", lambda *_: expected)
    at = datetime.now(UTC)

    def run(verdict: Refused | None, *passed: bool, since: datetime | None = None) -> None:
        ports: Any = SimpleNamespace(
            repositories=None, registry=None, evidence=None, judge_published=lambda *_: verdict,
            renew_published=lambda *_: verdict, read_published=published(*passed, at=at),
        )  # fmt: skip
        verdicts._renew([DockerEnvironment(name="staging")], ports, has_changed, since)

    run(REFUSED, True, False)
    monkeypatch.setattr(verdicts, "is_recorded", lambda _: is_recorded)
    run(None, False, since=None if began is None else at + began)

    assert len(event_uuids) == 1 + emitted and len(set(event_uuids)) == 1


@pytest.mark.parametrize("second", [None, EvidenceInvalid("it is away\ngo on")], ids=["withdrawn", "unread"])
def test_refusal_that_cannot_be_read_again_is_not_emitted(
    monkeypatch: pytest.MonkeyPatch, second: EvidenceInvalid | None
) -> None:
    """The image was removed, or the next run makes up for the event; the other deployments are judged."""
    monkeypatch.setattr(verdicts, "emit", None)
    expected = [
        SimpleNamespace(environment=name, application="hello", digest=CURATED.digest) for name in ("first", "second")
    ]
    monkeypatch.setattr(verdicts, "read_expected", lambda *_: expected)
    first = published(True)
    reads: Counter[str] = Counter()

    def read(ref: ImageRef, environment: str) -> CurrentVerdict | None:
        reads[environment] += 1
        if environment == "first" and reads[environment] > 1:
            if second:
                raise second
            return None
        found: CurrentVerdict = first(ref, environment)
        return found

    ports: Any = SimpleNamespace(
        repositories=None, registry=None, evidence=None, read_published=read,
        renew_published=lambda _, environment, current: REFUSED if environment.name == "first" else object(),
    )  # fmt: skip

    found = verdicts._renew([DockerEnvironment(name=name) for name in ("first", "second")], ports, False, None)

    assert f"{CURATED} in second: PASSED" in found.judged
    assert found.unknown == ((f"{CURATED} in first: it is away",) if second else ())


async def test_clusters_follow_verdicts_if_another_is_unreachable() -> None:
    followed = list[str]()

    def follow() -> None:
        raise ClusterRefused("it is away\nwait")

    ports: Any = SimpleNamespace(
        enforcements={
            "staging": SimpleNamespace(follow_all=follow),
            "production": SimpleNamespace(follow_all=lambda: followed.append("production")),
        }
    )

    assert await verdicts.follow_verdicts_step.fn(ports) == ("the cluster of staging: it is away",)
    assert followed == ["production"]
