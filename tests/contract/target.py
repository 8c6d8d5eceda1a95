"""The contract of the port `Target`, for container hosts and clusters."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from uuid import uuid4

import pytest

from supply_chain.errors import AccessDenied, DeploymentFailed
from supply_chain.execution.deployment import Deployment, DockerPlace, KubernetesPlace
from supply_chain.execution.target import Request, Target
from supply_chain.model.declaration import Service
from supply_chain.model.image import Digest, ImageRef
from tests.support.facts import admitted, deploy_facts
from tests.support.policies import DEPLOY


def _nothing() -> None:
    return None


@dataclass
class Harness:
    """An environment without deployments, and images that run well and badly."""

    target: Target
    declaration: Service
    good: Callable[[], Digest]
    """Returns the digest of another good image at each call."""
    bad: Digest
    """Of an image that ends at once, after the line `configuration missing`."""
    running: Callable[[], set[Digest]]
    """Returns the digests of what runs in the environment and is not ending."""
    add_foreign: Callable[[Digest], str]
    """Starts something of an image that nobody deployed, and returns its name."""
    recorded: list[Deployment] = field(default_factory=list)

    def settles(self, *expected: Deployment) -> bool:
        """Wait until only these deployments run and are healthy; after 2 minutes, fail with what is wrong instead."""
        until = time.monotonic() + 120
        while True:
            observed = self.target.monitor([each.expected for each in expected])
            healthy = all(each.healthy and not each.deviations for each in observed)
            if healthy and self.running() == {each.digest for each in expected}:
                return True
            if time.monotonic() > until:
                deviations = [deviation.fact for each in observed for deviation in each.deviations]
                pytest.fail(f"not settled: {deviations}; {self.running()} run\n{observed}")
            time.sleep(0.2)

    def deploy(
        self,
        digest: Digest,
        *,
        force: bool = False,
        before_start: Callable[[], object] = _nothing,
        may_serve: Callable[[], object] = _nothing,
    ) -> Deployment:
        """Deploy an image."""

        def record(deployment: Deployment) -> Deployment:
            self.recorded.append(deployment)
            return deployment

        ref = ImageRef(repository=f"curated/{self.declaration.name}", digest=digest)
        request = Request(
            admitted(deploy_facts(self.declaration, ref=ref), DEPLOY), self.declaration, uuid4().hex, force
        )
        return self.target.deploy(request, before_start=before_start, may_serve=may_serve, recorded=record)

    def codes(self, *deployments: Deployment) -> list[tuple[str, list[str]]]:
        """Return the name and the deviations of each observation."""
        found = self.target.monitor([each.expected for each in deployments])
        return [(each.name, [deviation.code for deviation in each.deviations]) for each in found]


def raising(error: Exception) -> Callable[[], object]:
    """Return a function that raises an error."""

    def fail() -> None:
        raise error

    return fail


class TargetContract:
    """What every target does."""

    def test_target_runs_admitted_image_and_observes_it_healthy(self, harness: Harness) -> None:
        """The observation is of what was recorded."""
        digest = harness.good()
        deployment = harness.deploy(digest)

        (observation,) = harness.target.monitor([deployment.expected])
        assert harness.recorded == [deployment] and deployment.changed
        assert harness.running() == {digest}
        assert observation.healthy and observation.deviations == ()
        assert (observation.expected_digest, observation.running, observation.restarts) == (digest, digest, 0)
        assert observation.container == deployment.container
        assert harness.target.observe([deployment.expected])[0].healthy

    def test_target_changes_nothing_if_image_runs_already(self, harness: Harness) -> None:
        """A run that is repeated records the same deployment, whether it was the first one or an update."""
        for _ in range(2):
            deployment = harness.deploy(harness.good())
            again = harness.deploy(deployment.digest)

            assert not again.changed and again.expected == deployment.expected

    def test_forced_deployment_is_repeated_or_refused(self, harness: Harness) -> None:
        """It is another container, or another ReplicaSet."""
        first = harness.deploy(harness.good())
        again = harness.deploy(first.digest, force=True)

        assert again.changed and again.container != first.container
        assert harness.codes(again) == [(again.name, [])]

    def test_target_replaces_earlier_image(self, harness: Harness) -> None:
        """The record names the digest that it replaced."""
        first = harness.deploy(harness.good())
        second = harness.deploy(harness.good())

        assert harness.running() == {second.digest} and second.previous_digest == first.digest

    def test_target_keeps_running_image_if_new_image_fails(self, harness: Harness) -> None:
        """The error has the last output, and nothing is recorded."""
        first = harness.deploy(harness.good())

        with pytest.raises(DeploymentFailed, match="configuration missing"):
            harness.deploy(harness.bad)

        assert harness.recorded == [first] and harness.settles(first)

    def test_target_leaves_nothing_of_failed_first_deployment(self, harness: Harness) -> None:
        """There is nothing to restore."""
        with pytest.raises(DeploymentFailed):
            harness.deploy(harness.bad)

        assert harness.recorded == [] and harness.settles()

    def test_target_reports_deployment_of_environment_that_moved(self, harness: Harness) -> None:
        """The record stays true until the application is deployed again, and nobody looks where it runs."""
        deployment = harness.deploy(harness.good()).expected
        docker = DockerPlace(reverse_proxy="p", proxy=deployment.digest, address="127.0.0.1", port=8080)
        cluster = KubernetesPlace(cluster="other", namespace="other", documents=())
        place = cluster if isinstance(deployment.place, DockerPlace) else docker

        for look in (harness.target.observe, harness.target.monitor):
            observation, *_ = look([deployment.model_copy(update={"place": place})])

            assert [each.code for each in observation.deviations] == ["drift.moved"]
            assert not observation.healthy

    def test_target_starts_nothing_if_verdict_cannot_be_recorded(self, harness: Harness) -> None:
        """What runs without evidence would be foreign."""
        with pytest.raises(AccessDenied):
            harness.deploy(harness.good(), before_start=raising(AccessDenied("no\nno")))

        assert harness.running() == set() and harness.recorded == []

    def test_target_keeps_running_image_if_gate_refuses_before_switch(self, harness: Harness) -> None:
        """A block takes effect up to the switch."""
        first = harness.deploy(harness.good())

        with pytest.raises(DeploymentFailed, match="blocked"):
            harness.deploy(harness.good(), may_serve=raising(DeploymentFailed("it is blocked\nno")))

        assert harness.running() == {first.digest} and harness.recorded == [first]

    def test_target_reports_foreign_workload_as_drift(self, harness: Harness) -> None:
        """It is reported by its name, and the deployment is as it should be."""
        first = harness.deploy(harness.good())
        name = harness.add_foreign(first.digest)

        assert harness.codes(first) == [(first.name, []), (name, ["drift.foreign"])]
