"""Tests of the registry client against responses of every kind."""

import base64
import hashlib
import json
import re
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from functools import partial

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from supply_chain.adapters.files import free_space
from supply_chain.adapters.registry import client as module
from supply_chain.adapters.registry.client import LARGEST_REFERRER, MANIFEST, SMALL, MemoryCache, Registry
from supply_chain.adapters.registry.http import RegistryHttp
from supply_chain.concurrency import map_concurrently
from supply_chain.errors import (
    AccessDenied,
    DiskFull,
    EvidenceInvalid,
    ImageDamaged,
    ImageNotFound,
    RegistryFailed,
    RegistryUnavailable,
    TooManyReferrers,
)
from supply_chain.evidence.store import NotEvidence
from supply_chain.model.image import Descriptor, ImageRef

TYPE = "application/vnd.example+json"


def digest_of(content):
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


IMAGE = json.dumps({"schemaVersion": 2, "config": {"digest": digest_of(b"c"), "size": 1}, "layers": []}).encode()
REF = ImageRef(repository="dev/hello", digest=digest_of(IMAGE))


class Server:
    """Fake registry in memory that implements the part of OCI distribution 1.1 that the client uses."""

    def __init__(self):
        self.manifests = {("dev/hello", REF.digest): (IMAGE, MANIFEST)}
        self.blobs = {("dev/hello", digest_of(b"c")): b"c"}
        self.tags = {("dev/hello", "1"): REF.digest}
        self.requests = []
        self.page = 100

    def __call__(self, request):
        self.requests.append(request)
        path = request.url.path.removeprefix("/v2/")
        if match := re.fullmatch(r"(.+)/manifests/(.+)", path):
            return self.manifest(request, *match.groups())
        if match := re.fullmatch(r"(.+)/blobs/uploads/(.*)", path):
            return self.upload(request, *match.groups())
        if match := re.fullmatch(r"(.+)/blobs/(.+)", path):
            found = self.blobs.get((match[1], match[2]))
            return httpx.Response(200, content=found) if found is not None else httpx.Response(404)
        if match := re.fullmatch(r"(.+)/referrers/(.+)", path):
            return self.referrers(request, *match.groups())
        return httpx.Response(404)

    def manifest(self, request, repository, reference):
        digest = self.tags.get((repository, reference), reference)
        if request.method == "PUT":
            assert digest_of(request.content) == reference
            self.manifests[repository, reference] = (request.content, request.headers["Content-Type"])
            return httpx.Response(201)
        if (repository, digest) not in self.manifests:
            return httpx.Response(404, json={"errors": [{"code": "MANIFEST_UNKNOWN"}]})
        content, kind = self.manifests[repository, digest]
        headers = {"Content-Type": kind, "Docker-Content-Digest": digest}
        return httpx.Response(200, content=content, headers=headers)

    def upload(self, request, repository, upload):
        if request.method == "POST":
            return httpx.Response(202, headers={"Location": f"/v2/{repository}/blobs/uploads/1?state=x"})
        assert request.url.params["state"] == "x"
        assert digest_of(request.content) == request.url.params["digest"]
        self.blobs[repository, request.url.params["digest"]] = request.content
        return httpx.Response(201)

    def referrers(self, request, repository, subject):
        if not any(name == repository for name, _ in self.manifests):
            return httpx.Response(404, json={"errors": [{"code": "NAME_UNKNOWN"}]})
        found = [
            {"digest": d, "artifactType": m.get("artifactType"), "annotations": m.get("annotations")}
            for (name, d), (content, _) in sorted(self.manifests.items())
            if name == repository and (m := json.loads(content)).get("subject", {}).get("digest") == subject
        ]
        start = int(request.url.params.get("from", 0))
        headers = {}
        if start + self.page < len(found):
            headers["Link"] = f'</v2/{repository}/referrers/{subject}?from={start + self.page}>; rel="next"'
        return httpx.Response(200, json={"manifests": found[start : start + self.page]}, headers=headers)


@pytest.fixture
def server():
    return Server()


