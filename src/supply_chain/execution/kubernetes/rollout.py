"""Rollouts: apply the objects of an application, wait until its pods serve, and restore what ran if they do not."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from supply_chain.errors import ClusterConflict, ClusterUnavailable, DeploymentFailed, SupplyChainError
from supply_chain.execution.kubernetes.autoscaling import apply_deployment, find_obsolete, is_scaled, remove_replicas
from supply_chain.execution.kubernetes.brought import check_owners
from supply_chain.execution.kubernetes.cluster import (
    AUTOSCALERS,
    DEPLOYMENTS,
    EVENTS,
    PODS,
    REPLICA_SETS,
    Cluster,
    Document,
    Kind,
)
from supply_chain.execution.kubernetes.hosts import check_hosts
from supply_chain.execution.kubernetes.placement import check_nodes
from supply_chain.execution.kubernetes.rendering import DENY_ALL, Workload
from supply_chain.model.container import CONFIGURATION, DIGEST, RUN, Wait
from supply_chain.model.image import shorten_digest
from supply_chain.text import sanitize_lines, sanitize_text, summarize_error

Result = TypeVar("Result")
log = logging.getLogger("supply_chain.kubernetes")

POLL = 0.25
"""Seconds between two looks at a rollout."""
GRACE = 30.0
"""Seconds beyond the progress deadline, for a cluster that reports it late or not at all, and for restoring."""
STUCK = frozenset({
    "CrashLoopBackOff", "CreateContainerConfigError", "CreateContainerError", "ErrImageNeverPull", "ImagePullBackOff",
    "InvalidImageName", "RunContainerError",
})  # fmt: skip
"""Reasons for which a container waits and that waiting longer seldom changes."""
UNSYNCED = "failed to sync "
"""Begins the message of a kubelet that has not read a ConfigMap or Secret in time; it reads it again."""
RESTORED = "What was there before, if anything, was restored."
OVERTAKEN = "Nothing was restored, because somebody else deployed it meanwhile."
REVISION = "deployment.kubernetes.io/revision"
TEMPLATE_HASH = "pod-template-hash"
"""The label with the last part of the name of a ReplicaSet that a Deployment made."""
MARKS = (DIGEST, CONFIGURATION, RUN)
"""The annotations of pods that tell one rollout from another."""
LINES, MOST_EVENTS = 10, 5
SERVER_SIDE = ("uid", "resourceVersion", "generation", "creationTimestamp", "managedFields", "ownerReferences",
               "selfLink", "deletionTimestamp", "deletionGracePeriodSeconds")  # fmt: skip
"""Metadata that the cluster writes."""


@dataclass(frozen=True)
class Rollout:
    """One application in a cluster. `wait` sleeps, or raises `Cancelled`."""

    cluster: Cluster
    workload: Workload
    wait: Wait
    clock: Callable[[], float] = time.monotonic

    @property
    def namespace(self) -> str:
        """The namespace of the environment."""
        return self.workload.environment.namespace

    def read_deployment(self) -> Document | None:
        """Return the Deployment, None if there is none."""
        return self.cluster.read(DEPLOYMENTS, self.workload.name, self.namespace)

    def run(self, objects: Sequence[tuple[Kind, Document]], may_serve: Callable[[], object]) -> Document:
        """Apply the objects and return the Deployment as soon as only its new pods run and serve.

        Everything is applied as a trial first, so that a refusal changes nothing. `may_serve` is called after that: a
        new pod gets requests as soon as it is ready. If anything raises from then on, what served before is applied
        again, unless somebody else has deployed the application meanwhile. The error says if that failed.

        Raises `DeploymentFailed` with the pods' last output if they do not become ready, `NoSuitableNode`,
        `ManifestsRefused` if an object is part of another application or claims a host of it, `ClusterConflict` if
        somebody else deploys the application, and the cluster's errors.
        """
        check_nodes(self.cluster, self.workload.declaration.name, self.workload.node_selector, self.workload.nodes)
        scaled = is_scaled(self.read_deployment())
        for kind, document in objects:
            self.cluster.apply(
                kind, remove_replicas(document) if scaled and kind == DEPLOYMENTS else document, dry_run=True
            )
        self._check_hosts(objects)
        may_serve()
        before = [(kind, document, self._read(kind, document)) for kind, document in objects]
        serving = next((self._find_serving(live) for kind, _, live in before if live and kind == DEPLOYMENTS), None)
        check_owners(self.workload.name, [live for _, _, live in before])
        obsolete = find_obsolete(self.cluster, self.workload.name, self.namespace, [each for _, each in objects])
        if obsolete:
            before.append((AUTOSCALERS, obsolete, obsolete))
        try:
            if obsolete:
                self.cluster.delete(AUTOSCALERS, self.workload.name, self.namespace)
            for kind, document in objects:
                self._apply(kind, document)
            self._check_hosts(objects)  # again: another application may have been deployed at the same time
            return self.wait_until_complete(next(document for kind, document in objects if kind == DEPLOYMENTS))
        except BaseException as error:
            failed = self._restore(before, serving)
            if failed:
                log.warning("%s in %s is half deployed: %s", self.workload.name, self.namespace, failed)
            if isinstance(error, DeploymentFailed) or (failed and isinstance(error, SupplyChainError)):
                raise type(error)(f"{error.message}\n{failed or RESTORED}") from error
            raise

    def _check_hosts(self, objects: Sequence[tuple[Kind, Document]]) -> None:
        check_hosts(self.cluster, self.workload.name, self.namespace, [document for _, document in objects])

    def _apply(self, kind: Kind, document: Document) -> None:
        if kind == DEPLOYMENTS:
            apply_deployment(self.cluster, document, self.workload.pods)
        else:
            self.cluster.apply(kind, document)

    def _read(self, kind: Kind, document: Document) -> Document | None:
        return self.cluster.read(kind, document["metadata"]["name"], self.namespace)

    def _find_serving(self, deployment: Document) -> Document:
        """Return a Deployment with the template of the pods that serve.

        This is its own, unless its rollout is not complete, because somebody killed a deployment: then it is that of
        the last revision before, if pods of it are ready.
        """
        if is_complete(deployment, self.workload.least_pods):
            return deployment
        pods = self.cluster.list(PODS, self.namespace, deployment["spec"]["selector"]["matchLabels"])
        serving = {read_owner_uid(pod) for pod in pods if is_ready(pod) and not is_ending(pod)}
        owned = sorted(list_replica_sets(self.cluster, deployment), key=read_revision_number)
        earlier = [each for each in owned[:-1] if each["metadata"]["uid"] in serving]
        if not earlier:
            return deployment
        template = earlier[-1]["spec"]["template"]
        labels = {key: value for key, value in template["metadata"]["labels"].items() if key != TEMPLATE_HASH}
        template = {**template, "metadata": {**template["metadata"], "labels": labels}}
        return {**deployment, "spec": {**deployment["spec"], "template": template}}

    def _restore(self, before: Sequence[tuple[Kind, Document, Document | None]], serving: Document | None) -> str:
        """Apply what was there again and delete what was not, the Deployment first; return what failed, or nothing.

        `serving` is the Deployment as its pods served. What denies all traffic in the namespace stays: another
        application may rest on it since. A cluster that does not answer is asked again for `GRACE` seconds, also if the
        run is cancelled.
        """
        failed, until = [], self.clock() + GRACE
        for kind, document, earlier in reversed(before):
            name = document["metadata"]["name"]
            if earlier is None and name == DENY_ALL:
                continue
            try:
                if kind == DEPLOYMENTS and self._outlast(until, partial(self._is_overtaken, document, earlier)):
                    return OVERTAKEN
                original = serving if kind == DEPLOYMENTS else earlier
                self._outlast(until, partial(self._restore_object, kind, name, original))
            except SupplyChainError as error:
                failed.append(f"{kind.name} {name} was not restored: {summarize_error(error)}")
        return "\n".join(failed)

    def _is_overtaken(self, document: Document, earlier: Document | None) -> bool:
        """Return whether the Deployment is neither the one that was applied nor the one before."""
        live = self.read_deployment()
        return live is not None and not any(each and is_same_rollout(live, each) for each in (document, earlier))

    def _restore_object(self, kind: Kind, name: str, earlier: Document | None) -> None:
        if earlier is None:
            self.cluster.delete(kind, name, self.namespace)
        else:
            self._apply(kind, make_applicable(kind, earlier))

    def _outlast(self, until: float, act: Callable[[], Result]) -> Result:
        """Return what `act` returns; while the cluster does not answer, call it again until that time."""
        while True:
            try:
                return act()
            except ClusterUnavailable:
                if self.clock() > until:
                    raise
                time.sleep(POLL)

    def wait_until_complete(self, applied: Document | None = None) -> Document:
        """Return the Deployment as soon as only its new pods run and serve.

        Raises `DeploymentFailed` with the pods' last output if they do not become ready, `ClusterUnavailable` if the
        cluster does not answer any more, and `ClusterConflict` if the Deployment is not the one that was `applied`.
        """
        until = self.clock() + self.workload.deadline + GRACE
        while True:
            outage: ClusterUnavailable | None = None
            try:
                deployment = self.read_deployment()
                if deployment and applied and not is_same_rollout(deployment, applied):
                    raise self._conflict(deployment)
                if deployment and is_complete(deployment, self.workload.least_pods):
                    return deployment
                trouble = self._find_failure(deployment)
                if trouble:
                    raise self._deployment_error(trouble)
                trouble = describe_progress(deployment)
            except ClusterUnavailable as error:  # pods go on without the API server; ask again
                outage = error
            if self.clock() > until:
                raise outage or self._deployment_error(
                    f"not complete after {self.workload.deadline + GRACE:.0f} s: {trouble}"
                )
            self.wait(POLL)

    def _conflict(self, deployment: Document) -> ClusterConflict:
        digest = read_pod_annotations(deployment).get(DIGEST, "")
        return ClusterConflict(
            f"{self.workload.declaration.name} {self.workload.ref.short} was not deployed to "
            f"{self.workload.environment.name}: somebody else deployed "
            f"{shorten_digest(digest) or 'another image'} meanwhile.\n"
            "Let one place deploy to an environment, and deploy again what has to run."
        )

    def _find_failure(self, deployment: Document | None) -> str:
        """Return why the rollout cannot succeed; an empty text as long as it may."""
        if deployment is None:
            return "somebody deleted its Deployment"
        conditions = {each["type"]: each for each in deployment.get("status", {}).get("conditions") or ()}
        progressing = conditions.get("Progressing", {})
        if not is_observed(deployment):
            return ""
        current = find_replica_set(self.cluster, deployment)
        if failure := find_replica_failure(current or {}):
            return f"no pod can be created: {failure}"
        pods = self._pods_of(deployment, current)
        if progressing.get("reason") == "ProgressDeadlineExceeded":
            return next(filter(None, map(find_unstarted, pods)), str(progressing.get("message")))
        return next((reason for pod in pods for reason in find_stuck(pod)), "")

    def _pods_of(self, deployment: Document, current: Document | None) -> list[Document]:
        """Return the pods of the ReplicaSet of the Deployment's current revision."""
        if current is None:
            return []
        pods = self.cluster.list(PODS, self.namespace, deployment["spec"]["selector"]["matchLabels"])
        return [pod for pod in pods if read_owner_uid(pod) == current["metadata"]["uid"]]

    def _deployment_error(self, trouble: str) -> DeploymentFailed:
        last = ""
        with contextlib.suppress(SupplyChainError):  # the reason is more than its details
            last = self._last_words()
        return DeploymentFailed(
            f"{self.workload.declaration.name} {self.workload.ref.short} was not deployed to "
            f"{self.workload.environment.name}: {sanitize_text(trouble)}.\n"
            + (f"Its last output and events:\n{last}\n" if last else "It wrote nothing.\n")
            + "Correct the application, or what the message names, and deploy again."
        )

    def _last_words(self) -> str:
        """Return the last output of a new pod that is not ready, and the last events of it."""
        deployment = self.read_deployment()
        current = find_replica_set(self.cluster, deployment) if deployment else None
        pods = [pod for pod in self._pods_of(deployment or {}, current) if not is_ready(pod)]
        names = {self.workload.name, *(pod["metadata"]["name"] for pod in pods)}
        lines = [line for pod in pods[:1] for line in self._output(pod)]
        events = [e for e in self.cluster.list(EVENTS, self.namespace) if e["involvedObject"].get("name") in names]
        events = [e for e in events if e.get("type") == "Warning"]
        events.sort(key=lambda e: str(e.get("lastTimestamp") or e.get("eventTime") or ""))
        lines += [f"{e.get('reason')}: {e.get('message')}" for e in events[-MOST_EVENTS:]]
        return sanitize_lines("\n".join(lines))[-4000:].strip()

    def _output(self, pod: Document) -> list[str]:
        """Return the last lines of a pod: of its container that ended, otherwise of the one that runs."""
        for status in list_container_statuses(pod):
            for state in (status.get("state", {}), status.get("lastState", {})):
                if message := state.get("terminated", {}).get("message"):
                    return str(message).splitlines()[-LINES:]
        with contextlib.suppress(SupplyChainError):
            container = pod["spec"]["containers"][0]["name"]
            return self.cluster.logs(self.namespace, pod["metadata"]["name"], container, LINES).splitlines()
        return []


