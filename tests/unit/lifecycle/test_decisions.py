"""Block, unblock, hold, release: signed first, then carried out, and needless twice."""

from datetime import timedelta

import pytest

from supply_chain.errors import AwsFailed, AwsUnavailable, ClockWrong, DeclarationInvalid, EvidenceInvalid, ImageDamaged
from supply_chain.evidence.encryption import EncryptedCopy
from supply_chain.evidence.image_status import (
    Act,
    ImageStatus,
    PlanAct,
    image_status,
    read_decisions,
    read_image_status,
)
from supply_chain.evidence.statement import ENCRYPTION, LIFECYCLE, PROVENANCE
from supply_chain.lifecycle.decisions import DecisionPorts, RunsFrom, approve_plan, decide
from supply_chain.lifecycle.reading import RegistryReader
from supply_chain.lifecycle.snapshot import INDEXES
from supply_chain.model.image import ImageRef, StorageStatus
from supply_chain.model.tier import TierName
from tests.support.stock import deployed, digest, ref, stored

COPY = ref(2)
WHERE = "evidence/lifecycle/hello"


class Registry:
    """Repositories whose images are archived and restored; and what was ever deployed."""

    def __init__(self, world):
        self.world, self.errors, self.made, self.signed, self.subjects = world, {}, {}, [], {}
        self.tags, self.changes, self.unreadable = {}, {}, None
        self.there = {"curated/hello": {digest(n): StorageStatus.ACTIVE for n in (1, 2, 3)}}

    def ensure_repository(self, name, *, immutable, key):
        self.made[name] = (immutable, key)

    def images(self, repository):
        return tuple(
            stored(
                int(d[7:], 16), status=status, subject=self.subjects.get(d), tags=self.tags.get(d, ("t",)),
                **self.changes.get(d, {}),
            )
            for d, status in self.there.get(repository, {}).items()
        )  # fmt: skip

    def manifest(self, where):
        return {"manifests": []}

    def having(self, begins, prefix):
        return tuple(
            ImageRef(repository=name, digest=begins)
            for name, held in self.there.items() if name.startswith(prefix) and begins in held
        )  # fmt: skip

    def status(self, where):
        return self.there[where.repository][where.digest]

    def archive(self, where):
        self._move(where, StorageStatus.ACTIVE, StorageStatus.ARCHIVED)

    def restore(self, where):
        self._move(where, StorageStatus.ARCHIVED, StorageStatus.ACTIVE)

    def _move(self, where, before, after):
        if where.digest in self.errors:
            raise self.errors[where.digest]
        assert self.there[where.repository][where.digest] is before, "moved for nothing"
        self.there[where.repository][where.digest] = after

    def archived(self):
        return {d for d, status in self.there["curated/hello"].items() if status is StorageStatus.ARCHIVED}

    def deployments(self, application):
        assert application is None
        if self.unreadable:
            raise self.unreadable
        return tuple(self.signed)

    def members(self, repository):
        return RegistryReader(self, self, self.world.store(TierName.LIFECYCLE)).members(repository)

    def indexes_of(self, where):
        return getattr(self, "indexes", {}).get(where, ())

    def copies(self, where):
        return RegistryReader(self, self, self.world.store(TierName.LIFECYCLE)).copies(where)


def fail():
    raise AwsFailed("AWS does not answer.\nWait.")


@pytest.fixture
def registry(world):
    return Registry(world)


@pytest.fixture
def heard():
    """What was told, in its order."""
    return []


@pytest.fixture
def say(world, make, registry, heard):
    """Decide something about an image."""

    def said(act, number=1, at=0, why="CVE-2026-1", repository="curated/hello", **asked):
        bench = DecisionPorts(world.store(TierName.LIFECYCLE), registry, registry)
        now = make.noon + timedelta(seconds=at)
        return decide(ref(number, repository), act, bench, by="ann", why=why, now=now, tell=heard.append, **asked)

    return said


@pytest.fixture
def copied(world, make):
    """Curation signed that the second image is the encrypted copy of the first."""
    copy = EncryptedCopy(plain=digest(1), encrypted=COPY.digest, wrapped_key="", key="k", context={})
    record = {
        "repository": "curated/hello", "type": "KMS", "key": "k", "rotates": True, "classification": "confidential",
        "verified": make.noon.isoformat(), "copy": copy.model_dump(mode="json"),
    }  # fmt: skip
    world.store(TierName.CURATION).attach(ref(1), ENCRYPTION, record, make.noon)


