"""git, as it is: revisions, changes, and clean copies of commits."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from supply_chain.adapters.git import Git, _without_credentials, file_digest

from supply_chain.adapters.command import Tool
from supply_chain.errors import DeclarationInvalid, SupplyChainError

GIT = Path(shutil.which("git") or "/usr/bin/git")
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


def git(directory, *args, **environment):
    done = subprocess.run(
        [GIT, "-C", directory, *args],
        env={**os.environ, **ENVIRONMENT, **environment},
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout.strip()


@pytest.fixture
def adapter():
    return Git(Tool("git", GIT, "2").with_environment(GIT_CONFIG_GLOBAL="/dev/null", GIT_CONFIG_SYSTEM="/dev/null"))


@pytest.fixture
def repository(tmp_path):
    """A repository `shop` with two applications and one commit."""
    top = tmp_path / "shop"
    for name in ("hello", "other"):
        (top / name).mkdir(parents=True)
        (top / name / "file").write_text("one")
    git(top, "init", "-q", "-b", "main")
    git(top, "add", ".")
    git(top, "commit", "-q", "-m", "one")
    return top


def test_a_clean_directory_is_its_commit(adapter, repository):
    """Path below the repository's root, revision, and when it last changed."""
    source = adapter.source(repository / "hello")

    assert (source.path, source.repository, source.revision) == ("hello", "shop", git(repository, "rev-parse", "HEAD"))
    assert (source.dirty, source.committed) == (False, 1700000000)


@pytest.mark.parametrize("flag", ["--assume-unchanged", "--skip-worktree"])
def test_what_git_was_told_not_to_look_at_is_dirty(adapter, repository, flag):
    """It may have changed, and nobody would see."""
    git(repository, "update-index", flag, "hello/file")

    assert adapter.source(repository / "hello").dirty
    assert not adapter.source(repository / "other").dirty


def test_a_commit_that_another_was_put_in_place_of_is_read_as_it_is(adapter, repository):
    """git's replacements are of this working copy alone; the revision names the commit that was made."""
    head = git(repository, "rev-parse", "HEAD")
    (repository / "hello" / "file").write_text("evil")
    git(repository, "commit", "-q", "-a", "-m", "evil")
    git(repository, "replace", head, git(repository, "rev-parse", "HEAD"))

    with adapter.checked_out(repository / "hello", head) as (directory, _):
        assert (directory / "file").read_text() == "one"


def test_files_that_git_ignores_are_named(adapter, repository):
    """Below the directory that is asked about, relative to it."""
    (repository / ".gitignore").write_text("*.local\nout/\n")
    git(repository, "add", ".gitignore")
    git(repository, "commit", "-q", "-m", "ignore")
    for name in ("hello/a.local", "hello/out/x y", "other/b.local", "hello/new"):
        (repository / name).parent.mkdir(exist_ok=True)
        (repository / name).write_text("")

    assert adapter.ignored(repository / "hello") == {"a.local", "out/x y"}


def test_outside_of_git_nothing_is_ignored(adapter, tmp_path):
    """A private copy of a commit holds what the commit does."""
    (tmp_path / "a.local").write_text("")

    assert adapter.ignored(tmp_path) == frozenset()


@pytest.mark.parametrize("change", ["file", "new", "delete", "staged"])
def test_changed_files_make_it_dirty(adapter, repository, change):
    """Changed, new, deleted, or only staged."""
    path = repository / "hello" / ("new" if change == "new" else "file")
    if change == "delete":
        path.unlink()
    else:
        path.write_text("two")
    if change == "staged":
        git(repository, "add", ".")

    assert adapter.source(repository / "hello").dirty
    assert not adapter.source(repository / "other").dirty


def test_in_doubt_it_is_dirty(adapter, repository):
    """A repository that git cannot compare is not called clean."""
    (repository / ".git" / "index").write_bytes(b"rubbish")

    assert adapter.source(repository / "hello").dirty


def test_the_time_is_that_of_the_directorys_last_change(adapter, repository):
    """A commit elsewhere does not make another image."""
    (repository / "other" / "file").write_text("two")
    git(repository, "commit", "-q", "-a", "-m", "two", GIT_COMMITTER_DATE="1700009999 +0000")

    assert adapter.source(repository / "hello").committed == 1700000000
    assert adapter.source(repository / "other").committed == 1700009999


def test_outside_of_git_nothing_is_known(adapter, tmp_path):
    """The revision is none, and dirty."""
    (tmp_path / "plain").mkdir()
    source = adapter.source(tmp_path / "plain")

    assert (source.repository, source.revision, source.dirty, source.committed) == ("plain", "none", True, 0)


def test_a_repository_without_a_commit_has_no_revision(adapter, tmp_path):
    """The same as outside."""
    git(tmp_path, "init", "-q")

    assert adapter.source(tmp_path).revision == "none"


@pytest.mark.parametrize(
    ("remote", "shown"),
    [
        ("https://user:token@example.org/shop.git", "https://example.org/shop.git"),
        ("https://token@example.org/shop.git", "https://example.org/shop.git"),
        ("https://user:p%40ss@w@example.org/shop.git", "https://example.org/shop.git"),
        ("https://example.org/team@shop/x.git", "https://example.org/team@shop/x.git"),
        ("https://user:token@example.org", "https://example.org"),
        ("ssh://git@example.org:22/shop.git", "ssh://example.org:22/shop.git"),
        ("git@example.org:shop.git", "git@example.org:shop.git"),
        ("/srv/git/shop.git", "/srv/git/shop.git"),
    ],
)
def test_a_remote_is_recorded_without_credentials(adapter, repository, remote, shown):
    """They would be in signed provenance for ever."""
    assert _without_credentials(remote) == shown
    git(repository, "remote", "add", "origin", remote)
    assert adapter.source(repository / "hello").repository == shown