def client(answer, memory=None, **settings):
    transport = httpx.MockTransport(answer)
    settings = {"wait": lambda seconds: None, **settings}
    http = RegistryHttp("registry.test", lambda: ("AWS", "secret"), transport=transport, **settings)
    return Registry(http, memory or MemoryCache())


def always(status, **kwargs):
    return client(lambda request: httpx.Response(status, **kwargs))


def test_digest_of_resolves_tag_or_returns_none(server):
    """After that only the digest is used."""
    assert client(server).digest_of("dev/hello", "1") == REF.digest
    assert client(server).digest_of("dev/hello", "2") is None


def test_digest_of_computes_digest_if_registry_sends_none():
    """The digest is computed from the content of the manifest."""
    assert always(200, content=IMAGE).digest_of("dev/hello", "1") == REF.digest


def test_every_request_carries_credentials_of_the_role(server):
    """The credentials are those that the role provides."""
    client(server).digest_of(REF.repository, REF.digest)

    expected = "Basic " + base64.b64encode(b"AWS:secret").decode()
    assert server.requests[0].headers["Authorization"] == expected
    assert str(server.requests[0].url).startswith("https://registry.test/v2/")


def test_manifest_and_blob_are_read_from_their_repository(server):
    """An image in another repository does not count as present."""
    assert client(server).manifest(REF)["layers"] == []
    assert client(server).blob("dev/hello", digest_of(b"c")) == b"c"
    assert client(server).digest_of(REF.repository, REF.digest)
    assert not client(server).digest_of("dev/other", REF.digest)


def test_content_of_a_digest_is_requested_once(server):
    """Each step reads the same evidence; the list of referrers is requested each time, because it may grow."""
    digest = client(server).attach(REF, TYPE, b"said", {})
    registry = client(server)
    server.requests.clear()

    for _ in range(3):
        (referrer,) = registry.referrers(REF)
        assert registry.content(ImageRef(repository="dev/hello", digest=referrer.digest)) == b"said"

    asked = [request.url.path.rpartition("/")[2] for request in server.requests]
    assert asked == [REF.digest, digest, digest_of(b"said"), REF.digest, REF.digest]


def test_threads_that_need_the_same_content_request_it_once(server):
    """A response judges an image for several environments at the same time, by the same evidence."""
    digest = client(server).attach(REF, TYPE, b"said", {})
    server.requests.clear()

    def slowly(request):
        answer = server(request)
        time.sleep(0.05)
        return answer

    registry, evidence = client(slowly), ImageRef(repository="dev/hello", digest=digest)
    assert map_concurrently(registry.content, [evidence] * 4) == (b"said",) * 4
    assert [request.url.path.rpartition("/")[2] for request in server.requests] == [digest, digest_of(b"said")]

    server.requests.clear()
    registry = client(slowly)
    assert map_concurrently(partial(registry.bundle, "dev/hello"), [digest_of(b"said")] * 4) == (b"said",) * 4
    assert len(server.requests) == 1


def test_content_beyond_the_memory_limit_is_read_again(server):
    """The memory of a run must not grow with the evidence of an image."""
    digest = client(server).attach(REF, TYPE, b"said", {})
    registry = client(server, memory=MemoryCache(room=3))

    for _ in range(2):
        assert registry.content(ImageRef(repository="dev/hello", digest=digest)) == b"said"

    assert (
        sum(request.method == "GET" and request.url.path.endswith(digest_of(b"said")) for request in server.requests)
        == 2
    )


def test_content_that_does_not_match_its_digest_is_refused(server):
    """It does not matter who changed the content."""
    server.manifests["dev/hello", REF.digest] = (IMAGE + b" ", MANIFEST)
    server.blobs["dev/hello", digest_of(b"c")] = b"d"

    with pytest.raises(ImageDamaged):
        client(server).manifest(REF)
    with pytest.raises(ImageDamaged):
        client(server).blob("dev/hello", digest_of(b"c"))
    with pytest.raises(ImageDamaged):
        client(server).copy_referrer(REF, "curated/hello")