@pytest.fixture
def stands(world):
    return lambda number=1: image_status(read_image_status(ref(number), world.store(TierName.EXECUTION)).evidence)


def test_a_block_is_signed_and_the_image_closed(say, stands, registry):
    """With who, why and when; tags and evidence stay."""
    ruled = say(Act.BLOCK)

    assert (ruled.changed, ruled.moved, ruled.running) == (True, (digest(1),), ())
    assert (stands().block.by, stands().block.why) == ("ann", "CVE-2026-1")
    assert registry.archived() == {digest(1)}
    assert registry.made == {WHERE: (True, None), "evidence/lifecycle/digests": (True, None)}
    assert str(ruled) == f"block: {ref(1)}\n  to lift it: cscm unblock {ref(1).short} --why …"


def test_what_is_signed_is_told_though_the_registry_fails_from_then_on(say, registry, heard, monkeypatch):
    """Which image is meant was found out before that."""
    lists = iter([registry.images("curated/hello")] * 2)
    monkeypatch.setattr(registry, "images", lambda repository: next(lists, None) or fail())

    with pytest.raises(AwsFailed):
        say(Act.BLOCK)

    ((ruled,),) = (heard,)
    assert (ruled.changed, ruled.curated, ruled.moved) == (True, True, ())


def test_what_was_never_curated_is_named_as_whoever_lifts_the_block_has_to(say, registry):
    """A digest alone is looked for among the curated images."""
    del registry.there["curated/hello"]

    image = f"dev/hello@{digest(1)}"
    assert str(say(Act.BLOCK)) == f"block: {image}\n  to lift it: cscm unblock {image} --why …"


@pytest.mark.parametrize(("act", "told"), [(Act.BLOCK, True), (Act.UNBLOCK, True), (Act.HOLD, False)])
def test_of_a_base_it_is_told_what_becomes_of_what_is_built_on_it(say, act, told):
    """Nobody blocks one without asking; it is told also by a second try."""
    if act is Act.UNBLOCK:
        say(Act.BLOCK, repository="curated/base/python")
    first, again = say(act, at=1, repository="curated/base/python"), say(act, at=2, repository="curated/base/python")

    assert (first.changed, again.changed) == (True, False)
    assert [("is judged anew by the rescan that this starts" in str(each)) for each in (first, again)] == [told, told]


def test_the_encrypted_copy_is_closed_and_opened_with_its_image(say, world, make, registry):
    """It is what is pulled of a confidential application."""
    copy = EncryptedCopy(plain=digest(1), encrypted=COPY.digest, wrapped_key="", key="k", context={})
    other = EncryptedCopy(plain=digest(9), encrypted=digest(3), wrapped_key="", key="k", context={})
    for each in (copy, other, None):
        record = {
            "repository": "curated/hello", "type": "KMS", "key": "k", "rotates": True, "classification": "internal",
            "verified": make.noon.isoformat(), "copy": each.model_dump(mode="json") if each else None,
        }  # fmt: skip
        world.store(TierName.CURATION).attach(ref(1), ENCRYPTION, record, make.noon)

    assert say(Act.BLOCK).moved == (digest(1), digest(2))
    assert registry.archived() == {digest(1), digest(2)}
    assert say(Act.UNBLOCK, at=1).moved == (digest(1), digest(2))
    assert registry.archived() == set()


def test_block_closes_the_digest_and_its_copy_under_every_name_and_unblock_opens_them(say, registry, copied):
    """What development offered can be pulled like what curation keeps; anybody may push it as another application's.

    Another digest stays as it is.
    """
    open_now = {digest(n): StorageStatus.ACTIVE for n in (1, 2, 3)}
    registry.there |= {name: dict(open_now) for name in ("dev/hello", "dev/other", "curated/other", "other/hello")}
    elsewhere = {(name, digest(n)) for name in ("dev/hello", "dev/other", "curated/other") for n in (1, 2)}

    ruled = say(Act.BLOCK)

    assert {(each.repository, each.digest) for each in ruled.elsewhere} == elsewhere
    assert f"  under another name too: dev/hello@{digest(1)}" in str(ruled)
    closed = {
        (name, each) for name, held in registry.there.items() for each, status in held.items()
        if status is StorageStatus.ARCHIVED
    }  # fmt: skip
    assert closed == elsewhere | {("curated/hello", digest(1)), ("curated/hello", digest(2))}
    assert {(each.repository, each.digest) for each in say(Act.UNBLOCK, at=1).elsewhere} == elsewhere
    assert all(held == open_now for held in registry.there.values())


