"""Taking a snapshot ends: after its time, after its bytes, and when the run is cancelled."""

from __future__ import annotations

import contextlib
import itertools
import os
from pathlib import Path

import pytest

from supply_chain.adapters.files.openat import directory_named
from supply_chain.adapters.git.objects import Objects
from supply_chain.adapters.git.repository import open_repository
from supply_chain.adapters.git.snapshot import take_snapshot
from supply_chain.adapters.git.snapshot_budget import MAX_READ, MAX_SECONDS, Budget, Phase
from supply_chain.adapters.process.command import Cancellation
from supply_chain.development.snapshot import MAX_SIZE
from supply_chain.errors import Cancelled, SourceInvalid
from tests.support.dockerignore import ignored
from tests.support.repositories import APPLICATION, commit, git, make_repository, write


def ticking():
    """A clock on which a second passes whenever it is asked."""
    return itertools.count().__next__


@pytest.fixture
def repository(tmp_path):
    top = make_repository(tmp_path / "shop")
    write(top / "hello", {f"directory/{n}": str(n) for n in range(10)})
    for n in range(10):
        (top / "hello" / f"link{n}").symlink_to(f"directory/{n}")
    commit(top)
    git(top, "branch", "side")
    write(top / "other", {"file": "two"})
    commit(top)
    return top


@pytest.fixture
def plain(tmp_path):
    """An application outside of git."""
    write(tmp_path / "plain/hello", APPLICATION)
    return tmp_path / "plain"


def refusal(repository, revision, seconds):
    """What the snapshot is refused for; "" where it is taken."""
    budget = Budget(ticking(), seconds)
    try:
        with take_snapshot(repository / "hello", revision, ignored, budget) as snapshot:
            assert snapshot.source.dirty is (snapshot.source.revision == "none")
            return ""
    except SourceInvalid as error:
        return str(error)


@pytest.mark.parametrize("revision", [None, "side"])
def test_snapshot_past_its_deadline_is_refused_at_every_step(repository, revision):
    """However far it is: no step passes the deadline unseen, and none takes it for another error or for dirty."""
    messages = list(itertools.takewhile(bool, (refusal(repository, revision, n) for n in itertools.count())))

    for phase in Phase:
        doing, remedy = phase.value
        assert sum(doing in each and remedy in each for each in messages) > 5, phase
    assert all("took more than" in each for each in messages)


def test_files_that_are_left_out_are_listed_until_the_deadline(plain):
    """No file of a large directory is read, and each is looked at."""
    write(plain / "hello", {".dockerignore": "many\n!many/1\n", **{f"many/{n}": "" for n in range(50)}})

    assert "listing the files" in refusal(plain, None, 40)
    assert not refusal(plain, None, 200)


def test_large_file_is_copied_until_the_deadline(plain):
    """A slow disk may need longer for one file than there is for all."""
    (plain / "hello/large").touch()
    os.truncate(plain / "hello/large", 50 * 1024**2)

    assert "copying the files" in refusal(plain, None, 40)
    assert not refusal(plain, None, 200)


def test_snapshot_has_minutes_and_its_files_size_at_least():
    """A commit may hold as many bytes as a working copy."""
    assert Budget().seconds == MAX_SECONDS >= 60
    assert Budget().size == MAX_READ > MAX_SIZE


@contextlib.contextmanager
def opened(repository, budget):
    with directory_named(repository / "hello") as root, open_repository(root, budget) as found:
        assert found is not None
        yield found


def test_long_history_ends_at_the_deadline(repository):
    """A commit after the other, none of which changed the application."""
    for n in range(20):
        write(repository / "other", {"file": str(n)})
        commit(repository)

    with opened(repository, Budget(ticking(), 15)) as found, pytest.raises(SourceInvalid, match="depth=1"):
        found.last_change(git(repository, "rev-parse", "HEAD"))


def test_bytes_of_git_objects_are_limited(repository):
    """A root directory of megabytes, once for each commit."""
    write(repository, {f"{n}-{'x' * 200}": "" for n in range(100)})
    for n in range(20):
        write(repository / "other", {"file": str(n)})
        commit(repository)
    head = git(repository, "rev-parse", "HEAD")

    for size, refused in ((200_000, True), (2_000_000, False)):
        with opened(repository, Budget(size=size)) as found:
            ending = pytest.raises(SourceInvalid, match="GiB of git") if refused else contextlib.nullcontext()
            with ending:
                found.last_change(head)


