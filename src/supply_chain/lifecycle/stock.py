"""The stock: everything that a plan looks at, and what of it should run or ran before."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Literal, Self

from pydantic import AwareDatetime, Field

from supply_chain.evidence.standing import Standing
from supply_chain.fleet.known import Judgement, KnownImage
from supply_chain.image import Digest, Frozen, ImageRef, StoredManifest
from supply_chain.policy.rules import BASE_BLOCKED
from supply_chain.tier import Boundary


class Member(Frozen):
    """One manifest as the registry has it, and what it belongs to in its repository."""

    ref: ImageRef
    stored: StoredManifest
    subject: Digest | None = Field(default=None, description="what it is attached to (OCI image 1.1, `subject`)")
    children: tuple[Digest, ...] = Field(default=(), description="what it consists of, where it is an index")
    copy_of: Digest | None = Field(default=None, description="of which image it is the encrypted copy")

    @property
    def belonging(self) -> Iterator[tuple[Digest, Digest]]:
        """What belongs to what by this manifest: it to its subject and to what it is a copy of, its parts to it."""
        yield from ((self.ref.digest, owner) for owner in (self.subject, self.copy_of) if owner)
        yield from ((child, self.ref.digest) for child in self.children)


Verdict = Literal["passed", "failed", "base-blocked", "none"]
"""Of curation's gate, the last one. What it refuses for nothing but a base that is blocked may be used again when that
is unblocked: no rule takes it away for that no."""


def _verdict(last: Judgement | None) -> Verdict:
    if last is None:
        return "none"
    if last.passed:
        return "passed"
    return "base-blocked" if {each.code for each in last.reasons} == {BASE_BLOCKED} else "failed"


class Evidenced(Frozen):
    """What signed evidence says of an image, as far as rules look at it."""

    signed: bool = Field(description="whether curation signed that it may be used")
    verdict: Verdict = Field(description="of curation's gate, the last one")
    exploited: tuple[str, ...] = Field(default=(), description="findings that are known to be exploited, by id")

    @property
    def vended(self) -> bool:
        """Whether it may be used."""
        return self.signed and self.verdict == "passed"

    @classmethod
    def of(cls, image: KnownImage) -> Self:
        """What is known of an image, in these words."""
        last = image.last(Boundary.CURATION)
        return cls(
            signed=image.signed,
            verdict=_verdict(last),
            exploited=tuple(f.id for f in image.scan.exploited) if image.scan else (),
        )

    def otherwise(self, before: Evidenced) -> Iterator[str]:
        """What of it has become otherwise than it was, in sentences."""
        if self.verdict != before.verdict:
            yield f"curation's last verdict about it is {self.verdict} now"
        if self.signed is not before.signed:
            yield f"it is {'signed' if self.signed else 'not signed'} now"
        if bool(self.exploited) is not bool(before.exploited):
            yield (
                f"it is known to be exploited now: {', '.join(self.exploited)}"
                if self.exploited
                else ("nothing in it is known to be exploited any more")
            )


class Deployed(Frozen):
    """One deployment, by the record that the execution tier signed."""

    environment: str
    application: str
    digest: Digest
    proxy: Digest | None = Field(default=None, description="the image of its front")
    at: AwareDatetime
    address: str = Field(default="", description="where it answers")


class Stock(Frozen):
    """Everything a plan looks at."""

    images: tuple[KnownImage, ...] = Field(description="the inventory")
    members: tuple[Member, ...] = Field(default=(), description="every manifest of the repositories it is about")
    deployments: tuple[Deployed, ...] = ()
    standings: dict[str, Standing] = Field(default_factory=dict, description="image → how it stands")
    read_at: AwareDatetime = Field(description="when all this was so")

    def standing(self, ref: ImageRef) -> Standing:
        """How an image stands."""
        return self.standings.get(str(ref), Standing())

    @property
    def digest(self) -> Digest:
        """Names exactly this stock, in whichever order it was read."""
        told = [
            *sorted(each.model_dump_json() for each in (*self.images, *self.members, *self.deployments)),
            json.dumps({name: each.model_dump(mode="json") for name, each in sorted(self.standings.items())}),
        ]
        return f"sha256:{hashlib.sha256(chr(10).join(told).encode()).hexdigest()}"

    @property
    def databases(self) -> tuple[str, ...]:
        """The vulnerability databases that its scans rest on."""
        return tuple(sorted({image.scan.database.digest for image in self.images if image.scan}))


def in_use(deployments: Iterable[Deployed], rollback: int) -> tuple[dict[Digest, list[str]], dict[Digest, list[str]]]:
    """What should run, and what ran before it, in each environment: digest → environments.

    An application's earlier deployments are counted by what they were of: one that was deployed twice is one.
    """
    running: dict[Digest, list[str]] = defaultdict(list)
    before: dict[Digest, list[str]] = defaultdict(list)
    for (environment, _), history in histories(deployments).items():
        running[history[0].digest].append(environment)
        if history[0].proxy:
            running[history[0].proxy].append(f"{environment}, as the front of {history[0].application}")
        earlier = list(dict.fromkeys(each.digest for each in history if each.digest != history[0].digest))
        for digest in earlier[:rollback]:
            before[digest].append(environment)
    return dict(running), dict(before)


def histories(deployments: Iterable[Deployed]) -> dict[tuple[str, str], list[Deployed]]:
    """The deployments of each application in each environment, the last one first."""
    found: dict[tuple[str, str], list[Deployed]] = defaultdict(list)
    for each in sorted(deployments, key=lambda d: (d.at, d.digest), reverse=True):
        found[each.environment, each.application].append(each)
    return {place: found[place] for place in sorted(found)}
