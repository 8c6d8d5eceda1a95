"""What is read of a build context is what BuildKit takes of it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from supply_chain.adapters.context_files import BuildContext
from supply_chain.adapters.dockerfile import BuildKitReader
from supply_chain.adapters.tools import Toolbox

pytestmark = pytest.mark.real

FILES = (
    "a.py", "src/a.py", "src/deep/b.py", "src/deep/er/c.py", "lib/a.py", "lib.d/a.py", "lib/node_modules/keep",
    "lib/node_modules/x.js", "node_modules/keep", "x.pyc", "a.log", "lib/b.log", "!bang", "# hash", "two words", "é",
)  # fmt: skip


@pytest.mark.parametrize(
    ("ignore", "own"),
    [
        (None, None),
        ("*.pyc\n**/*.log\n**/node_modules\n", None),
        ("*\n!**/*.py\n", None),
        ("*\n!src\n", None),
        ("src\n!*/a.py\n", None),
        ("src\n!src/*/er\n", None),
        ("src/deep\n!src\n", None),
        ("!src/a.py\nsrc\n", None),
        ("**/node_modules\n!**/node_modules/keep\n", None),
        ("\ufeffsrc\n  # hash\n\\!bang\n! lib\n", None),
        ("SRC\n/lib/\n./a.py\nsrc/../x.pyc\n", None),
        ("**.py\n[a-l]?b\ntwo*\né\n", None),
        ("Dockerfile\n.dockerignore\n**/b.*\n", None),
        ("src\n", "lib\n"),
        ("src\n", ""),
    ],
    ids=str,
)
def test_the_same_files_are_left(tmp_path: Path, toolbox: Toolbox, ignore: str | None, own: str | None) -> None:
    """Neither more, which would fail without reason, nor less, which would pass unread."""
    context = tmp_path / "context"
    for name in FILES:
        (context / name).parent.mkdir(parents=True, exist_ok=True)
        (context / name).write_text(name)
    (context / "link").symlink_to("src")
    (context / "Dockerfile").write_text("FROM scratch\nCOPY . /\n")
    for name, text in ((".dockerignore", ignore), ("Dockerfile.dockerignore", own)):
        if text is not None:
            (context / name).write_text(text)

    output = f"--output=type=local,dest={tmp_path / 'built'}"
    settings = {**os.environ, "BUILDX_CONFIG": str(tmp_path / "buildx")}
    subprocess.run(
        [toolbox.find("buildx").path, "build", "--quiet", output, context], check=True, timeout=120, env=settings
    )

    built = {p for p in (tmp_path / "built").rglob("*") if p.is_file() and not p.is_symlink()}
    assert built, "nothing was built, so nothing is compared"
    taken = {str(p.relative_to(tmp_path / "built")) for p in built if "link" not in p.parts}
    assert set(BuildContext(context, context / "Dockerfile").files()) == taken
    reader = BuildKitReader(toolbox.find("dockerfile-reader"))
    there = [str(p.relative_to(context)) for p in context.rglob("*") if p.is_file() and not p.is_symlink()]
    rules = (own if own is not None else ignore or "").encode()
    assert set(there) - reader.left_out(rules, there) == taken
