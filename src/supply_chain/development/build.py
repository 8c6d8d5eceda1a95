"""build: from the declared context to an image whose inputs are known."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from secrets import token_hex
from typing import Protocol

from supply_chain.concurrency import side_by_side
from supply_chain.development.dockerfile import DockerfileReader, SourceOperation, file_name
from supply_chain.development.plan import Bases, Plan, plan_build
from supply_chain.development.record import BuildRecord, check_record
from supply_chain.development.separation import run_key
from supply_chain.development.snapshot import Snapshot
from supply_chain.errors import DeclarationInvalid
from supply_chain.evidence.checks import Check, passed_before, required_in_engine
from supply_chain.evidence.provenance import is_of
from supply_chain.evidence.reading import proof
from supply_chain.evidence.store import EvidenceStore
from supply_chain.model.image import BuildInputs, BuiltImage, Candidate, Digest, ImageRef, Source
from supply_chain.model.manifest import FILE, Base, Service
from supply_chain.model.tier import TierName, development_repository
from supply_chain.scratch import scratch

FETCHED = 2 * 1024**3
"""Bytes that all files of one build may have that its Dockerfile adds by URL."""


@dataclass(frozen=True)
class Order:
    """What the builder is to do."""

    context: Path
    dockerfile: bytes
    platform: str
    target: str | None
    name: str
    images: Mapping[str, str]
    """Image, as BuildKit reads it in the Dockerfile → its address, by digest. No other is taken in."""
    fetched: Mapping[str, Path]
    """URL → a private directory that holds what it gave, under the name that BuildKit copies. No other is taken in."""
    annotations: Mapping[str, str]
    epoch: int
    timeout: float
    reproducible: bool
    """Whether the layers' timestamps are rewritten, which takes longer than many a build."""
    key: str
    """Names the application's caches; no declaration can choose it."""
    caches: str
    """Names the caches that its steps mount: the application's, or of a fresh build its own."""
    max_size: int
    """Bytes that the image may have, all of its layers unpacked; asked of what is reproducible."""
    unpacks: bool = False
    """Whether an instruction may unpack archives of the context (ADD)."""
    fresh: bool = False
    """Whether every step is made again, whatever was built before."""


@dataclass(frozen=True)
class Built:
    """What came of an order."""

    digest: Digest
    record: BuildRecord


class Builder(Protocol):
    """BuildKit."""

    def build(self, *orders: Order) -> tuple[Built, ...]:
        """Build each into the engine's store under its name, side by side; the results in order.

        All steps of one key's orders together are held to one build's limits. Raises `BuildFailed` or
        `BuildLimitExceeded`. BuildKit itself denies every source but the context, `order.images` and `order.fetched`.
        """

    def versions(self) -> dict[str, str]:
        """Versions of builder and engine."""


class Offered(Protocol):
    """What development offered before."""

    def newest_first(self, repository: str, tag_prefix: str = "") -> tuple[ImageRef, ...]:
        """The images with a tag that begins so, the last one first; none where there is no repository."""


class Allowance:
    """Bytes that the downloads of one build may have together; they run side by side and share it."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._left = most
        self._lock = threading.Lock()

    def take(self, size: int) -> bool:
        """Take `size` bytes; whether as many were left."""
        with self._lock:
            self._left -= size
            return self._left >= 0


Fetch = Callable[[str, Digest, Path, float, Allowance], None]
"""`(URL, checksum, target file, seconds, allowance)`: fetches a file, and believes the checksum alone."""

Context = Callable[[Snapshot], AbstractContextManager[Path]]
"""Gives the directory to build in: the snapshot's own, or a copy with its root filesystem in it."""


@dataclass(frozen=True)
class Workshop:
    """Everything a build needs of the world."""

    builder: Builder
    reader: DockerfileReader
    bases: Bases
    fetch: Fetch
    offered: Offered
    evidence: EvidenceStore
    in_engine: Mapping[Check, Mapping[str, str]]
    """The checks that need the image in the engine, and the tools that would make them."""
    context: Context
    cache_key: Callable[[Source, str], str]
    """The key of an application's caches, from its source and its name."""
    now: Callable[[], datetime]
    version: str
    hosted: bool = False
    """Whether the builder's host is there for builds alone."""


