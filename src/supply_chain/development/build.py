"""build: from the declared context to an image whose inputs are known."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Protocol

from supply_chain.app import Base, Service
from supply_chain.concurrency import side_by_side
from supply_chain.development.separation import run_key
from supply_chain.errors import DeclarationInvalid
from supply_chain.evidence.checks import Check, passed_before, required_in_engine
from supply_chain.evidence.provenance import is_of
from supply_chain.evidence.reading import proof
from supply_chain.evidence.store import EvidenceStore
from supply_chain.image import (
    BuildInputs,
    BuiltImage,
    Candidate,
    Digest,
    ImageRef,
    Material,
    Source,
)
from supply_chain.tier import TierName, development_repository

LIMIT = 256 * 1024
"""Bytes a Dockerfile may have; a person does not write more."""
INDENT = r"[^\S\n]*"
"""The space before what a line says. That of other lines is not tried: it would be again and again."""
SYNTAX = re.compile(rf"^{INDENT}(?:#|//)\s*syntax\s*=", re.IGNORECASE | re.MULTILINE)
FROM = re.compile(
    rf"^{INDENT}FROM\s+(?:--\S+\s+)*(?P<image>\S+)(?:\s+AS\s+(?P<name>\S+))?", re.IGNORECASE | re.MULTILINE
)
ESCAPE = re.compile(rf"^{INDENT}#\s*escape\s*=\s*[^\\\s]", re.IGNORECASE | re.MULTILINE)
BOM = "\ufeff"
HEREDOC = re.compile(
    r"<<-?[ \t]*[\"']?(?P<end>[^\s\"'<]+)[\"']?[^\n]*\n(?P<body>.*?)(?:^[ \t]*(?P=end)[ \t\r]*$|\Z)",
    re.DOTALL | re.MULTILINE,
)
STAGE = re.compile(r"[a-z][a-z0-9_.-]*", re.IGNORECASE)
COPY_FROM = re.compile(rf"^{INDENT}COPY\s+(?:--\S+\s+)*?--from=(?P<image>\S+)", re.IGNORECASE | re.MULTILINE)
RUN_FLAGS = re.compile(rf"^{INDENT}RUN[ \t]+(?P<flags>(?:--\S+[ \t]+)+)", re.IGNORECASE | re.MULTILINE)
MOUNT = re.compile(r"--mount=(?P<settings>\S+)", re.IGNORECASE)
MOUNT_FROM = re.compile(r"(?:^|,)from=(?P<image>[^,]+)", re.IGNORECASE)
CONTINUED = re.compile(r"\\[ \t\r]*\n(?:[ \t]*#[^\n]*\n)*")
"""A line that goes on, with the comments that may stand in between."""


@dataclass(frozen=True)
class Order:
    """What the builder is to do."""

    context: Path
    dockerfile: Path
    platform: str
    target: str | None
    name: str
    contexts: Mapping[str, str]
    annotations: Mapping[str, str]
    epoch: int
    timeout: float
    reproducible: bool
    """Whether the layers' timestamps are rewritten, which takes longer than many a build."""
    key: str
    """Names the application's caches; no declaration can choose it."""
    caches: str
    """Names the caches that its steps mount: the application's, or of a fresh build its own."""
    fresh: bool = False
    """Whether every step is made again, whatever was built before."""


class Builder(Protocol):
    """BuildKit."""

    def build(self, order: Order) -> Digest:
        """Build into the engine's store under `order.name`; the manifest's digest. `BuildFailed` otherwise."""

    def versions(self) -> dict[str, str]:
        """Versions of builder and engine."""


class Offered(Protocol):
    """What development offered before."""

    def newest_first(self, repository: str, tag_prefix: str = "") -> tuple[ImageRef, ...]:
        """The images with a tag that begins so, the last one first; none where there is no repository."""


class Bases(Protocol):
    """Where base images come from."""

    def resolve(self, name: str) -> tuple[str, Material]:
        """A base's address for the builder, and what it is; `BaseMissing` where it cannot be had."""


Context = Callable[[Service | Base, Path, int], AbstractContextManager[Path]]
"""Gives the directory to build in: the application's own, or a copy with its root filesystem in it."""


