"""A cluster in memory: its objects, and the images that its namespaces admit."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import deepcopy
from typing import Any

from supply_chain.errors import ClusterRefused
from supply_chain.execution.enforcement.admitted import AdmittedImages
from supply_chain.execution.kubernetes.cluster import FIELD_MANAGER, Document, Kind

Key = tuple[str, str, str]
"""Kind, namespace and name of an object."""


def key_of(document: Mapping[str, Any]) -> Key:
    """Return the identity of an object."""
    return document["kind"], document["metadata"].get("namespace", ""), document["metadata"]["name"]


class MemoryAdmissionCluster:
    """Implements `AdmissionCluster`. `objects` can be read and changed as anybody with the permission can.

    It refuses templates of pods by its bindings to `parameters`, and knows these in other versions if `versions` says.
    """

    def __init__(self, parameters: MemoryParameters | None = None) -> None:
        self.objects: dict[Key, dict[str, Any]] = {}
        self.parameters = parameters
        self.versions: dict[str, str] = {}
        self.tried: list[Document] = []
        self.refused = ""

    def read(self, kind: Kind, name: str, namespace: str = "") -> Document | None:
        return self.objects.get((kind.name, namespace, name))

    def list(self, kind: Kind, namespace: str = "") -> tuple[Document, ...]:
        if kind.name == "ConfigMap" and self.parameters:
            return tuple({"metadata": {"name": name}} for name in self.parameters.stored)
        return tuple(
            each for key, each in self.objects.items() if key[0] == kind.name and namespace in ("", key[1])
        )  # fmt: skip

    def apply(self, kind: Kind, document: Document, *, dry_run: bool = False) -> Document:
        """Only of a namespace: labels that it applied before and does not apply now are removed."""
        wanted = document["metadata"].get("labels", {})
        live = self.objects.get(key_of(document), {"metadata": {}})["metadata"]
        before = {key for entry in live.get("managedFields", ()) for key in entry["fieldsV1"]["f:metadata"]["f:labels"]}
        others = {key: value for key, value in live.get("labels", {}).items() if f"f:{key}" not in before}
        fields: dict[str, Any] = {"f:metadata": {"f:labels": {".": {}, **{f"f:{key}": {} for key in wanted}}}}
        entry = {"manager": FIELD_MANAGER, "operation": "Apply", "fieldsV1": fields}
        metadata = {**document["metadata"], "labels": {**others, **wanted}, "managedFields": [entry]}
        return self._store({**document, "metadata": metadata}, dry_run)

    def create(self, kind: Kind, document: Document, *, dry_run: bool = False) -> Document:
        assert key_of(document) not in self.objects
        if kind.name == "PodTemplate":
            self._judge(document["metadata"]["namespace"])
        return self._store(document, dry_run)

    def _judge(self, namespace: str) -> None:
        """Refuse a template if a policy is bound to its namespace with the action `Deny`."""
        for (kind, _, name), each in self.objects.items():
            spec = each.get("spec", {})
            where = spec.get("matchResources", {}).get("namespaceSelector", {}).get("matchLabels", {})
            if "paramRef" in spec and "Deny" in spec["validationActions"] and namespace in where.values():
                assert self.parameters and kind == "ValidatingAdmissionPolicyBinding"
                found = spec["paramRef"]["name"]
                version = self.versions.get(found, self.parameters.stored[found][1])
                if version:
                    raise ClusterRefused(f"{name} denied it (version {version}): ask why")

    def list_warnings(self, kind: Kind, document: Document) -> tuple[str, ...]:
        """Warn, as Pod Security does, of the processes of a node and of containers of root."""
        assert kind.name == "PodTemplate"
        self.tried.append(document)
        spec = document["template"]["spec"]
        violations = ["host namespaces (hostPID=true)"] if spec.get("hostPID") else []
        contexts = [spec["securityContext"], *(each["securityContext"] for each in spec["containers"])]
        violations += ["runAsUser=0"] if any(each.get("runAsUser") == 0 for each in contexts) else []
        if any(each["image"] == self.refused for each in spec["containers"]):
            raise ClusterRefused(f"{self.refused} is refused\nby somebody")
        return (f'would violate PodSecurity "restricted:latest": {", ".join(violations)}',) if violations else ()

    def replace(self, kind: Kind, document: Document, *, dry_run: bool = False) -> Document:
        live = self.objects[key_of(document)]
        assert document["metadata"]["resourceVersion"] == live["metadata"]["resourceVersion"]
        return self._store(document, dry_run)

    def delete(self, kind: Kind, name: str, namespace: str = "") -> None:
        if kind.name == "ConfigMap" and self.parameters:
            self.parameters.stored.pop(name, None)
        self.objects.pop((kind.name, namespace, name), None)

    def _store(self, document: Document, dry_run: bool) -> Document:
        stored = deepcopy(dict(document))
        stored["metadata"] = {**stored["metadata"], "resourceVersion": str(len(self.objects) + 1)}
        if not dry_run:
            self.objects[key_of(document)] = stored
        return stored


class MemoryParameters:
    """Implements `Parameters`. `before_write` happens before each write, as what others do meanwhile."""

    def __init__(self, before_write: Callable[[MemoryParameters], None] = lambda _: None) -> None:
        self.stored: dict[str, tuple[AdmittedImages, str]] = {}
        self.before_write = before_write

    def read(self, namespace: str) -> tuple[AdmittedImages, str] | None:
        return self.stored.get(namespace)

    def write(self, namespace: str, admitted: AdmittedImages, version: str) -> bool:
        self.before_write(self)
        if self.stored.get(namespace, (None, ""))[1] != version:
            return False
        self.put(namespace, admitted)
        return True

    def put(self, namespace: str, admitted: AdmittedImages) -> None:
        """Write as somebody else."""
        version = int(self.stored.get(namespace, (None, "0"))[1]) + 1
        self.stored[namespace] = admitted, str(version)
