"""Fixtures of clusters: a namespace as a target, in a cluster in memory."""

from __future__ import annotations

from datetime import datetime
from types import SimpleNamespace

import pytest

from supply_chain.execution.environment import KubernetesEnvironment, KubernetesPlacement
from supply_chain.execution.kubernetes.target import KubernetesTarget
from tests.contract.target import Harness
from tests.support.memory_cluster import NOON, SAME, MemoryCluster, make_harness

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
    def now() -> datetime:
        return NOON

    target = KubernetesTarget(
        ENVIRONMENT, lambda: cluster, "registry", now, lambda _: None, is_same=lambda _, digest: digest == SAME
    )
    return make_harness(target, cluster, make.declaration(), BAD)
