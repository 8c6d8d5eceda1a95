"""Soaks: execution's statement that an image was healthy in an environment for as long as that requires."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from typing import Any

from pydantic import AwareDatetime, Field

from supply_chain.evidence.reading import SignedValue, read_statements
from supply_chain.evidence.statement import SOAK, VerifiedStatement
from supply_chain.model.image import Digest, Model


class Soak(Model):
    """The predicate of `statement.SOAK`, from the observations of `monitor`."""

    environment: str
    digest: Digest = Field(description="the image that was healthy")
    container: str = Field(description="the container's id")
    since: AwareDatetime = Field(description="the first observation")
    until: AwareDatetime = Field(description="the last observation")
    observations: int = Field(ge=1, description="the number of observations")
    required_seconds: int = Field(description="seconds that the environment requires")

    @property
    def seconds(self) -> float:
        """Return the time from the first check to the last."""
        return (self.until - self.since).total_seconds()

    def __str__(self) -> str:
        return f"healthy in {self.environment} for {timedelta(seconds=int(self.seconds))}"

    def predicate(self) -> dict[str, Any]:
        """Return the predicate as it is signed."""
        return self.model_dump(mode="json")


def find_last_soak(
    evidence: Iterable[VerifiedStatement], environment: str, digest: Digest, container: str
) -> SignedValue[Soak] | None:
    """Return the last soak of a digest in an environment, in this container, or None.

    Raise `EvidenceInvalid` for a soak that cannot be read.
    """
    about = [each for each in _about(evidence, environment, digest) if each.value.container == container]
    return about[-1] if about else None


def find_longest_soak(
    evidence: Iterable[VerifiedStatement], environment: str, digest: Digest
) -> SignedValue[Soak] | None:
    """Return the longest soak of a digest in an environment, in any container, or None.

    Raise `EvidenceInvalid` for a soak that cannot be read.
    """
    return max(_about(evidence, environment, digest), key=lambda each: each.value.seconds, default=None)


def _about(evidence: Iterable[VerifiedStatement], environment: str, digest: Digest) -> list[SignedValue[Soak]]:
    soaks = read_statements(evidence, SOAK, Soak.model_validate)
    return [each for each in soaks if (each.value.environment, each.value.digest) == (environment, digest)]
