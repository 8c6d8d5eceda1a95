"""`cscm hook`: git tells of a push, and nothing that goes wrong here stops one."""

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from cscm import hook as hooks
from cscm.hook import install, pushed
from cscm.main import main

OLD, NEW, ZERO = "a" * 40, "b" * 40, "0" * 40


@pytest.mark.parametrize(
    ("lines", "pushes"),
    [
        ([f"refs/heads/mine {NEW} refs/heads/main {OLD}\n"], [(NEW, "refs/heads/main")]),
        ([f"{OLD} {NEW} refs/heads/main\n"], [(NEW, "refs/heads/main")]),
        ([f"refs/heads/main {NEW} refs/heads/main {ZERO}\n"], [(NEW, "refs/heads/main")]),
        ([f"(delete) {ZERO} refs/heads/old {OLD}\n"], []),
        ([f"{OLD} {ZERO} refs/heads/old\n"], []),
        (
            [f"{ZERO} {NEW} refs/heads/b\n", f"{ZERO} {NEW} refs/heads/a\n", f"{ZERO} {OLD} refs/heads/c\n"],
            [(NEW, "refs/heads/a refs/heads/b"), (OLD, "refs/heads/c")],
        ),
        (["\n", "rubbish\n", ""], []),
        ([], []),
    ],
    ids=["pre-push", "post-receive", "new branch", "deletion", "deletion on a server", "three", "rubbish", "nothing"],
)
def test_reads_what_git_says(lines, pushes):
    """In both forms; each revision once, and a deletion is none."""
    assert pushed(lines) == pushes


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A place for the laptop's state, and a Prefect that is there already."""
    monkeypatch.setenv("CSCM_HOME", str(tmp_path / "home of it's own"))
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")
    return tmp_path


def git(*args, **kwargs):
    environment = {
        **os.environ,
        "GIT_CONFIG_GLOBAL": "/dev/null",
        "GIT_AUTHOR_NAME": "a",
        "GIT_AUTHOR_EMAIL": "a@example.org",
        "GIT_COMMITTER_NAME": "a",
        "GIT_COMMITTER_EMAIL": "a@example.org",
    }
    return subprocess.run(["git", *args], env=environment, check=True, capture_output=True, text=True, **kwargs)


@pytest.mark.parametrize(("bare", "where"), [(False, ".git/hooks/pre-push"), (True, "hooks/post-receive")])
def test_writes_the_hook_that_fits_the_repository(project, bare, where):
    """A clone tells before a push, a server after it; writing it again changes nothing."""
    repository = project / "re po"
    git("init", "-q", *(["--bare"] if bare else []), repository)

    for _ in range(2):
        done = CliRunner().invoke(install, [str(repository)])
        assert done.exit_code == 0, done.output

    written = repository / where
    assert os.access(written, os.X_OK)
    assert str(written) in done.output
    subprocess.run(["sh", "-n", written], check=True)


def test_finds_the_repository_around_an_application(project):
    """The hook is the repository's; the path in it is the application's."""
    git("init", "-q", project / "shop")
    (project / "shop" / "hello").mkdir()

    assert CliRunner().invoke(install, [str(project / "shop" / "hello")]).exit_code == 0

    assert "/shop/hello" in (project / "shop/.git/hooks/pre-push").read_text()


def test_a_hook_speaks_to_the_supply_chain_that_it_was_installed_for(project, monkeypatch):
    """Also where that has another profile, and so other ports."""
    monkeypatch.setenv("CSCM_PROFILE", str(project / "my own.yaml"))
    git("init", "-q", str(project / "shop"))

    CliRunner().invoke(main, ["hook", "install", str(project / "shop")], catch_exceptions=False)

    written = (project / "shop/.git/hooks/pre-push").read_text()
    assert f"CSCM_PROFILE='{project}/my own.yaml'" in written
    assert "CSCM_HOME=" in written


@pytest.mark.parametrize("content", [b"#!/bin/sh\necho mine\n", b"\xff\xfe"])
def test_leaves_a_hook_that_is_somebody_elses(project, content):
    """And says what to call in it."""
    git("init", "-q", project / "shop")
    theirs = project / "shop/.git/hooks/pre-push"
    theirs.parent.mkdir(exist_ok=True)
    theirs.write_bytes(content)

    done = CliRunner().invoke(main, ["hook", "install", str(project / "shop")])

    assert done.exit_code == 1
    assert "not from us" in done.output and "-m cscm.hook" in done.output
    assert theirs.read_bytes() == content


def test_outside_of_git_there_is_nothing_to_hook(project):
    """With what to do."""
    done = CliRunner().invoke(main, ["hook", "install", str(project)])

    assert done.exit_code == 1
    assert "in no git repository" in done.output


def test_a_push_goes_through_when_nobody_can_be_told(project):
    """The supply chain of this machine may be down; the push is not its to stop."""
    work, server = project / "work", project / "server.git"
    git("init", "-q", "-b", "main", work)
    git("init", "-q", "--bare", server)
    (work / "file").write_text("x")
    git("add", ".", cwd=work)
    git("commit", "-q", "-m", "x", cwd=work)
    assert CliRunner().invoke(install, [str(work)]).exit_code == 0
    written = work / ".git/hooks/pre-push"
    written.write_text(written.read_text().replace("cscm.hook", "cscm.no_such_module"))

    done = git("push", server, "main", cwd=work)

    assert git("-C", server, "rev-parse", "main").stdout == git("-C", work, "rev-parse", "HEAD").stdout
    assert "was not told" in done.stderr


def test_the_hook_posts_every_revision_with_the_applications_path(project, monkeypatch):
    """As `cscm.source.pushed`."""
    told = []
    monkeypatch.setattr("tasks.source.post_pushed", lambda *push: told.append(push))
    monkeypatch.setattr(sys, "stdin", io.StringIO(""))
    hooks.post("/shop/hello")
    assert told == []

    monkeypatch.setattr(sys, "stdin", io.StringIO(f"x {NEW} y {OLD}\nx {OLD} y {ZERO}\n"))
    hooks.post("/shop/hello")
    assert told == [(Path("/shop/hello"), NEW, "y"), (Path("/shop/hello"), OLD, "y")]
