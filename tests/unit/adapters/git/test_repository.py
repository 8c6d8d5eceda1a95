"""Tests that a git repository is treated as data: nothing in it is run, and nothing outside of it is read."""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import struct
import subprocess
import tracemalloc
import zlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supply_chain.adapters.git import commit as git_commit
from supply_chain.adapters.git import objects as git_objects
from supply_chain.adapters.git import repository as git_repository
from supply_chain.adapters.git.repository import _without_credentials, read_commit
from supply_chain.adapters.git.snapshot import take_snapshot
from supply_chain.errors import SourceInvalid, SupplyChainError
from tests.support.dockerignore import ignored
from tests.support.examples import tries
from tests.support.repositories import APPLICATION, commit, git, make_repository, write


def source(directory, revision=None):
    with take_snapshot(directory, revision, ignored) as snapshot:
        return snapshot.source


@pytest.fixture
def repository(tmp_path):
    return make_repository(tmp_path / "shop")


@pytest.fixture
def head(repository):
    return git(repository, "rev-parse", "HEAD")


# Nothing in a repository is run.


@pytest.fixture
def marker(tmp_path):
    return tmp_path / "ran"


@pytest.fixture
def hostile(repository, marker, tmp_path, monkeypatch):
    """Return a repository in which everything that git could run creates the marker file."""
    program = tmp_path / "program"
    program.write_text(f"#!/bin/sh\necho $0 $@ >>{marker}\ncat\n")
    program.chmod(0o755)
    write(repository / "hello", {".gitattributes": "* filter=evil diff=evil merge=evil text eol=crlf ident\n"})
    commit(repository)
    for key in (
        "filter.evil.clean", "filter.evil.smudge", "filter.evil.process", "diff.evil.textconv", "diff.evil.command",
        "merge.evil.driver", "diff.external", "core.fsmonitor", "core.sshCommand", "core.pager", "core.editor",
        "core.gitProxy", "core.askPass", "core.alternateRefsCommand", "credential.helper", "gpg.program",
        "uploadpack.packObjectsHook", "remote.origin.uploadpack", "alias.status", "sequence.editor", "pager.log",
    ):  # fmt: skip
        git(repository, "config", key, f"!{program}" if key.startswith(("alias", "credential")) else str(program))
    git(repository, "config", "filter.evil.required", "true")
    git(repository, "config", "core.hooksPath", str(tmp_path / "hooks"))
    git(repository, "config", "remote.origin.url", f"ext::{program}")
    git(repository, "config", "log.showSignature", "true")
    for place in (tmp_path / "hooks", repository / ".git/hooks"):
        for hook in (
            "post-checkout",
            "post-index-change",
            "reference-transaction",
            "fsmonitor-watchman",
            "pre-auto-gc",
        ):
            place.mkdir(exist_ok=True)
            shutil.copy(program, place / hook)
    user = tmp_path / "home"
    write(user, {".gitconfig": f'[core]\n\tfsmonitor = {program}\n[filter "evil"]\n\tclean = {program}\n'})
    monkeypatch.setenv("HOME", str(user))
    for variable in ("GIT_EXTERNAL_DIFF", "GIT_SSH_COMMAND", "GIT_PROXY_COMMAND", "GIT_ASKPASS", "GIT_PAGER"):
        monkeypatch.setenv(variable, str(program))
    return repository / "hello"


@pytest.mark.parametrize("revision", [None, "HEAD", "main~1"])
def test_take_snapshot_runs_nothing_from_repository(hostile, marker, revision):
    """Configuration, attributes, hooks, files of the user and the environment are all hostile."""
    (hostile / "file").write_text("changed")

    source(hostile, revision)

    assert not marker.exists()


def test_git_status_would_run_hostile_programs(hostile, marker):
    """This proves that the hostile repository of the test above is effective."""
    (hostile / "file").write_text("changed")

    with contextlib.suppress(subprocess.CalledProcessError):
        git(hostile, "status")

    assert marker.exists()


