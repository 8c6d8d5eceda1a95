"""Workloads of a cluster, and the images that their pods run, whoever made them. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from supply_chain.execution.kubernetes.cluster import CONTAINERS, REPLICA_SETS, Document, Kind
from supply_chain.execution.kubernetes.rollout import TEMPLATE_HASH, list_container_statuses, read_revision_number
from supply_chain.model.image import DIGEST, Digest

CONTROLLERS = (
    REPLICA_SETS,
    Kind("v1", "ReplicationController", "replicationcontrollers"),
    *(Kind("apps/v1", name, f"{name.lower()}s") for name in ("DaemonSet", "StatefulSet")),
    *(Kind("batch/v1", name, f"{name.lower()}s") for name in ("CronJob", "Job")),
)
"""The kinds of objects that make pods by themselves."""


def list_images(kind: str, document: Document) -> Iterator[str]:
    """Yield the images of a pod, or of a template of pods, as they are written there."""
    pod = read_pod(kind, document)
    for each in CONTAINERS:
        yield from (container.get("image", "") for container in pod.get(each) or ())
    yield from (each["image"].get("reference", "") for each in pod.get("volumes") or () if "image" in each)


def read_pod(kind: str, document: Document) -> Mapping[str, Any]:
    """Return the specification of a pod, or of the pods that are made by a template."""
    spec: Mapping[str, Any] = document.get("spec") or {}
    if kind == "PodTemplate":
        spec = document["template"]["spec"]
    elif kind == "CronJob":
        spec = spec["jobTemplate"]["spec"]["template"]["spec"]
    elif kind != "Pod":
        spec = (spec.get("template") or {}).get("spec") or {}
    return spec


def list_digests(kind: str, document: Document) -> tuple[Digest, ...]:
    """Return the digests of the images that a workload names, and of those that the node found by a tag."""
    named = [*list_images(kind, document), *(each.get("imageID", "") for each in list_container_statuses(document))]
    digests = (image.rpartition("@")[2] for image in named)
    return tuple(dict.fromkeys(digest for digest in digests if re.fullmatch(DIGEST, digest)))


def has_ended(document: Document) -> bool:
    """Return whether a pod or a job has ended: it starts no container any more."""
    status = document.get("status") or {}
    conditions = {each["type"] for each in status.get("conditions") or () if each["status"] == "True"}
    return status.get("phase") in ("Succeeded", "Failed") or bool(conditions & {"Complete", "Failed"})


def select_current(replica_sets: Iterable[Document]) -> Iterator[Document]:
    """Yield the ReplicaSets without those of earlier revisions of a Deployment, which make no pods."""
    last: dict[str, tuple[int, Document | None]] = {}
    for each in replica_sets:
        owner = read_controller(each).get("uid", each["metadata"]["uid"])
        makes_pods = (each.get("spec") or {}).get("replicas") != 0
        if makes_pods:
            yield each
        if owner not in last or read_revision_number(each) > last[owner][0]:
            last[owner] = read_revision_number(each), None if makes_pods else each
    yield from (each for _, each in last.values() if each)


def read_controller(document: Document) -> Mapping[str, Any]:
    """Return the reference to the controller that owns an object; an empty mapping if none or a node does."""
    owners = document["metadata"].get("ownerReferences") or ()
    return next((each for each in owners if each.get("controller") and each.get("kind") != "Node"), {})


def name_workload(kind: str, document: Document) -> str:
    """Return kind and name of a pod's workload, as a person knows it: of a Deployment, not of its ReplicaSet."""
    metadata, owner = document["metadata"], read_controller(document)
    suffix = f"-{(metadata.get('labels') or {}).get(TEMPLATE_HASH)}"
    if kind == "ReplicaSet" and owner:
        return f"{owner['kind']}/{owner['name']}"
    if kind != "Pod" or not owner:
        return f"{kind}/{metadata['name']}"
    if owner["kind"] == "ReplicaSet" and owner["name"].endswith(suffix):
        return f"Deployment/{owner['name'].removesuffix(suffix)}"
    return f"{owner['kind']}/{owner['name']}"
