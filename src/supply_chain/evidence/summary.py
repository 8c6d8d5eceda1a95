"""Verdicts as SLSA verification summaries (VSA v1), signed by the tier of the gate."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Literal

from pydantic import AwareDatetime, Field

from supply_chain.evidence.attached_statement import AttachedStatement
from supply_chain.evidence.levels import FAILED
from supply_chain.evidence.reading import SignedValue, is_signed, read_statements
from supply_chain.evidence.statement import SUMMARY, Foreign, Predicate, VerifiedStatement
from supply_chain.model.image import Digest, ImageRef, digest_set, shorten_digest
from supply_chain.model.tier import JUDGE, Gate

SLSA_VERSION = "1.2"
EARLIER = "urn:cscm:gate:"
"""Before the gate's name, this was its identity until version 0.2.0. Evidence with it counts; it is not published."""


class Named(Foreign):
    """A resource by address and digest (SLSA v1, "ResourceDescriptor")."""

    uri: str
    digest: dict[str, str]


class Verifier(Foreign):
    """The gate that gave a verdict."""

    id: str


class RefusedRule(Foreign):
    """What the refusal by one rule rests on, and how to ask for an exception."""

    rule: str
    policy: str = Field(description="its policy, with the version; empty if a block needed none")
    evidence: tuple[str, ...] = Field(description="digests of the statements that it rests on")
    waiver: str = Field(description="whether a waiver can accept it, and how to ask for one")
    findings: str = Field(
        default="",
        description="SHA-256 of all findings that it refuses the image for, each as `ID in PACKAGE VERSION` with a "
        "newline, sorted; empty: none, or the deploy gate",
    )

    def __str__(self) -> str:
        evidence = f"rests on {', '.join(map(shorten_digest, self.evidence))}; " if self.evidence else ""
        return f"{self.rule}: {evidence}{self.waiver}"


class Grounds(Foreign):
    """The reasons and notes of a verdict, in our own format."""

    reasons: tuple[dict[str, str], ...] = Field(description="code, fact and remedy; none where it passed")
    notes: tuple[str, ...]
    environment: str = Field(
        default="", description="the environment that the verdict is about; empty except at the deploy gate"
    )
    policies: tuple[str, ...] = Field(default=(), description="the policies that judged it, each with its version")
    refused_rules: tuple[RefusedRule, ...] = Field(default=(), description="for each rule that refused")
    waivers: tuple[str, ...] = Field(
        default=(), description="the waivers that it rests on, each as name@digest of its document"
    )
    break_glass: str = Field(
        default="", description="by whom, until when and why what refuses the image is overridden; empty: nothing is"
    )
    expires: AwareDatetime | None = Field(
        default=None,
        description="when the first of these waivers, the break-glass, an accepted investigation (VEX) or the list of "
        "people ends whose decisions it rests on, also those of earlier gates; or when a rule first refuses the image "
        "that only warns before (effective_on)",
    )


class Summary(Predicate):
    """The predicate of `statement.SUMMARY`: one gate's verdict about one image."""

    verifier: Verifier
    time_verified: AwareDatetime
    resource_uri: str = Field(description="the image, by digest; a published verdict also names the registry")
    policy: Named
    input_attestations: tuple[Named, ...] = Field(description="what the verdict rests on")
    verification_result: Literal["PASSED", "FAILED"]
    verified_levels: tuple[str, ...] = Field(default=(), description="the level of each track, or FAILED")
    slsa_version: str = Field(default="", description="of the specification that the levels are of")
    cscm: Grounds

    @property
    def passed(self) -> bool:
        """Return whether the gate admitted the image."""
        return self.verification_result == "PASSED"

    @property
    def codes(self) -> frozenset[str]:
        """Return the codes of the reasons of a refusal."""
        return frozenset(reason.get("code", "") for reason in self.cscm.reasons)

    def has_expired(self, now: datetime) -> bool:
        """Return whether a decision that it rests on has ended."""
        return self.cscm.expires is not None and self.cscm.expires <= now

    def has_same_content(self, other: Summary) -> bool:
        """Return whether both are the same verdict on the same evidence, at any time."""
        return self == other.model_copy(update={"time_verified": self.time_verified})


