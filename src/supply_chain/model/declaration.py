"""The declaration of an application, `supply-chain.yaml`."""

from __future__ import annotations

import re
from enum import StrEnum
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    StringConstraints,
    TypeAdapter,
    field_validator,
    model_validator,
)

from supply_chain.errors import DeclarationInvalid
from supply_chain.model.documents import decode_document, parse_document, read_document
from supply_chain.model.image import DIGEST, IN_IMAGE, PATH, Digest, Model
from supply_chain.model.tier import BY_DIGEST, OF_PLANS

FILE = "supply-chain.yaml"
GUIDE = "docs/how-to/application.md"
"""The page that shows how to write it."""


def list_bases(project: Path) -> list[str]:
    """Return the names of the bases that a project declares, such as `python` for `curated/base/python`."""
    return sorted(path.parent.name for path in project.glob(f"bases/*/{FILE}"))


def _check_name(name: str) -> str:
    if name in (BY_DIGEST, OF_PLANS):
        raise ValueError(f"the name {name!r} is reserved for lifecycle decisions; choose another")
    return name


Name = Annotated[
    str, StringConstraints(pattern=rf"^{PATH}$", min_length=2, max_length=128), AfterValidator(_check_name)
]
Word = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9 ._@-]*$", max_length=128)]
Argument = Annotated[str, StringConstraints(pattern=r"^[^\x00]+$", max_length=4096)]
Command = Annotated[tuple[Argument, ...], Field(min_length=1, max_length=64)]

KERNEL = ("proc", "sys")
"""Directories of a container in which the kernel's files are, in place of the image's."""
LARGEST_INTEGER = 2**53 - 1
"""Largest integer that every reader of JSON takes exactly (RFC 8259, section 6)."""

UNITS = {"": 1, "kib": 1024, "mib": 1024**2, "gib": 1024**3}


def _bytes(value: Any) -> Any:
    """Convert a size such as `128MiB` to 134217728."""
    if not isinstance(value, str):
        return value
    match = re.fullmatch(r"([0-9]+)\s*(|KiB|MiB|GiB)", value, re.IGNORECASE)
    if not match:
        raise ValueError("write a size such as 128MiB")
    return int(match[1]) * UNITS[match[2].lower()]


Size = Annotated[
    int,
    BeforeValidator(_bytes),
    Field(ge=1024**2, le=LARGEST_INTEGER, json_schema_extra={"type": ["integer", "string"]}),
]
"""Size in bytes; written as a number or as `128MiB`."""


DURATIONS = {"": 1, "s": 1, "min": 60, "h": 3600, "d": 86400}


def _seconds(value: Any) -> Any:
    """Convert a duration such as `30min` to 1800."""
    if not isinstance(value, str):
        return value
    match = re.fullmatch(r"([0-9]{1,9})\s*(|s|min|h|d)", value)
    if not match:
        raise ValueError("write a duration such as 30min, 2h or 1d")
    return int(match[1]) * DURATIONS[match[2]]


Duration = Annotated[
    int, BeforeValidator(_seconds), Field(ge=1, le=90 * 86400, json_schema_extra={"type": ["integer", "string"]})
]
"""Duration in seconds; written as a number or as `30min`, `2h`, `1d`."""


def _check_relative(value: str) -> str:
    path = PurePosixPath(value)
    if path.is_absolute() or ".." in path.parts or not value.isprintable():
        raise ValueError("has to lie inside the application's directory")
    return value


def _check_absolute(value: str) -> str:
    path = PurePosixPath(value)
    if not path.is_absolute() or ".." in path.parts or len(path.parts) < 2 or not value.isprintable():
        raise ValueError("has to be an absolute path below /")
    if path.parts[1] in KERNEL:
        raise ValueError(f"has to be outside of {', '.join(f'/{each}' for each in KERNEL)}, which are the kernel's")
    return value


Variable = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", max_length=128)]
Setting = Annotated[str, StringConstraints(pattern=r"^[^\x00]*$", max_length=4096)]
Port = Annotated[int, Field(ge=1024, le=65535)]
Inside = Annotated[str, StringConstraints(min_length=1)]
Absolute = str
"""A path that `_check_absolute` accepts."""


