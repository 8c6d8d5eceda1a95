"""A client of a cluster's API, as `supply_chain.execution.kubernetes.cluster.Cluster` describes it."""

from __future__ import annotations

import contextlib
import json
import re
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import httpx2
import msgspec
import yaml
from lightkube.config.client_adapter import verify_cluster
from lightkube.config.kubeconfig import KubeConfig, SingleConfig
from lightkube.config.models import Cluster as Server
from lightkube.config.models import User
from lightkube.core.client import Client
from lightkube.core.exceptions import ApiError, ConfigError
from lightkube.core.generic_client import BasicRequest
from lightkube.generic_resource import Generic
from lightkube.models.authentication_v1 import TokenRequestSpec
from lightkube.models.meta_v1 import ObjectMeta, Status
from lightkube.resources.authentication_v1 import SelfSubjectReview
from lightkube.resources.core_v1 import PodLog, ServiceAccountToken
from lightkube.types import PatchType

from supply_chain.adapters.kubernetes.private_names import EPHEMERAL_CONTAINERS, Sender, find_sender, make_resource
from supply_chain.adapters.tls import share
from supply_chain.errors import (
    ClusterConflict,
    ClusterRefused,
    ClusterUnavailable,
    SettingInvalid,
    SupplyChainError,
)
from supply_chain.execution.kubernetes.cluster import (
    FIELD_MANAGER,
    Change,
    Document,
    Kind,
    Listing,
    VersionGone,
    WatchEventType,
)

TIMEOUT = 10.0
"""Seconds for a connection, and for each part of an answer."""
ALL_NAMESPACES = "*"
BUSY = {408, 410, 429, 500, 502, 503, 504}
"""Statuses with which a cluster asks to try later; 410: the rest of a long list expired meanwhile."""
UNAUTHENTICATED = 401
GONE = 410
"""The status for a version whose changes, or whose further pages, the cluster no longer has."""
PAGE = "500"
"""Objects in a page of a list."""
ATTEMPTS = 3
UNKNOWN_KIND = (404, "404 page not found")
"""The answer about a kind that a cluster does not have; that about a missing object is JSON."""
METADATA = "application/json;as={};g=meta.k8s.io;v=v1"
"""The media type of objects with nothing but metadata."""
WARNING = re.compile(r'299 \S+ "((?:[^"\\]|\\.)*)"')
"""A warning in the header `Warning` (RFC 7234, 5.5)."""
LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"


