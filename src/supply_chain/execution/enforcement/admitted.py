"""The images that the deploy gate admits to a namespace: the parameters of its admission policy.

They follow the published verdicts. Writers need no lock: each reads the version of the parameters first and the
verdict after that, and writes only if the parameters still have this version. So a verdict that changed meanwhile is
read again.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Protocol, Self

from pydantic import Field

from supply_chain.concurrency import map_concurrently
from supply_chain.errors import ClusterUnavailable, VerdictMissing
from supply_chain.evidence.published import CurrentVerdict, read_current_verdict
from supply_chain.evidence.store import EvidenceStore
from supply_chain.execution.enforcement.policies import (
    COLLECTOR,
    LAPSED_IMAGES,
    PROGRAM,
    REPOSITORIES,
    SHARD,
    EnforcedNamespace,
)
from supply_chain.execution.isolation import collector
from supply_chain.model.image import Digest, ImageRef, Model
from supply_chain.model.registry_ports import ManifestLister
from supply_chain.model.tier import CURATED, Gate, name_curated_repository, name_verdict_repository

OTHER_KEYS = ("environment", REPOSITORIES, LAPSED_IMAGES, COLLECTOR, PROGRAM)
"""Keys of the ConfigMap whose values are not lists of admitted images."""
ENDED = "verdict.ended"
"""The code in `tolerated_refusals` for an admission that expired."""
ATTEMPTS = 10
"""How often a write is tried while others write."""
LONGEST = 200
"""Characters of a note."""


class AdmittedImages(Model):
    """The images that may run in a namespace."""

    environment: str
    repositories: str = Field(description="how every repository begins: the registry and the prefix of curated images")
    images: dict[str, dict[Digest, str]] = Field(
        description="application → admitted digest → empty, or why its verdict has lapsed"
    )
    collector: str = Field(default="", description="the image that may read isolated applications; empty: none")
    program: str = Field(default="", description="the command with which it may")

    def explain(self, image: str) -> str:
        """Return why an image, as a pod names it, is not admitted; empty if it is."""
        repository, _, digest = image.partition("@")
        if not digest:
            return "it is not named by its digest"
        if not repository.startswith(self.repositories):
            return "it is not curated"
        admitted = self.images.get(repository.removeprefix(self.repositories), {})
        return "" if digest in admitted else "the deploy gate does not admit it"

    def with_image(self, ref: ImageRef, note: str | None) -> AdmittedImages:
        """Return the parameters with an image that is admitted, with a note, or without it if the note is None."""
        others = {key: each for key, each in self.images.get(ref.application, {}).items() if key != ref.digest}
        ours = others if note is None else {**others, ref.digest: note}
        images = {key: each for key, each in self.images.items() if key != ref.application}
        return self.model_copy(update={"images": {**images, **({ref.application: ours} if ours else {})}})

    def with_collector(self, image: str) -> AdmittedImages:
        """Return the parameters with the image of the collector, or with none if it is empty."""
        return self.model_copy(update={"collector": image, "program": "\n".join(collector.COMMAND) if image else ""})

    @property
    def lapsed(self) -> dict[str, str]:
        """The images whose verdict has lapsed, and why."""
        return {self._name(*each): note for *each, note in self._each() if note}

    @property
    def all(self) -> frozenset[str]:
        """Every admitted image, as a pod names it."""
        return frozenset(self._name(*each) for *each, _ in self._each())

    @property
    def data(self) -> dict[str, str]:
        """The content of the ConfigMap that the policies read."""
        content = {"environment": self.environment, REPOSITORIES: self.repositories}
        if self.collector:
            content |= {COLLECTOR: self.collector, PROGRAM: self.program}
        lines: dict[str, list[str]] = {}
        for application, digest, note in sorted(self._each()):
            line = f"{digest.removeprefix('sha256:')} {application}"
            lines.setdefault(line[:SHARD], []).append(line)
            if note:
                lines.setdefault(LAPSED_IMAGES, []).append(f"{line} {note}")
        return content | {key: "\n".join(["", *each, ""]) for key, each in lines.items()}

    @classmethod
    def of_data(cls, data: Mapping[str, str]) -> Self:
        """Return the images that the content of a ConfigMap admits; raise ValueError for what `data` did not write."""
        notes = dict(_split(line) for line in data.get(LAPSED_IMAGES, "").split("\n") if line)
        images: dict[str, dict[Digest, str]] = {}
        for key, text in data.items():
            for line in text.split("\n") if key not in OTHER_KEYS else ():
                if line:
                    digest, _, application = line.partition(" ")
                    images.setdefault(application, {})[f"sha256:{digest}"] = notes.get(line, "")
        content = {"environment": data.get("environment"), "repositories": data.get(REPOSITORIES), "images": images}
        return cls.model_validate({**content, **{key: data[key] for key in (COLLECTOR, PROGRAM) if key in data}})

    def _each(self) -> Iterator[tuple[str, Digest, str]]:
        """Yield application, digest and note of each image."""
        for application, digests in self.images.items():
            yield from ((application, digest, note) for digest, note in digests.items())

    def _name(self, application: str, digest: Digest) -> str:
        return f"{self.repositories}{application}@{digest}"


def _split(line: str) -> tuple[str, str]:
    """Return the image and the note in a line about a verdict that has lapsed."""
    digest, application, note = line.split(" ", 2)
    return f"{digest} {application}", note


class Parameters(Protocol):
    """The parameters that a cluster has."""

    def read(self, name: str) -> tuple[AdmittedImages, str] | None:
        """Return the parameters with a name and their version; None if there are none."""

    def write(self, name: str, admitted: AdmittedImages, version: str) -> bool:
        """Write the parameters with a name; return False if they do not have this version any more.

        An empty version makes them.
        """


@dataclass(frozen=True)
class AdmissionPorts:
    """What decides which images a namespace admits, and where that is written."""

    registry: str
    """The registry's host, as pods name it."""
    verdicts: EvidenceStore
    """The published verdicts."""
    listing: ManifestLister
    deployed: Callable[[str], Collection[ImageRef]]
    """Returns the images that should run in an environment by the signed deployment records."""
    parameters: Parameters
    collector: Callable[[str], str] = lambda _: ""
    """Returns the collector, given as a curated image, as pods name it; empty if it may not be used."""

    @property
    def begin(self) -> str:
        """How each repository of a curated image begins, as pods name it."""
        return f"{self.registry}/{CURATED}"


