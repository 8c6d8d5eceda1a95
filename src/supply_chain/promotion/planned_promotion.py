"""Planned promotions: which one is due for an image at its next gate, or why none is.

They are read from signed statements and from the registry only. An event that is lost, duplicated, late or out of
order therefore makes no difference: every promotion is planned first. `to_curation` plans those to curation,
`to_environment` those to environments.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from supply_chain.errors import RegistryFailed
from supply_chain.evidence.summary import Summary
from supply_chain.model.image import ImageRef, Model
from supply_chain.model.registry_ports import ImageLister, RepositoryLister
from supply_chain.model.tier import Gate
from supply_chain.text import join_lines


class PromotableImages(RepositoryLister, ImageLister, Protocol):
    """A registry whose images can be promoted."""


class PlannedPromotion(Model):
    """The promotion that is due for an image: its destination `to`, or none, for this `reason`."""

    image: ImageRef
    to: str = ""
    """The destination: `curation`, or the name of an environment; empty if the image stays."""
    after: str | None = None
    reason: str = ""
    awaits_evidence: bool = False
    """Whether the missing evidence may still arrive."""
    awaits_approval: bool = False
    """Whether a person has to decide first and has not yet."""
    signers: int = 0
    """How many people have to approve with keys of their own, which a form does not replace."""
    unreadable: bool = False
    """Whether the image stays because signed statements or an environment's document cannot be read, or are missing."""


def make_empty_promotion(ref: ImageRef, reason: str) -> PlannedPromotion:
    """Return the plan for an image that stays where it is."""
    return PlannedPromotion(image=ref, reason=reason)


def make_unreadable_promotion(ref: ImageRef, reason: str) -> PlannedPromotion:
    """Return the plan for an image that stays where it is and needs somebody's attention."""
    return PlannedPromotion(image=ref, reason=reason, unreadable=True)


def select_reportable_promotions(promotions: Iterable[PlannedPromotion]) -> tuple[PlannedPromotion, ...]:
    """Return the promotions with a destination, and those that are unreadable."""
    return tuple(promotion for promotion in promotions if promotion.to or promotion.unreadable)


def plan_each(
    newest: Iterable[Sequence[ImageRef]], plan: Callable[[Sequence[ImageRef]], Iterable[PlannedPromotion]]
) -> tuple[PlannedPromotion, ...]:
    """Return the reportable promotions of all applications; `newest` are the images of each, last push first.

    An application for whose images the registry fails is `unreadable`, and affects no other. Raise the error if it
    fails for each of them: that is an outage. So is a registry that cannot list images.
    """
    promotions, failed, number = list[PlannedPromotion](), list[RegistryFailed](), 0
    for images in filter(None, newest):
        number += 1
        try:
            promotions += plan(images)
        except RegistryFailed as error:
            failed.append(error)
            promotions.append(make_unreadable_promotion(images[0], join_lines(error)))
    if failed and len(failed) == number:
        raise failed[0]
    return select_reportable_promotions(promotions)


def explain_refusal(verdict: Summary, gate: Gate) -> str:
    """Return a sentence that says where an image was refused and why."""
    return f"it was refused at the {gate} gate: {', '.join(sorted(verdict.codes))}"
