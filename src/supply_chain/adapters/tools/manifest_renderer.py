"""Renders kustomizations with kustomize and charts with helm, each with nothing but the files that were read."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from supply_chain.adapters.process import isolated
from supply_chain.adapters.process.command import Tool, run
from supply_chain.errors import ManifestsRefused, ToolTimedOut
from supply_chain.execution.kubernetes.manifest_files import CHART, KUSTOMIZATION, Release
from supply_chain.model.documents import LIMIT
from supply_chain.scratch import make_scratch_directory

TIMEOUT = 30.0
MEMORY = 1024**3
"""Maximum bytes of memory for rendering."""
RENDERERS = {KUSTOMIZATION: "kustomize", CHART: "helm"}
"""The file that makes a directory something to render → the tool that renders it."""


def find_needed(directory: Path) -> tuple[str, ...]:
    """Return the names of the tools that render what is below a directory."""
    return tuple(tool for name, tool in RENDERERS.items() if next(directory.rglob(name), None))


@dataclass(frozen=True)
class ManifestRenderer:
    """Implementation of `execution.kubernetes.manifest_files.Renderer`; `find` returns a tool by its name."""

    find: Callable[[str], Tool]

    def build_kustomization(self, files: Mapping[str, bytes], place: str) -> bytes:
        """Render a kustomization, as `Renderer` describes: no plugins or functions, and files only of its directory."""
        return self._run(files, "kustomize", "build", "--load-restrictor=LoadRestrictionsRootOnly", place)

    def template_chart(self, files: Mapping[str, bytes], place: str, release: Release) -> bytes:
        """Render a chart, as `Renderer` describes: `lookup` finds nothing, and tests are left out.

        Values that do not fit the chart's schema are refused.
        """
        values = (f"--values={release.values}",) if release.values else ()
        return self._run(
            files, "helm", "template", release.name, f"./{place}", f"--namespace={release.namespace}", *values,
            "--include-crds", "--skip-tests",
        )  # fmt: skip

    def _run(self, files: Mapping[str, bytes], name: str, *words: str) -> bytes:
        """Run a tool in a directory with these files and return what it writes, at most twice `LIMIT`."""
        tool = self.find(name)
        with make_scratch_directory("manifests") as work:
            root, home = work / "files", work / "home"
            home.mkdir()
            for path, content in files.items():
                (root / path).parent.mkdir(parents=True, exist_ok=True)
                (root / path).write_bytes(content)
            argv = [sys.executable, "-I", "-S", isolated.__file__, str(home), str(tool.path), *words]
            try:
                done = run(argv, name=name, timeout=TIMEOUT, cwd=root, keep=2 * LIMIT, quiet=True, memory=MEMORY)
            except ToolTimedOut as error:
                raise _refusal(name, words, f"it takes more than {TIMEOUT:.0f} s") from error
        if done.status != 0:
            raise _refusal(name, words, done.stderr.replace(f"{root}/", "")[:1000].strip())
        return done.stdout.encode()


def _refusal(name: str, words: tuple[str, ...], why: str) -> ManifestsRefused:
    return ManifestsRefused(
        f"{name} {words[0]} does not render the manifests: {why}\n"
        "Nothing was changed. Correct the files; they may use nothing but each other."
    )