@pytest.mark.parametrize(
    ("content", "size", "is_intact"),
    [(b"c", 1, True), (b"c", 2, False), (b"c", 0, False), (b"d", 1, False), (b"", 1, False)],
)
def test_verify_blob_checks_digest_and_size(content, size, is_intact):
    """Both have to match."""
    registry = always(200, content=content)
    if is_intact:
        registry.verify_blob("dev/hello", digest_of(b"c"), size)
    else:
        with pytest.raises(ImageDamaged):
            registry.verify_blob("dev/hello", digest_of(b"c"), size)


@pytest.mark.parametrize(
    ("content", "size", "is_intact"), [(b"c", 1, True), (b"d", 1, False), (b"c", 2, False), (b"cc", 1, False)]
)
def test_download_checks_digest_and_size(tmp_path, content, size, is_intact):
    """Other content is not accepted as a layer, whatever its size."""
    registry, target = always(200, content=content), tmp_path / "blob"
    if is_intact:
        registry.download("dev/hello", digest_of(b"c"), target, size)
        assert target.read_bytes() == b"c"
    else:
        with pytest.raises(ImageDamaged):
            registry.download("dev/hello", digest_of(b"c"), target, size)


def test_download_leaves_the_reserve_of_free_space(tmp_path, monkeypatch):
    """Nothing is written once the reserve would be used."""
    monkeypatch.setattr(free_space, "RESERVE", 2**62)

    with pytest.raises(DiskFull, match=rf"A blob of dev/hello is not downloaded: Only \d+ MiB are free in {tmp_path}"):
        always(200, content=b"c").download("dev/hello", digest_of(b"c"), tmp_path / "blob", 1)

    assert (tmp_path / "blob").read_bytes() == b""


