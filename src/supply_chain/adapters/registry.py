"""An OCI registry over HTTP: manifests, blobs and referrers (OCI distribution 1.1)."""

from __future__ import annotations

import hashlib
import json
import logging
import ssl
import time
from collections.abc import Callable, Container, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from functools import cache, cached_property, partial
from typing import Any, Protocol

import httpx
from pydantic import BaseModel, Field, field_validator

from supply_chain.adapters.command import cancellation
from supply_chain.errors import (
    AccessDenied,
    ImageDamaged,
    ImageNotFound,
    RegistryFailed,
    RegistryUnavailable,
)
from supply_chain.evidence.store import NotEvidence, Referrer
from supply_chain.image import Descriptor, Digest, ImageRef, blobs_of, digest_of
from supply_chain.shown import plain

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
ACCEPT = ", ".join(
    (
        MANIFEST,
        INDEX,
        "application/vnd.docker.distribution.manifest.v2+json",
        "application/vnd.docker.distribution.manifest.list.v2+json",
    )
)
EMPTY = b"{}"
EMPTY_TYPE = "application/vnd.oci.empty.v1+json"
SMALL = 16 * 1024 * 1024
"""Bytes a piece of evidence may have."""
LARGEST_MANIFEST = 4 * 1024 * 1024
"""Bytes a manifest may have (OCI distribution 1.1, "Pushing Manifests"; ECR's quota)."""
LARGEST_PAGE = 64 * LARGEST_MANIFEST
"""Bytes a page of a list of referrers may have: ECR's 50 manifests and all of their annotations."""
CHUNK = 1024 * 1024
REMEMBERED = 32 * 1024 * 1024
"""Bytes of manifests and evidence that are kept in memory; more is read anew each time."""
TRIES = 4
"""How often a request is made to a registry that asks to come back later, or whose connection breaks."""
READING = ("GET", "HEAD")
BROKEN = (httpx.ReadError, httpx.WriteError, httpx.RemoteProtocolError)
"""What comes of a connection that the registry closed while nothing was asked, and of one that httpx's pool closed
under a thread that had just been given it: it looks whether one is unused, and closes it, without holding it
(httpcore 1.0)."""
LONGEST_WAIT = 30.0
"""Seconds that a registry may ask to be left alone; where it asks for more, the step ends."""
EXPIRED = "authorization token has expired"
"""What ECR says, with status 403, of a token whose time is over."""
log = logging.getLogger("supply_chain.registry")
TOO_LARGE = NotEvidence(why=f"larger than {SMALL // 1024 // 1024} MiB")


class Memory(Protocol):
    """Where a registry's client looks first for what lies under a digest; it compares what it finds with that."""

    def get(self, path: str) -> tuple[bytes, str] | None:
        """Content and media type of what was answered at a path."""

    def keep(self, path: str, content: bytes, media_type: str) -> None:
        """Keep it, if there is room."""


@dataclass
class InProcess:
    """As long as the process lives."""

    room: int = REMEMBERED
    known: dict[str, tuple[bytes, str]] = field(default_factory=dict)

    def get(self, path: str) -> tuple[bytes, str] | None:
        return self.known.get(path)

    def keep(self, path: str, content: bytes, media_type: str) -> None:
        if len(content) <= self.room:
            self.room -= len(content)
            self.known[path] = content, media_type


@cache
def _authorities() -> ssl.SSLContext:
    """Whom this process believes, which takes longer to read than a registry to answer."""
    return httpx.create_ssl_context()