def test_take_snapshot_ignores_git_environment_variables(repository, head, tmp_path, monkeypatch):
    """The revision must be that of the directory that was given."""
    other = make_repository(tmp_path / "another")
    write(other / "hello", {"file": "two"})
    commit(other)
    for variable, value in {"GIT_DIR": other / ".git", "GIT_WORK_TREE": other, "GIT_OBJECT_DIRECTORY": other,
                            "GIT_INDEX_FILE": other / "x", "GIT_CONFIG_COUNT": "1"}.items():  # fmt: skip
        monkeypatch.setenv(variable, str(value))

    assert source(repository / "hello").revision == head


# What a repository says about itself.


@pytest.mark.parametrize(
    ("remote", "recorded"),
    [
        ("https://user:token@example.org/shop.git", "https://example.org/shop.git"),
        ("https://token@example.org/shop.git", "https://example.org/shop.git"),
        ("https://user:p%40ss@w@example.org/shop.git", "https://example.org/shop.git"),
        ("https://example.org/team@shop/x.git", "https://example.org/team@shop/x.git"),
        ("https://user:token@example.org", "https://example.org"),
        ("ssh://git@example.org:22/shop.git", "ssh://example.org:22/shop.git"),
        ("https://token:pa/ss@example.org/x", "https://example.org/x"),
        ("https://token:pa/s@s@example.org/x", "https://example.org/x"),
        ("https://token:x/2/3:4@example.org:8443/x", "https://example.org:8443/x"),
        ("https://git:3000/a", "https://git:3000/a"),
        ("https://localhost:3000/a@b", "https://localhost:3000/a@b"),
        ("https://git/a@b", "https://git/a@b"),
        ("https://example.org/a@b", "https://example.org/a@b"),
        ("https://example.org:8443/a@b/c@d", "https://example.org:8443/a@b/c@d"),
        ("https://[2001:db8::1]:8443/a@b", "https://[2001:db8::1]:8443/a@b"),
        ("https://example.org/shop.git?token=secret", "https://example.org/shop.git"),
        ("https://example.org/shop.git?token=se/c@ret#x", "https://example.org/shop.git"),
        ("https://user:token@example.org/shop.git#secret", "https://example.org/shop.git"),
        ("https://example.org?token=secret", "https://example.org"),
        ("https://user:to?k#en@example.org/shop.git", "https://example.org/shop.git"),
        ("HTTPS://example.org/shop.git?token=secret", "HTTPS://example.org/shop.git"),
        ("file:///srv/c#/shop.git", "file:///srv/c#/shop.git"),
        ("ssh://git@example.org/srv/c#/shop.git", "ssh://example.org/srv/c#/shop.git"),
        ("file:///srv/a@b", "file:///srv/a@b"),
        ("git@example.org:shop.git", "git@example.org:shop.git"),
        ("git@example.org:team@shop/x.git", "git@example.org:team@shop/x.git"),
        ("user:pass@example.org:shop.git", "example.org:shop.git"),
        ("user:p/a@s:s@[::1]:shop.git", "[::1]:shop.git"),
        ("user:p://w@example.org:shop.git", "example.org:shop.git"),
        ("/srv/git/team@shop:x@y:z.git", "/srv/git/team@shop:x@y:z.git"),
        ("/srv/git/shop.git", "/srv/git/shop.git"),
    ],
)
def test_remote_is_recorded_without_credentials(repository, remote, recorded):
    """Credentials would stay in signed provenance for ever."""
    assert _without_credentials(remote) == recorded
    git(repository, "remote", "add", "origin", remote)
    assert source(repository / "hello").repository == recorded


@pytest.mark.parametrize(
    "remote",
    [
        "https://user:pa@ss/secret@example.org/x",
        "https://user:pa/ss@example.org/a@b",
        "https://user:12/secret@example.org/x",
        "https://user:12?secret@example.org/x",
        "https://user?secret@example.org/x",
        "https://example.org?secret=a@b",
        "me@example.org:secret@example.org:shop.git",
        "user:secret@example.org/shop.git",
    ],
)
def test_remote_with_ambiguous_password_is_refused(repository, remote):
    """The message does not print the password."""
    git(repository, "remote", "add", "origin", remote)

    with pytest.raises(SourceInvalid, match="may end a password") as refused:
        source(repository / "hello")
    assert "secret" not in str(refused.value) and "pa/ss" not in str(refused.value)