def test_block_is_raised_where_another_name_stays_open(say, registry, stands):
    """The others are closed all the same."""
    registry.there |= {name: {digest(7): StorageStatus.ACTIVE} for name in ("dev/a", "dev/hello")}
    real = registry.status
    registry.status = lambda where: fail() if where.repository == "dev/a" else real(where)

    with pytest.raises(AwsFailed):
        say(Act.BLOCK, 7)

    assert stands(7).block and registry.there["dev/hello"] == {digest(7): StorageStatus.ARCHIVED}


def test_what_is_said_of_a_copy_is_said_of_its_image(say, stands, copied):
    """An operator has the digest of what is pulled; no gate asks about that one."""
    ruled = say(Act.BLOCK, 2)

    assert (ruled.ref, ruled.moved) == (ref(1), (digest(1), digest(2)))
    assert stands(1).block and not stands(2).block


def test_nothing_is_said_of_what_is_attached_to_an_image(say, stands, registry):
    """It would block nothing."""
    registry.subjects = {digest(2): digest(1)}

    with pytest.raises(DeclarationInvalid, match=f"curated/hello@{digest(1)}"):
        say(Act.BLOCK, 2)
    assert not stands(2).block and not registry.archived()


def test_nothing_is_said_of_what_a_tag_attaches_to_an_image(say, stands, registry):
    """As cosign signed before there were subjects."""
    registry.tags = {digest(2): (f"sha256-{digest(1)[7:]}.sig",)}

    with pytest.raises(DeclarationInvalid, match=f"curated/hello@{digest(1)}"):
        say(Act.BLOCK, 2)
    assert not stands(2).block and not registry.archived()


def test_what_is_damaged_keeps_nobody_from_blocking(say, stands, registry, monkeypatch):
    """Neither evidence whose bytes are others, nor another manifest of the repository."""

    def damaged(*_):
        raise ImageDamaged("other content than its digest\nlook")

    monkeypatch.setattr(registry, "members", damaged, raising=False)
    say(Act.BLOCK)

    assert stands(1).block and registry.archived() == {digest(1)}


@pytest.mark.parametrize(("record", "error"), [
    ({"verified": "2999-01-01T00:00:00Z"}, ClockWrong), ({"verified": "2026-11-24T12:00:00Z"}, EvidenceInvalid),
])  # fmt: skip
def test_nothing_that_somebody_signed_keeps_anybody_from_blocking(
    say, stands, heard, registry, world, make, record, error
):
    """The more an image is odd, the more it may be wanted away; what is to be archived with it cannot be told."""
    world.store(TierName.CURATION).attach(ref(1), ENCRYPTION, record, make.noon)

    with pytest.raises(error):
        say(Act.BLOCK)
    assert stands().block and registry.archived() == {digest(1)}
    assert [each.moved for each in heard] == [(digest(1),)]


def test_what_is_blocked_already_is_closed_again_where_it_is_open(say, stands, registry, world):
    """A push brought it back; the first word stands."""
    say(Act.BLOCK)
    registry.there["curated/hello"][digest(1)] = StorageStatus.ACTIVE

    again = say(Act.BLOCK, at=9, why="another")

    assert (again.changed, again.moved, stands().block.why) == (False, (digest(1),), "CVE-2026-1")
    assert str(again).splitlines()[0] == f"block: {ref(1)} (it was blocked already: what was said then stands)"
    assert say(Act.BLOCK).moved == ()
    assert len(read_decisions(read_image_status(ref(1), world.store(TierName.CURATION)).evidence)) == 1


@pytest.mark.parametrize("error", [AwsUnavailable("throttled\nlater"), AwsFailed("an index lists it\nwait")])
def test_a_block_holds_and_is_told_where_the_image_cannot_be_archived(
    say, stands, heard, registry, world, copied, error
):
    """It was signed first; its copy is archived all the same, and doing it again does the rest and nothing twice."""
    registry.errors[digest(1)] = error
    registry.signed = [deployed(1, 9)]
    with pytest.raises(type(error)) as raised:
        say(Act.BLOCK)
    assert stands().block and registry.archived() == {COPY.digest}
    assert raised.value is error
    assert [(each.changed, each.moved, len(each.running)) for each in heard] == [(True, (COPY.digest,), 1)]

    del registry.errors[digest(1)]
    assert say(Act.BLOCK, at=1).moved == (digest(1),)
    assert len(read_decisions(read_image_status(ref(1), world.store(TierName.CURATION)).evidence)) == 1


