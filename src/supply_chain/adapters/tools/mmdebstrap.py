"""Makes root filesystems from Debian packages: mmdebstrap selects, fetches and verifies them, `rootfs` merges them."""

from __future__ import annotations

import os
import tarfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path, PurePosixPath

from supply_chain.adapters.files.free_space import require_space
from supply_chain.adapters.process.command import Tool
from supply_chain.adapters.tools import rootfs as merging
from supply_chain.errors import BuildFailed, ToolFailed
from supply_chain.model.declaration import Rootfs

TIMEOUT = 900.0
"""Seconds. A base for builds fetches about 100 MB."""
MEMORY = 2 * 1024**3
"""Maximum bytes of memory that each process of mmdebstrap and of dpkg-deb may use."""

ARCHIVES = PurePosixPath("var/cache/apt/archives")


def make_rootfs(tool: Tool, rootfs: Rootfs, target: Path, source_date_epoch: int, work: Path) -> dict[str, str]:
    """Write the root filesystem to `target` (a tar); return the version of each package in it.

    The packages are the suite's newest, including security updates, from mmdebstrap's default mirrors. The same
    packages and epoch (Unix seconds) give the same bytes. `work` is an empty directory for temporary files. Raises
    `ToolFailed` if the packages cannot be fetched, and `DiskFull` if they would use the reserve of free space: a
    declaration may name any number of packages.
    """
    work.mkdir(parents=True, exist_ok=True)
    watch = partial(require_space, work, "The root filesystem is not made")
    dpkg = replace(tool, name="dpkg-deb", path=Path("dpkg-deb"))
    fetched = {archive: _control(dpkg, archive) for archive in _fetch(tool, rootfs, work, watch)}
    needed = merging.resolve_dependencies(rootfs.packages, fetched.values())
    filesystem = merging.Rootfs(source_date_epoch)
    with ExitStack() as stack:
        for archive, package in fetched.items():
            if package.name in needed:
                data = archive.with_suffix(".tar")
                watch()
                dpkg.run("--fsys-tarfile", archive, timeout=60, stdout_to=data, memory=MEMORY, watch=watch)
                filesystem.add_package(package, stack.enter_context(tarfile.open(data)))
        filesystem.complete()
        filesystem.write(target)
    return dict(sorted(filesystem.packages.items()))


def _fetch(tool: Tool, rootfs: Rootfs, work: Path, watch: Callable[[], object]) -> list[Path]:
    """Return the packages and everything that they depend on, as .deb files sorted by name."""
    fetched = work / "fetched.tar"
    as_root = os.geteuid() == 0
    if as_root:  # what a killed mmdebstrap leaves is removed with this directory
        tool = tool.with_environment(TMPDIR=str(work))
    try:
        tool.run(
            "--variant=extract",
            "--skip=cleanup/apt",
            "--format=tar",
            f"--include={','.join(rootfs.packages)}",
            rootfs.suite,
            fetched,
            timeout=TIMEOUT,
            memory=MEMORY,
            watch=watch,
        )
    except ToolFailed as failure:
        if as_root:
            raise
        raise ToolFailed(
            f"{failure.args[0]}\nWithout root, mmdebstrap needs user namespaces: install uidmap, give the user "
            "a range in /etc/subuid and /etc/subgid, or run this as root."
        ) from failure
    with tarfile.open(fetched) as tar:
        packages = sorted(_unpack(tar, work))
    fetched.unlink()
    if not packages:
        raise BuildFailed("mmdebstrap fetched no packages.\nDeclare at least one under rootfs.packages.")
    return packages


def _unpack(tar: tarfile.TarFile, work: Path) -> Iterator[Path]:
    for member in tar:
        path = PurePosixPath(member.name)
        if path.parent == ARCHIVES and path.suffix == ".deb" and member.isreg():
            stream = tar.extractfile(member)
            if stream is not None:
                (work / path.name).write_bytes(stream.read())
                yield work / path.name


def _control(dpkg: Tool, archive: Path) -> merging.Package:
    control = archive.with_suffix(".control.tar")
    dpkg.run("--ctrl-tarfile", archive, timeout=60, stdout_to=control, memory=MEMORY)
    with tarfile.open(control) as tar:
        return merging.Package.read(tar)
