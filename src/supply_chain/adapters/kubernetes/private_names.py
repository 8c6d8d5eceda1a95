"""What the client of a cluster uses of lightkube and lightkube does not publish.

Its public methods have no bookmarks, no lists of metadata only, no timeout of a watch, no headers of an answer, no log
of an earlier container, and no objects as JSON for kinds that it has models of. No other module uses these names. They
can change in every release; one that is missing is an error that names the version.
"""

from __future__ import annotations

from functools import cache
from importlib.metadata import version
from typing import Any, Protocol, cast

import httpx2
from lightkube.core.client import Client
from lightkube.core.generic_client import BasicRequest
from lightkube.core.resource import GlobalResource, NamespacedResourceG, NamespacedSubResource
from lightkube.generic_resource import Generic, create_api_info
from lightkube.resources.core_v1 import PodEphemeralcontainers

from supply_chain.errors import ToolMissing
from supply_chain.execution.kubernetes.cluster import Kind

WRITTEN_FOR = "1.0.1"
"""The version of lightkube that has all that is used here, as requirements.lock names it."""


class Sender(Protocol):
    """Makes and sends requests by the connections of a client."""

    def prepare_request(self, method: str, *words: Any, **named: Any) -> BasicRequest:
        """Return a request for a kind of objects."""

    def build_adapter_request(self, br: BasicRequest) -> httpx2.Request:
        """Return the HTTP request of a request."""

    def send(self, req: httpx2.Request, stream: bool = False) -> httpx2.Response:
        """Send a request; raise httpx2's errors."""


def find_sender(client: Client) -> Sender:
    """Return what sends the requests of a client; raise `ToolMissing` if this version of lightkube has no such part."""
    sender = read_private(client, "_client")
    for method in ("prepare_request", "build_adapter_request", "send"):
        read_private(sender, method)
    return cast("Sender", sender)


def read_private(holder: object, name: str) -> Any:
    """Return an attribute; raise `ToolMissing` if this version of lightkube does not have it."""
    try:
        return getattr(holder, name)
    except AttributeError as error:
        raise ToolMissing(
            f"lightkube {version('lightkube')} cannot be used: {error}. The client of clusters was written for "
            f"{WRITTEN_FOR}.\nInstall the version that requirements.lock names: run `cscm up`."
        ) from error


@cache
def make_resource(kind: Kind) -> Any:
    """Return the client's class of a kind, which has objects as JSON, with fields that no model has too."""
    group, _, api_version = kind.api_version.rpartition("/")
    base = NamespacedResourceG if kind.namespaced else GlobalResource
    info = create_api_info(group, api_version, kind.name, kind.plural)
    return type(kind.name, (base, Generic), {"_api_info": info})


EPHEMERAL_CONTAINERS: Any = type(
    "PodEphemeralcontainers",
    (NamespacedSubResource, Generic),
    {"_api_info": read_private(PodEphemeralcontainers, "_api_info")},
)
"""The subresource of a pod, with its answer as JSON: several threads decode it."""