def test_remote_with_several_urls_is_recorded_by_fetch_url(repository):
    """Git pushes to the others too."""
    for name in ("first", "second"):
        git(repository, "config", "--add", "remote.origin.url", f"https://example.org/{name}.git")

    assert source(repository / "hello").repository == git(repository, "remote", "get-url", "origin").strip()


@pytest.mark.parametrize("bad", ["\0", "\x1b[31m", "\x7f", "\\n", "\u202e", "\u2028"])
def test_remote_with_control_characters_is_refused(repository, bad):
    """The remote appears in signed provenance, in annotations and in arguments of commands."""
    with (repository / ".git/config").open("a") as config:
        config.write(f'[remote "origin"]\n\turl = "https://example.org/a{bad}b"\n')

    with pytest.raises(SourceInvalid, match="control characters"):
        source(repository / "hello")


def test_remote_longer_than_2048_characters_is_refused(repository):
    """Linux limits each argument of a command to 128 KiB."""
    address = "https://example.org/"
    git(repository, "remote", "add", "origin", address.ljust(2048, "a"))
    assert len(source(repository / "hello").repository) == 2048

    git(repository, "remote", "set-url", "origin", address.ljust(2049, "a"))
    with pytest.raises(SourceInvalid, match="more than 2048 characters"):
        source(repository / "hello")


def test_included_configuration_files_are_not_read(repository, tmp_path):
    """An included file belongs to the machine."""
    write(tmp_path, {"included": '[remote "origin"]\n\turl = https://example.org/evil.git\n'})
    for key in ("include.path", "includeIf.gitdir:/**.path"):
        git(repository, "config", key, str(tmp_path / "included"))

    assert source(repository / "hello").repository == "shop"


@pytest.mark.parametrize(
    ("key", "value"), [("core.worktree", "/"), ("core.bare", "true"), ("core.repositoryformatversion", "1")]
)
def test_configuration_does_not_change_location_of_files(repository, head, key, value):
    """The given directory alone decides where the files are."""
    git(repository, "config", key, value)

    found = source(repository / "hello")
    assert (found.path, found.revision, found.dirty) == ("hello", head, False)


def test_replacements_and_grafts_are_ignored(repository, head):
    """They exist only in this clone, and the revision names the original commit."""
    write(repository / "hello", {"file": "evil"})
    evil = commit(repository)
    git(repository, "replace", head, evil)
    write(repository, {".git/info/grafts": f"{evil}\n"})

    with take_snapshot(repository / "hello", head, ignored) as snapshot:
        assert (snapshot.context / "file").read_text() == "one"
        assert snapshot.source.revision == head


def test_shallow_clone_is_read(repository, tmp_path):
    """Commits before the boundary do not count as missing."""
    write(repository / "other", {"file": "two"})
    head = commit(repository, GIT_COMMITTER_DATE="1700009999 +0000")
    git(tmp_path, "clone", "-q", "--depth=1", f"file://{repository}", tmp_path / "shallow")

    found = source(tmp_path / "shallow/hello")
    assert (found.revision, found.committed, found.dirty) == (head, 1700009999, False)
    assert found.committers == (), "the last change may be of a commit that the clone does not have"
    git(tmp_path / "shallow", "fetch", "-q", "--unshallow")
    assert source(tmp_path / "shallow/hello").committers == source(repository / "hello").committers != ()


def test_commit_is_read_with_the_repository_that_provenance_names(repository, tmp_path):
    """A review of an abbreviated commit names all of its digits."""
    head = git(repository, "rev-parse", "HEAD")
    expected = (source(repository / "hello").repository, head)

    assert read_commit(repository / "hello", None) == read_commit(repository, head[:12]) == expected
    (plain := tmp_path / "plain").mkdir()
    for directory, revision in ((repository, "no-such"), (plain, None)):
        with pytest.raises(SourceInvalid, match=f"has no commit {revision or 'HEAD'}"):
            read_commit(directory, revision)


def test_committers_are_unknown_beyond_history_limit(repository, monkeypatch):
    """Who made an unrelated commit is not who changed the application."""
    write(repository / "other", {"file": "two"})
    commit(repository)
    assert source(repository / "hello").committers

    monkeypatch.setattr(git_repository, "MAX_HISTORY", 0)

    assert source(repository / "hello").committers == ()


