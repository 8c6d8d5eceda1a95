"""The client of a cluster's API: requests and error translation, with an HTTP transport in memory."""

import json
import ssl
from typing import Any

import httpx2
import pytest
from lightkube.config.kubeconfig import KubeConfig
from lightkube.config.models import Cluster, User

from supply_chain.adapters.kubernetes.client import ClusterClient, TokenTransport, _connect
from supply_chain.errors import ClusterConflict, ClusterRefused, ClusterUnavailable, SettingInvalid
from supply_chain.execution.kubernetes.cluster import (
    DEPLOYMENTS,
    FIELD_MANAGER,
    NAMESPACES,
    PODS,
    REPLICA_SETS,
    Change,
    VersionGone,
    WatchEventType,
)

ADDRESS = "https://cluster.test"
DEPLOYMENT = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "hello", "namespace": "staging"}}


def client(answer):
    config = KubeConfig.from_one(cluster=Cluster(server=ADDRESS), user=User()).get()
    assert config
    return ClusterClient(_connect(config, FIELD_MANAGER, httpx2.MockTransport(answer)), ADDRESS)


def status(code, message, **more):
    return httpx2.Response(code, json={"kind": "Status", "code": code, "message": message, **more})


def test_client_applies_with_own_field_manager_and_without_force():
    """Force would take fields from whoever else owns them."""
    requests = []

    def answer(request):
        requests.append(request)
        return httpx2.Response(200, json={**DEPLOYMENT, "spec": {"unheard": 1}})

    found = client(answer).apply(DEPLOYMENTS, DEPLOYMENT, dry_run=True)

    request = requests[0]
    assert request.url.path == "/apis/apps/v1/namespaces/staging/deployments/hello"
    assert (request.url.params["fieldManager"], request.url.params["dryRun"]) == ("cscm", "All")
    assert request.url.params.get("force") != "true"
    assert request.headers["Content-Type"] == "application/apply-patch+yaml"
    assert json.loads(request.content) == DEPLOYMENT
    assert found["spec"] == {"unheard": 1}


def test_client_reads_its_own_identity_from_cluster():
    """The cluster knows it, whatever signed in."""
    requests = []

    def answer(request):
        requests.append(request)
        return httpx2.Response(201, json={"metadata": {}, "status": {"userInfo": {"username": "cscm-execution"}}})

    assert client(answer).read_identity() == "cscm-execution"
    assert (requests[0].method, requests[0].url.path) == ("POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews")


def test_client_takes_over_fields_as_named_manager():
    """Only so does a field go from one manager to another."""
    requests = []

    def answer(request):
        requests.append(request)
        return httpx2.Response(200, json=DEPLOYMENT)

    client(answer).take_over(DEPLOYMENTS, DEPLOYMENT, "other")

    assert (requests[0].url.params["fieldManager"], requests[0].url.params["force"]) == ("other", "true")
    assert requests[0].headers["Content-Type"] == "application/apply-patch+yaml"


def test_client_returns_warnings_of_trial():
    """Several come in headers of their own; nothing is stored."""
    requests = []
    texts = [r'299 - "would violate PodSecurity \"restricted:latest\": hostPID"', '299 - "deprecated, soon"']

    def answer(request):
        requests.append(request)
        return httpx2.Response(201, json=DEPLOYMENT, headers=[("Warning", text) for text in texts])

    found = client(answer).list_warnings(DEPLOYMENTS, DEPLOYMENT)

    assert found == ('would violate PodSecurity "restricted:latest": hostPID', "deprecated, soon")
    assert (requests[0].method, requests[0].url.params["dryRun"]) == ("POST", "All")
    assert json.loads(requests[0].content) == DEPLOYMENT
    assert client(lambda _: httpx2.Response(201, json=DEPLOYMENT)).list_warnings(DEPLOYMENTS, DEPLOYMENT) == ()
    with pytest.raises(ClusterRefused):
        client(lambda _: status(403, "no")).list_warnings(DEPLOYMENTS, DEPLOYMENT)


