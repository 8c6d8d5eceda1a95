"""The inputs of a build: BuildKit's reading of the Dockerfile, the resolved images and the declared URLs."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from supply_chain.concurrency import map_concurrently
from supply_chain.development.dockerfile import (
    DockerfileReader,
    Reading,
    SourceOperation,
    check_directives,
    check_frontend,
    check_target,
    check_urls,
    list_image_references,
)
from supply_chain.development.record import Expected
from supply_chain.errors import DockerfileRefused
from supply_chain.model.declaration import Base, Service
from supply_chain.model.image import Digest, Material, Source

T = TypeVar("T")

ESCAPE = re.compile(rb"\\u00([0-7][0-9a-fA-F])")
ROUNDS = 4
"""How often the Dockerfile is read at most: resolved images can have triggers (ONBUILD) that name more images."""


class Bases(Protocol):
    """Resolves images and reads their configurations."""

    def resolve(self, reference: str, declared: Collection[str]) -> tuple[str, Material]:
        """Return the address by digest, and the material, of the image that BuildKit calls `reference`.

        Raises `BaseMissing` if the image is not available, and `DockerfileRefused` if it is neither a curated base nor
        one of the `declared` images.
        """

    def config(self, address: str, platform: str) -> bytes:
        """Return the configuration of the image at an address (OCI image 1.1, "Image Configuration")."""

    def check(self, addresses: Collection[str], platform: str | None) -> None:
        """Raise `DockerfileRefused` if an engine would request parts of an image elsewhere than at its registry.

        Only the images for the platform count; without a platform, those for all.
        """


@dataclass(frozen=True)
class Plan:
    """Everything that a build may take in, by digest."""

    reading: Reading
    images: Mapping[str, tuple[str, Material]]
    """Image name as BuildKit reads it → its address and its material."""
    urls: Mapping[str, Digest]
    namespace: str
    unpacks: bool
    """Whether the build may unpack archives: it has an ADD, or may have a trigger with one.

    True if a stage takes an uncurated image for another platform, because the triggers of that one are not read.
    """

    @property
    def addresses(self) -> dict[str, str]:
        """Image name as BuildKit reads it → its address by digest."""
        return {name: address for name, (address, _) in self.images.items()}

    @property
    def materials(self) -> tuple[Material, ...]:
        """The images, each once, and the files by their URLs."""
        images = dict.fromkeys(material for _, material in self.images.values())
        files = (Material(name=url, digest=digest, curated=False) for url, digest in sorted(self.urls.items()))
        return (*images, *files)

    @property
    def uncurated(self) -> tuple[str, ...]:
        """Names of the images that are not curated bases."""
        return tuple(dict.fromkeys(each.name for _, each in self.images.values() if not each.curated))

    @property
    def base(self) -> Material | None:
        """The image that the last stage is built on; None for scratch."""
        name = self.reading.targets[""].base
        return self.images[name][1] if name else None

    @property
    def downloads(self) -> tuple[SourceOperation, ...]:
        """The URLs that the Dockerfile adds, each once."""
        sources = {each.identifier: each for target in self.reading.targets.values() for each in target.sources}
        return tuple(each for name, each in sorted(sources.items()) if name in self.urls)

    def make_expected(self, target: str) -> Expected:
        """Return what BuildKit's record of one target must contain."""
        return Expected(self.reading.targets[target], self.addresses, self.urls, self.namespace)


def plan_build(
    content: bytes,
    declaration: Service | Base,
    source: Source,
    namespace: str,
    reader: DockerfileReader,
    bases: Bases,
) -> Plan:
    """Read a Dockerfile for the image and for its test stage, and resolve what both need.

    `namespace` is the prefix of the identifiers of cache mounts, the same as in the build. Raises `DockerfileRefused`,
    `BuildFailed`, `BaseMissing` or `DeclarationInvalid`, before anything is built.
    """
    declared, platform = declaration.build.fetch.images, declaration.build.platform
    inputs = read_inputs(
        content,
        declaration,
        source,
        namespace,
        reader,
        lambda name: bases.resolve(name, declared),
        lambda base: bases.config(base[0], platform),
    )
    chosen = any(stage.platform for stage in inputs.reading.stages)  # FROM --platform takes an image for another one
    addresses = sorted({address for address, _ in inputs.images.values()})
    bases.check(addresses, None if chosen else platform)
    unread = chosen and not all(material.curated for _, material in inputs.images.values())
    return Plan(inputs.reading, inputs.images, inputs.urls, namespace, unread or _may_unpack(inputs))


def _may_unpack(inputs: Inputs[T]) -> bool:
    """Return whether an instruction may unpack archives: an ADD, or the trigger (ONBUILD) of a stage or an image."""
    return any(each.name in ("ADD", "ONBUILD") for each in inputs.reading.instructions) or any(
        b"onbuild" in _without_escapes(config).lower() for config in inputs.configs.values()
    )


def _without_escapes(content: bytes) -> bytes:
    """Return a JSON document with the characters of ASCII that it escapes, such as u as `\\u0075`, as themselves."""
    return ESCAPE.sub(lambda match: bytes([int(match[1], 16)]), content)


@dataclass(frozen=True)
class Inputs(Generic[T]):
    """What a Dockerfile takes in."""

    reading: Reading
    images: Mapping[str, T]
    """Image name as BuildKit reads it → the image, resolved."""
    configs: Mapping[str, bytes]
    """Image name as BuildKit reads it → its configuration."""
    urls: Mapping[str, Digest]


def read_inputs(
    content: bytes,
    declaration: Service | Base,
    source: Source,
    namespace: str,
    reader: DockerfileReader,
    resolve: Callable[[str], T],
    config: Callable[[T], bytes],
) -> Inputs[T]:
    """Read a Dockerfile until every image that it names is resolved; raise as `plan_build`.

    `resolve` resolves the name of an image as BuildKit reads it; `config` returns the configuration of the image.
    """
    targets = ("", declaration.test.stage) if isinstance(declaration, Service) else ("",)
    arguments = {"SOURCE_DATE_EPOCH": str(source.committed), "BUILDKIT_CACHE_MOUNT_NS": namespace}
    images: dict[str, T] = {}
    configs: dict[str, bytes] = {}
    check_directives(content)
    for _ in range(ROUNDS):
        reading = reader.read(content, targets, declaration.build.platform, arguments, namespace, configs)
        check_frontend(reading)
        for name in targets:
            check_target(name, reading.targets[name], namespace)
        new = [name for name in list_image_references(reading.targets.values()) if name not in images]
        if not new:
            break
        resolved = map_concurrently(resolve, new)
        images.update(zip(new, resolved, strict=True))
        configs.update(zip(new, map_concurrently(config, resolved), strict=True))
    else:
        raise DockerfileRefused(
            f"The images that the Dockerfile names have triggers that name more, {ROUNDS} times over.\n"
            "Build on an image without ONBUILD."
        )
    sources = [source for target in reading.targets.values() for source in target.sources]
    return Inputs(reading, images, configs, check_urls(sources, declaration.build.fetch.urls))