CALLS = {
    "digest_of": lambda r: r.digest_of("dev/hello", "1"),
    "manifest": lambda r: r.manifest(REF),
    "blob": lambda r: r.blob("dev/hello", REF.digest),
    "verify_blob": lambda r: r.verify_blob("dev/hello", REF.digest, 1),
    "referrers": lambda r: r.referrers(REF),
    "layer": lambda r: r.layer(REF),
    "bundle": lambda r: r.bundle("dev/hello", REF.digest),
    "content": lambda r: r.content(REF),
    "attach": lambda r: r.attach(REF, TYPE, b"x", {}),
    "push_blob": lambda r: r.push_blob("dev/hello", b"x"),
    "push_manifest": lambda r: r.push_manifest("dev/hello", b"{}", MANIFEST),
    "copy_referrer": lambda r: r.copy_referrer(REF, "curated/hello"),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
@pytest.mark.parametrize(
    ("status", "error"),
    [
        (401, AccessDenied),
        (403, AccessDenied),
        (429, RegistryUnavailable),
        (500, RegistryUnavailable),
        (502, RegistryUnavailable),
        (503, RegistryUnavailable),
        (400, RegistryFailed),
        (405, RegistryFailed),
    ],
)
def test_status_raises_same_exception_from_every_call(call, status, error):
    """Only transient errors are retryable."""
    with pytest.raises(error) as caught:
        call(always(status, text="it said so"))

    assert type(caught.value) is error
    assert caught.value.retryable is (error is RegistryUnavailable)


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
@pytest.mark.parametrize(
    "failure", [httpx.ConnectError, httpx.ReadTimeout, httpx.RemoteProtocolError, httpx.WriteError]
)
def test_registry_without_response_is_unavailable(call, failure):
    """Every kind of connection failure is treated alike."""

    def broken(request):
        raise failure("no answer")

    with pytest.raises(RegistryUnavailable, match=r"registry\.test did not answer"):
        call(client(broken))


class Breaking(httpx.SyncByteStream):
    """Response whose connection ends in the middle of the body."""

    def __iter__(self):
        yield b"{"
        raise httpx.ReadError("[Errno 9] Bad file descriptor")


@pytest.mark.parametrize("failure", [httpx.ReadError, httpx.WriteError, httpx.RemoteProtocolError, "answer"])
def test_broken_connection_repeats_reads_and_not_writes(server, failure):
    """A pooled connection may have been closed meanwhile; the step decides whether to repeat a write."""
    asked = []

    def breaking(request):
        asked.append(request.method)
        if request.method == "GET" and asked.count("GET") == 4:
            return server(request)
        if failure == "answer" and request.method == "GET":
            return httpx.Response(200, stream=Breaking())
        if request.method == "HEAD":
            return httpx.Response(404)
        raise (httpx.WriteError if failure == "answer" else failure)("broken")

    content = b"what lies there"
    digest = client(server).push_blob("dev/hello", content)

    assert client(breaking).blob("dev/hello", digest) == content
    assert asked == ["GET"] * 4
    with pytest.raises(RegistryUnavailable):
        client(breaking).push_blob("dev/hello", b"another")
    assert asked == ["GET"] * 4 + ["HEAD", "POST"]


@pytest.mark.parametrize("name", ["manifest", "blob", "verify_blob", "layer", "bundle", "content", "copy_referrer"])
def test_missing_content_raises_image_not_found(name):
    """Missing content is neither damaged nor a failure of the registry."""
    with pytest.raises(ImageNotFound):
        CALLS[name](always(404))


def test_missing_repository_has_no_referrers(server):
    """The registry answers NAME_UNKNOWN."""
    assert client(server).referrers(REF.with_repository("evidence/curation/hello")) == ()


@pytest.mark.parametrize(
    "body", [{"text": "404 page not found"}, {"json": {"errors": [{"code": "UNSUPPORTED"}]}}, {"text": ""}], ids=str
)
def test_registry_without_referrers_api_is_an_error(body):
    """A missing endpoint must not read as missing evidence."""
    with pytest.raises(ImageNotFound):
        always(404, **body).referrers(REF)


def test_referrers_reads_all_pages(server):
    """The page size does not matter."""
    registry = client(server)
    attached = {registry.attach(REF, TYPE, bytes([n]), {"n": str(n)}) for n in range(7)}
    for page in (1, 3, 7, 100):
        server.page = page
        found = registry.referrers(REF)
        assert {r.digest for r in found} == attached
        assert {(r.artifact_type, r.annotations["n"]) for r in found} == {(TYPE, str(n)) for n in range(7)}


@pytest.mark.parametrize("page", [100, 3])
def test_list_of_referrers_that_is_too_large_is_flooded(server, monkeypatch, page):
    """Whoever can push annotations can make the list large; so it is an error about this image, not the registry."""
    registry = client(server)
    for n in range(7):
        registry.attach(REF, TYPE, bytes([n]), {"n": "x" * 1000})
    server.page = page
    monkeypatch.setattr(module, "LARGEST_LIST", 6000)

    with pytest.raises(TooManyReferrers, match="attached to dev/hello"):
        registry.referrers(REF)


@pytest.mark.parametrize("link", ["/v2/dev/hello/referrers/x?from=1", "referrers/x?from=1", "?from=1"])
def test_next_page_link_is_resolved_relative_to_its_page(link):
    """RFC 8288 requires this."""
    requests = []

    def answer(request):
        requests.append(request)
        headers = {"Link": f'<{link}>; rel="next"'} if len(requests) == 1 else {}
        return httpx.Response(200, json={"manifests": []}, headers=headers)

    client(answer).referrers(REF)

    expected = httpx.URL(f"https://registry.test/v2/dev/hello/referrers/{REF.digest}").join(link)
    assert [request.url for request in requests][1:] == [expected]


def test_link_to_another_host_is_refused():
    """The credentials must not be sent to another host."""
    hosts = []

    def answer(request):
        hosts.append(request.url.host)
        return httpx.Response(200, json={"manifests": []}, headers={"Link": '<https://evil.test/v2/x>; rel="next"'})

    with pytest.raises(RegistryFailed):
        client(answer).referrers(REF)
    assert hosts == ["registry.test"]


def test_later_page_that_is_missing_is_an_error():
    """The repository exists, so the list is cut off; a part of the evidence must not pass as none."""

    def answer(request):
        if request.url.query:
            return httpx.Response(404, json={"errors": [{"code": "NAME_UNKNOWN"}]})
        return httpx.Response(200, json={"manifests": []}, headers={"Link": '<?from=1>; rel="next"'})

    with pytest.raises(RegistryFailed, match="a page that it names does not exist"):
        client(answer).referrers(REF)


def test_circular_page_links_are_refused():
    """A registry must not keep a run busy for ever."""

    def answer(request):
        link = f'</v2/dev/hello/referrers/{REF.digest}>; rel="next"'
        return httpx.Response(200, json={"manifests": []}, headers={"Link": link})

    with pytest.raises(RegistryFailed):
        client(answer).referrers(REF)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"[]",
        b"7",
        b"{}",
        b'{"errors": [{"code": "UNKNOWN"}]}',
        b'{"manifests": 1}',
        b'{"manifests": [1]}',
        b'{"manifests": [{}]}',
        b'{"manifests": [{"digest": "latest"}]}',
        b"[" * 100_000,
    ],
    ids=lambda body: body[:40].decode(),
)
def test_invalid_list_of_referrers_is_an_error(body):
    """A part of the evidence must not pass as all of it, and other images have lists of their own."""
    with pytest.raises(EvidenceInvalid):
        always(200, content=body).referrers(REF)


