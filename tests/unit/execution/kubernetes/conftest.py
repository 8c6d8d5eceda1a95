"""Fixtures of clusters: a namespace as a target, in a cluster in memory."""

from __future__ import annotations

from datetime import datetime
from itertools import count
from types import SimpleNamespace

import pytest

from supply_chain.execution.environment import KubernetesEnvironment, KubernetesPlacement
from supply_chain.execution.kubernetes.cluster import PODS
from supply_chain.execution.kubernetes.target import KubernetesTarget
from tests.contract.target import Harness
from tests.support.memory_cluster import NOON, MemoryCluster

BAD = "sha256:" + "b" * 64
ENDED = {"state": {"waiting": {"reason": "CrashLoopBackOff"}},
         "lastState": {"terminated": {"reason": "Error", "message": "configuration missing"}}}  # fmt: skip
ENVIRONMENT = KubernetesEnvironment(
    name="staging", target="kubernetes", cluster="c", namespace="shop",
    applications={"hello": KubernetesPlacement(replicas=2, environment={"GREETING": "hi"})},
)  # fmt: skip


@pytest.fixture
def cluster() -> MemoryCluster:
    return MemoryCluster(broken={BAD: ENDED})


@pytest.fixture
def harness(cluster: MemoryCluster, make: SimpleNamespace) -> Harness:
    numbers = count(1)

    def running() -> set[str]:
        return {pod["spec"]["containers"][0]["image"].rpartition("@")[2] for pod in cluster.list(PODS, "shop")}

    def add_foreign(digest: str) -> str:
        cluster.add_pod("foreign", "shop", f"registry/x@{digest}")
        return "foreign"

    def now() -> datetime:
        return NOON

    target = KubernetesTarget(ENVIRONMENT, lambda: cluster, "registry", now, lambda _: None)
    return Harness(target, make.manifest(), lambda: f"sha256:{next(numbers):064x}", BAD, running, add_foreign)