@pytest.mark.parametrize("packed", [False, True])
def test_packed_and_loose_repositories_are_read_alike(repository, packed):
    """This includes deltas and packed references."""
    for n in range(60):
        write(repository / "hello", {"file": "line\n" * 500 + str(n)})
        git(repository, "commit", "-q", "-a", "-m", str(n))
    git(repository, "tag", "-m", "x", "annotated", "HEAD~30")
    if packed:
        git(repository, "gc", "-q", "--aggressive", "--prune=now")
        assert not (repository / ".git/refs/heads/main").exists()

    for revision, content in (("HEAD", "59"), ("main~10", "49"), ("annotated", "29"), ("HEAD~60", "one")):
        with take_snapshot(repository / "hello", revision, ignored) as snapshot:
            assert (snapshot.context / "file").read_text().endswith(content)


PACKED = {
    "sorted": ("# pack-refs with: peeled\n{head} refs/heads/a\n{head} refs/heads/main\n^{head}\n", True),
    "last line without end": ("{head} refs/heads/main", True),
    "last one counts": ("{none} refs/heads/main\n{head} refs/heads/main\n", True),
    "other lines": ("{head} refs/heads/main\nx {none} refs/heads/main\n {none} refs/heads/main\n", True),
    "longer name": ("{head} refs/heads/main2\n{head} x refs/heads/main\n", False),
    "short id": ("{head:.39} refs/heads/main\n", False),
    "none": ("", False),
}


@pytest.mark.parametrize("name", PACKED)
def test_packed_reference_is_found_by_its_line(repository, head, name):
    """The file is not split into lines: it may have millions of them."""
    text, found = PACKED[name]
    (repository / ".git/refs/heads/main").unlink()
    (repository / ".git/packed-refs").write_text(text.format(head=head, none="0" * 40))

    if found:
        assert source(repository / "hello").revision == head
        return
    with pytest.raises(SourceInvalid):
        read_commit(repository, "main")


def test_large_packed_references_take_little_memory(repository, head):
    """A clone is of somebody else."""
    (repository / ".git/refs/heads/main").unlink()
    (repository / ".git/packed-refs").write_bytes(b"%b refs/heads/main\n" % head.encode() + b"a b\n" * 1_000_000)

    tracemalloc.start()
    try:
        assert source(repository / "hello").revision == head
        assert tracemalloc.get_traced_memory()[1] < 30_000_000
    finally:
        tracemalloc.stop()


def test_linked_work_tree_is_read(repository, head, tmp_path):
    """`git worktree` creates a file `.git`, and the repository names the work tree in turn."""
    git(repository, "worktree", "add", "-q", "-b", "side", tmp_path / "linked")

    found = source(tmp_path / "linked/hello")
    assert (found.path, found.revision, found.dirty) == ("hello", head, False)
    write(tmp_path / "linked/hello", {"file": "two"})
    assert commit(tmp_path / "linked") == source(tmp_path / "linked/hello").revision
    assert source(repository / "hello").revision == head


def test_application_that_resembles_bare_repository_is_no_repository(repository, tmp_path):
    """Its files are files of an application and do not count as a repository."""
    hello = repository / "hello"
    shutil.copytree(make_repository(tmp_path / "another") / ".git", hello, dirs_exist_ok=True)
    head = commit(repository)

    assert (source(hello).revision, source(hello).dirty) == (head, False)


# Files that belong to another repository.


@pytest.fixture
def victim(tmp_path):
    """Return another repository on the machine, which the caller was not given."""
    return make_repository(tmp_path / "victim")


def link(attacker, victim):
    (attacker / ".git").symlink_to(victim / ".git")


def file(attacker, victim):
    (attacker / ".git").write_text(f"gitdir: {victim}/.git\n")


def own_directory_of_others_objects(attacker, victim):
    git(attacker, "init", "-q")
    shutil.rmtree(attacker / ".git/objects")
    (attacker / ".git/objects").symlink_to(victim / ".git/objects")


def alternates(attacker, victim):
    git(attacker, "init", "-q")
    write(attacker, {".git/objects/info/alternates": f"{victim}/.git/objects\n"})


def linked_objects(attacker, victim):
    git(attacker, "init", "-q")
    for each in (victim / ".git/objects").glob("??"):
        (attacker / ".git/objects" / each.name).symlink_to(each)


