"""Build the dependencies of the steps of development."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path

from blocks.host import ContainerHost
from blocks.tier import Tier
from blocks.workbench import Workbench
from orchestration.clock import now
from supply_chain.adapters.docker.build_cgroup import running_builds
from supply_chain.adapters.docker.build_context import build_context
from supply_chain.adapters.docker.buildx import Buildx
from supply_chain.adapters.docker.dockerfile import BuildKitReader
from supply_chain.adapters.docker.free_space import FreeSpace
from supply_chain.adapters.docker.url_fetch import Fetcher
from supply_chain.adapters.image.layers import read_contents
from supply_chain.adapters.process.command import Tool, cancellation
from supply_chain.adapters.tools.bandit import list_source_tools as source_tools
from supply_chain.adapters.tools.bandit import scan_source
from supply_chain.adapters.tools.crane import read_upstream_config
from supply_chain.adapters.tools.hadolint import lint_dockerfile
from supply_chain.adapters.tools.mmdebstrap import make_rootfs
from supply_chain.adapters.tools.secrets import SearchedFiles, SecretSearch, find_secrets
from supply_chain.adapters.tools.secrets import list_secret_tools as secrets_tools
from supply_chain.concurrency import run_both
from supply_chain.development.bases import CuratedBases
from supply_chain.development.build import BuildPorts, local_name, test_name
from supply_chain.development.content import CONTENT_VERSION, check_content
from supply_chain.development.probe import TESTS_VERSION, check_command, list_probe_tools, probe, run_tests
from supply_chain.development.review import apply_reviews
from supply_chain.development.separation import Room, cache_key
from supply_chain.development.snapshot import Snapshot
from supply_chain.development.test import Dependencies, Planned
from supply_chain.evidence.checks import Check, CheckResult
from supply_chain.model.image import BuiltImage, ImageRef, blobs_of
from supply_chain.model.manifest import Rootfs, Service


def build_ports(tier: Tier, host: ContainerHost, workbench: Workbench, origin: Path) -> BuildPorts:
    """Return the dependencies of `build`; `origin` is the real path of the directory that is built."""

    def rootfs(wanted: Rootfs, target: Path, epoch: int, work: Path) -> object:
        work.mkdir()
        return make_rootfs(workbench.tool("mmdebstrap"), wanted, target, epoch, work)

    def context(snapshot: Snapshot) -> AbstractContextManager[Path]:
        return build_context(snapshot, rootfs)

    builder, bases = run_both(partial(buildx, tier, host, workbench), partial(curated_bases, tier, workbench))
    return BuildPorts(
        builder=builder,
        reader=reader(workbench),
        bases=bases,
        fetch=Fetcher(
            Path(workbench.ca_bundle) if workbench.ca_bundle else None, reserve=host.build_limits.reserve
        ).fetch,
        offered=tier.ecr,
        evidence=tier.evidence(workbench),
        in_engine=in_engine_tools(host, SecretSearch(workbench.tool("detect-secrets"))),
        context=context,
        cache_key=partial(cache_key, host.owner, origin),
        now=now,
        version=workbench.version,
        hosted=host.hosted,
    )


def reader(workbench: Workbench) -> BuildKitReader:
    """Return the reader of Dockerfiles and ignore files."""
    return BuildKitReader(workbench.tool("dockerfile-reader"))


def curated_bases(tier: Tier, workbench: Workbench) -> CuratedBases:
    """Return the internal base images, as this tier can read and verify them."""
    return CuratedBases(
        tier.ecr,
        tier.evidence(workbench),
        tier.registry,
        workbench.bases,
        partial(_read_config, tier, workbench),
        workbench.registries,
    )


def _read_config(tier: Tier, workbench: Workbench, address: str, platform: str) -> bytes:
    """Return the configuration of an image, from this chain's registry or another one."""
    host, _, rest = address.partition("/")
    if host != tier.registry:
        return read_upstream_config(workbench.tool("crane"), address, platform)
    ref = ImageRef.parse(rest)
    return tier.http.blob(ref.repository, blobs_of(tier.http.manifest(ref), ref)[0].digest)


