"""source: one snapshot for a run and its subflows."""

import asyncio
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest

from orchestration import source
from supply_chain.development.snapshot import Snapshot
from supply_chain.errors import SourceInvalid
from tests.support.dockerignore import ignored
from tests.support.repositories import APPLICATION, write


def snapshot_of(path: Path, revision: str | None) -> AbstractAsyncContextManager[Snapshot]:
    return source.open_snapshot(path, revision, ignored)


@pytest.fixture
def hello(tmp_path: Path) -> Path:
    write(tmp_path / "hello", APPLICATION)
    return tmp_path / "hello"


async def test_nested_snapshot_of_same_source_is_reused(hello: Path):
    """The checked source must be the built source."""
    async with snapshot_of(hello, None) as outer:
        (hello / "file").write_text("evil")
        async with snapshot_of(hello, None) as inner:
            assert inner is outer
        assert outer.directory.exists()
    assert not outer.directory.exists()


async def test_other_source_gets_other_snapshot(hello: Path, tmp_path: Path):
    """This is another directory or another revision."""
    write(tmp_path / "other", APPLICATION)

    async with snapshot_of(hello, None) as outer, snapshot_of(tmp_path / "other", None) as other:
        assert other.directory != outer.directory
        with pytest.raises(SourceInvalid):
            async with snapshot_of(hello, "HEAD"):
                pass


async def test_snapshot_is_removed_if_run_is_cancelled(hello: Path):
    """The next run takes a new snapshot."""
    taken, begun = [], asyncio.Event()

    async def run() -> None:
        async with snapshot_of(hello, None) as snapshot:
            taken.append(snapshot)
            begun.set()
            await asyncio.Event().wait()

    work = asyncio.ensure_future(run())
    await begun.wait()
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work

    assert not taken[0].directory.exists()