def name_verifier(gate: Gate) -> str:
    """Return the identity of a gate, which names its tier."""
    return f"urn:cscm:gate:{JUDGE[gate]}/{gate}"


def make_policy_uri(gate: Gate, policies: Sequence[str]) -> str:
    """Return the URN of the policies that judge at a gate, each with its name and version (`hello 1`)."""
    return ":".join([f"urn:cscm:policy:{gate}", *(each.replace(" ", "@") for each in policies)])


def make_summary(
    ref: ImageRef,
    gate: Gate,
    policy: Digest,
    *,
    reasons: Sequence[Mapping[str, str]],
    notes: Sequence[str],
    levels: Sequence[str] = (),
    inputs: Sequence[VerifiedStatement | AttachedStatement],
    documents: Sequence[Named] = (),
    now: datetime,
    environment: str = "",
    policies: Sequence[str] = (),
    refused_rules: Sequence[RefusedRule] = (),
    waivers: Sequence[str] = (),
    break_glass: str = "",
    expires: datetime | None = None,
) -> Summary:
    """Return a verdict: FAILED if there are reasons, otherwise PASSED.

    `inputs` are the evidence that the verdict rests on, and `documents` what it rests on of the project. `levels` are
    the levels that the evidence shows, one per SLSA track.
    """
    return Summary(
        verifier=Verifier(id=name_verifier(gate)),
        time_verified=now,
        resource_uri=str(ref),
        policy=Named(uri=make_policy_uri(gate, policies), digest=digest_set(policy)),
        input_attestations=(
            *(Named(uri=f"{e.repository}@{e.digest}", digest=digest_set(e.digest)) for e in inputs),
            *documents,
        ),
        verification_result="FAILED" if reasons else "PASSED",
        verified_levels=(FAILED,) if reasons else tuple(levels),
        slsa_version=SLSA_VERSION,
        cscm=Grounds(
            reasons=tuple(dict(reason) for reason in reasons),
            notes=tuple(notes),
            environment=environment,
            policies=tuple(policies),
            refused_rules=tuple(refused_rules),
            waivers=tuple(waivers),
            break_glass=break_glass,
            expires=expires,
        ),
    )


def list_verdicts(
    evidence: Iterable[VerifiedStatement], gate: Gate, digest: Digest
) -> tuple[SignedValue[Summary], ...]:
    """Return all verdicts of a gate about a digest, oldest first; of two with the same time, the refusal is last.

    Raise `EvidenceInvalid` for one that cannot be read. Verdicts of other verifiers are ignored.
    """
    about = read_statements((e for e in evidence if _is_of(e.predicate, gate, digest)), SUMMARY, Summary.model_validate)
    return tuple(sorted(about, key=lambda each: (each.at, not each.value.passed)))


def find_last_verdict(evidence: Iterable[VerifiedStatement], gate: Gate, digest: Digest) -> SignedValue[Summary] | None:
    """Return the last verdict of a gate about a digest, or None.

    A later refusal outweighs an earlier admission. Of two with the same time, the refusal counts.
    """
    return next(reversed(list_verdicts(evidence, gate, digest)), None)


def _is_of(predicate: Mapping[str, Any], gate: Gate, digest: Digest) -> bool:
    by = predicate.get("verifier")
    ours = isinstance(by, dict) and by.get("id") in (name_verifier(gate), f"{EARLIER}{gate}")
    return ours and str(predicate.get("resourceUri", "")).endswith(f"@{digest}")


def is_released(evidence: Iterable[VerifiedStatement], digest: Digest, now: datetime) -> bool:
    """Return whether an image is released: curation signed it, and the last verdict of the release gate admits it.

    `evidence` is what curation signed about the image: signatures and verdicts. A later refusal by the intake gate, and
    a verdict of either gate of curation that has ended, count as refusals.
    """
    own = tuple(evidence)
    verdict = find_last_verdict(own, Gate.RELEASE, digest)
    if not is_signed(own) or verdict is None or not verdict.value.passed or verdict.value.has_expired(now):
        return False
    intake = find_last_verdict(own, Gate.INTAKE, digest)
    return intake is None or (intake.value.passed and not intake.value.has_expired(now))
