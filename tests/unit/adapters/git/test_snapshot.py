"""Tests of the snapshot of an application, taken from the working copy or from a commit, and of its source record."""

from __future__ import annotations

import contextlib
import os
import socket
import stat

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supply_chain.adapters.git import snapshot as adapter
from supply_chain.adapters.git.repository import open_repository
from supply_chain.adapters.git.snapshot import OLDEST, read_declaration_at, take_snapshot, verify_snapshot
from supply_chain.development import snapshot as rules
from supply_chain.errors import DeclarationInvalid, DiskFull, SourceInvalid
from supply_chain.model.image import digest_of
from tests.support.dockerignore import ignored
from tests.support.examples import tries
from tests.support.repositories import APPLICATION, DECLARATION, commit, git, make_repository, write


@contextlib.contextmanager
def taken(directory, revision=None):
    with take_snapshot(directory, revision, ignored) as snapshot:
        yield snapshot


def source(directory, revision=None):
    with taken(directory, revision) as snapshot:
        return snapshot.source


def contents(directory, revision=None):
    """Return a map of path to content of the files in the context; for a symbolic link, its target."""
    with taken(directory, revision) as snapshot:
        found = [p for p in snapshot.context.rglob("*") if p.is_symlink() or p.is_file()]
        texts = {
            str(p.relative_to(snapshot.context)): os.readlink(str(p))  # noqa: PTH115 - as it is written
            if p.is_symlink()
            else p.read_text()
            for p in found
        }
    return {name: text for name, text in texts.items() if name not in ("Dockerfile", "supply-chain.yaml")}


@pytest.fixture
def repository(tmp_path):
    return make_repository(tmp_path / "shop")


@pytest.fixture
def hello(repository):
    return repository / "hello"


def test_declaration_is_read_from_commit_or_working_copy_without_links(hello):
    """A run acquires its lock by the declared name before it takes the snapshot."""
    revision = git(hello, "rev-parse", "HEAD")
    declared = (hello / "supply-chain.yaml").read_text()
    (hello / "supply-chain.yaml").write_text(declared.replace("name: hello", "name: other"))
    assert (read_declaration_at(hello, revision).name, read_declaration_at(hello, None).name) == ("hello", "other")

    (hello / "supply-chain.yaml").rename(hello / "elsewhere.yaml")
    (hello / "supply-chain.yaml").symlink_to("elsewhere.yaml")
    with pytest.raises(SourceInvalid):
        read_declaration_at(hello, None)
    with pytest.raises(SourceInvalid, match="no revision"):
        read_declaration_at(hello, "0" * 40)


@pytest.fixture
def plain(tmp_path):
    """Return an application outside of git."""
    write(tmp_path / "plain", APPLICATION)
    return tmp_path / "plain"


def test_snapshot_has_declaration_dockerfile_and_context_apart(hello):
    """The build reads no ignore file again and no Dockerfile from the context."""
    write(hello, {".dockerignore": "secret\nDockerfile\n", "secret": "x", "deep/er/file": "two"})

    with taken(hello) as snapshot:
        found = [p.relative_to(snapshot.directory) for p in snapshot.directory.rglob("*") if p.is_file()]
        names = {str(p).replace(snapshot.context.name, "context") for p in found}
        assert names == {
            "supply-chain.yaml", "dockerfile/Dockerfile", "ignore/.dockerignore",
            "context/supply-chain.yaml", "context/.dockerignore", "context/file", "context/deep/er/file",
        }  # fmt: skip
        assert snapshot.declaration_file.read_text() == DECLARATION
        assert snapshot.declaration.name == "hello"
        assert snapshot.digest_of("./Dockerfile") == digest_of(APPLICATION["Dockerfile"].encode())
        assert stat.S_IMODE(snapshot.directory.stat().st_mode) == 0o700
    assert not snapshot.directory.exists()


def test_snapshot_is_unaffected_by_changes_of_working_copy(hello):
    """Neither a changed file nor a file replaced by a symbolic link has an effect."""
    with taken(hello) as snapshot:
        (hello / "file").write_text("evil")
        (hello / "Dockerfile").unlink()
        (hello / "Dockerfile").symlink_to("/etc/passwd")
        assert (snapshot.context / "file").read_text() == "one"
        assert snapshot.dockerfile.read_text() == APPLICATION["Dockerfile"]


