"""What a Dockerfile asks of BuildKit, as BuildKit's own code reads it, and the rules that refuse some of it."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Protocol
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field

from supply_chain.errors import BuildFailed, DeclarationInvalid, DockerfileRefused
from supply_chain.model.image import DIGEST, Digest

IMAGE = "docker-image://"
CONTEXT = "local://context"
"""How BuildKit identifies sources: the prefix of an image, and the build context."""
HUB = "docker.io/"
CACHE_ID = re.compile(r"[A-Za-z0-9._/-]+")
FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+~@=-]{0,254}")
"""Plain name of a file, of at most 255 bytes (NAME_MAX of Linux)."""
SECRETS = frozenset({"ca"})
"""The secrets that a build receives."""
INSTRUCTIONS = 2000
"""Largest number of instructions in a Dockerfile; people write fewer. The reader counts them before it converts."""
DIRECTIVE = re.compile(r"(?:#|//)(?P<space>\s*)(?P<name>[A-Za-z][A-Za-z0-9]*)\s*=(?P<value>.*)")
"""A parser directive. In newer versions of BuildKit than the reader's, any white space may follow the comment sign, not
only ASCII's.
"""
DIRECTIVES = frozenset({"check", "escape", "syntax"})
"""The parser directives. A line that is none ends them."""


class ReaderModel(BaseModel):
    """A value that the reader prints. Unknown keys are ignored: they belong to a later version of the reader."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class Directive(ReaderModel):
    """A parser directive or a declared argument, with its line."""

    name: str
    value: str
    line: int


class Instruction(ReaderModel):
    """An instruction as written. `words` is filled for instructions that name other things: ADD, ARG, COPY, FROM."""

    name: str
    line: int
    lines: int
    flags: tuple[str, ...] = ()
    words: tuple[str, ...] = ()
    json_form: bool = Field(default=False, alias="json")
    heredocs: int = 0


class Stage(ReaderModel):
    """A stage as written, before variables are expanded."""

    name: str
    base: str
    platform: str
    line: int
    commands: dict[str, int] = Field(description="how many of each instruction")


class Problem(ReaderModel):
    """Why BuildKit cannot read the Dockerfile; `line` is 0 if no line is known."""

    message: str
    line: int
    excess: bool = Field(default=False, description="whether it exceeds a limit of the reader")


class SourceOperation(ReaderModel):
    """Something that a build takes in from outside (BuildKit's `SourceOp`)."""

    identifier: str = Field(description="with its scheme: docker-image, https, http, git, local, oci-layout")
    attributes: dict[str, str] = Field(default_factory=dict)


class Mount(ReaderModel):
    """A mount of a command; `id` identifies a cache, a secret or an SSH agent."""

    type: str
    target: str
    id: str


class Command(ReaderModel):
    """A command that a build runs (BuildKit's `ExecOp`)."""

    command: str = Field(description="its first 200 bytes")
    network: str = Field(description="unset, none or host")
    security: str = Field(description="sandbox or insecure")
    mounts: tuple[Mount, ...] = ()
    secrets: tuple[str, ...] = Field(default=(), description="secrets that it gets as environment variables")
    devices: tuple[str, ...] = ()


class Operations(ReaderModel):
    """Everything that a build takes in and runs."""

    sources: tuple[SourceOperation, ...] = ()
    execs: tuple[Command, ...] = ()
    others: dict[str, int] = Field(default_factory=dict, description="operations that neither take in nor run")

    @property
    def caches(self) -> frozenset[str]:
        """Identifiers of all cache mounts, with their namespace."""
        return frozenset(mount.id for each in self.execs for mount in each.mounts if mount.type == "cache")


class Target(Operations):
    """The build of one stage, with everything that the stage needs and nothing else."""

    base: str = Field(description="the image at its root, as BuildKit names it; empty for scratch")
    images: tuple[str, ...] = Field(description="the images that it needs, as BuildKit names them")
    error: Problem | None = None


class Reading(ReaderModel):
    """A Dockerfile as BuildKit reads it."""

    directives: tuple[Directive, ...] = ()
    shebang: bool = False
    json_document: bool = Field(default=False, alias="json")
    arguments: tuple[Directive, ...] = ()
    instructions: tuple[Instruction, ...] = ()
    stages: tuple[Stage, ...] = ()
    targets: dict[str, Target] = Field(default_factory=dict, description="by name; the empty name is the last stage's")
    error: Problem | None = None


class DockerfileReader(Protocol):
    """Converts Dockerfiles with BuildKit's own code."""

    @property
    def version(self) -> str:
        """Version of the reader."""

    def read(
        self,
        content: bytes,
        targets: Sequence[str],
        platform: str,
        arguments: Mapping[str, str],
        namespace: str,
        configs: Mapping[str, bytes],
    ) -> Reading:
        """Read a Dockerfile for each of `targets`.

        `arguments` are the build arguments. `namespace` is the prefix of the identifiers of cache mounts. `configs`
        maps the names that BuildKit gives to images to their configurations; the configuration of any other image
        counts as empty. An error in the Dockerfile is part of the reading; so is an excess of `INSTRUCTIONS`. Raises
        `DockerfileRefused` if the reading needs too much memory or time, and `ToolFailed` for any other failure.
        """