@pytest.mark.parametrize(
    "body",
    [b'{"manifests": null}', b'{"manifests": [{"digest": "sha256:' + b"a" * 64 + b'", "annotations": null}]}'],
)
def test_list_of_referrers_may_omit_optional_fields(body):
    """Annotations and artifact types are optional."""
    assert len(always(200, content=body).referrers(REF)) == body.count(b"digest")


@pytest.mark.parametrize(
    ("artifact_type", "annotations", "expected"),
    [
        (7, {}, ("", {})),
        ([TYPE], {}, ("", {})),
        (None, {}, ("", {})),
        (TYPE, {"a": 1, "b": "c", "d": None}, (TYPE, {"b": "c"})),
        (TYPE, ["a"], (TYPE, {})),
        (TYPE, "a", (TYPE, {})),
        (TYPE, {"a": json.loads("[" * 300 + "]" * 300)}, (TYPE, {})),
    ],
)
def test_invalid_fields_of_a_referrer_are_dropped(artifact_type, annotations, expected):
    """Some registries do not validate them, and the other referrers still have to be listed."""
    mine = {"digest": digest_of(b"1"), "artifactType": artifact_type, "annotations": annotations}
    other = {"digest": digest_of(b"2"), "artifactType": TYPE, "annotations": {"a": "b"}}

    found = always(200, json={"manifests": [mine, other]}).referrers(REF)

    assert [(r.artifact_type, r.annotations) for r in found] == [expected, (TYPE, {"a": "b"})]


def test_attached_content_is_read_back(server):
    """The content is the only layer of a manifest whose subject is the image."""
    registry = client(server)

    digest = registry.attach(REF, TYPE, b"evidence", {"a": "b"})

    assert registry.content(ImageRef(repository="dev/hello", digest=digest)) == b"evidence"
    manifest = json.loads(server.manifests["dev/hello", digest][0])
    assert manifest["subject"] == {"mediaType": MANIFEST, "digest": REF.digest, "size": len(IMAGE)}
    assert (manifest["artifactType"], manifest["layers"][0]["mediaType"]) == (TYPE, TYPE)


def test_attach_accepts_subject_in_another_repository(server):
    """A tier stores its evidence about the image of another tier in its own repository."""
    elsewhere = REF.with_repository("evidence/curation/hello")

    client(server).attach(elsewhere, TYPE, b"no", {}, media_type="text/plain")

    (found,) = client(server).referrers(elsewhere)
    manifest = json.loads(server.manifests["evidence/curation/hello", found.digest][0])
    assert (manifest["subject"]["digest"], manifest["layers"][0]["mediaType"]) == (REF.digest, "text/plain")


def test_existing_blob_is_not_uploaded_again(server):
    """The digest proves that the content is the same."""
    registry = client(server)
    registry.push_blob("dev/hello", b"x")
    before = len(server.requests)
    registry.push_blob("dev/hello", b"x")

    assert [request.method for request in server.requests[before:]] == ["HEAD"]


