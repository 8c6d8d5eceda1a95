"""The contract of the registry's ports, for the registry in memory and for the client of a real one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from uuid import uuid4

import pytest

from supply_chain.adapters.image import layers
from supply_chain.adapters.registry.client import SMALL
from supply_chain.curation.store import CuratedRegistry
from supply_chain.errors import ImageDamaged, ImageNotFound, RegistryFailed
from supply_chain.evidence.store import NotEvidence, Referrer, Referrers
from supply_chain.model.image import Digest, ImageRef, digest_of
from tests.support.content import Content

KIND = "application/vnd.cscm.test"
ABSENT: Digest = "sha256:" + "0" * 64


class RegistryPort(Referrers, CuratedRegistry, layers.LayerRegistry, Protocol):
    """All that the model asks of a registry."""


@dataclass(frozen=True)
class Harness:
    """A registry with two empty repositories; `put` pushes content to a repository under tags, or by its digest."""

    registry: RegistryPort
    repository: str
    other: str
    put: Callable[..., ImageRef]

    def push(self, *tags: str) -> tuple[ImageRef, Content]:
        """Push an image that differs from all others."""
        content = Content.image(uuid4().hex)
        return self.put(self.repository, content, *tags), content

    def attach(self, ref: ImageRef, content: bytes = b"content", **annotations: str) -> ImageRef:
        """Attach content to an image, and return the referrer."""
        return ref.with_digest(self.registry.attach(ref, KIND, content, annotations))


class RegistryContract:
    """The tests. A subclass has a fixture `harness`."""

    def test_tag_resolves_to_the_digest_of_its_last_push(self, harness: Harness) -> None:
        """A tag or repository that does not exist has none; the image before stays readable by its digest."""
        first, _ = harness.push("one")
        second, _ = harness.push("one", "two")

        tags = [harness.registry.digest_of(harness.repository, tag) for tag in ("one", "two", "three")]

        assert tags == [second.digest, second.digest, None]
        assert harness.registry.digest_of(f"{harness.repository}/absent", "one") is None
        assert harness.registry.manifest(first)

    def test_manifest_is_found_in_its_own_repository_only(self, harness: Harness) -> None:
        """An image in another repository does not count as present."""
        ref, content = harness.push()

        assert harness.registry.manifest(ref)["layers"][0]["digest"] == digest_of(content.blobs[1])
        for absent in (
            ref.with_repository(harness.other),
            ref.with_digest(ABSENT),
            ref.with_repository(f"{harness.other}/absent"),
        ):
            with pytest.raises(ImageNotFound):
                harness.registry.manifest(absent)

    def test_blob_is_verified_against_its_size(self, harness: Harness, tmp_path: Path) -> None:
        """A manifest names both; a missing blob is another error than a damaged one."""
        ref, content = harness.push()
        layer, target = content.blobs[1], tmp_path / "layer"
        digest = digest_of(layer)

        harness.registry.verify_blob(ref.repository, digest, len(layer))
        harness.registry.download(ref.repository, digest, target, len(layer))

        assert target.read_bytes() == layer
        for size in (len(layer) - 1, len(layer) + 1):
            with pytest.raises(ImageDamaged):
                harness.registry.verify_blob(ref.repository, digest, size)
            with pytest.raises(ImageDamaged):
                harness.registry.download(ref.repository, digest, target, size)
        with pytest.raises(ImageNotFound):
            harness.registry.verify_blob(ref.repository, ABSENT, 1)

    def test_attached_content_is_listed_and_read(self, harness: Harness) -> None:
        """Type and annotations are listed; the layer has digest and size."""
        ref, _ = harness.push()

        referrer = harness.attach(ref, b"the content", a="1")

        assert harness.registry.referrers(ref) == (
            Referrer(digest=referrer.digest, artifact_type=KIND, annotations={"a": "1"}),
        )
        assert harness.registry.content(referrer) == b"the content"
        layer = harness.registry.layer(referrer)
        assert not isinstance(layer, NotEvidence)
        assert (layer.digest, layer.size) == (digest_of(b"the content"), 11)
        assert harness.registry.bundle(ref.repository, layer.digest) == b"the content"

    def test_referrers_belong_to_one_digest_in_one_repository(self, harness: Harness) -> None:
        """The subject need not exist; a repository that does not exist has none."""
        subject = ImageRef(repository=harness.repository, digest=digest_of(uuid4().bytes))

        referrers = {harness.attach(subject, content).digest for content in (b"one", b"two")}

        assert {each.digest for each in harness.registry.referrers(subject)} == referrers
        for other in (
            subject.with_repository(harness.other),
            subject.with_digest(ABSENT),
            subject.with_repository("absent/there"),
        ):
            assert harness.registry.referrers(other) == ()

    def test_same_content_attached_again_is_one_referrer(self, harness: Harness) -> None:
        """A repeated step adds nothing; other annotations make another referrer."""
        ref, _ = harness.push()

        first, again, other = harness.attach(ref, a="1"), harness.attach(ref, a="1"), harness.attach(ref, a="2")

        assert first == again != other
        assert len(harness.registry.referrers(ref)) == 2

    def test_media_type_of_attached_content_can_differ_from_artifact_type(self, harness: Harness) -> None:
        """An SBOM is compressed; without a media type it has the artifact's."""
        ref, _ = harness.push()

        plain = harness.registry.attach(ref, KIND, b"one", {})
        packed = harness.registry.attach(ref, KIND, b"two", {}, f"{KIND}+gzip")

        manifests = [harness.registry.manifest(ref.with_digest(digest)) for digest in (plain, packed)]
        assert [each["layers"][0]["mediaType"] for each in manifests] == [KIND, f"{KIND}+gzip"]
        assert {each["subject"]["digest"] for each in manifests} == {ref.digest}

    def test_content_that_is_too_large_to_read_is_not_attached(self, harness: Harness) -> None:
        """Evidence that nobody can read would stop every later gate."""
        ref, _ = harness.push()

        with pytest.raises(RegistryFailed):
            harness.attach(ref, b"x" * (SMALL + 1))

        assert harness.registry.referrers(ref) == ()

    def test_attaching_to_missing_repository_fails(self, harness: Harness) -> None:
        """A step creates its repositories itself, with their settings."""
        missing = ImageRef(repository=f"{harness.repository}/absent", digest=ABSENT)

        with pytest.raises(ImageNotFound):
            harness.attach(missing)

        assert harness.registry.referrers(missing) == ()

    def test_referrer_of_other_layout_is_not_evidence(self, harness: Harness) -> None:
        """Anybody can attach an image or an index; where evidence is expected, that is an error."""
        ref, content = harness.push()
        image, index = ref, harness.put(harness.repository, Content.index([content]), "all")

        found = [harness.registry.layer(each) for each in (image, index)]

        assert [isinstance(each, NotEvidence) for each in found] == [True, True]
        for each in (image, index):
            with pytest.raises(ImageDamaged):
                harness.registry.content(each)

    def test_missing_evidence_differs_from_missing_content(self, harness: Harness) -> None:
        """A referrer that is gone is an error, and a layer that never came is no evidence."""
        ref, _ = harness.push()

        assert isinstance(harness.registry.bundle(ref.repository, ABSENT), NotEvidence)
        for read in (harness.registry.layer, harness.registry.content):
            with pytest.raises(ImageNotFound):
                read(ref.with_digest(ABSENT))

    def test_copied_referrer_keeps_its_digest(self, harness: Harness) -> None:
        """The same bytes have the same signatures; copying again changes nothing."""
        ref, _ = harness.push()
        referrer = harness.attach(ref, b"signed", a="1")

        for _ in range(2):
            harness.registry.copy_referrer(referrer, harness.other)

        copied = harness.registry.referrers(ref.with_repository(harness.other))
        assert copied == harness.registry.referrers(ref)
        assert harness.registry.content(referrer.with_repository(harness.other)) == b"signed"
