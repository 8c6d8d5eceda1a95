"""What the steps of development use."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Self

from blocks.host import ContainerHost
from blocks.tier_ports import TierPorts
from blocks.workbench import Workbench
from orchestration.clock import read_clock
from supply_chain.adapters.docker.build_cgroup import count_running_builds
from supply_chain.adapters.docker.build_context import build_context
from supply_chain.adapters.docker.buildx import Buildx
from supply_chain.adapters.docker.concurrent_builder import ConcurrentBuilder
from supply_chain.adapters.docker.free_space import FreeSpace
from supply_chain.adapters.docker.url_fetch import Fetcher
from supply_chain.adapters.image.layers import read_contents
from supply_chain.adapters.process.cancellation import sleep
from supply_chain.adapters.tools.bandit import ReadSources, SourceScan, list_source_tools
from supply_chain.adapters.tools.mmdebstrap import make_rootfs
from supply_chain.adapters.tools.secrets import SearchedFiles, SecretSearch
from supply_chain.adapters.tools.source_checks import plan_source_checks
from supply_chain.concurrency import run_both
from supply_chain.development.build import BuildPorts, make_local_name, test_name
from supply_chain.development.content import CONTENT_VERSION, check_content
from supply_chain.development.probe import (
    TESTS_VERSION,
    CheckSetup,
    check_command,
    list_probe_tools,
    list_service_tools,
    probe,
    run_tests,
)
from supply_chain.development.review import apply_reviews
from supply_chain.development.separation import Room, compute_cache_key
from supply_chain.development.snapshot import Snapshot
from supply_chain.development.test import Dependencies, EarlyChecks, Planned
from supply_chain.development.traces import clear, forget_image
from supply_chain.evidence.checks import Check, CheckResult
from supply_chain.model.declaration import Rootfs, Service
from supply_chain.model.image import BuiltImage, Digest
from supply_chain.model.tier import TierName, name_development_repository


@dataclass(frozen=True, eq=False)
class DevelopmentPorts(TierPorts):
    """The dependencies of development's steps, and the host that builds and tests images."""

    name = TierName.DEVELOPMENT
    host: ContainerHost

    @classmethod
    async def aload(cls) -> Self:
        """Load the blocks; raise `SettingInvalid` if one does not exist or is invalid."""
        tier, workbench = await cls._load()
        return cls(tier, workbench, await ContainerHost.aload(workbench.build_host))

    def build_ports(self, origin: Path, checks: EarlyChecks) -> BuildPorts:
        """Return the dependencies of a build, which makes the `checks` meanwhile.

        `origin` is the real path of the directory that is built.
        """
        workbench, host = self.workbench, self.host

        def rootfs(declaration: Rootfs, target: Path, epoch: int, work: Path) -> object:
            work.mkdir()
            return make_rootfs(workbench.tool("mmdebstrap"), declaration, target, epoch, work)

        def context(snapshot: Snapshot) -> AbstractContextManager[Path]:
            return build_context(snapshot, rootfs)

        builder, bases = run_both(lambda: self.buildx, lambda: self.bases)
        return BuildPorts(
            builder=ConcurrentBuilder(builder, checks.check_source),
            reader=workbench.dockerfile_reader,
            bases=bases,
            fetch=Fetcher(self._ca_bundle, reserve=host.build_limits.reserve).fetch,
            offered=self.repositories,
            evidence=self.evidence,
            in_engine=in_engine_tools(host, workbench),
            context=context,
            cache_key=partial(compute_cache_key, host.owner, origin),
            now=read_clock,
            version=workbench.version,
            hosted=host.hosted,
            when_loaded=checks.check_content,
        )

    @property
    def buildx(self) -> Buildx:
        """buildx, which builds on the host's engine and pushes with the tier's credentials."""
        workbench, host = self.workbench, self.host
        return Buildx(
            tool=workbench.docker.with_environment(DOCKER_HOST=host.url),
            buildx=workbench.tool("buildx").with_environment(DOCKER_HOST=host.url),
            docker_config=self.repositories.docker_config,
            engine_version=lambda: host.engine().versions()["engine"],
            registry=self.registry,
            network=workbench.build_network,
            ca_bundle=self._ca_bundle,
            limits=host.build_limits,
            engine=host.local_engine,
            owner=host.owner,
        )

    @property
    def _ca_bundle(self) -> Path | None:
        return Path(self.workbench.ca_bundle) if self.workbench.ca_bundle else None

    def plan_checks(self, built: BuiltImage, snapshot: Snapshot, early: EarlyChecks) -> list[Planned]:
        """Return the checks of the image for this kind of application, slowest first."""
        workbench, host = self.workbench, self.host
        declaration, image = snapshot.declaration, make_local_name(built.application, built.invocation)
        search = SecretSearch(workbench.tool("detect-secrets"))
        setup = CheckSetup(host.engine(), built.invocation, search, probe_limits(host), read_clock, sleep)
        in_engine: list[tuple[Check, Callable[[], CheckResult]]]
        if isinstance(declaration, Service):
            in_engine = [
                (Check.PROBE, partial(probe, setup, image, declaration)),
                (Check.TESTS, partial(run_tests, setup, test_name(image), declaration)),
            ]
        else:
            in_engine = [(Check.COMMAND, partial(check_command, setup, image, declaration))]
        in_engine.append((Check.CONTENT, partial(early.content, built.digest)))
        tools = in_engine_tools(host, workbench)
        return [Planned(check, tools[check], make) for check, make in in_engine]

    def early_checks(self, snapshot: Snapshot, run: str) -> EarlyChecks:
        """Return the checks that are made during the build of a run."""
        return EarlyChecks(
            source=plan_source_checks(self.workbench.tool, snapshot, read_clock),
            content=cache(partial(self._check_content, snapshot, run)),
            dependencies=Dependencies(
                source=snapshot.context,
                generator=self.sbom_generator,
                scanner=self.workbench.scanner(),
                days=snapshot.declaration.limits.scan_days,
                now=read_clock,
            ),
        )

    def _check_content(self, snapshot: Snapshot, run: str, digest: Digest) -> CheckResult:
        workbench, host, declaration = self.workbench, self.host, snapshot.declaration
        search, bandit = SecretSearch(workbench.tool("detect-secrets")), workbench.tool("bandit")
        read = partial(
            read_contents, host.engine(), make_local_name(declaration.name, run), declaration.build.max_size,
            SearchedFiles(snapshot.context), ReadSources(snapshot.context), self.package_sources,
            declaration.runtime if isinstance(declaration, Service) else None,
        )  # fmt: skip
        tools = in_engine_tools(host, workbench)[Check.CONTENT]
        result = check_content(
            read, digest, declaration, tools, read_clock, search.search_files, SourceScan(bandit).search_files
        )
        return apply_reviews(result, declaration.reviewed)

    def remove_tests(self, built: BuiltImage) -> None:
        """Remove the image in which the tests ran, which takes the engine a while; nothing uses it again."""
        forget_image(self.host.engine(), test_name(make_local_name(built.application, built.invocation)))

    def remove_traces(self, application: str, runs: Iterable[str]) -> None:
        """Remove from the engine what these runs made there; what was offered is in the registry."""
        for run in runs:
            clear(
                self.host.engine(), application, run, f"{self.tier.registry}/{name_development_repository(application)}"
            )


def probe_limits(host: ContainerHost) -> Room:
    """Return what a check may use of the host; the same amount stays free for each running build."""
    limits, storage = host.build_limits, host.storage
    if not storage:
        return Room(limits, lambda: "")
    return Room(limits, FreeSpace(storage, limits, lambda: 1 + count_running_builds(host.owner)).check_limits)


def in_engine_tools(host: ContainerHost, workbench: Workbench) -> dict[Check, Mapping[str, str]]:
    """Return, for each check that needs the image in the engine, everything it depends on, with versions."""
    engine, search = host.engine(), SecretSearch(workbench.tool("detect-secrets"))
    both = list_probe_tools(engine, search)
    content = {
        **engine.versions(),
        **search.tools,
        **list_source_tools(workbench.tool("bandit")),
        "content": CONTENT_VERSION,
        "python-indexes": " ".join(workbench.python_indexes),
        "debian-archives": ", ".join(workbench.debian_archives),
        "npm-registries": " ".join(workbench.npm_registries),
    }
    return {
        Check.TESTS: {**both, "tests": TESTS_VERSION},
        Check.PROBE: list_service_tools(engine, search),
        Check.COMMAND: both,
        Check.CONTENT: content,
    }