def test_copied_referrer_is_identical(server):
    """The signature and the digest stay valid."""
    registry = client(server)
    digest = registry.attach(REF, TYPE, b"evidence", {"a": "b"})

    registry.copy_referrer(ImageRef(repository="dev/hello", digest=digest), "curated/hello")

    assert server.manifests["curated/hello", digest] == server.manifests["dev/hello", digest]
    assert registry.content(ImageRef(repository="curated/hello", digest=digest)) == b"evidence"


def named(server, content, media_type=MANIFEST):
    """Store a referrer with this manifest, as anybody with push permission can, and return its reference."""
    content = content if isinstance(content, bytes) else json.dumps(content).encode()
    server.manifests["dev/hello", digest_of(content)] = (content, media_type)
    return ImageRef(repository="dev/hello", digest=digest_of(content))


def artifact(**changes):
    """Return a manifest in the layout of evidence, with changes."""
    return {
        "config": {"digest": digest_of(b"{}"), "size": 2},
        "layers": [{"digest": digest_of(b"c"), "size": 1}],
        **changes,
    }


def test_referrer_is_copied_as_evidence_despite_stated_media_type(server):
    """Whoever pushed it again under another one must not stop curation, or hide the copy from later gates."""
    ref = named(server, artifact(), "application/vnd.docker.distribution.manifest.v2+json")
    server.blobs["dev/hello", digest_of(b"{}")] = b"{}"

    client(server).copy_referrer(ref, "curated/hello")

    assert server.manifests["curated/hello", ref.digest] == (server.manifests["dev/hello", ref.digest][0], MANIFEST)


NONE = [
    artifact(x=json.loads("[" * 200 + "]" * 200)),
    [],
    7,
    {},
    b"",
    b"no json",
    b"[" * 100_000,
    artifact(mediaType="application/vnd.oci.image.index.v1+json"),
    artifact(config=None),
    artifact(config={"digest": digest_of(b"c"), "size": 1}),
    artifact(layers=[]),
    artifact(layers=[{}]),
    artifact(layers=["x"]),
    artifact(layers={"digest": "x"}),
    artifact(layers=None),
    artifact(layers=[{"digest": digest_of(b"c"), "size": 1}] * 2),
    artifact(layers=[{"digest": digest_of(b"c"), "size": SMALL + 1}]),
    artifact(layers=[{"digest": digest_of(b"c"), "size": "1"}]),
    artifact(layers=[{"digest": digest_of(b"c"), "size": -1}]),
    artifact(layers=[{"digest": 7, "size": 1}]),
]


@pytest.mark.parametrize("manifest", NONE, ids=lambda m: str(m)[:60])
def test_manifest_in_another_layout_is_no_evidence(server, manifest):
    """Anybody with push permission can write one, so a listing skips it, and a direct request fails."""
    ref = named(server, manifest)

    assert isinstance(client(server).layer(ref), NotEvidence)
    with pytest.raises(ImageDamaged):
        client(server).content(ref)


@pytest.mark.parametrize("stated", [{}, {"mediaType": MANIFEST}], ids=["unstated", "stated"])
def test_evidence_counts_despite_stated_media_type(server, stated):
    """Whoever can push the manifest again under another media type must not hide a signed statement."""
    ref = named(server, artifact(**stated), "application/vnd.oci.image.index.v1+json")

    assert isinstance(client(server).layer(ref), Descriptor)
    assert client(server).content(ref) == b"c"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.just(digest_of(b"c")),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["digest", "size", "config", "layers", "mediaType", "x"]), inner, max_size=4)
    ),
    max_leaves=8,
)


@given(st.binary(max_size=200) | JSON | st.builds(lambda c, v: artifact(**c, x=v), st.dictionaries(
    st.sampled_from(["config", "layers", "mediaType", "subject"]), JSON), JSON))  # fmt: skip
def test_any_pushed_manifest_is_read_or_skipped(manifest):
    """No other exception is raised, and the layer can always be read."""
    server = Server()
    layer = client(server).layer(named(server, manifest))

    assert isinstance(layer, NotEvidence) or (re.fullmatch("sha256:[0-9a-f]{64}", layer.digest) and layer.size >= 0)