def test_read_returns_none_for_missing_object():
    """A missing object is an answer."""
    absent = client(lambda _: status(404, 'pods "a" not found', reason="NotFound"))

    assert absent.read(PODS, "a", "staging") is None
    absent.delete(PODS, "a", "staging")


def test_read_returns_none_for_kind_that_cluster_lacks():
    """A cluster without Kyverno does not know its policies; another text is not from a cluster."""
    assert client(lambda _: httpx2.Response(404, text="404 page not found\n")).read(PODS, "a") is None

    for answer in (httpx2.Response(404, text="<html>"), httpx2.Response(403, text="404 page not found\n")):
        with pytest.raises(ClusterRefused):
            client(lambda _, answer=answer: answer).read(PODS, "a")


def test_client_lists_all_pages():
    """A long list comes in parts."""

    def answer(request):
        second = "continue" in request.url.params
        items = [{"metadata": {"name": "b" if second else "a"}}]
        return httpx2.Response(200, json={"metadata": {} if second else {"continue": "next"}, "items": items})

    assert [pod["metadata"]["name"] for pod in client(answer).list(PODS)] == ["a", "b"]
    assert [pod["metadata"]["name"] for pod in client(answer).list(PODS, "staging", {"a": "b"})] == ["a", "b"]


def test_client_reads_next_page_once_it_is_needed():
    """The pods of a large cluster are never held at once; a list that expired meanwhile is read again later."""
    requests = []

    def answer(request):
        requests.append(request)
        if "continue" in request.url.params:
            return status(410, "The provided continue parameter is too old", reason="Expired")
        return httpx2.Response(200, json={"metadata": {"continue": "next"}, "items": [{"metadata": {"name": "a"}}]})

    pods = client(answer).scan(PODS)

    assert next(pods)["metadata"]["name"] == "a"
    assert [request.url.path for request in requests] == ["/api/v1/pods"]
    assert int(requests[0].url.params["limit"]) <= 500
    with pytest.raises(ClusterUnavailable):
        next(pods)


def test_client_reads_kinds_without_namespace():
    """A namespace is in no namespace."""
    paths = []

    def answer(request):
        paths.append(request.url.path)
        return httpx2.Response(200, json={"metadata": {"name": "staging"}})

    client(answer).read(NAMESPACES, "staging")

    assert paths == ["/api/v1/namespaces/staging"]


