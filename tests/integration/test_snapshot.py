"""A snapshot of a build context has the files that BuildKit takes from it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from supply_chain.adapters.docker.dockerfile import BuildKitReader
from supply_chain.adapters.git.snapshot import take_snapshot
from supply_chain.adapters.tools import Toolbox
from tests.support.buildkit import write_dockerfile

pytestmark = pytest.mark.real

FILES = (
    "a.py", "src/a.py", "src/deep/b.py", "src/deep/er/c.py", "lib/a.py", "lib.d/a.py", "lib/node_modules/keep",
    "lib/node_modules/x.js", "node_modules/keep", "x.pyc", "a.log", "lib/b.log", "!bang", "# hash", "two words", "é",
)  # fmt: skip


def build(toolbox: Toolbox, target: Path, context: Path, dockerfile: Path) -> None:
    """Write the files that BuildKit copies to `target`."""
    output = f"--output=type=local,dest={target}"
    command = [str(toolbox.find("buildx").path), "build", "--quiet", output, f"--file={dockerfile}", str(context)]
    subprocess.run(command, check=True, timeout=120, env={**os.environ, "BUILDX_CONFIG": f"{target}-buildx"})


def files(directory: Path) -> dict[str, str]:
    """Return the content of every file and the target of every link, by path."""
    found = [path for path in directory.rglob("*") if path.is_symlink() or path.is_file()]
    return {str(p.relative_to(directory)): str(p.readlink()) if p.is_symlink() else p.read_text() for p in found}


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
        ("**\n!src/deep/er\n!./lib\nlib/node_modules\n!lib/node_modules/keep\n", None),
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
def test_snapshot_has_the_files_that_buildkit_takes(
    toolbox: Toolbox, tmp_path: Path, ignore: str | None, own: str | None
) -> None:
    """More files would fail checks without reason, and fewer would leave files unchecked."""
    context = tmp_path / "context"
    for name in FILES:
        (context / name).parent.mkdir(parents=True, exist_ok=True)
        (context / name).write_text(name)
    (context / "link").symlink_to("src")
    (context / "Dockerfile").write_text("FROM scratch\nCOPY . /\n")
    (context / "supply-chain.yaml").write_text("kind: base\nname: hello\nowner: us\ncheck: [x]\n")
    for name, text in ((".dockerignore", ignore), ("Dockerfile.dockerignore", own)):
        if text is not None:
            (context / name).write_text(text)

    build(toolbox, tmp_path / "direct", context, context / "Dockerfile")
    with take_snapshot(context, None, BuildKitReader(toolbox.find("dockerfile-reader")).find_excluded) as snapshot:
        dockerfile = write_dockerfile(snapshot.dockerfile.read_bytes(), tmp_path / "dockerfile")
        build(toolbox, tmp_path / "built", snapshot.context, dockerfile)
        held = files(snapshot.context)

    assert held, "nothing is compared"
    assert files(tmp_path / "direct") == held == files(tmp_path / "built")