def test_clean_directory_has_path_revision_and_time_of_commit(repository, hello):
    """The path is relative to the root of the repository."""
    found = source(hello)

    assert (found.path, found.repository, found.revision) == ("hello", "shop", git(repository, "rev-parse", "HEAD"))
    assert (found.dirty, found.committed) == (False, 1700000000)


def change(hello):
    (hello / "file").write_text("two")


def add(hello):
    (hello / "new").write_text("")


def remove(hello):
    (hello / "file").unlink()


def add_ignored(hello):
    write(hello.parent, {".gitignore": "*.pyc\n", ".git/info/exclude": "x\n"})
    (hello / "evil.pyc").write_text("")


def make_executable(hello):
    git(hello, "config", "core.fileMode", "false")
    (hello / "file").chmod(0o755)


def overlook(flag):
    def act(hello):
        git(hello, "update-index", flag, "file")
        (hello / "file").write_text("two")

    return act


def swap_for_link(hello):
    (hello / "file").unlink()
    (hello / "file").symlink_to("Dockerfile")


def declare(hello):
    (hello / "supply-chain.yaml").write_text(DECLARATION + "# another\n")


def ignore_more(hello):
    write(hello, {"Dockerfile.dockerignore": "file\n"})


def stage_and_hide(hello):
    (hello / "file").write_text("two")
    git(hello, "add", ".")
    git(hello, "config", "status.showUntrackedFiles", "no")


def clean_by_filter(hello):
    """Let git see no change, because the filter returns the committed content."""
    write(hello.parent, {".git/info/attributes": "file filter=x\n"})
    git(hello, "config", "filter.x.clean", "echo -n one")
    (hello / "file").write_text("two")


@pytest.mark.parametrize(
    "act",
    [
        change, add, remove, add_ignored, make_executable, overlook("--assume-unchanged"), overlook("--skip-worktree"),
        swap_for_link, declare, ignore_more, stage_and_hide, clean_by_filter,
    ],
    ids=lambda act: act.__qualname__.partition(".")[0],
)  # fmt: skip
def test_source_is_dirty_if_snapshot_differs_from_commit(repository, hello, act):
    """No setting of git can hide a change, and another application of the repository stays clean."""
    act(hello)

    assert source(hello).dirty
    assert not source(repository / "other").dirty


def test_source_is_clean_if_only_ignored_files_differ(repository, hello):
    """Ignored files are not built; the commit alone decides, not the index or the times of files."""
    write(hello, {".dockerignore": "local\n"})
    commit(repository)
    write(hello, {"local/notes": "", "local/deep/er": ""})
    os.utime(hello / "file", (1, 1))
    (repository / ".git/index").unlink()

    assert not source(hello).dirty


def test_committed_is_time_of_last_change_of_directory(repository, hello):
    """A commit elsewhere in the repository must not change the image."""
    write(repository / "other", {"file": "two"})
    commit(repository, GIT_COMMITTER_DATE="1700009999 +0000")

    assert source(hello).committed == 1700000000
    assert source(repository / "other").committed == 1700009999


def test_committers_are_author_and_committer_of_the_last_change(repository, hello):
    """Both had a hand in it; a commit elsewhere says nothing about who wrote the application."""
    write(hello, {"file": "two"})
    commit(repository, GIT_AUTHOR_EMAIL="Dora@Shop.example", GIT_COMMITTER_EMAIL="bob@shop.example")
    write(repository / "other", {"file": "two"})
    commit(repository, GIT_AUTHOR_EMAIL="carl@shop.example", GIT_COMMITTER_EMAIL="carl@shop.example")

    assert source(hello).committers == ("bob@shop.example", "dora@shop.example")
    assert source(repository / "other").committers == ("carl@shop.example",)


