"""BuildKit through `docker buildx build`; the engine's image store keeps the result."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter

from supply_chain.adapters.command import Tool
from supply_chain.adapters.registry import Registry
from supply_chain.development.build import Order
from supply_chain.errors import AccessDenied, BuildFailed, RegistryFailed, RegistryUnavailable
from supply_chain.image import Digest
from supply_chain.scratch import scratch

DENIED = re.compile(r"denied|unauthorized|\b40[13] ", re.IGNORECASE)
"""What docker says of a push that the role may not do."""
DIGEST: TypeAdapter[Digest] = TypeAdapter(Digest)


@dataclass(frozen=True)
class Buildx:
    """Builds to an OCI archive, as only that can have the layers' timestamps rewritten, and loads it.

    `network` and `ca_bundle` are the profile's; the bundle is mounted as a secret and stays out of layers."""

    tool: Tool
    docker_config: Callable[[], AbstractContextManager[Path]]
    engine_version: Callable[[], str]
    registry: Registry
    network: str = "default"
    ca_bundle: Path | None = None

    def build(self, order: Order) -> Digest:
        """See `development.build.Builder`; `order.timeout` in seconds."""
        with self.docker_config() as config, scratch("build") as work:
            metadata, archive = work / "metadata.json", work / "image.tar"
            docker = self.tool.with_environment(
                DOCKER_CONFIG=str(config), SOURCE_DATE_EPOCH=str(order.epoch), BUILDX_CONFIG=f"{work}/buildx"
            )
            done = docker.run(
                *self._arguments(order, metadata, archive), timeout=order.timeout, check=False, keep=1024 * 1024
            )
            if done.status != 0:
                raise BuildFailed(
                    f"The build of {order.target or 'the image'} failed: {_last_error(done.stderr)}\n"
                    "Its whole output is in the log above; correct the Dockerfile or the code and build again."
                )
            docker.run("load", "--input", archive, timeout=300, quiet=True)
            return self._digest(metadata)

    def _arguments(self, order: Order, metadata: Path, archive: Path) -> list[str]:
        arguments = [
            "buildx", "build", "--progress=plain", "--provenance=false", "--sbom=false",
            f"--platform={order.platform}", f"--file={order.dockerfile}", f"--metadata-file={metadata}",
            f"--output=type=oci,dest={archive},rewrite-timestamp=true,name={order.name}",
        ]  # fmt: skip
        arguments.append(
            f"--build-arg=BUILDKIT_CACHE_MOUNT_NS={order.name.partition(':')[0]}"
        )  # one application's alone
        if self.network != "default":
            arguments += [f"--network={self.network}", f"--allow=network.{self.network}"][
                : 1 + (self.network == "host")
            ]
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
        remote = f"{self.registry.host}/{repository}:{tag}"
        with self.docker_config() as config:
            docker = self.tool.with_environment(DOCKER_CONFIG=str(config))
            docker.run("tag", local, remote, timeout=60)
            done = docker.run("push", remote, timeout=900, check=False)
            docker.run("rmi", "--no-prune", remote, timeout=60, check=False, quiet=True)
        if done.status != 0:
            said = (done.stderr or done.stdout)[-1000:].strip()
            kind = AccessDenied if DENIED.search(said) else RegistryUnavailable
            raise kind(f"The image could not be pushed to {repository}: {said}\nNothing was offered; run it again.")
        digest = self.registry.digest_of(repository, tag)
        if digest is None:
            raise RegistryFailed(f"{remote} is not there after its push.\nLook at the registry's log.")
        return digest


def _last_error(stderr: str) -> str:
    errors = [line for line in stderr.splitlines() if "ERROR" in line or "error:" in line]
    return (errors or stderr.splitlines() or ["it said nothing"])[-1][-600:]
