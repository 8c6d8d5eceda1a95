"""A source that changes, lies or links elsewhere: the build uses the snapshot and runs nothing of the source."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from supply_chain.adapters.docker.dockerfile import BuildKitReader
from supply_chain.adapters.git.snapshot import take_snapshot
from supply_chain.adapters.tools import Toolbox
from supply_chain.development.snapshot import IgnoreMatcher, Snapshot
from supply_chain.evidence.statement import PROVENANCE
from supply_chain.model.image import ImageRef
from tests.integration.adversary.attacked import Adversary, Make, statement
from tests.support.application import git
from tests.support.buildkit import write_dockerfile
from tests.support.command import cscm

pytestmark = pytest.mark.real

PLAIN = {
    "supply-chain.yaml": "kind: base\nname: hello\nowner: us\ncheck: [x]\n",
    "Dockerfile": "FROM scratch\nCOPY . /\n",
    "good": "good",
}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source"
    path.mkdir()
    for name, content in PLAIN.items():
        (path / name).write_text(content)
    return path


@pytest.fixture
def left_out(toolbox: Toolbox) -> IgnoreMatcher:
    return BuildKitReader(toolbox.find("dockerfile-reader")).find_excluded


def built(toolbox: Toolbox, snapshot: Snapshot, target: Path) -> dict[str, str]:
    """Build a snapshot with BuildKit and return the content by path."""
    dockerfile = write_dockerfile(snapshot.dockerfile.read_bytes(), target.with_name(f"{target.name}-dockerfile"))
    command = [str(toolbox.find("buildx").path), "build", "--quiet", "--no-cache", f"--output=type=local,dest={target}"]
    subprocess.run([*command, f"--file={dockerfile}", str(snapshot.context)], check=True, timeout=120)
    return {str(path.relative_to(target)): path.read_text() for path in target.rglob("*") if path.is_file()}


def overwritten(source: Path) -> None:
    (source / "good").write_text("evil")


def swapped_for_a_link(source: Path) -> None:
    (source / "good").unlink()
    (source / "good").symlink_to("/etc/passwd")


def with_another_dockerfile(source: Path) -> None:
    (source / "Dockerfile").write_text("# syntax=evil/frontend\nFROM evil\n")


def with_an_ignore_file(source: Path) -> None:
    (source / "Dockerfile.dockerignore").write_text("*\n")


def with_more_files(source: Path) -> None:
    (source / "evil").write_text("evil")


def moved_away(source: Path) -> None:
    source.rename(source.with_name("elsewhere"))
    source.symlink_to("/etc")


@pytest.mark.parametrize(
    "act",
    [overwritten, swapped_for_a_link, with_another_dockerfile, with_an_ignore_file, with_more_files, moved_away],
    ids=lambda act: act.__name__,
)
def test_change_of_working_copy_after_snapshot_changes_no_build(
    toolbox: Toolbox, left_out: IgnoreMatcher, source: Path, tmp_path: Path, act: Callable[[Path], None]
) -> None:
    """BuildKit receives the bytes that were checked."""
    with take_snapshot(source, None, left_out) as snapshot:
        act(source)

        assert built(toolbox, snapshot, tmp_path / "built") == PLAIN


def test_change_of_same_size_and_time_is_built(
    toolbox: Toolbox, left_out: IgnoreMatcher, source: Path, tmp_path: Path
) -> None:
    """BuildKit transfers only files whose size or time differs from the same directory's earlier files."""
    for content in ("good", "evil"):
        (source / "good").write_text(content)
        os.utime(source / "good", (1, 1))
        with take_snapshot(source, None, left_out) as snapshot:
            assert built(toolbox, snapshot, tmp_path / content)["good"] == content


def test_ignore_file_is_applied_once(toolbox: Toolbox, left_out: IgnoreMatcher, source: Path, tmp_path: Path) -> None:
    """It selects the files of the snapshot; applied to the snapshot, it would select others."""
    (source / ".dockerignore").write_text("local\ngood\n!g*\n")
    (source / "local").write_text("secret")

    with take_snapshot(source, None, left_out) as snapshot:
        assert set(built(toolbox, snapshot, tmp_path / "built")) == {*PLAIN, ".dockerignore"}