def test_branch_is_checked_out_branch_that_leads_to_commit(repository, hello):
    """Nothing else says on which branch a commit is: not its name, nor a branch that leads elsewhere."""
    first = git(repository, "rev-parse", "HEAD")
    assert source(hello).branch == "main"
    git(repository, "checkout", "-q", "-b", "release/1")
    write(hello, {"file": "two"})
    assert source(hello).branch == "release/1"
    commit(repository)
    git(repository, "pack-refs", "--all")
    assert source(hello).branch == "release/1"
    for revision, expected in (("HEAD", "release/1"), ("release/1", "release/1"), (first, ""), ("main", "")):
        with take_snapshot(hello, revision, ignored) as snapshot:
            assert snapshot.source.branch == expected

    git(repository, "checkout", "-q", "--detach")
    assert source(hello).branch == ""


@pytest.mark.parametrize("head", ["ref: refs/tags/v1", "ref: refs/remotes/origin/main", "ref: refs/heads/../x"])
def test_source_has_no_branch_if_head_names_none(repository, hello, head):
    """Git writes other references there in some states."""
    oid = git(repository, "rev-parse", "HEAD")
    for name in ("refs/tags/v1", "refs/remotes/origin/main"):
        git(repository, "update-ref", name, oid)
    (repository / ".git/HEAD").write_text(f"{head}\n")

    assert source(hello).branch == ""


def test_committed_follows_parent_with_same_content(repository, hello):
    """As in the history simplification of git, a branch that changed and reverted a file does not count."""
    git(repository, "checkout", "-q", "-b", "side")
    write(hello, {"file": "two"})
    commit(repository, GIT_COMMITTER_DATE="1700000500 +0000")
    write(hello, {"file": "one"})
    commit(repository, GIT_COMMITTER_DATE="1700000600 +0000")
    git(repository, "checkout", "-q", "main")
    write(repository, {"unrelated": ""})
    commit(repository, GIT_COMMITTER_DATE="1700000700 +0000")
    git(repository, "merge", "-q", "--no-ff", "-m", "merge", "side", GIT_COMMITTER_DATE="1700000800 +0000")
    expected = int(git(repository, "log", "-1", "--format=%ct", "HEAD", "--", "hello"))

    assert source(hello).committed == expected == 1700000000


def test_source_outside_of_git_has_no_revision_and_is_dirty(plain):
    """The files then have the oldest possible time."""
    found = source(plain)

    assert (found.repository, found.revision, found.dirty, found.committed) == ("plain", "none", True, 0)
    with taken(plain) as snapshot:
        assert (snapshot.context / "file").stat().st_mtime == OLDEST


def test_source_in_repository_without_commit_has_no_revision(plain):
    """The result is the same as outside of git."""
    git(plain, "init", "-q")

    assert source(plain).revision == "none"


@pytest.mark.parametrize("name", ["HEAD~1", "main~1", "main^", "@~", "full", "short", "tag", "annotated^{commit}"])
def test_snapshot_of_revision_is_taken_from_commit(repository, hello, name):
    """The working copy does not matter, and every notation of git for a revision works."""
    first = git(repository, "rev-parse", "HEAD")
    git(repository, "tag", "tag")
    git(repository, "tag", "-m", "x", "annotated")
    write(hello, {"file": "two"})
    commit(repository, "two")
    write(hello, {"file": "uncommitted"})
    revision = {"full": first, "short": first[:8]}.get(name, name)

    with taken(hello, revision) as snapshot:
        assert (snapshot.context / "file").read_text() == "one"
        assert (snapshot.source.revision, snapshot.source.dirty, snapshot.source.path) == (first, False, "hello")


@pytest.mark.parametrize(
    "revision", ["nothing", "", "--all", "-x", "HEAD:hello", "f" * 40, "HEAD^{tree}", "a\nb", "HEAD~9", "HEAD^3",
                 "../../etc/passwd", "refs/../HEAD", "config", "HEAD@{0}"]
)  # fmt: skip
def test_revision_that_names_no_commit_is_refused(hello, revision):
    """Examples are options, trees and files of the git directory."""
    with pytest.raises(SourceInvalid, match="has no revision"):
        source(hello, revision)


def test_revision_outside_of_git_is_refused(plain):
    """Outside of git there are no revisions."""
    with pytest.raises(SourceInvalid, match="has no revision"):
        source(plain, "HEAD")


def test_revision_without_the_application_is_refused(repository):
    """The application may have been added later."""
    write(repository / "later", APPLICATION)

    with pytest.raises(SourceInvalid, match="later is not in revision"):
        source(repository / "later", "HEAD")


