"""The settings of the cluster: `cluster` in the laptop's profile."""

from __future__ import annotations

from ipaddress import IPv4Network
from typing import Annotated

from pydantic import Field, StringConstraints, model_validator

from supply_chain.model.image import Model

PARTS = (
    "api",
    "etcd",
    "etcd-peer",
    "controllers",
    "scheduler",
    "kubelet",
    "kubelet-health",
    "proxy-health",
    "proxy-metrics",
)
"""What listens on the cluster's ports, in their order."""
MASK = 24


class ClusterSettings(Model):
    """Ports, names and addresses of the cluster. Two clusters on one machine need different ones."""

    first_port: Annotated[int, Field(ge=1024, le=65535 - len(PARTS))] = Field(
        default=6443, description=f"the API server's port; the cluster uses {len(PARTS)} ports from here on"
    )
    bridge: Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9-]{0,14}$")] = Field(
        default="cscm-pods", description="the network interface of the pods' network, which `cscm cluster up` makes"
    )
    pods: IPv4Network = Field(
        default=IPv4Network("10.244.99.0/24"), description="the pods' addresses; the node has the first one"
    )
    services: IPv4Network = Field(default=IPv4Network("10.245.0.0/24"), description="the addresses of services")
    node_ports: Annotated[str, StringConstraints(pattern=r"^\d{4,5}-\d{4,5}$")] = Field(
        default="30000-30999", description="the ports of services of type NodePort, on the node's address"
    )

    @model_validator(mode="after")
    def _apart(self) -> ClusterSettings:
        if self.pods.overlaps(self.services):
            raise ValueError("pods and services need networks that do not overlap")
        if self.pods.prefixlen > MASK or self.services.prefixlen > MASK:
            raise ValueError(f"the networks of pods and services need at least 254 addresses each (/{MASK})")
        return self

    def port(self, part: str) -> int:
        """Return the port of a part of `PARTS`."""
        return self.first_port + PARTS.index(part)

    @property
    def node_address(self) -> str:
        """The node's address, which the bridge has."""
        return str(self.pods[1])

    @property
    def api_address(self) -> str:
        """The address of the service `kubernetes`, where pods reach the API server."""
        return str(self.services[1])
