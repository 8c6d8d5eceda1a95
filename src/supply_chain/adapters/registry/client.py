"""Reads and writes manifests, blobs and referrers of an OCI registry (OCI distribution 1.1)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from supply_chain.adapters.files.free_space import require_space
from supply_chain.adapters.registry.http import Answer, BodyTooLarge, LargeBodyAnnounced, RegistryHttp
from supply_chain.adapters.registry.referrer_lists import parse_referrers
from supply_chain.concurrency import KeyedLock
from supply_chain.errors import ImageDamaged, RegistryFailed, TooManyReferrers
from supply_chain.evidence.store import LOST, NotEvidence, Referrer
from supply_chain.model.image import Descriptor, Digest, ImageRef, digest_of, list_blobs

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
SMALL = 16 * 1024 * 1024
"""Maximum bytes of a piece of evidence and of any other blob that is read into memory."""
EMPTY = b"{}"
EMPTY_TYPE = "application/vnd.oci.empty.v1+json"
LARGEST_MANIFEST = 4 * 1024 * 1024
"""Maximum bytes of a manifest (OCI distribution 1.1, "Pushing Manifests"; ECR's quota)."""
LARGEST_REFERRER = 16 * 1024
"""Maximum bytes of a manifest of evidence, above what a real one has: anybody who can push can attach thousands."""
LARGEST_LIST = 64 * 1024 * 1024
"""Maximum bytes of a list of referrers, with all of their annotations: five times those of `evidence.store.MOST`."""
REMEMBERED = 32 * 1024 * 1024
"""Maximum bytes of manifests and evidence that are cached in memory; the rest is read again each time."""
BRACKETS = 100
"""Maximum number of opening brackets in the manifest of evidence, above what a real one has. Whether one that is nested
more deeply can be parsed depends on the caller.
"""
TOO_LARGE = NotEvidence(why=f"larger than {SMALL // 1024 // 1024} MiB")


class Cache(Protocol):
    """A cache of what a registry stores under digests. The client compares what it finds there with the digest."""

    def get(self, path: str) -> tuple[bytes, str] | None:
        """Return the content and media type that the registry answered at a path; None if they are not cached."""

    def put(self, path: str, content: bytes, media_type: str) -> None:
        """Cache the content of a path, if there is room."""


@dataclass
class MemoryCache:
    """A cache that lives as long as the process; `room` is the number of bytes that are left."""

    room: int = REMEMBERED
    entries: dict[str, tuple[bytes, str]] = field(default_factory=dict)

    def get(self, path: str) -> tuple[bytes, str] | None:
        """Return the cached content and media type of a path; None if there is none."""
        return self.entries.get(path)

    def put(self, path: str, content: bytes, media_type: str) -> None:
        """Cache the content of a path, if there is room."""
        if len(content) <= self.room:
            self.room -= len(content)
            self.entries[path] = content, media_type


@dataclass(frozen=True)
class Registry:
    """A registry with the permissions of one role.

    The steps of a run read the same evidence again and again, several at the same time. Content under a digest is
    requested once, as far as `memory` has room for it. The list of what is attached to an image is requested each time.
    """

    http: RegistryHttp
    memory: Cache = field(default_factory=MemoryCache, compare=False, repr=False)
    _reading: KeyedLock = field(default_factory=KeyedLock, init=False, compare=False, repr=False)
    """Held by the path of the content that is requested."""

    def digest_of(self, repository: str, tag: str) -> Digest | None:
        """Return the digest that a tag points to now, or None if there is no such tag."""
        answer = self.http.call("HEAD", f"{repository}/manifests/{tag}", accept=ACCEPT, missing="")
        if answer.status == 404:
            return None
        digest = answer.headers.get("Docker-Content-Digest")
        return digest or digest_of(self._fetch_manifest(f"{repository}/manifests/{tag}").content)

    def manifest(self, ref: ImageRef) -> dict[str, Any]:
        """Return a manifest, after its content was compared with its digest."""
        return _object(*self._manifest_bytes(ref), ref)

    def read_manifest_text(self, ref: ImageRef) -> str:
        """Return a manifest as an engine reads it, after its content was compared with its digest."""
        return self._manifest_bytes(ref)[0].decode("utf-8", "replace")

    def _manifest_bytes(self, ref: ImageRef, most: int = LARGEST_MANIFEST) -> tuple[bytes, str]:
        path = f"{ref.repository}/manifests/{ref.digest}"
        fetch = partial(self._fetch_manifest, most=most)
        return self._read_verified(path, ref.digest, f"the manifest of {ref}", fetch)

    def _fetch_manifest(self, path: str, most: int = LARGEST_MANIFEST) -> Answer:
        return self.http.call("GET", path, accept=ACCEPT, most=most)

    def _read_verified(self, path: str, digest: Digest, what: str, read: Callable[[str], Answer]) -> tuple[bytes, str]:
        """Return content and media type at the path of a digest, from the cache or verified against the digest."""
        with self._reading.hold(path):
            if cached := self._read_cached(path, digest):
                return cached
            answer = read(path)
            _check_digest(answer.content, digest, what)
            media_type = answer.headers.get("Content-Type", MANIFEST)
            self.memory.put(path, answer.content, media_type)
            return answer.content, media_type

    def _read_cached(self, path: str, digest: Digest) -> tuple[bytes, str] | None:
        cached = self.memory.get(path)
        return cached if cached and digest_of(cached[0]) == digest else None

    def blob(self, repository: str, digest: Digest) -> bytes:
        """Return a small blob, verified against its digest."""
        path = f"{repository}/blobs/{digest}"
        return self._read_verified(path, digest, f"a blob of {repository}", partial(self.http.call, "GET", most=SMALL))[
            0
        ]

    def verify_blob(self, repository: str, digest: Digest, size: int) -> None:
        """Read a blob of any size and compare its size and digest; raise `ImageDamaged` if they differ."""
        self._read_blob(repository, digest, size, len)

    def download(self, repository: str, digest: Digest, target: Path, size: int) -> None:
        """Write a blob of `size` bytes to a file; raise `ImageDamaged` if its size or digest differs.

        Raises `DiskFull` if it would use the reserve of free space.
        """
        with target.open("wb") as file:

            def write(chunk: bytes) -> int:
                require_space(target.parent, f"A blob of {repository} is not downloaded")
                return file.write(chunk)

            self._read_blob(repository, digest, size, write)

    def _read_blob(self, repository: str, digest: Digest, size: int, take: Callable[[bytes], int]) -> None:
        """Pass a blob in pieces to `take`, which returns the bytes that it took, and compare size and digest.

        Reading stops at the first piece beyond `size`. Raises `ImageDamaged` if size or digest differs.
        """
        sha, received = hashlib.sha256(), 0
        for chunk in self.http.chunks(f"{repository}/blobs/{digest}", f"a blob of {repository}"):
            sha.update(chunk)
            received += take(chunk)
            if received > size:
                break
        if f"sha256:{sha.hexdigest()}" != digest or received != size:
            raise ImageDamaged(
                f"The registry returned {received} bytes for {repository}@{digest}, which do not match its digest or "
                f"its size of {size} bytes.\n"
                "Do not use the image. Push it again from its source, and check the registry's storage."
            )

    def referrers(self, subject: ImageRef) -> tuple[Referrer, ...]:
        """Return all referrers of an image in its repository (OCI distribution 1.1, "Listing Referrers").

        A repository that does not exist has none. A registry without this endpoint raises an error. Raises
        `TooManyReferrers` for a list that is larger than `LARGEST_LIST`: whoever can push there can make it so.
        """
        referrers: list[Referrer] = []
        visited: set[str] = set()
        left = LARGEST_LIST
        path: str | None = f"{subject.repository}/referrers/{subject.digest}"
        while path:
            missing = "" if visited else "NAME_UNKNOWN"
            try:
                answer = self.http.call("GET", path, accept=INDEX, missing=missing, most=left)
            except BodyTooLarge as error:
                raise TooManyReferrers(
                    f"The list of what is attached to {subject} is larger than {LARGEST_LIST // 1024 // 1024} MiB, and "
                    "no more is read.\nFind out who attached it, and let an administrator remove it; then run the step "
                    "again."
                ) from error
            if answer.status == 404 and visited:
                raise RegistryFailed(
                    f"The registry's list of referrers of {subject} is incomplete: a page that it names does not "
                    "exist.\nThe evidence may therefore be incomplete, so it is not used. Try again, and read the "
                    "registry's log."
                )
            if answer.status == 404:
                return ()
            left -= len(answer.content)
            referrers += parse_referrers(answer.content, subject)
            visited.add(str(answer.response.url))
            path = self.http.find_next_page(answer, visited)
        return tuple(referrers)

    def layer(self, referrer: ImageRef) -> Descriptor | NotEvidence:
        """Return the only layer of a referrer of unknown origin, if its layout is that of cosign's evidence.

        The content alone decides, because its digest covers it: whoever can push the same manifest again under another
        media type must not hide a statement.
        """
        try:
            content, _ = self._manifest_bytes(referrer, LARGEST_REFERRER)
        except LargeBodyAnnounced:
            return NotEvidence(why="larger than a manifest of evidence may be")
        if content.count(b"{") + content.count(b"[") > BRACKETS:
            return NotEvidence(why="not laid out as one piece of evidence")
        try:
            config, *layers = list_blobs(_object(content, MANIFEST, referrer), referrer)
        except ImageDamaged:
            return NotEvidence(why="no manifest of an artifact")
        if config.digest != digest_of(EMPTY) or len(layers) != 1:
            return NotEvidence(why="not laid out as one piece of evidence")
        return layers[0] if layers[0].size <= SMALL else TOO_LARGE

    def bundle(self, repository: str, digest: Digest) -> bytes | NotEvidence:
        """Return the content of such a layer, verified against its digest."""
        path = f"{repository}/blobs/{digest}"
        with self._reading.hold(path):
            if cached := self._read_cached(path, digest):
                return cached[0]
            try:
                answer = self.http.call("GET", path, missing="BLOB_UNKNOWN", most=SMALL)
            except LargeBodyAnnounced:
                return TOO_LARGE
            if answer.status == 404:
                return LOST
            _check_digest(answer.content, digest, f"a blob of {repository}")
            self.memory.put(path, answer.content, "")
            return answer.content

    def content(self, referrer: ImageRef) -> bytes:
        """Return the only layer of a referrer that signed evidence names, verified against its digest.

        Raises `ImageDamaged` if the referrer is not one piece of evidence.
        """
        layer = self.layer(referrer)
        content = layer if isinstance(layer, NotEvidence) else self.bundle(referrer.repository, layer.digest)
        if isinstance(content, NotEvidence):
            raise ImageDamaged(
                f"{referrer} cannot be read as one piece of evidence: {content.why}\n"
                "Find out who attached it; it is not used."
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

        Raises `RegistryFailed`, and pushes nothing, if the content is too large to be read again.
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
        answer = self.http.call("HEAD", f"{subject.repository}/manifests/{subject.digest}", accept=ACCEPT, missing="")
        return int(answer.headers.get("Content-Length") or 0) if answer.status == 200 else 0

    def push_blob(self, repository: str, content: bytes) -> Digest:
        """Push a small blob if the repository does not have it; return its digest."""
        digest = digest_of(content)
        self._ensure_blob(repository, digest, lambda: content)
        return digest

    def _ensure_blob(self, repository: str, digest: Digest, content: Callable[[], bytes]) -> None:
        if self.http.call("HEAD", f"{repository}/blobs/{digest}", missing="").status != 200:
            where = self.http.call("POST", f"{repository}/blobs/uploads/").headers["Location"].removeprefix("/v2/")
            address = f"{where}{'&' if '?' in where else '?'}digest={digest}"
            self.http.call("PUT", address, content=content(), media_type="application/octet-stream")

    def push_manifest(self, repository: str, content: bytes, media_type: str) -> Digest:
        """Push a manifest by digest; return the digest."""
        digest = digest_of(content)
        self.http.call("PUT", f"{repository}/manifests/{digest}", content=content, media_type=media_type)
        return digest

    def copy_referrer(self, referrer: ImageRef, repository: str) -> None:
        """Copy a small referrer, byte for byte, to the same subject in another repository."""
        content, _ = self._manifest_bytes(referrer)
        for blob in list_blobs(_object(content, MANIFEST, referrer), referrer):
            self._ensure_blob(repository, blob.digest, partial(self.blob, referrer.repository, blob.digest))
        self.push_manifest(repository, content, MANIFEST)


def parse_manifest(content: bytes, ref: ImageRef) -> dict[str, Any]:
    """Parse a manifest that was stored elsewhere; raise `ImageDamaged` unless its digest is that of `ref`."""
    if digest_of(content) != ref.digest:
        raise ImageDamaged(
            f"The manifest of {ref} in its signed SBOM does not match its digest.\nFind out who signed the SBOM."
        )
    return _object(content, "", ref)


def _object(content: bytes, media_type: str, ref: ImageRef) -> dict[str, Any]:
    try:
        value = json.loads(content)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise ImageDamaged(f"{ref} is not a manifest.\nFind out who pushed it; it is not used.")
    stated = value.get("mediaType", media_type)
    if media_type and stated != media_type.partition(";")[0].strip():
        raise ImageDamaged(
            f"{ref} calls itself {stated!r} and is served as {media_type!r}: clients would read it differently.\n"
            "Do not use it. Find out who pushed it."
        )
    return value


def _check_digest(content: bytes, digest: Digest, what: str) -> None:
    if digest_of(content) != digest:
        raise ImageDamaged(
            f"The registry returned content for {what} that does not match the digest {digest}.\n"
            "Do not use it. Check the registry's storage, and who can write to it."
        )
