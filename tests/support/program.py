"""A program in place of a tool."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from supply_chain.adapters.process.command import Tool


@dataclass
class Program:
    """A program in place of a tool: it records its calls and behaves as the test says."""

    directory: Path
    name: str

    def does(self, script: str = "", *, stdout: str | bytes = "", stderr: str = "", status: int = 0) -> Tool:
        """Set the behavior of the program and return it as a tool; `script` is sh and may set another exit status."""
        (self.directory / "stdout").write_bytes(stdout.encode() if isinstance(stdout, str) else stdout)
        (self.directory / "stderr").write_text(stderr)
        path = self.directory / self.name
        path.write_text(
            f"#!/bin/sh\nhere={self.directory}\n"
            'n=$(ls "$here" | grep -c "^argv"); printf "%s\\0" "$@" > "$here/argv.$n"; env -0 > "$here/env.$n"\n'
            f'{script}\ncat "$here/stdout"; cat "$here/stderr" >&2; exit {status}\n'
        )
        path.chmod(0o755)
        return Tool(self.name, path, "1.2.3")

    @property
    def calls(self) -> list[list[str]]:
        """The arguments of every call."""
        return [(self.directory / f"argv.{n}").read_text().split("\0")[:-1] for n in range(self._count)]

    @property
    def environments(self) -> list[dict[str, str]]:
        """The environment of every call."""
        texts = [(self.directory / f"env.{n}").read_text() for n in range(self._count)]
        return [dict(line.split("=", 1) for line in text.split("\0") if "=" in line) for text in texts]

    @property
    def _count(self) -> int:
        return len(list(self.directory.glob("argv.*")))
