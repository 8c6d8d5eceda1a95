"""Resolution of base images to digests: released bases that are not blocked, a profile's images, declared images."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

from supply_chain.concurrency import map_concurrently
from supply_chain.development.dockerfile import HUB, find_declared_image
from supply_chain.errors import BaseMissing, DockerfileRefused
from supply_chain.evidence.image_status import LifecycleDecision, compute_image_status, read_blocks, read_image_status
from supply_chain.evidence.statement import SIGNATURE, SUMMARY
from supply_chain.evidence.store import EvidenceStore
from supply_chain.evidence.summary import is_released
from supply_chain.model.image import DIGEST, Digest, ImageRef, Material
from supply_chain.model.registry_ports import ImageLister
from supply_chain.model.tier import BASES, CURATED, EVIDENCE, OFFERED, VERDICTS, TierName, is_base_repository
from supply_chain.policy.reading import Layers, begins_with, find_all_bases, is_vouched_for

REGISTRIES = (
    "docker.io", "gcr.io", "ghcr.io", "mcr.microsoft.com", "public.ecr.aws", "quay.io", "registry.access.redhat.com",
    "registry.k8s.io",
)  # fmt: skip
"""Public registries that answer requests themselves, and whose customers cannot redirect a client elsewhere."""
OWN = (OFFERED, CURATED, EVIDENCE, VERDICTS)
"""Prefixes of this chain's own image names. On a public registry anyone can own them; they are not requested there."""
PINNED = re.compile(rf"^(?P<name>[^@$\s]+)@(?P<digest>{DIGEST})$")


MOST_COMPARED = 50
"""Maximum images of each base whose layers an image may begin with."""


def suggest_base(name: str, bases: Collection[str]) -> str:
    """Return a question that names the base most similar to a repository; empty if none is similar."""
    like = get_close_matches(name.removeprefix(f"{BASES}/"), bases, 1)
    return f"; did you mean {BASES}/{like[0]}?" if like else ""


@dataclass(frozen=True)
class ImageNames:
    """Decides by its name what an image in a Dockerfile is, without asking any registry; see `CuratedBases`."""

    host: str
    instead: Mapping[str, str]
    registries: Collection[str]

    def find(self, reference: str, declared: Collection[str] = ()) -> tuple[str, str | None]:
        """Return an image's name for people, and its address; without an address it is a curated base.

        Raises `DockerfileRefused` for an image that no build may take in.
        """
        name = _shorten(reference, self.host)
        if name in self.instead:
            return name, self.instead[name]
        if is_base_repository(name):
            if ":" in name.partition("@")[0]:
                raise DockerfileRefused(
                    f"The Dockerfile takes in {reference}: a base of this chain is named by no tag.\n"
                    "Name it without a tag, for the newest, or by its digest alone."
                )
            return name, None
        if reference.startswith(f"{self.host}/") or name.startswith(OWN):
            raise DockerfileRefused(
                f"The Dockerfile takes in {reference}, an image of this chain that is not below `curated/base/`.\n"
                "Build on a base (`curated/base/…`), or copy what you need of it into the source."
            )
        registry = reference.partition("/")[0]
        if registry not in self.registries:
            raise DockerfileRefused(
                f"The Dockerfile takes in {reference}: builds take no images from the registry {registry}.\n"
                "Use a curated base, or let an operator add the registry to the workbench (`registries`)."
            )
        address = find_declared_image(reference, declared)
        if address is None:
            raise _undeclared_error(reference)
        return reference, address


