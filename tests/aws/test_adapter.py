"""The project's own ECR adapter on the same contract."""

from __future__ import annotations

from datetime import timedelta

import pytest

from supply_chain.adapters.aws.ecr import Ecr
from supply_chain.errors import AwsFailed, ImageNotFound
from supply_chain.model.image import ImageRef, StorageStatus
from tests.support.cloud import Repository
from tests.support.content import CONFIG, INDEX, MANIFEST, Content
from tests.support.waiting import eventually

pytestmark = pytest.mark.real


@pytest.fixture
def adapter(repository: Repository) -> Ecr:
    return Ecr(repository.ecr, "unused")


def ref(repository: Repository, content: Content) -> ImageRef:
    return ImageRef(repository=repository.name, digest=content.digest)


def test_adapter_lists_images_indexes_and_referrers_with_their_facts(repository: Repository, adapter: Ecr) -> None:
    """Archived images are listed too, with the time when they were archived."""
    image, blocked = repository.push("one", "two"), repository.push("three")
    index, evidence = repository.index(image, tag="all"), repository.attach(image, "application/vnd.example.sbom")
    adapter.archive(ref(repository, blocked))

    facts = {each.digest: each for each in adapter.images(repository.name)}

    assert set(facts) == {each.digest for each in (image, blocked, index, evidence)}
    assert [facts[each.digest].media_type for each in (image, index, evidence)] == [MANIFEST, INDEX, MANIFEST]
    one, two = facts[image.digest], facts[blocked.digest]
    assert (one.tags, one.artifact_type, one.subject, one.status) == (("one", "two"), CONFIG, None, "ACTIVE")
    assert one.size > 0 and one.archived_at is None
    assert facts[evidence.digest].subject == image.digest
    assert facts[evidence.digest].artifact_type == "application/vnd.example.sbom"
    assert two.status is StorageStatus.ARCHIVED and two.archived_at is not None
    assert two.archived_at >= two.pushed_at - timedelta(minutes=1)


def test_adapter_archive_and_restore_are_idempotent(repository: Repository, adapter: Ecr) -> None:
    """An interrupted run repeats both calls."""
    image = repository.push("one")
    name = ref(repository, image)

    for _ in range(2):
        adapter.archive(name)
    archived = adapter.status(name), repository.pull("one").status_code
    restoring = [adapter.restore(name) for _ in range(2)]
    eventually(lambda: adapter.status(name) is StorageStatus.ACTIVE, repository.cloud.patience)

    assert archived == (StorageStatus.ARCHIVED, 404)
    assert restoring[0] is StorageStatus.ACTIVATING and StorageStatus.ARCHIVED not in restoring
    assert adapter.restore(name) is StorageStatus.ACTIVE
    assert repository.pull("one").status_code == 200


def test_adapter_delete_reports_images_that_an_index_references(repository: Repository, adapter: Ecr) -> None:
    """The failure carries the registry's own error code."""
    child, other = repository.push("one", "two"), repository.push("three")
    index = repository.index(child, tag="all")

    deleted = adapter.delete(repository.name, [child.digest, other.digest])

    assert [each.code for each in deleted] == ["ImageReferencedByManifestList", None]
    assert {each.digest: each.tags for each in adapter.images(repository.name)} == {
        child.digest: ("one", "two"),
        index.digest: ("all",),
    }


def test_adapter_raises_image_not_found_for_unknown_image(repository: Repository, adapter: Ecr) -> None:
    """Every call on an image raises the named error; a missing repository lists no images."""
    name = ref(repository, Content.image("never pushed"))

    for call in (adapter.status, adapter.archive, adapter.restore):
        with pytest.raises(ImageNotFound):
            call(name)
    assert adapter.images(f"{repository.name}x") == (), "a repository that is not there holds nothing"


def test_adapter_archive_during_restore_archives_or_raises(repository: Repository, adapter: Ecr) -> None:
    """The caller must never take an image that is being restored for an archived one."""
    name = ref(repository, repository.push("one"))
    adapter.archive(name)
    adapter.restore(name)

    try:
        adapter.archive(name)
    except AwsFailed:
        assert adapter.status(name) is not StorageStatus.ARCHIVED
    else:
        assert adapter.status(name) is StorageStatus.ARCHIVED
