"""Reader of Dockerfiles and ignore files: a small Go program of this project around BuildKit's own packages."""

from __future__ import annotations

import base64
import json
import re
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from supply_chain.adapters.process.command import CommandResult, Tool
from supply_chain.development.dockerfile import INSTRUCTIONS, Reading
from supply_chain.errors import DockerfileRefused, SourceInvalid, ToolFailed, ToolTimedOut
from supply_chain.scratch import make_scratch_directory

TIMEOUT = 30.0
EXHAUSTED = re.compile(
    r"^(?:fatal error|runtime): .*(?:out of memory|cannot allocate memory|stack overflow)", re.MULTILINE
)
"""Message with which Go's runtime ends a program that exceeds its memory limit (exit status 2)."""


@dataclass(frozen=True)
class BuildKitReader:
    """Implementation of `development.dockerfile.DockerfileReader`, which also applies ignore files."""

    tool: Tool

    @property
    def version(self) -> str:
        """Version of the reader, which contains BuildKit's version."""
        return self.tool.version

    def read(
        self,
        content: bytes,
        targets: Sequence[str],
        platform: str,
        arguments: Mapping[str, str],
        namespace: str,
        configs: Mapping[str, bytes],
    ) -> Reading:
        """Read a Dockerfile; see `development.dockerfile.DockerfileReader.read`."""
        request = {
            "dockerfile": base64.b64encode(content).decode("ascii"),
            "targets": list(targets),
            "platform": platform,
            "build_args": dict(arguments),
            "namespace": namespace,
            "instructions": INSTRUCTIONS,
        }
        with make_scratch_directory("reader") as work:
            (work / "input").write_text(_to_json(request, configs), encoding="utf-8")
            try:
                done = self.tool.run("read", timeout=TIMEOUT, stdin_from=work / "input", check=False, quiet=True)
            except ToolTimedOut as error:
                raise DockerfileRefused(
                    f"Reading the Dockerfile takes more than {TIMEOUT:g} seconds, and was ended.\n"
                    "Look for thousands of lines in a heredoc, and of variables or ports; put them into files of the "
                    "context."
                ) from error
        self._check_end(done)
        try:
            return Reading.model_validate_json(done.stdout)
        except ValidationError as error:
            raise ToolFailed(
                f"What {self.tool.name} says of the Dockerfile cannot be read: {error.errors()[0]['msg']}\n"
                "Run `cscm up`, which builds the reader of this version."
            ) from error

    def _check_end(self, done: CommandResult) -> None:
        """Raise `DockerfileRefused` if memory ran out, and `ToolFailed` for any other failure.

        The reader limits its own memory. On a machine with less memory than that, the kernel kills it.
        """
        if done.status == -signal.SIGKILL or (done.status == 2 and EXHAUSTED.search(done.stderr)):
            raise DockerfileRefused(
                "Reading the Dockerfile takes more memory than a build may use for it, and was ended.\n"
                "Look for variables whose values repeat other variables, as ENV A=$A$A does, and shorten them."
            )
        if done.status != 0:
            raise ToolFailed(
                f"{self.tool.name} ended with status {done.status}: {done.stderr[:2000].strip()}\n"
                "Run `cscm up`, which builds the reader of this version."
            )

    def find_excluded(self, ignore: bytes, paths: Sequence[str]) -> frozenset[str]:
        """Return the paths that an ignore file excludes from a context, as BuildKit's client applies it.

        No path may contain NUL. Raises `SourceInvalid` if the ignore file cannot be parsed.
        """
        listed = "\0".join(paths).encode("utf-8", "surrogateescape")
        with make_scratch_directory("ignore") as work:
            (work / "input").write_bytes(b"%d\n%s%s" % (len(ignore), ignore, listed))
            try:
                done = self.tool.run(
                    "ignore", timeout=TIMEOUT, stdin_from=work / "input", stdout_to=work / "output", check=False,
                    quiet=True,
                )  # fmt: skip
            except ToolTimedOut as error:
                raise SourceInvalid(
                    f"Applying the ignore file to {len(paths)} paths takes more than {TIMEOUT:g} seconds, and was "
                    "ended.\nWrite fewer and simpler patterns, or build from a smaller context."
                ) from error
            names = (work / "output").read_bytes().split(b"\0")
        if done.status != 0:
            raise SourceInvalid(
                f"The ignore file cannot be read: {done.stderr[-500:].strip()}\nCorrect its patterns, and try again."
            )
        return frozenset(name.decode("utf-8", "surrogateescape") for name in names if name)


def _to_json(request: Mapping[str, Any], configs: Mapping[str, bytes]) -> str:
    """Return the request to the reader, with the configurations of images; raise `DockerfileRefused` if one is none."""
    try:
        decoded = {name: json.loads(config) for name, config in configs.items()}
        return json.dumps({**request, "configs": decoded}, allow_nan=False)
    except (ValueError, RecursionError) as error:
        raise DockerfileRefused(
            f"The configuration of an image that the Dockerfile names cannot be read: {error}\nUse another image."
        ) from error