@dataclass(frozen=True)
class CuratedBases:
    """Resolves the images that a Dockerfile names.

    `instead` maps the name of a curated base to an upstream image by digest, as a profile may configure. `read_config`
    reads the configuration of an image, given by its address, for a platform. `read_manifests` returns the layers of
    each of its manifests, and raises `DockerfileRefused` for an image that a build may not take in. `layers` returns a
    function for those of a base, and `list_decided` the bases that were ever blocked. Declared images are requested
    only from `registries`: the engine follows any redirect of a registry, so a developer's own registry could send it
    into any network.
    """

    catalogue: ImageLister
    evidence: EvidenceStore
    host: str
    instead: Mapping[str, str]
    read_config: Callable[[str, str], bytes]
    read_manifests: Callable[[str, str | None], Mapping[Digest, tuple[Digest, ...]]]
    layers: Callable[[], Layers]
    list_decided: Callable[[], Iterable[ImageRef]]
    registries: Collection[str]
    bases: Collection[str] = ()
    """The names of the project's bases, for messages; empty: not known."""

    def resolve(self, reference: str, declared: Collection[str] = ()) -> tuple[str, Material]:
        """See `development.plan.Bases`."""
        name, address = ImageNames(self.host, self.instead, self.registries).find(reference, declared)
        return self.find_released(name) if address is None else self._resolve_pinned(name, address)

    def config(self, address: str, platform: str) -> bytes:
        """See `development.plan.Bases`."""
        return self.read_config(address, platform)

    def check(self, addresses: Collection[str], platform: str | None) -> None:
        """See `development.plan.Bases`. Whether the digest in an address is blocked was asked by `resolve`."""
        manifests = map_concurrently(lambda address: self.read_manifests(address, platform), tuple(addresses))
        foreign = {
            address: digests
            for address, digests in zip(addresses, manifests, strict=True)
            if not address.startswith(f"{self.host}/")
        }
        inside = [
            (address, digest) for address, each in foreign.items() for digest in each if not address.endswith(digest)
        ]
        map_concurrently(lambda each: self._refuse_blocked(*each), inside)
        if foreign:
            self._refuse_layers({address: manifests.values() for address, manifests in foreign.items()})

    def count_layers(self, layers: Sequence[Digest]) -> int:
        """Return how many of an image's first layers are those of a released base of this project; 0 if none.

        The newest `MOST_COMPARED` of each base count, and none that is blocked.
        """
        read, most = self.layers(), 0
        for name in self.bases:
            for ref in self.catalogue.list_newest_first(f"{BASES}/{name}")[:MOST_COMPARED]:
                below = read(ref)
                if len(below) > most and begins_with(tuple(layers), below) and self._is_usable(ref):
                    most = len(below)
        return most

    def find_released(self, name: str) -> tuple[str, Material]:
        """Return the newest base of this name that is released and not blocked, or the one with the digest in `name`.

        Raises `BaseMissing` if there is none.
        """
        repository, at, digest = name.partition("@")
        if at:
            self._refuse_blocked(name, digest)
        for ref in self.catalogue.list_newest_first(repository):
            if (not at or ref.digest == digest) and self._is_usable(ref):
                return f"{self.host}/{ref}", Material(name=name, digest=ref.digest, curated=True)
        raise BaseMissing(self._explain_missing(name, repository))

    def _explain_missing(self, name: str, repository: str) -> str:
        newest = next(iter(self.catalogue.list_newest_first(repository)), None)
        for base, block in self._blocks(newest) if newest else ():
            which = "is" if base == newest else f"is built on {base}, which is"
            return (
                f"There is no curated image {name} that may be used: the newest, {newest}, {which} blocked {block}\n"
                "Use a newer base, or ask for `cscm unblock`."
            )
        called = repository.removeprefix(f"{BASES}/")
        if self.bases and called not in self.bases:
            return (
                f"There is no curated image {name}{suggest_base(repository, self.bases) or '.'}\n"
                f"Use a base of this project ({', '.join(self.bases)}), or name an upstream image by digest for it in "
                "the profile."
            )
        return (
            f"There is no curated image {name}.\n"
            f"Build it with `cscm bases {called}`, or name an upstream image by digest for it in the profile."
        )

    def _resolve_pinned(self, name: str, address: str) -> tuple[str, Material]:
        match = PINNED.match(address)
        if not match:
            raise BaseMissing(f"{address} does not name {name} by digest.\nWrite image@sha256:… in the profile.")
        self._refuse_blocked(name, match["digest"])
        return address, Material(name=name, digest=match["digest"], curated=False)

    def _refuse_blocked(self, name: str, digest: Digest) -> None:
        """Raise `BaseMissing` if the digest is blocked, whatever its name is."""
        if block := compute_image_status(read_blocks(digest, self.evidence).evidence).block:
            raise BaseMissing(
                f"{name} may not be used: {digest} is blocked {block}\nUse another base, or ask for `cscm unblock`."
            )

    def _refuse_layers(self, images: Mapping[str, Iterable[tuple[Digest, ...]]]) -> None:
        """Raise `BaseMissing` if an image from another registry begins with the layers of a blocked base.

        `images` are the layers of each manifest by address.
        """
        read = self.layers()
        for base in self.list_decided():
            below = read(base) if is_vouched_for(base, self.evidence) else ()
            for address, manifests in images.items():
                if any(begins_with(layers, below) for layers in manifests):
                    self._refuse_blocked(f"{address}, which has the layers of {base},", base.digest)

    def _is_usable(self, ref: ImageRef) -> bool:
        own = self.evidence.read_verified(ref, TierName.CURATION, SUMMARY, SIGNATURE)
        return is_released(own, ref.digest, self.evidence.now()) and not any(self._blocks(ref))

    def _blocks(self, ref: ImageRef) -> Iterator[tuple[ImageRef, LifecycleDecision]]:
        """Yield the blocks of a base and of the bases that it is built on.

        A block counts at once, before a rescan has judged the bases that are built on a blocked one.
        """
        for base in find_all_bases([ref], (), self.evidence):
            if block := compute_image_status(read_image_status(base, self.evidence).evidence).block:
                yield base, block


def _shorten(reference: str, host: str) -> str:
    """Return an image's name as people write it for our own bases: without host and without `:latest`."""
    name = reference.removeprefix(f"{host}/").removeprefix(HUB)
    return name if "@" in name else name.removesuffix(":latest")


def _undeclared_error(reference: str) -> DockerfileRefused:
    pinned = "@" in reference
    example = reference if pinned else f"{reference}@sha256:…"
    digest = "" if pinned else f"; `crane digest {reference}` prints the digest"
    return DockerfileRefused(
        f"The Dockerfile takes in {reference}, which is neither a curated base nor declared.\n"
        f"Use a curated base, or write into supply-chain.yaml, under build.fetch.images: {example}{digest}."
    )