def test_bare_repository_is_read_at_a_revision(repository, tmp_path):
    """The hook of a git server builds in this way."""
    write(repository, APPLICATION)
    head = commit(repository)
    git(tmp_path, "clone", "-q", "--bare", repository, tmp_path / "bare.git")

    assert source(tmp_path / "bare.git", "main").revision == head
    assert contents(tmp_path / "bare.git", "main")["hello/file"] == "one"


def test_commit_and_clean_checkout_have_same_digest(repository, hello, tmp_path):
    """Clones, packs, times of files and the umask do not matter."""
    write(hello, {"program": "#!/bin/sh\n", "deep/file": "x", "binary": "\0\1"})
    (hello / "program").chmod(0o755)
    (hello / "link").symlink_to("deep/file")
    (hello / "empty").mkdir()
    head = commit(repository)
    git(tmp_path, "clone", "-q", repository, tmp_path / "clone")
    git(tmp_path / "clone", "repack", "-q", "-a", "-d")
    before = os.umask(0o077)
    try:
        found = [
            source(hello),
            source(hello, head),
            source(tmp_path / "clone/hello"),
            source(tmp_path / "clone/hello", head),
        ]
    finally:
        os.umask(before)

    assert {each.dirty for each in found} == {False}
    assert len({each.snapshot for each in found}) == 1


def test_files_of_snapshot_have_modes_and_times_of_git(repository, hello):
    """Modes and times become part of the image, whose digest must not depend on who builds it."""
    write(hello, {"program": "#!/bin/sh\n", "deep/file": "x"})
    (hello / "program").chmod(0o700)
    (hello / "file").chmod(0o600)
    (hello / "deep").chmod(0o700)
    commit(repository)

    with taken(hello) as snapshot:
        found = {p.name: p.lstat() for p in (snapshot.context, *snapshot.context.rglob("*"))}
        modes = {name: stat.S_IMODE(each.st_mode) for name, each in found.items()}
        assert modes["program"] == modes["deep"] == modes[snapshot.context.name] == 0o755
        assert modes["file"] == 0o644
        assert {each.st_mtime for each in found.values()} == {1700000000}


def test_git_directories_are_never_part_of_a_snapshot(repository, hello):
    """This holds at every level and for every content of the ignore file."""
    write(hello, {".dockerignore": "!.git\n!**/.git\n", "vendored/.git/config": "x", "vendored/file": "y"})
    write(repository, APPLICATION)

    assert contents(hello) == {"file": "one", ".dockerignore": "!.git\n!**/.git\n", "vendored/file": "y"}
    assert not [name for name in contents(repository) if ".git" in name.split("/")]


def test_ignored_files_are_not_read(hello):
    """Ignored files may be symbolic links, pipes or names that are not UTF-8."""
    write(hello, {".dockerignore": "local\n*.pipe\n"})
    (hello / "local").mkdir()
    (hello / "local" / "link").symlink_to("/etc/passwd")
    (hello / "local" / "caf\udce9").write_text("")
    os.mkfifo(hello / "x.pipe")

    assert set(contents(hello)) == {".dockerignore", "file"}


def test_snapshot_names_are_relative_to_context_or_application(hello):
    """The ignore file and the Dockerfile use names below the context; the digests use paths below the application."""
    write(hello, {"supply-chain.yaml": f"{DECLARATION}build: {{context: src, dockerfile: build/Dockerfile}}\n",
                  "build/Dockerfile": "FROM scratch\n", "src/a": "", "src/b": "",
                  "src/.dockerignore": "b\n"})  # fmt: skip

    with taken(hello) as snapshot:
        assert {p.name for p in snapshot.context.iterdir()} == {"a", ".dockerignore"}
        assert snapshot.dockerfile.read_text() == "FROM scratch\n"
        assert set(snapshot.entries) == {"supply-chain.yaml", "build/Dockerfile", "src/a", "src/.dockerignore"}


# Links, special files and names.


@pytest.mark.parametrize("target", ["file", "deep/er", "./deep/../file", "deep/back/file", "missing/file", "deep/.."])
def test_link_inside_the_context_is_part_of_snapshot(repository, hello, target):
    """The target may be created by the build, and the link of the commit is the same."""
    write(hello, {"deep/er": ""})
    (hello / "deep/back").symlink_to("..")
    (hello / "link").symlink_to(target)
    head = commit(repository)

    assert contents(hello)["link"] == contents(hello, head)["link"] == target


