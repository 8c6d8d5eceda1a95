"""Build contexts: an application's own directory, or a copy with the root filesystem it declares."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from supply_chain.app import Base, Rootfs, Service
from supply_chain.scratch import scratch

MakeRootfs = Callable[[Rootfs, Path, int, Path], object]
"""`(rootfs, target tar, source date epoch, work directory)`"""


@contextlib.contextmanager
def build_context(manifest: Service | Base, directory: Path, epoch: int, make_rootfs: MakeRootfs) -> Iterator[Path]:
    """The directory to build in; a copy is gone afterwards."""
    if not isinstance(manifest, Base) or manifest.rootfs is None:
        yield directory
        return
    with scratch("rootfs") as work:
        copy = work / "context"
        shutil.copytree(directory, copy, symlinks=True)
        target = copy / manifest.build.context / "rootfs.tar"
        target.unlink(missing_ok=True)  # also where it is a link to somewhere else
        make_rootfs(manifest.rootfs, target, epoch, work / "work")
        yield copy
