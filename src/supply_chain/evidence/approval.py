"""Approvals: a person's yes or no to one image in one environment, as execution signs it and as the gate reads it."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, Field, StringConstraints

from supply_chain.evidence.clock import INSTANT, SKEW
from supply_chain.evidence.reading import Said, said
from supply_chain.evidence.statement import APPROVAL, Evidence
from supply_chain.model.image import Digest, Frozen

MOST_WORDS = 1000
"""Characters of what a person says."""
Words = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=MOST_WORDS)]


class Approval(Frozen):
    """The predicate of `statement.APPROVAL`. Who it was is what they said: nothing here proves it."""

    environment: str
    digest: Digest = Field(description="the image that it is about")
    decision: Literal["approved", "denied"]
    who: Words = Field(description="the name of who decided, as told")
    why: Words
    decided: AwareDatetime

    @property
    def approved(self) -> bool:
        """Whether it is a yes."""
        return self.decision == "approved"

    def __str__(self) -> str:
        return f"{self.decision} for {self.environment} by {self.who}: {self.why}"

    def says_the_same_as(self, other: Approval) -> bool:
        """Whether it differs in nothing but its time."""
        return self == other.model_copy(update={"decided": self.decided})

    def predicate(self) -> dict[str, Any]:
        """As it is signed."""
        return self.model_dump(mode="json")


def last_approval(evidence: Iterable[Evidence], environment: str, digest: Digest) -> Said[Approval] | None:
    """The last word about a digest in an environment: a later no outweighs an earlier yes, and the other way.

    Of two at one instant the no counts. `EvidenceInvalid` for one that cannot be read.
    """
    about = _about(evidence, environment, digest)
    return max(about, key=lambda each: (each.at, not each.value.approved), default=None)


def to_sign(decision: Approval, evidence: Iterable[Evidence], *, sent: bool) -> Approval | None:
    """A decision with the time of which it is signed; None where it was signed already.

    What somebody says now is later than what was said before, whatever the clock says: otherwise it would not be
    heard. A yes that was `sent` in a form may be read long after, and outweighs nothing that was said meanwhile: also
    no no of so short a time before it that the clocks may be wrong about which was first.
    """
    known = [each.value for each in _about(evidence, decision.environment, decision.digest)]
    if sent and decision.approved:
        doubtful = (each for each in known if not each.approved and each.decided > decision.decided - SKEW)
        said = _of(min([decision.decided, *(each.decided - INSTANT for each in doubtful)]), decision)
        return None if said in known else said
    if sent and any(each.says_the_same_as(decision) and each.decided >= decision.decided for each in known):
        return None
    return _of(max([decision.decided, *(each.decided + INSTANT for each in known)]), decision)


def _of(at: datetime, decision: Approval) -> Approval:
    return decision.model_copy(update={"decided": at})


def _about(evidence: Iterable[Evidence], environment: str, digest: Digest) -> list[Said[Approval]]:
    known = said(evidence, APPROVAL, Approval.model_validate)
    return [each for each in known if (each.value.environment, each.value.digest) == (environment, digest)]
