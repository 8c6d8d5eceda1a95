"""Images for a real cluster, imported into the containerd of its node (CONTAINERD_ADDRESS)."""

from __future__ import annotations

import io
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

from supply_chain.model.image import Digest
from tests.support.layered import layered

REGISTRY = "registry.test"
NAME = f"{REGISTRY}/curated/hello"
CTR = ("ctr", "-n", "k8s.io")
Import = Callable[..., Digest]
"""Imports an image whose program has the given faults, and returns its digest."""


@contextmanager
def imported_images(program: Path, directory: Path) -> Iterator[Import]:
    """Yield what imports images of a program, which are removed at the end; archives are written to a directory."""
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as tar:
        entry = tarfile.TarInfo("subject")
        entry.mode, entry.size = 0o755, program.stat().st_size
        tar.addfile(entry, io.BytesIO(program.read_bytes()))
    made: list[str] = []

    def make(*faults: str) -> Digest:
        path = directory / f"{uuid4().hex}.tar"
        config: dict[str, object] = {"Entrypoint": ["/subject"], "Cmd": list(faults), "Labels": {"test": uuid4().hex}}
        digest = layered(path, [layer.getvalue()], config)
        run_ctr("images", "import", "--base-name", NAME, "--digests", str(path))
        path.unlink()
        made.append(f"{NAME}@{digest}")
        return digest

    try:
        yield make
    finally:
        if made:
            run_ctr("images", "rm", *made)


def run_ctr(*arguments: str) -> str:
    """Run a command of the node's containerd, and return its output."""
    return subprocess.run([*CTR, *arguments], check=True, timeout=60, capture_output=True, text=True).stdout