@pytest.mark.parametrize(
    ("answer", "error", "message"),
    [
        (status(403, "violates PodSecurity", reason="Forbidden"), ClusterRefused, "violates PodSecurity"),
        (status(422, "spec: Required", reason="Invalid"), ClusterRefused, "spec: Required"),
        (status(401, "Unauthorized"), ClusterRefused, "rejected the credentials .*: Unauthorized\nThey expired"),
        (status(404, 'namespaces "a" not found'), ClusterRefused, "not found"),
        (
            status(409, "conflict with manager", details={"causes": [{"reason": "FieldManagerConflict"}]}),
            ClusterConflict,
            "conflict with manager",
        ),
        (status(500, "etcd leader changed"), ClusterUnavailable, "etcd leader changed"),
        (httpx2.Response(429, text="Too many", headers={"Content-Type": "text/plain"}), ClusterUnavailable, "Too many"),
        (httpx2.Response(503), ClusterUnavailable, "is not one of Kubernetes"),
        (httpx2.Response(200, text="<html>"), ClusterUnavailable, "is not one of Kubernetes"),
        (httpx2.Response(400, json=[]), ClusterUnavailable, "is not one of Kubernetes"),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else "",
)
def test_client_translates_answers(answer, error, message):
    """A refusal is final; what another try may change is retried."""
    with pytest.raises(error, match=message) as raised:
        client(lambda _: answer).apply(DEPLOYMENTS, DEPLOYMENT)

    assert type(raised.value) is error
    assert raised.value.retryable is (error is ClusterUnavailable)


def test_client_reports_cluster_that_does_not_answer():
    """Nothing is known then, in particular not that an object is missing."""

    def answer(_):
        raise httpx2.ConnectError("refused")

    with pytest.raises(ClusterUnavailable, match="did not answer"):
        client(answer).read(PODS, "a", "staging")


def test_token_is_presented_with_each_request():
    """A token of EKS ends after 15 minutes."""
    tokens, presented = iter("ab"), []

    def answer(request):
        presented.append(request.headers["Authorization"])
        return httpx2.Response(200)

    with httpx2.Client(transport=TokenTransport(httpx2.MockTransport(answer), lambda: next(tokens))) as http:
        http.get(ADDRESS)
        http.get(ADDRESS)

    assert presented == ["Bearer a", "Bearer b"]


def test_client_refuses_unusable_kubeconfig(tmp_path):
    """A typing mistake is the operator's to correct."""
    config = tmp_path / "config"
    with pytest.raises(SettingInvalid, match="not found"):
        ClusterClient.of_context(config, None)
    config.write_text("clusters: [{name: a, cluster: {server: https://a}}]\ncontexts: []\n")
    with pytest.raises(SettingInvalid, match="Context 'b' not found"):
        ClusterClient.of_context(config, "b")
    config.write_text("[")
    with pytest.raises(SettingInvalid):
        ClusterClient.of_context(config, None)
    with pytest.raises(SettingInvalid):
        ClusterClient.with_token(ADDRESS, "no PEM", lambda: "")
    with pytest.raises(SettingInvalid):
        ClusterClient.in_cluster()


def test_client_uses_context_of_kubeconfig(tmp_path):
    """The address is the one of the context's cluster."""
    config = tmp_path / "config"
    config.write_text(
        "clusters: [{name: a, cluster: {server: https://a, insecure-skip-tls-verify: true}}]\n"
        "users: [{name: u, user: {token: t}}]\n"
        "contexts: [{name: c, context: {cluster: a, user: u}}]\n"
    )

    assert ClusterClient.of_context(config, "c").address == "https://a"


def test_threads_share_the_tls_of_a_client(monkeypatch):
    """Several lists are read at once, each on a connection of its own."""
    opened = open_transports(monkeypatch)
    config = KubeConfig.from_one(cluster=Cluster(server=ADDRESS, insecure=True), user=User()).get()
    assert config

    _connect(config, FIELD_MANAGER)

    (options,) = opened
    context = options["verify"]
    assert context.verify_mode is ssl.CERT_NONE and not context.check_hostname, "it is that of the kubeconfig"
    with pytest.raises(AssertionError):  # nobody changes what other threads use
        context.set_alpn_protocols(["h2"])


def open_transports(monkeypatch) -> list[dict[str, Any]]:
    """Return the options of the connections that are opened from now on."""
    opened: list[dict[str, Any]] = []

    def transport(**options):
        opened.append(options)
        return httpx2.MockTransport(lambda _: httpx2.Response(200))

    monkeypatch.setattr(httpx2, "HTTPTransport", transport)
    return opened


@pytest.mark.parametrize(
    ("variables", "proxy"),
    [
        ({}, None),
        ({"HTTPS_PROXY": "http://proxy.test:3128"}, "http://proxy.test:3128"),
        ({"https_proxy": "proxy.test:3128"}, "http://proxy.test:3128"),
        ({"ALL_PROXY": "http://proxy.test:1"}, "http://proxy.test:1"),
        ({"HTTP_PROXY": "http://proxy.test:1"}, None),
        ({"HTTPS_PROXY": "http://proxy.test:1", "NO_PROXY": "other,cluster.test"}, None),
        ({"HTTPS_PROXY": "http://proxy.test:1", "NO_PROXY": "*"}, None),
    ],
    ids=str,
)
def test_client_uses_proxy_of_environment(monkeypatch, variables, proxy):
    """As curl does."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    opened = open_transports(monkeypatch)
    config = KubeConfig.from_one(cluster=Cluster(server=f"{ADDRESS}:6443", insecure=True), user=User()).get()
    assert config

    _connect(config, FIELD_MANAGER)

    assert [each["proxy"] for each in opened] == [proxy]


def test_client_applies_with_force_and_changes_by_merge_patch():
    """An isolation takes fields from whoever owns them; a missing object is an answer."""
    requests = []

    def answer(request):
        requests.append(request)
        return status(404, "not found") if request.url.path.endswith("gone") else httpx2.Response(200, json=DEPLOYMENT)

    found = client(answer)
    found.apply(DEPLOYMENTS, DEPLOYMENT, force=True)
    change = {"metadata": {"labels": {"a": None}}}

    assert found.patch(PODS, "a", change, "staging") == DEPLOYMENT
    assert found.patch(PODS, "gone", change, "staging") is None
    assert requests[0].url.params["force"] == "true"
    assert requests[1].headers["Content-Type"] == "application/merge-patch+json"
    assert json.loads(requests[1].content) == change
    with pytest.raises(ClusterRefused):
        client(lambda _: status(403, "forbidden", reason="Forbidden")).patch(PODS, "a", change, "staging")


def pod(name, version):
    return {"metadata": {"name": name, "resourceVersion": version}}


def lines(*events, lost=False):
    """Return an answer that has these events of a watch, and then ends or loses its connection."""

    def stream():
        for kind, document in events:
            yield json.dumps({"type": kind, "object": document}).encode() + b"\n"
        if lost:
            raise httpx2.RemoteProtocolError("peer closed connection")

    return httpx2.Response(200, content=stream())


def test_list_returns_version_and_omits_managed_fields():
    """Who owns which field makes up half of an object."""
    metadata = {
        "name": "a",
        "managedFields": [{}],
        "annotations": {"kubectl.kubernetes.io/last-applied-configuration": ""},
    }
    items = [{"metadata": metadata}]
    listed = client(
        lambda _: httpx2.Response(200, json={"metadata": {"resourceVersion": "7"}, "items": items})
    ).list_at(PODS)

    assert (listed.version, listed.objects) == ("7", ({"metadata": {"name": "a", "annotations": {}}},))


def test_metadata_list_requests_partial_objects():
    """A ReplicaSet has a template as large as its Deployment's."""
    asked = []

    def answer(request):
        asked.append(request.headers["Accept"])
        return httpx2.Response(200, json={"metadata": {"resourceVersion": "7"}, "items": []})

    client(answer).list_at(REPLICA_SETS, "staging", metadata_only=True)

    assert asked == ["application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"]


def test_list_starts_again_if_continue_token_expired():
    """The cluster keeps them for some minutes."""
    pages = []

    def answer(request):
        token = request.url.params.get("continue")
        pages.append(token)
        if token and len(pages) == 2:
            return status(410, "the provided continue parameter is too old", reason="Expired")
        following = {} if token else {"continue": "next"}
        return httpx2.Response(200, json={"metadata": {"resourceVersion": "7", **following}, "items": [pod("a", "1")]})

    assert len(client(answer).list_at(PODS, "staging").objects) == 2
    assert pages == [None, "next", None, "next"]


def test_watch_yields_changes_and_bookmarks_since_version():
    """A bookmark has a version and nothing else."""
    asked = []

    def answer(request):
        asked.append(request.url.params)
        return lines(
            ("ADDED", pod("a", "8")), ("DELETED", pod("a", "9")), ("BOOKMARK", {"metadata": {"resourceVersion": "12"}})
        )

    changes = [*client(answer).watch(PODS, "staging", "7", 30)]

    assert changes == [
        Change(WatchEventType.ADDED, pod("a", "8"), "8"),
        Change(WatchEventType.DELETED, pod("a", "9"), "9"),
        Change(WatchEventType.BOOKMARK, {"metadata": {"resourceVersion": "12"}}, "12"),
    ]
    wanted = {"watch": "true", "allowWatchBookmarks": "true", "resourceVersion": "7", "timeoutSeconds": "30"}
    assert wanted.items() <= dict(asked[0]).items()


GONE = {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old resource version: 7 (900)"}


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (lambda: lines(("ADDED", pod("a", "8")), ("ERROR", GONE)), VersionGone),
        (lambda: status(410, "too old resource version"), VersionGone),
        (lambda: lines(("ADDED", pod("a", "8")), lost=True), ClusterUnavailable),
        (lambda: httpx2.Response(200, content=b'{"type": "ADDED", "obj'), ClusterUnavailable),
        (lambda: status(403, "pods is forbidden"), ClusterRefused),
    ],
    ids=["gone in the stream", "gone", "lost", "cut", "refused"],
)
def test_watch_translates_its_end(answer, error):
    """What the cluster still has is resumed, what it has no longer is listed again."""
    with pytest.raises(error) as raised:
        [*client(lambda _: answer()).watch(PODS, "staging", "7", 30)]

    assert type(raised.value) is error