@dataclass(frozen=True)
class Registry:
    """One role's access to a registry. `credentials` gives user and password, as they are known.

    `renew` is told when they are over, so that the next ones are new. `wait` takes seconds. Each step of a
    run reads the same evidence again: what lies under a digest is asked for once, as far as `memory` holds it, and
    what is attached each time.
    """

    host: str
    credentials: Callable[[], tuple[str, str]]
    insecure: bool = False
    timeout: float = 30.0
    transport: httpx.BaseTransport | None = field(default=None, compare=False)
    renew: Callable[[], object] = field(default=lambda: None, compare=False)
    wait: Callable[[float], object] = field(default=lambda seconds: cancellation().wait(seconds), compare=False)
    memory: Memory = field(default_factory=InProcess, compare=False, repr=False)

    @cached_property
    def _http(self) -> httpx.Client:
        return httpx.Client(
            base_url=f"{'http' if self.insecure else 'https'}://{self.host}/v2/",
            timeout=self.timeout,
            transport=self.transport or httpx.HTTPTransport(verify=_authorities(), retries=2),
            follow_redirects=True,
        )

    def digest_of(self, repository: str, tag: str) -> Digest | None:
        """The digest a tag points to at this moment, or None where there is no such tag."""
        answer = self._call("HEAD", f"{repository}/manifests/{tag}", accept=ACCEPT, missing="")
        if answer.status == 404:
            return None
        digest = answer.headers.get("Docker-Content-Digest")
        return digest or digest_of(self._manifest_of(f"{repository}/manifests/{tag}").content)

    def has(self, ref: ImageRef) -> bool:
        """Whether the repository holds this manifest."""
        path = f"{ref.repository}/manifests/{ref.digest}"
        return self._call("HEAD", path, accept=ACCEPT, missing="").status != 404

    def manifest(self, ref: ImageRef) -> dict[str, Any]:
        """A manifest whose content was checked against its digest."""
        return _object(*self._manifest_bytes(ref), ref)

    def _manifest_bytes(self, ref: ImageRef) -> tuple[bytes, str]:
        path = f"{ref.repository}/manifests/{ref.digest}"
        return self._verified(path, ref.digest, f"the manifest of {ref}", self._manifest_of)

    def _verified(self, path: str, digest: Digest, what: str, read: Callable[[str], _Answer]) -> tuple[bytes, str]:
        """Content and media type of what lies at a digest's path, checked against it; read once."""
        if known := self._known(path, digest):
            return known
        answer = read(path)
        _same(answer.content, digest, what)
        media_type = answer.headers.get("Content-Type", MANIFEST)
        self.memory.keep(path, answer.content, media_type)
        return answer.content, media_type

    def _known(self, path: str, digest: Digest) -> tuple[bytes, str] | None:
        known = self.memory.get(path)
        return known if known and digest_of(known[0]) == digest else None

    def _manifest_of(self, path: str) -> _Answer:
        return self._call("GET", path, accept=ACCEPT, most=LARGEST_MANIFEST)

    def blob(self, repository: str, digest: Digest) -> bytes:
        """A small blob, checked against its digest."""
        path = f"{repository}/blobs/{digest}"
        return self._verified(path, digest, f"a blob of {repository}", partial(self._call, "GET"))[0]

    def verify_blob(self, repository: str, digest: Digest, size: int) -> None:
        """Read a blob of any size and compare size and digest; `ImageDamaged` if they differ."""
        sha, seen = hashlib.sha256(), 0
        with self._asked("GET", f"{repository}/blobs/{digest}") as (answer, said):
            if answer.status_code != 200:
                raise _refused(answer, said, f"a blob of {repository}")
            for chunk in answer.iter_bytes(CHUNK):
                sha.update(chunk)
                seen += len(chunk)
                if seen > size:
                    break
        if f"sha256:{sha.hexdigest()}" != digest or seen != size:
            raise ImageDamaged(
                f"{repository} answers {digest} with {seen} bytes that are not it ({size} expected).\n"
                "Do not use the image. Push it again from its source and look at the registry's storage."
            )

    def referrers(self, subject: ImageRef) -> tuple[Referrer, ...]:
        """All referrers of an image in its repository (OCI distribution 1.1, "Listing Referrers").

        A repository that does not exist holds none. A registry without this endpoint cannot say, and
        that is an error.
        """
        found: list[Referrer] = []
        seen: set[str] = set()
        path: str | None = f"{subject.repository}/referrers/{subject.digest}"
        while path:
            answer = self._call("GET", path, accept=INDEX, missing="NAME_UNKNOWN", most=LARGEST_PAGE)
            if answer.status == 404:
                return ()
            found += _referrers(answer.content, subject)
            seen.add(str(answer.response.url))
            path = self._next(answer, seen)
        return tuple(found)

    def _next(self, answer: _Answer, seen: Container[str]) -> str | None:
        """The address of the next page, at this registry and not read yet."""
        link = answer.response.links.get("next", {}).get("url")
        if not link:
            return None
        following = answer.response.url.join(link)
        base = self._http.base_url
        if (following.scheme, following.netloc) != (base.scheme, base.netloc) or str(following) in seen:
            raise RegistryFailed(
                f"{self.host} names {following} as its next page.\nA list that leads away or in a circle is not read."
            )
        return str(following)

    def layer(self, referrer: ImageRef) -> Descriptor | NotEvidence:
        """What a referrer of unknown origin holds, if it is laid out as cosign lays out evidence."""
        try:
            content, media_type = self._manifest_bytes(referrer)
        except _Larger:
            return NotEvidence(why="larger than a manifest may be")
        try:
            config, *layers = blobs_of(_object(content, media_type, referrer), referrer)
        except ImageDamaged:
            return NotEvidence(why="no manifest of an artifact")
        if config.digest != digest_of(EMPTY) or len(layers) != 1:
            return NotEvidence(why="not laid out as one piece of evidence")
        return layers[0] if layers[0].size <= SMALL else TOO_LARGE

    def bundle(self, repository: str, digest: Digest) -> bytes | NotEvidence:
        """The content of such a layer, checked against its digest."""
        path = f"{repository}/blobs/{digest}"
        if known := self._known(path, digest):
            return known[0]
        try:
            answer = self._call("GET", path, missing="BLOB_UNKNOWN")
        except _Larger:
            return TOO_LARGE
        if answer.status == 404:
            return NotEvidence(why="without their content in the registry")
        _same(answer.content, digest, f"a blob of {repository}")
        self.memory.keep(path, answer.content, "")
        return answer.content

    def content(self, referrer: ImageRef) -> bytes:
        """The only layer of a referrer that signed evidence names, checked against its digest."""
        layer = self.layer(referrer)
        content = layer if isinstance(layer, NotEvidence) else self.bundle(referrer.repository, layer.digest)
        if isinstance(content, NotEvidence):
            raise ImageDamaged(
                f"{referrer} cannot be read as one piece of evidence: {content.why}\n"
                "Find out who attached it; it is of no use here."
            )
        return content

    def attach(
        self,
        subject: ImageRef,
        artifact_type: str,
        content: bytes,
        annotations: Mapping[str, str],
        media_type: str | None = None,
    ) -> Digest:
        """Push `content` as the only layer of a referrer of `subject`, which need not be in the repository.

        What nobody would read again, as it is too large, is not pushed.
        """
        if len(content) > SMALL:
            raise RegistryFailed(
                f"What should be attached to {subject} has {len(content)} bytes, and evidence at most {SMALL}.\n"
                "Nothing was attached. Find out what made it so large."
            )
        for blob in (EMPTY, content):
            self.push_blob(subject.repository, blob)
        manifest = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "artifactType": artifact_type,
            "config": {"mediaType": EMPTY_TYPE, "digest": digest_of(EMPTY), "size": len(EMPTY)},
            "layers": [{"mediaType": media_type or artifact_type, "digest": digest_of(content), "size": len(content)}],
            "subject": {"mediaType": MANIFEST, "digest": subject.digest, "size": self._size(subject)},
            "annotations": dict(annotations),
        }
        return self.push_manifest(subject.repository, json.dumps(manifest, sort_keys=True).encode(), MANIFEST)

    def _size(self, subject: ImageRef) -> int:
        answer = self._call("HEAD", f"{subject.repository}/manifests/{subject.digest}", accept=ACCEPT, missing="")
        return int(answer.headers.get("Content-Length") or 0) if answer.status == 200 else 0

    def push_blob(self, repository: str, content: bytes) -> Digest:
        """Push a small blob if it is not there."""
        digest = digest_of(content)
        self._ensure_blob(repository, digest, lambda: content)
        return digest

    def _ensure_blob(self, repository: str, digest: Digest, content: Callable[[], bytes]) -> None:
        if self._call("HEAD", f"{repository}/blobs/{digest}", missing="").status != 200:
            where = self._call("POST", f"{repository}/blobs/uploads/").headers["Location"].removeprefix("/v2/")
            address = f"{where}{'&' if '?' in where else '?'}digest={digest}"
            self._call("PUT", address, content=content(), media_type="application/octet-stream")

    def push_manifest(self, repository: str, content: bytes, media_type: str) -> Digest:
        """Push a manifest by digest."""
        digest = digest_of(content)
        self._call("PUT", f"{repository}/manifests/{digest}", content=content, media_type=media_type)
        return digest

    def copy_referrer(self, referrer: ImageRef, repository: str) -> None:
        """Copy a small referrer, byte for byte, to the same subject in another repository."""
        content, media_type = self._manifest_bytes(referrer)
        for blob in blobs_of(_object(content, media_type, referrer), referrer):
            self._ensure_blob(repository, blob.digest, partial(self.blob, referrer.repository, blob.digest))
        self.push_manifest(repository, content, media_type)

    def _call(
        self,
        method: str,
        path: str,
        *,
        accept: str | None = None,
        content: bytes | None = None,
        media_type: str | None = None,
        missing: str | None = None,
        most: int = SMALL,
    ) -> _Answer:
        """A whole answer of at most so many bytes; one of 404 too, where `missing` is in what it says.

        What is only read is asked for again where the connection broke.
        """
        headers = {key: value for key, value in {"Accept": accept, "Content-Type": media_type}.items() if value}
        for attempt in range(TRIES):
            try:
                with self._asked(method, path, headers, content) as (answer, said):
                    if answer.status_code < 300:
                        return _Answer(answer, b"" if method == "HEAD" else _whole(answer, most, path))
            except RegistryUnavailable as error:
                if method not in READING or attempt + 1 == TRIES or not isinstance(error.__cause__, BROKEN):
                    raise
                log.info("%s %s is asked for again: %s", method, path, plain(str(error.__cause__)))
            else:
                break
        if answer.status_code == 404 and missing is not None and missing in said:
            return _Answer(answer, said.encode())
        raise _refused(answer, said, f"{method} {path}")

    @contextmanager
    def _asked(
        self, method: str, path: str, headers: Mapping[str, str] | None = None, content: bytes | None = None
    ) -> Iterator[tuple[httpx.Response, str]]:
        """An answer whose body is still to be read, as it is stored; or what an answer of failure says first.

        A registry that asks to come back later is asked again, after as long as it says: at most `TRIES`
        times, and `LONGEST_WAIT` seconds each. Where the token's time is over, a new one is got, once.
        """
        headers = {"Accept-Encoding": "identity", **(headers or {})}
        renewed = False
        try:
            with ExitStack() as stack:
                for attempt in range(TRIES):
                    asked = self._http.stream(method, path, headers=headers, content=content, auth=self.credentials())
                    answer = stack.enter_context(asked)
                    said = _beginning(answer) if answer.status_code >= 300 else ""
                    expired = not renewed and (answer.status_code == 401 or EXPIRED in said.lower())
                    seconds = 0.0 if expired else _patience(answer, method, attempt)
                    if seconds is None or attempt + 1 == TRIES:
                        break
                    stack.close()
                    self._again(f"{method} {path}", answer.status_code, said, seconds)
                    if expired:
                        self.renew()
                        renewed = True
                yield answer, said
        except httpx.HTTPError as error:
            raise _unavailable(self.host, error) from error

    def _again(self, what: str, status: int, said: str, seconds: float) -> None:
        log.info("the registry answered %d (%s): %s; asked again in %.1f s", status, what, plain(said[:200]), seconds)
        if seconds:
            self.wait(seconds)


