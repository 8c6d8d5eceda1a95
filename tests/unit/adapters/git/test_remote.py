"""A branch over HTTP, served by git itself."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from supply_chain.adapters.git import remote
from supply_chain.adapters.git.remote import TRIES, Author, RemoteBranch
from supply_chain.adapters.git.ssh_signature import load_key
from supply_chain.errors import DeclarationInvalid, GitRefused, GitUnavailable, SettingInvalid
from tests.contract.branch import BranchContract
from tests.support.git_server import GitServer, git_server

KEY = Ed25519PrivateKey.generate()
PATH = "staging/hello/values.yaml"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[GitServer]:
    with git_server(tmp_path) as served:
        served.commit({PATH: "a: 1\n", "staging/other": "x", "README": "read me"})
        yield served


@pytest.fixture
def branch(server: GitServer) -> RemoteBranch:
    def now() -> datetime:
        return datetime(2026, 11, 24, 12, tzinfo=UTC)

    return RemoteBranch(server.address, "main", Author("Chain", "chain@example.com", KEY), now, lambda _: None)


def append(line: str) -> object:
    return lambda content: content + f"{line}\n".encode()


def test_change_is_one_commit_that_changes_one_file(server, branch):
    """What else is in the repository stays, and the commit is what the branch has then."""
    first = branch.read(PATH)

    made = branch.change(PATH, append("b: 2"), "hello: deploy\n\nwhy\n")

    assert server.show(PATH) == "a: 1\nb: 2\n" == made.content.decode()
    assert server.git("rev-parse", "main", "main~1").split() == [made.commit, first.commit]
    assert server.git("diff", "--name-only", "main~1", "main").split() == [PATH]
    assert server.git("log", "-1", "--format=%an %ae %cn %ct %B", "main").strip() == (
        "Chain chain@example.com Chain 1795521600 hello: deploy\n\nwhy"
    )
    server.git("fsck", "--strict")


def test_commit_is_signed_as_git_verifies(server, branch, tmp_path):
    """Flux, git hosts and git itself verify the same signature."""
    branch.change(PATH, append("b: 2"), "deploy")
    public = KEY.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
    signers = tmp_path / "signers"
    signers.write_text(f"chain@example.com {public}\n")
    options = ("-c", f"gpg.ssh.allowedSignersFile={signers}")

    server.git(*options, "verify-commit", "main")

    with pytest.raises(subprocess.CalledProcessError):
        server.git(*options, "verify-commit", "main~1")


def test_list_changes_has_changes_of_file_with_signed_flag(server, branch):
    """Commits of other files and merges that bring nothing to it are left out; another key is somebody else."""
    made = branch.change(PATH, append("b: 2"), "deploy")
    other = server.commit({PATH: "c: 3\n"}, "theirs")
    server.commit({"README": "other"})
    foreign = replace(branch, author=replace(branch.author, key=Ed25519PrivateKey.generate()))
    last = foreign.change(PATH, append("d: 4"), "foreign")
    merge = server.git(
        "commit-tree", f"{last.commit}^{{tree}}", "-p", last.commit, "-p", made.commit, "-m", "m"
    ).strip()
    server.git("update-ref", "refs/heads/main", merge)

    changes = branch.list_changes(PATH)

    assert [(each.revision.commit, each.signed) for each in changes[:3]] == [
        (last.commit, False), (other, False), (made.commit, True)
    ]  # fmt: skip
    assert [each.revision.content for each in changes[2:]] == [b"a: 1\nb: 2\n", b"a: 1\n"]


def test_list_changes_ends_at_first_commit_of_file_or_depth_limit(server, branch, monkeypatch):
    """The oldest one that was fetched may not have changed the file."""
    began = server.commit({"new": "1"})
    for number in range(3):
        server.commit({"README": f"{number}"})
    newest = server.commit({"new": "2"})

    assert [each.revision.commit for each in branch.list_changes("new")] == [newest, began]
    monkeypatch.setattr(remote, "DEPTH", 3)
    assert [each.revision.commit for each in branch.list_changes("new")] == [
        newest, server.git("rev-parse", "main~2").strip()
    ]  # fmt: skip


def test_change_is_made_again_on_top_of_concurrent_commit(server, branch):
    """Nothing of the other commit is lost, and the chain's is one."""
    others = iter(["x: 1\n", "x: 2\n"])

    def edit(content: bytes) -> bytes:
        if other := next(others, None):
            server.commit({PATH: other, "new": other}, "other")
        return content + b"b: 2\n"

    branch.change(PATH, edit, "deploy")

    assert server.show(PATH) == "x: 2\nb: 2\n" and server.show("new") == "x: 2\n"
    assert server.subjects() == ["deploy", "other", "other", "by hand"]


