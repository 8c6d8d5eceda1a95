"""develop: what a build leaves in the run's own copy of the source."""

from contextlib import asynccontextmanager, nullcontext
from types import SimpleNamespace
from unittest.mock import AsyncMock

import pytest

from flows import develop as flows
from flows.develop import develop
from supply_chain.adapters.snapshot import take_snapshot
from supply_chain.development.snapshot import Snapshot
from supply_chain.errors import SourceInvalid
from tests.unit.dockerignore import ignored
from tests.unit.repositories import APPLICATION, write


class Story:
    """A journal that keeps nothing."""

    async def step(self, name, work, tell):
        return await work

    def add(self, **_):
        pass

    def decided(self, refusal):
        pass


@asynccontextmanager
async def opened(path):
    """The snapshot, as a flow opens it."""
    with take_snapshot(path, None, ignored) as snapshot:
        yield snapshot


@pytest.mark.parametrize("step", ["build", "test", None])
async def test_snapshot_that_a_step_wrote_to_is_not_offered(machine, make, monkeypatch, tmp_path, step):
    """The checks were made of other bytes than the provenance names."""
    write(tmp_path / "hello", APPLICATION)
    offered = []

    def doing(name, result):
        async def run(*arguments):
            (snapshot,) = (each for each in arguments if isinstance(each, Snapshot))
            if name == step:
                file = snapshot.context / "file"
                file.chmod(0o644)
                file.write_text("evil")
            return result

        return run

    async def offer(*_):
        offered.append("image")
        return SimpleNamespace()

    async def nothing(*_):
        return None

    built = SimpleNamespace(digest=make.digest, source=SimpleNamespace(dirty=False), materials=())
    for name, stand_in in {
        "build": doing("build", built), "test": doing("test", SimpleNamespace(checks=())), "offer": offer,
        "check_name": nothing, "forget": lambda *_: None, "forget_tests": nothing,
        "journal": lambda _: nullcontext(Story()), "turn": lambda _: nullcontext(()),
        "snapshot_of": lambda *_: opened(tmp_path / "hello"), "beside": lambda *_: nullcontext(),
    }.items():  # fmt: skip
        monkeypatch.setattr(flows, name, stand_in)
    for block in ("Tier", "Workbench", "ContainerHost"):
        monkeypatch.setattr(getattr(flows, block), "aload", AsyncMock())

    state = await develop(str(tmp_path / "hello"), return_state=True)

    if step is None:
        assert state.is_completed() and offered == ["image"]
        return
    with pytest.raises(SourceInvalid, match="changed in the run's own copy"):
        await state.result()
    assert offered == []