class Classification(StrEnum):
    """How sensitive it is: `confidential` images run only from their encrypted copy."""

    PUBLIC = "public"
    INTERNAL = "internal"
    CONFIDENTIAL = "confidential"

    @property
    def rank(self) -> int:
        """The position in the order: a more sensitive one has a higher rank."""
        return tuple(Classification).index(self)

    def is_below(self, minimum: Classification | None) -> bool:
        """Return whether this is less sensitive than the minimum, if there is one."""
        return minimum is not None and self.rank < minimum.rank


PinnedImage = Annotated[
    str,
    StringConstraints(
        pattern=rf"^(?:(?:[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?(?::[0-9]{{1,5}})?/)?{PATH})(?::\w[\w.-]{{0,127}})?@{DIGEST}$",
        max_length=512,
    ),
]
"""An image by digest, with a tag if the Dockerfile names it by that tag."""
HttpsUrl = Annotated[
    str, StringConstraints(pattern=r"^https://[A-Za-z0-9.-]+(?::[0-9]{1,5})?/[!-~]*$", min_length=12, max_length=2048)
]


class Fetch(Model):
    """What a build may download besides curated bases. BuildKit refuses everything else."""

    images: tuple[PinnedImage, ...] = Field(
        default=(),
        max_length=32,
        description="upstream images by digest, such as docker.io/library/python:3.13@sha256:…; the Dockerfile gives "
        "the digest, or this tag",
    )
    urls: dict[HttpsUrl, Digest] = Field(
        default_factory=dict,
        max_length=64,
        description="https URLs that the Dockerfile adds, with their SHA-256: {'https://example.com/a.tgz': "
        "'sha256:…'}; ADD has to give the same checksum",
    )


class Build(Model):
    """How BuildKit builds the image from a Dockerfile."""

    context: Inside = Field(default=".", description="the build context, relative to the application's directory")
    dockerfile: Inside = Field(
        default="Dockerfile", description="the Dockerfile, relative to the application's directory"
    )
    platform: Literal["linux/amd64", "linux/arm64"] = Field(
        default="linux/amd64", description="the platform of the image"
    )
    timeout: int = Field(default=900, ge=10, le=7200, description="the longest time of a build, in seconds")
    max_size: Size = Field(
        default=1024**3, le=16 * 1024**3, description="the largest size of the unpacked image, in bytes"
    )
    fetch: Fetch = Fetch()

    _paths = field_validator("context", "dockerfile")(_check_relative)


class Test(Model):
    """The application's own tests, run in a stage of its build without a network."""

    __test__ = False

    stage: Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9._-]*$", max_length=128)] = Field(
        default="test", description="the stage of the Dockerfile that contains the tests"
    )
    command: Command = Field(description="the program that runs the tests, and its arguments, without a shell")
    report: Absolute | None = Field(
        default=None,
        description="the file to which the command writes its report: JUnit XML, TAP, or the output of `go test "
        "-json`; null: its output is the report",
    )
    timeout: int = Field(default=300, ge=5, le=3600, description="the longest time of the tests, in seconds")
    memory: Size | None = Field(
        default=None, description="the memory limit of the tests; null: that of the application"
    )

    @field_validator("report")
    @classmethod
    def _path(cls, value: str | None) -> str | None:
        return None if value is None else _check_absolute(value)


class Probe(Model):
    """The readiness check: an HTTP request that is answered with 2xx."""

    port: int = Field(ge=1024, le=65535, description="the port on which the application listens, on all addresses")
    path: Annotated[str, StringConstraints(pattern=r"^/[A-Za-z0-9/._~-]*$", max_length=256)] = Field(
        default="/", description="the path of the GET request"
    )
    start_timeout: int = Field(default=30, ge=1, le=600, description="the longest time until it is ready, in seconds")
    stop_timeout: int = Field(
        default=5, ge=1, le=60, description="the longest time from SIGTERM to its end, in seconds"
    )