def test_an_unblocking_is_told_where_the_image_cannot_be_restored(say, stands, heard, registry, copied):
    """Its copy is restored all the same."""
    say(Act.BLOCK)
    registry.errors[digest(1)] = AwsFailed("no\nwait")
    with pytest.raises(AwsFailed):
        say(Act.UNBLOCK, at=1)
    assert not stands().block and registry.archived() == {digest(1)}
    assert (heard[-1].act, heard[-1].moved) == (Act.UNBLOCK, (COPY.digest,))


def test_the_first_error_is_raised_and_names_the_others(say, registry, copied):
    """Who meets them may have to mend both."""
    registry.errors = {digest(1): AwsFailed("one\nwait"), COPY.digest: AwsFailed("two\nwait")}

    with pytest.raises(AwsFailed, match="one") as raised:
        say(Act.BLOCK)
    assert [note.splitlines()[0] for note in raised.value.__notes__] == ["This failed too: two"]


@pytest.mark.parametrize(("error", "only_sign"), [
    (EvidenceInvalid("a record of shop\nread it"), False), (EvidenceInvalid("a record of shop\nread it"), True),
    (ClockWrong("a record of shop\nset it"), False), (AwsUnavailable("a record of shop\nlater"), True),
])  # fmt: skip
def test_a_record_that_cannot_be_read_hinders_no_block(say, stands, heard, registry, error, only_sign):
    """It may be of any application. It is told; a plan archives what it signed, whatever comes of that."""
    registry.unreadable = error

    ruled = say(Act.BLOCK, only_sign=only_sign)

    assert stands().block and registry.archived() == (set() if only_sign else {digest(1)})
    assert heard == [ruled] and ruled.running == ()
    line = str(ruled).splitlines()[1]
    assert line.startswith("  what runs from it cannot be told: a record of shop — ")


@pytest.mark.parametrize("error", [AwsUnavailable("throttled\nlater"), ValueError("a mistake of ours")])
def test_what_runs_is_raised_last_where_it_may_be_read_next_time(say, stands, heard, registry, error):
    """The step is tried again; everything else is done by then. A mistake of ours is never passed over."""
    registry.unreadable = error

    with pytest.raises(type(error)):
        say(Act.BLOCK)
    assert stands().block and registry.archived() == {digest(1)}
    assert [bool(each.unread) for each in heard] == [True]

    registry.unreadable = None
    assert say(Act.BLOCK, at=1).unread == ""


def test_an_image_that_is_not_curated_yet_is_blocked_all_the_same(say, stands):
    """There is nothing to close."""
    assert say(Act.BLOCK, 7).moved == ()
    assert stands(7).block
    assert say(Act.BLOCK, repository="curated/never").changed


def test_an_unblocked_image_is_open_and_excused(say, stands, registry):
    """Also where somebody archived it for another reason: it was said that it may be used."""
    say(Act.BLOCK)
    ruled = say(Act.UNBLOCK, at=1, why="false alarm")

    assert (ruled.changed, ruled.moved, registry.archived()) == (True, (digest(1),), set())
    assert (stands().block, stands().excuse.why) == (None, "false alarm")


def test_indexes_that_stay_archived_are_named_with_how_to_restore_them(say, registry):
    """What is archived cannot be read, so that nobody knows which of them a block closed."""
    registry.changes = {digest(n): {"media_type": INDEXES[0]} for n in (2, 4)}
    registry.there["dev/hello"] = {digest(n): StorageStatus.ACTIVE for n in (1, 2)}
    for name in ("curated/hello", "dev/hello"):
        registry.there[name][digest(2)] = StorageStatus.ARCHIVED
    registry.there["curated/hello"] |= {digest(3): StorageStatus.ARCHIVED, digest(4): StorageStatus.ACTIVE}
    registry.there["dev/another"] = {digest(2): StorageStatus.ARCHIVED}
    blocked = say(Act.BLOCK)

    unblocked = say(Act.UNBLOCK, at=1)

    assert (blocked.indexes, unblocked.indexes) == ((), (ref(2), ref(2, "dev/hello")))
    assert registry.archived() == {digest(2), digest(3)}
    assert f"  stays archived, and may list it: {ref(2)}\n" in str(unblocked)
    assert f"--repository-name dev/hello --image-id imageDigest={digest(2)} --target-storage" in str(unblocked)


