"""What BuildKit recorded about a build, and whether that is what the Dockerfile was read to ask for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from pydantic import Field

from supply_chain.development.dockerfile import IMAGE, Operations, Read, Target, check_target
from supply_chain.errors import BuildMaterialsDiffer, DockerfileRefused
from supply_chain.model.image import Digest
from supply_chain.text import first_of

FRONTEND = "dockerfile.v0"
"""BuildKit's own frontend, part of the engine."""
FRONTEND_ARGUMENTS = ("source", "cmdline")
"""What a build has that an image served as the frontend of (BuildKit's gateway)."""
SHOWN = 5


class RecordedMaterial(Read):
    """An input that BuildKit resolved, as its provenance names it."""

    uri: str
    digest: Digest | None = Field(description="None for one without SHA-256")


class BuildRecord(Read):
    """BuildKit's own provenance of one build, `mode=max`, as far as the chain decides on it."""

    frontend: str
    arguments: dict[str, str] = Field(description="the frontend's")
    materials: tuple[RecordedMaterial, ...]
    operations: Operations


@dataclass(frozen=True)
class Expected:
    """What a build of one stage is to take in and run."""

    target: Target
    images: Mapping[str, str]
    """Image, as BuildKit reads it in the Dockerfile → its address, by digest."""
    urls: Mapping[str, Digest]
    namespace: str
    """How the identifiers of cache mounts begin."""


def check_record(name: str, record: BuildRecord, expected: Expected) -> None:
    """Raise `BuildMaterialsDiffer` where BuildKit's record differs from the reading, in either direction."""
    differences = list(_differences(record, expected))
    if differences:
        raise BuildMaterialsDiffer(
            f"BuildKit's record of {name or 'the image'} differs from the reading of the Dockerfile:\n- "
            + "\n- ".join(first_of(SHOWN, differences))
            + "\nThe image is not used. Write the Dockerfile more plainly, and report this with its text."
        )


def _differences(record: BuildRecord, expected: Expected) -> Iterator[str]:
    if record.frontend != FRONTEND or any(key in record.arguments for key in FRONTEND_ARGUMENTS):
        yield f"the frontend was {record.arguments.get('source', record.frontend)!r}, not BuildKit's own"
    yield from _compare("source", _sources(record.operations, {}), _sources(expected.target, expected.images))
    yield from _compare("cache mount", record.operations.caches, expected.target.caches)
    yield from _compare("image", _images(record.materials), _wanted_images(expected))
    fetched = {each.uri for each in record.materials if not each.uri.startswith("pkg:docker/")}
    yield from _compare("material", fetched, set())
    for source in record.operations.sources:
        if source.identifier in expected.urls:
            checksum = source.attributes.get("http.checksum")
            if checksum != expected.urls[source.identifier]:
                yield f"{source.identifier} was taken in with the checksum {checksum}"
    yield from _commands(record.operations, expected)


def _commands(operations: Operations, expected: Expected) -> Iterator[str]:
    """What no command may do, whatever the reading said."""
    try:
        check_target("", Target(**dict(operations), base="", images=()), expected.namespace)
    except DockerfileRefused as error:
        yield str(error).partition("\n")[0]


def _compare(what: str, found: Iterable[str], wanted: Iterable[str]) -> Iterator[str]:
    found, wanted = set(found), set(wanted)
    for each in sorted(found - wanted):
        yield f"{what} {each[:300]} was taken in, and is not in the reading"
    for each in sorted(wanted - found):
        yield f"{what} {each[:300]} is in the reading, and was not taken in"


def _sources(operations: Operations, images: Mapping[str, str]) -> set[str]:
    """The identifiers of all sources, images by the addresses that BuildKit was told to take."""
    found = set()
    for source in operations.sources:
        name = source.identifier.removeprefix(IMAGE)
        found.add(f"{IMAGE}{images.get(name, name)}" if source.identifier.startswith(IMAGE) else source.identifier)
    return found


def _images(materials: Iterable[RecordedMaterial]) -> set[str]:
    return {str(each.digest) for each in materials if each.uri.startswith("pkg:docker/")}


def _wanted_images(expected: Expected) -> set[str]:
    return {expected.images[name].rpartition("@")[2] for name in expected.target.images}