def test_bundle_must_match_its_digest(server):
    """Changed content is a fault of the registry, not of whoever pushed."""
    assert client(server).bundle("dev/hello", digest_of(b"c")) == b"c"
    server.blobs["dev/hello", digest_of(b"c")] = b"d"
    with pytest.raises(ImageDamaged):
        client(server).bundle("dev/hello", digest_of(b"c"))


def test_bundle_is_no_evidence_only_if_registry_reports_unknown_blob():
    """A manifest may outlive its blob; any other 404 response is an error."""
    gone = always(404, json={"errors": [{"code": "BLOB_UNKNOWN"}]})
    assert isinstance(gone.bundle("dev/hello", digest_of(b"c")), NotEvidence)

    for body in ({"text": "404 page not found"}, {"json": {"errors": [{"code": "NAME_UNKNOWN"}]}}):
        with pytest.raises(ImageNotFound):
            always(404, **body).bundle("dev/hello", digest_of(b"c"))


def test_missing_listed_manifest_is_an_error(server):
    """The registry contradicts itself, so its list cannot be trusted."""
    with pytest.raises(ImageNotFound):
        client(server).layer(ImageRef(repository="dev/hello", digest=digest_of(b"none")))


LARGE = b"x" * (SMALL + 1)


def test_content_larger_than_evidence_is_skipped_unread(server):
    """The registry announces the size, so gigabytes need not be read."""
    ref = named(server, artifact(layers=[{"digest": digest_of(LARGE), "size": 1}]))
    server.blobs["dev/hello", digest_of(LARGE)] = LARGE

    layer = client(server).layer(ref)

    assert isinstance(client(server).bundle("dev/hello", layer.digest), NotEvidence)
    manifest = artifact(layers=[{"digest": digest_of(b"c"), "size": 1}], annotations={"a": "x" * LARGEST_REFERRER})
    assert isinstance(client(server).layer(named(server, manifest)), NotEvidence)


class Endless(httpx.SyncByteStream):
    """Body that is very long and counts how much of it was read."""

    def __init__(self):
        self.taken = 0

    def __iter__(self):
        while self.taken < 1000:
            self.taken += 1
            yield b"x" * 1024 * 1024


BOUNDED = ["digest_of", "manifest", "blob", "bundle", "layer", "referrers", "content", "verify_blob"]


@pytest.mark.parametrize("name", BOUNDED)
def test_response_beyond_its_limit_is_an_error(name):
    """Reading stops at the limit, whatever size was announced, and the content is not skipped as junk."""
    body = Endless()

    with pytest.raises(TooManyReferrers if name == "referrers" else (RegistryFailed, ImageDamaged)):
        CALLS[name](client(lambda request: httpx.Response(200, stream=body)))
    assert body.taken < 100


@pytest.mark.parametrize("status", [400, 404, 500])
def test_only_the_beginning_of_an_error_response_is_read(status):
    """The beginning is enough for the error message."""
    body = Endless()

    with pytest.raises((RegistryFailed, ImageNotFound)):
        CALLS["blob"](client(lambda request: httpx.Response(status, stream=body)))
    assert body.taken < 5


def test_truncated_response_is_an_error():
    """A part of a list, of a manifest or of a statement must not be used."""

    class Broken(httpx.SyncByteStream):
        def __iter__(self):
            yield b'{"manifests": []'
            raise httpx.RemoteProtocolError("peer closed connection without sending complete message body")

    for name in BOUNDED:
        with pytest.raises(RegistryUnavailable):
            CALLS[name](client(lambda request: httpx.Response(200, stream=Broken())))


def test_attach_refuses_content_too_large_to_be_read(server):
    """Evidence that is skipped for its size would be useless."""
    with pytest.raises(RegistryFailed, match="at most"):
        client(server).attach(REF, TYPE, LARGE, {})
    assert len(server.manifests) == 1


