"""The step that builds an image from a snapshot and resolves every input of the build."""

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

from supply_chain.concurrency import map_concurrently
from supply_chain.development.dockerfile import DockerfileReader, SourceOperation, derive_file_name
from supply_chain.development.plan import Bases, Plan, plan_build
from supply_chain.development.record import BuildRecord, check_record
from supply_chain.development.separation import run_key
from supply_chain.development.snapshot import Snapshot
from supply_chain.errors import DeclarationInvalid
from supply_chain.evidence.checks import Check, find_reusable_result, list_required_engine_checks
from supply_chain.evidence.provenance import is_of
from supply_chain.evidence.reading import make_proof
from supply_chain.evidence.store import EvidenceStore
from supply_chain.model.declaration import FILE, Base, Service
from supply_chain.model.image import BuildInputs, BuiltImage, Candidate, Digest, Source
from supply_chain.model.registry_ports import ImageLister
from supply_chain.model.tier import TierName, name_development_repository
from supply_chain.scratch import make_scratch_directory

FETCHED = 2 * 1024**3
"""Largest number of bytes, together, of the files that the Dockerfile of one build adds by URL."""


WhenLoaded = Callable[[Digest], object]
"""Takes the digest of an image that the engine has."""


@dataclass(frozen=True)
class BuildOrder:
    """A request to the builder for one image."""

    context: Path
    dockerfile: bytes
    platform: str
    target: str | None
    name: str
    images: Mapping[str, str]
    """Image name as BuildKit reads it in the Dockerfile → its address by digest. No other image can be used."""
    fetched: Mapping[str, Path]
    """URL → a private directory with the downloaded file, under the name that BuildKit copies.

    No other URL can be used.
    """
    annotations: Mapping[str, str]
    epoch: int
    timeout: float
    reproducible: bool
    """Whether the layers' timestamps are rewritten, which takes longer than many a build."""
    key: str
    """Identifies the application's caches; no declaration can choose it."""
    caches: str
    """Identifies the caches that the build's steps mount: the application's, or in a forced build its own."""
    max_size: int
    """Largest number of unpacked bytes of all layers; the image is held to it only if it is `reproducible`."""
    unpacks: bool = False
    """Whether an instruction may unpack archives of the context (ADD)."""
    force: bool = False
    """Whether every step runs again, whatever was built before."""
    when_loaded: WhenLoaded = lambda _: None
    """Called once the engine has the image, while the other orders are still built; the build waits for it."""


@dataclass(frozen=True)
class BuildResult:
    """The result of an order."""

    digest: Digest
    record: BuildRecord


class Builder(Protocol):
    """Builds images with BuildKit."""

    def build(self, *orders: BuildOrder) -> tuple[BuildResult, ...]:
        """Build all orders in parallel into the engine's store, each under its name; return the results in order.

        The steps of all orders with the same key have the limits of one build together. Raises `BuildFailed` or
        `BuildLimitExceeded`. BuildKit itself denies every source but the context, `order.images` and `order.fetched`.
        """

    def versions(self) -> dict[str, str]:
        """Return the versions of builder and engine."""


class DownloadAllowance:
    """The bytes that all downloads of one build may have together; parallel downloads share them."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._left = most
        self._lock = threading.Lock()

    def take(self, size: int) -> bool:
        """Take `size` bytes, and return whether as many were left."""
        with self._lock:
            self._left -= size
            return self._left >= 0


Fetch = Callable[[str, Digest, Path, float, DownloadAllowance], None]
"""`(URL, checksum, target file, seconds, allowance)`: downloads a file, and trusts it by its checksum alone."""

Context = Callable[[Snapshot], AbstractContextManager[Path]]
"""Gives the build directory: the snapshot's own, or a copy that contains its root filesystem."""


@dataclass(frozen=True)
class BuildPorts:
    """The dependencies of a build."""

    builder: Builder
    reader: DockerfileReader
    bases: Bases
    fetch: Fetch
    offered: ImageLister
    evidence: EvidenceStore
    in_engine: Mapping[Check, Mapping[str, str]]
    """Check that needs the image in the engine → the tools that would make the check."""
    context: Context
    cache_key: Callable[[Source, str], str]
    """Returns the key of an application's caches, from its source and its name."""
    now: Callable[[], datetime]
    version: str
    hosted: bool = False
    """Whether the builder's host is used for builds only."""
    when_loaded: WhenLoaded = lambda _: None
    """Called once the engine has the image that will be offered, while the stage of the tests is still built."""


def build(snapshot: Snapshot, ports: BuildPorts, run: str, *, force: bool = False) -> BuiltImage:
    """Build the image that a snapshot declares and, for a service, the stage that contains its tests.

    Base images are resolved to digests before the build; an uncurated one is recorded as such. An image that was
    offered before from the same inputs, with the results of its checks, is not built again unless `force` is true.
    """
    started, declaration = ports.now(), snapshot.declaration
    content = read_dockerfile(snapshot)
    key = ports.cache_key(snapshot.source, declaration.name)
    caches = run_key(key, run) if force else key
    plan = plan_build(content, declaration, snapshot.source, caches, ports.reader, ports.bases)
    inputs = BuildInputs(
        application=declaration.name,
        source=snapshot.source,
        dockerfile=snapshot.digest_of(declaration.build.dockerfile),
        declaration=snapshot.digest_of(FILE),
        materials=plan.materials,
        uncurated=plan.uncurated,
        base=plan.base,
        versions={**ports.builder.versions(), "reader": ports.reader.version, "cscm": ports.version},
        hosted=ports.hosted,
    )
    offered = None if force else find_offered(inputs, declaration, ports)
    digest = (
        offered.ref.digest if offered else _build_images(snapshot, inputs, plan, content, ports, key, run, force=force)
    )
    return BuiltImage(
        **dict(inputs),
        digest=digest,
        started=started,
        finished=ports.now(),
        invocation=run,
        proven=offered.proven if offered else None,
    )


