"""The comparison of what runs in a namespace with the signed deployment records."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from supply_chain.errors import ClusterRefused
from supply_chain.execution.deployment import Expected, read_kubernetes_place
from supply_chain.execution.kubernetes.autoscaling import find_least_pods, find_undeclared
from supply_chain.execution.kubernetes.brought import find_left
from supply_chain.execution.kubernetes.cluster import AUTOSCALERS, DEPLOYMENTS, Cluster, Document, Kind
from supply_chain.execution.kubernetes.differences import find_differences
from supply_chain.execution.kubernetes.namespace import APPLIED, NamespaceState
from supply_chain.execution.kubernetes.rendering import LONGEST_GRACE
from supply_chain.execution.kubernetes.rollout import is_complete, is_ready, list_container_statuses, read_owner_uid
from supply_chain.execution.kubernetes.troubles import find_creation_troubles, find_pod_troubles, parse_time
from supply_chain.execution.observation import Deviation
from supply_chain.model.image import Digest, shorten_digest
from supply_chain.text import summarize_error, truncate_lines

KINDS = {kind.name: kind for kind in APPLIED}
"""The kinds of objects that deployments apply."""
TRIAL = "cscm-trial-"
"""Begins the name under which an object is created as a trial, to learn what the cluster makes of it."""
ALLOCATED = re.compile(r"spec\.(?:clusterIPs?|healthCheckNodePort|ports\[\d+\]\.nodePort)(?:\[\d+\])?")
"""Paths of values that the cluster allocates for each object."""
OF_CONTAINERS = ("image", "command", "args", "env", "envFrom", "lifecycle", "livenessProbe", "ports", "readinessProbe",
                 "securityContext", "startupProbe", "volumeMounts", "workingDir")  # fmt: skip
OF_PODS = ("automountServiceAccountToken", "hostIPC", "hostNetwork", "hostPID", "hostUsers", "runtimeClassName",
           "securityContext", "serviceAccountName", "shareProcessNamespace", "volumes")  # fmt: skip
"""The fields of a pod that are compared with its template; the cluster may add to others, such as tolerations."""
TOKEN = re.compile(r"kube-api-access-\w+")
"""The name of the volume with the token of a pod's service account."""
IN_TOKEN = {"serviceAccountToken", "configMap", "downwardAPI"}
MARGIN = timedelta(seconds=60)
"""The time in which a node ends a pod and says so, after its grace period."""
DEFAULT_GRACE = 30
"""Seconds in which a pod has to end if nothing else is rendered."""
MOST_LISTED = 10
DEPLOY_AGAIN = "Find out who changed it, then deploy the application again with --force."
KEEP_COPY = "Collect what the investigation needs from the pod, then deploy the application again with --force."


def find_object_changes(cluster: Cluster, expected: Expected, state: NamespaceState) -> tuple[Deviation, ...]:
    """Return how the objects of a deployment differ from those that were applied."""

    def compare(document: Document) -> Deviation | None:
        kind, name = KINDS[document["kind"]], document["metadata"]["name"]
        live = state.find(kind.name, name)
        if live is not None:
            return _compare_object(cluster, kind, document, live)
        return Deviation(
            code="drift.missing",
            fact=f"{kind.name} {name} is gone",
            remedy="Deploy the application again, and find out who deleted it.",
        )

    documents = read_kubernetes_place(expected).documents
    changed = tuple(each for each in map(compare, documents) if each)
    scalers = [*state.all(AUTOSCALERS)]
    return (*changed, *find_undeclared(expected.name, documents, scalers), *_find_left(expected, state))


def _find_left(expected: Expected, state: NamespaceState) -> Iterator[Deviation]:
    """Yield the objects that were brought along earlier and are not part of the deployment any more."""
    documents = read_kubernetes_place(expected).documents
    for kind, name in find_left(expected.name, documents, state.applied):
        yield Deviation(
            code="drift.left",
            fact=f"{kind} {name} is of an earlier deployment",
            remedy="Deploy the application again, which removes it.",
        )


def _compare_object(cluster: Cluster, kind: Kind, document: Document, live: Document) -> Deviation | None:
    """Return how an object differs from the one that was applied; None if it does not.

    The cluster is asked what it adds to such an object only if there is more than what was applied.
    """
    if not [*find_differences(_content(document), _content(live), absent_is_empty=True)]:
        return None
    what = f"{document['kind']} {document['metadata']['name']}"
    try:
        applied = cluster.apply(kind, _trial(document), dry_run=True)
    except ClusterRefused as error:
        why = summarize_error(error)
        return Deviation(
            code="drift.not-compared",
            fact=f"the cluster would refuse {what} now: {why}",
            remedy="Correct what the message names, or deploy another image in its place.",
        )
    differing = find_differences(_content(applied), _content(live), absent_is_empty=True)
    if paths := [path for path in differing if not ALLOCATED.fullmatch(path) and not _is_scaled(document, path)]:
        fields = ", ".join(truncate_lines(MOST_LISTED, paths))
        return Deviation(
            code="drift.object",
            fact=f"{what} differs from what was applied: {fields}",
            remedy=DEPLOY_AGAIN,
        )
    return None


def _is_scaled(document: Document, path: str) -> bool:
    """Return whether a path is that of the number of pods, and it was left to the autoscaler."""
    return path == "spec.replicas" and "replicas" not in document["spec"]


def _trial(document: Document) -> Document:
    """Return an object under a name that none has, so that the cluster shows it without what others added to it."""
    metadata = document["metadata"]
    return {**document, "metadata": {**metadata, "name": f"{TRIAL}{metadata['name']}"[:63].rstrip("-")}}


