"""What goes wrong with the pods of a deployment, as the cluster reports it. Pure.

Pods and Deployments say what is wrong now, events what happened to pods that are gone. An API server forgets events
after an hour, and those of the last `RECENT` are reported, so that each is at some look.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta

from supply_chain.execution.kubernetes.cluster import EVENTS, PODS, Document
from supply_chain.execution.kubernetes.namespace import NamespaceState
from supply_chain.execution.kubernetes.rollout import (
    find_replica_failure,
    find_stuck,
    is_ready,
    list_container_statuses,
)
from supply_chain.execution.observation import Deviation
from supply_chain.text import sanitize_text

RECENT = timedelta(minutes=10)
"""The age up to which an event is reported: two looks."""
EVICTIONS = ("Evicted", "Preempted", "TaintManagerEviction")
"""Reasons of events about pods that the cluster ended of its own. A drain, which somebody asked for, is none."""
FAILED_CREATE = "FailedCreate"
"""The reason of an event about a controller that could not create a pod."""
CRASH_LOOP = "CrashLoopBackOff"
OUT_OF_MEMORY = "OOMKilled"


def find_pod_troubles(pod: Document) -> Iterator[Deviation]:
    """Yield what went wrong with a pod and its containers."""
    name, status = pod["metadata"]["name"], pod.get("status", {})
    if status.get("phase") == "Failed":
        reason = sanitize_text(f"{status.get('reason') or 'Failed'} {status.get('message', '')}").strip()
        yield _describe_eviction(name, reason)
    for each in list_container_statuses(pod):
        yield from _find_container_troubles(name, each)
    for why in find_stuck(pod):
        reason = sanitize_text(why)
        if CRASH_LOOP not in why:
            yield Deviation(
                code="drift.not-started",
                fact=f"not started: {reason}",
                remedy="Correct what the message names; the cluster tries again.",
            )


def _find_container_troubles(pod: str, status: Document) -> Iterator[Deviation]:
    """Yield a crash loop, an exceeded memory limit, or otherwise a restart of a container."""
    name, count = status["name"], status.get("restartCount", 0)
    ends = [status.get(key, {}).get("terminated", {}) for key in ("state", "lastState")]
    end: Document = next(filter(None, ends), {})
    why = end.get("reason") or f"status {end.get('exitCode', 'unknown')}"
    if status.get("state", {}).get("waiting", {}).get("reason") == CRASH_LOOP:
        yield Deviation(
            code="drift.crash-loop",
            fact=f"{name} of {pod} crashes ({count}): {why}",
            remedy="Read its logs, and deploy a corrected image, or the one before.",
        )
    if OUT_OF_MEMORY in [each.get("reason") for each in ends]:
        yield Deviation(
            code="drift.out-of-memory",
            fact=f"{name} of {pod} exceeded its memory ({count})",
            remedy="Declare more memory or correct the leak, then deploy. --force resets the count.",
        )
    elif count:
        yield Deviation(
            code="drift.restarts",
            fact=f"{name} of {pod} ended and was restarted, {count} times so far: {why}",
            remedy="Read its logs; --force resets the count.",
        )


def find_creation_troubles(deployment: Document) -> Iterator[Deviation]:
    """Yield why the cluster refuses to create pods of a Deployment."""
    if message := find_replica_failure(deployment):
        yield Deviation(
            code="drift.denied",
            fact=f"pods of {deployment['metadata']['name']} are refused: {message}",
            remedy="Correct what the message names: a policy, a quota or a verdict. The cluster tries again.",
        )


def find_evictions(state: NamespaceState, now: datetime) -> dict[str, list[Deviation]]:
    """Return the recent evictions by the name of the pod's Deployment, also of pods that are gone."""
    evictions: dict[str, list[Deviation]] = defaultdict(list)
    for event in select_recent_events(state, now):
        about = event["involvedObject"]
        name = about.get("name", "")
        if about.get("kind") == PODS.name and event.get("reason") in EVICTIONS:
            reason = sanitize_text(f"{event['reason']} {event.get('message', '')}").strip()
            evictions[state.find_deployment_name(name.rpartition("-")[0])].append(_describe_eviction(name, reason))
    return evictions


def _describe_eviction(pod: str, reason: str) -> Deviation:
    return Deviation(
        code="drift.evicted",
        fact=f"{pod} was ended by the cluster: {reason}",
        remedy="Look at its node: memory, disk and taints. Then delete the pod.",
    )


def select_recent_events(state: NamespaceState, now: datetime) -> list[Document]:
    """Return the events of the last `RECENT`."""
    return [each for each in state.all(EVENTS) if now - (_last_time(each) or now) <= RECENT]


def _last_time(event: Document) -> datetime | None:
    series = event.get("series") or {}
    times = (series.get("lastObservedTime"), event.get("lastTimestamp"), event.get("eventTime"))
    return next((parse_time(each) for each in times if each), None)


def find_node_troubles(pods: Sequence[Document], nodes: dict[str, Document]) -> Iterator[Deviation]:
    """Yield the pods that are not ready because their node is not; `nodes` has those that could be read."""
    for pod in pods:
        node = nodes.get(pod["spec"].get("nodeName", ""))
        if node is None or is_ready(pod):
            continue
        conditions = node.get("status", {}).get("conditions") or ()
        for each in conditions:
            if each["type"] == "Ready" and each["status"] != "True":
                name, where = pod["metadata"]["name"], node["metadata"]["name"]
                message = sanitize_text(each.get("message", ""))
                yield Deviation(
                    code="drift.node",
                    fact=f"node {where} of {name} is not ready: {message}",
                    remedy="Restore or remove the node; the cluster then runs the pod elsewhere.",
                )


def parse_time(text: str | None) -> datetime | None:
    """Return a time of Kubernetes' API (RFC 3339); None if there is none."""
    return datetime.fromisoformat(text) if text else None
