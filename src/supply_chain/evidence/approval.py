"""Approvals: a person's yes or no to one image in one environment, as execution signs it and as the gate reads it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, Field, StringConstraints

from supply_chain.evidence.reading import Said, said
from supply_chain.evidence.statement import APPROVAL, Evidence
from supply_chain.image import Digest, Frozen

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

    def predicate(self) -> dict[str, Any]:
        """As it is signed."""
        return self.model_dump(mode="json")


def last_approval(evidence: Iterable[Evidence], environment: str, digest: Digest) -> Said[Approval] | None:
    """The last word about a digest in an environment: a later no outweighs an earlier yes, and the other way.

    Of two at one instant the no counts. `EvidenceInvalid` for one that cannot be read.
    """
    about = (
        each
        for each in said(evidence, APPROVAL, Approval.model_validate)
        if (each.value.environment, each.value.digest) == (environment, digest)
    )
    return max(about, key=lambda each: (each.at, not each.value.approved), default=None)
