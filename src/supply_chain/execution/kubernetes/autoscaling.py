"""Autoscaled Deployments: the autoscaler of an application, and who owns the number of its pods.

A field that a manager applied and applies no more is removed, and without `replicas` a Deployment has one pod. So a
field manager of its own holds the number for a moment, whenever it changes hands between deployments and the
autoscaler (https://kubernetes.io/docs/reference/using-api/server-side-apply/#transferring-ownership).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from supply_chain.execution.environment import Autoscaling
from supply_chain.execution.kubernetes.cluster import AUTOSCALERS, DEPLOYMENTS, FIELD_MANAGER, Cluster, Document
from supply_chain.execution.observation import Deviation
from supply_chain.model.container import MANAGED

SCALER = "cscm-autoscaling"
"""The field manager that holds `replicas` while it changes hands."""
CONTROLLERS = "kube-controller-manager"
"""The field manager of the autoscaler."""


def render_scaling(autoscaling: Autoscaling, deployment: str, cpu: float) -> Mapping[str, Any]:
    """Return the specification of the autoscaler of a Deployment, whose pods have `cpu` processors each.

    Its target is a part of these processors. A percentage would be one of the requests, which are smaller.
    """
    millis = max(1, round(cpu * 10 * autoscaling.cpu_percent))
    target = {"type": "AverageValue", "averageValue": f"{millis}m"}
    return {
        "scaleTargetRef": {"apiVersion": DEPLOYMENTS.api_version, "kind": DEPLOYMENTS.name, "name": deployment},
        "minReplicas": autoscaling.minimum,
        "maxReplicas": autoscaling.maximum,
        "metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": target}}],
    }


def is_scaled(deployment: Document | None) -> bool:
    """Return whether the number of pods is not, or not only, that of a deployment: an autoscaler has set it."""
    return deployment is not None and bool({SCALER, CONTROLLERS} & set(_owners(deployment)))


def remove_replicas(deployment: Document) -> Document:
    """Return a Deployment without the number of its pods."""
    spec = {key: value for key, value in deployment["spec"].items() if key != "replicas"}
    return {**deployment, "spec": spec}


def apply_deployment(cluster: Cluster, document: Document, initial: int) -> None:
    """Apply a Deployment; one without `replicas` keeps its number of pods, and begins with `initial` of them.

    Raises the errors of `Cluster.apply`. If it ends in between, the next call completes it.
    """
    live = cluster.read(DEPLOYMENTS, document["metadata"]["name"], document["metadata"].get("namespace", ""))
    if "replicas" in document["spec"]:
        scaled = is_scaled(live)
        if scaled:
            cluster.take_over(DEPLOYMENTS, _only(document, {"replicas": document["spec"]["replicas"]}), SCALER)
        cluster.apply(DEPLOYMENTS, document)
        if scaled:
            cluster.take_over(DEPLOYMENTS, _only(document, {}), SCALER)
        return
    if live is None:
        live = cluster.apply(DEPLOYMENTS, {**document, "spec": {**document["spec"], "replicas": initial}})
    if FIELD_MANAGER in _owners(live):
        cluster.take_over(DEPLOYMENTS, _only(document, {"replicas": live["spec"]["replicas"]}), SCALER)
    cluster.apply(DEPLOYMENTS, document)


def find_least_pods(documents: Sequence[Document]) -> int | None:
    """Return the least number of pods that an autoscaler among these objects keeps; None without one."""
    scalers = (each["spec"]["minReplicas"] for each in documents if each["kind"] == AUTOSCALERS.name)
    return next(scalers, None)


def find_obsolete(cluster: Cluster, name: str, namespace: str, documents: Sequence[Document]) -> Document | None:
    """Return the autoscaler that an earlier deployment made and that is not among these objects; None without one."""
    if find_least_pods(documents) is not None:
        return None
    autoscaler = cluster.read(AUTOSCALERS, name, namespace)
    return autoscaler if autoscaler and (autoscaler["metadata"].get("labels") or {}).get(MANAGED) == "true" else None


def find_undeclared(deployment: str, documents: Sequence[Document], live: Sequence[Document]) -> Iterator[Deviation]:
    """Yield the autoscalers of a Deployment that are not among the objects that were applied. Pure."""
    applied = {each["metadata"]["name"] for each in documents if each["kind"] == AUTOSCALERS.name}
    for each in live:
        target, name = each["spec"].get("scaleTargetRef", {}), each["metadata"]["name"]
        if (target.get("kind"), target.get("name")) == (DEPLOYMENTS.name, deployment) and name not in applied:
            yield Deviation(
                code="drift.autoscaler",
                fact=f"{AUTOSCALERS.name} {name} was not deployed and scales {deployment}",
                remedy="Deploy the application again, and delete it if it is still there.",
            )


def _only(document: Document, spec: Mapping[str, Any]) -> Document:
    metadata = {key: document["metadata"][key] for key in ("name", "namespace") if key in document["metadata"]}
    return {"apiVersion": document["apiVersion"], "kind": document["kind"], "metadata": metadata, "spec": {**spec}}


def _owners(deployment: Document) -> list[str]:
    """Return the field managers that own the number of pods."""
    entries = deployment["metadata"].get("managedFields") or ()
    return [
        each.get("manager", "")
        for each in entries
        if "f:replicas" in ((each.get("fieldsV1") or {}).get("f:spec") or {})
    ]
