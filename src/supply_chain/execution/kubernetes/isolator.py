"""The isolation of an application in a namespace: quarantine of its pods, and what the API says about them.

A NetworkPolicy only allows, so no policy denies what another one allows. Therefore pods lose the labels by which others
select them; that also takes them out of the Service, and of the ReplicaSet, which would end them.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pydantic import ValidationError

from supply_chain.concurrency import map_concurrently
from supply_chain.errors import UNREADABLE, BaseMissing, ClusterRefused, ClusterUnavailable
from supply_chain.execution.deployment import Expected
from supply_chain.execution.environment import KubernetesEnvironment
from supply_chain.execution.isolation.case import Case, Stage
from supply_chain.execution.isolation.collection import (
    CollectedItem,
    Collection,
    IsolatedPod,
    Room,
    Uncollected,
    make_item,
)
from supply_chain.execution.isolation.collector import Collected
from supply_chain.execution.isolation.record import IsolationRecord, find_record
from supply_chain.execution.kubernetes.cluster import (
    DEPLOYMENTS,
    EVENTS,
    NETWORK_POLICIES,
    PODS,
    REPLICA_SETS,
    Cluster,
    Document,
)
from supply_chain.execution.kubernetes.collector import Collector, describe_gaps, encode_json
from supply_chain.execution.kubernetes.rendering import make_object_name
from supply_chain.execution.kubernetes.rollout import (
    is_ending,
    list_container_statuses,
    make_applicable,
    read_owner_uid,
)
from supply_chain.execution.kubernetes.selectors import selects
from supply_chain.execution.observation import Deviation
from supply_chain.model.container import APPLICATION, MANAGED, QUARANTINE, Wait
from supply_chain.text import summarize_error

CASE, LABELS = "cscm.isolation", "cscm.labels"
"""Annotations: of a NetworkPolicy, the case as JSON, of a pod, its id; and the labels that the pod had."""
POLICY = "cscm-quarantine-"
POLL, RELEASE = 0.2, 30.0
"""Seconds between two looks at pods, and for which their controllers may take to release them."""
LINES = 10_000
MOST = 14 * 1024 * 1024
"""Maximum bytes of all files, so that the sealed bundle fits into one piece of evidence."""
Files = Iterator[tuple[CollectedItem, bytes] | Uncollected]


@dataclass(frozen=True)
class KubernetesIsolator:
    """Isolates applications in the namespace of an environment.

    Its methods raise the errors of `Cluster`; each can be repeated.
    """

    environment: KubernetesEnvironment
    connect: Callable[[], Cluster]
    now: Callable[[], datetime]
    wait: Wait
    find_collector: Callable[[str], str]
    """Returns a curated image as pods name it; raises `BaseMissing` if it is not released, or blocked."""
    clock: Callable[[], float] = time.monotonic

    def find_case(self, application: str) -> Case | None:
        """Return the last case of an application; None if there is none, or if somebody damaged it."""
        policy = self.connect().read(NETWORK_POLICIES, name_isolation_policy(application), self.environment.namespace)
        return read_case(policy) if policy else None

    def store(self, case: Case) -> Case:
        """Store a case, and ensure the policy that denies all traffic of its pods; return the case."""
        name = make_object_name(case.application)
        document = self._policy(
            name_isolation_policy(case.application), {QUARANTINE: name}, {CASE: case.model_dump_json()}
        )
        self.connect().apply(NETWORK_POLICIES, document, force=True)
        return case

    def is_running(self, application: str) -> bool:
        """Return whether pods of an application run that are not in quarantine."""
        pods = self.connect().list(PODS, self.environment.namespace, {APPLICATION: make_object_name(application)})
        return not all(map(is_ending, pods))

    def quarantine(self, case: Case) -> Case:
        """Deny all traffic of an application's pods and take them out of its Service; then let no others run.

        Returns the case with the time of the isolation. The pods go on running; their controllers get time to release
        them before the Deployment is scaled to zero, which would end them.
        """
        cluster, name, namespace = self.connect(), make_object_name(case.application), self.environment.namespace
        self.store(case)
        cluster.apply(NETWORK_POLICIES, self._policy(name, {APPLICATION: name}), force=True)  # also of pods to come
        pods = cluster.list(PODS, namespace, {APPLICATION: name})
        map_concurrently(lambda pod: self._move_to_quarantine(cluster, pod, name, case), pods)
        case = self.store(case.model_copy(update={"isolated": case.isolated or self.now()}))
        deployment = cluster.read(DEPLOYMENTS, name, namespace)
        if deployment is not None:
            self._wait_until_released(cluster, name, deployment["metadata"]["uid"])
            document = make_applicable(DEPLOYMENTS, deployment)
            cluster.apply(DEPLOYMENTS, {**document, "spec": {**document["spec"], "replicas": 0}}, force=True)
        return self.store(case.model_copy(update={"stage": Stage.ISOLATED}))

    def collect(self, case: Case) -> Collection:
        """Return what the API says about the pods of a case, what the collector reads in them, and what is missing."""
        cluster, name, namespace = self.connect(), make_object_name(case.application), self.environment.namespace
        quarantined = cluster.list(PODS, namespace, {QUARANTINE: name})
        own = [each for each in quarantined if (each["metadata"].get("annotations") or {}).get(CASE) == case.id]
        pods = [pod for pod in own if not is_ending(pod)]
        ending = [pod["metadata"]["name"] for pod in own if is_ending(pod)]
        items = [*self._collect(cluster, name, pods)]
        items += [Uncollected(item=f"pods/{each}", why="it is ending") for each in ending]
        return Collection(
            pods=tuple(map(_describe, pods)),
            files=tuple(each for each in items if not isinstance(each, Uncollected)),
            uncollected=tuple(each for each in items if isinstance(each, Uncollected)),
            allowing_policies=tuple(
                find_allowing_policies(cluster.list(NETWORK_POLICIES, namespace), {QUARANTINE: name})
            ),
        )

    def _policy(self, name: str, selector: Mapping[str, str], annotations: Mapping[str, str] | None = None) -> Document:
        """Return a policy that allows nothing to the pods that it selects."""
        metadata = {"name": name, "namespace": self.environment.namespace, "labels": {MANAGED: "true", **selector}}
        if annotations:
            metadata["annotations"] = dict(annotations)
        return {
            "apiVersion": NETWORK_POLICIES.api_version,
            "kind": NETWORK_POLICIES.name,
            "metadata": metadata,
            "spec": {"podSelector": {"matchLabels": dict(selector)}, "policyTypes": ["Ingress", "Egress"]},
        }

    def _move_to_quarantine(self, cluster: Cluster, pod: Document, name: str, case: Case) -> None:
        metadata = pod["metadata"]
        labels: dict[str, Any] = dict.fromkeys(metadata["labels"])
        annotations = {CASE: case.id, LABELS: json.dumps(metadata["labels"])}
        change = {"metadata": {"labels": labels | {QUARANTINE: name}, "annotations": annotations}}
        cluster.patch(PODS, metadata["name"], change, self.environment.namespace)

    def _wait_until_released(self, cluster: Cluster, name: str, deployment: str) -> None:
        """Wait until no ReplicaSet of a Deployment, given by its uid, owns pods in quarantine, which it would end.

        Raise `ClusterUnavailable` after `RELEASE` seconds. Pods of others, who may keep them, are not waited for.
        """
        sets = cluster.list(REPLICA_SETS, self.environment.namespace)
        owners = {each["metadata"]["uid"] for each in sets if read_owner_uid(each) == deployment}
        until = self.clock() + RELEASE
        while owned := [
            pod["metadata"]["name"]
            for pod in cluster.list(PODS, self.environment.namespace, {QUARANTINE: name})
            if read_owner_uid(pod) in owners and not is_ending(pod)
        ]:
            if self.clock() > until:
                raise ClusterUnavailable(
                    f"No controller released {', '.join(owned)} in {RELEASE:.0f} s. They are isolated, and nothing was "
                    "collected yet.\nCheck the cluster's controllers."
                )
            self.wait(POLL)

    def _collect(self, cluster: Cluster, name: str, pods: Sequence[Document]) -> Files:
        """Yield the files of a bundle: objects, what the collector reads, and logs, which share the room that is left.

        What the collector read leaves a quarter of the room to logs, and contents of files leave half to all others.
        """
        room = Room(MOST, self.now)
        for path, document in self._read_objects(cluster, name, pods):
            yield room.add(path, encode_json(document))
        for path, collected in self._read_inside(cluster, name, pods):
            if isinstance(collected, Uncollected):
                yield collected
                continue
            changed = {"files": [each.model_dump(mode="json") for each in collected.files], "unread": collected.unread}
            yield room.add(f"{path}/processes.json", encode_json(collected.processes), reserved=MOST // 4)
            yield room.add(f"{path}/changed-files.json", encode_json(changed), reserved=MOST // 4)
            for digest, content in collected.contents.items():
                yield room.add(f"{path}/files/{digest.removeprefix('sha256:')}", content, reserved=MOST // 2)
            yield from describe_gaps(path, collected)
        logs = [
            (pod, each, previous)
            for pod in pods
            for each in list_container_statuses(pod)
            for previous in _logs_of(each)
        ]
        for pod, status, previous in logs:
            where = pod["metadata"]["name"], status["name"]
            yield self._read_log(cluster, *where, room.left // len(logs), previous=previous)
            if previous and status.get("restartCount", 0) > 1:
                yield Uncollected(item=f"earlier logs of pods/{'/'.join(where)}", why="a node keeps only the last one")

    def _read_inside(
        self, cluster: Cluster, name: str, pods: Sequence[Document]
    ) -> Iterable[tuple[str, Collected | Uncollected]]:
        """Yield the path of each container, and what the collector read in it, or why it did not."""
        settings, what = self.environment.response.collector, "processes and changed files"
        if settings is None:
            return [("", Uncollected(item=what, why="the environment names no collector (`response.collector`)"))]
        try:
            image = self.find_collector(settings.image)
        except (*UNREADABLE, BaseMissing) as error:
            return [("", Uncollected(item=what, why=summarize_error(error)))]
        collector = Collector(
            cluster, self.environment.namespace, {QUARANTINE: name}, image, settings, self.wait, self.clock
        )  # fmt: skip
        return collector.collect(pods)

    def _read_objects(self, cluster: Cluster, name: str, pods: Sequence[Document]) -> Iterator[tuple[str, object]]:
        namespace = self.environment.namespace
        deployment = cluster.read(DEPLOYMENTS, name, namespace)
        sets = cluster.list(REPLICA_SETS, namespace, {APPLICATION: name})
        about = {name, *(each["metadata"]["name"] for each in (*pods, *sets))}
        yield from ((f"pods/{pod['metadata']['name']}/pod.json", pod) for pod in pods)
        yield "deployment.json", deployment
        yield "replica-sets.json", sets
        yield "network-policies.json", cluster.list(NETWORK_POLICIES, namespace)
        events = cluster.list(EVENTS, namespace)
        yield "events.json", [each for each in events if each["involvedObject"].get("name") in about]

    def _read_log(
        self, cluster: Cluster, pod: str, container: str, most: int, *, previous: bool
    ) -> tuple[CollectedItem, bytes] | Uncollected:
        path = f"pods/{pod}/{container}{'.previous' if previous else ''}.log"
        try:
            content = cluster.logs(self.environment.namespace, pod, container, LINES, previous=previous).encode()
        except ClusterRefused as error:
            return Uncollected(item=path, why=summarize_error(error))
        truncated = len(content) > most or content.count(b"\n") >= LINES
        return make_item(path, content[max(0, len(content) - most) :], self.now(), truncated=truncated)


def name_isolation_policy(application: str) -> str:
    """Return the name of the policy that denies all traffic of an application's pods in quarantine."""
    return f"{POLICY}{make_object_name(application)}"


