"""git: which revision the code is, and a clean copy of a revision."""

from __future__ import annotations

import contextlib
import os
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from supply_chain.adapters.command import Tool
from supply_chain.errors import DeclarationInvalid
from supply_chain.image import Source, digest_of
from supply_chain.scratch import scratch

TIMEOUT = 60.0
GUARDED = (
    "--no-replace-objects",
    "-c",
    "safe.bareRepository=explicit",
    "-c",
    "core.fsmonitor=false",
    "-c",
    "core.hooksPath=/dev/null",
    "-c",
    "log.showSignature=false",
)
"""An application's own files can look like a bare repository, whose configuration names programs to run."""


@dataclass(frozen=True)
class Git:
    """Reads repositories; changes none."""

    tool: Tool

    def source(self, directory: Path) -> Source:
        """Where the code in `directory` comes from. Outside of a repository the revision is `none`, dirty."""
        top = self._ask(directory, "rev-parse", "--show-toplevel")
        head = self._ask(directory, "rev-parse", "HEAD") if top else ""
        if not top or not head:
            return Source(path=".", repository=directory.resolve().name, revision="none", dirty=True)
        inside = directory.resolve().relative_to(Path(top).resolve())
        return self._source(directory, inside, head, dirty=self._changed(directory))

    def _changed(self, directory: Path) -> bool:
        """Whether files differ from the commit, or git cannot tell."""
        status = ("status", "--porcelain", "--untracked-files=all", "--ignore-submodules=none", "--", ".")
        done = self.tool.run(*GUARDED, "-C", directory, *status, timeout=TIMEOUT, check=False, quiet=True)
        return done.status != 0 or bool(done.stdout.strip()) or self._unwatched(directory)

    def _unwatched(self, directory: Path) -> bool:
        """Whether git was told not to look at files (assume-unchanged, skip-worktree), or cannot tell."""
        listed = self.tool.run(
            *GUARDED, "-C", directory, "ls-files", "-v", "-z", "--", ".", timeout=TIMEOUT, check=False, quiet=True
        )
        return listed.status != 0 or any(
            line[0].islower() or line[0] == "S" for line in listed.stdout.split("\0") if line
        )

    def ignored(self, directory: Path) -> frozenset[str]:
        """The files below `directory`, relative to it, that git was told to leave alone; none outside of git."""
        listed = self._ask(directory, "ls-files", "-z", "--others", "--ignored", "--exclude-standard", "--", ".")
        return frozenset(listed.split("\0")) - {""}

    @contextlib.contextmanager
    def checked_out(self, directory: Path, revision: str | None) -> Iterator[tuple[Path, Source]]:
        """The application's files as they are; or with `revision` a private copy of that commit's, gone afterwards."""
        if revision is None:
            yield directory, self.source(directory)
            return
        commit = self._ask(directory, "rev-parse", "--verify", "--end-of-options", f"{revision}^{{commit}}")
        if not commit:
            raise DeclarationInvalid(
                f"{directory} has no revision {revision!r}.\nName a commit that its git repository holds."
            )
        top = Path(self._ask(directory, "rev-parse", "--show-toplevel") or directory)
        inside = directory.resolve().relative_to(top.resolve())
        with scratch("revision") as copy:
            self._export(top, commit, inside, copy)
            yield copy / inside, self._source(directory, inside, commit)

    def _source(self, directory: Path, inside: Path, commit: str, *, dirty: bool = False) -> Source:
        remote = self._ask(directory, "config", "--get", "remote.origin.url")
        top = self._ask(directory, "rev-parse", "--show-toplevel") or str(directory)
        return Source(
            path=str(inside),
            repository=_without_credentials(remote) or Path(top).name,
            revision=commit,
            dirty=dirty,
            committed=int(self._ask(directory, "log", "-1", "--format=%ct", commit, "--", ".") or 0),
        )

    def _export(self, repository: Path, commit: str, inside: Path, target: Path) -> None:
        archive = target / ".revision.tar"
        asked = ("archive", "--format=tar", f"--output={archive}", commit, "--", f":(literal){inside}")
        done = self.tool.run(*GUARDED, *_where(repository), *asked, timeout=TIMEOUT, check=False, quiet=True)
        if done.status:
            raise DeclarationInvalid(
                f"{inside} cannot be taken out of revision {commit[:12]}: {done.stderr[-500:].strip()}\n"
                "Name a commit that holds the application."
            )
        _take_out(archive, target.resolve())
        archive.unlink()

    def _ask(self, directory: Path, *args: str) -> str:
        done = self.tool.run(*GUARDED, *_where(directory), *args, timeout=TIMEOUT, check=False, quiet=True)
        return done.stdout.strip() if done.status == 0 else ""


def _where(directory: Path) -> tuple[str | Path, ...]:
    """A bare repository is one only where nothing around it is a work tree: its owner named it, and no application."""
    looks_bare = (directory / "HEAD").is_file() and (directory / "objects").is_dir()
    inside = any((each / ".git").exists() for each in (directory.resolve(), *directory.resolve().parents))
    return ("--git-dir", directory) if looks_bare and not inside else ("-C", directory)


def _take_out(archive: Path, target: Path) -> None:
    """Unpack what git archived; raises `DeclarationInvalid` where it leads out of `target`.

    Python's own `data` filter does so too, but Debian 12's Python 3.11.2 has none.
    """
    with tarfile.open(archive) as tar:
        tar.extraction_filter = lambda member, _: member
        tar.extractall(target, members=_held_inside(tar, target))  # noqa: S202 - see _held_inside
        for member in filter(tarfile.TarInfo.issym, tar.getmembers()):  # now that all that they pass is there
            _hold_inside(member.name, target)


def _held_inside(tar: tarfile.TarFile, target: Path) -> Iterator[tarfile.TarInfo]:
    """Each member, once its place is known to be in `target`, after the ones before were unpacked."""
    for member in tar:
        _hold_inside(member.name, target)
        member.mode &= 0o755
        yield member


def _hold_inside(name: str, target: Path) -> None:
    if not Path(os.path.realpath(target / name)).is_relative_to(target):  # a loop of links is not followed
        raise DeclarationInvalid(f"The commit's {name} leads out of the repository.\nRemove it, and commit that.")


def _without_credentials(remote: str) -> str:
    """A remote's address without a user's name or password."""
    scheme, separator, rest = remote.partition("://")
    authority, slash, path = rest.partition("/")
    return f"{scheme}://{authority.rpartition('@')[2]}{slash}{path}" if separator else remote


def file_digest(path: Path) -> str:
    """The digest of a file's content."""
    return digest_of(path.read_bytes())


def hooks_of(path: Path) -> tuple[Path, str]:
    """Where the hooks of the repository around `path` lie, and which one hears of a push; `DeclarationInvalid`."""
    for directory in (path, *path.parents):
        if (directory / ".git").is_dir():
            return directory / ".git/hooks", "pre-push"
        if (directory / "HEAD").is_file() and (directory / "objects").is_dir():
            return directory / "hooks", "post-receive"
    raise DeclarationInvalid(f"{path} is in no git repository.\nRun `git init`, or name a directory in a repository.")


def pushed(lines: list[str]) -> list[str]:
    """The revisions that a hook was told of, each once; a deletion (all zeros) is none.

    The second word is the new revision in both forms: pre-push says `<local ref> <local oid> <remote ref>
    <remote oid>`, post-receive `<old> <new> <ref>` (githooks(5)).
    """
    found = [words[1] for words in (line.split() for line in lines) if len(words) > 2]
    return [oid for oid in dict.fromkeys(found) if oid.strip("0")]