def make_applicable(kind: Kind, live: Document) -> Document:
    """Return a live object as it can be applied again: without what only the cluster or an autoscaler writes."""
    if kind == DEPLOYMENTS and is_scaled(live):
        live = remove_replicas(live)
    metadata = {key: value for key, value in live["metadata"].items() if key not in SERVER_SIDE}
    if annotations := metadata.get("annotations"):
        metadata["annotations"] = {key: value for key, value in annotations.items() if key != REVISION}
    content = {key: value for key, value in live.items() if key not in ("status", "metadata")}
    return {**content, "apiVersion": kind.api_version, "kind": kind.name, "metadata": metadata}


def is_observed(deployment: Document) -> bool:
    """Return whether the controller has acted on the last change of a Deployment."""
    observed: int = deployment.get("status", {}).get("observedGeneration", 0)
    return observed >= int(deployment["metadata"].get("generation", 0))


def is_complete(deployment: Document, least: int | None = None) -> bool:
    """Return whether only pods of the last change run, and all of them are available.

    `least` is the least number of pods where an autoscaler changes it: then so many have to be available.
    """
    replicas, status = deployment["spec"].get("replicas", 1), deployment.get("status", {})
    updated, existing, available = (status.get(key, 0) for key in ("updatedReplicas", "replicas", "availableReplicas"))
    enough = available == existing == replicas if least is None else available >= least
    return is_observed(deployment) and updated == existing and enough


