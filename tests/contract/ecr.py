"""The contract of the ports that administer repositories, for ECR in memory and the real one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol
from uuid import uuid4

import pytest

from supply_chain.curation.encrypt import RepositoryEncryption
from supply_chain.curation.store import CuratedRepositories
from supply_chain.errors import AwsFailed, ImageNotFound
from supply_chain.lifecycle import apply, decisions, reading
from supply_chain.model.image import Digest, ImageRef, StorageStatus
from supply_chain.promotion import planned_promotion
from tests.support.content import CONFIG, INDEX, MANIFEST, Content

ABSENT: Digest = "sha256:" + "0" * 64
ACTIVE, ARCHIVED, ACTIVATING = StorageStatus.ACTIVE, StorageStatus.ARCHIVED, StorageStatus.ACTIVATING


class EcrPort(
    apply.LifecycleRegistry,
    decisions.ImageStorage,
    reading.LifecycleImages,
    planned_promotion.PromotableImages,
    CuratedRepositories,
    RepositoryEncryption,
    Protocol,
):
    """All that the model asks of the administration of repositories."""


@dataclass(frozen=True)
class Harness:
    """ECR with an empty repository.

    `put` pushes content to a repository under tags, or by its digest; it raises `refused` if the registry refuses that.
    `can_pull` says whether the registry answers with a manifest. `wait_until_active` waits for the end of a restore.
    """

    ecr: EcrPort
    repository: str
    put: Callable[..., ImageRef]
    can_pull: Callable[[ImageRef], bool]
    wait_until_active: Callable[[ImageRef], object]
    refused: type[Exception]

    def push(self, *tags: str) -> tuple[ImageRef, Content]:
        """Push an image that differs from all others."""
        content = Content.image(uuid4().hex)
        return self.put(self.repository, content, *tags), content

    def index(self, *children: Content, tag: str) -> ImageRef:
        """Push an index of images that are in the repository."""
        return self.put(self.repository, Content.index(children), tag)

    def tags(self) -> dict[Digest, tuple[str, ...]]:
        """Return the tags of each manifest."""
        return {each.digest: each.tags for each in self.ecr.images(self.repository)}


class EcrContract:
    """The tests. A subclass has a fixture `harness`."""

    def test_images_lists_images_indexes_and_referrers_with_their_facts(self, harness: Harness) -> None:
        """Archived images are listed too, with the time when they were archived."""
        (image, content), (blocked, _) = harness.push("one", "two"), harness.push("three")
        index = harness.index(content, tag="all")
        evidence = harness.put(
            harness.repository, Content.artifact(content, "application/vnd.example.sbom", uuid4().hex)
        )
        harness.ecr.archive(blocked)

        facts = {each.digest: each for each in harness.ecr.images(harness.repository)}

        assert set(facts) == {each.digest for each in (image, blocked, index, evidence)}
        assert [facts[each.digest].media_type for each in (image, index, evidence)] == [MANIFEST, INDEX, MANIFEST]
        one, two, referrer = facts[image.digest], facts[blocked.digest], facts[evidence.digest]
        assert (one.tags, one.artifact_type, one.subject, one.status) == (("one", "two"), CONFIG, None, ACTIVE)
        assert one.size > 0 and one.archived_at is None
        assert (referrer.subject, referrer.artifact_type) == (image.digest, "application/vnd.example.sbom")
        assert two.status is ARCHIVED and two.archived_at is not None
        assert two.archived_at >= two.pushed_at - timedelta(minutes=1)

    def test_missing_repository_or_image_is_an_error_except_in_lists(self, harness: Harness) -> None:
        """A digest may be blocked before it is curated, so a list of nothing is an answer."""
        absent = ImageRef(repository=f"{harness.repository}/absent", digest=ABSENT)

        for name in (absent, absent.with_repository(harness.repository)):
            for call in (harness.ecr.status, harness.ecr.archive, harness.ecr.restore):
                with pytest.raises(ImageNotFound):
                    call(name)
        with pytest.raises(ImageNotFound):
            harness.ecr.is_immutable(absent.repository)
        with pytest.raises(ImageNotFound):
            harness.ecr.delete(absent.repository, [ABSENT])
        lists = (harness.ecr.images, harness.ecr.list_pushes, harness.ecr.list_newest_first)
        assert [list(each(absent.repository)) for each in lists] == [[], [], []]

    def test_repository_is_created_once_with_its_settings(self, harness: Harness) -> None:
        """An existing repository keeps its settings, so they have to be checked."""
        name = f"{harness.repository}/created"

        harness.ecr.ensure_repository(name, immutable=True, key=None)
        harness.ecr.ensure_repository(name, immutable=False, key=None)

        assert harness.ecr.is_immutable(name)
        assert harness.ecr.encryption(name) == ("AES256", None)
        assert harness.ecr.repositories(name) == (name,)
        assert harness.ecr.repositories(harness.repository) == (harness.repository, name)

    def test_tag_in_immutable_repository_does_not_move(self, harness: Harness) -> None:
        """A tag of a curated image can therefore be trusted."""
        name = f"{harness.repository}/created"
        harness.ecr.ensure_repository(name, immutable=True, key=None)
        ref = harness.put(name, Content.image("first"), "one")

        with pytest.raises(harness.refused):
            harness.put(name, Content.image("second"), "one")

        assert harness.ecr.list_newest_first(name) == (ref,)

    def test_lists_for_pulls_leave_out_archived_images(self, harness: Harness) -> None:
        """The newest push comes first; only images with an own tag are images for a pull."""
        (first, content), (second, _) = harness.push("one"), harness.push("two")
        untagged, _ = harness.push()
        attached = harness.put(
            harness.repository, Content.artifact(content, "x/y", uuid4().hex), f"sha256-{ABSENT[7:]}"
        )
        harness.ecr.archive(second)

        assert harness.ecr.list_newest_first(harness.repository) == (first,)
        assert set(harness.ecr.list_newest_first(harness.repository, archived=True)) == {second, first}
        assert {digest for digest, _ in harness.ecr.list_pushes(harness.repository)} == {
            each.digest for each in (attached, untagged, first)
        }
        times = [at for _, at in harness.ecr.list_pushes(harness.repository)]
        assert times == sorted(times, reverse=True)

    def test_digest_is_found_by_its_beginning(self, harness: Harness) -> None:
        """Archived images are found too."""
        ref, _ = harness.push("one")
        harness.ecr.archive(ref)

        for begins in (ref.digest, ref.digest[:20]):
            assert harness.ecr.find_by_digest(begins, harness.repository) == (ref,)
        assert harness.ecr.find_by_digest(ABSENT, harness.repository) == ()
        assert harness.ecr.find_by_digest(ref.digest, f"{harness.repository}/below") == ()

    def test_archived_image_cannot_be_pulled_until_it_is_restored(self, harness: Harness) -> None:
        """An interrupted run repeats both calls."""
        ref, _ = harness.push("one")

        for _ in range(2):
            harness.ecr.archive(ref)
        archived = harness.ecr.status(ref), harness.can_pull(ref)
        restoring = [harness.ecr.restore(ref) for _ in range(2)]
        harness.wait_until_active(ref)

        assert archived == (ARCHIVED, False)
        assert restoring[0] is ACTIVATING and ARCHIVED not in restoring
        assert harness.ecr.restore(ref) is ACTIVE and harness.can_pull(ref)
        (stored,) = harness.ecr.images(harness.repository)
        assert stored.restored_at is not None and stored.tags == ("one",)

    def test_archiving_during_restore_archives_or_raises(self, harness: Harness) -> None:
        """The caller must never take an image that is being restored for an archived one."""
        ref, _ = harness.push("one")
        harness.ecr.archive(ref)
        harness.ecr.restore(ref)

        try:
            harness.ecr.archive(ref)
        except AwsFailed:
            assert harness.ecr.status(ref) is not ARCHIVED
        else:
            assert harness.ecr.status(ref) is ARCHIVED

    def test_image_that_an_index_lists_is_archived_after_the_index(self, harness: Harness) -> None:
        """An index would otherwise keep a blocked image available."""
        ref, content = harness.push("one")
        index = harness.index(content, tag="all")

        with pytest.raises(AwsFailed):
            harness.ecr.archive(ref)
        before = harness.ecr.status(ref)
        harness.ecr.archive(index)
        harness.ecr.archive(ref)
        harness.ecr.restore(index)
        harness.wait_until_active(index)
        harness.ecr.archive(ref)

        assert (before, harness.ecr.status(ref)) == (ACTIVE, ARCHIVED)

    def test_push_of_archived_image_restores_it(self, harness: Harness) -> None:
        """Whoever may push can do this, so blocked images are archived again and again."""
        ref, content = harness.push("one")
        harness.ecr.archive(ref)

        harness.put(harness.repository, content, "again")

        assert harness.ecr.status(ref) is ACTIVE and harness.can_pull(ref)
        assert harness.tags() == {ref.digest: ("again", "one")}

    def test_referrers_stay_when_their_subject_is_archived_or_deleted(self, harness: Harness) -> None:
        """Evidence is read from them."""
        ref, content = harness.push("one")
        evidence = harness.put(harness.repository, Content.artifact(content, "x/y", uuid4().hex))

        harness.ecr.archive(ref)
        harness.ecr.delete(harness.repository, [ref.digest])

        (left,) = harness.ecr.images(harness.repository)
        assert (left.digest, left.subject) == (evidence.digest, ref.digest)
        assert harness.can_pull(evidence)

    def test_delete_reports_the_outcome_of_each_image(self, harness: Harness) -> None:
        """An image that an index lists stays until the index is deleted."""
        (child, content), (other, _) = harness.push("one", "two"), harness.push("three")
        index = harness.index(content, tag="all")
        digests = [child.digest, other.digest, ABSENT, other.digest]

        deleted = harness.ecr.delete(harness.repository, digests)

        assert [(each.name, each.code) for each in deleted] == [
            (child.digest, "ImageReferencedByManifestList"), (other.digest, None), (ABSENT, "ImageNotFound"),
        ]  # fmt: skip
        assert harness.tags() == {child.digest: ("one", "two"), index.digest: ("all",)}
        harness.ecr.delete(harness.repository, [index.digest])
        assert [each.code for each in harness.ecr.delete(harness.repository, [child.digest])] == [None]
        assert harness.tags() == {}
