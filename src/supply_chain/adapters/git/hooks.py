"""git's hooks: where they are, and what a hook learns about a push. No git command is run."""

from __future__ import annotations

import contextlib
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from supply_chain.adapters.files.openat import FILE, open_directory, open_directory_by_path
from supply_chain.errors import DeclarationInvalid

REVISION = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
LARGEST_HOOK = 1024 * 1024
"""Bytes of an existing hook that are read."""


class Push(NamedTuple):
    """A pushed revision, and the sorted refs that it was pushed to, such as `refs/heads/main refs/tags/v1`."""

    revision: str
    ref: str


def find_hooks(path: Path) -> tuple[Path, str]:
    """Return the hooks directory of the repository around `path`, and the name of the hook that a push runs.

    Raises `DeclarationInvalid` if `path` is not in a git repository.
    """
    for directory in (path, *path.parents):
        if (directory / ".git").is_dir():
            return directory / ".git/hooks", "pre-push"
        if (directory / "HEAD").is_file() and (directory / "objects").is_dir():
            return directory / "hooks", "post-receive"
    raise DeclarationInvalid(f"{path} is in no git repository.\nRun `git init`, or name a directory in a repository.")


def read_hook(hooks: Path, name: str) -> bytes | None:
    """Return the beginning of a hook; None if there is none.

    Raises `DeclarationInvalid` if the hook is not a regular file, or lies behind a link.
    """
    with _refuse_links(hooks / name), open_directory_by_path(hooks.parent) as above:
        try:
            with open_directory(above, hooks.name) as directory:
                file = os.open(name, FILE, dir_fd=directory)
        except FileNotFoundError:
            return None
        try:
            if not stat.S_ISREG(os.fstat(file).st_mode):
                raise OSError("not a regular file")
            return os.read(file, LARGEST_HOOK)
        finally:
            os.close(file)


def write_hook(hooks: Path, name: str, content: bytes) -> None:
    """Write an executable hook, in place of an existing one; create its directory if it is missing.

    Nothing is written through a link. Raises `DeclarationInvalid` if the directory is a link or lies behind one.
    """
    temporary = f".{name}.{os.getpid()}"
    with _refuse_links(hooks / name), open_directory_by_path(hooks.parent) as above:
        with contextlib.suppress(FileExistsError):
            os.mkdir(hooks.name, dir_fd=above)
        with open_directory(above, hooks.name) as directory:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            with os.fdopen(os.open(temporary, flags, 0o700, dir_fd=directory), "wb") as file:
                file.write(content)
                os.fchmod(file.fileno(), 0o755)  # nosec B103 - every user who pushes runs it
            os.replace(temporary, name, src_dir_fd=directory, dst_dir_fd=directory)


@contextlib.contextmanager
def _refuse_links(hook: Path) -> Iterator[None]:
    """Translate an `OSError` about a hook into `DeclarationInvalid`."""
    try:
        yield
    except OSError as error:
        raise DeclarationInvalid(
            f"{hook} is a link, lies behind one, or cannot be read and written ({error.strerror or error}).\n"
            "Remove the link, or give the repository to your user, and install the hook again."
        ) from error


def parse_pushes(lines: list[str]) -> list[Push]:
    """Return the revisions in a hook's input, each once; a deletion (all zeros) is left out.

    pre-push gets `<local ref> <local oid> <remote ref> <remote oid>`, and post-receive `<old> <new> <ref>`
    (githooks(5)). A local ref may be any expression, with spaces.
    """
    refs: dict[str, set[str]] = {}
    for words in (line.split() for line in lines):
        revision, ref = words[-3:-1] if len(words) > 3 else words[1:] if len(words) == 3 else ("", "")
        if REVISION.fullmatch(revision) and revision.strip("0"):
            refs.setdefault(revision, set()).add(ref.encode(errors="replace").decode())
    return [Push(revision, " ".join(sorted(names))) for revision, names in refs.items()]
