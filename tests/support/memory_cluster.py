"""A cluster in memory: server-side apply, and controllers that make pods as the test says."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count
from typing import Any

from supply_chain.errors import ClusterConflict, ClusterRefused
from supply_chain.execution.kubernetes.autoscaling import CONTROLLERS
from supply_chain.execution.kubernetes.cluster import (
    DEPLOYMENTS,
    FIELD_MANAGER,
    PODS,
    REPLICA_SETS,
    SERVICES,
    Change,
    Document,
    Kind,
    Listing,
)
from supply_chain.execution.kubernetes.rollout import REVISION, TEMPLATE_HASH
from supply_chain.execution.target import Target
from supply_chain.model.declaration import Service
from tests.contract.target import Harness

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)
SAME = "sha256:" + "5" * 64
"""Digest of another manifest with the content of whichever image runs."""


@dataclass
class MemoryCluster:
    """A cluster whose pods of a Deployment are ready at once, unless their image is in `broken`.

    `failing` maps an operation and a kind (`apply Deployment`, `dry-run Service`) to the error that it raises.
    """

    objects: dict[tuple[str, str, str], dict[str, Any]] = field(default_factory=dict)
    broken: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Digest → the state of a container of it that does not start."""
    failing: dict[str, Exception] = field(default_factory=dict)
    output: dict[str, str] = field(default_factory=dict)
    applied: list[str] = field(default_factory=list)
    deleted: list[str] = field(default_factory=list)
    owners: dict[tuple[str, str], set[str]] = field(default_factory=dict)
    """Namespace and name of a Deployment → the field managers that own its number of pods."""
    changes: dict[str, list[Change | Exception]] = field(default_factory=dict)
    """Kind → what its next watch yields, or raises."""
    watched: list[str] = field(default_factory=list)
    collected: str = ""
    """What an ephemeral container prints."""
    ephemeral_state: dict[str, Any] = field(default_factory=lambda: {"terminated": {"reason": "Error", "exitCode": 1}})
    """The state of an ephemeral container, as soon as it is added."""
    _uids: int = 0

    def apply(self, kind: Kind, document: Document, *, dry_run: bool = False, force: bool = False) -> Document:
        operation = f"{'dry-run' if dry_run else 'apply'} {kind.name}"
        if operation in self.failing:
            raise self.failing[operation]
        wanted = copy.deepcopy(dict(document))
        if kind is DEPLOYMENTS:
            wanted["spec"] = {"paused": False, **wanted["spec"]}
        if kind is SERVICES:
            wanted["spec"] = {"sessionAffinity": "None", **wanted["spec"]}
        metadata = wanted["metadata"]
        key = (kind.name, metadata.get("namespace", ""), metadata["name"])
        before = self.objects.get(key)
        if kind is DEPLOYMENTS:
            self._own_replicas(wanted["spec"], before, key[1:], dry_run=dry_run)
        if dry_run:
            return wanted
        self.applied.append(f"{kind.name} {metadata['name']}")
        changed = before is None or before.get("spec") != wanted.get("spec")
        earlier: dict[str, Any] = before["metadata"] if before else {"uid": self._uid(), "generation": 0}
        metadata |= {"uid": earlier["uid"], "generation": earlier["generation"] + changed,
                     "creationTimestamp": NOON.isoformat()}  # fmt: skip
        if REVISION in (earlier.get("annotations") or {}):
            revision = {REVISION: earlier["annotations"][REVISION]}
            metadata["annotations"] = {**(metadata.get("annotations") or {}), **revision}
        self.objects[key] = {**({"status": before["status"]} if before and "status" in before else {}), **wanted}
        if kind is DEPLOYMENTS and changed:
            self._roll(self.objects[key])
        self._note_owners(key)
        return copy.deepcopy(self.objects[key])

    def read_identity(self) -> str:
        return "cscm-execution"

    def take_over(self, kind: Kind, document: Document, manager: str) -> Document:
        metadata, spec = document["metadata"], document["spec"]
        key = (kind.name, metadata["namespace"], metadata["name"])
        assert kind is DEPLOYMENTS and spec.keys() <= {"replicas"}
        if spec:
            self._set_replicas(key, spec["replicas"])
            self.owners[key[1:]] = {manager}
        else:
            self.owners[key[1:]].discard(manager)
        self._note_owners(key)
        return copy.deepcopy(self.objects[key])

    def scale(self, name: str, namespace: str, replicas: int) -> None:
        """Change the number of pods, as an autoscaler would."""
        key = (DEPLOYMENTS.name, namespace, name)
        self._set_replicas(key, replicas)
        self.own_replicas(name, namespace, CONTROLLERS)

    def own_replicas(self, name: str, namespace: str, *managers: str) -> None:
        """Make field managers the owners of the number of pods."""
        self.owners[namespace, name] = set(managers)
        self._note_owners((DEPLOYMENTS.name, namespace, name))

    def _set_replicas(self, key: tuple[str, str, str], replicas: int) -> None:
        deployment = self.objects[key]
        if deployment["spec"]["replicas"] != replicas:
            deployment["spec"]["replicas"] = replicas
            deployment["metadata"]["generation"] += 1
            self._roll(deployment)

    def _own_replicas(
        self, wanted: dict[str, Any], before: Document | None, key: tuple[str, str], *, dry_run: bool
    ) -> None:
        """Fill in the number of pods of an applied Deployment, and note its owners."""
        others = self.owners.get(key, set()) - {FIELD_MANAGER}
        live = before["spec"]["replicas"] if before else 1
        if "replicas" in wanted and others and wanted["replicas"] != live:
            raise ClusterConflict(f"conflict with {others}: .spec.replicas\nno")
        owners = others | ({FIELD_MANAGER} if "replicas" in wanted else set())
        wanted.setdefault("replicas", live if others else 1)
        if not dry_run:
            self.owners[key] = owners

    def _note_owners(self, key: tuple[str, str, str]) -> None:
        if key[0] == DEPLOYMENTS.name:
            self.objects[key]["metadata"]["managedFields"] = [
                {"manager": owner, "fieldsV1": {"f:spec": {"f:replicas": {}}}} for owner in sorted(self.owners[key[1:]])
            ]

    def patch(self, kind: Kind, name: str, change: Mapping[str, Any], namespace: str = "") -> Document | None:
        if f"patch {kind.name}" in self.failing:
            raise self.failing[f"patch {kind.name}"]
        found = self.objects.get((kind.name, namespace, name))
        if found is None:
            return None
        self.applied.append(f"patch {kind.name} {name}")
        _merge(found, change)
        if kind is PODS:
            self._release(found)
        return copy.deepcopy(found)

    def read(self, kind: Kind, name: str, namespace: str = "") -> Document | None:
        if f"read {kind.name}" in self.failing:
            raise self.failing.pop(f"read {kind.name}")
        return copy.deepcopy(self.objects.get((kind.name, namespace, name)))

    def list(self, kind: Kind, namespace: str = "", labels: Mapping[str, str] | None = None) -> tuple[Document, ...]:
        if f"list {kind.name}" in self.failing:
            raise self.failing[f"list {kind.name}"]
        return tuple(
            copy.deepcopy(each)
            for (of, where, _), each in list(self.objects.items())
            if of == kind.name
            and namespace in ("", where)
            and (labels or {}).items() <= (each["metadata"].get("labels") or {}).items()
        )

    def scan(self, kind: Kind, namespace: str = "") -> Iterator[Document]:
        if f"list {kind.name}" in self.failing:
            raise self.failing[f"list {kind.name}"]
        yield from self.list(kind, namespace)

    def list_at(self, kind: Kind, namespace: str = "", *, metadata_only: bool = False) -> Listing:
        if f"list {kind.name}" in self.failing:
            raise self.failing[f"list {kind.name}"]
        listed = self.list(kind, namespace)
        return Listing(tuple({"metadata": each["metadata"]} for each in listed) if metadata_only else listed, "1")

    def watch(
        self, kind: Kind, namespace: str, version: str, seconds: int, *, metadata_only: bool = False
    ) -> Iterator[Change]:
        self.watched.append(f"{kind.name} from {version}")
        for change in self.changes.pop(kind.name, ()):
            if isinstance(change, Exception):
                raise change
            yield change

    def delete(self, kind: Kind, name: str, namespace: str = "") -> None:
        if f"delete {kind.name}" in self.failing:
            raise self.failing[f"delete {kind.name}"]
        if kind is DEPLOYMENTS:
            self.owners.pop((namespace, name), None)
        if found := self.objects.pop((kind.name, namespace, name), None):
            self.deleted.append(f"{kind.name} {name}")
            self._collect(found["metadata"].get("uid", ""))

    def logs(self, namespace: str, pod: str, container: str, lines: int, *, previous: bool = False) -> str:
        spec = self.objects[PODS.name, namespace, pod]["spec"]
        if container in [each["name"] for each in spec.get("ephemeralContainers") or ()]:
            return self.collected
        digest = spec["containers"][0]["image"].rpartition("@")[2]
        return self.output.get(f"previous {digest}" if previous else digest, "")

    def add_ephemeral_container(self, namespace: str, pod: str, container: Mapping[str, Any]) -> None:
        if "add Container" in self.failing:
            raise self.failing["add Container"]
        found = self.objects[PODS.name, namespace, pod]
        existing = found["spec"].setdefault("ephemeralContainers", [])
        if container in existing:
            return
        if container["name"] in [each["name"] for each in existing]:
            raise ClusterRefused("existing ephemeral containers may not be changed\nno")
        self.applied.append(f"add {container['name']} to {pod}")
        existing.append(copy.deepcopy(dict(container)))
        status = {"name": container["name"], "state": self.ephemeral_state}
        found["status"].setdefault("ephemeralContainerStatuses", []).append(status)

    def change(self, kind: Kind, name: str, namespace: str, **spec: Any) -> None:
        """Change the specification of an object, as somebody else would."""
        self.objects[kind.name, namespace, name]["spec"] |= spec

    def add_pod(self, name: str, namespace: str, image: str, owner: str = "", **labels: str) -> dict[str, Any]:
        """Add a pod that runs an image."""
        owners = [{"uid": owner, "controller": True}] if owner else []
        template = {"containers": [{"name": "application", "image": image}]}
        return self._pod(name, namespace, {"metadata": {"labels": labels}, "spec": template}, owners)

    def _release(self, pod: dict[str, Any]) -> None:
        """Let a ReplicaSet give up a pod that it no longer selects, and make another one in its place."""
        metadata = pod["metadata"]
        owners = [each["uid"] for each in metadata["ownerReferences"]]
        for each in self.list(REPLICA_SETS, metadata["namespace"]):
            template = each["spec"]["template"]
            wanted = template["metadata"]["labels"].items()
            if each["metadata"]["uid"] in owners and not wanted <= (metadata.get("labels") or {}).items():
                owner = [{"uid": each["metadata"]["uid"], "controller": True}]
                metadata["ownerReferences"] = []
                self._pod(f"{metadata['name']}-next", metadata["namespace"], template, owner)

    def add_event(self, reason: str, kind: Kind, name: str, message: str) -> dict[str, Any]:
        """Add an event of now about an object in the namespace `shop`."""
        event: dict[str, Any] = {
            "metadata": {"name": f"{name}.{self._uid()}", "namespace": "shop"}, "reason": reason, "message": message,
            "involvedObject": {"kind": kind.name, "name": name}, "lastTimestamp": NOON.isoformat(),
        }  # fmt: skip
        self.objects["Event", "shop", event["metadata"]["name"]] = event
        return event

    def _uid(self) -> str:
        self._uids += 1
        return f"uid-{self._uids}"

    def _roll(self, deployment: dict[str, Any]) -> None:
        """Replace the pods of a Deployment by those of its template; those of a broken image are made beside them."""
        metadata, spec = deployment["metadata"], deployment["spec"]
        namespace, template = metadata["namespace"], spec["template"]
        digest = template["spec"]["containers"][0]["image"].rpartition("@")[2]
        revision = str(int((metadata.get("annotations") or {}).get(REVISION, "0")) + metadata["generation"])
        metadata["annotations"] = {**(metadata.get("annotations") or {}), REVISION: revision}
        current = self._replica_set(deployment, revision)
        if digest not in self.broken:
            for each in self.list(PODS, namespace):
                if each["metadata"].get("ownerReferences"):
                    self.objects.pop((PODS.name, namespace, each["metadata"]["name"]))
        owners = [{"uid": current["metadata"]["uid"], "controller": True}]
        number = 1 if digest in self.broken else spec["replicas"]
        for place in range(number):
            self._pod(f"{current['metadata']['name']}-{place:05}", namespace, template, owners)
        ready = 0 if digest in self.broken else number
        deployment["status"] = {
            "observedGeneration": metadata["generation"], "updatedReplicas": number,
            "replicas": number if ready else number + spec["replicas"], "availableReplicas": ready or spec["replicas"],
        }  # fmt: skip

    def _replica_set(self, deployment: dict[str, Any], revision: str) -> dict[str, Any]:
        metadata = deployment["metadata"]
        name, template = f"{metadata['name']}-{revision}abc", copy.deepcopy(deployment["spec"]["template"])
        template["metadata"]["labels"] = {**template["metadata"].get("labels", {}), TEMPLATE_HASH: f"{revision}abc"}
        made = {
            "metadata": {
                "name": name, "namespace": metadata["namespace"], "uid": self._uid(), "labels": metadata["labels"],
                "annotations": {REVISION: revision}, "creationTimestamp": NOON.isoformat(),
                "ownerReferences": [{"uid": metadata["uid"], "controller": True}],
            },
            "spec": {"template": template},
        }  # fmt: skip
        self.objects[REPLICA_SETS.name, metadata["namespace"], name] = made
        return made

    def _pod(self, name: str, namespace: str, template: Mapping[str, Any], owners: Sequence[Any]) -> dict[str, Any]:
        spec = _with_service_account(template["spec"])
        image = spec["containers"][0]["image"]
        broken = self.broken.get(image.rpartition("@")[2])
        state = broken or {"state": {"running": {"startedAt": f"{NOON:%FT%TZ}"}}}
        pod = {
            "metadata": {
                "name": name, "namespace": namespace, "uid": self._uid(), "ownerReferences": owners,
                "labels": dict(template["metadata"].get("labels", {})),
            },
            "spec": spec,
            "status": {
                "phase": "Pending" if broken else "Running",
                "conditions": [{"type": "Ready", "status": "False" if broken else "True"}],
                "containerStatuses": [{"name": "application", "imageID": image, "restartCount": 0, **state}],
            },
        }  # fmt: skip
        self.objects[PODS.name, namespace, name] = pod
        return pod

    def _collect(self, owner: str) -> None:
        """Delete what a deleted object owned."""
        owned = [
            key
            for key, each in self.objects.items()
            if owner and owner in [o["uid"] for o in each["metadata"].get("ownerReferences") or ()]
        ]
        for key in owned:
            found = self.objects.pop(key, None)
            self._collect(found["metadata"]["uid"] if found else "")