@pytest.mark.parametrize(
    ("target", "why"),
    [
        ("/etc/passwd", "another file on each machine"),
        ("../other/file", "leads out"),
        ("deep/../../other", "leads out"),
        ("deep/back/../other", "leads out"),
        ("deep/er/../../../../x", "leads out"),
        ("link", "leads to itself"),
        ("deep/round", "leads to itself"),
        ("a\nb", "control characters"),
    ],
)
@pytest.mark.parametrize("committed", [False, True])
def test_link_that_leaves_the_context_is_refused(repository, hello, target, why, committed):
    """A reader that follows it, also by way of another link, would read files of the machine."""
    write(hello, {"deep/er/x": ""})
    (hello / "deep/back").symlink_to("..")
    (hello / "deep/round").symlink_to("../link")
    (hello / "link").symlink_to(target)
    revision = commit(repository) if committed else None

    with pytest.raises(SourceInvalid, match=why):
        source(hello, revision)


def test_hard_links_become_independent_files(hello):
    """The snapshot shares no file with the working copy."""
    os.link(hello / "file", hello / "same")

    with taken(hello) as snapshot:
        assert {(snapshot.context / name).stat().st_nlink for name in ("file", "same")} == {1}


def make_pipe(path):
    os.mkfifo(path)


def make_socket(path):
    with socket.socket(socket.AF_UNIX) as listening, contextlib.chdir(path.parent):
        listening.bind(path.name)


@pytest.mark.parametrize("make", [make_pipe, make_socket])
@pytest.mark.parametrize("name", ["special", "deep/special"])
def test_special_file_is_refused(hello, make, name):
    """A special file has no content, and reading it may block for ever."""
    (hello / "deep").mkdir()
    make(hello / name)

    with pytest.raises(SourceInvalid, match="special is neither"):
        source(hello)


@pytest.mark.parametrize(
    ("one", "other"),
    [("readme", "README"), ("caf\u00e9", "cafe\u0301"), ("\u00c9t\u00e9", "e\u0301te\u0301"), ("Deep/a", "deep/b"),
     ("stra\u00dfe", "STRASSE"), ("x/\u212b", "x/\u00c5")],
)  # fmt: skip
@pytest.mark.parametrize("committed", [False, True])
def test_colliding_names_are_refused(repository, hello, one, other, committed):
    """Names of files and directories may not differ only in case or Unicode normalisation."""
    write(hello, {one: "1", other: "2"})
    revision = commit(repository) if committed else None

    with pytest.raises(SourceInvalid, match="the same name"):
        source(hello, revision)


@pytest.mark.parametrize(
    "name", ["caf\udce9", "a\nb", "a\x1b[2Jb", "a\x7f", "a\u2028b", "a\u202eb", "a\u200eb", "a\u200bb", "a\x85b"]
)
@pytest.mark.parametrize("committed", [False, True])
def test_name_that_cannot_be_printed_is_refused(repository, hello, name, committed):
    """A name that is not UTF-8 or has control characters would look different in a report."""
    write(hello, {f"deep/{name}": ""})
    revision = commit(repository) if committed else None

    with pytest.raises(SourceInvalid, match=r"deep/\S*: the name is not UTF-8"):
        source(hello, revision)


@pytest.mark.parametrize("which", ["supply-chain.yaml", "Dockerfile", "Dockerfile.dockerignore", ".dockerignore"])
@pytest.mark.parametrize("committed", [False, True])
def test_link_instead_of_build_file_is_refused(repository, hello, which, committed):
    """BuildKit resolves such a link differently than a check does."""
    (hello / "elsewhere").write_text(APPLICATION.get(which, ""))
    (hello / which).unlink(missing_ok=True)
    (hello / which).symlink_to("elsewhere")
    revision = commit(repository) if committed else None

    with pytest.raises(SourceInvalid, match="is a link in the path of"):
        source(hello, revision)


