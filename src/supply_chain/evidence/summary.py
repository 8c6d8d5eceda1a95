"""Verdicts as SLSA verification summaries (VSA v1), signed by the tier that admits."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Literal

from pydantic import AwareDatetime, Field

from supply_chain.evidence.levels import FAILED
from supply_chain.evidence.reading import Said, is_signed, said
from supply_chain.evidence.statement import SUMMARY, Evidence, Foreign, Predicate
from supply_chain.model.image import Digest, ImageRef, digest_set
from supply_chain.model.tier import Boundary

SLSA_VERSION = "1.2"


class Named(Foreign):
    """Something by its address and digest (SLSA v1, "ResourceDescriptor")."""

    uri: str
    digest: dict[str, str]


class Verifier(Foreign):
    """Who gave a verdict."""

    id: str


class Grounds(Foreign):
    """Why, in the model's own words."""

    reasons: tuple[dict[str, str], ...] = Field(description="code, fact and remedy; none where it passed")
    notes: tuple[str, ...]
    environment: str = Field(default="", description="for which it was asked; empty but at boundary 2")


class Summary(Predicate):
    """The predicate of `statement.SUMMARY`: one gate's verdict about one image."""

    verifier: Verifier
    time_verified: AwareDatetime
    resource_uri: str = Field(description="the image, by repository and digest")
    policy: Named
    input_attestations: tuple[Named, ...] = Field(description="what the verdict rests on")
    verification_result: Literal["PASSED", "FAILED"]
    verified_levels: tuple[str, ...] = Field(default=(), description="the level of each track, or FAILED")
    slsa_version: str = Field(default="", description="of the specification that the levels are of")
    cscm: Grounds

    @property
    def passed(self) -> bool:
        """Whether it is a yes."""
        return self.verification_result == "PASSED"

    def says_the_same_as(self, other: Summary) -> bool:
        """Whether both say the same on the same evidence, whenever that was."""
        return self == other.model_copy(update={"time_verified": self.time_verified})


def verifier(boundary: Boundary) -> str:
    """The identity of a gate."""
    return f"urn:cscm:gate:{boundary}"


def summary(
    ref: ImageRef,
    boundary: Boundary,
    policy: Digest,
    *,
    reasons: Sequence[Mapping[str, str]],
    notes: Sequence[str],
    levels: Sequence[str] = (),
    inputs: Sequence[Evidence],
    now: datetime,
    environment: str = "",
) -> Summary:
    """PASSED without reasons, FAILED with them.

    `inputs` are what the verdict rests on, `levels` what the image's build earned of each of SLSA's tracks.
    """
    return Summary(
        verifier=Verifier(id=verifier(boundary)),
        time_verified=now,
        resource_uri=str(ref),
        policy=Named(uri=f"urn:cscm:policy:{boundary}", digest=digest_set(policy)),
        input_attestations=tuple(Named(uri=f"{e.repository}@{e.digest}", digest=digest_set(e.digest)) for e in inputs),
        verification_result="FAILED" if reasons else "PASSED",
        verified_levels=(FAILED,) if reasons else tuple(levels),
        slsa_version=SLSA_VERSION,
        cscm=Grounds(reasons=tuple(dict(reason) for reason in reasons), notes=tuple(notes), environment=environment),
    )


def verdicts(evidence: Iterable[Evidence], boundary: Boundary, digest: Digest) -> tuple[Said[Summary], ...]:
    """Every verdict of a gate about a digest, the oldest first, and of two at one instant the no last.

    `EvidenceInvalid` for one that cannot be read. Other verifiers may leave theirs beside the image; they are
    not looked at.
    """
    about = said((e for e in evidence if _is_of(e.predicate, boundary, digest)), SUMMARY, Summary.model_validate)
    return tuple(sorted(about, key=lambda each: (each.at, not each.value.passed)))


def last_verdict(evidence: Iterable[Evidence], boundary: Boundary, digest: Digest) -> Said[Summary] | None:
    """The last of them: a later no outweighs an earlier yes, and at one instant the no counts."""
    return next(reversed(verdicts(evidence, boundary, digest)), None)


def _is_of(predicate: Mapping[str, Any], boundary: Boundary, digest: Digest) -> bool:
    gate = predicate.get("verifier")
    ours = isinstance(gate, dict) and gate.get("id") == verifier(boundary)
    return ours and str(predicate.get("resourceUri", "")).endswith(f"@{digest}")


def is_vended(evidence: Iterable[Evidence], digest: Digest) -> bool:
    """Whether an image may be used: curation signed it, and the last verdict of its gate is a yes.

    `evidence` is what curation signed about it, its signatures and its verdicts.
    """
    own = tuple(evidence)
    verdict = last_verdict(own, Boundary.CURATION, digest)
    return is_signed(own) and verdict is not None and verdict.value.passed
