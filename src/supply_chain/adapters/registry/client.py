"""An OCI registry: manifests, blobs and referrers (OCI distribution 1.1)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from supply_chain.adapters.registry.http import Answer, Larger, RegistryHttp
from supply_chain.adapters.registry.referrer_lists import referrers_in
from supply_chain.errors import ImageDamaged, RegistryFailed
from supply_chain.evidence.store import NotEvidence, Referrer
from supply_chain.model.image import Descriptor, Digest, ImageRef, blobs_of, digest_of

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
"""Bytes a piece of evidence may have, and whatever else is read whole."""
EMPTY = b"{}"
EMPTY_TYPE = "application/vnd.oci.empty.v1+json"
LARGEST_MANIFEST = 4 * 1024 * 1024
"""Bytes a manifest may have (OCI distribution 1.1, "Pushing Manifests"; ECR's quota)."""
LARGEST_PAGE = 64 * LARGEST_MANIFEST
"""Bytes a page of a list of referrers may have: ECR's 50 manifests and all of their annotations."""
REMEMBERED = 32 * 1024 * 1024
"""Bytes of manifests and evidence that are kept in memory; more is read anew each time."""
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


@dataclass(frozen=True)
class Registry:
    """One role's access to a registry.

    Each step of a run reads the same evidence again: what lies under a digest is asked for once, as far as `memory`
    holds it, and what is attached each time.
    """

    http: RegistryHttp
    memory: Memory = field(default_factory=InProcess, compare=False, repr=False)

    def digest_of(self, repository: str, tag: str) -> Digest | None:
        """The digest a tag points to at this moment, or None where there is no such tag."""
        answer = self.http.call("HEAD", f"{repository}/manifests/{tag}", accept=ACCEPT, missing="")
        if answer.status == 404:
            return None
        digest = answer.headers.get("Docker-Content-Digest")
        return digest or digest_of(self._manifest_of(f"{repository}/manifests/{tag}").content)

    def has(self, ref: ImageRef) -> bool:
        """Whether the repository holds this manifest."""
        path = f"{ref.repository}/manifests/{ref.digest}"
        return self.http.call("HEAD", path, accept=ACCEPT, missing="").status != 404

    def manifest(self, ref: ImageRef) -> dict[str, Any]:
        """A manifest whose content was checked against its digest."""
        return _object(*self._manifest_bytes(ref), ref)

    def _manifest_bytes(self, ref: ImageRef) -> tuple[bytes, str]:
        path = f"{ref.repository}/manifests/{ref.digest}"
        return self._verified(path, ref.digest, f"the manifest of {ref}", self._manifest_of)

    def _verified(self, path: str, digest: Digest, what: str, read: Callable[[str], Answer]) -> tuple[bytes, str]:
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

    def _manifest_of(self, path: str) -> Answer:
        return self.http.call("GET", path, accept=ACCEPT, most=LARGEST_MANIFEST)

    def blob(self, repository: str, digest: Digest) -> bytes:
        """A small blob, checked against its digest."""
        path = f"{repository}/blobs/{digest}"
        return self._verified(path, digest, f"a blob of {repository}", partial(self.http.call, "GET", most=SMALL))[0]

    def verify_blob(self, repository: str, digest: Digest, size: int) -> None:
        """Read a blob of any size and compare size and digest; `ImageDamaged` if they differ."""
        self._read_blob(repository, digest, size, len)

    def download(self, repository: str, digest: Digest, target: Path, size: int) -> None:
        """Write a blob of `size` bytes to a file; `ImageDamaged` where it is another."""
        with target.open("wb") as file:
            self._read_blob(repository, digest, size, file.write)

    def _read_blob(self, repository: str, digest: Digest, size: int, take: Callable[[bytes], int]) -> None:
        """Give a blob to `take`, which returns how many bytes it took, as far as its size; then compare."""
        sha, seen = hashlib.sha256(), 0
        for chunk in self.http.chunks(f"{repository}/blobs/{digest}", f"a blob of {repository}"):
            sha.update(chunk)
            seen += take(chunk)
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
            answer = self.http.call("GET", path, accept=INDEX, missing="NAME_UNKNOWN", most=LARGEST_PAGE)
            if answer.status == 404:
                return ()
            found += referrers_in(answer.content, subject)
            seen.add(str(answer.response.url))
            path = self.http.next_page(answer, seen)
        return tuple(found)

    def layer(self, referrer: ImageRef) -> Descriptor | NotEvidence:
        """What a referrer of unknown origin holds, if it is laid out as cosign lays out evidence."""
        try:
            content, media_type = self._manifest_bytes(referrer)
        except Larger:
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
            answer = self.http.call("GET", path, missing="BLOB_UNKNOWN", most=SMALL)
        except Larger:
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
        answer = self.http.call("HEAD", f"{subject.repository}/manifests/{subject.digest}", accept=ACCEPT, missing="")
        return int(answer.headers.get("Content-Length") or 0) if answer.status == 200 else 0

    def push_blob(self, repository: str, content: bytes) -> Digest:
        """Push a small blob if it is not there."""
        digest = digest_of(content)
        self._ensure_blob(repository, digest, lambda: content)
        return digest

    def _ensure_blob(self, repository: str, digest: Digest, content: Callable[[], bytes]) -> None:
        if self.http.call("HEAD", f"{repository}/blobs/{digest}", missing="").status != 200:
            where = self.http.call("POST", f"{repository}/blobs/uploads/").headers["Location"].removeprefix("/v2/")
            address = f"{where}{'&' if '?' in where else '?'}digest={digest}"
            self.http.call("PUT", address, content=content(), media_type="application/octet-stream")

    def push_manifest(self, repository: str, content: bytes, media_type: str) -> Digest:
        """Push a manifest by digest."""
        digest = digest_of(content)
        self.http.call("PUT", f"{repository}/manifests/{digest}", content=content, media_type=media_type)
        return digest

    def copy_referrer(self, referrer: ImageRef, repository: str) -> None:
        """Copy a small referrer, byte for byte, to the same subject in another repository."""
        content, media_type = self._manifest_bytes(referrer)
        for blob in blobs_of(_object(content, media_type, referrer), referrer):
            self._ensure_blob(repository, blob.digest, partial(self.blob, referrer.repository, blob.digest))
        self.push_manifest(repository, content, media_type)


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