def _build_images(
    snapshot: Snapshot,
    inputs: BuildInputs,
    plan: Plan,
    content: bytes,
    ports: BuildPorts,
    key: str,
    run: str,
    *,
    force: bool,
) -> Digest:
    declaration = snapshot.declaration
    with (
        ports.context(snapshot) as place,
        _fetch_urls(plan, ports.fetch, declaration.build.timeout) as fetched,
    ):
        order = BuildOrder(
            context=place,
            dockerfile=content,
            platform=declaration.build.platform,
            target=None,
            name=make_local_name(declaration.name, run),
            images=plan.addresses,
            fetched=fetched,
            annotations=_annotations(declaration, inputs),
            epoch=inputs.source.committed,
            timeout=declaration.build.timeout,
            reproducible=True,
            key=key,
            caches=plan.namespace,
            max_size=declaration.build.max_size,
            unpacks=plan.unpacks,
            force=force,
        )
        orders = [replace(order, when_loaded=ports.when_loaded)]
        if isinstance(declaration, Service):
            orders.append(_test_stage(order, declaration))
        results = ports.builder.build(*orders)
    for each, result in zip(orders, results, strict=True):
        check_record(each.target or "", result.record, plan.make_expected(each.target or ""))
    return results[0].digest


@contextmanager
def _fetch_urls(plan: Plan, fetch: Fetch, timeout: float) -> Iterator[Mapping[str, Path]]:
    """Download what the Dockerfile adds by URL; yield each URL with its own directory.

    Nobody can guess the names of the directories. The downloads share the time of the build, and one allowance.
    """
    until, allowance = time.monotonic() + timeout, DownloadAllowance(FETCHED)
    with make_scratch_directory("fetched") as work:
        places = {each.identifier: work / f"fetched-{token_hex(16)}" for each in plan.downloads}
        for each in plan.downloads:
            places[each.identifier].mkdir(mode=0o700)

        def get(source: SourceOperation) -> None:
            target = places[source.identifier] / derive_file_name(source)
            fetch(source.identifier, plan.urls[source.identifier], target, until - time.monotonic(), allowance)

        map_concurrently(get, plan.downloads)
        yield places


def find_offered(inputs: BuildInputs, declaration: Service | Base, ports: BuildPorts) -> Candidate | None:
    """Return the candidate that development offered from the same inputs; None if a check needs it in the engine again.

    Also None for a source with uncommitted changes, which may have changed unnoticed, and for a base with a root
    filesystem, which is made of the packages that the distribution has today.
    """
    source = inputs.source
    if source.dirty or (isinstance(declaration, Base) and declaration.rootfs):
        return None
    for ref in ports.offered.list_newest_first(name_development_repository(declaration.name), f"{source.short}-"):
        evidence = ports.evidence.read_verified(ref, TierName.DEVELOPMENT)
        same = [each for each in evidence if is_of(each, inputs, declaration)]
        looked_at = list_required_engine_checks(declaration.kind)
        if same and all(find_reusable_result(check, evidence, ports.in_engine[check]) for check in looked_at):
            return Candidate(ref=ref, source=source, proven=make_proof(same[-1:]))
    return None


def read_dockerfile(snapshot: Snapshot) -> bytes:
    """Read the Dockerfile, once, and return its bytes.

    Raises `DeclarationInvalid` if they are not text in UTF-8.
    """
    content = snapshot.dockerfile.read_bytes()
    try:
        content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DeclarationInvalid(
            f"{snapshot.declaration.build.dockerfile} cannot be read: {error}\n"
            "Name the right one in supply-chain.yaml (build.dockerfile)."
        ) from error
    return content


def make_local_name(application: str, run: str) -> str:
    """Return the engine's name for the image that a run builds."""
    return f"cscm.local/{application}:{run}"


def test_name(local: str) -> str:
    """Return the engine's name for the stage that contains the tests of an image."""
    return f"{local}-tests"


def _test_stage(order: BuildOrder, declaration: Service) -> BuildOrder:
    """Return the order for the test stage, which runs here and is never offered."""
    return replace(order, target=declaration.test.stage, name=test_name(order.name), annotations={}, reproducible=False)


def _annotations(declaration: Service | Base, inputs: BuildInputs) -> dict[str, str]:
    """Return OCI's predefined annotations (image-spec 1.1, "Pre-Defined Annotation Keys")."""
    source, base = inputs.source, inputs.base
    values = {
        "org.opencontainers.image.title": declaration.name,
        "org.opencontainers.image.vendor": declaration.owner,
        "org.opencontainers.image.source": source.repository,
        "org.opencontainers.image.revision": source.revision + ("-dirty" if source.dirty else ""),
    }
    if base:
        values["org.opencontainers.image.base.name"] = base.name
        values["org.opencontainers.image.base.digest"] = base.digest
    return values
