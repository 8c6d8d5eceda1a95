"""Builds with BuildKit through buildx into the engine's image store."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from supply_chain.adapters.docker.build_cgroup import BuildCgroup, make_separation_arguments
from supply_chain.adapters.docker.build_guard import REMOTE_ENGINE, LocalEngine, prepare_group, run_guarded
from supply_chain.adapters.docker.build_record import parse_record
from supply_chain.adapters.docker.engine_errors import LOST
from supply_chain.adapters.docker.source_policy import make_source_policy
from supply_chain.adapters.image.archives import check_archives
from supply_chain.adapters.image.layers import UNREADABLE, is_larger
from supply_chain.adapters.process import tool_errors
from supply_chain.adapters.process.command import WHOLE_OUTPUT, CommandResult, Tool
from supply_chain.adapters.registry.client import Registry
from supply_chain.concurrency import map_concurrently
from supply_chain.development.build import BuildOrder, BuildResult
from supply_chain.development.content import explain_excess_size
from supply_chain.development.separation import BuildLimits
from supply_chain.errors import (
    AccessDenied,
    BaseMissing,
    BuildFailed,
    BuildLimitExceeded,
    DeclarationInvalid,
    DockerfileRefused,
    EngineUnavailable,
    EngineUnsuitable,
    RegistryFailed,
    RegistryUnavailable,
    SupplyChainError,
)
from supply_chain.model.image import Digest
from supply_chain.scratch import make_scratch_directory

DIGEST: TypeAdapter[Digest] = TypeAdapter(Digest)


@dataclass(frozen=True)
class Buildx:
    """Builder that writes into the engine's store, and pusher of images.

    A reproducible image is built into an OCI archive first, which the engine then loads: only in an archive can the
    timestamps of layers be rewritten. `tool` is the Docker client, which loads and pushes; `buildx` builds. `network`
    and `ca_bundle` come from the profile; the bundle is mounted as a secret and does not get into layers.
    """

    tool: Tool
    buildx: Tool
    docker_config: Callable[[], AbstractContextManager[Path]]
    engine_version: Callable[[], str]
    registry: Registry
    network: str = "default"
    ca_bundle: Path | None = None
    limits: BuildLimits | None = None
    engine: LocalEngine = REMOTE_ENGINE
    owner: str = ""
    """The supply chain that builds, among those on this machine."""

    def build(self, *orders: BuildOrder) -> tuple[BuildResult, ...]:
        """Build the orders in parallel; see `development.build.Builder`. `order.timeout` is in seconds."""
        unpacked = {place: order for order in orders if order.unpacks for place in _source_directories(order)}
        for place, order in unpacked.items():
            check_archives(place, order.max_size, order.timeout)
        keys = {order.key for order in orders}
        groups = {key: prepare_group(key, self.owner, self.limits) for key in keys} if self.limits else {}
        return map_concurrently(lambda order: self._build_one(order, groups.get(order.key)), orders)

    def _build_one(self, order: BuildOrder, group: BuildCgroup | None) -> BuildResult:
        with self.docker_config() as config, make_scratch_directory("build") as work:
            metadata, archive = work / "metadata.json", work / "image.tar"
            dockerfile = _write_dockerfile(order, work)
            policy = _write_policy(order, work)
            docker = self.tool.with_environment(DOCKER_CONFIG=str(config))
            buildx = self.buildx.with_environment(
                DOCKER_CONFIG=str(config),
                SOURCE_DATE_EPOCH=str(order.epoch),
                BUILDX_CONFIG=f"{work}/buildx",
                BUILDX_GIT_INFO="false",  # or it runs git, with the configuration of any repository above the context
                BUILDX_METADATA_PROVENANCE="max",
                EXPERIMENTAL_BUILDKIT_SOURCE_POLICY=str(policy),
            )
            arguments = self._arguments(order, dockerfile, metadata, archive)
            options: Any = {"check": False, "keep": 1024 * 1024, "own_message": _read_own_message}
            call = partial(buildx.run, *arguments, timeout=order.timeout, **options)
            done = self._run_guarded(order, group, call)
            if done.status != 0:
                raise _build_error(order, _last_error(done.stderr), _last_output(done.stderr))
            if order.reproducible:
                _check_size(order, archive)
                load = partial(docker.run, "load", "--input", archive, timeout=300, quiet=True, check=False)
                loaded = self._run_guarded(order, group, load)
                if loaded.status != 0 and LOST.search(loaded.stderr):
                    loaded = self._run_guarded(order, group, load)
                if loaded.status != 0:
                    raise _build_error(order, f"the engine did not take it: {loaded.stderr[-600:].strip()}")
            written = _read_metadata(metadata)
        result = BuildResult(digest=_digest(written), record=parse_record(written))
        order.when_loaded(result.digest)
        return result

    def _run_guarded(
        self, order: BuildOrder, group: BuildCgroup | None, call: Callable[[], CommandResult]
    ) -> CommandResult:
        return run_guarded(order, group, self.limits, self.engine, call) if group and self.limits else call()

    def _arguments(self, order: BuildOrder, dockerfile: Path, metadata: Path, archive: Path) -> list[str]:
        rewritten = f"type=oci,dest={archive},rewrite-timestamp=true"
        here = "type=image,unpack=true,compression=uncompressed"  # no registry gets it
        arguments = [
            "build", "--progress=plain", "--provenance=false", "--sbom=false",
            f"--platform={order.platform}", f"--file={dockerfile}", f"--metadata-file={metadata}",
            f"--output={rewritten if order.reproducible else here},name={order.name}",
        ]  # fmt: skip
        arguments += make_separation_arguments(order, self.limits, self.owner)
        if self.network != "default":
            arguments.append(f"--network={self.network}")
        if self.ca_bundle:
            arguments.append(f"--secret=id=ca,src={self.ca_bundle}")
        if order.target:
            arguments.append(f"--target={order.target}")
        arguments += [f"--build-context={directory.name}={directory}" for directory in order.fetched.values()]
        arguments += [f"--annotation={key}={value}" for key, value in order.annotations.items()]
        return [*arguments, str(order.context)]

    def versions(self) -> dict[str, str]:
        """Return the versions of buildx and the engine."""
        return {"buildx": self.buildx.version, "engine": self.engine_version()}

    def push(self, local: str, repository: str, tag: str) -> Digest:
        """Push a local image and return its digest; see `development.offer.Pusher`."""
        remote = f"{self.registry.http.host}/{repository}:{tag}"
        with self.docker_config() as config:
            docker = self.tool.with_environment(DOCKER_CONFIG=str(config))
            docker.run("tag", local, remote, timeout=60)
            done = docker.run("push", remote, timeout=900, check=False)
            docker.run("rmi", "--no-prune", remote, timeout=60, check=False, quiet=True)
        if done.status != 0:
            message = (done.stderr or done.stdout)[-1000:].strip()
            if tool_errors.is_engine_lost(message):
                raise _engine_error(f"The image could not be pushed to {repository}", message)
            kind = AccessDenied if tool_errors.is_denied(message) else RegistryUnavailable
            raise kind(f"The image could not be pushed to {repository}: {message}\nNothing was offered; run it again.")
        digest = self.registry.digest_of(repository, tag)
        if digest is None:
            raise RegistryFailed(f"{remote} is not there after its push.\nLook at the registry's log.")
        return digest


def _source_directories(order: BuildOrder) -> tuple[Path, ...]:
    """Return the directories that files come from; the orders of one build share most of them."""
    return (order.context, *order.fetched.values())


def _write_dockerfile(order: BuildOrder, work: Path) -> Path:
    """Write the Dockerfile exactly as it was read, with an empty ignore file, into a private directory.

    The ignore file is empty because the context is a snapshot, which already lacks the ignored files.
    """
    directory = work / "dockerfile"
    directory.mkdir(mode=0o700)
    (directory / "Dockerfile").write_bytes(order.dockerfile)
    (directory / "Dockerfile.dockerignore").touch()
    return directory / "Dockerfile"


def _write_policy(order: BuildOrder, work: Path) -> Path:
    policy = make_source_policy(order.images, {url: directory.name for url, directory in order.fetched.items()})
    (work / "policy.json").write_text(json.dumps(policy), encoding="utf-8")
    return work / "policy.json"


def _read_metadata(metadata: Path) -> Mapping[str, Any]:
    try:
        content = json.loads(metadata.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise _unknown_image(error) from error
    return content if isinstance(content, dict) else {}


def _digest(metadata: Mapping[str, Any]) -> Digest:
    try:
        return DIGEST.validate_python(metadata["containerimage.digest"])
    except (ValueError, KeyError) as error:
        raise _unknown_image(error) from error


def _unknown_image(error: Exception) -> BuildFailed:
    return BuildFailed(
        f"The build did not say which image it made ({error}).\n"
        "Check that the engine keeps its images in the containerd store (`cscm doctor`)."
    )


def _check_size(order: BuildOrder, archive: Path) -> None:
    """Refuse an image that is too large before the engine unpacks it.

    A file that is sparse in a build step takes its full size in the engine's store.
    """
    try:
        larger = is_larger(archive, order.max_size)
    except UNREADABLE as error:
        raise _build_error(order, f"its layers cannot be read: {type(error).__name__}: {error}") from error
    if larger:
        raise BuildLimitExceeded(
            f"{explain_excess_size(order.max_size)} The engine was not asked to take it.\n"
            "Make it smaller, or declare its size in supply-chain.yaml."
        )


LAST_LINES = 5
"""Number of last lines of a failed step that an error message quotes."""
BASE = "failed to resolve source metadata"
DENIED = "denied by policy"
STEP_FAILED = "did not complete successfully"
"""Words after the command of a failed step in BuildKit's message."""


