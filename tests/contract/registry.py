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
from supply_chain.curation.scan import Attacher
from supply_chain.curation.store import CuratedRegistry
from supply_chain.errors import ImageDamaged, ImageNotFound, RegistryFailed
from supply_chain.evidence.store import NotEvidence, Referrer, Referrers
from supply_chain.model.image import Digest, ImageRef, digest_of
from tests.support.content import Content

KIND = "application/vnd.cscm.test"
ABSENT: Digest = "sha256:" + "0" * 64


class RegistryPort(Attacher, Referrers, CuratedRegistry, layers.Registry, Protocol):
    """All that the model asks of a registry."""


@dataclass(frozen=True)
class Bench:
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
    """The tests. A subclass has a fixture `bench`."""

    def test_tag_resolves_to_the_digest_of_its_last_push(self, bench: Bench) -> None:
        """A tag or repository that does not exist has none; the image before stays readable by its digest."""
        first, _ = bench.push("one")
        second, _ = bench.push("one", "two")

        tags = [bench.registry.digest_of(bench.repository, tag) for tag in ("one", "two", "three")]

        assert tags == [second.digest, second.digest, None]
        assert bench.registry.digest_of(f"{bench.repository}/absent", "one") is None
        assert bench.registry.has(first)

    def test_manifest_is_found_in_its_own_repository_only(self, bench: Bench) -> None:
        """An image in another repository does not count as present."""
        ref, content = bench.push()

        assert bench.registry.has(ref)
        assert bench.registry.manifest(ref)["layers"][0]["digest"] == digest_of(content.blobs[1])
        for absent in (ref.moved_to(bench.other), ref.with_digest(ABSENT), ref.moved_to(f"{bench.other}/absent")):
            assert not bench.registry.has(absent)
            with pytest.raises(ImageNotFound):
                bench.registry.manifest(absent)

    def test_blob_is_verified_against_its_size(self, bench: Bench, tmp_path: Path) -> None:
        """A manifest names both; a missing blob is another error than a damaged one."""
        ref, content = bench.push()
        layer, target = content.blobs[1], tmp_path / "layer"
        digest = digest_of(layer)

        bench.registry.verify_blob(ref.repository, digest, len(layer))
        bench.registry.download(ref.repository, digest, target, len(layer))

        assert target.read_bytes() == layer
        for size in (len(layer) - 1, len(layer) + 1):
            with pytest.raises(ImageDamaged):
                bench.registry.verify_blob(ref.repository, digest, size)
            with pytest.raises(ImageDamaged):
                bench.registry.download(ref.repository, digest, target, size)
        with pytest.raises(ImageNotFound):
            bench.registry.verify_blob(ref.repository, ABSENT, 1)

    def test_attached_content_is_listed_and_read(self, bench: Bench) -> None:
        """Type and annotations are listed; the layer has digest and size."""
        ref, _ = bench.push()

        referrer = bench.attach(ref, b"the content", a="1")

        assert bench.registry.referrers(ref) == (
            Referrer(digest=referrer.digest, artifact_type=KIND, annotations={"a": "1"}),
        )
        assert bench.registry.content(referrer) == b"the content"
        layer = bench.registry.layer(referrer)
        assert not isinstance(layer, NotEvidence)
        assert (layer.digest, layer.size) == (digest_of(b"the content"), 11)
        assert bench.registry.bundle(ref.repository, layer.digest) == b"the content"

    def test_referrers_belong_to_one_digest_in_one_repository(self, bench: Bench) -> None:
        """The subject need not exist; a repository that does not exist has none."""
        subject = ImageRef(repository=bench.repository, digest=digest_of(uuid4().bytes))

        referrers = {bench.attach(subject, content).digest for content in (b"one", b"two")}

        assert {each.digest for each in bench.registry.referrers(subject)} == referrers
        for other in (subject.moved_to(bench.other), subject.with_digest(ABSENT), subject.moved_to("absent/there")):
            assert bench.registry.referrers(other) == ()

    def test_same_content_attached_again_is_one_referrer(self, bench: Bench) -> None:
        """A repeated step adds nothing; other annotations make another referrer."""
        ref, _ = bench.push()

        first, again, other = bench.attach(ref, a="1"), bench.attach(ref, a="1"), bench.attach(ref, a="2")

        assert first == again != other
        assert len(bench.registry.referrers(ref)) == 2

    def test_media_type_of_attached_content_can_differ_from_artifact_type(self, bench: Bench) -> None:
        """An SBOM is compressed; without a media type it has the artifact's."""
        ref, _ = bench.push()

        plain = bench.registry.attach(ref, KIND, b"one", {})
        packed = bench.registry.attach(ref, KIND, b"two", {}, f"{KIND}+gzip")

        manifests = [bench.registry.manifest(ref.with_digest(digest)) for digest in (plain, packed)]
        assert [each["layers"][0]["mediaType"] for each in manifests] == [KIND, f"{KIND}+gzip"]
        assert {each["subject"]["digest"] for each in manifests} == {ref.digest}

    def test_content_that_is_too_large_to_read_is_not_attached(self, bench: Bench) -> None:
        """Evidence that nobody can read would stop every later gate."""
        ref, _ = bench.push()

        with pytest.raises(RegistryFailed):
            bench.attach(ref, b"x" * (SMALL + 1))

        assert bench.registry.referrers(ref) == ()

    def test_attaching_to_missing_repository_fails(self, bench: Bench) -> None:
        """A step creates its repositories itself, with their settings."""
        missing = ImageRef(repository=f"{bench.repository}/absent", digest=ABSENT)

        with pytest.raises(ImageNotFound):
            bench.attach(missing)

        assert bench.registry.referrers(missing) == ()

    def test_referrer_of_other_layout_is_not_evidence(self, bench: Bench) -> None:
        """Anybody can attach an image or an index; where evidence is expected, that is an error."""
        ref, content = bench.push()
        image, index = ref, bench.put(bench.repository, Content.index([content]), "all")

        found = [bench.registry.layer(each) for each in (image, index)]

        assert [isinstance(each, NotEvidence) for each in found] == [True, True]
        for each in (image, index):
            with pytest.raises(ImageDamaged):
                bench.registry.content(each)

    def test_missing_evidence_differs_from_missing_content(self, bench: Bench) -> None:
        """A referrer that is gone is an error, and a layer that never came is no evidence."""
        ref, _ = bench.push()

        assert isinstance(bench.registry.bundle(ref.repository, ABSENT), NotEvidence)
        for read in (bench.registry.layer, bench.registry.content):
            with pytest.raises(ImageNotFound):
                read(ref.with_digest(ABSENT))

    def test_copied_referrer_keeps_its_digest(self, bench: Bench) -> None:
        """The same bytes have the same signatures; copying again changes nothing."""
        ref, _ = bench.push()
        referrer = bench.attach(ref, b"signed", a="1")

        for _ in range(2):
            bench.registry.copy_referrer(referrer, bench.other)

        copied = bench.registry.referrers(ref.moved_to(bench.other))
        assert copied == bench.registry.referrers(ref)
        assert bench.registry.content(referrer.moved_to(bench.other)) == b"signed"
