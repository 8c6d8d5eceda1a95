"""What is in the namespace of an environment and nobody deployed there. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from supply_chain.execution.deployment import Expected, KubernetesPlace
from supply_chain.execution.environment import OWN_BINDINGS, KubernetesEnvironment
from supply_chain.execution.isolation.record import IsolationRecord
from supply_chain.execution.kubernetes.brought import find_left
from supply_chain.execution.kubernetes.cluster import (
    INGRESSES,
    NETWORK_POLICIES,
    PODS,
    ROLE_BINDINGS,
    SERVICES,
    Document,
    Kind,
)
from supply_chain.execution.kubernetes.isolator import find_quarantine
from supply_chain.execution.kubernetes.namespace import NamespaceState, ObjectKey
from supply_chain.execution.kubernetes.rendering import make_object_name
from supply_chain.execution.kubernetes.rollout import list_container_statuses
from supply_chain.execution.kubernetes.troubles import FAILED_CREATE, select_recent_events
from supply_chain.execution.observation import Deviation, Observation
from supply_chain.model.container import APPLICATION
from supply_chain.model.image import Digest, shorten_digest
from supply_chain.text import sanitize_text, truncate_lines

REACHING = (NETWORK_POLICIES, SERVICES, INGRESSES, ROLE_BINDINGS)
"""The kinds of objects that decide who reaches the pods, and who may do what with them."""
MOST_LISTED = 10


@dataclass(frozen=True)
class Foreign:
    """What nobody deployed to an environment, of one application if its name is given."""

    environment: KubernetesEnvironment
    expected: Sequence[Expected]
    state: NamespaceState
    at: datetime
    application: str | None = None
    isolations: Sequence[IsolationRecord] = ()
    """The signed records of isolations in the namespace."""
    identity: str = ""
    """The user name of whoever deploys there."""

    def find(self) -> Iterator[Observation]:
        """Yield an observation of each pod and object, and of each controller whose pods the cluster refuses."""
        ours = {pod["metadata"]["uid"] for each in self.expected for pod in self.state.list_owned_pods(each)}
        for pod in self.state.all(PODS):
            if pod["metadata"]["uid"] not in ours and self._is_asked_for(pod):
                yield self._observe_pod(pod)
        applied = {key for each in self.expected for key in self._objects_of(each)}
        for kind in () if self.environment.delivery else REACHING:  # only the repository says what belongs there
            for each in self.state.all(kind):
                if self._is_foreign(kind, each, applied) and self._is_asked_for(each):
                    yield self._observe(kind.name, each["metadata"], describe_object(kind, each, self.environment.name))
        if self.application is None:
            yield from self._find_denied()

    def _objects_of(self, expected: Expected) -> Iterator[ObjectKey]:
        """Yield kind and name of what a deployment applied, and of what it left, which is its own deviation."""
        documents = _documents(expected)
        yield from ((each["kind"], each["metadata"]["name"]) for each in documents)
        yield from find_left(expected.name, documents, self.state.applied)

    def _is_asked_for(self, document: Document) -> bool:
        labels = document["metadata"].get("labels") or {}
        return self.application is None or labels.get(APPLICATION) == make_object_name(self.application)

    def _is_foreign(self, kind: Kind, document: Document, applied: Collection[tuple[str, str]]) -> bool:
        name = document["metadata"]["name"]
        if (kind.name, name) in applied:
            return False
        if f"{kind.name}/{name}" in self.environment.ignored_objects:
            return f"{kind.name}/{name}" in OWN_BINDINGS and not gives_own_role(document, self.identity)
        return kind is not NETWORK_POLICIES or allows_traffic(document["spec"])

    def _find_denied(self) -> Iterator[Observation]:
        """Yield the controllers whose pods the cluster refused, except for deployments, which say it themselves."""
        ours = {each.name for each in self.expected}
        events = {
            (about.get("kind", ""), about.get("name", "")): event
            for event in select_recent_events(self.state, self.at)
            if event.get("reason") == FAILED_CREATE and (about := event["involvedObject"])
        }
        for (kind, name), event in events.items():
            if self.state.find_deployment_name(name) not in ours:
                denial = describe_denial(f"{kind} {name}", event)
                yield self._observe(kind, event["involvedObject"], denial)

    def _observe_pod(self, pod: Document) -> Observation:
        phase, running = pod.get("status", {}).get("phase", "Unknown"), list_pod_digests([pod])
        quarantine = find_quarantine(pod, self.state.all(NETWORK_POLICIES), self.isolations)
        observation = self._observe(
            PODS.name, pod["metadata"], quarantine or describe_pod(pod, phase, self.environment.name)
        )
        return observation.model_copy(
            update={
                "name": pod["metadata"]["name"],
                "running": running[0] if len(running) == 1 else "",
                "status": phase.lower(),
            },
        )

    def _observe(self, kind: str, metadata: Mapping[str, Any], deviation: Deviation) -> Observation:
        return Observation(
            at=self.at,
            environment=self.environment.name,
            application="",
            name=f"{kind} {metadata.get('name', '')}",
            workload=f"{kind}/{metadata.get('name', '')} in {self.environment.place}",
            container=metadata.get("uid", ""),
            status="present",
            deviations=(deviation,),
        )


def _documents(expected: Expected) -> tuple[Document, ...]:
    return expected.place.documents if isinstance(expected.place, KubernetesPlace) else ()


def gives_own_role(binding: Document, identity: str) -> bool:
    """Return whether a RoleBinding gives the role of its name to a user or service account, and to nobody else."""
    named = binding.get("roleRef", {}).get("name") == binding["metadata"]["name"]
    return named and [*map(_user_name, binding.get("subjects") or ())] == [identity]


def _user_name(subject: Mapping[str, Any]) -> str:
    """Return the user name of a subject; empty for a group."""
    if subject["kind"] == "ServiceAccount":
        return f"system:serviceaccount:{subject.get('namespace')}:{subject['name']}"
    return str(subject["name"]) if subject["kind"] == "User" else ""


def allows_traffic(policy: Mapping[str, Any]) -> bool:
    """Return whether a NetworkPolicy allows anything; one without rules only denies, as all pods are denied already."""
    return bool(policy.get("ingress") or policy.get("egress"))


def describe_pod(pod: Document, phase: str, environment: str) -> Deviation:
    """Return the deviation of a pod that nobody deployed."""
    name, images = (
        pod["metadata"]["name"],
        ", ".join(sorted(map(shorten_digest, list_pod_digests([pod])))) or "no image yet",
    )
    return Deviation(
        code="drift.foreign",
        fact=f"nobody deployed {name} to {environment}; it is {phase}, from {images}",
        remedy="Find out who created it, and delete it: only the chain deploys here.",
    )


def describe_object(kind: Kind, document: Document, environment: str) -> Deviation:
    """Return the deviation of an object that nobody deployed."""
    name, effect = f"{kind.name} {document['metadata']['name']}", ""
    if kind is ROLE_BINDINGS:
        subjects = truncate_lines(MOST_LISTED, [each.get("name", "") for each in document.get("subjects") or ()])
        effect = sanitize_text(f": it gives {document['roleRef']['name']} to {', '.join(subjects) or 'nobody'}")
    return Deviation(
        code="drift.foreign-object",
        fact=f"nobody deployed {name} to {environment}{effect}",
        remedy="Find out who created it and why. Delete it, or write it into `others` of the environment's document.",
    )


def describe_denial(what: str, event: Document) -> Deviation:
    """Return the deviation of a controller whose pods the cluster refuses."""
    message = sanitize_text(event.get("message", ""))
    return Deviation(
        code="drift.denied",
        fact=f"pods of {what} are refused: {message}",
        remedy="Find out who created it, and delete it: only the chain deploys here.",
    )


def list_pod_digests(pods: Sequence[Document]) -> list[Digest]:
    """Return the digests of the images that containers of these pods run, each once."""
    running = (each.get("imageID", "").rpartition("@")[2] for pod in pods for each in list_container_statuses(pod))
    return list(dict.fromkeys(filter(None, running)))