def read_case(policy: Document) -> Case | None:
    """Return the case that a NetworkPolicy is annotated with; None without one, or if somebody damaged it."""
    with contextlib.suppress(ValidationError):
        return Case.model_validate_json((policy["metadata"].get("annotations") or {}).get(CASE, ""))
    return None


def find_allowing_policies(policies: Sequence[Document], labels: Mapping[str, str]) -> Iterator[str]:
    """Yield the network policies that let traffic through to pods with these labels, or from them. Pure."""
    for policy in policies:
        spec = policy["spec"]
        if selects(spec.get("podSelector") or {}, labels) and (spec.get("ingress") or spec.get("egress")):
            yield f"NetworkPolicy {policy['metadata']['name']}"


def find_quarantine(
    pod: Document, policies: Iterable[Document], records: Sequence[IsolationRecord]
) -> Deviation | None:
    """Return the deviation that a pod is in quarantine; None if no isolation put it there. Pure.

    It is a pod of a signed record, or of the case of its application that is open and has no record yet.
    """
    metadata = pod["metadata"]
    if (name := (metadata.get("labels") or {}).get(QUARANTINE)) is None:
        return None
    stored = (read_case(each) for each in policies if each["metadata"]["name"] == f"{POLICY}{name}")
    opened = {each.id for each in stored if each and each.stage in (Stage.OPEN, Stage.ISOLATED)}
    recorded = {each.uid for record in records for each in record.pods}
    is_of_open = (metadata.get("annotations") or {}).get(CASE) in opened - {each.id for each in records}
    if metadata["uid"] not in recorded and not is_of_open:
        return None
    return Deviation(
        code="drift.quarantined",
        fact=f"{pod['metadata']['name']} is in quarantine",
        remedy="Delete it once the investigation is over.",
    )