def test_plain_list_and_scan_include_managed_fields():
    """Who owns which field is evidence of an isolation."""
    metadata = {"name": "a", "managedFields": [{"manager": "kubectl"}]}
    found = client(lambda _: httpx2.Response(200, json={"metadata": {}, "items": [{"metadata": metadata}]}))

    assert found.list(PODS, "staging") == tuple(found.scan(PODS)) == ({"metadata": metadata},)


def test_empty_list_of_metadata_may_be_null():
    """An API server answers so where no object of the kind is left."""
    found = client(lambda _: httpx2.Response(200, json={"metadata": {"resourceVersion": "7"}, "items": None}))

    assert found.list_at(REPLICA_SETS, metadata_only=True).objects == ()


@pytest.mark.parametrize("previous", [True, False])
def test_log_is_read_with_invalid_bytes_replaced(previous):
    """Bytes that are no text do not end it; a container that never ended has no previous log."""
    requests = []

    def answer(request):
        requests.append(request)
        return httpx2.Response(200, content=b"a\x85b\r\n\xff\n", headers={"Content-Type": "text/plain"})

    assert client(answer).logs("staging", "p", "app", 7, previous=previous) == "a\ufffdb\r\n\ufffd\n"
    (request,) = requests
    assert request.url.path == "/api/v1/namespaces/staging/pods/p/log"
    params = request.url.params
    assert (params["container"], params["tailLines"], params["previous"]) == ("app", "7", str(previous).lower())
    with pytest.raises(ClusterRefused, match="previous terminated container"):
        client(lambda _: status(400, "previous terminated container not found")).logs("staging", "p", "app", 7)


def test_ephemeral_container_is_added_to_the_others():
    """A strategic merge patch keeps them. Threads that decode a typed answer for the first time would crash."""
    requests = []

    def answer(request):
        requests.append(request)
        return httpx2.Response(200, json={"spec": {"containers": 7}})

    client(answer).add_ephemeral_container("staging", "p", {"name": "c", "image": "i"})

    (request,) = requests
    assert (request.method, request.url.path) == ("PATCH", "/api/v1/namespaces/staging/pods/p/ephemeralcontainers")
    assert request.headers["Content-Type"] == "application/strategic-merge-patch+json"
    assert json.loads(request.content) == {"spec": {"ephemeralContainers": [{"name": "c", "image": "i"}]}}
    with pytest.raises(ClusterRefused, match="add c to p"):
        client(lambda _: status(404, "not found")).add_ephemeral_container("staging", "p", {"name": "c"})
