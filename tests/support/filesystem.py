"""The file system of an image, of files and links in memory."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Mapping

from supply_chain.adapters.image.file_content import HEAD, ContentStore, FileContent, read_file
from supply_chain.adapters.image.filesystem import Filesystem


def lay_files(
    contents: Mapping[str, bytes],
    links: Mapping[str, str] | None = None,
    keep: int = HEAD,
    store: ContentStore | None = None,
) -> tuple[ContentStore, Filesystem[FileContent]]:
    """Return the store of contents, and the file system of one layer; contents of up to `keep` bytes are stored.

    `store` is one to use again.
    """
    keeper, files = store or ContentStore(io.BytesIO()), Filesystem[FileContent]()
    members = []
    for name, content in contents.items():
        members.append(tarfile.TarInfo(name))
        members[-1].size = len(content)
    for name, target in (links or {}).items():
        members.append(tarfile.TarInfo(name))
        members[-1].type, members[-1].linkname = tarfile.SYMTYPE, target

    def read(member: tarfile.TarInfo) -> FileContent:
        return read_file(io.BytesIO(contents[member.name]), member.size, keeper, secrets=False, keep=keep)

    files.lay(iter(members), read)
    return keeper, files