def base_names(dockerfile: str) -> tuple[str, ...]:
    """The images a Dockerfile starts from, copies from or mounts, without its own stages and `scratch`."""
    text = CONTINUED.sub("", dockerfile)
    stages = {"scratch"}
    names: list[str] = []
    for match in FROM.finditer(text):
        if match["image"].lower() not in stages:
            names.append(match["image"])
        if match["name"]:
            stages.add(match["name"].lower())
    flags = " ".join(match["flags"].replace('"', "") for match in RUN_FLAGS.finditer(text))
    mounts = (match for mount in MOUNT.finditer(flags) for match in MOUNT_FROM.finditer(mount["settings"]))
    for match in (*COPY_FROM.finditer(text), *mounts):
        if match["image"].lower() not in stages and not match["image"].isdigit():
            names.append(match["image"])
    return tuple(dict.fromkeys(names))


@dataclass(frozen=True)
class Workshop:
    """Everything a build needs of the world."""

    builder: Builder
    bases: Bases
    offered: Offered
    evidence: EvidenceStore
    in_engine: Mapping[Check, Mapping[str, str]]
    """The checks that need the image in the engine, and the tools that would make them."""
    context: Context
    unversioned: Callable[[Path, Path], bool]
    """Whether a context, built from a Dockerfile, holds files that no commit does although git is content."""
    digest: Callable[[Path], Digest]
    cache_key: Callable[[Source, str], str]
    """The key of an application's caches, from its source and its name."""
    now: Callable[[], datetime]
    version: str
    hosted: bool = False
    """Whether the builder's host is there for builds alone."""


def build(
    directory: Path, manifest: Service | Base, workshop: Workshop, source: Source, run: str, *, fresh: bool = False
) -> BuiltImage:
    """Build the image that `manifest` declares, and for a service the stage that holds its tests.

    Base images are resolved to digests before the build; one that is not curated is recorded as such.
    What was offered before from the same inputs, with the results of its checks, is not built again,
    unless it is to be `fresh`.
    """
    started = workshop.now()
    dockerfile = directory / manifest.build.dockerfile
    text = _text(dockerfile)
    refuse_detours(dockerfile, text)
    if workshop.unversioned(directory / manifest.build.context, dockerfile):
        source = source.model_copy(update={"dirty": True})
    contexts, materials = _resolve(base_names(text), workshop.bases)
    inputs = BuildInputs(
        application=manifest.name,
        source=source,
        dockerfile=workshop.digest(dockerfile),
        declaration=workshop.digest(directory / "supply-chain.yaml"),
        materials=materials,
        uncurated=tuple(each.name for each in materials if not each.curated),
        base=next((each for each in materials if each.name == final_base(text)), None),
        versions={**workshop.builder.versions(), "cscm": workshop.version},
        hosted=workshop.hosted,
    )
    known = None if fresh else offered_before(inputs, manifest, workshop)
    digest = known.ref.digest if known else _built(directory, manifest, inputs, contexts, workshop, run, fresh=fresh)
    return BuiltImage(
        **dict(inputs),
        digest=digest,
        started=started,
        finished=workshop.now(),
        invocation=run,
        proven=known.proven if known else None,
    )


def _built(
    directory: Path,
    manifest: Service | Base,
    inputs: BuildInputs,
    contexts: Mapping[str, str],
    workshop: Workshop,
    run: str,
    *,
    fresh: bool,
) -> Digest:
    key = workshop.cache_key(inputs.source, manifest.name)
    with workshop.context(manifest, directory, inputs.source.committed) as place:
        order = Order(
            context=place / manifest.build.context,
            dockerfile=place / manifest.build.dockerfile,
            platform=manifest.build.platform,
            target=None,
            name=local_name(manifest.name, run),
            contexts=contexts,
            annotations=_annotations(manifest, inputs),
            epoch=inputs.source.committed,
            timeout=manifest.build.timeout,
            reproducible=True,
            key=key,
            caches=run_key(key, run) if fresh else key,
            fresh=fresh,
        )
        orders = [order, _test_stage(order, manifest)] if isinstance(manifest, Service) else [order]
        digests = side_by_side(workshop.builder.build, orders)
    return digests[0]