def _merge(target: dict[str, Any], change: Mapping[str, Any]) -> None:
    """Change an object by a JSON merge patch (RFC 7396)."""
    for key, value in change.items():
        if value is None:
            target.pop(key, None)
        elif isinstance(value, Mapping):
            _merge(target.setdefault(key, {}), value)
        else:
            target[key] = value


def _with_service_account(template: Mapping[str, Any]) -> dict[str, Any]:
    """Return a pod's spec with what the cluster adds where the template has nothing else."""
    spec = {"serviceAccountName": "default", **copy.deepcopy(template)}
    if spec.get("automountServiceAccountToken") is not False:
        sources = [{"serviceAccountToken": {"path": "token"}}, {"configMap": {"name": "kube-root-ca.crt"}}]
        volume, path = "kube-api-access-x7k2p", "/var/run/secrets/kubernetes.io/serviceaccount"
        spec["volumes"] = [*spec.get("volumes", ()), {"name": volume, "projected": {"sources": sources}}]
        for each in spec["containers"]:
            each["volumeMounts"] = [*each.get("volumeMounts", ()), {"name": volume, "mountPath": path}]
    return spec


def make_harness(target: Target, cluster: MemoryCluster, declaration: Service, bad: str) -> Harness:
    """Return what the contract of targets needs, for the namespace `shop` of a cluster; `bad` never gets ready."""
    numbers = count(1)

    def running() -> set[str]:
        return {pod["spec"]["containers"][0]["image"].rpartition("@")[2] for pod in cluster.list(PODS, "shop")}

    def add_foreign(digest: str) -> str:
        cluster.add_pod("foreign", "shop", f"registry/x@{digest}")
        return "foreign"

    return Harness(target, declaration, lambda: f"sha256:{next(numbers):064x}", bad, running, add_foreign)