@pytest.mark.parametrize("declared", ["{dockerfile: way/Dockerfile}", "{context: way}", "{context: way/deep}"])
@pytest.mark.parametrize("committed", [False, True])
def test_link_on_path_to_dockerfile_or_context_is_refused(repository, hello, declared, committed):
    """The link is refused even if it stays inside the application."""
    write(
        hello,
        {"supply-chain.yaml": f"{DECLARATION}build: {declared}\n", "real/Dockerfile": "FROM a", "real/deep/x": ""},
    )
    (hello / "way").symlink_to("real")
    revision = commit(repository) if committed else None

    with pytest.raises(SourceInvalid, match="way is a link in the path of"):
        source(hello, revision)


def test_submodule_is_refused(repository, hello):
    """The files of a submodule are in no commit of this repository."""
    git(hello, "-c", "protocol.file.allow=always", "submodule", "add", "-q", repository, "module")
    commit(repository)

    for revision in (None, "HEAD"):
        with pytest.raises(SourceInvalid, match=r"module is a git submodule"):
            source(hello, revision)


def test_ignored_submodule_is_accepted(repository, hello):
    """The error message for a submodule recommends this."""
    write(hello, {".dockerignore": "module\n"})
    git(hello, "-c", "protocol.file.allow=always", "submodule", "add", "-q", repository, "module")
    head = commit(repository)

    assert (source(hello).dirty, source(hello, head).dirty) == (False, False)


def test_lfs_pointer_is_not_replaced(repository, hello):
    """Nothing is fetched for the pointer of a revision."""
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:" + "a" * 64 + "\nsize 5\n"
    write(hello, {"model": pointer, ".gitattributes": "model filter=lfs diff=lfs merge=lfs -text\n"})
    head = commit(repository)

    assert contents(hello, head)["model"] == pointer


# Limits of size.


@pytest.mark.parametrize(
    ("limit", "value", "why"),
    [("MAX_FILES", 3, "more than 3 files"), ("MAX_LISTED", 3, "more than 3 files"), ("MAX_FILE", 2, "too large"),
     ("MAX_SIZE", 2, "too large"), ("MAX_DEPTH", 2, "directories deep"), ("MAX_IGNORE", 2, "more than 0 KiB")],
)  # fmt: skip
@pytest.mark.parametrize("committed", [False, True])
def test_application_beyond_a_limit_is_refused(repository, hello, monkeypatch, limit, value, why, committed):
    """The numbers of files, directories and bytes are bounded."""
    write(hello, {"a/b/c": "x", "a/d": "", ".dockerignore": "none\n"})
    revision = commit(repository) if committed else None
    for module in (rules, adapter):
        monkeypatch.setattr(module, limit, value, raising=module is rules)
    with pytest.raises(SourceInvalid, match=why):
        source(hello, revision)


# Changes while the snapshot is taken.


class Swapping:
    """Ignore matcher that changes the working copy after its files were listed."""

    def __init__(self, act):
        self.act = act

    def __call__(self, ignore, paths):
        self.act()
        return ()


def race(hello, act):
    write(hello, {".dockerignore": "x\n", "deep/file": "inside", "deep/er/file": ""})
    with take_snapshot(hello, None, Swapping(act)) as snapshot:
        return {p.name: p.read_text() for p in snapshot.context.rglob("*") if p.is_file()}


def test_file_replaced_by_link_while_reading_is_refused(hello, tmp_path):
    """No file outside is read, even if it has the same size."""
    (tmp_path / "secret").write_text("two")

    def act():
        (hello / "file").unlink(missing_ok=True)
        (hello / "file").symlink_to(tmp_path / "secret")

    with pytest.raises(SourceInvalid, match=r"file is a link.* changed while it was read"):
        race(hello, act)


def test_directory_replaced_by_link_while_reading_is_refused(hello, tmp_path):
    """Neither the directory nor a directory below it is followed."""
    write(tmp_path / "outside", {"file": "secret", "er/file": ""})  # files of the same size

    def act():
        if not (hello / "deep").is_symlink():
            (hello / "deep").rename(tmp_path / "away")
            (hello / "deep").symlink_to(tmp_path / "outside")

    with pytest.raises(SourceInvalid, match=r"deep is a link.* changed while it was read"):
        race(hello, act)