def common_directory(attacker, victim):
    """Imitate a linked work tree whose own directory names the repository of another."""
    fake = attacker.parent / "fake/worktrees/x"
    write(fake, {"commondir": f"{victim}/.git", "gitdir": f"{attacker}/.git", "HEAD": "ref: refs/heads/main\n"})
    (attacker / ".git").write_text(f"gitdir: {fake}\n")


def work_tree_named_with_nul(attacker, victim):
    """Imitate a linked work tree that the repository names by a path that no file can have."""
    write(victim / ".git/worktrees/x", {"commondir": "../..", "gitdir": "a\0b", "HEAD": "ref: refs/heads/main\n"})
    (attacker / ".git").write_text(f"gitdir: {victim}/.git/worktrees/x\n")


def linked_packs(attacker, victim):
    git(victim, "gc", "-q")
    git(attacker, "init", "-q")
    for each in (victim / ".git/objects/pack").iterdir():
        (attacker / ".git/objects/pack" / each.name).symlink_to(each)


def linked_references(attacker, victim):
    git(attacker, "init", "-q")
    shutil.rmtree(attacker / ".git/refs")
    (attacker / ".git/refs").symlink_to(victim / ".git/refs")


@pytest.mark.parametrize(
    "steal",
    [link, file, own_directory_of_others_objects, alternates, linked_objects, linked_packs, linked_references,
     common_directory, work_tree_named_with_nul],
)  # fmt: skip
def test_commit_of_another_repository_is_not_read(tmp_path, victim, steal):
    """The id is known, and each parameter is another way to reach the objects."""
    head = git(victim, "rev-parse", "HEAD")
    write(tmp_path / "attacker", APPLICATION)
    steal(tmp_path / "attacker", victim)
    for place in ("HEAD", "refs/heads/main"):
        if (tmp_path / "attacker/.git").is_dir() and not (tmp_path / "attacker/.git").is_symlink():
            if (tmp_path / "attacker/.git/refs").is_symlink() and place.startswith("refs"):
                continue
            write(tmp_path / "attacker/.git", {place: f"{head}\n"})

    with pytest.raises(SourceInvalid):
        source(tmp_path / "attacker", head)


def test_borrowed_objects_are_reported_with_remedy(tmp_path, victim):
    """A shared clone must not be reported as damaged."""
    git(tmp_path, "clone", "-q", "--shared", victim, tmp_path / "clone")

    with pytest.raises(SourceInvalid, match="borrows objects"):
        source(tmp_path / "clone/hello")


def test_repository_of_another_user_is_refused(repository, monkeypatch):
    """Such a repository may lie above by chance, for example /tmp/.git."""
    real = os.fstat

    def fstat(file):
        found = real(file)
        mine = list(found)
        if Path(f"/proc/self/fd/{file}").readlink().name == ".git":
            mine[stat.ST_UID] = 12345
        return os.stat_result(mine)

    monkeypatch.setattr(os, "fstat", fstat)

    with pytest.raises(SourceInvalid, match="another user"):
        source(repository / "hello")


# Damaged, forged and unsupported repositories.


def test_object_with_wrong_content_for_its_id_is_refused(repository, head):
    """Otherwise a revision would name content that was never committed."""
    blob = git(repository, "rev-parse", "HEAD:hello/file")
    place = repository / ".git/objects" / blob[:2] / blob[2:]
    place.chmod(0o644)
    place.write_bytes(zlib.compress(b"blob 4\0evil"))

    with pytest.raises(SourceInvalid, match="another object's"):
        source(repository / "hello", head)


@pytest.mark.parametrize("what", ["", "^{tree}", ":hello/file"])
@pytest.mark.parametrize("content", [None, b"", b"rubbish", zlib.compress(b"blob 9999999999\0x"), zlib.compress(b"x")])
def test_unreadable_object_is_reported_with_remedy(repository, head, what, content):
    """The message names `git fsck` or the size limit."""
    oid = git(repository, "rev-parse", f"HEAD{what}")
    place = repository / ".git/objects" / oid[:2] / oid[2:]
    place.unlink()
    if content is not None:
        place.write_bytes(content)

    with pytest.raises(SourceInvalid, match=r"git fsck|larger than"):
        source(repository / "hello", "HEAD")


