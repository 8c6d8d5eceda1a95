"""build: the integrity of the snapshot and the artifact keys of a run."""

from contextlib import asynccontextmanager, nullcontext
from types import SimpleNamespace
from unittest.mock import AsyncMock, MagicMock

import pytest

from blocks.development_ports import DevelopmentPorts
from flows import build as flows
from flows.build import build
from orchestration import run_report as journals
from supply_chain.adapters.git.snapshot import take_snapshot
from supply_chain.development.snapshot import Snapshot
from supply_chain.errors import RegistryUnavailable, SourceInvalid
from tests.support import builders
from tests.support.dockerignore import ignored
from tests.support.repositories import APPLICATION, write


class Reporter:
    """A run report that stores nothing."""

    async def step(self, name, work, describe):
        return await work

    def add(self, **_):
        pass

    def add_verdict(self, refusal):
        pass

    def publish_under(self, name):
        pass


@asynccontextmanager
async def opened(path):
    """Open the snapshot as a flow does."""
    with take_snapshot(path, None, ignored) as snapshot:
        yield snapshot


@pytest.mark.parametrize("step", ["build", "test", None])
async def test_image_is_not_offered_if_step_changed_snapshot(machine, make, monkeypatch, tmp_path, step):
    """The checks would have read other files than the provenance names."""
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
        "build_step": doing("build", built), "test_step": doing("test", SimpleNamespace(checks=())),
        "offer_step": offer, "check_name_step": nothing,
        "report_run": lambda _: nullcontext(Reporter()), "run_lock": lambda _: nullcontext(()),
        "open_snapshot": lambda *_: opened(tmp_path / "hello"), "run_alongside": lambda *_: nullcontext(),
    }.items():  # fmt: skip
        monkeypatch.setattr(flows, name, stand_in)
    monkeypatch.setattr(DevelopmentPorts, "aload", AsyncMock(return_value=MagicMock()))

    state = await build(str(tmp_path / "hello"), return_state=True)

    if step is None:
        assert state.is_completed() and offered == ["image"]
        return
    with pytest.raises(SourceInvalid, match="changed in the run's own copy"):
        await state.aresult()
    assert offered == []


REFUSAL = builders.refused()
SILENT = RegistryUnavailable("it is silent\nwait")


@pytest.mark.parametrize(
    ("check_name", "step", "key"),
    [
        (AsyncMock(return_value=REFUSAL), AsyncMock(), "run-report-run-"),
        (AsyncMock(side_effect=SILENT), AsyncMock(), "run-report-run-"),
        (AsyncMock(return_value=None), AsyncMock(side_effect=SILENT), "run-report-hello"),
    ],
    ids=["refused", "not known", "its own"],
)
async def test_run_publishes_page_of_application_only_if_name_is_verified(
    machine, monkeypatch, tmp_path, check_name, step, key
):
    """Otherwise anyone could replace the page of another team's application."""
    write(tmp_path / "hello", APPLICATION)
    published = []

    async def publish(key, **_):
        published.append(key)

    monkeypatch.setattr(journals, "acreate_markdown_artifact", publish)
    for name, stand_in in {
        "check_name_step": check_name, "build_step": step, "run_lock": lambda _: nullcontext(()),
        "open_snapshot": lambda *_: opened(tmp_path / "hello"),
    }.items():  # fmt: skip
        monkeypatch.setattr(flows, name, stand_in)
    monkeypatch.setattr(DevelopmentPorts, "aload", AsyncMock(return_value=MagicMock()))

    await build(str(tmp_path / "hello"), return_state=True)

    (only,) = published
    assert only.startswith(key)