def test_file_replaced_by_pipe_while_reading_is_refused(hello):
    """Reading does not wait for the pipe."""

    def act():
        (hello / "file").unlink()
        os.mkfifo(hello / "file")

    with pytest.raises(SourceInvalid, match="file changed while it was read"):
        race(hello, act)


def test_file_that_grows_while_reading_is_refused(hello):
    """The digest would match neither the old nor the new content."""
    with pytest.raises(SourceInvalid, match="file changed while it was read"):
        race(hello, lambda: (hello / "file").write_text("longer than before"))


def write_to(snapshot):
    (snapshot.context / "file").write_text("evi")


def add_to(snapshot):
    (snapshot.context / "more").write_text("")


def remove_from(snapshot):
    (snapshot.context / "deep/file").unlink()


def link_in(snapshot):
    (snapshot.context / "link").unlink()
    (snapshot.context / "link").symlink_to("Dockerfile")


def write_dockerfile_of(snapshot):
    snapshot.dockerfile.write_text("FROM evil\n")


def write_declaration_of(snapshot):
    snapshot.declaration_file.write_text(DECLARATION + "\n")


def make_copy_executable(snapshot):
    (snapshot.context / "file").chmod(0o755)


def make_setuid(snapshot):
    (snapshot.context / "file").chmod(0o4644)


def remove_ignore_file_from(snapshot):
    (snapshot.context / ".dockerignore").unlink()


def remove_other_ignore_file_from(snapshot):
    (snapshot.context / "deep/.dockerignore").unlink()


def write_ignore_file_of(snapshot):
    (snapshot.directory / "ignore/.dockerignore").write_text("*\n")


def add_ignore_file_to(snapshot):
    (snapshot.dockerfile.parent / "Dockerfile.dockerignore").write_text("*\n")


def add_pipe_to(snapshot):
    os.mkfifo(snapshot.context / "pipe")


ACTS = [
    write_to, add_to, add_pipe_to, remove_from, link_in, make_copy_executable, make_setuid, write_dockerfile_of,
    write_declaration_of, write_ignore_file_of, remove_ignore_file_from, remove_other_ignore_file_from,
    add_ignore_file_to,
]  # fmt: skip


@pytest.mark.parametrize("context", [".", "src"])
@pytest.mark.parametrize("act", ACTS)
def test_verify_snapshot_refuses_modified_snapshot(hello, context, act):
    """A modified copy no longer matches its digests; an unmodified one passes."""
    write(hello, {"supply-chain.yaml": f"{DECLARATION}build: {{context: {context}}}\n"})
    place = hello / context
    ignore = "supply-chain.yaml\n"
    write(place, {"file": "one", "deep/file": "", "deep/.dockerignore": "", "Dockerfile": "", ".dockerignore": ignore})
    (place / "link").symlink_to("./file")
    (hello / "Dockerfile").write_text("FROM scratch\n")

    with taken(hello) as snapshot:
        verify_snapshot(snapshot)
        act(snapshot)
        with pytest.raises(SourceInvalid, match="changed in the run's own copy"):
            verify_snapshot(snapshot)


def test_longest_path_is_copied_and_read_again(hello):
    """A path of the copy has more bytes than that of the original, and Linux limits both alike."""
    directory = os.open(hello, os.O_DIRECTORY)
    for _ in range(11):
        os.mkdir("z" * 255, dir_fd=directory)
        below = os.open("z" * 255, os.O_DIRECTORY, dir_fd=directory)
        os.close(directory)
        directory = below
    os.close(os.open("z" * 255, os.O_CREAT, dir_fd=directory))
    os.close(directory)

    with taken(hello) as snapshot:
        verify_snapshot(snapshot)
        assert "/".join(["z" * 255] * 12) in snapshot.entries


# Declarations.


def test_directory_without_application_is_refused(tmp_path):
    """A missing directory and a too long name are refused in the same way."""
    for directory in (tmp_path, tmp_path / "missing", tmp_path / ("x" * 300)):
        with pytest.raises(DeclarationInvalid):
            source(directory)


@pytest.mark.parametrize("link", ["shop", "shop/hello"])
def test_link_in_path_of_application_is_refused(tmp_path, hello, link):
    """Whoever may change the link could choose which files the supply chain reads with its greater rights."""
    place = tmp_path / "teams" / link
    place.parent.mkdir(parents=True)
    place.symlink_to({"shop": hello.parent, "shop/hello": hello}[link])

    with pytest.raises(SourceInvalid, match="Name the directory itself"):
        source(tmp_path / "teams/shop/hello")