def test_without_a_revision_the_files_are_taken_as_they_are(adapter, repository):
    """No copy is made."""
    with adapter.checked_out(repository / "hello", None) as (directory, source):
        assert directory == repository / "hello"
        assert source.path == "hello"


@pytest.mark.parametrize("name", ["HEAD~1", "main~1", "full", "short", "tag"])
def test_a_revision_is_a_clean_copy_that_goes_away(adapter, repository, name):
    """Of that commit, whatever the working copy holds, under any name that git knows."""
    first = git(repository, "rev-parse", "HEAD")
    git(repository, "tag", "tag")
    (repository / "hello" / "file").write_text("two")
    git(repository, "commit", "-q", "-a", "-m", "two")
    (repository / "hello" / "file").write_text("uncommitted")
    revision = {"full": first, "short": first[:8]}.get(name, name)

    with adapter.checked_out(repository / "hello", revision) as (directory, source):
        assert (directory / "file").read_text() == "one"
        assert (source.revision, source.dirty, source.path) == (first, False, "hello")
        assert repository not in directory.parents
        assert not list(directory.parent.glob("*.tar"))
    assert not directory.exists()
    assert (repository / "hello" / "file").read_text() == "uncommitted"


def test_a_bare_repository_can_be_checked_out(adapter, repository, tmp_path):
    """As the hook of a server does."""
    bare = tmp_path / "bare.git"
    git(tmp_path, "clone", "-q", "--bare", repository, bare)

    with adapter.checked_out(bare, "main") as (directory, source):
        assert (directory / "hello" / "file").read_text() == "one"
        assert source.revision == git(repository, "rev-parse", "HEAD")


@pytest.mark.parametrize("revision", ["nothing", "", "--all", "-x", "HEAD:hello", "f" * 40, "HEAD^{tree}", "a\nb"])
def test_what_names_no_commit_is_refused(adapter, repository, revision):
    """Options and trees among it."""
    with pytest.raises(DeclarationInvalid, match="has no revision"), adapter.checked_out(repository, revision):
        pass


def test_outside_of_git_there_is_no_revision(adapter, tmp_path):
    """The same."""
    with pytest.raises(DeclarationInvalid), adapter.checked_out(tmp_path, "HEAD"):
        pass


@pytest.mark.parametrize("target", ["/etc/passwd", "../../../../etc/passwd"])
def test_a_link_that_leads_out_of_a_revision_is_refused(adapter, repository, target):
    """Its copy would read the machine's own files."""
    (repository / "hello" / "link").symlink_to(target)
    git(repository, "add", ".")
    git(repository, "commit", "-q", "-m", "link")

    with pytest.raises(SupplyChainError), adapter.checked_out(repository / "hello", "HEAD"):
        pass


def test_a_link_that_leads_out_by_way_of_another_is_refused(adapter, repository):
    """It looks harmless as long as the other one is not there."""
    deep = repository / "hello" / "x" / "y"
    deep.mkdir(parents=True)
    (deep / "a").symlink_to("b/../../..")
    (deep / "b").symlink_to("../../../x")
    git(repository, "add", ".")
    git(repository, "commit", "-q", "-m", "links")

    with pytest.raises(DeclarationInvalid, match="leads out"), adapter.checked_out(repository / "hello", "HEAD"):
        pass


def test_a_revision_holds_the_applications_own_files_and_no_others(adapter, repository):
    """A large repository is not copied for one of its applications, and another's links are its own matter."""
    with adapter.checked_out(repository / "hello", "HEAD") as (directory, _):
        assert [path.name for path in directory.parent.iterdir()] == ["hello"]


def test_a_revision_that_does_not_hold_the_application_is_refused(adapter, repository):
    """It may have been added later."""
    (repository / "later").mkdir()
    (repository / "later" / "file").touch()

    with (
        pytest.raises(DeclarationInvalid, match="later cannot be taken out of revision"),
        adapter.checked_out(repository / "later", "HEAD"),
    ):
        pass


def test_a_link_to_itself_is_a_link_like_others(adapter, repository):
    """What cannot be followed leads nowhere."""
    (repository / "hello" / "link").symlink_to("link")
    git(repository, "add", ".")
    git(repository, "commit", "-q", "-m", "link")

    with adapter.checked_out(repository / "hello", "HEAD") as (directory, _):
        assert (directory / "link").is_symlink()


def test_the_modes_of_a_revision_are_those_of_everybodys_copy(adapter, repository):
    """They come into the image, whose digest must not depend on who built it or with which Python."""
    (repository / "hello" / "program").write_text("#!/bin/sh\n")
    (repository / "hello" / "program").chmod(0o755)
    git(repository, "add", ".")
    git(repository, "commit", "-q", "-m", "program")

    with adapter.checked_out(repository / "hello", "HEAD") as (directory, _):
        modes = {path.name: path.stat().st_mode & 0o777 for path in directory.iterdir()}

    assert modes == {"file": 0o644, "program": 0o755}


def test_a_link_inside_of_a_revision_is_kept(adapter, repository):
    """It leads to the copy's own file."""
    (repository / "hello" / "link").symlink_to("../other/file")
    git(repository, "add", ".")
    git(repository, "commit", "-q", "-m", "link")

    with adapter.checked_out(repository / "hello", "HEAD") as (directory, _):
        assert (directory / "link").resolve() == (directory.parent / "other" / "file").resolve()


def test_a_files_digest_is_that_of_its_content(tmp_path):
    """SHA-256, written as registries do."""
    (tmp_path / "file").write_bytes(b"")

    assert file_digest(tmp_path / "file") == "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
