"""BuildKit's record of a build, and its comparison with the reading of the Dockerfile."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from pydantic import Field

from supply_chain.development.dockerfile import IMAGE, Operations, ReaderModel, Target, check_target
from supply_chain.errors import BuildMaterialsDiffer, DockerfileRefused
from supply_chain.model.image import Digest
from supply_chain.text import truncate_lines

FRONTEND = "dockerfile.v0"
"""BuildKit's own frontend, which is part of the engine."""
FRONTEND_ARGUMENTS = ("source", "cmdline")
"""Arguments of a build whose frontend is an image (BuildKit's gateway)."""
MOST_DIFFERENCES = 5


class RecordedMaterial(ReaderModel):
    """An input that BuildKit resolved, as its provenance names it."""

    uri: str
    digest: Digest | None = Field(description="None for one without SHA-256")


class BuildRecord(ReaderModel):
    """The part of BuildKit's provenance of one build (`mode=max`) that the chain decides on."""

    frontend: str
    arguments: dict[str, str] = Field(description="the frontend's")
    materials: tuple[RecordedMaterial, ...]
    operations: Operations


@dataclass(frozen=True)
class Expected:
    """The inputs and commands that the build of one stage must have."""

    target: Target
    images: Mapping[str, str]
    """Image name as BuildKit reads it in the Dockerfile → its address by digest."""
    urls: Mapping[str, Digest]
    namespace: str
    """Prefix of the identifiers of cache mounts."""


def check_record(name: str, record: BuildRecord, expected: Expected) -> None:
    """Raise `BuildMaterialsDiffer` if BuildKit's record differs from the reading, in either direction."""
    differences = list(_differences(record, expected))
    if differences:
        raise BuildMaterialsDiffer(
            f"BuildKit's record of {name or 'the image'} differs from the reading of the Dockerfile:\n- "
            + "\n- ".join(truncate_lines(MOST_DIFFERENCES, differences))
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
    """Yield the refusal of a recorded command that no build may run, whatever the reading contains."""
    try:
        check_target("", Target(**dict(operations), base="", images=()), expected.namespace)
    except DockerfileRefused as error:
        yield str(error).partition("\n")[0]


def _compare(what: str, actual: Iterable[str], expected: Iterable[str]) -> Iterator[str]:
    actual, expected = set(actual), set(expected)
    for each in sorted(actual - expected):
        yield f"{what} {each[:300]} was taken in, and is not in the reading"
    for each in sorted(expected - actual):
        yield f"{what} {each[:300]} is in the reading, and was not taken in"


def _sources(operations: Operations, images: Mapping[str, str]) -> set[str]:
    """Return the identifiers of all sources; an image is identified by the address that BuildKit was given for it."""
    sources = set()
    for source in operations.sources:
        name = source.identifier.removeprefix(IMAGE)
        sources.add(f"{IMAGE}{images.get(name, name)}" if source.identifier.startswith(IMAGE) else source.identifier)
    return sources


def _images(materials: Iterable[RecordedMaterial]) -> set[str]:
    return {str(each.digest) for each in materials if each.uri.startswith("pkg:docker/")}


def _wanted_images(expected: Expected) -> set[str]:
    return {expected.images[name].rpartition("@")[2] for name in expected.target.images}
