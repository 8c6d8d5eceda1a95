"""Why Flux did not apply a commit."""

from __future__ import annotations

import pytest

from supply_chain.execution.delivery.controller import ControllerState
from supply_chain.execution.delivery.flux import describe_flux, read_flux
from supply_chain.execution.delivery.settings import FluxKustomization
from tests.support.memory_cluster import MemoryCluster

OURS, OTHER = "1" * 40, "2" * 40
NAME = FluxKustomization(namespace="flux-system", name="shop")


def condition(kind, status="False", reason="Bad", message="why"):
    return {"type": kind, "status": status, "reason": reason, "message": message}


def kustomization(*conditions, applied=OTHER, attempted=OTHER, **spec):
    status = {"conditions": list(conditions), "lastAppliedRevision": f"main@sha1:{applied}",
              "lastAttemptedRevision": f"main@sha1:{attempted}"}  # fmt: skip
    source = {"kind": "GitRepository", "name": "environments"}
    return {
        "metadata": {"name": "shop", "namespace": "flux-system"},
        "spec": {"sourceRef": source, **spec},
        "status": status,
    }


def repository(*conditions, **spec):
    return {
        "metadata": {"name": "environments", "namespace": "flux-system"},
        "spec": spec,
        "status": {"conditions": list(conditions)},
    }


def unsigned(commit):
    return condition("SourceVerified", reason="InvalidCommitSignature", message=f"'{commit}'")


READY = condition("Ready", "True")


@pytest.mark.parametrize(
    ("found", "source", "fact", "failed"),
    [
        (kustomization(condition("Ready"), attempted=OURS), repository(), "the Kustomization shop says Bad: why", True),
        (kustomization(condition("Ready", reason="DependencyNotReady"), attempted=OURS), repository(),
         "DependencyNotReady: why", False),
        (kustomization(READY, applied=OURS, attempted=OURS), repository(), "Flux applied the commit", True),
        (kustomization(READY, suspend=True), repository(), "is suspended", True),
        (kustomization(READY), repository(suspend=True), "GitRepository environments is suspended", True),
        (kustomization(READY), repository(condition("SourceVerified"), condition("Ready")),
         "the GitRepository environments says Bad: why", True),
        (kustomization(READY), repository(unsigned(OURS)), f"says InvalidCommitSignature: '{OURS}'", True),
        (kustomization(READY), repository(unsigned(OTHER)), f"says InvalidCommitSignature: '{OTHER}'", False),
        (kustomization(READY), repository(condition("Ready", message="no route")), "Bad: no route", False),
        (kustomization(condition("Ready")), repository(READY), "the Kustomization shop says Bad: why", False),
        (kustomization(READY), repository(READY), f"the last was main@sha1:{OTHER}", False),
        (kustomization(condition("Ready"), attempted=OURS), None, "Bad: why", True),
        ({"metadata": {"name": "shop"}, "spec": {}}, None, "the last was nothing", False),
    ],
)  # fmt: skip
def test_describe_controller_names_object_nearest_to_commit(found, source, fact, failed):
    """A failure counts only if waiting does not help."""
    state = describe_flux(found, source, OURS, "kustomize")

    assert fact in state.fact and state.failed is failed


def test_applied_values_of_a_chart_wait_for_their_release():
    """The Kustomization applies the HelmRelease at once, and its controller installs the chart after that."""
    state = describe_flux(kustomization(READY, applied=OURS, attempted=OURS), repository(), OURS, "helm")

    assert "look at its HelmRelease" in state.fact and not state.failed


def test_missing_kustomization_is_mistake_of_environment():
    assert read_flux(MemoryCluster(), NAME, OURS, "kustomize") == ControllerState(
        "the cluster has no Kustomization flux-system/shop, which `delivery.git.flux` names", failed=True
    )


@pytest.mark.parametrize(("attempted", "applying"), [(OURS, True), (OTHER, False)])
def test_kustomization_is_applying_only_the_commit_that_it_attempts(attempted, applying):
    """It is neither ready nor failed meanwhile."""
    state = describe_flux(kustomization(condition("Ready", "Unknown"), attempted=attempted), None, OURS, "kustomize")

    assert state.applying is applying and not state.failed
    assert state.fact.startswith("the Kustomization shop is applying it") is applying


@pytest.mark.parametrize("namespace", [None, "sources"])
def test_source_may_be_in_another_namespace(namespace):
    cluster, found = MemoryCluster(), kustomization(READY)
    if namespace:
        found["spec"]["sourceRef"]["namespace"] = namespace
    cluster.objects["Kustomization", "flux-system", "shop"] = found
    cluster.objects["GitRepository", namespace or "flux-system", "environments"] = repository(
        condition("SourceVerified")
    )

    assert read_flux(cluster, NAME, OURS, "kustomize") == ControllerState(
        "the GitRepository environments says Bad: why", failed=True
    )


def test_source_of_another_kind_is_not_read():
    """An OCIRepository or a Bucket."""
    cluster, found = MemoryCluster(), kustomization(READY)
    found["spec"]["sourceRef"]["kind"] = "Bucket"
    cluster.objects["Kustomization", "flux-system", "shop"] = found

    assert "the last was" in read_flux(cluster, NAME, OURS, "kustomize").fact
