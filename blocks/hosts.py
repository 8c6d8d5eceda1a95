"""The hosts and clusters of all environments, as the inventory and the lifecycle look at them."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

from blocks.cluster import KubernetesCluster
from blocks.host import ContainerHost
from supply_chain.adapters.aws.session import AwsSession
from supply_chain.execution.environment import DockerEnvironment, Environment, KubernetesEnvironment
from supply_chain.fleet.hosts import CLUSTER, ClusterHost, EngineHost, Host


async def load_hosts(environments: Iterable[Environment], session: AwsSession) -> dict[str, Host]:
    """Return every container host and cluster of these environments, by name.

    `session` signs in to clusters. Raises `SettingInvalid` if a block is missing or invalid.
    """
    hosts: dict[str, Host] = {}
    every = tuple(environments)
    for name in sorted({each.host for each in every if isinstance(each, DockerEnvironment)}):
        host: ContainerHost = await ContainerHost.aload(name)
        hosts[name] = EngineHost(host.engine)
    for name in sorted({each.cluster for each in every if isinstance(each, KubernetesEnvironment)}):
        cluster: KubernetesCluster = await KubernetesCluster.aload(name)
        hosts[f"{CLUSTER}{name}"] = ClusterHost(name, partial(cluster.client, session))
    return hosts
