"""The registry's client, against answers of every kind."""

import base64
import hashlib
import json
import re
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from supply_chain.adapters.registry.client import LARGEST_MANIFEST, MANIFEST, SMALL, InProcess, Registry
from supply_chain.adapters.registry.http import RegistryHttp
from supply_chain.errors import (
    AccessDenied,
    ImageDamaged,
    ImageNotFound,
    RegistryFailed,
    RegistryUnavailable,
)
from supply_chain.evidence.store import NotEvidence
from supply_chain.model.image import ImageRef

TYPE = "application/vnd.example+json"


def digest_of(content):
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


IMAGE = json.dumps({"schemaVersion": 2, "config": {"digest": digest_of(b"c"), "size": 1}, "layers": []}).encode()
REF = ImageRef(repository="dev/hello", digest=digest_of(IMAGE))


class Server:
    """A registry in memory: what OCI distribution 1.1 asks of one, as far as the client goes."""

    def __init__(self):
        self.manifests = {("dev/hello", REF.digest): (IMAGE, MANIFEST)}
        self.blobs = {("dev/hello", digest_of(b"c")): b"c"}
        self.tags = {("dev/hello", "1"): REF.digest}
        self.seen = []
        self.page = 100

    def __call__(self, request):
        self.seen.append(request)
        path = request.url.path.removeprefix("/v2/")
        if match := re.fullmatch(r"(.+)/manifests/(.+)", path):
            return self.manifest(request, *match.groups())
        if match := re.fullmatch(r"(.+)/blobs/uploads/(.*)", path):
            return self.upload(request, *match.groups())
        if match := re.fullmatch(r"(.+)/blobs/(.+)", path):
            found = self.blobs.get(match.groups())
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
    return Registry(http, memory or InProcess())


def always(status, **kwargs):
    return client(lambda request: httpx.Response(status, **kwargs))


def test_resolves_a_tag_and_knows_when_there_is_none(server):
    """Once; from then on only the digest counts."""
    assert client(server).digest_of("dev/hello", "1") == REF.digest
    assert client(server).digest_of("dev/hello", "2") is None


def test_resolves_a_tag_where_the_registry_names_no_digest():
    """Then from the content."""
    assert always(200, content=IMAGE).digest_of("dev/hello", "1") == REF.digest


def test_every_request_carries_the_roles_credentials(server):
    """Fresh ones, as the role gives them."""
    client(server).has(REF)

    expected = "Basic " + base64.b64encode(b"AWS:secret").decode()
    assert server.seen[0].headers["Authorization"] == expected
    assert str(server.seen[0].url).startswith("https://registry.test/v2/")


def test_reads_a_manifest_and_a_blob(server):
    """Whole, and checked."""
    assert client(server).manifest(REF)["layers"] == []
    assert client(server).blob("dev/hello", digest_of(b"c")) == b"c"
    assert client(server).has(REF)
    assert not client(server).has(REF.moved_to("dev/other"))


def test_what_lies_under_a_digest_is_asked_for_once(server):
    """Each step reads the same evidence again; what is attached is asked each time, for there may be more."""
    digest = client(server).attach(REF, TYPE, b"said", {})
    registry = client(server)
    server.seen.clear()

    for _ in range(3):
        (referrer,) = registry.referrers(REF)
        assert registry.content(ImageRef(repository="dev/hello", digest=referrer.digest)) == b"said"

    asked = [request.url.path.rpartition("/")[2] for request in server.seen]
    assert asked == [REF.digest, digest, digest_of(b"said"), REF.digest, REF.digest]


def test_what_would_fill_the_memory_is_read_anew(server):
    """A run's memory does not grow with what is attached to an image."""
    digest = client(server).attach(REF, TYPE, b"said", {})
    registry = client(server, memory=InProcess(room=3))

    for _ in range(2):
        assert registry.content(ImageRef(repository="dev/hello", digest=digest)) == b"said"

    assert (
        sum(request.method == "GET" and request.url.path.endswith(digest_of(b"said")) for request in server.seen) == 2
    )


def test_content_that_is_not_its_digest_is_damage(server):
    """Whoever changed it."""
    server.manifests["dev/hello", REF.digest] = (IMAGE + b" ", MANIFEST)
    server.blobs["dev/hello", digest_of(b"c")] = b"d"

    with pytest.raises(ImageDamaged):
        client(server).manifest(REF)
    with pytest.raises(ImageDamaged):
        client(server).blob("dev/hello", digest_of(b"c"))
    with pytest.raises(ImageDamaged):
        client(server).copy_referrer(REF, "curated/hello")