@pytest.mark.parametrize("content", [b"", b"no json", b"[" * 100_000])
def test_manifest_that_is_no_json_is_refused(server, content):
    """Its digest may match nevertheless."""
    server.manifests["dev/hello", digest_of(content)] = (content, MANIFEST)

    with pytest.raises(ImageDamaged):
        client(server).manifest(ImageRef(repository="dev/hello", digest=digest_of(content)))


class Hesitant:
    """Fake registry that gives some prepared responses first."""

    def __init__(self, server, *answers):
        self.server, self.answers, self.waited = server, list(answers), []

    def __call__(self, request):
        return self.answers.pop(0) if self.answers else self.server(request)

    def client(self, **settings):
        return client(self, wait=self.waited.append, **settings)


def in_seconds(seconds):
    return format_datetime(datetime.now(UTC) + timedelta(seconds=seconds), usegmt=True)


@pytest.mark.parametrize(
    ("retry_after", "waited"),
    [(None, 0.5), ("2", 2.0), (" 30 ", 30.0), ("0", None), ("soon", 0.5), ("-1", 0.5)],
)
def test_client_waits_and_retries_as_the_registry_asks(server, caplog, retry_after, waited):
    """The header `Retry-After` sets the delay, and the log gives the reason."""
    headers = {} if retry_after is None else {"Retry-After": retry_after}
    hesitant = Hesitant(server, httpx.Response(429, headers=headers, text="slowly"))

    with caplog.at_level("INFO"):
        assert hesitant.client().digest_of(REF.repository, REF.digest)

    assert hesitant.waited == ([] if waited is None else [waited])
    assert "answered 429" in caplog.text and "slowly" in caplog.text


def test_retry_after_may_be_a_date(server):
    """RFC 9110 permits a date; a date in the past causes no delay."""
    hesitant = Hesitant(server, httpx.Response(429, headers={"Retry-After": in_seconds(10)}))
    assert hesitant.client().digest_of(REF.repository, REF.digest)
    over = Hesitant(server, httpx.Response(429, headers={"Retry-After": in_seconds(-10)}))
    assert over.client().digest_of(REF.repository, REF.digest)

    assert 5 < hesitant.waited[0] < 11
    assert over.waited == []


def test_retries_and_delays_are_limited(server):
    """Both the number of attempts and the accepted delay are bounded."""
    never = Hesitant(server, *[httpx.Response(503)] * 4)
    with pytest.raises(RegistryUnavailable, match="answered 503"):
        never.client().digest_of(REF.repository, REF.digest)
    assert (never.answers, never.waited) == ([], [0.5, 1, 2])

    long = Hesitant(server, httpx.Response(429, headers={"Retry-After": "31"}))
    with pytest.raises(RegistryUnavailable, match="answered 429 and asks to come back in 31 s"):
        long.client().digest_of(REF.repository, REF.digest)
    assert long.waited == []


def test_write_is_repeated_only_if_registry_did_nothing(server):
    """After a failure the step checks first what was written; status 429 means that nothing was."""
    failing = Hesitant(server, httpx.Response(500))
    with pytest.raises(RegistryUnavailable):
        failing.client().push_manifest("dev/hello", b"{}", MANIFEST)
    busy = Hesitant(server, httpx.Response(429))
    busy.client().push_manifest("dev/hello", b"{}", MANIFEST)

    assert (failing.waited, busy.waited) == ([], [0.5])


@pytest.mark.parametrize(
    "over", [httpx.Response(401), httpx.Response(403, text="Your authorization token has expired.")]
)
def test_expired_token_is_renewed_once(server, over):
    """A refusal of the new token, or for another reason, is final."""
    renewed = []
    assert Hesitant(server, over).client(renew=lambda: renewed.append(1)).digest_of(REF.repository, REF.digest)
    with pytest.raises(AccessDenied):
        Hesitant(server, httpx.Response(401), httpx.Response(401)).client(renew=lambda: renewed.append(2)).digest_of(
            REF.repository, REF.digest
        )
    with pytest.raises(AccessDenied):
        Hesitant(server, httpx.Response(403, text="not you")).client(renew=lambda: renewed.append(3)).digest_of(
            REF.repository, REF.digest
        )

    assert renewed == [1, 2]