@dataclass(frozen=True)
class _Answer:
    """What a registry said, all of it."""

    response: httpx.Response
    content: bytes

    @property
    def status(self) -> int:
        return self.response.status_code

    @property
    def headers(self) -> httpx.Headers:
        return self.response.headers


class _Larger(RegistryFailed):
    """The registry has more of it than may be read, and says so."""


def _whole(answer: httpx.Response, most: int, path: str) -> bytes:
    """The body, if it is small enough; what is longer than it should be is not kept and not read on."""
    announced = answer.headers.get("Content-Length", "")
    if announced.isdigit() and int(announced) > most:
        raise _Larger(f"{path} has {announced} bytes, and at most {most} are read.\nFind out who pushed it.")
    content = bytearray()
    for chunk in answer.iter_bytes(CHUNK):
        content += chunk
        if len(content) > most:
            raise RegistryFailed(
                f"The registry sends more than {most} bytes for {path}.\nLook at the registry, and at what is between."
            )
    return bytes(content)


def _patience(answer: httpx.Response, method: str, attempt: int) -> float | None:
    """Seconds until the same request may be made again; None where that is of no use, or too long to wait for.

    What failed half-way may have been done, so that of 5xx only reading is repeated here; the step does the rest.
    """
    if answer.status_code != 429 and (answer.status_code < 500 or method not in READING):
        return None
    asked = _retry_after(answer)
    if asked is None:
        return 0.5 * 2.0**attempt
    return asked if asked <= LONGEST_WAIT else None


