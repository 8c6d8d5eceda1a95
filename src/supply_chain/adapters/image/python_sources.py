"""Selection of an image's Python files that neither a package installed nor the check `source` read."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from supply_chain.adapters.image.file_content import ContentStore, FileContent
from supply_chain.adapters.image.filesystem import Filesystem, Kind, escape_path

Files = Filesystem[FileContent]
IsRead = Callable[[str], bool]
"""Returns whether the check `source` reads a file of this SHA-256."""

INSTALLED = re.compile(
    r"/(usr/)?s?bin/|/usr/local/s?bin/|/(usr/|usr/local/)?(lib(32|64|x32)?|libexec|share)/|/var/(lib|cache)/|/proc/|/sys/"
    r"|.*/(site-packages|dist-packages|node_modules)/"
)
"""Where packages install Python files."""
MODULE = re.compile(r"\.pyw?$", re.IGNORECASE)
"""End of the name of a file that Python imports or runs."""
SHEBANG = re.compile(rb"#!.*(python|pypy|env\b.*\$)")
"""First line of a program that Python runs, or `env` runs what a variable names."""
QUOTING = re.compile(rb"[\"'\\]")
"""What `env -S` removes from the words that it splits."""
MOST_SOURCES, MOST_BYTES = 2000, 8 * 1024 * 1024
"""Maximum files that are read, and their maximum bytes."""


@dataclass(frozen=True)
class PythonSources:
    """Python files of an image to read, by path, and the paths of those that cannot be read."""

    files: dict[str, bytes] = field(default_factory=dict)
    left: tuple[str, ...] = ()
    """Larger than `file_content.HEAD`, or more than `MOST_SOURCES` or `MOST_BYTES` together."""


def is_python_program(start: bytes) -> bool:
    """Return whether a file that begins so is a program that Python runs, or may be one."""
    return bool(SHEBANG.match(QUOTING.sub(b"", start[:1000])))


def find_python_sources(
    files: Files, keeper: ContentStore, is_read: IsRead, checkpoint: Callable[[], object]
) -> PythonSources:
    """Return the image's Python files that `is_read` does not know and that are not where packages install their files.

    A link gives a file its name too. A script without the name of one is found if its content is stored. `checkpoint`
    is called for each file, and may raise.
    """
    sources, left, room, digests = dict[str, bytes](), list[str](), MOST_BYTES, set[bytes]()
    for path, content in _named_files(files):
        checkpoint()
        if INSTALLED.match(path) or content.sha256 in digests:
            continue
        stored = keeper.read(content)
        is_python = MODULE.search(path) or (stored is not None and is_python_program(stored))
        if not is_python or is_read(content.sha256.hex()):
            continue
        digests.add(content.sha256)
        name = escape_path(path)
        if stored is None or name in sources or len(sources) == MOST_SOURCES or len(stored) > room:
            left.append(name)
        else:
            sources[name] = stored
            room -= len(stored)
    return PythonSources(sources, tuple(sorted(left)))


def _named_files(files: Files) -> Iterator[tuple[str, FileContent]]:
    """Yield every regular file with its path and with each link that leads to it."""
    for path, node in files.walk():
        if node.kind is Kind.LINK and MODULE.search(path):
            target = files.resolve(path)
            if target is not None and target[1].content is not None:
                yield path, target[1].content
        elif node.content is not None:
            yield path, node.content
