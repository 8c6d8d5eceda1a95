"""git repositories for tests, made by git itself, with nothing of this machine's configuration."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

ENVIRONMENT = {
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_CONFIG_SYSTEM": "/dev/null",
    "GIT_AUTHOR_NAME": "a",
    "GIT_AUTHOR_EMAIL": "a@example.org",
    "GIT_COMMITTER_NAME": "a",
    "GIT_COMMITTER_EMAIL": "a@example.org",
    "GIT_AUTHOR_DATE": "1700000000 +0000",
    "GIT_COMMITTER_DATE": "1700000000 +0000",
}
DECLARATION = "kind: base\nname: hello\nowner: us\ncheck: [x]\n"
APPLICATION = {"supply-chain.yaml": DECLARATION, "Dockerfile": "FROM scratch\nCOPY . /\n", "file": "one"}


def git(directory: Path, *args: str | Path, **environment: str) -> str:
    """What git prints."""
    done = subprocess.run(
        ["git", "-C", str(directory), *map(str, args)],
        env={**os.environ, **ENVIRONMENT, **environment},
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout.strip()


def write(directory: Path, files: dict[str, str]) -> None:
    """Write files, and the directories above them."""
    for name, content in files.items():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_text(content)


def commit(directory: Path, message: str = "one", **environment: str) -> str:
    """Commit everything in a repository; the commit's id."""
    git(directory, "add", "-A", "--force", ".")
    git(directory, "commit", "-q", "-m", message, **environment)
    return git(directory, "rev-parse", "HEAD")


def make_repository(top: Path) -> Path:
    """A repository `shop` with two applications, `hello` and `other`, and one commit."""
    shutil.copytree(Path(_first_repository().name, "shop"), top, dirs_exist_ok=True)
    return top


@cache
def _first_repository() -> tempfile.TemporaryDirectory[str]:
    """The repository that all others are copies of: git takes a multiple of the time to make one."""
    made = tempfile.TemporaryDirectory()
    top = Path(made.name, "shop")
    for name in ("hello", "other"):
        write(top / name, APPLICATION)
    git(top, "init", "-q", "-b", "main")
    commit(top)
    for sample in (top / ".git/hooks").glob("*.sample"):
        sample.unlink()
    return made