def _retry_after(answer: httpx.Response) -> float | None:
    """Seconds that an answer asks to wait (RFC 9110, "Retry-After": a number of them or a date)."""
    said = answer.headers.get("Retry-After", "").strip()
    if said.isascii() and said.isdigit():
        return float(said)
    try:
        return max(0.0, parsedate_to_datetime(said).timestamp() - time.time())
    except (ValueError, OverflowError):
        return None


def _beginning(answer: httpx.Response) -> str:
    """What an answer of failure says first."""
    said = next(answer.iter_bytes(CHUNK), b"")
    return said.decode("utf-8", "replace")[:500]


class _Entry(BaseModel):
    """A descriptor in a list of referrers."""

    digest: Digest
    artifact_type: str = Field(default="", alias="artifactType")
    annotations: dict[str, str] = Field(default_factory=dict)

    @field_validator("artifact_type", mode="before")
    @classmethod
    def _text(cls, value: Any) -> str:
        """Its author writes it, and not every registry looks at it: what is no text is none."""
        return value if isinstance(value, str) else ""

    @field_validator("annotations", mode="before")
    @classmethod
    def _texts(cls, value: Any) -> dict[str, str]:
        texts = value.items() if isinstance(value, dict) else ()
        return {key: text for key, text in texts if isinstance(text, str)}