def describe_progress(deployment: Document | None) -> str:
    """Return how many pods of a Deployment are new, and how many are available."""
    status: Mapping[str, Any] = (deployment or {}).get("status", {})
    replicas = (deployment or {}).get("spec", {}).get("replicas", 1)
    return (
        f"{status.get('updatedReplicas', 0)} of {replicas} pods are new, {status.get('availableReplicas', 0)} available"
    )


def find_replica_failure(document: Document) -> str:
    """Return why pods of a Deployment or ReplicaSet cannot be created; empty if they can.

    A Deployment also has the failure of its earlier ReplicaSets.
    """
    for each in document.get("status", {}).get("conditions") or ():
        if each["type"] == "ReplicaFailure" and each["status"] == "True":
            return sanitize_text(each.get("message", "")) or "the cluster does not say why"
    return ""


def find_replica_set(cluster: Cluster, deployment: Document) -> Document | None:
    """Return the ReplicaSet of a Deployment's last change; None if its controller has not made it yet."""
    revision = read_revision_number(deployment)
    return next(
        (each for each in list_replica_sets(cluster, deployment) if read_revision_number(each) == revision), None
    )


def list_replica_sets(cluster: Cluster, deployment: Document) -> list[Document]:
    """Return the ReplicaSets that a Deployment owns."""
    metadata, labels = deployment["metadata"], deployment["spec"]["selector"]["matchLabels"]
    listed = cluster.list(REPLICA_SETS, metadata["namespace"], labels)
    return [each for each in listed if read_owner_uid(each) == metadata["uid"]]


