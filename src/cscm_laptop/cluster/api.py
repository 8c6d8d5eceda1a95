"""Read from the cluster's API server as its administrator, never through a proxy."""

from __future__ import annotations

import http.client
import json
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cscm_laptop.cluster.certificates import CLUSTER
from cscm_laptop.cluster.place import NODE
from supply_chain.errors import ComponentFailed
from supply_chain.model.image import Model

TIMEOUT = 5.0


class NodeState(Model):
    """What the API server says about the node."""

    name: str
    ready: bool
    why: str
    version: str = ""
    pods: int = 0


@dataclass(frozen=True)
class ClusterApi:
    """The API server at an address, and the directory with the administrator's certificate."""

    keys: Path
    address: str
    port: int

    def is_ready(self) -> bool:
        """Return whether the API server is ready, etcd included."""
        try:
            return self._get("/readyz")[0] == 200
        except (OSError, http.client.HTTPException):
            return False

    def has_default_account(self) -> bool:
        """Return whether pods of the namespace `default` can be created: the controllers made its service account."""
        try:
            return self._get("/api/v1/namespaces/default/serviceaccounts/default")[0] == 200
        except (OSError, http.client.HTTPException):
            return False

    def node(self) -> NodeState:
        """Return the state of the node; it is not ready if the API server does not answer."""
        try:
            status, body = self._get(f"/api/v1/nodes/{NODE}")
            pods = self._get("/api/v1/pods?fieldSelector=status.phase%3DRunning")[1] if status == 200 else b"{}"
        except (OSError, http.client.HTTPException) as error:
            return NodeState(name=NODE, ready=False, why=f"the API server does not answer: {error}")
        if status != 200:
            return NodeState(name=NODE, ready=False, why=f"the API server answered {status}")
        return read_node(json.loads(body), len(json.loads(pods).get("items", [])))

    def _get(self, path: str) -> tuple[int, bytes]:
        connection = http.client.HTTPSConnection(self.address, self.port, timeout=TIMEOUT, context=self._context())
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def _context(self) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=str(self.keys / f"{CLUSTER}.crt"))
        context.load_cert_chain(str(self.keys / "admin.crt"), str(self.keys / "admin.key"))
        return context


def read_node(document: dict[str, Any], pods: int) -> NodeState:
    """Return the state of a node from its object (core/v1 Node) and the number of running pods."""
    conditions = {each["type"]: each for each in document["status"].get("conditions", [])}
    ready = conditions.get("Ready", {"status": "Unknown", "message": "the kubelet has not reported yet"})
    pressed = [name for name, each in conditions.items() if name != "Ready" and each["status"] == "True"]
    return NodeState(
        name=document["metadata"]["name"],
        ready=ready["status"] == "True",
        why=", ".join(pressed) if ready["status"] == "True" else ready.get("message", ""),
        version=document["status"].get("nodeInfo", {}).get("kubeletVersion", ""),
        pods=pods,
    )


def require_ready(node: NodeState) -> None:
    """Raise `ComponentFailed` if the node takes no pods."""
    if not node.ready:
        raise ComponentFailed(
            f"The node {node.name} did not get ready: {node.why or 'it gives no reason'}.\n"
            "Look at kubelet.log and containerd.log in the cluster's log directory, then run `cscm cluster up` again."
        )