class _Page(BaseModel):
    """A page of a list of referrers: an image index (OCI distribution 1.1)."""

    manifests: tuple[_Entry, ...] | None = None


def _referrers(content: bytes, subject: ImageRef) -> list[Referrer]:
    try:
        page = _Page.model_validate(json.loads(content))
    except (ValueError, RecursionError) as error:
        raise RegistryFailed(
            f"The registry's list of what refers to {subject} cannot be read: {str(error)[:300]}\n"
            "Part of the evidence is not all of it. Look at the registry's version and its log."
        ) from error
    return [
        Referrer(digest=e.digest, artifact_type=e.artifact_type, annotations=e.annotations)
        for e in page.manifests or ()
    ]


def manifest_in(content: bytes, ref: ImageRef) -> dict[str, Any]:
    """A manifest that somebody else kept; `ImageDamaged` unless it is what the digest is of."""
    if digest_of(content) != ref.digest:
        raise ImageDamaged(f"What was kept as the manifest of {ref} is another.\nFind out who signed it.")
    return _object(content, "", ref)


def _object(content: bytes, media_type: str, ref: ImageRef) -> dict[str, Any]:
    try:
        value = json.loads(content)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise ImageDamaged(f"{ref} is not a manifest.\nFind out who pushed it; it is of no use here.")
    said = value.get("mediaType", media_type)
    if media_type and said != media_type.partition(";")[0].strip():
        raise ImageDamaged(
            f"{ref} calls itself {said!r} and is served as {media_type!r}: clients would read it differently.\n"
            "Do not use it. Find out who pushed it."
        )
    return value


def _same(content: bytes, digest: Digest, what: str) -> None:
    if digest_of(content) != digest:
        raise ImageDamaged(
            f"The registry answers {what} with other content than {digest}.\n"
            "Do not use it. Look at the registry's storage and at who can write to it."
        )


def _unavailable(host: str, error: Exception) -> RegistryUnavailable:
    return RegistryUnavailable(
        f"The registry {host} did not answer: {error}\nCheck that it runs (`cscm status`); the step is tried again."
    )


def _refused(answer: httpx.Response, said: str, what: str) -> RegistryFailed | AccessDenied | ImageNotFound:
    if answer.status_code in (401, 403):
        return AccessDenied(
            f"The registry does not let this tier's role do this ({what}): {said}\n"
            "Each tier may read and write only what its policy in deployments/iam allows."
        )
    if answer.status_code == 404:
        return ImageNotFound(
            f"The registry has no such thing ({what}): {said}\nCheck the reference; `cscm status` shows the registry."
        )
    if answer.status_code == 429 or answer.status_code >= 500:
        later = _retry_after(answer)
        asks = f" and asks to come back in {later:.0f} s" if later else ""
        return RegistryUnavailable(
            f"The registry answered {answer.status_code}{asks} ({what}): {said}\nThe step is tried again."
        )
    return RegistryFailed(f"The registry answered {answer.status_code} ({what}): {said}\nNothing was changed.")
