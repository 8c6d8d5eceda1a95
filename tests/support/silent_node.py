"""A node of a real cluster on which no kubelet runs: what the cluster does with pods on a node that goes away.

The node is an object that a test registers and reports as ready. The cluster's own scheduler places pods on it, and its
own controllers evict and replace them. No container runs there. So this shows nothing about requests to a node that
fails, nor how long a cluster takes to notice: a node is not ready after 50 s, and its pods are evicted 5 minutes later.
Other pods do not come to the node, because of its taint.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from lightkube.core.exceptions import ApiError
from lightkube.resources.core_v1 import NodeStatus, Pod, PodStatus
from lightkube.types import PatchType

from supply_chain.adapters.kubernetes.client import ClusterClient
from supply_chain.execution.kubernetes.cluster import NODES, PODS, Document
from supply_chain.execution.kubernetes.rollout import is_ending, is_ready
from supply_chain.execution.nodes import ReservedNodes, Toleration
from tests.support.waiting import eventually

NOT_READY = "node.kubernetes.io/not-ready"
OUT_OF_SERVICE = "node.kubernetes.io/out-of-service"
"""The taint by which an operator or a cloud's controller says that a node is off. Its pods are evicted at once."""
RESOURCES = {"cpu": "4", "memory": "4Gi", "pods": "20"}


@dataclass
class SilentNode:
    """A node without a kubelet, and the real one; both can be in a pool of nodes, which is reserved for a namespace."""

    cluster: ClusterClient
    namespace: str
    real: str
    name: str

    @property
    def pool(self) -> ReservedNodes:
        """The nodes of the pool."""
        return ReservedNodes(labels={self._key: "own"}, tolerations=(Toleration(key=self._key),))

    @property
    def _key(self) -> str:
        return f"{self.namespace}/pool"

    def use(self, node: str) -> None:
        """Make a node the only one of the pool; pods elsewhere go on."""
        for name in (self.real, self.name):
            metadata = {"name": name, "labels": {self._key: "own"} if name == node else {}}
            self.cluster.take_over(NODES, {"apiVersion": "v1", "kind": "Node", "metadata": metadata}, self.namespace)

    def report(self, ready: str) -> None:
        """Write whether the node is ready: `True` as its kubelet does, `Unknown` as the control plane does later."""
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        condition = {"type": "Ready", "status": ready, "reason": "Test", "message": "a test said so",
                     "lastHeartbeatTime": now, "lastTransitionTime": now}  # fmt: skip
        status = {"conditions": [condition], "capacity": RESOURCES, "allocatable": RESOURCES}
        self.cluster.client.patch(NodeStatus, self.name, {"status": status}, patch_type=PatchType.MERGE)

    @property
    def taint(self) -> dict[str, str]:
        """The taint that keeps the pods of others away."""
        return {"key": self._key, "value": "own", "effect": "NoSchedule"}

    def take_out_of_service(self) -> None:
        """Say that the node is off, as an operator or a cloud's controller does."""
        off = {"key": OUT_OF_SERVICE, "value": "nodeshutdown", "effect": "NoExecute"}
        self.cluster.patch(NODES, self.name, {"spec": {"taints": [self.taint, off]}})

    @property
    def has_obstacle(self) -> bool:
        """Whether the cluster still keeps pods away, because it has not seen that the node is ready."""
        node = self.cluster.read(NODES, self.name) or {}
        return any(each["key"] == NOT_READY for each in node["spec"].get("taints") or ())

    def pods(self) -> list[Document]:
        """Return the pods of the namespace that were placed on the node."""
        return [each for each in self.cluster.list(PODS, self.namespace) if each["spec"].get("nodeName") == self.name]

    def start_pods(self) -> None:
        """Report that the pods on the node are ready, as its kubelet does."""
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        for pod in self.pods():
            if is_ready(pod) or is_ending(pod):
                continue
            container = pod["spec"]["containers"][0]
            image = {"image": container["image"], "imageID": container["image"]}
            running: dict[str, Any] = {"name": container["name"], **image, "ready": True, "started": True,
                                       "restartCount": 0, "state": {"running": {"startedAt": now}}}  # fmt: skip
            conditions = [{"type": "Ready", "status": "True", "lastTransitionTime": now}]
            status = {"phase": "Running", "conditions": conditions, "containerStatuses": [running]}
            self.cluster.client.patch(
                PodStatus, pod["metadata"]["name"], {"status": status}, namespace=self.namespace,
                patch_type=PatchType.MERGE,
            )  # fmt: skip

    def remove(self) -> None:
        """Remove the node and its pods, whose end no kubelet confirms."""
        self.use("")
        self.cluster.delete(NODES, self.name)
        for pod in self.pods():
            with contextlib.suppress(ApiError):  # the cluster removed it meanwhile
                self.cluster.client.delete(Pod, pod["metadata"]["name"], namespace=self.namespace, grace_period=0)


@contextmanager
def silent_node(cluster: ClusterClient, namespace: str) -> Iterator[SilentNode]:
    """Yield a node without a kubelet, which is ready, and remove it at the end."""
    real = cluster.list(NODES)[0]["metadata"]
    labels = {key: real["labels"][key] for key in ("kubernetes.io/os", "kubernetes.io/arch")}
    node = SilentNode(cluster, namespace, real["name"], f"silent-{uuid4().hex[:8]}")
    metadata = {"name": node.name, "labels": {**labels, "kubernetes.io/hostname": node.name}}
    cluster.create(NODES, {"apiVersion": "v1", "kind": "Node", "metadata": metadata, "spec": {"taints": [node.taint]}})
    try:
        node.report("True")
        eventually(lambda: not node.has_obstacle)
        yield node
    finally:
        node.remove()
