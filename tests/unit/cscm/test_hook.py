"""`cscm hook`: reports a git push, and never stops one."""

import io
import os
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from cscm import hook as hooks
from cscm.hook import install
from cscm.main import main
from orchestration.project import find_project
from supply_chain.adapters.git.hooks import parse_pushes

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
        ([f"HEAD@{{1 day ago}} {NEW} refs/heads/main {OLD}\n"], [(NEW, "refs/heads/main")]),
        ([f"{OLD} {NEW} refs/heads/\udcff\n"], [(NEW, "refs/heads/?")]),
        (["\n", "rubbish\n", "", "three words here\n"], []),
        ([], []),
    ],
    ids=[
        "pre-push",
        "post-receive",
        "new branch",
        "deletion",
        "deletion on a server",
        "three",
        "expression",
        "not UTF-8",
        "rubbish",
        "nothing",
    ],
)
def test_hook_parses_input_of_both_git_hooks(lines, pushes):
    """Each revision is reported once, and a deletion is ignored."""
    assert parse_pushes(lines) == pushes


@pytest.fixture
def project(tmp_path, monkeypatch):
    """Set up a directory for the state of the laptop and a Prefect URL."""
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
def test_hook_install_writes_hook_for_kind_of_repository(project, bare, where):
    """A clone reports before a push, a server after it; a second installation changes nothing."""
    repository = project / "re po"
    git("init", "-q", *(["--bare"] if bare else []), repository)

    for _ in range(2):
        done = CliRunner().invoke(install, [str(repository)])
        assert done.exit_code == 0, done.output

    written = repository / where
    assert os.access(written, os.X_OK)
    assert str(written) in done.output
    subprocess.run(["sh", "-n", written], check=True)


def test_hook_install_finds_repository_of_application(project):
    """The hook is installed in the repository and has the path of the application."""
    git("init", "-q", project / "shop")
    (project / "shop" / "hello").mkdir()

    assert CliRunner().invoke(install, [str(project / "shop" / "hello")]).exit_code == 0

    assert "/shop/hello" in (project / "shop/.git/hooks/pre-push").read_text()


def test_hook_keeps_home_and_profile_of_installation(project, monkeypatch):
    """Another profile may use other ports."""
    monkeypatch.setenv("CSCM_PROFILE", str(project / "my own.yaml"))
    git("init", "-q", str(project / "shop"))

    CliRunner().invoke(main, ["hook", "install", str(project / "shop")], catch_exceptions=False)

    written = (project / "shop/.git/hooks/pre-push").read_text()
    assert f"CSCM_PROFILE='{project}/my own.yaml'" in written
    assert "CSCM_HOME=" in written


@pytest.mark.parametrize("content", [b"#!/bin/sh\necho mine\n", b"\xff\xfe"])
def test_hook_install_keeps_foreign_hook(project, content):
    """The error says what to call in it."""
    git("init", "-q", project / "shop")
    foreign_hook = project / "shop/.git/hooks/pre-push"
    foreign_hook.parent.mkdir(exist_ok=True)
    foreign_hook.write_bytes(content)

    done = CliRunner().invoke(main, ["hook", "install", str(project / "shop")])

    assert done.exit_code == 1
    assert "was not written by" in done.output and "-P -m cscm.hook" in done.output
    assert foreign_hook.read_bytes() == content


@pytest.mark.parametrize("link", [".git/hooks/pre-push", ".git/hooks", ".git"])
@pytest.mark.parametrize("dangling", [False, True])
def test_hook_install_writes_through_no_link(project, link, dangling):
    """Whoever wrote the repository could let it lead to a file of the developer."""
    git("init", "-q", project / "shop")
    place, outside = project / "shop" / link, project / "outside"
    (project / "shop/.git/hooks").mkdir(exist_ok=True)
    if place.exists():
        place.rename(outside)
    elif not dangling:
        outside.write_text("cscm hook install")
    if dangling and outside.exists():
        shutil.rmtree(outside)
    place.symlink_to(outside)
    before = state(outside)

    done = CliRunner().invoke(main, ["hook", "install", str(project / "shop")])

    assert (done.exit_code, state(outside)) == (1, before)
    assert "link" in done.output or (link == ".git" and dangling)


