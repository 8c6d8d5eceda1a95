"""clear: removes what a development run leaves in the engine, and nothing else."""

import pytest

from supply_chain.development.traces import clear
from supply_chain.model.container import APPLICATION, ROLE, RUN
from tests.support.memory_engine import MemoryEngine

PUSHED = "registry:1/dev/hello"


@pytest.fixture
def engine():
    return MemoryEngine()


def made(role, run="run-1", application="hello"):
    return {APPLICATION: application, RUN: run, ROLE: role}


def test_clear_removes_containers_networks_and_images_of_run(engine):
    """This covers every check and the image's name in the registry that it was pushed to."""
    local = engine.add("cscm.local/hello:run-1", f"{PUSHED}:abc-1")
    tests = engine.add("cscm.local/hello:run-1-tests")
    for role, image in (("probe", local), ("check", local), ("tests", tests)):
        engine.container(role, image, labels=made(role))
    engine.create_network("cscm-probe", made("probe"), internal=True)

    clear(engine, "hello", "run-1", PUSHED)

    assert not (engine.held or engine.network_labels or engine.tags or engine.images)


def test_clear_keeps_other_runs_applications_and_deployments(engine):
    """Another run may be active, and a deployment is no leftover of a run."""
    other = made("probe", run="run-2")
    for name, labels in (("other", other), ("serves", made("application")), ("app", made("probe", application="x"))):
        engine.container(name, labels=labels)
    engine.create_network("network", other, internal=True)
    engine.add("cscm.local/hello:run-2", f"{PUSHED}@sha256:1", "registry:1/dev/hello2:abc")
    before = (dict(engine.held), dict(engine.tags), dict(engine.network_labels))

    clear(engine, "hello", "run-1", PUSHED)

    assert (engine.held, engine.tags, engine.network_labels) == before


def test_clear_keeps_image_used_by_other_container(engine):
    """The other leftovers are removed."""
    engine.container("somebody's", engine.add("cscm.local/hello:run-1"))
    engine.add("cscm.local/hello:run-1-tests")

    clear(engine, "hello", "run-1", PUSHED)

    assert set(engine.tags) == {"cscm.local/hello:run-1"}
