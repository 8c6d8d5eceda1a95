"""The snapshot of a source in a subflow."""

from pathlib import Path

from prefect import flow

from orchestration.source import open_snapshot
from tests.support.dockerignore import ignored
from tests.support.repositories import APPLICATION, write


@flow
async def inner(path: str) -> str:
    async with open_snapshot(Path(path), None, ignored) as snapshot:
        return str(snapshot.directory)


@flow
async def outer(path: str) -> bool:
    async with open_snapshot(Path(path), None, ignored) as snapshot:
        return await inner(path) == str(snapshot.directory)


async def test_subflow_gets_snapshot_of_parent_flow(machine, tmp_path: Path):
    """`chain` takes locks by the declaration that `build` builds."""
    write(tmp_path / "hello", APPLICATION)
    assert await outer(str(tmp_path / "hello"))