def test_push_that_loses_race_in_server_is_made_again(server, branch, monkeypatch):
    """The branch may move between the advertisement and the update."""
    push, answers = RemoteBranch._push, iter(["failed to update ref"])
    monkeypatch.setattr(RemoteBranch, "_push", lambda *args: next(answers, None) or push(*args))

    branch.change(PATH, append("b: 2"), "deploy")

    assert server.subjects() == ["deploy", "by hand"]


def test_branch_that_always_moves_ends_in_error(server, branch):
    """It is retried later; nothing of the change is in the repository."""
    paused: list[float] = []

    def edit(content: bytes) -> bytes:
        server.commit({"README": f"{len(paused)}"}, "other")
        return content + b"b: 2\n"

    with pytest.raises(GitUnavailable, match=f"each of {TRIES} pushes"):
        replace(branch, wait=paused.append).change(PATH, edit, "deploy")

    assert len(paused) == TRIES - 1 and "deploy" not in server.subjects()


def test_lost_answer_of_push_is_found_by_next_look(server, branch, monkeypatch):
    """The commit is there, so no second one is made."""
    push = RemoteBranch._push

    def lossy(*args: Any) -> str:
        monkeypatch.undo()
        push(*args)
        return "stale"

    monkeypatch.setattr(RemoteBranch, "_push", lossy)

    made = branch.change(PATH, lambda _: b"b: 2\n", "deploy")

    assert server.subjects() == ["deploy", "by hand"] and made.commit == server.git("rev-parse", "main").strip()


def test_hook_of_server_refuses_with_its_message(server, branch):
    """A protected branch answers like this."""
    hook = server.repository / "hooks/update"
    hook.write_text("#!/bin/sh\nexit 1\n")
    hook.chmod(0o755)

    with pytest.raises(GitRefused, match="hook declined"):
        branch.change(PATH, append("b: 2"), "deploy")

    assert server.subjects() == ["by hand"]


@pytest.mark.parametrize("path", ["absent", "staging", "README/x", "link"])
def test_path_that_is_no_file_is_invalid(server, branch, path):
    """A link is not followed."""
    blob = server.git("hash-object", "-w", "--stdin", content=b"README").strip()
    tree = server.git("ls-tree", "main") + f"120000 blob {blob}\tlink\n"
    oid = server.git("mktree", content=tree.encode()).strip()
    server.git("update-ref", "refs/heads/main", server.git("commit-tree", oid, "-m", "link").strip())

    with pytest.raises(DeclarationInvalid, match=path):
        branch.read(path)


def test_missing_branch_is_refused(branch):
    """The chain makes no branches."""
    with pytest.raises(GitRefused, match="no branch other"):
        replace(branch, name="other").read(PATH)


def test_account_is_presented_and_wrong_one_refused(tmp_path, branch):
    """The error has no password."""
    with git_server(tmp_path / "private", password="secret") as served:
        served.commit({PATH: "a: 1\n"})
        private = replace(branch, address=served.address, username="chain")

        replace(private, password="secret").change(PATH, append("b: 2"), "deploy")
        with pytest.raises(GitRefused) as raised:
            replace(private, password="wrong").read(PATH)

    assert served.show(PATH) == "a: 1\nb: 2\n" and "wrong" not in str(raised.value)


@pytest.mark.parametrize(("status", "error"), [(403, GitRefused), (404, GitRefused), (500, GitUnavailable)])
def test_status_of_git_server_determines_whether_error_is_retried(server, branch, status, error):
    """An outage is no refusal."""
    server.broken = status

    with pytest.raises(error):
        branch.read(PATH)


def test_unreachable_git_server_is_unavailable(branch):
    """Nothing listens there."""
    with pytest.raises(GitUnavailable, match="did not answer"):
        replace(branch, address="http://127.0.0.1:1/x.git").read(PATH)


def test_key_that_is_not_ed25519_is_refused():
    """The error has nothing of it."""
    rsa = generate_private_key(65537, 2048).private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()).decode()
    own = KEY.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()).decode()

    assert load_key(own).public_key() == KEY.public_key()
    for text in (rsa, "nonsense", own.replace("BEGIN", "B")):
        with pytest.raises(SettingInvalid, match="ed25519"):
            load_key(text)


class TestRemoteBranch(BranchContract):
    """The contract."""
