"""crane: copies images between repositories, and takes their files out, without an engine."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from supply_chain.adapters import told
from supply_chain.adapters.command import Tool
from supply_chain.errors import AccessDenied, BaseMissing, RegistryFailed, RegistryUnavailable
from supply_chain.image import DIGEST, Digest, ImageRef

TIMEOUT = 900.0


@dataclass(frozen=True)
class Crane:
    """One role's copies, within one registry."""

    tool: Tool
    host: str
    docker_config: Callable[[], AbstractContextManager[Path]]
    insecure: bool = False

    def copy(self, source: ImageRef, repository: str, tag: str) -> None:
        """Copy `source`, by digest, to `repository` under `tag`; the digest stays."""
        self._run(f"copy {source} to {repository}", "copy", f"{self.host}/{source}", f"{self.host}/{repository}:{tag}")

    def export(self, ref: ImageRef, target: Path) -> None:
        """Write the image's root filesystem (a tar) to `target`, each layer verified against the manifest."""
        self._run(f"read {ref}", "export", f"{self.host}/{ref}", "-", stdout_to=target)

    def _run(self, doing: str, *arguments: str, stdout_to: Path | None = None) -> None:
        """`doing` completes "could not …"."""
        with self.docker_config() as config:
            done = self.tool.with_environment(DOCKER_CONFIG=str(config)).run(
                *arguments, *(("--insecure",) if self.insecure else ()),
                timeout=TIMEOUT, check=False, stdout_to=stdout_to,
            )  # fmt: skip
        if done.status == 0:
            return
        said = done.stderr[-1000:].strip()
        if told.denied(said):
            raise AccessDenied(
                f"This tier's role may not {doing}: {said}\n"
                "Each tier may read and write only what its policy in deployments/iam allows."
            )
        kind = RegistryUnavailable if told.passing(said) else RegistryFailed
        raise kind(f"It could not {doing}: {said}\nNothing was done with it; run the step again.")


def digest_upstream(crane: Tool, name: str) -> Digest:
    """The digest that a name in another registry has now, asked without credentials.

    Raises `BaseMissing`, or `RegistryUnavailable` where that registry does not answer.
    """
    done = crane.run("digest", name, timeout=30, check=False, quiet=True)
    answer, said = done.stdout.strip(), done.stderr[-1000:].strip()
    if done.status == 0 and re.fullmatch(DIGEST, answer):
        return answer
    remedy = "Use a curated base, or name an image by digest that this machine can reach."
    if done.status != 0 and told.passing(said) and not told.absent(said):
        raise RegistryUnavailable(f"The registry of the base {name} did not answer: {said}\nBuild again. {remedy}")
    raise BaseMissing(f"The base {name} cannot be had: {said or answer[:80]}\n{remedy}")