def linked(name: str, target: str) -> Callable[[Path], None]:
    def act(path: Path) -> None:
        (path / name).unlink(missing_ok=True)
        (path / name).symlink_to(target)

    return act


def special(path: Path) -> None:
    os.mkfifo(path / "pipe")


def colliding(path: Path) -> None:
    (path / "REVISION").write_text("another\n")


def another_repository(path: Path) -> None:
    other = path.with_name(f"{path.name}-other")
    (path / ".git").rename(other)
    (path / ".git").write_text(f"gitdir: {other}\n")


REFUSED: dict[str, tuple[Callable[[Path], None], str]] = {
    "a link to a file of the host": (linked("shadow", "/etc/shadow"), "shadow is a link to"),
    "a link out of the context": (linked("out", "../../../etc/shadow"), "leads out of the build context"),
    "a Dockerfile that is a link": (linked("Dockerfile", "revision"), "Dockerfile is a link"),
    "an ignore file that is a link": (linked(".dockerignore", "revision"), ".dockerignore is a link"),
    "a pipe": (special, "pipe is neither a file"),
    "two names for one": (colliding, "are the same name"),
    "the repository of somebody else": (another_repository, "does not name"),
}


def test_source_that_leads_outside_is_refused(application: Make, adversary: Adversary) -> None:
    """Nothing is built or pushed."""
    before = adversary.everything()
    sources = [application("hostile", {"revision": f"{number}\n"}) for number in range(len(REFUSED))]
    for path, (act, _) in zip(sources, REFUSED.values(), strict=True):
        act(path)

    with ThreadPoolExecutor(3) as pool:
        ran = list(pool.map(lambda path: cscm("build", str(path)), sources))

    results = dict(zip(REFUSED, ran, strict=True))
    assert {why: each.code() for why, each in results.items()} == dict.fromkeys(REFUSED, "source.invalid")
    assert {why: each.stderr for why, each in results.items() if REFUSED[why][1] not in each.stderr} == {}
    assert adversary.everything() == before


def test_hostile_git_repository_runs_no_program(
    bases: None, application: Make, adversary: Adversary, tmp_path: Path
) -> None:
    """Filters, hooks and helpers do not run, and the provenance shows files that are in no commit."""
    marker, program = tmp_path / "ran", tmp_path / "program"
    program.write_text(f"#!/bin/sh\necho $0 >>{marker}\ncat\n")
    program.chmod(0o755)
    path = application("hostile", {".gitattributes": "* filter=evil diff=evil\n"})
    for key in ("filter.evil.clean", "filter.evil.smudge", "filter.evil.process", "diff.evil.textconv",
                "diff.external", "core.fsmonitor", "core.sshCommand", "core.pager", "gpg.program"):  # fmt: skip
        git(path, "config", key, str(program))
    git(path, "config", "credential.helper", f"!{program}")
    for hook in ("post-checkout", "post-index-change", "reference-transaction"):
        (path / ".git/hooks" / hook).write_text(program.read_text())
        (path / ".git/hooks" / hook).chmod(0o755)
    marker.unlink(missing_ok=True)
    head = (path / ".git/refs/heads").iterdir().__next__().read_text().strip()
    taken = {}
    for revision in ((), ("--revision", head)):
        ran = cscm("build", str(path), "--json", *revision)
        assert ran.status == 0, ran.stderr
        ref = ImageRef.model_validate(ran.result["ref"])
        (bundle,) = [bundle for kind, bundle in adversary.bundles(ref) if kind == PROVENANCE]
        taken[bool(revision)] = statement(PROVENANCE, bundle)["buildDefinition"]["externalParameters"]["source"]
        (path / "local.txt").write_text("in no commit")
        (path / ".git/info/exclude").write_text("local.txt\n")

    assert not marker.exists()
    assert taken[False]["snapshot"] == taken[True]["snapshot"] and taken[True]["revision"] == head
    assert (taken[False]["dirty"], taken[True]["dirty"]) == (False, False)
    dirty = cscm("build", str(path), "--json")
    assert dirty.status == 0 and dirty.result["source"]["dirty"], dirty.stderr
    assert dirty.result["source"]["snapshot"] != taken[True]["snapshot"]