def publish_image(ref: ImageRef, place: EnforcedNamespace, ports: AdmissionPorts) -> AdmittedImages:
    """Admit an image to a namespace, or no longer, by its current verdict; return the parameters.

    Raises the errors of `read_current_verdict`, of reading deployment records, and of the cluster.
    """

    def change(before: AdmittedImages) -> AdmittedImages:
        after = before.with_image(ref, _note(ref, place, ports, ports.deployed))
        return after.with_collector(ports.collector(place.collector)) if place.collector.endswith(ref.digest) else after

    return _write(place, ports, change)


def publish_all(place: EnforcedNamespace, ports: AdmissionPorts) -> AdmittedImages:
    """Admit to a namespace exactly the images that verdicts admit, and return the parameters; raise as above."""
    return _write(place, ports, lambda _before: read_admitted(place, ports))


def read_admitted(place: EnforcedNamespace, ports: AdmissionPorts) -> AdmittedImages:
    """Return the images that the published verdicts admit to a namespace; raise as above."""
    prefix = name_verdict_repository(Gate.DEPLOY, "", place.environment)
    refs = {
        ImageRef(repository=name_curated_repository(repository.removeprefix(prefix)), digest=each.subject)
        for repository in ports.listing.repositories(prefix)
        for each in ports.listing.images(repository)
        if each.subject
    }
    ordered, deployed = sorted(refs, key=str), cache(ports.deployed)
    notes = map_concurrently(lambda ref: _note(ref, place, ports, deployed), ordered)
    images: dict[str, dict[Digest, str]] = {}
    for ref, note in zip(ordered, notes, strict=True):
        if note is not None:
            images.setdefault(ref.application, {})[ref.digest] = note
    admitted = AdmittedImages(environment=place.environment, repositories=ports.begin, images=images)
    return admitted.with_collector(ports.collector(place.collector)) if place.collector else admitted


def describe_admission(
    current: CurrentVerdict, tolerated: Collection[str], is_deployed: Callable[[], bool]
) -> str | None:
    """Return an empty note for an image that is admitted, a note for one whose verdict lapsed, and None for others.

    A verdict lapses when it refuses for `tolerated` reasons only: time passed, and nobody decided against the image. An
    admission that expired counts as a refusal for `verdict.ended`. The image stays admitted where it should run, so
    that its pods can move to another node.
    """
    if current.admits:
        return ""
    verdict, own = current.verdict, current.verdict.cscm
    codes = [ENDED] if verdict.passed else sorted(verdict.codes)
    if not codes or not set(codes) <= set(tolerated) or not is_deployed():
        return None
    if verdict.passed:
        return f"expired {own.expires:%F %T} UTC"
    return f"{', '.join(codes)} since {verdict.time_verified:%F %T} UTC"[:LONGEST]


def _note(
    ref: ImageRef, place: EnforcedNamespace, ports: AdmissionPorts, deployed: Callable[[str], Collection[ImageRef]]
) -> str | None:
    try:
        current = read_current_verdict(ports.verdicts, ref, Gate.DEPLOY, place.environment)
    except VerdictMissing:
        return None
    curated = ref.with_repository(name_curated_repository(ref.application))
    return describe_admission(current, place.tolerated_refusals, lambda: curated in deployed(place.environment))


def _write(
    place: EnforcedNamespace, ports: AdmissionPorts, change: Callable[[AdmittedImages], AdmittedImages]
) -> AdmittedImages:
    """Change the parameters; missing ones, and those of others, are made with all that verdicts admit."""
    for _ in range(ATTEMPTS):
        stored = ports.parameters.read(place.parameters)
        before, version = stored or (None, "")
        ours = before and (before.environment, before.repositories) == (place.environment, ports.begin)
        after = change(before) if before and ours else read_admitted(place, ports)
        if after == before or ports.parameters.write(place.parameters, after, version):
            return after
    raise ClusterUnavailable(
        f"Others changed the admitted images of {place.namespace} {ATTEMPTS} times meanwhile.\nThe step is retried."
    )


def describe_difference(expected: AdmittedImages, stored: AdmittedImages) -> str:
    """Return what parameters admit too much and too little; empty if nothing."""
    more, less = len(stored.all - expected.all), len(expected.all - stored.all)
    parts = [f"{more} without an admission, such as {min(stored.all - expected.all)}"] if more else []
    parts += [f"not {less} that are admitted, such as {min(expected.all - stored.all)}"] if less else []
    if (expected.collector, expected.program) != (stored.collector, stored.program):
        parts.append(f"{stored.collector or 'none'} as the collector instead of {expected.collector or 'none'}")
    return " and ".join(parts)
