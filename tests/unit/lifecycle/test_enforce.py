"""A blocked image that can be pulled is archived again, under every name."""

from datetime import timedelta

import pytest

from supply_chain.errors import AwsFailed, RegistryFailed
from supply_chain.evidence.image_status import Act, block_repository, image_status_repository, sign_decision
from supply_chain.evidence.statement import LIFECYCLE
from supply_chain.lifecycle.enforce import enforce_blocks
from supply_chain.model.image import ImageRef, StorageStatus
from supply_chain.model.tier import TierName
from tests.support.stock import digest, ref, stored

ACTIVE, ARCHIVED = StorageStatus.ACTIVE, StorageStatus.ARCHIVED
BASE = ref(1, "curated/base/python")


class Registry:
    """A fake registry that archives images and lists the referrers of the lifecycle."""

    def __init__(self, world):
        self.world, self.there, self.copied, self.broken = world, {}, {}, {}

    def ensure_repository(self, name, **_):
        pass

    def repositories(self, prefix):
        names = {*self.there, *self.world.registry.held}
        return tuple(sorted(name for name in names if name.startswith(prefix)))

    def images(self, repository):
        found = [stored(int(d[7:], 16), status=status) for d, status in self.there.get(repository, {}).items()]
        referrers = self.world.registry.held.get(repository, {})
        return (*found, *(stored(n, subject=each[0]) for n, each in enumerate(referrers.values())))

    def archive(self, where):
        if where in self.broken:
            raise self.broken[where]
        assert self.there[where.repository][where.digest] is ACTIVE, "archived for nothing"
        if any(self.there[each.repository][each.digest] is ACTIVE for each in self.indexes_of(where)):
            raise AwsFailed("an index lists it")
        self.there[where.repository][where.digest] = ARCHIVED

    def indexes_of(self, where):
        return getattr(self, "indexes", {}).get(where, ())

    def copies(self, where):
        return self.copied.get(where, ())


@pytest.fixture
def registry(world):
    return Registry(world)


@pytest.fixture
def say(world, make, registry):
    """Return a function that signs a decision as the lifecycle does."""

    def said(act, where, at=0):
        when = make.noon + timedelta(seconds=at)
        sign_decision(where, act, world.store(TierName.LIFECYCLE), registry, by="ann", reason="x", now=when)

    return said


@pytest.fixture
def enforced(world, registry):
    return lambda: enforce_blocks(registry, world.store(TierName.LIFECYCLE), registry)


def test_blocked_image_is_archived_in_every_repository(say, registry, enforced):
    """Everyone with push access can push it again, also under another application."""
    names = ("curated/base/python", "dev/base/python", "dev/other")
    registry.there = {name: {digest(1): ACTIVE, digest(2): ACTIVE} for name in names}
    registry.there["dev/archived"] = {digest(1): ARCHIVED}
    say(Act.BLOCK, BASE)

    assert set(enforced().archived) == {ref(1, name) for name in names}
    assert all(
        held == {digest(1): ARCHIVED, digest(2): ACTIVE} for name, held in registry.there.items() if name in names
    )
    assert enforced().archived == ()


def test_encrypted_copy_is_archived_with_its_image(say, registry, enforced):
    """The copy is archived even if the image already is."""
    registry.there = {"curated/base/python": {digest(1): ARCHIVED, digest(2): ACTIVE}}
    registry.copied = {BASE: (ref(2, "curated/base/python"),)}
    say(Act.BLOCK, BASE)

    assert enforced().archived == (ref(2, "curated/base/python"),)


def test_index_of_blocked_image_is_archived_before_it(say, registry, enforced):
    """ECR archives no child of an active index, and indexes may be nested."""
    registry.there = {"dev/a": {digest(n): ACTIVE for n in (1, 2, 3)}}
    image, index, outer = (ref(n, "dev/a") for n in (1, 2, 3))
    registry.indexes = {image: (index,), index: (outer,)}
    say(Act.BLOCK, BASE)

    assert enforced().archived == (outer, index, image)


@pytest.mark.parametrize("acts", [(Act.BLOCK, Act.UNBLOCK), (Act.HOLD,)])
def test_image_that_is_not_blocked_stays_active(say, registry, enforced, acts):
    """A hold or a lifted block does not archive it."""
    registry.there = {"curated/base/python": {digest(1): ACTIVE}}
    for at, act in enumerate(acts):
        say(act, BASE, at)

    assert enforced().archived == ()


def test_block_without_digest_statement_applies_to_its_application(world, make, registry, enforced):
    """Earlier versions signed a block for one application only."""
    registry.there = {"curated/base/python": {digest(1): ACTIVE}, "curated/other": {digest(1): ACTIVE}}
    said = {"act": "block", "by": "ann", "reason": "x", "at": make.noon.isoformat()}
    world.store(TierName.LIFECYCLE).attach(image_status_repository(BASE), LIFECYCLE, said, make.noon)

    assert enforced().archived == (BASE,)


def test_image_that_cannot_be_archived_is_reported(say, registry, enforced):
    """The other images are archived all the same."""
    registry.there = {name: {digest(1): ACTIVE} for name in ("dev/a", "dev/b", "dev/c")}
    registry.broken = {ref(1, "dev/b"): AwsFailed("an index lists it")}
    say(Act.BLOCK, BASE)

    found = enforced()

    assert set(found.archived) == {ref(1, "dev/a"), ref(1, "dev/c")}
    assert found.failed == {f"dev/b@{digest(1)}": "an index lists it [aws.failed]"}
    assert f"  not archived: dev/b@{digest(1)}: an index lists it" in str(found)


def test_image_with_unreadable_block_is_reported(world, make, registry, enforced):
    """It may be blocked."""
    registry.there = {"dev/a": {digest(1): ACTIVE}}
    world.store(TierName.LIFECYCLE).attach(block_repository(digest(1)), LIFECYCLE, {"act": 7}, make.noon)

    assert list(enforced().failed) == [f"dev/a@{digest(1)}"]


def test_registry_that_cannot_be_listed_raises(say, registry, enforced, monkeypatch):
    """It is unknown which images can be pulled."""

    def images(_):
        raise RegistryFailed("no answer")

    monkeypatch.setattr(registry, "images", images)
    registry.there = {"dev/a": {}}

    with pytest.raises(RegistryFailed):
        enforced()


def test_decisions_about_plans_are_ignored(world, make, registry, enforced):
    """Their repository contains plan digests, not image digests."""
    registry.there = {"dev/a": {digest(1): ACTIVE}}
    where = ImageRef(repository="evidence/lifecycle/plans", digest=digest(1))
    world.store(TierName.LIFECYCLE).attach(where, LIFECYCLE, {"act": 7}, make.noon)

    assert enforced().failed == {}
