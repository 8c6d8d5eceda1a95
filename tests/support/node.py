"""A namespace of a real cluster as a target, to which the documented role deploys."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache, partial

from supply_chain.adapters.kubernetes.client import ClusterClient
from supply_chain.execution.environment import KubernetesEnvironment, KubernetesPlacement
from supply_chain.execution.kubernetes.cluster import FIELD_MANAGER, PODS, Cluster, Document
from supply_chain.execution.kubernetes.rollout import is_ending, is_ready
from supply_chain.execution.kubernetes.target import KubernetesTarget
from supply_chain.execution.nodes import ReservedNodes
from supply_chain.model.declaration import Probe, Service, Test
from supply_chain.model.image import Digest
from tests.contract.target import Harness
from tests.support.cluster_images import REGISTRY, Import
from tests.support.cluster_roles import DEPLOYER

DECLARATION = Service(
    kind="service", name="hello", owner="tests", test=Test(command=("/subject", "status-0")),
    probe=Probe(port=8080, start_timeout=20, stop_timeout=1),
)  # fmt: skip
SECURE = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}, "runAsUser": 10001,
          "runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}  # fmt: skip
"""The security context that Pod Security `restricted` requires of a container."""


def secure_pod(namespace: str, name: str, image: str) -> dict[str, object]:
    """Return a pod of one container that Pod Security `restricted` admits."""
    container = {"name": name, "image": image, "imagePullPolicy": "Never", "securityContext": SECURE}
    return {
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": namespace},
        "spec": {"containers": [container], "automountServiceAccountToken": False},
    }  # fmt: skip


def find_digest(pod: Document) -> Digest:
    """Return the digest of the image of a pod's container."""
    image: str = pod["spec"]["containers"][0]["image"]
    return image.rpartition("@")[2]


def find_running(cluster: ClusterClient, namespace: str) -> set[Digest]:
    """Return the digests of the pods of a namespace that do not end."""
    return {find_digest(pod) for pod in cluster.list(PODS, namespace) if not is_ending(pod)}


@dataclass
class Place(Harness):
    """An environment in a namespace of a cluster."""

    cluster: ClusterClient = field(kw_only=True)
    """With an administrator's permissions."""
    namespace: str = field(kw_only=True)

    @classmethod
    def of(cls, cluster: ClusterClient, namespace: str, image: Import, **placement: object) -> Place:
        """Return the environment of a namespace, to which the documented role signs in."""
        target = deployers_target(cluster, namespace, **placement)
        running = partial(find_running, cluster, namespace)
        return cls(target, DECLARATION, image, "", running, lambda digest: digest, cluster=cluster, namespace=namespace)

    @property
    def serving(self) -> set[Digest]:
        """The digests of the pods that are ready and do not end."""
        pods = self.cluster.list(PODS, self.namespace)
        return {find_digest(pod) for pod in pods if is_ready(pod) and not is_ending(pod)}


def deployers_target(
    cluster: ClusterClient, namespace: str, *nodes: ReservedNodes, **placement: object
) -> KubernetesTarget:
    """Return an environment in a namespace, to which the documented role signs in, for an hour."""
    deployer = cache(lambda: cluster.for_service_account(namespace, DEPLOYER, FIELD_MANAGER, 3600))
    return target_in(namespace, deployer, *nodes, **placement)


def target_in(
    namespace: str, connect: Callable[[], Cluster], *nodes: ReservedNodes, **placement: object
) -> KubernetesTarget:
    """Return an environment in a namespace, of which some nodes are reserved, with one pod unless it is scaled."""
    replicas = {} if "autoscaling" in placement else {"replicas": 1}
    environment = KubernetesEnvironment(
        name="staging", target="kubernetes", cluster="c", namespace=namespace,
        applications={"hello": KubernetesPlacement.model_validate({**replicas, **placement})}, nodes=nodes,
    )  # fmt: skip
    return KubernetesTarget(environment, connect, REGISTRY, lambda: datetime.now(UTC), time.sleep)