def check_directives(content: bytes) -> None:
    """Refuse a Dockerfile with a directive in a form that only other versions of BuildKit read.

    It could select another frontend, or the character that continues lines. The engine has a BuildKit of its own, which
    may be newer than the reader's. Raises `DockerfileRefused`.
    """
    for number, line in enumerate(content.decode("utf-8", "replace").removeprefix("\ufeff").split("\n"), 1):
        match = DIRECTIVE.match(line)
        if match is None or match["name"].lower() not in DIRECTIVES:
            return
        if match["name"].lower() == "syntax":
            raise _other_frontend(number, match["value"].strip())
        if match["space"].strip(" \t\f\r"):
            raise DockerfileRefused(
                f"The Dockerfile has a directive in line {number} that not every version of BuildKit reads: the "
                "comment sign is followed by unusual white space.\nWrite a plain space there."
            )


def check_frontend(reading: Reading) -> None:
    """Refuse a Dockerfile that cannot be read, or that selects another frontend or sets an option of the builder.

    Raises `DockerfileRefused`, or `BuildFailed` for a Dockerfile that BuildKit cannot parse.
    """
    for each in reading.directives:
        if each.name == "syntax":
            raise _other_frontend(max(each.line, 1), each.value)
    if reading.json_document or reading.shebang:
        what = "is a JSON document" if reading.json_document else "begins with #!, as a script does"
        raise DockerfileRefused(
            f"The Dockerfile {what}.\nWrite a Dockerfile that begins with a comment or an instruction."
        )
    if reading.error:
        raise _unreadable(reading.error)
    for each in reading.arguments:
        if each.name.upper().startswith("BUILDKIT_"):
            raise DockerfileRefused(
                f"The Dockerfile declares {each.name} in line {each.line}, which is a setting of the builder.\n"
                "Remove the line; the chain decides how BuildKit works."
            )


def _other_frontend(line: int, value: str) -> DockerfileRefused:
    return DockerfileRefused(
        f"The Dockerfile asks for another frontend in line {line}: syntax={value}\n"
        "It would run before the build, unrecorded. Remove the line; BuildKit's own frontend is used."
    )


NETWORKS = frozenset({"unset", "none"})
"""The networks that a command may use: the builder's own, or none."""


def check_target(name: str, target: Target, namespace: str) -> None:
    """Refuse operations that no build may contain, whatever images and URLs it may fetch.

    Raises `DockerfileRefused`, `DeclarationInvalid` if the stage does not exist, or `BuildFailed` if BuildKit cannot
    read the Dockerfile.
    """
    if target.error:
        if name and "target stage" in target.error.message and "could not be found" in target.error.message:
            raise DeclarationInvalid(
                f"{target.error.message}\nThe Dockerfile has no stage {name}, in which supply-chain.yaml runs the "
                "tests. Give the stage of the tests that name, or name it in test.stage."
            )
        raise _unreadable(target.error)
    unknown = set(target.others) - {"file", "merge", "diff"}
    if unknown:
        raise DockerfileRefused(
            f"The Dockerfile makes BuildKit do what the chain does not know: {', '.join(sorted(unknown))}\n"
            "Use instructions of the Dockerfile reference that BuildKit 0.22 has."
        )
    for source in target.sources:
        _check_scheme(source.identifier)
    for command in target.execs:
        _check_command(command, namespace)


def _unreadable(problem: Problem) -> BuildFailed | DockerfileRefused:
    if problem.excess:
        return DockerfileRefused(
            f"The Dockerfile is too large to build: {problem.message[:600]}\nPut what it does and the long values of "
            "its variables into files of the context."
        )
    where = f" in line {problem.line}" if problem.line else ""
    return BuildFailed(
        f"BuildKit cannot read the Dockerfile{where}: {problem.message[:600]}\nCorrect it, and build again."
    )


def _check_scheme(identifier: str) -> None:
    if identifier == CONTEXT or identifier.startswith((IMAGE, "https://")):
        return
    scheme = identifier.partition("://")[0]
    remedies = {
        "http": "Use https, with --checksum, and declare the URL in build.fetch.urls.",
        "git": "Bring the files in as part of your source, or fetch an archive by https with a checksum.",
    }
    raise DockerfileRefused(
        f"The Dockerfile takes in {identifier[:300]}, a source of the kind {scheme}.\n"
        + remedies.get(scheme, "A build takes in its context, images and declared https URLs.")
    )


