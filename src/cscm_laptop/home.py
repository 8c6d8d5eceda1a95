"""The home: the one directory that holds all state of a laptop, and that one command removes."""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from orchestration.project import HOME, TOOLS, find_home, find_project
from supply_chain.errors import ComponentFailed, SettingInvalid
from supply_chain.scratch import write_private

STAMP = "this-is-a-cscm-home"
VENV = "venv"
"""The Python environment that `scripts/bootstrap` makes before any of our code runs."""


@dataclass(frozen=True)
class Home:
    """The project's root, and the directory that holds all state of its laptop."""

    project: Path
    directory: Path

    @property
    def tools(self) -> Path:
        """Directory of downloaded and built tools."""
        return self.directory / TOOLS

    @property
    def emulator(self) -> Path:
        """Directory of the emulator's own Python environment."""
        return self.directory / "emulator"

    @property
    def state(self) -> Path:
        """Directory of what must survive a restart: AWS's state, Prefect's database, credentials."""
        return self.directory / "state"

    @property
    def people_owner(self) -> Path:
        """Public key of the owner of the people document; `cscm up` makes it."""
        return self.state / "people" / "owner.pub"

    def read_owner_key(self) -> str:
        """Return that key in PEM; empty if there is none."""
        return self.people_owner.read_text(encoding="ascii") if self.people_owner.exists() else ""

    @property
    def database(self) -> Path:
        """Directory of the vulnerability database."""
        return self.directory / "database"

    @property
    def laptop_state(self) -> Path:
        """File with the state of the running laptop; it holds secrets."""
        return self.state / "laptop.json"

    @property
    def cluster(self) -> Path:
        """Directory of the Kubernetes cluster; `cscm cluster up` makes it."""
        return self.directory / "cluster"

    @property
    def log(self) -> Path:
        """Directory of log files, one per background process."""
        return self.directory / "log"

    @property
    def run(self) -> Path:
        """Directory of pid files, one per background process that we started."""
        return self.directory / "run"

    @classmethod
    def find(cls, environ: Mapping[str, str] = os.environ, start: Path | None = None) -> Home:
        """Return the home of the project around `start` (default: the working directory), else of this checkout.

        The directory is `.cscm` in the project, unless CSCM_HOME names another. Raises `SettingInvalid` if there is
        no project.
        """
        project = find_project(start, environ)
        return cls(project, find_home(project, environ))

    def create(self) -> None:
        """Make the directories, for this user only; raise `SettingInvalid` if the home holds other content."""
        if self.directory.is_dir() and not self.is_ours() and self._foreign():
            raise SettingInvalid(
                f"{self.directory} holds other things than a supply chain's state.\n"
                f"Set {HOME} to a directory that does not exist yet, or to an empty one."
            )
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        (self.directory / STAMP).touch()
        for part in (self.tools, self.state, self.database, self.log, self.run):
            part.mkdir(mode=0o700, exist_ok=True)

    def _foreign(self) -> set[str]:
        parts = (self.tools, self.emulator, self.state, self.database, self.cluster, self.log, self.run)
        return {entry.name for entry in self.directory.iterdir()} - {part.name for part in parts} - {VENV}

    def is_ours(self) -> bool:
        """Return whether `create` made the directory, so that it may be removed."""
        return (self.directory / STAMP).is_file()

    @property
    def owner(self) -> str:
        """Name that labels this home's containers and distinguishes them from those of other homes; made once."""
        return ensure_text(self.state / "owner", lambda: secrets.token_hex(6))

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the lock of the home during `up`, `down` or `reset`; raise `ComponentFailed` if another process does."""
        handle = os.open(self.directory, os.O_RDONLY | os.O_CLOEXEC)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
            raise ComponentFailed(
                f"Another cscm command starts or stops the supply chain in {self.directory} right now.\n"
                "Wait for it to end, then run this again."
            ) from None
        try:
            yield
        finally:
            os.close(handle)


def ensure_text(path: Path, make: Callable[[], str]) -> str:
    """Return the text in the file; if there is none, write what `make` returns, readable by this user alone."""
    with contextlib.suppress(FileNotFoundError):
        if existing := path.read_text(encoding="ascii").strip():
            return existing
    text = make()
    write_private(path, text + "\n")
    return text