def offered_before(inputs: BuildInputs, manifest: Service | Base, workshop: Workshop) -> Candidate | None:
    """What development offered from the same inputs, if nothing has to look at it in the engine again.

    A source that no commit names may have changed unseen, and a root filesystem is made of the packages
    that the distribution has today: neither is ever the same.
    """
    source = inputs.source
    if source.dirty or (isinstance(manifest, Base) and manifest.rootfs):
        return None
    for ref in workshop.offered.newest_first(development_repository(manifest.name), f"{source.short}-"):
        evidence = workshop.evidence.verified(ref, TierName.DEVELOPMENT)
        same = [each for each in evidence if is_of(each, inputs, manifest)]
        looked_at = required_in_engine(manifest.kind)
        if same and all(passed_before(check, evidence, workshop.in_engine[check]) for check in looked_at):
            return Candidate(ref=ref, source=source, proven=proof(same[-1:]))
    return None


def _text(dockerfile: Path) -> str:
    if dockerfile.exists() and not dockerfile.is_file():
        raise DeclarationInvalid(
            f"{dockerfile} is not a file.\nName a Dockerfile in supply-chain.yaml (build.dockerfile)."
        )
    try:
        if dockerfile.stat().st_size > LIMIT:
            raise DeclarationInvalid(
                f"{dockerfile} has more than {LIMIT // 1024} KiB.\n"
                "Bring what it holds in as files of the context, and keep the Dockerfile a page."
            )
        return dockerfile.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DeclarationInvalid(
            f"{dockerfile} cannot be read: {error}\nName the right one in supply-chain.yaml (build.dockerfile)."
        ) from error


def refuse_detours(dockerfile: Path, text: str) -> None:
    """Raise `DeclarationInvalid` where a build would see or run something that no check looks at."""
    if SYNTAX.search(text):
        raise DeclarationInvalid(
            f"{dockerfile.name} asks for another frontend (`# syntax=`), which would run unrecorded.\n"
            "Remove the line; the builder's own frontend is used."
        )
    if ESCAPE.search(text):
        raise DeclarationInvalid(
            f"{dockerfile.name} does not continue lines by a backslash (`# escape=`), so that bases could hide.\n"
            "Remove the line, and continue lines with a backslash."
        )
    if text.startswith(BOM) or any(FROM.search(each["body"]) for each in HEREDOC.finditer(f"{text}\n")):
        raise DeclarationInvalid(
            f"{dockerfile.name} begins with a byte order mark, or holds a line that looks like FROM in a heredoc.\n"
            "Bases could hide behind either: remove the mark, or bring that text in as a file."
        )
    odd = [m["name"] for m in FROM.finditer(CONTINUED.sub("", text)) if m["name"] and not STAGE.fullmatch(m["name"])]
    if odd:
        raise DeclarationInvalid(
            f"{dockerfile.name} calls a stage {odd[0]!r}, which is no name of one.\n"
            "Use letters, digits, `-`, `_` and `.`, a letter first."
        )


def local_name(application: str, run: str) -> str:
    """The engine's name for what a run builds."""
    return f"cscm.local/{application}:{run}"


def test_name(local: str) -> str:
    """The engine's name for the stage that holds the tests of an image."""
    return f"{local}-tests"


def _test_stage(order: Order, manifest: Service) -> Order:
    return replace(
        order,
        target=manifest.test.stage,
        name=test_name(order.name),
        annotations={},
        reproducible=False,  # it is run here and now, and never offered
    )


def _resolve(names: Sequence[str], bases: Bases) -> tuple[dict[str, str], tuple[Material, ...]]:
    resolved = dict(zip(names, side_by_side(bases.resolve, names), strict=True))
    return {name: address for name, (address, _) in resolved.items()}, tuple(m for _, m in resolved.values())


def final_base(dockerfile: str) -> str | None:
    """What the last stage starts from, as far as the text says; None for `scratch`."""
    starts: dict[str, str] = {}
    last = "scratch"
    for match in FROM.finditer(CONTINUED.sub("", dockerfile)):
        last = starts.get(match["image"].lower(), match["image"])
        if match["name"]:
            starts[match["name"].lower()] = last
    return None if last.lower() == "scratch" else last


def _annotations(manifest: Service | Base, inputs: BuildInputs) -> dict[str, str]:
    """OCI's predefined annotations (image-spec 1.1, "Pre-Defined Annotation Keys")."""
    source, base = inputs.source, inputs.base
    values = {
        "org.opencontainers.image.title": manifest.name,
        "org.opencontainers.image.vendor": manifest.owner,
        "org.opencontainers.image.source": source.repository,
        "org.opencontainers.image.revision": source.revision + ("-dirty" if source.dirty else ""),
    }
    if base:
        values["org.opencontainers.image.base.name"] = base.name
        values["org.opencontainers.image.base.digest"] = base.digest
    return values
