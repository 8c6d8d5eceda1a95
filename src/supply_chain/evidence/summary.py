"""Verdicts as SLSA verification summaries (VSA v1), signed by the tier that admits."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from supply_chain.errors import EvidenceInvalid
from supply_chain.evidence.statement import UNREADABLE, Evidence
from supply_chain.image import Digest, ImageRef, digest_set
from supply_chain.tier import Boundary


def verifier(boundary: Boundary) -> str:
    """The identity of a gate."""
    return f"urn:cscm:gate:{boundary}"


def summary(
    ref: ImageRef,
    boundary: Boundary,
    policy: Digest,
    *,
    reasons: Sequence[dict[str, str]],
    notes: Sequence[str],
    inputs: Sequence[Evidence],
    now: datetime,
) -> dict[str, Any]:
    """The predicate: PASSED without reasons, FAILED with them; `inputs` are what the verdict rests on."""
    return {
        "verifier": {"id": verifier(boundary)},
        "timeVerified": now.isoformat(),
        "resourceUri": str(ref),
        "policy": {"uri": f"urn:cscm:policy:{boundary}", "digest": digest_set(policy)},
        "inputAttestations": [{"uri": f"{e.repository}@{e.digest}", "digest": digest_set(e.digest)} for e in inputs],
        "verificationResult": "FAILED" if reasons else "PASSED",
        "verifiedLevels": [] if reasons else ["SLSA_BUILD_LEVEL_1"],
        "cscm": {"reasons": list(reasons), "notes": list(notes)},
    }


def latest_of(summaries: Sequence[dict[str, Any]], boundary: Boundary, digest: Digest) -> dict[str, Any] | None:
    """The last verdict of a gate about a digest: a later no outweighs an earlier yes.

    Of two at one instant the no counts. `EvidenceInvalid` for one whose time cannot be read.
    """
    about = [
        s
        for s in summaries
        if s.get("verifier") == {"id": verifier(boundary)} and str(s.get("resourceUri", "")).endswith(f"@{digest}")
    ]
    return max(about, key=lambda s: (_verified_at(s), not passed(s)), default=None)


def _verified_at(verdict: dict[str, Any]) -> datetime:
    said = str(verdict.get("timeVerified"))
    try:
        at = datetime.fromisoformat(said)
    except ValueError:
        at = datetime.min
    if at.tzinfo is None:
        raise EvidenceInvalid(
            f"A signed verdict says that it was given at {said[:100]!r}, which names no instant.\n"
            f"It may be the last one. {UNREADABLE}"
        )
    return at


def passed(verdict: dict[str, Any] | None) -> bool:
    """Whether there is a verdict, and it is yes."""
    return verdict is not None and verdict.get("verificationResult") == "PASSED"
