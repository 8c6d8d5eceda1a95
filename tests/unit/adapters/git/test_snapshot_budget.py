"""Tests that taking a snapshot ends at its deadline, at its byte limit, or when the run is cancelled."""

from __future__ import annotations

import contextlib
import itertools
import os
from pathlib import Path

import pytest

from supply_chain.adapters.files.openat import open_directory_by_path
from supply_chain.adapters.git.objects import Objects
from supply_chain.adapters.git.repository import open_repository
from supply_chain.adapters.git.snapshot import take_snapshot
from supply_chain.adapters.git.snapshot_budget import MAX_READ, MAX_SECONDS, Budget, Phase
from supply_chain.adapters.process.cancellation import Cancellation
from supply_chain.development.snapshot import MAX_SIZE
from supply_chain.errors import Cancelled, SourceInvalid
from tests.support.dockerignore import ignored
from tests.support.present import present
from tests.support.repositories import APPLICATION, commit, git, make_repository, write


def ticking():
    """Return a clock that advances by one second at each call."""
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
    """Return an application outside of git."""
    write(tmp_path / "plain/hello", APPLICATION)
    return tmp_path / "plain"


def refusal(repository, revision, seconds):
    """Return the message of the refusal, or the empty string if the snapshot is taken."""
    budget = Budget(ticking(), seconds)
    try:
        with take_snapshot(repository / "hello", revision, ignored, budget) as snapshot:
            assert snapshot.source.dirty is (snapshot.source.revision == "none")
            return ""
    except SourceInvalid as error:
        return str(error)


@pytest.mark.parametrize("revision", [None, "side"])
def test_snapshot_past_its_deadline_is_refused_in_every_phase(repository, revision):
    """No step may ignore the deadline or report it as another error or as dirty."""
    messages = list(itertools.takewhile(bool, (refusal(repository, revision, n) for n in itertools.count())))

    for phase in Phase:
        doing, remedy = phase.value
        assert sum(doing in each and remedy in each for each in messages) > 5, phase
    assert all("took more than" in each for each in messages)


def test_ignored_files_count_towards_the_deadline(plain):
    """Ignored files are not read, but each of them is listed and matched."""
    write(plain / "hello", {".dockerignore": "many\n!many/1\n", **{f"many/{n}": "" for n in range(50)}})

    assert "listing the files" in refusal(plain, None, 40)
    assert not refusal(plain, None, 200)


def test_copying_of_large_file_stops_at_the_deadline(plain):
    """On a slow disk a single file may take longer than the whole budget."""
    (plain / "hello/large").touch()
    os.truncate(plain / "hello/large", 50 * 1024**2)

    assert "copying the files" in refusal(plain, None, 40)
    assert not refusal(plain, None, 200)


def test_default_budget_exceeds_a_minute_and_the_maximum_size():
    """A commit may contain as many bytes as a working copy."""
    assert Budget().seconds == MAX_SECONDS >= 60
    assert Budget().size == MAX_READ > MAX_SIZE


@contextlib.contextmanager
def opened(repository, budget):
    with open_directory_by_path(repository / "hello") as root, open_repository(root, budget) as found:
        assert found is not None
        yield found


def test_long_history_stops_at_the_deadline(repository):
    """None of the many commits changed the application."""
    for n in range(20):
        write(repository / "other", {"file": str(n)})
        commit(repository)

    with opened(repository, Budget(ticking(), 15)) as found, pytest.raises(SourceInvalid, match="depth=1"):
        found.find_last_change(git(repository, "rev-parse", "HEAD"))


def test_bytes_read_from_git_objects_are_limited(repository):
    """A large root directory is read again for each commit."""
    write(repository, {f"{n}-{'x' * 200}": "" for n in range(100)})
    for n in range(20):
        write(repository / "other", {"file": str(n)})
        commit(repository)
    head = git(repository, "rev-parse", "HEAD")

    for size, refused in ((200_000, True), (2_000_000, False)):
        with opened(repository, Budget(size=size)) as found:
            ending = pytest.raises(SourceInvalid, match="GiB of git") if refused else contextlib.nullcontext()
            with ending:
                found.find_last_change(head)


def test_used_up_bytes_are_reported_as_such(repository):
    """They must not look like an unknown revision or a dirty source, whose code tolerates unreadable objects."""
    outcomes = set()
    for size in itertools.count(0, 100):
        try:
            with take_snapshot(repository / "hello", None, ignored, Budget(size=size)) as snapshot:
                outcomes.add(str(snapshot.source.dirty))
                break
        except SourceInvalid as error:
            outcomes.add(str(error).partition("GiB")[1])

    assert outcomes == {"GiB", "False"}


def test_unchanged_parent_directories_are_read_once(repository):
    """The number of commits that did not change them does not matter."""
    write(repository, {f"above/{n}-{'x' * 200}": "" for n in range(100)})
    write(repository, {"above/app/file": ""})
    commit(repository)
    size = int(git(repository, "cat-file", "-s", "HEAD:above"))
    for n in range(20):
        write(repository / "other", {"file": str(n)})
        head = commit(repository)
    directory = repository / "above/app"

    with open_directory_by_path(directory) as root, open_repository(root, Budget(size=2 * size)) as found:
        assert found is not None and present(found.find_last_change(head)).time == 1700000000


def test_long_delta_chain_stops_at_the_deadline(repository):
    """One object of a pack may depend on thousands of others."""
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


def test_huge_link_target_in_commit_is_refused_at_once(repository):
    """All link targets stay in memory until they are copied, unlike files."""
    blob = repository / "blob"
    blob.write_text("x/" * 100_000)
    oid = git(repository, "hash-object", "-w", blob)
    for n in range(10):
        git(repository, "update-index", "--add", "--cacheinfo", f"120000,{oid},hello/long{n}")
    git(repository, "commit", "-q", "-m", "links")

    taking = take_snapshot(repository / "hello", "HEAD", ignored, Budget(size=300_000))
    with pytest.raises(SourceInvalid, match="leads nowhere"), taking:
        pass


def test_cancelled_run_stops_at_the_next_step(repository):
    """The cancellation takes precedence over errors in the files."""
    (repository / "hello/out").symlink_to("/etc/passwd")
    write(repository / "hello", {".dockerignore": "nothing\n"})
    scope = Cancellation()

    def cancelling(ignore, paths):
        scope.cancel()
        return ignored(ignore, paths)

    with pytest.raises(Cancelled), take_snapshot(repository / "hello", None, cancelling, Budget(scope=scope)):
        pass


@pytest.mark.parametrize(
    "name", ["a\nb", "a\x1b[31mb", "a\udcffb", "a\u2061", "a\u00ad", "\ufe0fa", "a\u3164", "a\U000e0041"]
)
def test_directory_name_with_control_characters_is_refused(tmp_path: Path, name):
    """Without a remote the name of the directory would appear in signed provenance."""
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