def _build_error(order: BuildOrder, message: str, words: str = "") -> SupplyChainError:
    """Return the error that explains why there is no image: the engine, a base, or the build itself.

    `words` are the last lines of the failed step's output. They and the step's command are quoted, but do not decide
    which error it is.
    """
    what = f"The build of {order.target or 'the image'} failed: {message}\n"
    own = message.rpartition(STEP_FAILED)[2]
    if tool_errors.is_engine_lost(own):
        return _engine_error(f"The build of {order.target or 'the image'} ended", message)
    if order.target and f'target stage "{order.target}" could not be found' in own:
        return DeclarationInvalid(
            f"{what}The Dockerfile has no stage {order.target}, in which supply-chain.yaml runs the tests. Give the "
            "stage of the tests that name, or name it in test.stage."
        )
    if DENIED in own:
        return DockerfileRefused(
            f"{what}BuildKit was not allowed to take that in. Declare it in build.fetch, or remove it."
        )
    if BASE in own and "not found" in own:
        return BaseMissing(f"{what}A base is no longer where it was. Name one by digest that this machine can reach.")
    if BASE in own and tool_errors.is_transient(own):
        return RegistryUnavailable(f"{what}The registry of a base did not answer. Check that it runs, and build again.")
    if words:
        what += f"The last output of the step: {words}\n"
    return BuildFailed(f"{what}{WHOLE_OUTPUT}; correct the Dockerfile or the code and build again.")


