"""deploy: the order of its steps; its effects on containers are tested with the real engine."""

from types import SimpleNamespace
from typing import Any

import pytest

from supply_chain.errors import Cancelled, DeploymentFailed, RegistryUnavailable
from supply_chain.execution import deploy as module
from supply_chain.execution.deploy import Order, deploy
from supply_chain.execution.environment import DockerEnvironment, DockerPlacement
from supply_chain.execution.reverse_proxy import make_server_name
from supply_chain.model.container import make_labels
from supply_chain.model.image import ImageRef
from tests.support.builders import OTHER
from tests.support.facts import admitted, deploy_facts
from tests.support.memory_engine import MemoryEngine
from tests.support.policies import DEPLOY

REF = ImageRef(repository="curated/hello", digest="sha256:" + "a" * 64)


class Stage:
    """An engine with a running deployment behind a reverse proxy that records its steps."""

    def __init__(self, make, monkeypatch):
        self.engine, self.make, self.events = MemoryEngine(), make, []
        self.supplied = 0
        self.engine.add(digest=REF.digest)
        self.reverse_proxy = self.engine.container("reverse_proxy")
        self.old = self.engine.container(
            "staging-hello-old-1", labels=make_labels("application", "hello", OTHER, "r", environment="staging")
        )
        self.engine.start(self.old.id)
        self.serves = make_server_name(self.old)
        monkeypatch.setattr(module, "ReverseProxy", lambda *_: self.as_reverse_proxy())
        ready = SimpleNamespace(ready=True, says="", seconds=0.1)
        monkeypatch.setattr(module, "wait_until_ready", lambda *_: ready)
        monkeypatch.setattr(module, "probe_readiness", lambda *_: "")
        monkeypatch.setattr(module, "check", lambda *_: ("", True))

    def as_reverse_proxy(self):
        def switch(new, *_):
            self.serves = make_server_name(new)
            return self.reverse_proxy

        def finish(_, wait):
            self.events.append("its last requests are waited for")
            wait(1)

        return SimpleNamespace(
            list_all=lambda: (self.reverse_proxy,), find_server=lambda: self.serves,
            find_fitting=lambda: self.reverse_proxy, switch=switch, finish=finish, remove_all_but=lambda _: None,
        )  # fmt: skip

    @property
    def order(self):
        declaration = self.make.declaration()
        place = DockerEnvironment(name="staging", applications={"hello": DockerPlacement(port=8080)})
        return Order(admitted(deploy_facts(declaration, ref=REF), DEPLOY), declaration, place, OTHER, "run")

    def deploy(self, recorded=lambda deployment: deployment, wait=lambda _: None, may_serve=lambda: None):
        return deploy(
            self.engine, self.order, self.supply,
            now=lambda: self.make.noon, wait=wait, may_serve=may_serve, recorded=recorded,
        )  # fmt: skip

    def supply(self):
        self.supplied += 1
        return REF.digest

    @property
    def left(self):
        return [c.image for c in self.engine.containers() if c.id != self.reverse_proxy.id]


@pytest.fixture
def stage(make, monkeypatch):
    return Stage(make, monkeypatch)


def test_deployment_is_recorded_as_soon_as_it_serves(stage):
    """The previous container has a minute to end, in which the run may be cancelled or killed."""

    def recorded(deployment):
        assert stage.serves == deployment.container[:12] and stage.left == [stage.old.image, REF.digest]
        stage.events.append("recorded")
        return deployment.model_copy(update={"requests": 7})

    assert stage.deploy(recorded).requests == 7
    assert stage.events == ["recorded", "its last requests are waited for"] and stage.left == [REF.digest]


def test_deployment_cancelled_while_draining_is_already_recorded(stage):
    """Only the new container is left."""

    def wait(seconds):
        if stage.events:
            raise Cancelled("The run was cancelled while it waited.")

    with pytest.raises(Cancelled):
        stage.deploy(lambda deployment: stage.events.append("recorded"), wait)

    assert stage.events == ["recorded", "its last requests are waited for"] and stage.left == [REF.digest]


def test_deploy_retries_failed_recording_without_new_container(stage):
    """The new container already serves, and the previous one is gone."""

    def fails(deployment):
        raise RegistryUnavailable("it is down")

    with pytest.raises(RegistryUnavailable):
        stage.deploy(fails)
    assert stage.left == [REF.digest]

    again = stage.deploy()
    assert not again.changed and stage.left == [REF.digest]


def test_images_are_brought_to_the_engine_only_for_a_new_container(stage):
    """What already runs needs no pull."""
    assert stage.deploy().changed and stage.supplied == 1
    assert not stage.deploy().changed and stage.supplied == 1


def test_missing_image_keeps_previous_container(stage, monkeypatch):
    """Nothing is created or stopped."""

    def supply():
        raise RegistryUnavailable("it is down")

    monkeypatch.setattr(stage, "supply", supply)
    with pytest.raises(RegistryUnavailable):
        stage.deploy()

    assert stage.left == [stage.old.image] and stage.serves == make_server_name(stage.old)


def test_removal_of_previous_container_does_not_fail_deployment(stage):
    """The new one serves already."""

    def recorded(deployment):
        stage.engine.remove(stage.old.id)
        return deployment

    assert stage.deploy(recorded).changed and stage.left == [REF.digest]


def test_refused_before_switch_keeps_previous_container(stage):
    """The new container was ready, but no request has reached it."""

    def may_serve():
        assert REF.digest in stage.left and stage.serves == make_server_name(stage.old)
        raise DeploymentFailed("it was blocked meanwhile")

    with pytest.raises(DeploymentFailed, match="blocked"):
        stage.deploy(stage.events.append, may_serve=may_serve)

    assert stage.events == [] and stage.left == [stage.old.image] and stage.serves == make_server_name(stage.old)


@pytest.mark.parametrize("without", ["may_serve", "recorded"])
def test_deploy_requires_may_serve_and_recorded_steps(stage, without):
    """No caller can skip the last check or the record."""
    steps: dict[str, Any] = {"may_serve": lambda: None, "recorded": lambda deployment: deployment}

    with pytest.raises(TypeError, match=without):
        deploy(stage.engine, stage.order, stage.supply, now=lambda: stage.make.noon,
               **{name: step for name, step in steps.items() if name != without})  # fmt: skip

    assert stage.left == [stage.old.image]
