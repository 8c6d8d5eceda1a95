"""Build contexts: the snapshot's own, or a copy with the root filesystem that a base declares."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from supply_chain.adapters.files.free_space import require_space
from supply_chain.development.snapshot import Snapshot
from supply_chain.errors import SourceInvalid
from supply_chain.model.declaration import Base, Rootfs
from supply_chain.scratch import make_scratch_directory

MakeRootfs = Callable[[Rootfs, Path, int, Path], object]
"""`(rootfs, target tar, source date epoch, work directory)`"""


@contextlib.contextmanager
def build_context(snapshot: Snapshot, make_rootfs: MakeRootfs) -> Iterator[Path]:
    """Yield the directory to build in; remove a copy afterwards.

    Raises `DiskFull` if the copy would use the reserve of free space, and `SourceInvalid` if the context has a
    directory in place of the root filesystem.
    """
    declaration = snapshot.declaration
    if not isinstance(declaration, Base) or declaration.rootfs is None:
        yield snapshot.context
        return
    with make_scratch_directory("rootfs") as work:
        copy = work / work.name  # a unique name: see `Snapshot.context`
        shutil.copytree(snapshot.context, copy, symlinks=True, copy_function=_copy_file)
        target = copy / "rootfs.tar"
        if target.is_dir() and not target.is_symlink():
            raise SourceInvalid(
                "rootfs.tar is a directory of the build context, and the declared root filesystem needs that name.\n"
                "Rename it, or name it in the ignore file."
            )
        target.unlink(missing_ok=True)  # it may be a link to another place
        make_rootfs(declaration.rootfs, target, snapshot.source.committed, work / "work")
        yield copy


def _copy_file(source: str, target: str) -> str:
    require_space(Path(target).parent, "The build context is not copied")
    return shutil.copy2(source, target, follow_symlinks=False)