def state(path):
    """Return the content of a file or directory."""
    return path.read_bytes() if path.is_file() else sorted(path.rglob("*"))


def test_hook_install_fails_outside_of_repository(project):
    """The error says what is missing."""
    done = CliRunner().invoke(main, ["hook", "install", str(project)])

    assert done.exit_code == 1
    assert "in no git repository" in done.output


def test_push_succeeds_if_hook_fails(project):
    """The supply chain may be down, and must not stop the push."""
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
    assert "could not report" in done.stderr


def test_hook_imports_nothing_from_working_copy(project):
    """git runs a hook in the working copy, whose files whoever wrote the source controls."""
    git("init", "-q", project / "shop")
    (project / "shop/click.py").write_text("print('imported', flush=True)\n")
    assert CliRunner().invoke(install, [str(project / "shop")]).exit_code == 0

    done = subprocess.run(
        [project / "shop/.git/hooks/pre-push", "origin", "../server"],
        cwd=project / "shop",
        input=f"(delete) {ZERO} refs/heads/old {OLD}\n",
        capture_output=True,
        text=True,
        check=True,
    )

    assert (done.stdout, done.stderr) == ("", "")


@pytest.mark.parametrize(("options", "team"), [([], ""), (["--team", "web; id"], " web; id")])
def test_hook_runs_in_project(project, monkeypatch, options, team):
    """Prefect reads its settings from files of the working directory."""
    python = project / "py thon"
    python.write_text('#!/bin/sh\npwd\necho "$@"\n')
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    git("init", "-q", project / "shop")
    assert CliRunner().invoke(install, [str(project / "shop"), *options]).exit_code == 0

    hook = [project / "shop/.git/hooks/pre-push", "origin", "../server"]
    done = subprocess.run(hook, cwd=project / "shop", capture_output=True, text=True, check=True)

    assert done.stdout.splitlines() == [str(find_project()), f"-P -m cscm.hook {project}/shop{team}"]


@pytest.fixture
def posted(project, monkeypatch):
    """Return the arguments of each scheduled chain, and the function that runs the hook with an input."""
    calls: list[tuple[Any, ...]] = []

    def run(lines, *arguments):
        monkeypatch.setattr(sys, "stdin", io.StringIO(lines))
        hooks.post(*arguments)
        return calls

    monkeypatch.setattr("orchestration.source_pushes.schedule_chain", lambda *push: calls.append(push))
    return run


def test_hook_posts_each_revision_with_path_of_application(posted, project):
    """Each gets a chain. Without a team, all pushes of the repository have one place."""
    git("init", "-q", project / "shop")
    (project / "shop/hello").mkdir()
    hello, repository = project / "shop/hello", str(project / "shop/.git")
    before = datetime.now(UTC)

    assert posted("", str(hello)) == []
    calls = posted(f"x {NEW} y {OLD}\nx {OLD} y {ZERO}\n", str(hello))

    assert [each[:4] for each in calls] == [(hello, NEW, "y", repository), (hello, OLD, "y", repository)]
    (at,) = {each[4] for each in calls}
    assert before <= at <= datetime.now(UTC)


def test_hook_posts_team_that_it_was_installed_for(posted):
    """Whoever pushes cannot change the hook of a server."""
    ((*push, _),) = posted(f"x {NEW} y {OLD}\n", "/shop/hello", "web")
    assert push == [Path("/shop/hello"), NEW, "y", "web"]


def test_unreported_push_prints_message(project):
    """The hook's shell script says so too, and never stops the push."""
    git("init", "-q", project / "shop")
    command = [sys.executable, "-P", "-m", "cscm.hook", project / "shop"]
    environment = {**os.environ, "PREFECT_CLIENT_MAX_RETRIES": "0"}

    done = subprocess.run(
        command, cwd=find_project(), env=environment, input=f"{OLD} {NEW} refs/heads/main\n", capture_output=True,
        text=True, check=False,
    )  # fmt: skip

    assert done.returncode == 1 and "reported" not in done.stderr
    assert "supply chain: Prefect did not accept the push of shop" in done.stderr
