"""Files of an image that give more rights than their user has."""

from __future__ import annotations

from pathlib import PurePosixPath

from supply_chain.adapters.image.file_content import FileContent
from supply_chain.adapters.image.filesystem import Filesystem, Kind, Node, escape_path
from supply_chain.evidence.examination import PrivilegedFile

Files = Filesystem[FileContent]

MOST_LISTED = 1000
"""Maximum privileged files of an image."""
SYSTEM = ("/bin", "/boot", "/etc", "/lib", "/lib32", "/lib64", "/root", "/sbin", "/usr", "/var/spool/cron")
"""Directories whose files root or every program reads or runs."""
SEARCHED = tuple(
    f"{above}/{name}/" for above in ("", "/usr") for name in ("bin", "etc", "lib", "lib32", "lib64", "sbin")
)
"""Directories in which programs look for libraries, modules, settings and other programs."""
APPLICATIONS = "/usr/src"
"""Directory in a system directory where applications have their files, as in /app, /opt and /srv."""
PRELOAD = "/etc/ld.so.preload"
"""Libraries that the dynamic loader loads into every program, also into setuid programs (ld.so(8))."""


def list_privileged(files: Files) -> tuple[PrivilegedFile, ...]:
    """Return the files that give more rights than their user has; those that a later layer hides do not count.

    Raise `ValueError` for more than `MOST_LISTED`: no ordinary image comes near.
    """
    named = [
        *((path, rights) for path, node in files.walk() if (rights := _name_rights(path, node))),
        *((path, "world-writable") for path in _list_world_writable(files)),
        *_find_preload(files),
    ]
    privileged: dict[str, list[str]] = {}
    for path, rights in named:
        privileged.setdefault(path, []).append(rights)
    if len(privileged) > MOST_LISTED:
        raise ValueError(f"it holds more than {MOST_LISTED} files that give more rights than their user has")
    return tuple(
        PrivilegedFile(path=escape_path(path), rights=", ".join(rights)) for path, rights in sorted(privileged.items())
    )


def _name_rights(path: str, node: Node[FileContent]) -> str:
    """Return why a file gives more rights wherever it is; empty if it does not.

    Devices in /dev do not count, because the engine gives a container its own /dev.
    """
    file = node.kind is Kind.FILE
    kinds: tuple[tuple[bool, str], ...] = (
        (file and bool(node.mode & 0o4000), "setuid"),
        (file and bool(node.mode & 0o2000), "setgid"),
        (node.capabilities, "capabilities"),
        (node.kind is Kind.DEVICE and not path.startswith("/dev/"), "device"),
    )
    return ", ".join(word for holds, word in kinds if holds)


def _list_world_writable(files: Files) -> list[str]:
    """Return the system's files and directories that everybody may write, without those in such a directory."""
    writable = {path for path, node in files.walk() if _is_world_writable(path, node)}
    listed = set[str]()
    for path in sorted(writable & _list_system(files) if writable else ()):
        if listed.isdisjoint(_list_parents(path)):
            listed.add(path)
    return sorted(listed)


def _is_world_writable(path: str, node: Node[FileContent]) -> bool:
    """Return whether everybody may change a file, or what is in a directory.

    In a sticky directory, everybody may only add files: that counts where programs look for them.
    """
    temporary = node.kind is Kind.DIRECTORY and node.mode & 0o1000 and not f"{path}/".startswith(SEARCHED)
    return node.kind in (Kind.FILE, Kind.DIRECTORY) and bool(node.mode & 0o002) and not temporary


def _list_system(files: Files) -> set[str]:
    """Return the paths, without links, of what is in `SYSTEM`, also behind links, and of the directories above it."""
    places = [place for each in SYSTEM if (place := files.resolve(each, mounted=True))]
    above = {parent for path, _ in places for parent in _list_parents(path)}
    listed, waiting = set[str](), places
    while waiting:
        path, node = waiting.pop()
        if path in listed:
            continue
        listed.add(path)
        for name, child in node.children.items():
            below = f"{path.rstrip('/')}/{name}"
            target = files.resolve(below, mounted=True) if child.kind is Kind.LINK else (below, child)
            if target is not None and below != APPLICATIONS:
                waiting.append(target)
    return listed | above


def _list_parents(path: str) -> set[str]:
    return {str(each) for each in PurePosixPath(path).parents}


def _find_preload(files: Files) -> list[tuple[str, str]]:
    """Return `PRELOAD` and why it counts; empty if there is none, or an empty file. A link may lead to one later."""
    preload = files.resolve(PRELOAD, follow=False)
    if preload is None or not (preload[1].size or preload[1].kind is Kind.LINK):
        return []
    return [(preload[0], "every program loads the libraries that it names")]
