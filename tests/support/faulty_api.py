"""The API server of a cluster behind a proxy that injects faults."""

from __future__ import annotations

import json
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from supply_chain.adapters.kubernetes.client import ClusterClient
from supply_chain.execution.kubernetes.cluster import FIELD_MANAGER
from tests.support.cluster_roles import DEPLOYER
from tests.support.fault_proxy import Fault, FaultProxy


@dataclass
class FaultyApi:
    """The API server behind a proxy that injects faults, and the credentials of the deployer."""

    proxy: FaultProxy
    kubeconfig: Path

    def connect(self) -> ClusterClient:
        """Return a client that the faults are injected into."""
        return ClusterClient.of_context(self.kubeconfig, "proxy")

    def connect_directly(self) -> ClusterClient:
        """Return a client without faults."""
        return ClusterClient.of_context(self.kubeconfig, "direct")


@contextmanager
def faulty_api(cluster: ClusterClient, namespace: str, directory: Path) -> Iterator[FaultyApi]:
    """Yield the API server of a cluster, to which the deployer of a namespace signs in, for an hour."""
    proxy = FaultProxy(cluster.address.removeprefix("https://"), ssl._create_unverified_context())
    token = directory / "token"
    deployer = cluster.for_service_account(namespace, DEPLOYER, FIELD_MANAGER, 3600)
    user = deployer.client.config.user
    assert user and isinstance(user.token, str)
    token.write_text(user.token)
    kubeconfig = directory / "kubeconfig"
    direct = {"server": cluster.address, "insecure-skip-tls-verify": True}
    contexts = {"proxy": {"server": f"http://{proxy.host}"}, "direct": direct}
    kubeconfig.write_text(json.dumps({
        "clusters": [{"name": name, "cluster": each} for name, each in contexts.items()],
        "users": [{"name": "deployer", "user": {"tokenFile": str(token)}}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": "deployer"}} for name in contexts],
    }))  # fmt: skip
    try:
        yield FaultyApi(proxy, kubeconfig)
    finally:
        proxy.stop()


def answer_status(code: int, message: str, reason: str = "") -> Fault:
    """Return a fault with which an API server answers."""
    body = {"apiVersion": "v1", "kind": "Status", "status": "Failure", "code": code, "message": message}
    content = json.dumps({**body, "reason": reason} if reason else body).encode()
    return Fault("", code, {"Content-Type": "application/json"}, content)
