"""Why Argo CD did not apply a commit."""

from __future__ import annotations

from typing import Any

import pytest

from supply_chain.execution.delivery.argo import describe_argo, read_argo
from supply_chain.execution.delivery.controller import ControllerState
from supply_chain.execution.delivery.settings import ArgoApplication
from tests.support.memory_cluster import MemoryCluster

OURS, OTHER = "1" * 40, "2" * 40
NAME = ArgoApplication(namespace="argocd", name="shop")
AUTOMATED = {"syncPolicy": {"automated": {"selfHeal": True}}}


def application(
    sync: Any = None, operation: Any = None, *conditions: tuple[str, str], health: Any = None, **spec: Any
) -> dict[str, Any]:
    """Return an Application whose last comparison was with another commit."""
    status = {
        "sync": {"status": "Synced", "revision": OTHER, **(sync or {})},
        "conditions": [{"type": kind, "message": message} for kind, message in conditions],
        **({"operationState": operation} if operation else {}),
        **({"health": health} if health else {}),
    }
    return {"metadata": {"name": "shop", "namespace": "argocd"}, "spec": spec, "status": status}


def ended(phase: str, message: str = "", revision: str = OURS, **more: Any) -> dict[str, Any]:
    resources = [
        {"kind": "Service", "name": "web", "status": "Synced", "message": "unchanged"},
        {"kind": "Deployment", "name": "hello", "status": "SyncFailed", "message": "admission webhook denied it"},
    ]
    result = {"revision": revision, "resources": resources if phase in ("Failed", "Running") else []}
    return {"phase": phase, "message": message, "syncResult": result, **more}


@pytest.mark.parametrize(
    ("found", "fact", "failed", "applying"),
    [
        (application(), f"Argo CD has not looked at it yet; the last was {OTHER}", False, False),
        (application(None, ended("Failed", "one object failed to apply")),
         "the Application shop says Failed: one object failed to apply; Deployment hello: admission webhook denied it",
         True, False),
        (application(None, ended("Error", "no access")), "the Application shop says Error: no access", True, False),
        (application(None, ended("Error")), "the Application shop says Error", True, False),
        (application(None, ended("Failed", "earlier", OTHER)),
         f"Argo CD has not looked at it yet; the last was {OTHER}", False, False),
        (application(None, ended("Running", "waiting for completion of hook")),
         "the Application shop is applying it: waiting for completion of hook; Deployment hello: admission webhook "
         "denied it", False, True),
        (application(None, {"phase": "Terminating", "operation": {"sync": {"revision": OURS}}}),
         "the Application shop is applying it", False, True),
        (application(None, {"phase": "Running", "operation": {"sync": {"revisions": [OTHER, OURS]}}}),
         "the Application shop is applying it", False, True),
        (application(None, {"phase": "Running", "operation": {"retry": {}}}),
         f"Argo CD has not looked at it yet; the last was {OTHER}", False, False),
        (application(None, {"phase": "Running", "message": "failed. Retrying attempt #1 at 3:04PM.", "retryCount": 1,
                            "syncResult": {"revision": OURS}}),
         "the Application shop says Running: failed. Retrying attempt #1 at 3:04PM.", True, False),
        (application(None, ended("Succeeded", "successfully synced")),
         "Argo CD applied the commit by the Application shop", True, False),
        (application(None, None, ("InvalidSpecError", "application destination is not permitted")),
         "the Application shop says InvalidSpecError: application destination is not permitted", True, False),
        (application(None, ended("Failed"), ("InvalidSpecError", "")), "the Application shop says InvalidSpecError",
         True, False),
        (application(None, None, ("ComparisonError", "kustomize build failed")),
         "the Application shop says ComparisonError: kustomize build failed", False, False),
        (application({"revision": OURS, "status": "Unknown"}, None, ("ComparisonError", "kustomize build failed")),
         "the Application shop says ComparisonError: kustomize build failed", True, False),
        (application(None, None, ("SharedResourceWarning", "x"), ("SyncError", f"Failed last sync attempt to {OURS}")),
         f"the Application shop says SyncError: Failed last sync attempt to {OURS}", True, False),
        (application(None, None, ("UnknownError", "x")), "the Application shop says UnknownError: x", False, False),
        (application({"revision": OURS}), "Argo CD has nothing to change for the commit by the Application shop", True,
         False),
        (application({"revisions": [OTHER, OURS], "status": "OutOfSync"}, **AUTOMATED),
         "the Application shop is OutOfSync and has not begun to sync it", False, False),
        (application({"revision": OURS, "status": "OutOfSync"}, health={"status": "Degraded", "message": "no pods"}),
         "the Application shop is OutOfSync and waits for somebody to sync it; it is Degraded: no pods", False, False),
        (application({"revision": OURS, "status": "OutOfSync"}, health={"status": "Healthy"}, **AUTOMATED),
         "the Application shop is OutOfSync and has not begun to sync it", False, False),
        (application({"revision": OURS, "status": "OutOfSync"}, health={"status": "Missing"},
                     syncPolicy={"automated": {"enabled": False}}),
         "the Application shop is OutOfSync and waits for somebody to sync it; it is Missing", False, False),
        ({"metadata": {"name": "shop"}, "spec": {}}, "Argo CD has not looked at it yet; the last was nothing", False,
         False),
    ],
)  # fmt: skip
def test_describe_controller_names_object_nearest_to_commit(found, fact, failed, applying):
    """A failure counts only if it is of this commit and waiting does not help."""
    assert describe_argo(found, OURS) == ControllerState(fact, failed, applying)


def test_many_refused_objects_are_counted():
    """The message has no end otherwise."""
    resources = [{"kind": "Service", "name": f"{number}", "status": "SyncFailed"} for number in range(8)]
    operation = {"phase": "Failed", "syncResult": {"revision": OURS, "resources": resources}}

    assert describe_argo(application(None, operation), OURS).fact.endswith("Service 4: ; and 3 more")


def test_application_is_read_by_its_name():
    """One that is missing is a mistake of the environment."""
    cluster = MemoryCluster()
    assert read_argo(cluster, NAME, OURS) == ControllerState(
        "the cluster has no Application argocd/shop, which `delivery.git.argo` names", failed=True
    )
    cluster.objects["Application", "argocd", "shop"] = application(None, ended("Error", "no access"))

    assert read_argo(cluster, NAME, OURS) == ControllerState("the Application shop says Error: no access", failed=True)