def read_revision_number(document: Document) -> int:
    """Return the revision of a Deployment or a ReplicaSet, which its controller counts; 0 without one."""
    revision = (document["metadata"].get("annotations") or {}).get(REVISION, "")
    return int(revision) if revision.isdecimal() else 0


def read_pod_annotations(deployment: Document | None) -> Mapping[str, str]:
    """Return the annotations of a Deployment's pods; none without a Deployment."""
    template = (deployment or {}).get("spec", {}).get("template", {})
    annotations: Mapping[str, str] = (template.get("metadata") or {}).get("annotations") or {}
    return annotations


def is_same_rollout(one: Document, other: Document) -> bool:
    """Return whether two Deployments have pods of the same digest, configuration and run."""
    return all(read_pod_annotations(one).get(key) == read_pod_annotations(other).get(key) for key in MARKS)


def read_owner_uid(document: Document) -> str:
    """Return the uid of the controller that owns an object; an empty text if none does."""
    owners = document["metadata"].get("ownerReferences") or ()
    return next((each["uid"] for each in owners if each.get("controller")), "")


def list_container_statuses(pod: Document) -> list[Mapping[str, Any]]:
    """Return the status of each container of a pod, whatever its kind."""
    status = pod.get("status", {})
    kinds = ("initContainerStatuses", "containerStatuses", "ephemeralContainerStatuses")
    return [each for kind in kinds for each in status.get(kind) or ()]


def is_ready(pod: Document) -> bool:
    """Return whether a pod gets requests."""
    conditions = pod.get("status", {}).get("conditions") or ()
    return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)


def is_ending(pod: Document) -> bool:
    """Return whether a pod was deleted, and answers its last requests."""
    return "deletionTimestamp" in pod["metadata"]


def find_stuck(pod: Document) -> Iterator[str]:
    """Yield why containers of a pod do not start, each with the message of the cluster."""
    for status in list_container_statuses(pod):
        waiting = status.get("state", {}).get("waiting", {})
        message = waiting.get("message", "")
        if waiting.get("reason") in STUCK and not message.startswith(UNSYNCED):
            yield f"{pod['metadata']['name']}: {waiting['reason']}: {message}".rstrip(": ")


def find_unstarted(pod: Document) -> str:
    """Return that the node of a pod has started nothing of it; empty if it has, if the pod ends or has no node.

    A kubelet reports all containers of a pod as soon as it knows the pod. So this one is gone, cut off or overloaded.
    """
    node = pod["spec"].get("nodeName")
    if not node or is_ending(pod) or list_container_statuses(pod):
        return ""
    return f"{pod['metadata']['name']} was placed on the node {node}, which does not start it"