def test_how_it_is_taken_back_is_told(say):
    """And after an unblocking, how an image comes back that a gate refused meanwhile: no promotion touches it."""
    held, released = say(Act.HOLD), say(Act.RELEASE, at=1)
    say(Act.BLOCK, at=2)
    unblocked, again = say(Act.UNBLOCK, at=3), say(Act.UNBLOCK, at=4)

    assert str(held) == f"hold: {ref(1)}\n  to end it: cscm release {ref(1).short} --why …"
    assert str(released) == f"release: {ref(1)}"
    assert str(unblocked).splitlines()[1:] == [
        f"  first, where curation refused it meanwhile: cscm curate dev/hello@{digest(1)}",
        f"  then, where execution did: cscm execute curated/hello@{digest(1)} --environment …",
    ]
    assert str(again) == f"unblock: {ref(1)} (it was not blocked)"
    say(Act.BLOCK, 5, repository="curated/base/python")
    base = say(Act.UNBLOCK, 5, at=1, repository="curated/base/python")
    assert str(base).splitlines()[2:] == [
        f"  first, where curation refused it meanwhile: cscm curate dev/base/python@{digest(5)}"
    ]


@pytest.mark.parametrize("act", [Act.HOLD, Act.RELEASE])
def test_a_hold_moves_nothing(say, stands, registry, act):
    """It is about what is taken away."""
    say(Act.HOLD)
    registry.there["curated/hello"][digest(1)] = StorageStatus.ARCHIVED
    ruled = say(act, at=1)

    assert (ruled.moved, registry.archived()) == ((), {digest(1)})
    assert bool(stands().hold) is (act is Act.HOLD)


def test_a_block_lists_what_runs_from_the_image_and_whose_it_is(say, world, make, registry):
    """By the last signed record of each place; as a front too. Who cannot be read is unknown."""
    registry.signed = [
        deployed(1, 9).model_copy(update={"address": "http://127.0.0.1:1/"}),
        deployed(1, 8, environment="production"),
        deployed(3, 7, environment="production"),
        deployed(3, 6, application="shop", proxy=1),
        deployed(1, 5, application="broken"),
        deployed(1, 4, application="future"),
    ]
    store = world.store(TierName.DEVELOPMENT)
    store.attach(ref(1), PROVENANCE, make.provenance(owner="web team"), make.noon)
    store.attach(ref(1, "curated/broken"), PROVENANCE, {"no": "provenance"}, make.noon)
    future = {"runDetails": {"metadata": {"finishedOn": "2999-01-01T00:00:00Z"}}}
    store.attach(ref(1, "curated/future"), PROVENANCE, future, make.noon)

    ruled = say(Act.BLOCK)

    assert ruled.running == (
        RunsFrom(environment="staging", application="broken", address="", owner=""),
        RunsFrom(environment="staging", application="future", address="", owner=""),
        RunsFrom(environment="staging", application="hello", address="http://127.0.0.1:1/", owner="web team"),
        RunsFrom(environment="staging", application="shop", address="", owner="", front=True),
    )
    assert str(ruled).splitlines()[1:-1] == [
        "  runs from it: broken in staging, of an unknown owner",
        "  runs from it: future in staging, of an unknown owner",
        "  runs from it: hello in staging at http://127.0.0.1:1/, of web team",
        "  runs from it: the front of shop in staging, of an unknown owner",
    ]
    assert say(Act.UNBLOCK).running == ()


@pytest.mark.parametrize(("yes", "act"), [(True, PlanAct.APPROVE), (False, PlanAct.REJECT)])
def test_what_somebody_decided_about_a_plan_is_signed_about_that_plan(world, make, registry, yes, act):
    """It says nothing of any image."""
    plan = digest(77)
    approve_plan(plan, yes, world.store(TierName.LIFECYCLE), registry, by="ann", why="looked at it", now=make.noon)

    where = ImageRef(repository="evidence/lifecycle/plans", digest=plan)
    found = world.store(TierName.EXECUTION).verified(where, TierName.LIFECYCLE, LIFECYCLE)
    (said,) = read_decisions(found)
    assert (said.value.act, said.value.by, said.value.why) == (act, "ann", "looked at it")
    assert image_status(found) == ImageStatus()
    assert registry.made == {"evidence/lifecycle/plans": (True, None)}
