"""Deployments that rest on a break-glass, from the inventory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from supply_chain.fleet.break_glass import OpenBreakGlass, find_open
from supply_chain.fleet.image import FleetImage, Judgement, Running
from supply_chain.model.tier import Gate
from supply_chain.policy.outcome import Reason, UsedBreakGlass
from tests.support.snapshots import NOW, POLICY, ago, image

USE = UsedBreakGlass(by="ann", reason="outage", expires=NOW)


@dataclass
class Stored:
    """The images of an inventory, and those that are removed."""

    listed: tuple[FleetImage, ...]
    removed: tuple[FleetImage, ...] = ()

    def running(self) -> tuple[Running, ...]:
        return tuple(each for of in (*self.listed, *self.removed) for each in of.running)

    def images(self, application: str | None = None) -> Iterator[FleetImage]:
        return (each for each in self.listed if each.application == application)

    def list_removed(self, application: str | None = None) -> tuple[FleetImage, ...]:
        return tuple(each for each in self.removed if each.application == application)


def running(environment: str, use: UsedBreakGlass | None, application: str = "hello") -> Running:
    return Running(
        environment=environment, application=application, container="c", name="n", address="a", host="h", since=ago(1),
        break_glass=use,
    )  # fmt: skip


def refusal(environment: str, days: float, *codes: str, gate: Gate = Gate.DEPLOY) -> Judgement:
    reasons = tuple(Reason(code=code, fact="f", remedy="r") for code in codes)
    return Judgement(
        gate=gate, environment=environment, passed=not codes, at=ago(days), reasons=reasons, policy=POLICY,
        evidence=POLICY,
    )  # fmt: skip


def test_open_are_deployments_that_rest_on_a_break_glass() -> None:
    """Those that end first come first; other deployments of the same image are none."""
    later = USE.model_copy(update={"expires": NOW + timedelta(hours=1)})
    first = image(1, running=(running("production", later), running("staging", None)), owner="web")
    gone = image(2, repository="curated/shop", running=(running("production", USE, "shop"),), owner="sales")
    other = image(3, repository="curated/other", running=(running("production", None, "other"),))

    found = find_open(Stored((first, other), (gone,)))

    assert found == (
        OpenBreakGlass(image=gone.ref, environment="production", owner="sales", use=USE),
        OpenBreakGlass(image=first.ref, environment="production", owner="web", use=later),
    )
    assert find_open(Stored((other,))) == ()


def test_open_names_reasons_of_deploy_gate() -> None:
    """Not of another environment or gate, and not what an earlier verdict says."""
    judgements: dict[str, Any] = {
        "judgements": (
            refusal("production", 3, "a.old"), refusal("production", 2, "a.b", "a.b", "a.c"),
            refusal("staging", 1, "a.elsewhere"), refusal("production", 1, "a.release", gate=Gate.RELEASE),
        )
    }  # fmt: skip
    (found,) = find_open(Stored((image(1, running=(running("production", USE),), **judgements),)))
    assert found.reasons == ("a.b", "a.c")

    admitted = (*judgements["judgements"], refusal("production", 0))
    (found,) = find_open(Stored((image(1, running=(running("production", USE),), judgements=admitted),)))
    assert found.reasons == ()
