"""Why Argo CD did not bring a commit into a namespace, by the status of its Application. It is only read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from supply_chain.execution.delivery.controller import ControllerState
from supply_chain.execution.delivery.settings import ArgoApplication
from supply_chain.execution.kubernetes.cluster import Cluster, Document, Kind
from supply_chain.text import sanitize_text, truncate_lines

APPLICATIONS = Kind("argoproj.io/v1alpha1", "Application", "applications")
RUNNING = ("Running", "Terminating")
"""Phases of an operation that has not ended; one that failed and is tried again is among them."""
FAILED = ("Failed", "Error")
INVALID, ERRORS = "InvalidSpecError", ("ComparisonError", "SyncError", "UnknownError")
"""The conditions of an Application that are errors: of itself, and of one of its commits."""
MOST_RESOURCES = 5


def read_argo(cluster: Cluster, application: ArgoApplication, commit: str) -> ControllerState:
    """Return what Argo CD says about a commit; raise the cluster's errors."""
    document = cluster.read(APPLICATIONS, application.name, application.namespace)
    if document is None:
        where = f"{application.namespace}/{application.name}"
        return ControllerState(f"the cluster has no Application {where}, which `delivery.git.argo` names", failed=True)
    return describe_argo(document, commit)


def describe_argo(application: Document, commit: str) -> ControllerState:
    """Return what an Application says about a commit. Pure.

    An error counts as one of the commit only if it names it: Argo CD shows that of an earlier one until it looks at the
    repository again.
    """
    what, status = f"the Application {application['metadata']['name']}", application.get("status") or {}
    errors = {each["type"]: each.get("message", "") for each in status.get("conditions") or ()}
    if INVALID in errors:
        return _say(what, f"{INVALID}: {errors[INVALID]}", failed=True)
    operation, sync = status.get("operationState") or {}, status.get("sync") or {}
    if _is_about(operation.get("syncResult"), commit) or _is_about(_requested(operation), commit):
        return _describe_operation(what, operation)
    compared = _is_about(sync, commit)
    for kind in ERRORS:
        if kind in errors:
            return _say(what, f"{kind}: {errors[kind]}", failed=compared or commit in errors[kind])
    if not compared:
        return ControllerState(f"Argo CD has not looked at it yet; the last was {sync.get('revision') or 'nothing'}")
    if sync.get("status") == "Synced":
        return ControllerState(f"Argo CD has nothing to change for the commit by {what}", failed=True)
    wait = "waits for somebody to sync it" if _is_manual(application) else "has not begun to sync it"
    return ControllerState(f"{what} is {sync.get('status')} and {wait}{_describe_health(status)}")


def _describe_operation(what: str, operation: Mapping[str, Any]) -> ControllerState:
    phase = operation.get("phase", "")
    message = "; ".join(filter(None, [operation.get("message"), *_list_refused(operation)]))
    if phase in FAILED or (phase in RUNNING and operation.get("retryCount")):
        return _say(what, f"{phase}: {message}", failed=True)
    if phase in RUNNING:
        return ControllerState(sanitize_text(f"{what} is applying it: {message}").rstrip(": "), applying=True)
    return ControllerState(f"Argo CD applied the commit by {what}", failed=True)


def _list_refused(operation: Mapping[str, Any]) -> Iterator[str]:
    """Yield the objects that were not applied, each with what the cluster says."""
    resources = (operation.get("syncResult") or {}).get("resources") or ()
    refused = [each for each in resources if each.get("status") == "SyncFailed"]
    yield from truncate_lines(
        MOST_RESOURCES, [f"{each.get('kind')} {each.get('name')}: {each.get('message', '')}" for each in refused]
    )


def _describe_health(status: Mapping[str, Any]) -> str:
    """Return how the application is, unless it is healthy."""
    health = status.get("health") or {}
    if health.get("status", "Healthy") == "Healthy":
        return ""
    return sanitize_text(f"; it is {health['status']}: {health.get('message', '')}").rstrip(": ")


def _is_manual(application: Document) -> bool:
    automated = (application["spec"].get("syncPolicy") or {}).get("automated")
    return automated is None or automated.get("enabled") is False


def _requested(operation: Mapping[str, Any]) -> Mapping[str, Any]:
    sync: Mapping[str, Any] = (operation.get("operation") or {}).get("sync") or {}
    return sync


def _is_about(holder: Mapping[str, Any] | None, commit: str) -> bool:
    """Return whether something has the revision of a commit; an Application of several sources has several."""
    return holder is not None and commit in (holder.get("revision"), *(holder.get("revisions") or ()))


def _say(what: str, message: str, *, failed: bool) -> ControllerState:
    return ControllerState(sanitize_text(f"{what} says {message}").rstrip(": "), failed)
