"""Copies images between repositories and extracts their files with crane, without an engine."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from supply_chain.adapters.process import tool_errors
from supply_chain.adapters.process.command import Tool
from supply_chain.adapters.registry.upstream_manifests import LayersByManifest, check_config, read_manifests
from supply_chain.errors import AccessDenied, BaseMissing, RegistryFailed, RegistryUnavailable
from supply_chain.model.image import ImageRef

TIMEOUT = 900.0


@dataclass(frozen=True)
class Crane:
    """Copies images within one registry with the permissions of one role."""

    tool: Tool
    host: str
    docker_config: Callable[[], AbstractContextManager[Path]]
    insecure: bool = False

    def copy(self, source: ImageRef, repository: str, tag: str) -> None:
        """Copy `source`, by digest, to `repository` under `tag`; the digest does not change."""
        self._run(f"copy {source} to {repository}", "copy", f"{self.host}/{source}", f"{self.host}/{repository}:{tag}")

    def export(self, ref: ImageRef, target: Path) -> None:
        """Write the image's root filesystem (a tar) to `target`; each layer is verified against the manifest."""
        self._run(f"read {ref}", "export", f"{self.host}/{ref}", "-", stdout_to=target)

    def _run(self, doing: str, *arguments: str, stdout_to: Path | None = None) -> None:
        """Run crane; `doing` completes "could not …" in an error."""
        with self.docker_config() as config:
            done = self.tool.with_environment(DOCKER_CONFIG=str(config)).run(
                *arguments, *(("--insecure",) if self.insecure else ()),
                timeout=TIMEOUT, check=False, stdout_to=stdout_to,
            )  # fmt: skip
        if done.status == 0:
            return
        message = done.stderr[-1000:].strip()
        if tool_errors.is_denied(message):
            raise AccessDenied(
                f"This tier's role may not {doing}: {message}\n"
                "Each tier may read and write only what its policy in deployments/iam allows."
            )
        kind = RegistryUnavailable if tool_errors.is_transient(message) else RegistryFailed
        raise kind(f"It could not {doing}: {message}\nNothing was done with it; run the step again.")


def read_upstream_config(crane: Tool, address: str, platform: str) -> bytes:
    """Return the configuration of an image in another registry, given by digest, requested without credentials.

    Raises `BaseMissing`, `DockerfileRefused` if BuildKit may read it differently, or `RegistryUnavailable` if that
    registry does not answer.
    """
    config = _read_upstream(crane, address, "config", "--platform", platform, address)
    check_config(config, address)
    return config.encode()


def read_upstream_manifests(crane: Tool, address: str, platform: str | None) -> LayersByManifest:
    """Read the manifests of an image in another registry with `read_manifests`; raise as `read_upstream_config`."""
    name = address.partition("@")[0]
    return read_manifests(
        lambda digest: _read_upstream(crane, address, "manifest", f"{name}@{digest}"), address, platform
    )


def _read_upstream(crane: Tool, address: str, *arguments: str) -> str:
    """Return the JSON object about the image that crane prints."""
    done = crane.run(*arguments, timeout=60, check=False, quiet=True)
    message = done.stderr[-1000:].strip()
    if done.status == 0 and is_document(done.stdout):
        return done.stdout
    remedy = "Use a curated base, or declare an image by digest that this machine can reach."
    if done.status != 0 and tool_errors.is_transient(message) and not tool_errors.is_not_found(message):
        raise RegistryUnavailable(
            f"The registry of the base {address} did not answer: {message}\nBuild again. {remedy}"
        )
    raise BaseMissing(f"The base {address} cannot be read: {message or done.stdout[:80]}\n{remedy}")


def is_document(text: str) -> bool:
    """Return whether the text is a JSON object."""
    try:
        return isinstance(json.loads(text), dict)
    except (ValueError, RecursionError):
        return False