class ContainerCommand(Model):
    """What a container runs instead, as in Kubernetes."""

    command: tuple[Argument, ...] = Field(default=(), max_length=64, description="in place of the entrypoint")
    args: tuple[Argument, ...] = Field(default=(), max_length=64, description="in place of the command")

    @model_validator(mode="after")
    def _check_content(self) -> Self:
        if not self.command and not self.args:
            raise ValueError("neither `command` nor `args`; what the image itself runs needs no entry")
        return self


class Runtime(Model):
    """The permissions and limits of the container; everything else is denied."""

    uid: int = Field(default=10001, ge=1, le=65535, description="the id of the user that it runs as; never 0")
    read_only_root: Literal[True] = Field(default=True, description="the files of its image cannot be changed")
    writable: tuple[Absolute, ...] = Field(
        default=(), max_length=16, description="paths that the application can write to; they are kept in memory"
    )
    capabilities: tuple[Literal["NET_BIND_SERVICE", "CHOWN", "SETUID", "SETGID", "DAC_OVERRIDE"], ...] = Field(
        default=(), description="the Linux capabilities that it keeps"
    )
    environment: dict[Variable, Setting] = Field(
        default_factory=dict,
        max_length=64,
        description="variables in every environment, never secrets; an environment can override them",
    )
    ports: tuple[Port, ...] = Field(
        default=(),
        max_length=16,
        description="further ports, which only its own environment can reach",
    )
    init: bool = Field(
        default=False,
        description="whether an init process forwards signals, for a program that does not react to SIGTERM",
    )
    memory: Size = Field(
        default=128 * 1024**2, description="its memory limit, in bytes; also written as 128MiB or 1GiB"
    )
    pids: int = Field(default=64, ge=1, le=4096, description="its largest number of processes and threads")
    cpu: float = Field(
        default=1.0,
        ge=0.01,
        le=64,
        description="the number of processors, such as 0.5; at most those of its host",
    )
    commands: tuple[ContainerCommand, ...] = Field(
        default=(),
        max_length=16,
        description="what manifests may let containers run, besides the image's own",
    )
    configuration_paths: tuple[Absolute, ...] = Field(
        default=(),
        max_length=16,
        description="where manifests may mount ConfigMaps and Secrets",
    )

    @field_validator("writable", "configuration_paths")
    @classmethod
    def _paths(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(_check_absolute(path) for path in value)


MOST_FINDINGS = 1_000_000
"""Largest limit of findings that is a number."""
Limit = Annotated[
    Annotated[int, Field(ge=0, le=MOST_FINDINGS)] | None,
    Field(description="the most accepted findings; null: any number"),
]


UnjudgedKind = Literal["archive", "database", "distribution"]
ImagePath = Annotated[str, StringConstraints(pattern=IN_IMAGE, min_length=2, max_length=1024)]
"""An absolute path in the image, or a directory followed by `/*`."""
Justification = Annotated[str, StringConstraints(pattern=r"^\S.*\S$", max_length=512)]


class Unjudged(Model):
    """Content of the image that no scanner judges and that the owner accepts."""

    what: UnjudgedKind = Field(
        description="archive: files in an archive; database: a second package database; distribution: a file that "
        "contradicts os-release, or an os-release that differs from the base's"
    )
    at: tuple[ImagePath, ...] = Field(
        min_length=1, max_length=256, description="paths as the gate reports them; /directory/* for all paths below it"
    )
    reason: Justification = Field(description="why this is acceptable; it is part of the evidence")


class Limits(Model):
    """The number of findings of each severity that the owner accepts. An image with more is refused."""

    critical: Limit = 0
    high: Limit = 0
    medium: Limit = 20
    low: Limit = None
    negligible: Limit = None
    unknown: Limit = Field(
        default=20,
        description="the most accepted findings without a published severity; null: any number",
    )
    unknown_distribution: bool = Field(
        default=False,
        description="whether the vulnerability database need not know the image's distribution, so that its packages "
        "are not judged",
    )
    unjudged: tuple[Unjudged, ...] = Field(
        default=(), max_length=64, description="accepted content that no scanner judges"
    )
    kev: Literal[0] = Field(default=0, description="known exploited vulnerabilities (KEV) are never accepted")
    scan_days: int = Field(default=7, ge=1, le=30, description="the days for which a scan is valid")


Place = Annotated[str, StringConstraints(pattern=r"^[^\x00:]+:[1-9][0-9]*$", max_length=1024)]
"""`file:line`, as a check reports it."""


class ReviewedFindings(Model):
    """Findings that a person reviewed and found harmless, in code that cannot be marked itself."""

    check: Literal["secrets", "source", "content"] = Field(description="the check that finds them")
    at: tuple[Place, ...] = Field(
        min_length=1,
        max_length=256,
        description="file:line, as the finding is reported; another line is another finding",
    )
    reason: Annotated[str, StringConstraints(pattern=r"^\S.*\S$", max_length=512)] = Field(
        description="why the findings are harmless; it is part of the evidence"
    )


class Common(Model):
    """Fields that every declaration has."""

    name: Name = Field(description="a repository name, such as hello or base/python")
    owner: Word = Field(description="the team that is responsible for it")
    classification: Classification = Classification.INTERNAL
    build: Build = Build()
    limits: Limits = Limits()
    reviewed: tuple[ReviewedFindings, ...] = Field(
        default=(), max_length=64, description="findings that count only as warnings"
    )


class Service(Common):
    """An application that runs and answers requests."""

    kind: Literal["service"] = Field(description="an application that runs")
    test: Test
    probe: Probe
    runtime: Runtime = Runtime()
    environments: Annotated[
        tuple[Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9-]*$")], ...], Field(max_length=16)
    ] = Field(default=("staging",), description="the environments in which it runs; the chain deploys to the first")


class Rootfs(Model):
    """A root filesystem made of Debian packages, available to the Dockerfile as `rootfs.tar`."""

    suite: Annotated[str, StringConstraints(pattern=r"^[a-z]+$")] = Field(
        default="bookworm", description="the code name of the Debian release"
    )
    packages: tuple[Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9+.-]+$", max_length=128)], ...] = Field(
        max_length=512, description="the packages in it; their dependencies are added"
    )


