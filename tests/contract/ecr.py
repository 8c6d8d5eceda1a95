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
from supply_chain.fleet.find import Digests
from supply_chain.lifecycle import apply, decisions, reading
from supply_chain.model.image import Digest, ImageRef, StorageStatus
from supply_chain.promotion import moves
from tests.support.content import CONFIG, INDEX, MANIFEST, Content

ABSENT: Digest = "sha256:" + "0" * 64
ACTIVE, ARCHIVED, ACTIVATING = StorageStatus.ACTIVE, StorageStatus.ARCHIVED, StorageStatus.ACTIVATING


class EcrPort(
    apply.Registry,
    decisions.Storage,
    reading.Images,
    moves.Images,
    CuratedRepositories,
    RepositoryEncryption,
    Digests,
    Protocol,
):
    """All that the model asks of the administration of repositories."""


@dataclass(frozen=True)
class Bench:
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
    """The tests. A subclass has a fixture `bench`."""

    def test_images_lists_images_indexes_and_referrers_with_their_facts(self, bench: Bench) -> None:
        """Archived images are listed too, with the time when they were archived."""
        (image, content), (blocked, _) = bench.push("one", "two"), bench.push("three")
        index = bench.index(content, tag="all")
        evidence = bench.put(bench.repository, Content.artifact(content, "application/vnd.example.sbom", uuid4().hex))
        bench.ecr.archive(blocked)

        facts = {each.digest: each for each in bench.ecr.images(bench.repository)}

        assert set(facts) == {each.digest for each in (image, blocked, index, evidence)}
        assert [facts[each.digest].media_type for each in (image, index, evidence)] == [MANIFEST, INDEX, MANIFEST]
        one, two, referrer = facts[image.digest], facts[blocked.digest], facts[evidence.digest]
        assert (one.tags, one.artifact_type, one.subject, one.status) == (("one", "two"), CONFIG, None, ACTIVE)
        assert one.size > 0 and one.archived_at is None
        assert (referrer.subject, referrer.artifact_type) == (image.digest, "application/vnd.example.sbom")
        assert two.status is ARCHIVED and two.archived_at is not None
        assert two.archived_at >= two.pushed_at - timedelta(minutes=1)

    def test_missing_repository_or_image_is_an_error_except_in_lists(self, bench: Bench) -> None:
        """A digest may be blocked before it is curated, so a list of nothing is an answer."""
        absent = ImageRef(repository=f"{bench.repository}/absent", digest=ABSENT)

        for name in (absent, absent.moved_to(bench.repository)):
            for call in (bench.ecr.status, bench.ecr.archive, bench.ecr.restore):
                with pytest.raises(ImageNotFound):
                    call(name)
        with pytest.raises(ImageNotFound):
            bench.ecr.immutable(absent.repository)
        with pytest.raises(ImageNotFound):
            bench.ecr.delete(absent.repository, [ABSENT])
        lists = (bench.ecr.images, bench.ecr.pushed, bench.ecr.newest_first)
        assert [list(each(absent.repository)) for each in lists] == [[], [], []]

    def test_repository_is_created_once_with_its_settings(self, bench: Bench) -> None:
        """An existing repository keeps its settings, so they have to be checked."""
        name = f"{bench.repository}/created"

        bench.ecr.ensure_repository(name, immutable=True, key=None)
        bench.ecr.ensure_repository(name, immutable=False, key=None)

        assert bench.ecr.immutable(name)
        assert bench.ecr.encryption(name) == ("AES256", None)
        assert bench.ecr.repositories(name) == (name,)
        assert bench.ecr.repositories(bench.repository) == (bench.repository, name)

    def test_tag_in_immutable_repository_does_not_move(self, bench: Bench) -> None:
        """A tag of a curated image can therefore be trusted."""
        name = f"{bench.repository}/created"
        bench.ecr.ensure_repository(name, immutable=True, key=None)
        ref = bench.put(name, Content.image("first"), "one")

        with pytest.raises(bench.refused):
            bench.put(name, Content.image("second"), "one")

        assert bench.ecr.newest_first(name) == (ref,)

    def test_lists_for_pulls_leave_out_archived_images(self, bench: Bench) -> None:
        """The newest push comes first; only images with an own tag are images for a pull."""
        (first, content), (second, _) = bench.push("one"), bench.push("two")
        untagged, _ = bench.push()
        attached = bench.put(bench.repository, Content.artifact(content, "x/y", uuid4().hex), f"sha256-{ABSENT[7:]}")
        bench.ecr.archive(second)

        assert bench.ecr.newest_first(bench.repository) == (first,)
        assert set(bench.ecr.newest_first(bench.repository, archived=True)) == {second, first}
        assert {digest for digest, _ in bench.ecr.pushed(bench.repository)} == {
            each.digest for each in (attached, untagged, first)
        }
        times = [at for _, at in bench.ecr.pushed(bench.repository)]
        assert times == sorted(times, reverse=True)

    def test_digest_is_found_by_its_beginning(self, bench: Bench) -> None:
        """Archived images are found too."""
        ref, _ = bench.push("one")
        bench.ecr.archive(ref)

        for begins in (ref.digest, ref.digest[:20]):
            assert bench.ecr.find_by_digest(begins, bench.repository) == (ref,)
        assert bench.ecr.find_by_digest(ABSENT, bench.repository) == ()
        assert bench.ecr.find_by_digest(ref.digest, f"{bench.repository}/below") == ()

    def test_archived_image_cannot_be_pulled_until_it_is_restored(self, bench: Bench) -> None:
        """An interrupted run repeats both calls."""
        ref, _ = bench.push("one")

        for _ in range(2):
            bench.ecr.archive(ref)
        archived = bench.ecr.status(ref), bench.can_pull(ref)
        restoring = [bench.ecr.restore(ref) for _ in range(2)]
        bench.wait_until_active(ref)

        assert archived == (ARCHIVED, False)
        assert restoring[0] is ACTIVATING and ARCHIVED not in restoring
        assert bench.ecr.restore(ref) is ACTIVE and bench.can_pull(ref)
        (stored,) = bench.ecr.images(bench.repository)
        assert stored.restored_at is not None and stored.tags == ("one",)

    def test_archiving_during_restore_archives_or_raises(self, bench: Bench) -> None:
        """The caller must never take an image that is being restored for an archived one."""
        ref, _ = bench.push("one")
        bench.ecr.archive(ref)
        bench.ecr.restore(ref)

        try:
            bench.ecr.archive(ref)
        except AwsFailed:
            assert bench.ecr.status(ref) is not ARCHIVED
        else:
            assert bench.ecr.status(ref) is ARCHIVED

    def test_image_that_an_index_lists_is_archived_after_the_index(self, bench: Bench) -> None:
        """An index would otherwise keep a blocked image available."""
        ref, content = bench.push("one")
        index = bench.index(content, tag="all")

        with pytest.raises(AwsFailed):
            bench.ecr.archive(ref)
        before = bench.ecr.status(ref)
        bench.ecr.archive(index)
        bench.ecr.archive(ref)
        bench.ecr.restore(index)
        bench.wait_until_active(index)
        bench.ecr.archive(ref)

        assert (before, bench.ecr.status(ref)) == (ACTIVE, ARCHIVED)

    def test_push_of_archived_image_restores_it(self, bench: Bench) -> None:
        """Whoever may push can do this, so blocks are enforced again and again."""
        ref, content = bench.push("one")
        bench.ecr.archive(ref)

        bench.put(bench.repository, content, "again")

        assert bench.ecr.status(ref) is ACTIVE and bench.can_pull(ref)
        assert bench.tags() == {ref.digest: ("again", "one")}

    def test_referrers_stay_when_their_subject_is_archived_or_deleted(self, bench: Bench) -> None:
        """Evidence is read from them."""
        ref, content = bench.push("one")
        evidence = bench.put(bench.repository, Content.artifact(content, "x/y", uuid4().hex))

        bench.ecr.archive(ref)
        bench.ecr.delete(bench.repository, [ref.digest])

        (left,) = bench.ecr.images(bench.repository)
        assert (left.digest, left.subject) == (evidence.digest, ref.digest)
        assert bench.can_pull(evidence)

    def test_delete_reports_the_outcome_of_each_image(self, bench: Bench) -> None:
        """An image that an index lists stays until the index is deleted."""
        (child, content), (other, _) = bench.push("one", "two"), bench.push("three")
        index = bench.index(content, tag="all")
        digests = [child.digest, other.digest, ABSENT, other.digest]

        deleted = bench.ecr.delete(bench.repository, digests)

        assert [(each.name, each.code) for each in deleted] == [
            (child.digest, "ImageReferencedByManifestList"), (other.digest, None), (ABSENT, "ImageNotFound"),
        ]  # fmt: skip
        assert bench.tags() == {child.digest: ("one", "two"), index.digest: ("all",)}
        bench.ecr.delete(bench.repository, [index.digest])
        assert [each.code for each in bench.ecr.delete(bench.repository, [child.digest])] == [None]
        assert bench.tags() == {}