@pytest.mark.parametrize(
    ("content", "size", "whole"),
    [(b"c", 1, True), (b"c", 2, False), (b"c", 0, False), (b"d", 1, False), (b"", 1, False)],
)
def test_a_blob_is_verified_by_digest_and_size(content, size, whole):
    """Both have to agree."""
    registry = always(200, content=content)
    if whole:
        registry.verify_blob("dev/hello", digest_of(b"c"), size)
    else:
        with pytest.raises(ImageDamaged):
            registry.verify_blob("dev/hello", digest_of(b"c"), size)


@pytest.mark.parametrize(
    ("content", "size", "whole"), [(b"c", 1, True), (b"d", 1, False), (b"c", 2, False), (b"cc", 1, False)]
)
def test_a_blob_is_downloaded_by_digest_and_size(tmp_path, content, size, whole):
    """What is another is no layer, however much of it there is."""
    registry, target = always(200, content=content), tmp_path / "blob"
    if whole:
        registry.download("dev/hello", digest_of(b"c"), target, size)
        assert target.read_bytes() == b"c"
    else:
        with pytest.raises(ImageDamaged):
            registry.download("dev/hello", digest_of(b"c"), target, size)


CALLS = {
    "digest_of": lambda r: r.digest_of("dev/hello", "1"),
    "has": lambda r: r.has(REF),
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
def test_a_status_is_the_same_error_everywhere(call, status, error):
    """Only what may pass by itself is tried again."""
    with pytest.raises(error) as caught:
        call(always(status, text="it said so"))

    assert type(caught.value) is error
    assert caught.value.retryable is (error is RegistryUnavailable)


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
@pytest.mark.parametrize(
    "failure", [httpx.ConnectError, httpx.ReadTimeout, httpx.RemoteProtocolError, httpx.WriteError]
)
def test_a_registry_that_does_not_answer_is_unavailable(call, failure):
    """Whatever way it fails to."""

    def broken(request):
        raise failure("no answer")

    with pytest.raises(RegistryUnavailable, match=r"registry\.test did not answer"):
        call(client(broken))


class Breaking(httpx.SyncByteStream):
    """An answer whose connection ends in its midst."""

    def __iter__(self):
        yield b"{"
        raise httpx.ReadError("[Errno 9] Bad file descriptor")


@pytest.mark.parametrize("failure", [httpx.ReadError, httpx.WriteError, httpx.RemoteProtocolError, "answer"])
def test_what_is_only_read_is_read_again_where_a_connection_breaks(server, failure):
    """One that the registry closed meanwhile, or this process's own pool; what is written is left to the step."""
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
def test_what_is_not_there_is_called_missing(name):
    """Apart from damage and from failure."""
    with pytest.raises(ImageNotFound):
        CALLS[name](always(404))


def test_a_repository_that_does_not_exist_holds_no_referrers(server):
    """NAME_UNKNOWN says so."""
    assert client(server).referrers(REF.moved_to("evidence/curation/hello")) == ()


@pytest.mark.parametrize(
    "body", [{"text": "404 page not found"}, {"json": {"errors": [{"code": "UNSUPPORTED"}]}}, {"text": ""}], ids=str
)
def test_a_registry_without_referrers_cannot_say(body):
    """No endpoint is not no evidence."""
    with pytest.raises(ImageNotFound):
        always(404, **body).referrers(REF)


def test_reads_referrers_of_every_page(server):
    """In pages of any size."""
    registry = client(server)
    attached = {registry.attach(REF, TYPE, bytes([n]), {"n": str(n)}) for n in range(7)}
    for page in (1, 3, 7, 100):
        server.page = page
        found = registry.referrers(REF)
        assert {r.digest for r in found} == attached
        assert {(r.artifact_type, r.annotations["n"]) for r in found} == {(TYPE, str(n)) for n in range(7)}


@pytest.mark.parametrize("link", ["/v2/dev/hello/referrers/x?from=1", "referrers/x?from=1", "?from=1"])
def test_follows_a_link_as_a_browser_would(link):
    """RFC 8288: relative to the page it stands on."""
    seen = []

    def answer(request):
        seen.append(request)
        headers = {"Link": f'<{link}>; rel="next"'} if len(seen) == 1 else {}
        return httpx.Response(200, json={"manifests": []}, headers=headers)

    client(answer).referrers(REF)

    expected = httpx.URL(f"https://registry.test/v2/dev/hello/referrers/{REF.digest}").join(link)
    assert [request.url for request in seen][1:] == [expected]


def test_credentials_are_not_carried_to_another_host():
    """A link that leads away is not followed."""
    seen = []

    def answer(request):
        seen.append(request.url.host)
        return httpx.Response(200, json={"manifests": []}, headers={"Link": '<https://evil.test/v2/x>; rel="next"'})

    with pytest.raises(RegistryFailed):
        client(answer).referrers(REF)
    assert seen == ["registry.test"]


def test_pages_that_lead_in_a_circle_end():
    """A registry cannot keep a run busy for ever."""

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
        b'{"manifests": 1}',
        b'{"manifests": [1]}',
        b'{"manifests": [{}]}',
        b'{"manifests": [{"digest": "latest"}]}',
        b"[" * 100_000,
    ],
    ids=lambda body: body[:40].decode(),
)
def test_a_list_of_referrers_that_is_none_is_a_failure(body):
    """Part of the evidence is not all of it."""
    with pytest.raises(RegistryFailed):
        always(200, content=body).referrers(REF)


