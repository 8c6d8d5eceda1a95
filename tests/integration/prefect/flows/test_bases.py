"""The flow `bases`: which bases are built at the same time, and in which order the others follow."""

import asyncio
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import AsyncMock

import pytest

from blocks.development_ports import DevelopmentPorts
from flows import bases as flows
from flows.bases import bases
from supply_chain.errors import BaseMissing, BuildFailed
from supply_chain.model.image import ImageRef, ReleasedImage, Source
from tests.support import builders

SOURCE = Source(path=".", repository="shop", revision="none", dirty=True)
REFUSED = builders.refused(application="base/one")


def reference(name):
    return ImageRef(repository=f"curated/base/{name}", digest="sha256:" + "a" * 64)


class Project:
    """Directories of bases, and chains that record when they begin and end."""

    def __init__(self, directory: Path) -> None:
        self.directory, self.steps = directory, list[str]()
        self.results: dict[str, object] = {}
        self.running, self.most = 0, 0

    def add(self, name, dockerfile="FROM scratch\nADD rootfs.tar /\n"):
        place = self.directory / "bases" / name
        place.mkdir(parents=True)
        (place / "Dockerfile").write_text(dockerfile)

    async def chain(self, path, force):
        name = Path(path).name
        self.steps.append(f"{name} begins")
        self.running += 1
        self.most = max(self.most, self.running)
        await asyncio.sleep(0.01)
        self.running -= 1
        self.steps.append(f"{name} ends")
        result = self.results.get(name)
        if isinstance(result, Exception):
            raise result
        return result or ReleasedImage(ref=reference(name), tag="t", source=SOURCE, environments=())


@pytest.fixture
def project(machine, monkeypatch, tmp_path):
    """Return a project without released bases."""

    def find_released(name):
        raise BaseMissing(f"{name} is not there\nbuild it")

    made = Project(tmp_path)
    ports = SimpleNamespace(
        workbench=SimpleNamespace(bases=("curated/base/other",)), bases=SimpleNamespace(find_released=find_released)
    )
    monkeypatch.setattr(DevelopmentPorts, "aload", AsyncMock(return_value=ports))
    monkeypatch.setattr(flows, "chain", made.chain)
    return made


async def test_two_bases_are_built_at_the_same_time(project):
    """The result has the given order; an image of a third party is not built."""
    names = ["one", "two", "three"]
    for name in names:
        project.add(name)

    assert await bases([*names, "other"], str(project.directory)) == [reference(each) for each in names]
    assert project.most == 2


async def test_base_is_built_after_the_base_it_is_built_on(project):
    """Otherwise it would be built on the earlier one, or not at all."""
    project.add("upper", "FROM curated/base/lower\n")
    project.add("lower")

    assert await bases(["upper", "lower"], str(project.directory)) == [reference("upper"), reference("lower")]
    assert project.steps == ["lower begins", "lower ends", "upper begins", "upper ends"]


async def test_run_returns_refused_base_and_builds_nothing_on_it(project):
    """Bases that are built at the same time are completed."""
    project.add("one")
    project.add("two")
    project.add("upper", "FROM curated/base/one\n")
    project.results["one"] = REFUSED

    state = await bases(["one", "two", "upper"], str(project.directory), return_state=True)

    assert state.name == "Refused" and await state.aresult() == REFUSED
    assert "two ends" in project.steps and "upper begins" not in project.steps


async def test_failed_base_fails_the_run(project):
    """The other one, which is built at the same time, is completed."""
    project.add("one")
    project.add("two")
    project.results["one"] = BuildFailed("a step failed\nlook at it")

    with pytest.raises(BuildFailed):
        await bases(["one", "two"], str(project.directory))
    assert "two ends" in project.steps
