"""A blocked image that can be pulled is archived again, under every name."""

from datetime import timedelta

import pytest

from supply_chain.errors import AwsFailed, RegistryFailed
from supply_chain.evidence.image_status import Act, block_repository, locate_image_status, sign_decision
from supply_chain.evidence.statement import LIFECYCLE
from supply_chain.lifecycle.blocked_images import archive_blocked_images
from supply_chain.lifecycle.reading import RegistryReader
from supply_chain.lifecycle.snapshot import INDEXES
from supply_chain.model.image import ImageRef, StorageStatus
from supply_chain.model.tier import TierName
from tests.support.memory_ecr import MemoryEcr
from tests.support.snapshots import digest, ref

ACTIVE, ARCHIVED = StorageStatus.ACTIVE, StorageStatus.ARCHIVED
BASE = ref(1, "curated/base/python")


class Registry(MemoryEcr):
    """ECR with images by number, and the encrypted copies of some; `broken` are images that cannot be archived."""

    def __init__(self, world):
        super().__init__(world.registry)
        self.copied, self.broken = {}, {}
        self.around = RegistryReader(self, world.registry, world.store(TierName.LIFECYCLE))

    def hold(self, repository, *numbers, status=ACTIVE, **facts):
        for number in numbers:
            self.registry.add(ref(number, repository), status=status, **facts)

    def index(self, repository, number, *children):
        """Hold an index of other images."""
        manifests = [{"digest": digest(each)} for each in children]
        self.registry.add(ref(number, repository), {"manifests": manifests}, media_type=INDEXES[0])

    def archive(self, where):
        if where in self.broken:
            raise self.broken[where]
        assert self.status(where) is ACTIVE, "archived for nothing"
        super().archive(where)

    def list_indexes(self, where):
        return self.around.list_indexes(where)

    def copies(self, where):
        return self.copied.get(where, ())


@pytest.fixture
def registry(world):
    return Registry(world)


@pytest.fixture
def say(world, make, registry):
    """Return a function that signs a decision as the lifecycle does."""

    def sign(act, where, at=0):
        when = make.noon + timedelta(seconds=at)
        sign_decision(where, act, world.store(TierName.LIFECYCLE), registry, by="ann", reason="x", now=when)

    return sign


@pytest.fixture
def archive_again(world, registry):
    return lambda: archive_blocked_images(registry, world.store(TierName.LIFECYCLE), registry)


def test_blocked_image_is_archived_in_every_repository(say, registry, archive_again):
    """Everyone with push access can push it again, also under another application."""
    names = ("curated/base/python", "dev/base/python", "dev/other")
    for name in names:
        registry.hold(name, 1, 2)
    registry.hold("dev/archived", 1, status=ARCHIVED)
    say(Act.BLOCK, BASE)

    assert set(archive_again().archived) == {ref(1, name) for name in names}
    for name in names:
        assert [registry.status(ref(number, name)) for number in (1, 2)] == [ARCHIVED, ACTIVE]
    assert archive_again().archived == ()


def test_encrypted_copy_is_archived_with_its_image(say, registry, archive_again):
    """The copy is archived even if the image already is."""
    registry.hold("curated/base/python", 1, status=ARCHIVED)
    registry.hold("curated/base/python", 2)
    registry.copied = {BASE: (ref(2, "curated/base/python"),)}
    say(Act.BLOCK, BASE)

    assert archive_again().archived == (ref(2, "curated/base/python"),)


def test_index_of_blocked_image_is_archived_before_it(say, registry, archive_again):
    """ECR archives no child of an active index, and indexes may be nested."""
    registry.hold("dev/a", 1)
    registry.index("dev/a", 2, 1)
    registry.index("dev/a", 3, 2)
    image, index, outer = (ref(n, "dev/a") for n in (1, 2, 3))
    say(Act.BLOCK, BASE)

    assert archive_again().archived == (outer, index, image)


@pytest.mark.parametrize("acts", [(Act.BLOCK, Act.UNBLOCK), (Act.HOLD,)])
def test_image_that_is_not_blocked_stays_active(say, registry, archive_again, acts):
    """A hold or a lifted block does not archive it."""
    registry.hold("curated/base/python", 1)
    for at, act in enumerate(acts):
        say(act, BASE, at)

    assert archive_again().archived == ()


def test_block_without_digest_statement_applies_to_its_application(world, make, registry, archive_again):
    """Earlier versions signed a block for one application only."""
    for name in ("curated/base/python", "curated/other"):
        registry.hold(name, 1)
    predicate = {"act": "block", "by": "ann", "reason": "x", "at": make.noon.isoformat()}
    world.store(TierName.LIFECYCLE).attach(locate_image_status(BASE), LIFECYCLE, predicate, make.noon)

    assert archive_again().archived == (BASE,)


def test_image_that_cannot_be_archived_is_reported(say, registry, archive_again):
    """The other images are archived all the same."""
    for name in ("dev/a", "dev/b", "dev/c"):
        registry.hold(name, 1)
    registry.broken = {ref(1, "dev/b"): AwsFailed("an index lists it")}
    say(Act.BLOCK, BASE)

    found = archive_again()

    assert set(found.archived) == {ref(1, "dev/a"), ref(1, "dev/c")}
    assert found.failed == {f"dev/b@{digest(1)}": "an index lists it [aws.failed]"}
    assert f"  not archived: dev/b@{digest(1)}: an index lists it" in str(found)


def test_image_with_unreadable_block_is_reported(world, make, registry, archive_again):
    """It may be blocked."""
    registry.hold("dev/a", 1)
    world.store(TierName.LIFECYCLE).attach(block_repository(digest(1)), LIFECYCLE, {"act": 7}, make.noon)

    assert list(archive_again().failed) == [f"dev/a@{digest(1)}"]


def test_registry_that_cannot_be_listed_raises(say, registry, archive_again, monkeypatch):
    """It is unknown which images can be pulled."""

    def images(_):
        raise RegistryFailed("no answer")

    monkeypatch.setattr(registry, "images", images)
    registry.hold("dev/a", 1)

    with pytest.raises(RegistryFailed):
        archive_again()


def test_decisions_about_plans_are_ignored(world, make, registry, archive_again):
    """Their repository contains plan digests, not image digests."""
    registry.hold("dev/a", 1)
    where = ImageRef(repository="evidence/lifecycle/plans", digest=digest(1))
    world.store(TierName.LIFECYCLE).attach(where, LIFECYCLE, {"act": 7}, make.noon)

    assert archive_again().failed == {}