def find_isolated(
    expected: Expected,
    objects: Mapping[tuple[str, str], Document],
    list_isolations: Callable[[str], Sequence[IsolationRecord]],
) -> Deviation | None:
    """Return the deviation that a deployment is isolated and scaled to zero, by a signed record; otherwise None.

    `objects` are those of its namespace, by kind and name. What somebody wrote there proves no isolation.
    """
    deployment = objects.get((DEPLOYMENTS.name, expected.name))
    policy = objects.get((NETWORK_POLICIES.name, name_isolation_policy(expected.application)))
    case = read_case(policy) if policy else None
    if case is None or (deployment and deployment["spec"].get("replicas", 1) > 0):
        return None
    record = find_record(list_isolations(expected.application), case.id)
    if record is None or record.digest != expected.digest:
        return None
    return Deviation(
        code="drift.isolated",
        fact=f"{record.application} is isolated, by {record.by}: {record.reason}",
        remedy="If `cscm isolate` was interrupted, repeat it. Otherwise deploy another image.",
    )


def _describe(pod: Document) -> IsolatedPod:
    containers = {each["name"]: each.get("containerID", "") for each in list_container_statuses(pod)}
    node = pod["spec"].get("nodeName", "")
    return IsolatedPod(name=pod["metadata"]["name"], uid=pod["metadata"]["uid"], node=node, containers=containers)


def _logs_of(status: Mapping[str, Any]) -> tuple[bool, ...]:
    """Return which logs a container has: its own, and that of the container before it."""
    return (False, True) if status.get("restartCount") else (False,)