def _content(document: Document) -> Mapping[str, Any]:
    return {key: value for key, value in document.items() if key not in ("metadata", "status", "apiVersion", "kind")}


def compare_pods(
    expected: Expected, deployment: Document | None, pods: Sequence[Document], same: Collection[Digest]
) -> Iterator[Deviation]:
    """Yield how pods differ from their record, and from the template of their Deployment. Pure.

    `same` are the digests of the recorded content.
    """
    for pod in pods:
        if deployment is not None:
            yield from _compare_pod(pod, deployment["spec"]["template"]["spec"])
        yield from _compare_images(expected, pod, same)


def find_overdue(pods: Iterable[Document], at: datetime) -> Iterator[Document]:
    """Yield the pods that should have ended: their containers may still run. Pure."""
    for pod in pods:
        ends = parse_time(pod["metadata"].get("deletionTimestamp"))
        if ends and ends + MARGIN < at:
            yield pod


def find_late_ends(expected: Expected, deployment: Document | None, pods: Iterable[Document]) -> Iterator[Deviation]:
    """Yield the pods that got more time to end than was rendered for them; whoever deletes a pod may give any. Pure.

    For those of an earlier ReplicaSet, this is at least the longest time that an application may declare. What git
    delivers is not rendered here, so that the Deployment itself counts.
    """
    recorded = (each for each in read_kubernetes_place(expected).documents if each["kind"] == DEPLOYMENTS.name)
    document = next(recorded, deployment)
    pod_spec = document["spec"]["template"]["spec"] if document else {}
    rendered = pod_spec.get("terminationGracePeriodSeconds", DEFAULT_GRACE)
    for pod in pods:
        most = rendered if read_owner_uid(pod) == expected.container else max(rendered, LONGEST_GRACE)
        if (grace := pod["metadata"].get("deletionGracePeriodSeconds", 0)) > most:
            yield Deviation(
                code="drift.grace-period",
                fact=f"{pod['metadata']['name']} has {grace} s to end, instead of {most} s",
                remedy="Find out who deleted it so, and collect what the investigation needs. Then delete it again.",
            )


def find_troubles(expected: Expected, deployment: Document | None, pods: Sequence[Document]) -> Iterator[Deviation]:
    """Yield what is wrong with a deployment although nobody changed it. Pure."""
    for pod in pods:
        yield from find_pod_troubles(pod)
    if deployment is None:
        return
    yield from find_creation_troubles(deployment)
    if not is_complete(deployment, find_least_pods(read_kubernetes_place(expected).documents)):
        ready, replicas = sum(map(is_ready, pods)), deployment["spec"].get("replicas", 1)
        yield Deviation(
            code="drift.unhealthy",
            fact=f"{ready} of {replicas} pods of {expected.name} are ready",
            remedy="Read the events of the Deployment and the logs of its pods.",
        )


def _compare_pod(pod: Document, template: Mapping[str, Any]) -> Iterator[Deviation]:
    """Yield how a pod differs from the template of its Deployment in what decides what it runs and may do."""
    spec = pod["spec"] if template.get("automountServiceAccountToken") is False else _without_token(pod["spec"])
    if paths := list(find_differences(_decisive(template), _decisive(spec), absent_is_empty=True)):
        name, fields = pod["metadata"]["name"], ", ".join(truncate_lines(MOST_LISTED, paths))
        yield Deviation(
            code="drift.pod",
            fact=f"{name} differs from its Deployment: {fields}",
            remedy=KEEP_COPY,
        )


def _decisive(spec: Mapping[str, Any]) -> Mapping[str, Any]:
    containers = {
        f"{kind}.{each['name']}": {key: each.get(key) for key in OF_CONTAINERS}
        for kind in ("initContainers", "containers")
        for each in spec.get(kind) or ()
    }
    account = spec.get("serviceAccountName") or "default"  # the cluster names it in pods whose template does not
    return {**{key: spec.get(key) for key in OF_PODS}, "serviceAccountName": account, **containers}


def _without_token(spec: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a pod's spec without the token of its service account, which the cluster mounts by itself."""
    tokens = {each["name"] for each in spec.get("volumes") or () if _is_token(each)}

    def others(each: Mapping[str, Any], key: str) -> Mapping[str, Any]:
        return {**each, key: [entry for entry in each.get(key) or () if entry["name"] not in tokens]}

    containers = {
        kind: [others(each, "volumeMounts") for each in spec.get(kind) or ()]
        for kind in ("initContainers", "containers")
    }
    return {**others(spec, "volumes"), **containers}


def _is_token(volume: Mapping[str, Any]) -> bool:
    sources = (volume.get("projected") or {}).get("sources") or ()
    named = TOKEN.fullmatch(volume["name"]) is not None
    return named and bool(sources) and all(each.keys() <= IN_TOKEN for each in sources)


def _compare_images(expected: Expected, pod: Document, same: Collection[Digest]) -> Iterator[Deviation]:
    name = pod["metadata"]["name"]
    added = [each["name"] for each in pod["spec"].get("ephemeralContainers") or ()]
    if added:
        yield Deviation(
            code="drift.ephemeral",
            fact=f"somebody added containers to {name}: {', '.join(added)}",
            remedy=KEEP_COPY,
        )
    for status in list_container_statuses(pod):
        running = status.get("imageID", "").rpartition("@")[2]
        if running and status["name"] not in added and running not in same:
            yield Deviation(
                code="drift.digest",
                fact=f"{status['name']} of {name} runs {shorten_digest(running)} "
                f"instead of {shorten_digest(expected.digest)}",
                remedy=DEPLOY_AGAIN,
            )