def test_object_larger_than_limit_is_not_unpacked(repository, monkeypatch):
    """The limit holds for loose objects, packed objects and results of deltas."""
    base = "".join(f"{n}\n" for n in range(20_000))
    for n in range(3):
        write(repository / "hello", {"file": base + str(n)})
        commit(repository)
    monkeypatch.setattr(git_objects, "MAX_OBJECT", 50_000)

    with pytest.raises(SourceInvalid, match="larger than"):
        source(repository / "hello", "HEAD")
    git(repository, "gc", "-q", "--aggressive", "--prune=now")
    for revision in ("HEAD", "HEAD~1", "HEAD~2"):
        with pytest.raises(SourceInvalid, match="larger than"):
            source(repository / "hello", revision)


def test_pack_that_declares_huge_object_is_not_unpacked(repository):
    """A few bytes could otherwise take all memory."""
    git(repository, "gc", "-q", "--prune=now")
    (pack,) = (repository / ".git/objects/pack").glob("*.pack")
    pack.chmod(0o644)
    data = bytearray(pack.read_bytes())
    data[12:22] = bytes([0x9F, *[0xFF] * 8, 0x01])
    pack.write_bytes(data)

    with pytest.raises(SupplyChainError):
        for revision in ("HEAD", None):
            source(repository / "hello", revision)


@pytest.mark.parametrize(
    ("config", "why"),
    [
        ("[extensions]\n\tobjectformat = sha256\n", "objectformat sha256"),
        ("[extensions]\n\trefstorage = reftable\n", "refstorage reftable"),
        ("[core\n", "config cannot be read"),
        ("x" * 2_000_000, "more than"),
    ],
)
def test_repository_in_unsupported_format_is_refused(repository, config, why):
    """It must not be read as a repository without commits."""
    (repository / ".git/config").write_text(config)

    with pytest.raises(SourceInvalid, match=why):
        source(repository / "hello")


def tree_of(repository, *entries):
    """Commit a tree that git itself would not create."""
    content = b"".join(b"%s %s\0%s" % (mode, name, bytes.fromhex(oid)) for mode, name, oid in entries)
    raw = repository / "raw"
    raw.write_bytes(content)
    tree = git(repository, "hash-object", "-t", "tree", "--literally", "-w", raw)
    return git(repository, "commit-tree", "-m", "x", tree)


@pytest.mark.parametrize("name", [b"..", b".", b"a/b", b"file"])
def test_tree_with_invalid_or_duplicate_name_is_refused(repository, name):
    """Readers differ in which of two equal names they use."""
    blob = git(repository, "rev-parse", "HEAD:hello/file")
    names = [(b"100644", each.encode(), git(repository, "rev-parse", f"HEAD:hello/{each}")) for each in APPLICATION]
    made = tree_of(repository, *names, (b"100644", name, blob))

    with pytest.raises(SourceInvalid, match="not a tree of files"):
        source(repository, made)


def test_name_too_long_for_file_systems_is_refused(repository):
    """A long name is repeated in the path of each file below it, so a few bytes could take gigabytes."""
    entries = {each: git(repository, "rev-parse", f"HEAD:hello/{each}") for each in APPLICATION}
    many = tree_of(repository, *((b"100644", b"%04d" % n, entries["file"]) for n in range(1500)))
    below = git(repository, "rev-parse", f"{many}^{{tree}}")
    names = [(b"100644", each.encode(), oid) for each, oid in entries.items()]
    made = tree_of(repository, *names, (b"40000", b"z" * 1024**2, below))

    with pytest.raises(SourceInvalid, match=r"^z{200}… is too long"):
        source(repository, made)


def test_directory_with_too_many_names_is_refused(repository, monkeypatch):
    """The directory is refused before it is read, because 256 MiB of names take gigabytes of memory."""
    blob = git(repository, "rev-parse", "HEAD:hello/file")
    names = [(b"100644", each.encode(), git(repository, "rev-parse", f"HEAD:hello/{each}")) for each in APPLICATION]
    made = tree_of(repository, *names, *((b"100644", b"x%04d" % n, blob) for n in range(1500)))

    source(repository, made)
    monkeypatch.setattr(git_commit, "MAX_TREE", 40_000)

    with pytest.raises(SourceInvalid, match="Spread its files over several directories"):
        source(repository, made)


