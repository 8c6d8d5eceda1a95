"""Why Flux did not bring a commit into a namespace, by the conditions of its objects. It is only read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from supply_chain.execution.delivery.controller import ControllerState
from supply_chain.execution.delivery.settings import FileKind, FluxKustomization
from supply_chain.execution.kubernetes.cluster import Cluster, Document, Kind
from supply_chain.text import sanitize_text

KUSTOMIZATIONS = Kind("kustomize.toolkit.fluxcd.io/v1", "Kustomization", "kustomizations")
GIT_REPOSITORIES = Kind("source.toolkit.fluxcd.io/v1", "GitRepository", "gitrepositories")
TRANSIENT = frozenset({"DependencyNotReady", "Progressing", "ProgressingWithRetry"})
"""Reasons of a Kustomization that is not ready yet."""
UNSIGNED = "InvalidCommitSignature"
"""The reason of a source whose newest commit has no trusted signature; the message has the commit."""


def read_flux(cluster: Cluster, kustomization: FluxKustomization, commit: str, kind: FileKind) -> ControllerState:
    """Return what Flux says about a commit to a file of this kind; raise the cluster's errors."""
    document = cluster.read(KUSTOMIZATIONS, kustomization.name, kustomization.namespace)
    if document is None:
        where = f"{kustomization.namespace}/{kustomization.name}"
        return ControllerState(
            f"the cluster has no Kustomization {where}, which `delivery.git.flux` names", failed=True
        )
    source = document["spec"].get("sourceRef") or {}
    repository = None
    if source.get("kind") == GIT_REPOSITORIES.name:
        namespace = source.get("namespace") or kustomization.namespace
        repository = cluster.read(GIT_REPOSITORIES, source["name"], namespace)
    return describe_flux(document, repository, commit, kind)


def describe_flux(kustomization: Document, repository: Document | None, commit: str, kind: FileKind) -> ControllerState:
    """Return what a Kustomization and its source say about a commit to a file of this kind. Pure.

    Values of a chart are applied with a HelmRelease, whose controller installs the chart after that.
    """
    name, status = kustomization["metadata"]["name"], kustomization.get("status") or {}
    if kustomization["spec"].get("suspend"):
        return ControllerState(f"the Kustomization {name} is suspended", failed=True)
    ready = _condition(status, "Ready")
    if _commit_of(status.get("lastAppliedRevision")) == commit:
        is_chart = kind == "helm"
        what = f"Flux applied the commit by the Kustomization {name}"
        return ControllerState(f"{what}; look at its HelmRelease" if is_chart else what, failed=not is_chart)
    if _commit_of(status.get("lastAttemptedRevision")) == commit:
        return _describe_attempt(f"the Kustomization {name}", ready)
    if repository is not None and (trouble := _source_trouble(repository, commit)):
        return trouble
    if ready.get("status") == "False":
        return ControllerState(_describe(f"the Kustomization {name}", ready))
    return ControllerState(
        f"Flux has not applied it yet; the last was {status.get('lastAppliedRevision') or 'nothing'}"
    )


def _describe_attempt(what: str, ready: Mapping[str, Any]) -> ControllerState:
    if ready.get("status") == "False":
        return ControllerState(_describe(what, ready), ready.get("reason") not in TRANSIENT)
    return ControllerState(f"{what} is applying it", applying=True)


def _source_trouble(repository: Document, commit: str) -> ControllerState | None:
    """Return why the source does not bring a commit; None if it does. It may not have looked since an earlier one."""
    what = f"the GitRepository {repository['metadata']['name']}"
    status = repository.get("status") or {}
    if repository["spec"].get("suspend"):
        return ControllerState(f"{what} is suspended", failed=True)
    verified = _condition(status, "SourceVerified")
    if verified.get("status") == "False":
        earlier = verified.get("reason") == UNSIGNED and commit not in verified.get("message", "")
        return ControllerState(_describe(what, verified), failed=not earlier)
    ready = _condition(status, "Ready")
    return ControllerState(_describe(what, ready)) if ready.get("status") == "False" else None


def _condition(status: Mapping[str, Any], kind: str) -> Mapping[str, Any]:
    return next((each for each in status.get("conditions") or () if each["type"] == kind), {})


def _describe(what: str, condition: Mapping[str, Any]) -> str:
    return sanitize_text(f"{what} says {condition.get('reason', 'nothing')}: {condition.get('message', '')}").rstrip(
        ": "
    )


def _commit_of(revision: str | None) -> str:
    """Return the commit of a revision such as main@sha1:0123…; an empty text without one."""
    return (revision or "").rpartition("sha1:")[2]