class Base(Common):
    """An image that others are built on: checked, curated and released, never deployed."""

    kind: Literal["base"] = Field(description="an image that others are built on")
    rootfs: Rootfs | None = None
    check: Command = Field(description="a command that has to succeed in the image; it replaces the probe")
    runtime: Runtime = Runtime()

    @property
    def environments(self) -> tuple[str, ...]:
        """Return no environment, because a base is never deployed."""
        return ()


Declaration = Annotated[Service | Base, Field(discriminator="kind")]
DECLARATION: TypeAdapter[Service | Base] = TypeAdapter(Declaration)


def read_declaration(directory: Path) -> Service | Base:
    """Read the declaration in an application's directory; raise `DeclarationInvalid` with what is wrong and where."""
    if not _is_directory(directory):
        raise DeclarationInvalid(f"{directory} is not a directory.\nName the directory that holds {FILE}.")
    _check_inside(directory, FILE)
    declaration = read_document(directory / FILE, DECLARATION, GUIDE)
    _check_inside(directory, declaration.build.context)
    _check_inside(directory, declaration.build.dockerfile)
    return declaration


def parse_declaration(content: bytes, name: str) -> Service | Base:
    """Parse `content` as a declaration; errors call it `name`. Raise `DeclarationInvalid`."""
    return parse_document(decode_document(content, name), DECLARATION, name, GUIDE)


def _check_inside(directory: Path, declared: str) -> None:
    path = _resolve(directory / declared)
    if not path.is_relative_to(directory.resolve()):
        raise DeclarationInvalid(
            f"{path} leaves the application's directory.\nKeep {FILE}, the context and the Dockerfile inside of it."
        )


def _is_directory(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # the name is too long, or a directory is not accessible
        return False


def _resolve(path: Path) -> Path:
    try:
        return path.resolve()
    except (OSError, RuntimeError) as error:
        raise DeclarationInvalid(f"{path} leads nowhere: {error}\nRemove links that lead to themselves.") from error


def make_json_schema() -> dict[str, Any]:
    """Return the JSON Schema of `supply-chain.yaml`, for editors."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": FILE,
        **DECLARATION.json_schema(),
    }