def build(snapshot: Snapshot, workshop: Workshop, run: str, *, fresh: bool = False) -> BuiltImage:
    """Build the image that a snapshot declares, and for a service the stage that holds its tests.

    Base images are resolved to digests before the build; one that is not curated is recorded as such.
    What was offered before from the same inputs, with the results of its checks, is not built again,
    unless it is to be `fresh`.
    """
    started, manifest = workshop.now(), snapshot.manifest
    content = read_dockerfile(snapshot)
    key = workshop.cache_key(snapshot.source, manifest.name)
    caches = run_key(key, run) if fresh else key
    plan = plan_build(content, manifest, snapshot.source, caches, workshop.reader, workshop.bases)
    inputs = BuildInputs(
        application=manifest.name,
        source=snapshot.source,
        dockerfile=snapshot.digest_of(manifest.build.dockerfile),
        declaration=snapshot.digest_of(FILE),
        materials=plan.materials,
        uncurated=plan.uncurated,
        base=plan.base,
        versions={**workshop.builder.versions(), "reader": workshop.reader.version, "cscm": workshop.version},
        hosted=workshop.hosted,
    )
    known = None if fresh else offered_before(inputs, manifest, workshop)
    digest = known.ref.digest if known else _built(snapshot, inputs, plan, content, workshop, key, run, fresh=fresh)
    return BuiltImage(
        **dict(inputs),
        digest=digest,
        started=started,
        finished=workshop.now(),
        invocation=run,
        proven=known.proven if known else None,
    )


def _built(
    snapshot: Snapshot,
    inputs: BuildInputs,
    plan: Plan,
    content: bytes,
    workshop: Workshop,
    key: str,
    run: str,
    *,
    fresh: bool,
) -> Digest:
    manifest = snapshot.manifest
    with (
        workshop.context(snapshot) as place,
        _fetched(plan, workshop.fetch, manifest.build.timeout) as fetched,
    ):
        order = Order(
            context=place,
            dockerfile=content,
            platform=manifest.build.platform,
            target=None,
            name=local_name(manifest.name, run),
            images=plan.addresses,
            fetched=fetched,
            annotations=_annotations(manifest, inputs),
            epoch=inputs.source.committed,
            timeout=manifest.build.timeout,
            reproducible=True,
            key=key,
            caches=plan.namespace,
            max_size=manifest.build.max_size,
            unpacks=plan.unpacks,
            fresh=fresh,
        )
        orders = [order, _test_stage(order, manifest)] if isinstance(manifest, Service) else [order]
        results = workshop.builder.build(*orders)
    for each, result in zip(orders, results, strict=True):
        check_record(each.target or "", result.record, plan.expected(each.target or ""))
    return results[0].digest


@contextmanager
def _fetched(plan: Plan, fetch: Fetch, timeout: float) -> Iterator[Mapping[str, Path]]:
    """What the Dockerfile adds by URL, each in a directory of its own, whose name nobody can guess.

    The downloads share the time of the build, and one allowance.
    """
    until, allowance = time.monotonic() + timeout, Allowance(FETCHED)
    with scratch("fetched") as work:
        places = {each.identifier: work / f"fetched-{token_hex(16)}" for each in plan.downloads}
        for each in plan.downloads:
            places[each.identifier].mkdir(mode=0o700)

        def get(source: SourceOperation) -> None:
            target = places[source.identifier] / file_name(source)
            fetch(source.identifier, plan.urls[source.identifier], target, until - time.monotonic(), allowance)

        side_by_side(get, plan.downloads)
        yield places


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


def read_dockerfile(snapshot: Snapshot) -> bytes:
    """The bytes of the Dockerfile, which are read once; `DeclarationInvalid` where they are no text in UTF-8."""
    content = snapshot.dockerfile.read_bytes()
    try:
        content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DeclarationInvalid(
            f"{snapshot.manifest.build.dockerfile} cannot be read: {error}\n"
            "Name the right one in supply-chain.yaml (build.dockerfile)."
        ) from error
    return content


def local_name(application: str, run: str) -> str:
    """The engine's name for what a run builds."""
    return f"cscm.local/{application}:{run}"


def test_name(local: str) -> str:
    """The engine's name for the stage that holds the tests of an image."""
    return f"{local}-tests"


def _test_stage(order: Order, manifest: Service) -> Order:
    """It is run here and now, and never offered."""
    return replace(order, target=manifest.test.stage, name=test_name(order.name), annotations={}, reproducible=False)


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
