"""A registry in memory, with the methods of `adapters.registry.client.Registry`; `memory_ecr` administers it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from supply_chain.adapters.registry.client import EMPTY, EMPTY_TYPE, MANIFEST, SMALL, TOO_LARGE, parse_manifest
from supply_chain.errors import ImageDamaged, ImageNotFound, RegistryFailed
from supply_chain.evidence.store import LOST, NotEvidence, Referrer
from supply_chain.model.image import Descriptor, Digest, ImageRef, StorageStatus, StoredManifest, digest_of, list_blobs
from tests.support.builders import NOON
from tests.support.content import Content, descriptor


@dataclass
class MemoryRepository:
    """A repository: its settings, what is listed of its manifests, and all content (manifests and blobs) by digest."""

    immutable: bool = False
    key: str | None = None
    manifests: dict[Digest, StoredManifest] = field(default_factory=dict)
    annotations: dict[Digest, dict[str, str]] = field(default_factory=dict)
    contents: dict[Digest, bytes] = field(default_factory=dict)

    def listed(self) -> tuple[StoredManifest, ...]:
        """Return all manifests; another thread may push at the same time."""
        return tuple(self.manifests.values())


@dataclass
class MemoryRegistry:
    """Repositories by name. A push creates its repository, as with ECR's "create on push", unless that is disabled."""

    create_on_push: bool = True
    clock: Callable[[], datetime] = lambda: NOON
    repositories: dict[str, MemoryRepository] = field(default_factory=dict)
    pushes: int = 0
    named: set[ImageRef] = field(default_factory=set)
    """Manifests that a test added under a digest of its choice, which is not verified."""

    # what the client reads

    def digest_of(self, repository: str, tag: str) -> Digest | None:
        return next((each.digest for each in self._pullable(repository) if tag in each.tags), None)

    def has(self, ref: ImageRef) -> bool:
        return any(each.digest == ref.digest for each in self._pullable(ref.repository))

    def manifest(self, ref: ImageRef) -> dict[str, Any]:
        content = self._manifest(ref)
        named: dict[str, Any] | None = json.loads(content) if ref in self.named else None
        return parse_manifest(content, ref) if named is None else named

    def blob(self, repository: str, digest: Digest) -> bytes:
        content = self._content(repository, digest)
        if digest_of(content) != digest:
            raise ImageDamaged(f"{repository} has other content than {digest}.\nDo not use it.")
        return content

    def verify_blob(self, repository: str, digest: Digest, size: int) -> None:
        if len(self.blob(repository, digest)) != size:
            raise ImageDamaged(f"{digest} in {repository} does not have {size} bytes.\nDo not use it.")

    def download(self, repository: str, digest: Digest, target: Path, size: int) -> None:
        self.verify_blob(repository, digest, size)
        target.write_bytes(self.blob(repository, digest))

    def referrers(self, subject: ImageRef) -> tuple[Referrer, ...]:
        annotations = self._repository(subject.repository).annotations
        return tuple(
            Referrer(
                digest=each.digest, artifact_type=each.artifact_type or "", annotations=annotations.get(each.digest, {})
            )
            for each in self._pullable(subject.repository)
            if each.subject == subject.digest
        )

    def layer(self, referrer: ImageRef) -> Descriptor | NotEvidence:
        content = self._manifest(referrer)
        try:
            config, *layers = list_blobs(parse_manifest(content, referrer), referrer)
        except ImageDamaged:
            return NotEvidence(why="no manifest of an artifact")
        if config.digest != digest_of(EMPTY) or len(layers) != 1:
            return NotEvidence(why="not laid out as one piece of evidence")
        return layers[0] if layers[0].size <= SMALL else TOO_LARGE

    def bundle(self, repository: str, digest: Digest) -> bytes | NotEvidence:
        try:
            return self.blob(repository, digest)
        except ImageNotFound:
            return LOST

    def content(self, referrer: ImageRef) -> bytes:
        layer = self.layer(referrer)
        content = layer if isinstance(layer, NotEvidence) else self.bundle(referrer.repository, layer.digest)
        if isinstance(content, NotEvidence):
            raise ImageDamaged(f"{referrer} cannot be read: {content.why}\nFind out who attached it.")
        return content

    # what the client writes

    def attach(
        self,
        subject: ImageRef,
        artifact_type: str,
        content: bytes,
        annotations: Mapping[str, str],
        media_type: str | None = None,
    ) -> Digest:
        if len(content) > SMALL:
            raise RegistryFailed(f"{len(content)} bytes are too many to attach to {subject}.\nNothing was attached.")
        about = self._repository(subject.repository).contents.get(subject.digest, b"")
        manifest = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "artifactType": artifact_type,
            "config": descriptor(EMPTY_TYPE, EMPTY),
            "layers": [descriptor(media_type or artifact_type, content)],
            "subject": {"mediaType": MANIFEST, "digest": subject.digest, "size": len(about)},
            "annotations": dict(annotations),
        }
        for blob in (EMPTY, content):
            self.push_blob(subject.repository, blob)
        return self.push_manifest(subject.repository, json.dumps(manifest, sort_keys=True).encode(), MANIFEST)

    def push_blob(self, repository: str, content: bytes) -> Digest:
        digest = digest_of(content)
        self._pushed_to(repository).contents.setdefault(digest, content)
        return digest

    def push_manifest(self, repository: str, content: bytes, media_type: str, *tags: str) -> Digest:
        """Push a manifest. A moved tag leaves its image untagged; an archived image becomes active."""
        to, digest = self._pushed_to(repository), digest_of(content)
        self._take_tags(to, repository, digest, tags)
        before = to.manifests.get(digest) or self._describe(to, content, media_type)
        changes: dict[str, Any] = {"tags": tuple(sorted({*before.tags, *tags}))}
        if before.status is not StorageStatus.ACTIVE:
            changes |= {"status": StorageStatus.ACTIVE, "restored_at": self._now()}
        to.contents[digest] = content
        to.manifests[digest] = before.model_copy(update=changes)
        return digest

    def copy_referrer(self, referrer: ImageRef, repository: str) -> None:
        content = self._manifest(referrer)
        for blob in list_blobs(parse_manifest(content, referrer), referrer):
            self.push_blob(repository, self.blob(referrer.repository, blob.digest))
        self.push_manifest(repository, content, MANIFEST)

    # what tests do

    def put(self, repository: str, content: Content, *tags: str) -> ImageRef:
        """Push an image, an index or an artifact with its blobs."""
        for blob in content.blobs:
            self.push_blob(repository, blob)
        digest = self.push_manifest(repository, content.manifest, content.media_type, *tags)
        return ImageRef(repository=repository, digest=digest)

    def add(self, ref: ImageRef, manifest: Mapping[str, Any] | None = None, **facts: Any) -> None:
        """Add a manifest under a digest of the test's choice; `facts` are what ECR lists about it."""
        to = self._pushed_to(ref.repository)
        stored = {"digest": ref.digest, "pushed_at": self._now(), "size": 0, **facts}
        to.manifests[ref.digest] = StoredManifest(**stored)
        to.contents[ref.digest] = json.dumps(manifest or {}).encode()
        self.named.add(ref)

    def change(self, ref: ImageRef, **facts: Any) -> None:
        """Change what ECR lists of a manifest."""
        listed = self.repositories[ref.repository].manifests
        listed[ref.digest] = listed[ref.digest].model_copy(update=facts)

    def damage(self, repository: str, digest: Digest, content: bytes = b"damaged") -> None:
        """Replace a manifest's or a blob's content under the same digest, as damaged storage does."""
        self.repositories[repository].contents[digest] = content
        self.named.discard(ImageRef(repository=repository, digest=digest))

    def remove(self, ref: ImageRef) -> None:
        """Remove a manifest."""
        del self.repositories[ref.repository].manifests[ref.digest]

    def refs(self, repository: str | None = None) -> tuple[ImageRef, ...]:
        """Return all manifests, of one repository or of all."""
        names = list(self.repositories) if repository is None else [repository]
        return tuple(
            ImageRef(repository=name, digest=digest) for name in names for digest in self._repository(name).manifests
        )

    def artifact_type(self, ref: ImageRef) -> str | None:
        """Return the artifact type of a manifest."""
        return self.repositories[ref.repository].manifests[ref.digest].artifact_type

    def _repository(self, repository: str) -> MemoryRepository:
        return self.repositories.get(repository, MemoryRepository())

    def _pullable(self, repository: str) -> list[StoredManifest]:
        return [each for each in self._repository(repository).listed() if each.status is StorageStatus.ACTIVE]

    def _content(self, repository: str, digest: Digest) -> bytes:
        try:
            return self._repository(repository).contents[digest]
        except KeyError:
            raise ImageNotFound(f"{repository} has no {digest}.\nCheck the reference.") from None

    def _manifest(self, ref: ImageRef) -> bytes:
        if not self.has(ref):
            raise ImageNotFound(f"The registry has no {ref}.\nCheck the reference.")
        content = self._content(ref.repository, ref.digest)
        if digest_of(content) != ref.digest and ref not in self.named:
            raise ImageDamaged(f"The registry has other content than {ref}.\nDo not use it.")
        return content

    def _pushed_to(self, repository: str) -> MemoryRepository:
        if repository not in self.repositories and not self.create_on_push:
            raise ImageNotFound(f"The registry has no repository {repository}.\nCreate it.")
        return self.repositories.setdefault(repository, MemoryRepository())

    def _take_tags(self, to: MemoryRepository, repository: str, digest: Digest, tags: tuple[str, ...]) -> None:
        for other in to.listed():
            if other.digest == digest or not set(tags) & set(other.tags):
                continue
            if to.immutable:
                raise RegistryFailed(f"A tag of {tags} exists in {repository}, whose tags are immutable.\nUse another.")
            left = tuple(tag for tag in other.tags if tag not in tags)
            to.manifests[other.digest] = other.model_copy(update={"tags": left})

    def _describe(self, to: MemoryRepository, content: bytes, media_type: str) -> StoredManifest:
        """Describe a manifest as ECR does. Its size is that of its blobs, and of an index that of its largest image."""
        manifest = json.loads(content)
        to.annotations[digest_of(content)] = manifest.get("annotations") or {}
        config, subject = manifest.get("config") or {}, manifest.get("subject") or {}
        children = [to.manifests[digest].size for digest in children_of(content) if digest in to.manifests]
        sizes = [each.get("size") for each in (config, *(manifest.get("layers") or ()))]
        own = sum(each for each in sizes if isinstance(each, int))
        return StoredManifest(
            digest=digest_of(content),
            pushed_at=self._now(),
            size=max([own, 0, *children]),
            media_type=media_type,
            artifact_type=manifest.get("artifactType") or config.get("mediaType"),
            subject=subject.get("digest"),
        )

    def _now(self) -> datetime:
        """Return the time of the next push; no two are the same."""
        self.pushes += 1
        return self.clock() + timedelta(microseconds=self.pushes)


def children_of(content: bytes) -> tuple[Digest, ...]:
    """Return the digests of the manifests that an index lists; another manifest lists none."""
    return tuple(each["digest"] for each in json.loads(content).get("manifests", ()))
