"""Paths by which syft takes a file for records of a package manager, whatever the file contains, also through links."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from fnmatch import translate
from functools import cache

from supply_chain.adapters.image.file_content import FileContent
from supply_chain.adapters.image.filesystem import Filesystem, Kind, Node, split_path

Files = Filesystem[FileContent]

OWN = {
    "dpkg": ("/var/lib/dpkg",),
    "rpm": ("/var/lib/rpm", "/usr/lib/sysimage/rpm", "/usr/share/rpm", "/var/lib/rpmmanifest"),
    "apk": ("/lib/apk/db", "/usr/lib/apk/db"),
    "pacman": ("/var/lib/pacman",),
    "portage": ("/var/db/pkg",),
}
"""Package manager → directories where a distribution stores its records and scanners look for them."""
SCANNED = {
    "**/lib/dpkg/status": "dpkg",
    "**/lib/dpkg/status.d/*": "dpkg",
    "**/lib/opkg/status": "opkg",
    "**/lib/opkg/info/*.control": "opkg",
    "**/lib/apk/db/installed": "apk",
    **{
        f"**/{directory}/rpm/{name}": "rpm"
        for directory in ("var/lib", "usr/share", "usr/lib/sysimage")
        for name in ("Packages", "Packages.db", "rpmdb.sqlite")
    },
    "**/var/lib/rpmmanifest/container-manifest-2": "rpm",
    "**/var/lib/pacman/local/**/desc": "pacman",
    "**/var/db/pkg/*/*/CONTENTS": "portage",
    "/opt/bitnami/**/.spdx-*.spdx": "bitnami",
    "/opt/bitnami/.bitnami_components.json": "bitnami",
    "**/nix/store/*": "nix",
    "**/nix/var/nix/db/db.sqlite": "nix",
    "**/usr/share/snappy/dpkg.yaml": "snap",
    "**/snap/manifest.yaml": "snap",
    "**/snap/snapcraft.yaml": "snap",
    "**/conda-meta/*.json": "conda",
    "**/Cellar/*/*/.brew/*.rb": "Homebrew",
}
"""Glob by which a cataloger of syft finds records (in its sources, syft/pkg/cataloger) → package manager.

A glob is absolute, or begins with `**/` and the name of a directory. The changelog of a kernel snap is left out: Debian
packages of kernel modules have a file with the same path, and syft believes none of the package's files for it."""

State = tuple[tuple[str, ...], str]
"""What is left of a glob after the names of a path so far, and its package manager; nothing left is a match."""
_NONE = frozenset[State]()
_ABSOLUTE = frozenset(
    (tuple(split_path(glob)), manager) for glob, manager in SCANNED.items() if not glob.startswith("**/")
)
"""States before the first name of a path."""
_FIRST = {
    first: frozenset(
        (tuple(names[2:]), manager)
        for glob, manager in SCANNED.items()
        if (names := glob.split("/"))[0] == "**" and names[1] == first
    )
    for first in {glob.split("/")[1] for glob in SCANNED if glob.startswith("**/")}
}
"""First name that is matched by a glob that begins with `**/` → the states after it."""


def match_scanned(path: str) -> set[str]:
    """Return the package managers as whose records syft reads a file with this path; a glob of several can match."""
    states = _ABSOLUTE
    for name in split_path(path):
        states = _continue(states, name) | _FIRST.get(name, _NONE)
    return _list_managers(states)


def list_scanned(files: Files, checkpoint: Callable[[], object]) -> Iterator[tuple[str, Node[FileContent], str]]:
    """Yield every file, and the package manager as whose records syft reads it, also through a link; empty if none.

    Links are followed at the end of a path and in it. A file is yielded once for each package manager and each way in
    which a glob matches it. Of several links that lead to a file in the same way, only the first counts. `checkpoint`
    is called for each file, and may raise.
    """
    visited = set[tuple[str, State]]()
    waiting = [("", files.root, _ABSOLUTE, False)]
    while waiting:
        above, directory, states, is_linked = waiting.pop()
        for name, node in sorted(directory.children.items()):
            checkpoint()
            path = f"{above}/{name}"
            next_states = _continue(states, name)
            if is_linked:  # what begins below a link is found without it too
                next_states -= {each for each in next_states if (path, each) in visited}
            else:
                next_states |= _FIRST.get(name, _NONE)
                if not next_states:
                    yield path, node, ""
            for manager in sorted(_list_managers(next_states)) or ([] if is_linked or not next_states else [""]):
                yield path, node, manager
            visited.update((path, each) for each in next_states)
            if node.kind is Kind.DIRECTORY and (next_states or not is_linked):
                waiting.append((path, node, next_states, is_linked))
            if node.kind is not Kind.LINK or not next_states or not (resolved := files.resolve(path)):
                continue
            target = resolved[0].rstrip("/")
            next_states = frozenset(each for each in next_states if (target, each) not in visited)
            visited.update((target, each) for each in next_states)
            for manager in sorted(_list_managers(next_states)):
                yield *resolved, manager
            if resolved[1].kind is Kind.DIRECTORY and next_states:
                waiting.append((target, resolved[1], next_states, True))


def _continue(states: frozenset[State], name: str) -> frozenset[State]:
    """Return the states after one more name of a path, without globs that begin with this name."""
    return frozenset(after for state in states for after in _match_name(state, name)) if states else _NONE


def _match_name(state: State, name: str) -> Iterator[State]:
    rest, manager = state
    if rest and rest[0] == "**":
        yield state
        yield from _match_name((rest[1:], manager), name)
    elif rest and (rest[0] == name or ("*" in rest[0] and _compile(rest[0]).match(name))):
        yield rest[1:], manager


@cache
def _compile(pattern: str) -> re.Pattern[str]:
    return re.compile(translate(pattern))


def _list_managers(states: frozenset[State]) -> set[str]:
    return {manager for rest, manager in states if not rest}