def buildx(tier: Tier, host: ContainerHost, workbench: Workbench) -> Buildx:
    """Return buildx, which builds on the host's engine and pushes with the tier's credentials."""
    return Buildx(
        tool=workbench.docker.with_environment(DOCKER_HOST=host.url),
        buildx=workbench.tool("buildx").with_environment(DOCKER_HOST=host.url),
        docker_config=tier.ecr.docker_config,
        engine_version=lambda: host.engine().versions()["engine"],
        registry=tier.http,
        network=workbench.build_network,
        ca_bundle=Path(workbench.ca_bundle) if workbench.ca_bundle else None,
        limits=host.build_limits,
        storage=host.storage,
        owner=host.owner,
    )


def checks(built: BuiltImage, snapshot: Snapshot, host: ContainerHost, workbench: Workbench) -> list[Planned]:
    """Return all checks for this kind of application except that of known vulnerabilities, slowest first."""
    engine, wait, manifest = host.engine(), cancellation().wait, snapshot.manifest
    context, run = snapshot.context, built.invocation
    image = local_name(built.application, run)
    by_tool: list[tuple[Check, str, Callable[[Tool], CheckResult]]] = [
        (
            Check.SECRETS,
            "detect-secrets",
            lambda t: apply_reviews(find_secrets(t, context, now, snapshot.outside_context), manifest.reviewed),
        ),
        (Check.SOURCE, "bandit", lambda t: apply_reviews(scan_source(t, context, now), manifest.reviewed)),
        (Check.DOCKERFILE, "hadolint", lambda t: lint_dockerfile(t, snapshot.dockerfile, now)),
    ]
    search = SecretSearch(workbench.tool("detect-secrets"))
    in_engine: list[tuple[Check, Callable[[], CheckResult]]]
    if isinstance(manifest, Service):
        service, tests = manifest, test_name(image)
        in_engine = [
            (Check.PROBE, lambda: probe(engine, image, service, now, run, search, probe_limits(host), wait=wait)),
            (Check.TESTS, lambda: run_tests(engine, tests, service, now, run, search, probe_limits(host), wait=wait)),
        ]
    else:
        base = manifest
        in_engine = [
            (Check.COMMAND, lambda: check_command(engine, image, base, now, run, search, probe_limits(host), wait=wait))
        ]
    tools = in_engine_tools(host, search)
    layers = partial(read_contents, engine, image, manifest.build.max_size, SearchedFiles(context))
    in_engine.append(
        (Check.CONTENT, lambda: apply_reviews(
            check_content(layers, built.digest, manifest, tools[Check.CONTENT], now, search.in_files),
            manifest.reviewed,
        )),
    )  # fmt: skip
    return [
        *(Planned(check, tools[check], make) for check, make in in_engine),
        *(_with_tool(check, workbench.tool(name), make) for check, name, make in by_tool),
    ]


def probe_limits(host: ContainerHost) -> Room:
    """Return what a check may use of the host; the same amount stays free for each running build."""
    limits, storage = host.build_limits, host.storage
    if not storage:
        return Room(limits, lambda: "")
    return Room(limits, FreeSpace(storage, limits, lambda: 1 + running_builds(host.owner)).check_limits)


def in_engine_tools(host: ContainerHost, search: SecretSearch) -> dict[Check, Mapping[str, str]]:
    """Return, for each check that needs the image in the engine, everything it depends on, with versions."""
    engine = host.engine()
    both, content = list_probe_tools(engine, search), {**engine.versions(), **search.tools, "content": CONTENT_VERSION}
    tests = {**both, "tests": TESTS_VERSION}
    return {Check.TESTS: tests, Check.PROBE: both, Check.COMMAND: both, Check.CONTENT: content}


def _with_tool(check: Check, tool: Tool, make: Callable[[Tool], CheckResult]) -> Planned:
    of = {Check.SECRETS: secrets_tools, Check.SOURCE: source_tools}.get(check)
    return Planned(check, of(tool) if of else {tool.name: tool.version}, lambda: make(tool))


def dependencies(snapshot: Snapshot, tier: Tier, workbench: Workbench) -> Dependencies:
    """Return the check of the source's declared dependencies for known vulnerabilities."""
    return Dependencies(
        source=snapshot.context,
        generator=tier.syft(workbench),
        scanner=workbench.grype(),
        days=snapshot.manifest.limits.scan_days,
    )
