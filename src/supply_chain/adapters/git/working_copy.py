"""The files of an application's directory, as they are on the disk."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass

from supply_chain.adapters.files.openat import open_directory, open_file, read_pieces, translate_errors
from supply_chain.development.snapshot import Kind, Mode, Node
from supply_chain.errors import SourceInvalid


@dataclass(frozen=True)
class WorkingCopy:
    """Implementation of `development.snapshot.Tree` on a directory, which is open as `root`."""

    name: str
    root: int

    def list(self, directory: str) -> Iterator[Node]:
        """Yield the nodes directly in a directory."""
        above = f"{directory}/" if directory else ""
        with (
            translate_errors(directory or self.name),
            open_directory(self.root, directory) as opened,
            os.scandir(opened) as names,
        ):
            for each in names:
                yield _node(f"{above}{each.name}", os.stat(each.name, dir_fd=opened, follow_symlinks=False))

    def find(self, path: str) -> Node | None:
        """Return the node at a path, without following a link; None if there is none."""
        above, _, name = path.rpartition("/")
        try:
            with open_directory(self.root, above) as directory:
                return _node(path, os.stat(name, dir_fd=directory, follow_symlinks=False))
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise SourceInvalid(f"{path} cannot be read: {error.strerror}\nMake it a plain file.") from error

    def read(self, node: Node) -> Iterator[bytes]:
        """Yield a file's content, or a link's target.

        Raises `SourceInvalid` if the file no longer has the listed size.
        """
        if node.kind is Kind.LINK:
            yield self._target(node.path)
            return
        size = 0
        with translate_errors(node.path), open_file(self.root, node.path) as file:
            for piece in read_pieces(file, node.size + 1):
                size += len(piece)
                yield piece
        if size != node.size:
            raise SourceInvalid(f"{node.path} changed while it was read.\nRun it again when nothing changes it.")

    def _target(self, path: str) -> bytes:
        above, _, name = path.rpartition("/")
        with translate_errors(path), open_directory(self.root, above) as directory:
            return os.fsencode(os.readlink(name, dir_fd=directory))


def _node(path: str, status: os.stat_result) -> Node:
    if stat.S_ISREG(status.st_mode):
        mode = Mode.EXECUTABLE if status.st_mode & stat.S_IXUSR else Mode.FILE
        return Node(path, Kind.FILE, mode, status.st_size)
    if stat.S_ISLNK(status.st_mode):
        return Node(path, Kind.LINK, Mode.LINK, status.st_size)
    return Node(path, Kind.DIRECTORY if stat.S_ISDIR(status.st_mode) else Kind.SPECIAL)