def _engine_error(what: str, message: str) -> EngineUnavailable:
    return EngineUnavailable(
        f"{what}, as the engine stopped answering: {message}\nStart it (`cscm up` on a laptop), and run the step again."
    )


def _last_output(stderr: str) -> str:
    """Return the last lines that a failed step printed, as BuildKit repeats them, without the times; empty if none."""
    _, _, repeated = stderr.rpartition("\n------\n > [")
    lines = repeated.partition("\n------\n")[0].splitlines()[1:]
    return " | ".join(line.partition(" ")[2].strip() for line in lines[-LAST_LINES:])[-600:]


def _read_own_message(line: str) -> str:
    """Return what BuildKit itself says in a line: neither the output of a step nor the text of its command."""
    return line.rpartition(STEP_FAILED)[2] if line.startswith("ERROR: ") else ""


def _last_error(stderr: str) -> str:
    errors = [line for line in stderr.splitlines() if "ERROR" in line or "error:" in line]
    return (errors or stderr.splitlines() or ["it said nothing"])[-1][-600:]


def find_client(path: str) -> Path:
    """Return the first `docker` on `path`, which loads and pushes images; raise `EngineUnsuitable` if there is none."""
    program = shutil.which("docker", path=path or os.defpath)
    if program is None:
        raise EngineUnsuitable(
            "No `docker` on PATH, which loads and pushes images.\n"
            "Install it: the package docker-cli on Debian, docker-ce-cli from Docker's own repository."
        )
    return Path(program)
