"""The block of a Kubernetes cluster, on which environments run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import ClassVar, Self

from pydantic import Field, model_validator

from blocks.setting import Setting
from supply_chain.adapters.aws.eks import EksTokens, read_cluster
from supply_chain.adapters.aws.session import AwsSession
from supply_chain.adapters.kubernetes.client import ClusterClient
from supply_chain.execution.kubernetes.cluster import FIELD_MANAGER


class KubernetesCluster(Setting):
    """A Kubernetes cluster, and how the execution tier signs in to it."""

    _block_type_name: ClassVar[str] = "Supply Chain Kubernetes Cluster"
    _block_type_slug: ClassVar[str] = "supply-chain-kubernetes-cluster"
    _description: ClassVar[str] = (
        "The Kubernetes cluster in which environments run, and how the execution tier signs in to it."
    )

    kubeconfig: str = Field(
        default="",
        title="Kubeconfig",
        description="The path of a kubeconfig file on the worker's machine; empty: one of the fields below.",
    )
    context: str = Field(
        default="", title="Context", description="The context in the kubeconfig; empty: its current one."
    )
    in_cluster: bool = Field(
        default=False,
        title="In the cluster",
        description="Whether the worker is a pod of the cluster and signs in with its service account.",
    )
    eks: str = Field(
        default="",
        title="EKS cluster",
        description="The name of an EKS cluster, to which the role of the execution tier signs in.",
    )
    region: str = Field(default="", title="Region", description="The region of the EKS cluster; empty: the tier's own.")

    @model_validator(mode="after")
    def _check_one(self) -> Self:
        if sum(map(bool, (self.kubeconfig, self.in_cluster, self.eks))) != 1:
            raise ValueError("fill in exactly one of kubeconfig, in_cluster and eks")
        if self.context and not self.kubeconfig:
            raise ValueError("a context belongs to a kubeconfig")
        if self.region and not self.eks:
            raise ValueError("a region belongs to an EKS cluster")
        return self

    def client(self, session: AwsSession, manager: str = FIELD_MANAGER) -> ClusterClient:
        """Return a client of the cluster's API; `session` is of the execution tier's role.

        `manager` owns the fields that the client applies. Raises `SettingInvalid` if the credentials cannot be used.
        """
        if self.kubeconfig:
            return ClusterClient.of_context(Path(self.kubeconfig).expanduser(), self.context or None, manager)
        if self.in_cluster:
            return ClusterClient.in_cluster(manager)
        regional = replace(session, region=self.region or session.region)
        cluster = read_cluster(regional, self.eks)
        return ClusterClient.with_token(cluster.address, cluster.authority, EksTokens(regional, self.eks), manager)