@dataclass(frozen=True)
class TokenTransport(httpx2.BaseTransport):
    """Sends requests with a bearer token."""

    transport: httpx2.BaseTransport
    token: Callable[[], str]

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send a request with the token."""
        request.headers["Authorization"] = f"Bearer {self.token()}"
        return self.transport.handle_request(request)

    def close(self) -> None:
        """Close the connections."""
        self.transport.close()


@dataclass(frozen=True)
class ClusterClient:
    """A client of a cluster's API. `address` is the API server's, for errors."""

    client: Client
    address: str

    @classmethod
    def of_context(cls, kubeconfig: Path, context: str | None, manager: str = FIELD_MANAGER) -> ClusterClient:
        """Return a client for a context of a kubeconfig file; None is its current context.

        Raises `SettingInvalid` if the file has no such context or is not readable.
        """
        with _translate_configuration(f"the kubeconfig {kubeconfig}"):
            config = KubeConfig.from_file(kubeconfig).get(context)
            assert config  # `get` raises without a context
            return cls(_connect(config, manager), config.cluster.server)

    @classmethod
    def in_cluster(cls, manager: str = FIELD_MANAGER) -> ClusterClient:
        """Return a client with the service account of the pod in which this runs.

        Raises `SettingInvalid` outside of a pod.
        """
        with _translate_configuration("the service account of a pod"):
            config = KubeConfig.from_service_account().get()
            assert config
            return cls(_connect(config, manager), config.cluster.server)

    @classmethod
    def with_token(
        cls, address: str, authority: str, token: Callable[[], str], manager: str = FIELD_MANAGER
    ) -> ClusterClient:
        """Return a client that presents `token()` with each request to a server of the authority (PEM)."""
        with _translate_configuration(f"the certificate authority of {address}"):
            server = Server(server=address, certificate_auth_data=b64encode(authority.encode()).decode())
            config = KubeConfig.from_one(cluster=server, user=User()).get()
            assert config
            return cls(_connect(config, manager, TokenTransport(_open_transport(config), token)), address)

    def for_service_account(self, namespace: str, name: str, manager: str, seconds: int) -> ClusterClient:
        """Return a client with a token of a service account, which is valid for so many seconds, at least 600."""
        request = ServiceAccountToken(
            metadata=ObjectMeta(), spec=TokenRequestSpec(audiences=[], expirationSeconds=seconds)
        )
        with self._translate(f"get a token of the service account {namespace}/{name}"):
            reply = self.client.create(request, name, namespace=namespace)
        assert reply.status
        user = self.client.config._replace(user=User(token=reply.status.token))
        return ClusterClient(_connect(user, manager), self.address)

    def read_identity(self) -> str:
        """Return the user name of this client, as `Cluster` describes."""
        with self._translate("learn by which name it is known"):
            review = self.client.create(SelfSubjectReview(metadata=ObjectMeta()))
        assert review.status and review.status.userInfo
        return review.status.userInfo.username or ""

    def apply(self, kind: Kind, document: Document, *, dry_run: bool = False, force: bool = False) -> Document:
        """Apply an object, as `Cluster` describes."""
        name, namespace = _identity(document)
        with self._translate(f"apply {kind.name} {name}"):
            reply: Generic = self.client.apply(
                make_resource(kind)(document), name, namespace=namespace or None, dry_run=dry_run, force=force
            )
        return reply

    def take_over(self, kind: Kind, document: Document, manager: str) -> Document:
        """Apply some fields as another field manager, as `Cluster` describes."""
        name, namespace = _identity(document)
        with self._translate(f"apply {kind.name} {name}"):
            reply: Generic = self.client.apply(
                make_resource(kind)(document), name, namespace=namespace or None, field_manager=manager, force=True
            )
        return reply

    def patch(self, kind: Kind, name: str, change: Mapping[str, Any], namespace: str = "") -> Document | None:
        """Change an object, as `Cluster` describes."""
        with self._translate(f"change {kind.name} {name}"):
            try:
                reply: Generic = self.client.patch(
                    make_resource(kind), name, dict(change), namespace=namespace or None, patch_type=PatchType.MERGE
                )
            except ApiError as error:
                if error.status.code != 404:
                    raise
                return None
        return reply

    def create(self, kind: Kind, document: Document, *, dry_run: bool = False) -> Document:
        """Make an object and return it; raise `ClusterConflict` if there is one of this name."""
        name, namespace = _identity(document)
        with self._translate(f"make {kind.name} {name}"):
            reply: Generic = self.client.create(
                make_resource(kind)(document), namespace=namespace or None, dry_run=dry_run
            )
        return reply

    def list_warnings(self, kind: Kind, document: Document) -> tuple[str, ...]:
        """Return the warnings with which the cluster would make an object."""
        name, namespace = _identity(document)
        with self._translate(f"try {kind.name} {name}"):
            request = self._sender.prepare_request(
                "post", obj=make_resource(kind)(document), namespace=namespace or None, params={"dryRun": "All"}
            )
            answer = self._sender.send(self._build(request))
            _raise_for_status(answer)
        warnings = WARNING.findall(", ".join(answer.headers.get_list("Warning")))
        return tuple(re.sub(r"\\(.)", r"\1", each) for each in warnings)

    def replace(self, kind: Kind, document: Document, *, dry_run: bool = False) -> Document:
        """Replace an object and return it; raise `ClusterConflict` if it has another `resourceVersion` than given."""
        name, namespace = _identity(document)
        with self._translate(f"replace {kind.name} {name}"):
            reply: Generic = self.client.replace(
                make_resource(kind)(document), name, namespace=namespace or None, dry_run=dry_run
            )
        return reply

    def read(self, kind: Kind, name: str, namespace: str = "") -> Document | None:
        """Return an object, as `Cluster` describes."""
        with self._translate(f"read {kind.name} {name}"):
            try:
                reply: Generic = self.client.get(make_resource(kind), name, namespace=namespace or None)
            except ApiError as error:
                if error.status.code != 404:
                    raise
                return None
            except httpx2.HTTPStatusError as error:
                if (error.response.status_code, error.response.text.strip()) != UNKNOWN_KIND:
                    raise
                return None
        return reply

    def list(self, kind: Kind, namespace: str = "", labels: Mapping[str, str] | None = None) -> tuple[Document, ...]:
        """Return all objects with these labels, as `Cluster` describes."""
        return self._list(
            kind, namespace, labelSelector=",".join(f"{k}={v}" for k, v in (labels or {}).items())
        ).objects

    def list_at(self, kind: Kind, namespace: str = "", *, metadata_only: bool = False) -> Listing:
        """Return all objects and their version, as `Cluster` describes."""
        return self._list(kind, namespace, metadata_only, bare=True)

    def _list(
        self, kind: Kind, namespace: str, metadata_only: bool = False, bare: bool = False, **params: str
    ) -> Listing:
        with self._translate(f"list {kind.plural}"):
            for _ in range(ATTEMPTS - 1):
                with contextlib.suppress(_PagesGone):
                    return self._list_pages(self._request(kind, namespace, metadata_only, limit=PAGE, **params), bare)
            return self._list_pages(self._request(kind, namespace, metadata_only, limit=PAGE, **params), bare)

    def _list_pages(self, request: BasicRequest, bare: bool) -> Listing:
        objects: list[Document] = []
        version = ""
        for page in self._pages(request):
            items = page.items or ()
            objects += map(_without_bookkeeping, items) if bare else items
            version = page.metadata.resourceVersion
        return Listing(tuple(objects), version)

    def _pages(self, request: BasicRequest) -> Iterator[_Page]:
        while True:
            answer = self._sender.send(self._build(request))
            if answer.status_code == GONE and "continue" in request.params:
                raise _PagesGone(answer.request, answer)
            _raise_for_status(answer)
            page = PAGES.decode(answer.content)
            yield page
            if not page.metadata.continue_:
                return
            request.params["continue"] = page.metadata.continue_

    def watch(
        self, kind: Kind, namespace: str, version: str, seconds: int, *, metadata_only: bool = False
    ) -> Iterator[Change]:
        """Yield the changes, as `Cluster` describes."""
        request = self._request(
            kind, namespace, metadata_only, watch="true", allowWatchBookmarks="true", resourceVersion=version,
            timeoutSeconds=str(seconds),
        )  # fmt: skip
        request.timeout = httpx2.Timeout(TIMEOUT, read=seconds + TIMEOUT)
        with self._translate(f"watch {kind.plural}"):
            answer = self._sender.send(self._build(request), stream=True)
            try:
                if answer.is_error:
                    answer.read()
                _raise_for_status(answer)
                for line in answer.iter_lines():
                    yield _read_change(line)
            except ApiError as error:
                if error.status.code != GONE:
                    raise
                raise VersionGone(error.status.message) from error
            finally:
                answer.close()

    def _request(self, kind: Kind, namespace: str, metadata_only: bool, **params: str) -> BasicRequest:
        where = (namespace or ALL_NAMESPACES) if kind.namespaced else None
        watch = "watch" in params
        form = "PartialObjectMetadata" if watch else "PartialObjectMetadataList"
        accept = METADATA.format(form) if metadata_only else "application/json"
        return self._sender.prepare_request(
            "list", make_resource(kind), namespace=where, watch=watch, params=params, headers={"Accept": accept}
        )

    def _build(self, request: BasicRequest) -> httpx2.Request:
        return self._sender.build_adapter_request(request)

    @property
    def _sender(self) -> Sender:
        """What sends the requests for which the client has no method."""
        return find_sender(self.client)

    def scan(self, kind: Kind, namespace: str = "") -> Iterator[Document]:
        """Yield all objects, as `Cluster` describes."""
        with self._translate(f"list {kind.plural}"):
            for page in self._pages(self._request(kind, namespace, metadata_only=False, limit=PAGE)):
                yield from page.items or ()

    def delete(self, kind: Kind, name: str, namespace: str = "") -> None:
        """Delete an object, as `Cluster` describes."""
        with self._translate(f"delete {kind.name} {name}"):
            try:
                self.client.delete(make_resource(kind), name, namespace=namespace or None)
            except ApiError as error:
                if error.status.code != 404:
                    raise

    def logs(self, namespace: str, pod: str, container: str, lines: int, *, previous: bool = False) -> str:
        """Return the last lines of a container, as `Cluster` describes; the client itself has no `previous`."""
        parameters = {"container": container, "tailLines": lines, "previous": previous}
        with self._translate(f"read the log of {pod}"):
            answer = self._sender.send(
                self._build(
                    self._sender.prepare_request("get", PodLog, name=pod, namespace=namespace, params=parameters)
                )
            )
            _raise_for_status(answer)
            return answer.content.decode(errors="replace")

    def add_ephemeral_container(self, namespace: str, pod: str, container: Mapping[str, Any]) -> None:
        """Add an ephemeral container, as `Cluster` describes."""
        change = {"spec": {"ephemeralContainers": [dict(container)]}}
        with self._translate(f"add {container['name']} to {pod}"):
            self.client.patch(EPHEMERAL_CONTAINERS, pod, change, namespace=namespace, patch_type=PatchType.STRATEGIC)

    @contextlib.contextmanager
    def _translate(self, doing: str) -> Iterator[None]:
        """Translate the client's errors to the project's; `doing` completes "could not …"."""
        try:
            yield
        except ApiError as error:
            details = error.status.details
            causes = {cause.reason or "" for cause in (details.causes if details else None) or ()}
            raise self._refusal(error.status.code or 0, error.status.message or "", causes, doing) from error
        except httpx2.HTTPStatusError as error:
            raise self._refusal(error.response.status_code, error.response.text[:500], set(), doing) from error
        except httpx2.HTTPError as error:
            raise ClusterUnavailable(
                f"Could not {doing}, because the cluster at {self.address} did not answer: "
                f"{str(error) or type(error).__name__}\nCheck the address in the cluster's block, and the network."
            ) from error
        except ConfigError as error:
            raise SettingInvalid(
                f"The credentials for the cluster at {self.address} cannot be used: {error}\nCorrect the kubeconfig."
            ) from error
        except (KeyError, msgspec.MsgspecError, json.JSONDecodeError) as error:
            raise ClusterUnavailable(
                f"Could not {doing}, because the answer from {self.address} is not one of Kubernetes' API: {error!r}\n"
                "Check the address in the cluster's block, and check for a proxy or a load balancer in between."
            ) from error

    def _refusal(self, status: int, message: str, causes: set[str], doing: str) -> SupplyChainError:
        if status in BUSY:
            return ClusterUnavailable(
                f"The cluster at {self.address} could not {doing} now ({status}): {message}\nThe step is retried."
            )
        if status == UNAUTHENTICATED:
            return ClusterRefused(
                f"Could not {doing}, because the cluster at {self.address} rejected the credentials (401): {message}\n"
                "They expired or were revoked: renew them in the kubeconfig or the cluster's block."
            )
        if "FieldManagerConflict" in causes or status == 409:
            return ClusterConflict(
                f"Could not {doing}, because somebody else changed what the chain deploys: {message}\n"
                "Find out who did, and remove the other value or the other manager of the field."
            )
        return ClusterRefused(
            f"The cluster at {self.address} refused to {doing} ({status}): {message}\n"
            "The message says which policy, permission, quota or webhook refused it; correct that."
        )


class _PageMetadata(msgspec.Struct):
    resourceVersion: str = ""  # noqa: N815 - the API's name
    continue_: str = msgspec.field(name="continue", default="")


class _Page(msgspec.Struct):
    """A page of a list of objects."""

    metadata: _PageMetadata
    items: list[dict[str, Any]] | None = None
    """Null for an empty list of metadata only."""


class _Event(msgspec.Struct):
    """A line of a watch."""

    type: str
    object: dict[str, Any]


class _PagesGone(ApiError):
    """The next page of a list was asked for too late."""


def _raise_for_status(answer: httpx2.Response) -> None:
    """Raise `ApiError`, with what the cluster says, or `HTTPStatusError` if the answer is an error."""
    if answer.is_error and answer.headers.get("Content-Type") == "application/json":
        raise ApiError(answer.request, answer)
    answer.raise_for_status()


PAGES, EVENTS = msgspec.json.Decoder(_Page), msgspec.json.Decoder(_Event)
Status.from_dict({})
"""Here, because msgspec 0.22 crashes if several threads decode a type for the first time."""


def _read_change(line: str) -> Change:
    """Return the change in a line of a watch; raise `ApiError` for an error of the cluster."""
    event = EVENTS.decode(line)
    if event.type == "ERROR":
        raise ApiError(status=msgspec.convert(event.object, Status))
    document = _without_bookkeeping(event.object)
    return Change(WatchEventType(event.type), document, document["metadata"]["resourceVersion"])


def _without_bookkeeping(document: dict[str, Any]) -> Document:
    """Return an object without what makes up half of it: who owns which field, and what was last applied."""
    metadata = document["metadata"]
    metadata.pop("managedFields", None)
    metadata.get("annotations", {}).pop(LAST_APPLIED, None)
    return document


def _connect(config: SingleConfig, manager: str, transport: httpx2.BaseTransport | None = None) -> Client:
    return Client(
        config=config,
        timeout=httpx2.Timeout(TIMEOUT),
        field_manager=manager,
        transport=transport or _open_transport(config),
    )


def _open_transport(config: SingleConfig) -> httpx2.HTTPTransport:
    """Return connections to a cluster, whose TLS threads share, through the proxy of the environment if it names one.

    The client itself would make the same ones, but its TLS could only be reached through private names.
    """
    assert config.user
    authorities = share(verify_cluster(config.cluster, config.user, config.abs_file))
    return httpx2.HTTPTransport(verify=authorities, proxy=_find_proxy(config.cluster.server))


def _find_proxy(server: str) -> str | None:
    where = urlsplit(server)
    if proxy_bypass(where.netloc):
        return None
    proxy = getproxies().get(where.scheme) or getproxies().get("all")
    return proxy if not proxy or "://" in proxy else f"http://{proxy}"


@contextlib.contextmanager
def _translate_configuration(what: str) -> Iterator[None]:
    try:
        yield
    except (ConfigError, KeyError, TypeError, OSError, AssertionError, msgspec.MsgspecError, yaml.YAMLError) as error:
        raise SettingInvalid(
            f"{what} cannot be used to reach a cluster: {str(error) or type(error).__name__}\n"
            "Correct the block of the cluster, or the file."
        ) from error


def _identity(document: Document) -> tuple[str, str]:
    metadata = document["metadata"]
    return metadata["name"], metadata.get("namespace", "")
