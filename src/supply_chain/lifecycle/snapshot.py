"""The snapshot: all facts that a plan rests on, and which images should run or ran before."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator
from datetime import datetime
from itertools import takewhile
from typing import Literal, Self

from pydantic import AwareDatetime, Field

from supply_chain.evidence.image_status import ImageStatus
from supply_chain.fleet.image import FleetImage, Judgement
from supply_chain.model.image import Digest, ImageRef, Model, StoredManifest, digest_of
from supply_chain.model.tier import Gate
from supply_chain.policy.outcome import BASE_BLOCKED, IMAGE_BLOCKED

INDEXES = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)


class Member(Model):
    """A manifest as the registry lists it, and what it belongs to in its repository."""

    ref: ImageRef
    stored: StoredManifest
    subjects: tuple[Digest, ...] = Field(default=(), description="what it is attached to")
    children: tuple[Digest, ...] = Field(default=(), description="what it consists of, if it is an index")
    guessed: bool = Field(
        default=False, description="whether that cannot be read; its children are then possible children"
    )
    copy_of: Digest | None = Field(default=None, description="of which image it is the encrypted copy")

    @property
    def of(self) -> tuple[Digest, ...]:
        """The manifests that it is attached to, and the image that it is an encrypted copy of."""
        return (*self.subjects, self.copy_of) if self.copy_of else self.subjects

    @property
    def belonging(self) -> Iterator[tuple[Digest, Digest]]:
        """Pairs of manifest and owner: this one with its subjects and its original, its children with this one."""
        yield from ((self.ref.digest, owner) for owner in self.of)
        yield from ((child, self.ref.digest) for child in self.children)


def map_owners(members: Collection[Member]) -> dict[ImageRef, tuple[ImageRef, ...]]:
    """Return what each manifest belongs to, among the existing ones: subjects, indexes, and the original of a copy."""
    existing = {member.ref for member in members}
    owners: dict[ImageRef, set[ImageRef]] = defaultdict(set)
    for member in members:
        for digest, owner in member.belonging:
            if digest != owner and member.ref.with_digest(owner) in existing:
                owners[member.ref.with_digest(digest)].add(member.ref.with_digest(owner))
    return {ref: tuple(sorted(owners[ref], key=str)) for ref in sorted(owners, key=str)}


def map_belongings(members: Collection[Member]) -> dict[ImageRef, tuple[ImageRef, ...]]:
    """Return what belongs to each manifest, among the existing ones."""
    existing = {member.ref for member in members}
    belongings: dict[ImageRef, list[ImageRef]] = defaultdict(list)
    for ref, of in map_owners(members).items():
        for owner in of if ref in existing else ():
            belongings[owner].append(ref)
    return {ref: tuple(refs) for ref, refs in belongings.items()}


Verdict = Literal["passed", "failed", "blocked", "none"]
"""The last verdict of the release gate. If only a block of the image or of a base caused a refusal (`blocked`), the
image can be used again once that is lifted: no rule removes it for this refusal."""


def _verdict(last: Judgement | None) -> Verdict:
    if last is None:
        return "none"
    if last.passed:
        return "passed"
    codes = {each.code for each in last.reasons}
    return "blocked" if codes and codes <= {IMAGE_BLOCKED, BASE_BLOCKED} else "failed"


def find_last_verdict_start(image: FleetImage) -> datetime | None:
    """Return since when the release gate has given its last verdict unchanged; rescans repeat it every few days."""
    verdicts = sorted((j for j in image.judgements if j.gate is Gate.RELEASE), key=lambda j: (j.at, not j.passed))
    row = takewhile(lambda each: _verdict(each) == _verdict(verdicts[-1]), reversed(verdicts))
    return min((each.at for each in row), default=None)


class EvidenceSummary(Model):
    """What signed evidence says of an image."""

    signed: bool = Field(description="whether curation released it")
    verdict: Verdict = Field(description="the last release verdict")
    exploited: tuple[str, ...] = Field(default=(), description="ids of known exploited findings")

    @property
    def released(self) -> bool:
        """Whether the image is released and may be used."""
        return self.signed and self.verdict == "passed"

    @classmethod
    def of(cls, image: FleetImage) -> Self:
        """Return this part of what the inventory knows of an image."""
        last = image.last(Gate.RELEASE)
        return cls(
            signed=image.signed,
            verdict=_verdict(last),
            exploited=tuple(f.id for f in image.scan.exploited) if image.scan else (),
        )

    def describe_changes(self, before: EvidenceSummary) -> Iterator[str]:
        """Yield what changed since `before`, in sentences."""
        if self.verdict != before.verdict:
            yield f"the last release verdict about it is {self.verdict} now"
        if self.signed is not before.signed:
            yield f"it is {'signed' if self.signed else 'not signed'} now"
        if bool(self.exploited) is not bool(before.exploited):
            yield (
                f"it has known exploited findings now: {', '.join(self.exploited)}"
                if self.exploited
                else ("it no longer has a known exploited finding")
            )


class PastDeployment(Model):
    """A deployment by a record that the execution tier signed."""

    environment: str
    application: str
    digest: Digest
    proxy: Digest | None = Field(default=None, description="the image of its reverse proxy")
    at: AwareDatetime
    address: str = Field(default="", description="where it answers")


class RepositorySnapshot(Model):
    """All facts that a plan rests on."""

    images: tuple[FleetImage, ...] = Field(description="the inventory")
    members: tuple[Member, ...] = Field(default=(), description="every manifest of the repositories it is about")
    deployments: tuple[PastDeployment, ...] = ()
    proxies: dict[Digest, tuple[str, ...]] = Field(
        default_factory=dict,
        description="image that environments name for their reverse proxies → which; deployed or not yet",
    )
    statuses: dict[str, ImageStatus] = Field(
        default_factory=dict,
        description="image → its status; also for an image that is gone but has remains",
    )
    unreadable: dict[str, str] = Field(
        default_factory=dict, description="image that is gone → why its status cannot be read"
    )
    read_at: AwareDatetime = Field(description="the time of the snapshot")

    def find_image_status(self, ref: ImageRef) -> ImageStatus:
        """Return the status of an image: its blocks and holds."""
        return self.statuses.get(str(ref), ImageStatus())

    @property
    def digest(self) -> Digest:
        """The digest that identifies these facts, in whatever order they were read."""
        parts = [
            *sorted(each.model_dump_json() for each in (*self.images, *self.members, *self.deployments)),
            json.dumps({name: each.model_dump(mode="json") for name, each in sorted(self.statuses.items())}),
            json.dumps([self.unreadable, self.proxies], sort_keys=True),
        ]
        return digest_of(chr(10).join(parts).encode())

    @property
    def databases(self) -> tuple[str, ...]:
        """The digests of the vulnerability databases that the scans used."""
        return tuple(sorted({image.scan.database.digest for image in self.images if image.scan}))


def find_in_use(
    deployments: Iterable[PastDeployment], rollback: int
) -> tuple[dict[Digest, list[str]], dict[Digest, list[str]]]:
    """Return what should run, and what ran before it, in each environment: digest → environments.

    Earlier deployments of an application are counted by image: an image deployed twice counts once. The image of a
    reverse proxy counts with the last deployment of the image that it served.
    """
    running: dict[Digest, list[str]] = defaultdict(list)
    before: dict[Digest, list[str]] = defaultdict(list)
    for (environment, _), history in group_deployments(deployments).items():
        last: dict[Digest, PastDeployment] = {}
        for each in history:
            last.setdefault(each.digest, each)
        now, *earlier = last.values()
        for uses, each in [(running, now), *((before, each) for each in earlier[:rollback])]:
            uses[each.digest].append(environment)
            if each.proxy:
                uses[each.proxy].append(f"{environment}, as the reverse proxy of {each.application}")
    return dict(running), dict(before)


def group_deployments(deployments: Iterable[PastDeployment]) -> dict[tuple[str, str], list[PastDeployment]]:
    """Return the deployments of each application in each environment, last one first."""
    groups: dict[tuple[str, str], list[PastDeployment]] = defaultdict(list)
    for each in sorted(deployments, key=lambda d: (d.at, d.digest), reverse=True):
        groups[each.environment, each.application].append(each)
    return {place: groups[place] for place in sorted(groups)}