def _check_command(command: Command, namespace: str) -> None:
    for value, allowed, what in (
        (command.network, NETWORKS, "network"),
        (command.security, ("sandbox",), "security"),
    ):
        if value not in allowed:
            raise _refused(command, f"with --{what}={value}", f"Remove --{what}; commands run in BuildKit's sandbox.")
    if command.devices:
        raise _refused(command, f"with the device {command.devices[0]}", "Remove --device.")
    secrets = {*command.secrets, *(mount.id for mount in command.mounts if mount.type == "secret")}
    if other := sorted(secrets - SECRETS):
        raise _refused(
            command, f"with the secret {other[0]!r}", "Remove it; builds get no secret but the profile's bundle, `ca`."
        )
    for mount in command.mounts:
        if mount.type == "ssh":
            raise _refused(command, "with an SSH agent", "Remove the mount; builds get no SSH agent.")
        if mount.type == "cache":
            _check_cache(command, mount.id.removeprefix(f"{namespace}/"), inside=mount.id.startswith(f"{namespace}/"))
        elif mount.type not in ("bind", "tmpfs", "secret"):
            raise _refused(command, f"with a mount of type {mount.type}", "Use bind, cache, tmpfs or secret.")


def _check_cache(command: Command, identifier: str, *, inside: bool) -> None:
    if not inside or not CACHE_ID.fullmatch(identifier) or ".." in identifier.split("/"):
        raise _refused(
            command,
            f"with the cache {identifier[:100]!r}",
            "Give the mount an id of letters, digits, `.`, `_`, `-` and `/`, without `..` and variables.",
        )


def _refused(command: Command, what: str, remedy: str) -> DockerfileRefused:
    return DockerfileRefused(f"The Dockerfile runs a command {what}: {command.command[:120]}\n{remedy}")


def require_checksum(source: SourceOperation) -> Digest:
    """Return the checksum that the Dockerfile gives for a URL; raise `DockerfileRefused` if it gives none."""
    value = source.attributes.get("http.checksum", "")
    if not re.fullmatch(DIGEST, value):
        raise DockerfileRefused(
            f"The Dockerfile adds {source.identifier[:300]} without the SHA-256 of its content.\n"
            "Write ADD --checksum=sha256:…, and declare the URL in build.fetch.urls with the same checksum."
        )
    return value


def check_urls(sources: Iterable[SourceOperation], declared: Mapping[str, Digest]) -> dict[str, Digest]:
    """Return the URLs among the sources, each with its checksum.

    Raises `DockerfileRefused` for a URL that is not declared with this checksum, that names a user, or whose path does
    not end in a plain file name.
    """
    checksums: dict[str, Digest] = {}
    for source in sources:
        if not source.identifier.startswith("https://"):
            continue
        checksum = require_checksum(source)
        if declared.get(source.identifier) != checksum:
            raise DockerfileRefused(
                f"The Dockerfile adds {source.identifier[:300]} with {checksum}, which is not declared.\n"
                f'Write into supply-chain.yaml, under build.fetch.urls: "{source.identifier[:300]}": "{checksum}"'
            )
        name = derive_file_name(source)
        if not FILE_NAME.fullmatch(name) or urlsplit(source.identifier).username is not None:
            raise DockerfileRefused(
                f"The Dockerfile adds {source.identifier[:300]}, which names a user or ends in no plain file name.\n"
                "Use a URL whose path ends in a name of at most 255 letters, digits and `._+~@=-`."
            )
        checksums[source.identifier] = checksum
    return checksums


def derive_file_name(source: SourceOperation) -> str:
    """Return the name under which BuildKit copies the content of a URL."""
    return source.attributes.get("http.filename", "")


def normalize_reference(name: str) -> str:
    """Return an image's name as BuildKit writes it: `python` → `docker.io/library/python:latest`.

    Follows ParseNormalizedNamed and TagNameOnly of github.com/distribution/reference.
    """
    first, slash, rest = name.partition("/")
    if not slash or not (set(".:") & set(first) or first == "localhost" or first != first.lower()):
        host, path = "docker.io", name
    else:
        host, path = first, rest
    host = "docker.io" if host == "index.docker.io" else host
    if host == "docker.io" and "/" not in path.partition("@")[0]:
        path = f"library/{path}"
    tagged = ":" in path.rpartition("/")[2] or "@" in path
    return f"{host}/{path}" + ("" if tagged else ":latest")


def find_declared_image(reference: str, declared: Collection[str]) -> str | None:
    """Return the declared address, by digest, of an image that a Dockerfile names; None if there is none.

    A declared image is named by its digest, or by the tag that is declared with the digest. A tag that is declared with
    several digests matches none of them.
    """
    addresses = [normalize_reference(each) for each in declared]
    for address in addresses:
        tagged, _, digest = address.partition("@")
        if reference in (address, f"{_untagged(tagged)}@{digest}"):
            return address if reference == address else reference
    matching = [address for address in addresses if address.partition("@")[0] == reference]
    return matching[0] if len(matching) == 1 else None


def _untagged(name: str) -> str:
    head, slash, last = name.rpartition("/")
    return f"{head}{slash}{last.partition(':')[0]}"


def list_image_references(targets: Iterable[Target]) -> Iterator[str]:
    """Yield the images that these builds need, each once, sorted by name."""
    yield from sorted({name for target in targets for name in target.images})
