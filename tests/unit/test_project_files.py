"""The files that the checks of words read: `scripts.project_files`."""

from __future__ import annotations

import subprocess
from pathlib import Path

from scripts.project_files import list_files


def test_files_are_those_that_a_commit_would_have(tmp_path: Path) -> None:
    """A new file is checked before it is added; a deleted one, or one that git ignores, is not read."""
    for name in ("kept.py", "deleted.py", "a page.md", "notes.txt"):
        (tmp_path / name).write_text("", encoding="utf-8")
    (tmp_path / ".gitignore").write_text("ignored.py\n", encoding="utf-8")
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    subprocess.run(["git", "add", "."], cwd=tmp_path, check=True)
    (tmp_path / "deleted.py").unlink()
    (tmp_path / "new.py").write_text("", encoding="utf-8")
    (tmp_path / "ignored.py").write_text("", encoding="utf-8")

    assert list_files(tmp_path, "*.md", "*.py") == ["a page.md", "kept.py", "new.py"]
