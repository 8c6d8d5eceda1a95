"""git's hooks: where they are, and what a hook learns about a push. No git command is run."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from supply_chain.errors import DeclarationInvalid


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


def parse_pushes(lines: list[str]) -> list[Push]:
    """Return the revisions in a hook's input, each once; a deletion (all zeros) is left out.

    In both formats the second word is the new revision and the third is the ref: pre-push gets `<local ref> <local oid>
    <remote ref> <remote oid>`, post-receive `<old> <new> <ref>` (githooks(5)).
    """
    refs: dict[str, set[str]] = {}
    for words in (line.split() for line in lines):
        if len(words) > 2 and words[1].strip("0"):
            refs.setdefault(words[1], set()).add(words[2])
    return [Push(revision, " ".join(sorted(names))) for revision, names in refs.items()]
