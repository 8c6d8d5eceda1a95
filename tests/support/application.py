"""A small application of the tests' own: a program that can misbehave, in a git repository."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.command import Run
from tests.support.go import go_build

HERE = Path(__file__).parent
IDENTITY = ("-c", "user.name=test", "-c", "user.email=test@localhost")


def compiled(path: Path, architecture: str, name: str = "program") -> None:
    """Build a program of `subject` for an architecture by Go's name, into `path`."""
    go_build(HERE / "subject" / name, path, GOARCH=architecture)


def git(directory: Path, *args: str) -> str:
    """What git prints, run there as somebody of the tests."""
    words = ["git", "-C", str(directory), *IDENTITY, *args]
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()


@dataclass
class Application:
    """A git repository with an application in it; each revision is another image."""

    name: str
    path: Path
    port: int = 0
    environment: Mapping[str, str] = field(default_factory=dict)
    """Of the commands that it is given to."""
    revisions: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/healthz"

    def write(self, program: Path, environment: str) -> None:
        """Make the repository, and the small application in it, which goes to this environment."""
        shutil.copytree(HERE / "subject/application", self.path)
        shutil.copy(program, self.path)
        declaration = self.path / "supply-chain.yaml"
        text = declaration.read_text().replace("NAME", self.name).replace("ENVIRONMENT", environment)
        declaration.write_text(text)
        git(self.path, "init", "--quiet")

    def next_revision(self) -> str:
        """Commit a change; the revision."""
        self.revisions += 1
        (self.path / "revision").write_text(f"{self.revisions}\n")
        return self.commit()

    def commit(self) -> str:
        """Commit what was written; the revision."""
        git(self.path, "add", ".")
        git(self.path, "commit", "--quiet", "--message", "Go on")
        return git(self.path, "rev-parse", "HEAD")

    def chain(self, *options: str) -> Run:
        return Run(self.path, self.environment, options)
