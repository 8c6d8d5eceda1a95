"""git's hooks: where they lie, and what one hears of a push. No git is run."""

from __future__ import annotations

from pathlib import Path

from supply_chain.errors import DeclarationInvalid


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