def test_commit_with_too_many_parents_is_refused(repository, head, monkeypatch):
    """250 MiB of parents are stored in 1 MiB, and take more than a gigabyte of memory."""
    monkeypatch.setattr(git_commit, "MAX_COMMIT", 2000)
    assert source(repository / "hello", head)
    content = git(repository, "cat-file", "commit", head).replace("\nauthor", f"\nparent {head}" * 50 + "\nauthor", 1)
    (repository / "commit").write_text(f"{content}\n")
    made = git(repository, "hash-object", "-t", "commit", "-w", "commit")

    with pytest.raises(SourceInvalid, match="is a commit of more than"):
        source(repository / "hello", made)


def test_trees_on_path_to_dockerfile_count_towards_limit(repository, monkeypatch):
    """All trees that are read stay in memory, also those outside the context."""
    build = "build: {dockerfile: a/b/Dockerfile, context: c}\n"
    files = {"supply-chain.yaml": APPLICATION["supply-chain.yaml"] + build, "a/b/Dockerfile": "FROM scratch\n"}
    above = {f"{directory}/{n}": "" for directory in ("a", "a/b") for n in range(30)}
    write(repository / "hello", {**files, **above, "c/file": ""})
    made = commit(repository)

    source(repository / "hello", made)
    monkeypatch.setattr(git_commit, "MAX_LISTED", 60)

    with pytest.raises(SourceInvalid, match=r"has more than \d+ files"):
        source(repository / "hello", made)


def test_git_directory_inside_commit_is_left_out(repository):
    """git does not create such a commit, but another program can."""
    blob = git(repository, "rev-parse", "HEAD:hello/file")
    names = [(b"100644", each.encode(), git(repository, "rev-parse", f"HEAD:hello/{each}")) for each in APPLICATION]
    made = tree_of(repository, (b"100644", b".GIT", blob), (b"100644", b".git", blob), *names)

    with take_snapshot(repository, made, ignored) as snapshot:
        assert {path.name for path in snapshot.context.iterdir()} == set(APPLICATION)


def test_commit_with_impossible_time_is_read(repository):
    """The time is replaced by the nearest possible one."""
    tree = git(repository, "rev-parse", "HEAD^{tree}")
    raw = repository / "raw"
    raw.write_text(f"tree {tree}\nauthor a <a@b> 0 +0000\ncommitter a <a@b> -99999999999999999 +0000\n\nx\n")
    made = git(repository, "hash-object", "-t", "commit", "--literally", "-w", raw)

    assert source(repository / "hello", made).committed == 0


@pytest.mark.parametrize(("author", "committer", "found"), [
    ("Ann <a@b>", "a <A@B>", ("a@b",)), (" <c@d>", "a < a@b >", ("a@b", "c@d")),
    ("a <>", "a <a@b>", ()), ("a <a@b", "a <a@b>", ()), ("a <x> <a@b>", "a <a@b>", ()), ("a <a\tb>", "a <a@b>", ()),
    (f"a <{'x' * 320}>", "a <a@b>", ("a@b", "x" * 320)), (f"a <{'x' * 321}>", "a <a@b>", ()),
    ("a <a@b> 0 +0000\nauthor b <c@d>", "a <a@b>", ()),
])  # fmt: skip
def test_committers_are_unknown_if_an_address_cannot_be_read(author, committer, found):
    """Half of them would make the other one look independent."""
    headers = f"tree {'0' * 40}\nauthor {author} 0 +0000\ncommitter {committer} 0 +0000\n"
    message = "\nauthor d <e@f> 0 +0000\n"

    assert git_commit.parse_commit("1" * 40, f"{headers}{message}".encode()).committers == found


def test_tree_deeper_than_100_directories_is_refused(repository):
    """The limit holds for commits and for working copies."""
    write(repository / "hello", {"/".join(["d"] * 150) + "/file": ""})
    made = commit(repository)

    for revision in (None, made):
        with pytest.raises(SourceInvalid, match="100 directories deep"):
            source(repository / "hello", revision)


