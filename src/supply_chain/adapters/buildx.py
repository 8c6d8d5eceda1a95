"""BuildKit through `docker buildx build`; the engine's image store keeps the result."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter

from supply_chain.adapters import told
from supply_chain.adapters.build_cgroup import separation
from supply_chain.adapters.build_guard import guarded
from supply_chain.adapters.command import WHOLE_OUTPUT, Tool, run
from supply_chain.adapters.registry import Registry
from supply_chain.development.build import Order
from supply_chain.development.separation import BuildLimits
from supply_chain.errors import (
    AccessDenied,
    BaseMissing,
    BuildFailed,
    DeclarationInvalid,
    EngineUnavailable,
    EngineUnsuitable,
    RegistryFailed,
    RegistryUnavailable,
    SupplyChainError,
    ToolMissing,
    ToolTimedOut,
)
from supply_chain.image import Digest
from supply_chain.scratch import scratch

DIGEST: TypeAdapter[Digest] = TypeAdapter(Digest)


@dataclass(frozen=True)
class Buildx:
    """Builds into the engine's store; what is to be reproducible to an OCI archive, and loads that.

    Only an archive can have its layers' timestamps rewritten. `network` and `ca_bundle` are the profile's; the
    bundle is mounted as a secret and stays out of layers.
    """

    tool: Tool
    docker_config: Callable[[], AbstractContextManager[Path]]
    engine_version: Callable[[], str]
    registry: Registry
    network: str = "default"
    ca_bundle: Path | None = None
    limits: BuildLimits | None = None
    storage: Path | None = None
    """Where the engine keeps its images, on this machine."""

    def build(self, order: Order) -> Digest:
        """See `development.build.Builder`; `order.timeout` in seconds."""
        with self.docker_config() as config, scratch("build") as work:
            metadata, archive = work / "metadata.json", work / "image.tar"
            docker = self.tool.with_environment(
                DOCKER_CONFIG=str(config), SOURCE_DATE_EPOCH=str(order.epoch), BUILDX_CONFIG=f"{work}/buildx"
            )
            done = guarded(
                order,
                self.limits,
                self.storage,
                lambda: docker.run(
                    *self._arguments(order, metadata, archive), timeout=order.timeout, check=False, keep=1024 * 1024
                ),
            )
            if done.status != 0:
                raise _not_built(order, _last_error(done.stderr))
            if order.reproducible:
                loaded = docker.run("load", "--input", archive, timeout=300, quiet=True, check=False)
                if loaded.status != 0:
                    raise _not_built(order, f"the engine did not take it: {loaded.stderr[-600:].strip()}")
            return self._digest(metadata)

    def _arguments(self, order: Order, metadata: Path, archive: Path) -> list[str]:
        rewritten, here = f"type=oci,dest={archive},rewrite-timestamp=true", "type=image,unpack=true"
        arguments = [
            "buildx", "build", "--progress=plain", "--provenance=false", "--sbom=false",
            f"--platform={order.platform}", f"--file={order.dockerfile}", f"--metadata-file={metadata}",
            f"--output={rewritten if order.reproducible else here},name={order.name}",
        ]  # fmt: skip
        arguments += separation(order, self.limits)
        if self.network != "default":
            arguments.append(f"--network={self.network}")
        if self.ca_bundle:
            arguments.append(f"--secret=id=ca,src={self.ca_bundle}")
        if order.target:
            arguments.append(f"--target={order.target}")
        arguments += [f"--build-context={name}=docker-image://{address}" for name, address in order.contexts.items()]
        arguments += [f"--annotation={key}={value}" for key, value in order.annotations.items()]
        return [*arguments, str(order.context)]

    def _digest(self, metadata: Path) -> Digest:
        try:
            return DIGEST.validate_python(json.loads(metadata.read_text())["containerimage.digest"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise BuildFailed(
                f"The build did not say which image it made ({error}).\n"
                "Check that the engine keeps its images in the containerd store (`cscm doctor`)."
            ) from error

    def versions(self) -> dict[str, str]:
        """Versions of buildx and the engine."""
        return {"buildx": self.tool.version, "engine": self.engine_version()}

    def push(self, local: str, repository: str, tag: str) -> Digest:
        """See `development.offer.Pusher`."""
        remote = f"{self.registry.http.host}/{repository}:{tag}"
        with self.docker_config() as config:
            docker = self.tool.with_environment(DOCKER_CONFIG=str(config))
            docker.run("tag", local, remote, timeout=60)
            done = docker.run("push", remote, timeout=900, check=False)
            docker.run("rmi", "--no-prune", remote, timeout=60, check=False, quiet=True)
        if done.status != 0:
            said = (done.stderr or done.stdout)[-1000:].strip()
            if told.engine_lost(said):
                raise _engine_lost(f"The image could not be pushed to {repository}", said)
            kind = AccessDenied if told.denied(said) else RegistryUnavailable
            raise kind(f"The image could not be pushed to {repository}: {said}\nNothing was offered; run it again.")
        digest = self.registry.digest_of(repository, tag)
        if digest is None:
            raise RegistryFailed(f"{remote} is not there after its push.\nLook at the registry's log.")
        return digest


BASE = "failed to resolve source metadata"


def _not_built(order: Order, said: str) -> SupplyChainError:
    """Why there is no image: the engine, a base, or the build itself."""
    what = f"The build of {order.target or 'the image'} failed: {said}\n"
    if told.engine_lost(said):
        return _engine_lost(f"The build of {order.target or 'the image'} ended", said)
    if order.target and f'target stage "{order.target}" could not be found' in said:
        return DeclarationInvalid(
            f"{what}The Dockerfile has no stage {order.target}, in which supply-chain.yaml runs the tests. Give the "
            "stage of the tests that name, or name it in test.stage."
        )
    if BASE in said and "not found" in said:
        return BaseMissing(f"{what}A base is no longer where it was. Name one by digest that this machine can reach.")
    if BASE in said and told.passing(said):
        return RegistryUnavailable(f"{what}The registry of a base did not answer. Check that it runs, and build again.")
    return BuildFailed(f"{what}{WHOLE_OUTPUT}; correct the Dockerfile or the code and build again.")


def _engine_lost(what: str, said: str) -> EngineUnavailable:
    return EngineUnavailable(
        f"{what}, as the engine stopped answering: {said}\nStart it (`cscm up` on a laptop), and run the step again."
    )


def _last_error(stderr: str) -> str:
    errors = [line for line in stderr.splitlines() if "ERROR" in line or "error:" in line]
    return (errors or stderr.splitlines() or ["it said nothing"])[-1][-600:]


def find_client(path: str) -> tuple[Path, str]:
    """The first `docker` on `path` that knows buildx, and buildx's version; `EngineUnsuitable`."""
    for directory in path.split(os.pathsep):
        client = Path(directory) / "docker"
        if os.access(client, os.X_OK) and (version := _buildx(client)):
            return client, version
    raise EngineUnsuitable(
        "No `docker` on PATH knows buildx, which builds the images.\n"
        "Install it: the package docker-buildx on Debian, docker-buildx-plugin from Docker's own repository."
    )


def _buildx(client: Path) -> str | None:
    try:
        done = run([str(client), "buildx", "version"], name="docker", timeout=30, quiet=True)
    except (ToolMissing, ToolTimedOut):
        return None
    match = re.search(r"\bv?(\d+\.\d+\.\d+)", done.stdout)
    return match[1] if done.status == 0 and match else None
