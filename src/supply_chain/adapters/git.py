"""git: which revision the code is, and a clean copy of a revision."""

from __future__ import annotations

import hashlib
import tarfile
from dataclasses import dataclass
from pathlib import Path

from supply_chain.adapters.command import Tool
from supply_chain.errors import DeclarationInvalid, ToolFailed
from supply_chain.image import Source

TIMEOUT = 60.0


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
        changed = self._ask(directory, "status", "--porcelain", "--untracked-files=all", "--", ".")
        remote = self._ask(directory, "config", "--get", "remote.origin.url")
        return Source(
            path=str(directory.resolve().relative_to(Path(top).resolve())),
            repository=_without_credentials(remote) or Path(top).name,
            revision=head,
            dirty=bool(changed),
        )

    def time_of(self, directory: Path) -> int:
        """When the revision was committed, seconds since 1970: what SOURCE_DATE_EPOCH is set to. 0 outside git."""
        return int(self._ask(directory, "log", "-1", "--format=%ct", "--", ".") or 0)

    def export(self, repository: Path, revision: str, target: Path) -> None:
        """Unpack the files of one revision into `target`; the working copy is not looked at."""
        archive = target / ".revision.tar"
        try:
            self.tool.run(
                "-C", repository, "archive", "--format=tar", f"--output={archive}", "--end-of-options", revision,
                timeout=TIMEOUT, quiet=True,
            )  # fmt: skip
        except ToolFailed as error:
            raise DeclarationInvalid(
                f"{repository} has no revision {revision!r}.\nName a commit that the repository holds."
            ) from error
        with tarfile.open(archive) as tar:
            tar.extractall(target, filter="data")
        archive.unlink()

    def _ask(self, directory: Path, *args: str) -> str:
        done = self.tool.run("-C", directory, *args, timeout=TIMEOUT, check=False, quiet=True)
        return done.stdout.strip() if done.status == 0 else ""


def _without_credentials(remote: str) -> str:
    """A remote's address without a user's name or password."""
    scheme, separator, rest = remote.partition("://")
    return f"{scheme}://{rest.rpartition('@')[2]}" if separator else remote


def file_digest(path: Path) -> str:
    """The digest of a file's content."""
    return f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"