def test_declaration_that_names_itself_as_dockerfile_is_refused(hello):
    """One file cannot be both."""
    write(hello, {"supply-chain.yaml": f"{DECLARATION}build: {{dockerfile: ./supply-chain.yaml}}\n"})

    with pytest.raises(DeclarationInvalid, match="names itself"):
        source(hello)


@pytest.mark.parametrize("committed", [False, True])
def test_missing_dockerfile_is_reported(repository, hello, committed):
    """The rule holds for the working copy and for a commit."""
    (hello / "Dockerfile").unlink()
    revision = commit(repository) if committed else None

    with pytest.raises(DeclarationInvalid, match="Dockerfile does not exist"):
        source(hello, revision)


@pytest.mark.parametrize(
    ("what", "why"), [("Dockerfile", "not a file, but a directory"), ("supply-chain.yaml", "not a file")]
)
def test_directory_instead_of_file_is_reported(hello, what, why):
    """The message names the kind of the entry."""
    (hello / what).unlink()
    (hello / what).mkdir()

    with pytest.raises(DeclarationInvalid, match=why):
        source(hello)


def test_context_that_is_no_directory_is_reported(hello):
    """The message names the key `build.context`."""
    for context in ("file", "missing"):
        write(hello, {"supply-chain.yaml": f"{DECLARATION}build: {{context: {context}}}\n"})
        with pytest.raises(DeclarationInvalid, match=r"build\.context"):
            source(hello)


# Properties.

names = st.text(st.sampled_from("abé-_. x"), min_size=1, max_size=4).filter(lambda name: name.strip(". ") != "")
paths = st.lists(names, min_size=1, max_size=3).map("/".join)
trees = st.dictionaries(paths, st.tuples(st.text(max_size=20), st.booleans()), max_size=6)


def plant(directory, tree):
    """Write the files whose paths do not collide with each other."""
    for path, (content, executable) in tree.items():
        with contextlib.suppress(FileExistsError, NotADirectoryError, IsADirectoryError):
            write(directory, {path: content})
            (directory / path).chmod(0o755 if executable else 0o644)


@tries(40)
@given(trees)
def test_equal_trees_have_equal_digests_in_any_place(tmp_path_factory, tree):
    """A commit of the same tree has the same digest, and another content has another one."""
    place = tmp_path_factory.mktemp("trees")
    for name in ("one", "two"):
        write(place / name, APPLICATION)
        plant(place / name, tree)
    git(place / "two", "init", "-q")
    commit(place / "two")

    with taken(place / "one") as one, taken(place / "two") as two, taken(place / "two", "HEAD") as committed:
        assert one.source.snapshot == two.source.snapshot == committed.source.snapshot
        assert (two.source.dirty, dict(two.entries)) == (False, dict(committed.entries))
    victim = place / "one" / next(iter(sorted(one.entries)))
    if victim.name != "supply-chain.yaml":
        victim.write_bytes(victim.read_bytes() + b"\n")
        assert source(place / "one").snapshot != one.source.snapshot


def test_origin_is_the_copied_directory_even_if_path_is_replaced(hello, tmp_path, monkeypatch):
    """The origin decides about the name and the caches, so a replaced path must have no effect."""
    other = tmp_path / "project"
    other.mkdir()
    moved = hello.with_name("moved")
    opened = open_repository

    def swapped(root, budget):
        hello.rename(moved)
        hello.symlink_to(other)
        return opened(root, budget)

    real = hello.resolve()
    monkeypatch.setattr(adapter, "open_repository", swapped)

    with taken(hello) as snapshot:
        assert hello.resolve() == other.resolve()
        assert snapshot.origin == real


def test_snapshot_keeps_a_reserve_of_free_space(plain, monkeypatch):
    """Other runs write temporary files to the same disk."""
    monkeypatch.setattr("supply_chain.adapters.files.free_space.RESERVE", 2**62)

    with pytest.raises(DiskFull, match=r"The build context is not copied: Only \d+ MiB are free"), taken(plain):
        pass