def test_used_up_bytes_are_not_an_unknown_revision_and_not_dirty(repository):
    """Both are found out by reading objects, and both overlook objects that cannot be read."""
    outcomes = set()
    for size in itertools.count(0, 100):
        try:
            with take_snapshot(repository / "hello", None, ignored, Budget(size=size)) as snapshot:
                outcomes.add(str(snapshot.source.dirty))
                break
        except SourceInvalid as error:
            outcomes.add(str(error).partition("GiB")[1])

    assert outcomes == {"GiB", "False"}


def test_unchanged_directories_are_read_once(repository):
    """Those above the application, however many commits left them alone."""
    write(repository, {f"above/{n}-{'x' * 200}": "" for n in range(100)})
    write(repository, {"above/app/file": ""})
    commit(repository)
    size = int(git(repository, "cat-file", "-s", "HEAD:above"))
    for n in range(20):
        write(repository / "other", {"file": str(n)})
        head = commit(repository)
    directory = repository / "above/app"

    with directory_named(directory) as root, open_repository(root, Budget(size=2 * size)) as found:
        assert found is not None and found.last_change(head) == 1700000000


def test_long_chain_of_deltas_ends_at_the_deadline(repository):
    """One object of a pack may need thousands of others."""
    for n in range(40):
        write(repository / "hello", {"file": "".join(f"{n} {m}\n" if m < n else f"{m}\n" for m in range(2000))})
        commit(repository, str(n))
    git(repository, "gc", "-q", "--aggressive", "--prune=now")
    blobs = [git(repository, "rev-parse", f"HEAD~{n}:hello/file") for n in range(40)]

    def read(oid: str, seconds: int) -> bool:
        with contextlib.ExitStack() as stack:
            root = os.open(repository / ".git/objects", os.O_RDONLY)
            stack.callback(os.close, root)
            try:
                return bool(Objects(root, stack, Budget(ticking(), seconds)).read(oid))
            except SourceInvalid:
                return False

    assert any(read(oid, 10) for oid in blobs) and not all(read(oid, 10) for oid in blobs)
    assert all(read(oid, 1000) for oid in blobs)


def test_link_in_a_commit_as_large_as_a_file_is_refused_at_once(repository):
    """All links are held in memory until they are copied; a file is not."""
    blob = repository / "blob"
    blob.write_text("x/" * 100_000)
    oid = git(repository, "hash-object", "-w", blob)
    for n in range(10):
        git(repository, "update-index", "--add", "--cacheinfo", f"120000,{oid},hello/long{n}")
    git(repository, "commit", "-q", "-m", "links")

    taking = take_snapshot(repository / "hello", "HEAD", ignored, Budget(size=300_000))
    with pytest.raises(SourceInvalid, match="leads nowhere"), taking:
        pass


def test_cancelled_run_ends_at_the_next_step(repository):
    """While it lists, and before it says what is wrong with what it found."""
    (repository / "hello/out").symlink_to("/etc/passwd")
    write(repository / "hello", {".dockerignore": "nothing\n"})
    scope = Cancellation()

    def cancelling(ignore, paths):
        scope.cancel()
        return ignored(ignore, paths)

    with pytest.raises(Cancelled), take_snapshot(repository / "hello", None, cancelling, Budget(scope=scope)):
        pass


@pytest.mark.parametrize("name", ["a\nb", "a\x1b[31mb", "a\udcffb"])
def test_directory_whose_name_stands_for_a_remote_is_printed_as_it_is(tmp_path: Path, name):
    """It would be in signed provenance."""
    for make in (write_plain, make_repository):
        directory = tmp_path / make.__name__ / name
        make(directory)
        application = directory / "hello" if make is make_repository else directory
        with pytest.raises(SourceInvalid, match="control characters"), take_snapshot(application, None, ignored):
            pass


def write_plain(directory: Path) -> None:
    write(
        directory, {"supply-chain.yaml": "kind: base\nname: hello\nowner: us\ncheck: [x]\n", "Dockerfile": "FROM x\n"}
    )