DAMAGED = ("objects/pack/*.pack", "objects/pack/*.idx", "objects/??/*", "HEAD", "refs/heads/main")


@tries(150)
@given(st.integers(0, 10**9), st.binary(min_size=1, max_size=6), st.sampled_from(DAMAGED))
def test_damaged_repository_raises_or_yields_original_content(tmp_path_factory, place, damage, what):
    """The bytes of any file of the repository may be wrong."""
    top = _sample(tmp_path_factory)
    with Damaged(top, what, place, damage):
        try:
            with take_snapshot(top / "hello", "HEAD", ignored) as snapshot:
                content = (snapshot.context / "file").read_bytes()
                assert snapshot.source.revision != _SAMPLES["revision"] or content == _SAMPLES["content"]
        except SupplyChainError:
            pass


_SAMPLES: dict[str, Any] = {}


def _sample(factory):
    """Return one repository for all examples, because it takes a while to create."""
    if not _SAMPLES:
        top = make_repository(factory.mktemp("sample") / "shop")
        for n in range(5):
            write(top / "hello", {"file": "line\n" * 300 + str(n)})
            commit(top, str(n))
        git(top, "gc", "-q", "--aggressive", "--prune=now")
        write(top / "hello", {"file": "line\n" * 300 + "last"})
        _SAMPLES.update(top=top, revision=commit(top), content=(top / "hello/file").read_bytes())
    return _SAMPLES["top"]


class Damaged:
    """Context manager that overwrites some bytes of a file of the repository until the block ends."""

    def __init__(self, top, what, place, damage):
        found = sorted((top / ".git").glob(what))
        self.path = found[place % len(found)]
        self.before = self.path.read_bytes()
        at = place % len(self.before)
        self.after = self.before[:at] + damage + self.before[at + len(damage) :]

    def __enter__(self):
        self._write(self.after)

    def __exit__(self, *_):
        self._write(self.before)

    def _write(self, content):
        self.path.chmod(0o644)
        self.path.write_bytes(content)


def test_objects_of_all_packs_share_one_cache(repository, monkeypatch):
    """A repository may have hundreds of packs; a cache for each could take gigabytes."""
    heads = []
    for number in range(5):
        write(repository / "hello", {"file": f"{number}" * 2000})
        heads.append(commit(repository))
        git(repository, "repack", "-q", "-d")
    caches = {}
    add = git_objects._RecentObjects.add

    def recorded(cache, *arguments):
        caches[id(cache)] = cache
        add(cache, *arguments)

    monkeypatch.setattr(git_objects, "REMEMBERED_SIZE", 6000)
    monkeypatch.setattr(git_objects._RecentObjects, "add", recorded)
    assert len(list((repository / ".git/objects/pack").glob("*.pack"))) > 4

    for number, head in enumerate(heads):
        with take_snapshot(repository / "hello", head, ignored) as snapshot:
            assert (snapshot.context / "file").read_text() == f"{number}" * 2000

    assert len(caches) == len(heads)
    for each in caches.values():
        sizes = [len(content) + git_objects.OVERHEAD for _, content in each.objects.values()]
        assert 0 < each.size == sum(sizes) <= 6000


def test_delta_based_on_itself_is_refused(repository):
    """A circular chain of deltas must not loop for ever."""
    git(repository, "gc", "-q", "--prune=now")
    (pack,) = (repository / ".git/objects/pack").glob("*.pack")
    (index,) = (repository / ".git/objects/pack").glob("*.idx")
    head = bytes.fromhex(git(repository, "rev-parse", "HEAD"))
    names = index.read_bytes()
    count = struct.unpack(">L", names[8 + 255 * 4 : 8 + 256 * 4])[0]
    at = names.index(head, 8 + 1024)
    offset = struct.unpack(">L", names[8 + 1024 + count * 24 + (at - 8 - 1024) // 20 * 4 :][:4])[0]
    data = bytearray(pack.read_bytes())
    body = bytes([0x74]) + head + zlib.compress(b"\x01\x01\x01x")  # a reference delta of 4 bytes, based on itself
    data[offset : offset + len(body)] = body
    pack.chmod(0o644)
    pack.write_bytes(data)

    with pytest.raises(SourceInvalid):
        source(repository / "hello")