@pytest.mark.parametrize(
    "body",
    [b"{}", b'{"manifests": null}', b'{"manifests": [{"digest": "sha256:' + b"a" * 64 + b'", "annotations": null}]}'],
)
def test_what_a_list_of_referrers_may_leave_out(body):
    """Annotations and types are optional."""
    assert len(always(200, content=body).referrers(REF)) == body.count(b"digest")


@pytest.mark.parametrize(
    ("artifact_type", "annotations", "kept"),
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
def test_what_an_author_writes_of_a_referrer_does_not_spoil_the_list(artifact_type, annotations, kept):
    """Not every registry looks at it; what is no text is left out, and the others are listed."""
    mine = {"digest": digest_of(b"1"), "artifactType": artifact_type, "annotations": annotations}
    other = {"digest": digest_of(b"2"), "artifactType": TYPE, "annotations": {"a": "b"}}

    found = always(200, json={"manifests": [mine, other]}).referrers(REF)

    assert [(r.artifact_type, r.annotations) for r in found] == [kept, (TYPE, {"a": "b"})]


def test_attaches_content_that_comes_back(server):
    """As the only layer of a manifest about the image."""
    registry = client(server)

    digest = registry.attach(REF, TYPE, b"evidence", {"a": "b"})

    assert registry.content(ImageRef(repository="dev/hello", digest=digest)) == b"evidence"
    manifest = json.loads(server.manifests["dev/hello", digest][0])
    assert manifest["subject"] == {"mediaType": MANIFEST, "digest": REF.digest, "size": len(IMAGE)}
    assert (manifest["artifactType"], manifest["layers"][0]["mediaType"]) == (TYPE, TYPE)


def test_attaches_to_an_image_that_is_not_in_the_repository(server):
    """What a tier says about another's image lies in a repository of its own."""
    elsewhere = REF.moved_to("evidence/curation/hello")

    client(server).attach(elsewhere, TYPE, b"no", {}, media_type="text/plain")

    (found,) = client(server).referrers(elsewhere)
    manifest = json.loads(server.manifests["evidence/curation/hello", found.digest][0])
    assert (manifest["subject"]["digest"], manifest["layers"][0]["mediaType"]) == (REF.digest, "text/plain")


def test_a_blob_that_is_there_is_not_sent_again(server):
    """Its digest says that it is the same."""
    registry = client(server)
    registry.push_blob("dev/hello", b"x")
    before = len(server.seen)
    registry.push_blob("dev/hello", b"x")

    assert [request.method for request in server.seen[before:]] == ["HEAD"]


def test_copies_a_referrer_byte_for_byte(server):
    """The signature in it stays good, and so does its digest."""
    registry = client(server)
    digest = registry.attach(REF, TYPE, b"evidence", {"a": "b"})

    registry.copy_referrer(ImageRef(repository="dev/hello", digest=digest), "curated/hello")

    assert server.manifests["curated/hello", digest] == server.manifests["dev/hello", digest]
    assert registry.content(ImageRef(repository="curated/hello", digest=digest)) == b"evidence"


def named(server, content, media_type=MANIFEST):
    """A referrer whose manifest is this, as anybody who may push can make it."""
    content = content if isinstance(content, bytes) else json.dumps(content).encode()
    server.manifests["dev/hello", digest_of(content)] = (content, media_type)
    return ImageRef(repository="dev/hello", digest=digest_of(content))


def artifact(**changes):
    """A manifest laid out as evidence is, but for the changes."""
    return {
        "config": {"digest": digest_of(b"{}"), "size": 2},
        "layers": [{"digest": digest_of(b"c"), "size": 1}],
        **changes,
    }


NONE = [
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
def test_a_referrer_that_is_not_one_piece_of_evidence_is_none(server, manifest):
    """Anybody who may push can write such a manifest: it is left out where it was not asked for, else damage."""
    ref = named(server, manifest)

    assert isinstance(client(server).layer(ref), NotEvidence)
    with pytest.raises(ImageDamaged):
        client(server).content(ref)


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
def test_whatever_manifest_a_stranger_pushes_is_read_or_left_out(manifest):
    """No other error, and never anything but a layer that can be read."""
    server = Server()
    layer = client(server).layer(named(server, manifest))

    assert isinstance(layer, NotEvidence) or (re.fullmatch("sha256:[0-9a-f]{64}", layer.digest) and layer.size >= 0)


def test_a_bundle_is_what_its_digest_says_or_an_error(server):
    """A registry that changes it is not a stranger's doing."""
    assert client(server).bundle("dev/hello", digest_of(b"c")) == b"c"
    server.blobs["dev/hello", digest_of(b"c")] = b"d"
    with pytest.raises(ImageDamaged):
        client(server).bundle("dev/hello", digest_of(b"c"))


def test_content_that_the_registry_says_it_does_not_have_is_left_out():
    """A manifest can outlive what it names; only the registry's own word for it counts."""
    gone = always(404, json={"errors": [{"code": "BLOB_UNKNOWN"}]})
    assert isinstance(gone.bundle("dev/hello", digest_of(b"c")), NotEvidence)

    for body in ({"text": "404 page not found"}, {"json": {"errors": [{"code": "NAME_UNKNOWN"}]}}):
        with pytest.raises(ImageNotFound):
            always(404, **body).bundle("dev/hello", digest_of(b"c"))


def test_a_listed_manifest_that_is_not_there_is_an_error(server):
    """The registry contradicts itself; what else it does not say nobody knows."""
    with pytest.raises(ImageNotFound):
        client(server).layer(ImageRef(repository="dev/hello", digest=digest_of(b"none")))


LARGE = b"x" * (SMALL + 1)


def test_what_is_larger_than_evidence_is_left_out_unread(server):
    """The registry says so beforehand; nobody waits for gigabytes."""
    ref = named(server, artifact(layers=[{"digest": digest_of(LARGE), "size": 1}]))
    server.blobs["dev/hello", digest_of(LARGE)] = LARGE

    layer = client(server).layer(ref)

    assert isinstance(client(server).bundle("dev/hello", layer.digest), NotEvidence)
    assert isinstance(client(server).layer(named(server, b"x" * (LARGEST_MANIFEST + 1))), NotEvidence)


class Endless(httpx.SyncByteStream):
    """A body that goes on, and counts how much of it was taken."""

    def __init__(self):
        self.taken = 0

    def __iter__(self):
        while self.taken < 1000:
            self.taken += 1
            yield b"x" * 1024 * 1024


BOUNDED = ["digest_of", "manifest", "blob", "bundle", "layer", "referrers", "content", "verify_blob"]


@pytest.mark.parametrize("name", BOUNDED)
def test_a_registry_that_sends_more_than_it_should_is_an_error(name):
    """Reading ends where it is too much, whatever was announced; and it is never taken for junk."""
    body = Endless()

    with pytest.raises((RegistryFailed, ImageDamaged)):
        CALLS[name](client(lambda request: httpx.Response(200, stream=body)))
    assert body.taken < 300


@pytest.mark.parametrize("status", [400, 404, 500])
def test_of_a_failure_only_the_beginning_is_read(status):
    """Enough to say what it was."""
    body = Endless()

    with pytest.raises((RegistryFailed, ImageNotFound)):
        CALLS["blob"](client(lambda request: httpx.Response(status, stream=body)))
    assert body.taken < 5


def test_a_body_that_breaks_off_is_no_answer():
    """Half of a list, a manifest or a statement is none."""

    class Broken(httpx.SyncByteStream):
        def __iter__(self):
            yield b'{"manifests": []'
            raise httpx.RemoteProtocolError("peer closed connection without sending complete message body")

    for name in BOUNDED:
        with pytest.raises(RegistryUnavailable):
            CALLS[name](client(lambda request: httpx.Response(200, stream=Broken())))


def test_what_could_not_be_read_again_is_not_attached(server):
    """Evidence that is left out for its size would be no evidence."""
    with pytest.raises(RegistryFailed, match="at most"):
        client(server).attach(REF, TYPE, LARGE, {})
    assert len(server.manifests) == 1


@pytest.mark.parametrize("content", [b"", b"no json", b"[" * 100_000])
def test_a_manifest_that_is_no_json_is_damage(server, content):
    """Its digest may fit all the same."""
    server.manifests["dev/hello", digest_of(content)] = (content, MANIFEST)

    with pytest.raises(ImageDamaged):
        client(server).manifest(ImageRef(repository="dev/hello", digest=digest_of(content)))


class Hesitant:
    """Answers with each of these in turn, and then as a registry does."""

    def __init__(self, server, *answers):
        self.server, self.answers, self.waited = server, list(answers), []

    def __call__(self, request):
        return self.answers.pop(0) if self.answers else self.server(request)

    def client(self, **settings):
        return client(self, wait=self.waited.append, **settings)


def in_seconds(seconds):
    return format_datetime(datetime.now(UTC) + timedelta(seconds=seconds), usegmt=True)


@pytest.mark.parametrize(
    ("said", "waited"),
    [(None, 0.5), ("2", 2.0), (" 30 ", 30.0), ("0", None), ("soon", 0.5), ("-1", 0.5)],
)
def test_a_registry_that_asks_for_patience_is_asked_again(server, caplog, said, waited):
    """After as long as it says, and the log says why."""
    headers = {} if said is None else {"Retry-After": said}
    hesitant = Hesitant(server, httpx.Response(429, headers=headers, text="slowly"))

    with caplog.at_level("INFO"):
        assert hesitant.client().has(REF)

    assert hesitant.waited == ([] if waited is None else [waited])
    assert "answered 429" in caplog.text and "slowly" in caplog.text


def test_a_date_is_waited_for_too(server):
    """RFC 9110 allows both; one that is over is not waited for."""
    hesitant = Hesitant(server, httpx.Response(429, headers={"Retry-After": in_seconds(10)}))
    assert hesitant.client().has(REF)
    over = Hesitant(server, httpx.Response(429, headers={"Retry-After": in_seconds(-10)}))
    assert over.client().has(REF)

    assert 5 < hesitant.waited[0] < 11
    assert over.waited == []


def test_patience_has_an_end(server):
    """Of tries, and of what a registry may ask for."""
    never = Hesitant(server, *[httpx.Response(503)] * 4)
    with pytest.raises(RegistryUnavailable, match="answered 503"):
        never.client().has(REF)
    assert (never.answers, never.waited) == ([], [0.5, 1, 2])

    long = Hesitant(server, httpx.Response(429, headers={"Retry-After": "31"}))
    with pytest.raises(RegistryUnavailable, match="answered 429 and asks to come back in 31 s"):
        long.client().has(REF)
    assert long.waited == []


def test_what_may_have_been_written_is_not_written_again_here(server):
    """After a failure half-way the step looks first; who asked for patience did nothing."""
    failing = Hesitant(server, httpx.Response(500))
    with pytest.raises(RegistryUnavailable):
        failing.client().push_manifest("dev/hello", b"{}", MANIFEST)
    busy = Hesitant(server, httpx.Response(429))
    busy.client().push_manifest("dev/hello", b"{}", MANIFEST)

    assert (failing.waited, busy.waited) == ([], [0.5])


@pytest.mark.parametrize(
    "over", [httpx.Response(401), httpx.Response(403, text="Your authorization token has expired.")]
)
def test_a_token_whose_time_is_over_is_renewed_once(server, over):
    """And no longer tried where a new one is refused too."""
    renewed = []
    assert Hesitant(server, over).client(renew=lambda: renewed.append(1)).has(REF)
    with pytest.raises(AccessDenied):
        Hesitant(server, httpx.Response(401), httpx.Response(401)).client(renew=lambda: renewed.append(2)).has(REF)
    with pytest.raises(AccessDenied):
        Hesitant(server, httpx.Response(403, text="not you")).client(renew=lambda: renewed.append(3)).has(REF)

    assert renewed == [1, 2]
