"""Block, unblock, hold, unhold: signed first, then applied, and without effect if repeated."""

from datetime import timedelta

import pytest

from supply_chain.errors import AwsFailed, AwsUnavailable, ClockWrong, DeclarationInvalid, EvidenceInvalid, ImageDamaged
from supply_chain.evidence.encryption import EncryptedCopy
from supply_chain.evidence.image_status import (
    Act,
    ImageStatus,
    PlanAct,
    compute_image_status,
    read_decisions,
    read_image_status,
)
from supply_chain.evidence.statement import ENCRYPTION, LIFECYCLE, PROVENANCE
from supply_chain.lifecycle.decisions import DecisionPorts, RunsFrom, decide, sign_plan_answer
from supply_chain.lifecycle.reading import RegistryReader
from supply_chain.lifecycle.snapshot import INDEXES
from supply_chain.model.image import ImageRef, StorageStatus
from supply_chain.model.tier import TierName
from tests.support.memory_ecr import MemoryEcr
from tests.support.snapshots import deployed, digest, ref

COPY = ref(2)
WHERE = "evidence/lifecycle/hello"


class Registry(MemoryEcr):
    """ECR with images by number, and what is around them; `errors` are raised where an image should be moved."""

    def __init__(self, world):
        super().__init__(world.registry)
        self.errors, self.signed, self.unreadable = {}, [], None
        self.around = RegistryReader(self, world.registry, world.store(TierName.LIFECYCLE))
        self.hold("curated/hello", 1, 2, 3)

    def hold(self, repository, *numbers, **facts):
        for number in numbers:
            self.registry.add(ref(number, repository), {"manifests": []}, **{"tags": ("t",), **facts})

    def archive(self, where):
        self._check(where, StorageStatus.ACTIVE)
        super().archive(where)

    def restore(self, where):
        self._check(where, StorageStatus.ARCHIVED)
        return super().restore(where)

    def _check(self, where, status):
        if where.digest in self.errors:
            raise self.errors[where.digest]
        assert self.status(where) is status, "moved for nothing"

    def closed(self):
        return {(each.repository, each.digest) for each in self.registry.refs() if not self.registry.has(each)}

    def archived(self):
        self.finish_restores()
        return {digest for repository, digest in self.closed() if repository == "curated/hello"}

    def immutable_repositories(self):
        return {name for name in self.repositories("") if self.is_immutable(name)}

    def deployments(self, application):
        assert application is None
        if self.unreadable:
            raise self.unreadable
        return tuple(self.signed)

    def members(self, repository):
        return self.around.members(repository)

    def list_indexes(self, where):
        return self.around.list_indexes(where)

    def copies(self, where):
        return self.around.copies(where)


def fail():
    raise AwsFailed("AWS does not answer.\nWait.")


@pytest.fixture
def registry(world):
    return Registry(world)


@pytest.fixture
def heard():
    """Return the list of reported decisions, in order."""
    return []


@pytest.fixture
def say(world, make, registry, heard):
    """Return a function that decides about an image."""

    def run(act, number=1, at=0, reason="CVE-2026-1", repository="curated/hello", **asked):
        ports = DecisionPorts(world.store(TierName.LIFECYCLE), registry, registry)
        now = make.noon + timedelta(seconds=at)
        return decide(
            ref(number, repository), act, ports, by="ann", reason=reason, now=now, on_result=heard.append, **asked
        )

    return run


@pytest.fixture
def copied(world, make):
    """Sign as curation that the second image is the encrypted copy of the first."""
    copy = EncryptedCopy(plain=digest(1), encrypted=COPY.digest, wrapped_key="", key="k", context={})
    record = {
        "repository": "curated/hello", "type": "KMS", "key": "k", "rotates": True, "classification": "confidential",
        "verified": make.noon.isoformat(), "copy": copy.model_dump(mode="json"),
    }  # fmt: skip
    world.store(TierName.CURATION).attach(ref(1), ENCRYPTION, record, make.noon)


@pytest.fixture
def stands(world):
    return lambda number=1: compute_image_status(
        read_image_status(ref(number), world.store(TierName.EXECUTION)).evidence
    )


def test_block_is_signed_and_image_archived(say, stands, registry):
    """The statement names person, reason and time; tags and evidence remain."""
    result = say(Act.BLOCK)

    assert (result.changed, result.archived_or_restored, result.running) == (True, (digest(1),), ())
    assert (stands().block.by, stands().block.reason) == ("ann", "CVE-2026-1")
    assert registry.archived() == {digest(1)}
    assert registry.immutable_repositories() == {WHERE, "evidence/lifecycle/digests"}
    assert str(result) == f"block: {ref(1)}\n  to lift it: cscm unblock {ref(1).short} --reason …"


def test_signed_block_is_reported_even_if_registry_fails_later(say, registry, heard, monkeypatch):
    """The affected image is known from the listing before."""
    lists = iter([registry.images("curated/hello")] * 2)
    monkeypatch.setattr(registry, "images", lambda repository: next(lists, None) or fail())

    with pytest.raises(AwsFailed):
        say(Act.BLOCK)

    ((result,),) = (heard,)
    assert (result.changed, result.curated, result.archived_or_restored) == (True, True, ())


def test_block_of_uncurated_image_shows_complete_reference(say, registry):
    """The unblock command looks up a digest alone only in curated repositories."""
    del registry.registry.repositories["curated/hello"]

    image = f"dev/hello@{digest(1)}"
    assert str(say(Act.BLOCK)) == f"block: {image}\n  to lift it: cscm unblock {image} --reason …"


@pytest.mark.parametrize(("act", "announced"), [(Act.BLOCK, True), (Act.UNBLOCK, True), (Act.HOLD, False)])
def test_decision_about_base_announces_rescan_of_images_on_it(say, act, announced):
    """The operator learns the effect, also from a repeated command."""
    if act is Act.UNBLOCK:
        say(Act.BLOCK, repository="curated/base/python")
    first, again = say(act, at=1, repository="curated/base/python"), say(act, at=2, repository="curated/base/python")

    assert (first.changed, again.changed) == (True, False)
    assert [("are judged again by a rescan" in str(each)) for each in (first, again)] == [announced, announced]


def test_encrypted_copy_is_archived_and_restored_with_its_image(say, world, make, registry):
    """The copy is what is pulled of a confidential application."""
    copy = EncryptedCopy(plain=digest(1), encrypted=COPY.digest, wrapped_key="", key="k", context={})
    other = EncryptedCopy(plain=digest(9), encrypted=digest(3), wrapped_key="", key="k", context={})
    for each in (copy, other, None):
        record = {
            "repository": "curated/hello", "type": "KMS", "key": "k", "rotates": True, "classification": "internal",
            "verified": make.noon.isoformat(), "copy": each.model_dump(mode="json") if each else None,
        }  # fmt: skip
        world.store(TierName.CURATION).attach(ref(1), ENCRYPTION, record, make.noon)

    assert say(Act.BLOCK).archived_or_restored == (digest(1), digest(2))
    assert registry.archived() == {digest(1), digest(2)}
    assert say(Act.UNBLOCK, at=1).archived_or_restored == (digest(1), digest(2))
    assert registry.archived() == set()


def test_block_and_unblock_apply_to_digest_in_every_repository(say, registry, copied):
    """Anybody can push the digest under another application; other digests stay as they are."""
    for name in ("dev/hello", "dev/other", "curated/other", "other/hello"):
        registry.hold(name, 1, 2, 3)
    elsewhere = {(name, digest(n)) for name in ("dev/hello", "dev/other", "curated/other") for n in (1, 2)}

    result = say(Act.BLOCK)

    assert {(each.repository, each.digest) for each in result.other_names} == elsewhere
    assert f"  also under another name: dev/hello@{digest(1)}" in str(result)
    assert registry.closed() == elsewhere | {("curated/hello", digest(1)), ("curated/hello", digest(2))}
    assert {(each.repository, each.digest) for each in say(Act.UNBLOCK, at=1).other_names} == elsewhere
    registry.finish_restores()
    assert registry.closed() == set()


def test_block_raises_if_digest_stays_open_in_one_repository(say, registry, stands):
    """The other repositories are archived all the same."""
    for name in ("dev/a", "dev/hello"):
        registry.hold(name, 7)
    real = registry.status
    registry.status = lambda where: fail() if where.repository == "dev/a" else real(where)

    with pytest.raises(AwsFailed):
        say(Act.BLOCK, 7)

    assert stands(7).block and registry.closed() == {("dev/hello", digest(7))}


def test_block_of_copy_blocks_its_image(say, stands, copied):
    """An operator knows the digest that is pulled, but gates ask about the image."""
    result = say(Act.BLOCK, 2)

    assert (result.ref, result.archived_or_restored) == (ref(1), (digest(1), digest(2)))
    assert stands(1).block and not stands(2).block


def test_block_of_referrer_is_refused(say, stands, registry):
    """It would block nothing."""
    registry.hold("curated/hello", 2, subject=digest(1))

    with pytest.raises(DeclarationInvalid, match=f"curated/hello@{digest(1)}"):
        say(Act.BLOCK, 2)
    assert not stands(2).block and not registry.archived()


def test_block_of_tag_attachment_is_refused(say, stands, registry):
    """Older cosign versions attach signatures by tag."""
    registry.hold("curated/hello", 2, tags=(f"sha256-{digest(1)[7:]}.sig",))

    with pytest.raises(DeclarationInvalid, match=f"curated/hello@{digest(1)}"):
        say(Act.BLOCK, 2)
    assert not stands(2).block and not registry.archived()


def test_block_succeeds_despite_damaged_manifest(say, stands, registry, monkeypatch):
    """Neither damaged evidence nor another damaged manifest may prevent a block."""

    def damaged(*_):
        raise ImageDamaged("other content than its digest\nlook")

    monkeypatch.setattr(registry, "members", damaged, raising=False)
    say(Act.BLOCK)

    assert stands(1).block and registry.archived() == {digest(1)}


@pytest.mark.parametrize(("record", "error"), [
    ({"verified": "2999-01-01T00:00:00Z"}, ClockWrong), ({"verified": "2026-11-24T12:00:00Z"}, EvidenceInvalid),
])  # fmt: skip
def test_block_is_signed_despite_unreadable_encryption_record(say, stands, heard, registry, world, make, record, error):
    """A suspicious image may be the one to block; only its copies stay unknown."""
    world.store(TierName.CURATION).attach(ref(1), ENCRYPTION, record, make.noon)

    with pytest.raises(error):
        say(Act.BLOCK)
    assert stands().block and registry.archived() == {digest(1)}
    assert [each.archived_or_restored for each in heard] == [(digest(1),)]


def test_repeated_block_archives_reopened_image(say, stands, registry, world):
    """A push reopened it, and the first statement remains."""
    say(Act.BLOCK)
    registry.hold("curated/hello", 1)

    again = say(Act.BLOCK, at=9, reason="another")

    assert (again.changed, again.archived_or_restored, stands().block.reason) == (False, (digest(1),), "CVE-2026-1")
    assert (
        str(again).splitlines()[0]
        == f"block: {ref(1)} (it was blocked already, and the earlier decision stays in force)"
    )
    assert say(Act.BLOCK).archived_or_restored == ()
    assert len(read_decisions(read_image_status(ref(1), world.store(TierName.CURATION)).evidence)) == 1


@pytest.mark.parametrize("error", [AwsUnavailable("throttled\nlater"), AwsFailed("an index lists it\nwait")])
def test_block_is_signed_and_reported_if_archiving_fails(say, stands, heard, registry, world, copied, error):
    """The copy is archived all the same, and a repeated command does only the rest."""
    registry.errors[digest(1)] = error
    registry.signed = [deployed(1, 9)]
    with pytest.raises(type(error)) as raised:
        say(Act.BLOCK)
    assert stands().block and registry.archived() == {COPY.digest}
    assert raised.value is error
    assert [(each.changed, each.archived_or_restored, len(each.running)) for each in heard] == [
        (True, (COPY.digest,), 1)
    ]

    del registry.errors[digest(1)]
    assert say(Act.BLOCK, at=1).archived_or_restored == (digest(1),)
    assert len(read_decisions(read_image_status(ref(1), world.store(TierName.CURATION)).evidence)) == 1


def test_unblock_is_reported_if_restoring_fails(say, stands, heard, registry, copied):
    """The copy is restored all the same."""
    say(Act.BLOCK)
    registry.errors[digest(1)] = AwsFailed("no\nwait")
    with pytest.raises(AwsFailed):
        say(Act.UNBLOCK, at=1)
    assert not stands().block and registry.archived() == {digest(1)}
    assert (heard[-1].act, heard[-1].archived_or_restored) == (Act.UNBLOCK, (COPY.digest,))


def test_first_archiving_error_is_raised_with_notes_on_others(say, registry, copied):
    """The operator may have to fix all of them."""
    registry.errors = {digest(1): AwsFailed("one\nwait"), COPY.digest: AwsFailed("two\nwait")}

    with pytest.raises(AwsFailed, match="one") as raised:
        say(Act.BLOCK)
    assert [note.splitlines()[0] for note in raised.value.__notes__] == ["This failed too: two"]


@pytest.mark.parametrize(("error", "only_sign"), [
    (EvidenceInvalid("a record of shop\nread it"), False), (EvidenceInvalid("a record of shop\nread it"), True),
    (ClockWrong("a record of shop\nset it"), False), (AwsUnavailable("a record of shop\nlater"), True),
])  # fmt: skip
def test_unreadable_deployment_record_does_not_prevent_block(say, stands, heard, registry, error, only_sign):
    """The record may be of any application; the report mentions it."""
    registry.unreadable = error

    result = say(Act.BLOCK, only_sign=only_sign)

    assert stands().block and registry.archived() == (set() if only_sign else {digest(1)})
    assert heard == [result] and result.running == ()
    line = str(result).splitlines()[1]
    assert line.startswith("  what runs from it is unknown: a record of shop — ")


@pytest.mark.parametrize("error", [AwsUnavailable("throttled\nlater"), ValueError("a mistake of ours")])
def test_deployment_error_is_raised_after_block_if_retryable(say, stands, heard, registry, error):
    """Everything else is done first, and a programming error is never hidden."""
    registry.unreadable = error

    with pytest.raises(type(error)):
        say(Act.BLOCK)
    assert stands().block and registry.archived() == {digest(1)}
    assert [bool(each.running_unknown) for each in heard] == [True]

    registry.unreadable = None
    assert say(Act.BLOCK, at=1).running_unknown == ""


def test_uncurated_image_can_be_blocked(say, stands):
    """There is nothing to archive."""
    assert say(Act.BLOCK, 7).archived_or_restored == ()
    assert stands(7).block
    assert say(Act.BLOCK, repository="curated/never").changed


def test_unblock_restores_image_and_records_the_decision(say, stands, registry):
    """The image is restored even if it was archived for another reason."""
    say(Act.BLOCK)
    result = say(Act.UNBLOCK, at=1, reason="false alarm")

    assert (result.changed, result.archived_or_restored, registry.archived()) == (True, (digest(1),), set())
    assert (stands().block, stands().unblock.reason) == (None, "false alarm")


def test_unblock_names_archived_indexes_with_restore_command(say, registry):
    """An archived index cannot be read, so it is unknown which one the block archived."""
    registry.hold("dev/hello", 1)
    for name in ("curated/hello", "dev/hello", "dev/another"):
        registry.hold(name, 2, media_type=INDEXES[0], status=StorageStatus.ARCHIVED)
    registry.hold("curated/hello", 3, status=StorageStatus.ARCHIVED)
    registry.hold("curated/hello", 4, media_type=INDEXES[0])
    blocked = say(Act.BLOCK)

    unblocked = say(Act.UNBLOCK, at=1)

    assert (blocked.indexes, unblocked.indexes) == ((), (ref(2), ref(2, "dev/hello")))
    assert registry.archived() == {digest(2), digest(3)}
    assert f"  stays archived, and may list it: {ref(2)}\n" in str(unblocked)
    assert f"--repository-name dev/hello --image-id imageDigest={digest(2)} --target-storage" in str(unblocked)


def test_decision_report_shows_how_to_undo_it(say):
    """After an unblock it shows how to promote an image that a gate refused meanwhile."""
    held, released = say(Act.HOLD), say(Act.UNHOLD, at=1)
    say(Act.BLOCK, at=2)
    unblocked, again = say(Act.UNBLOCK, at=3), say(Act.UNBLOCK, at=4)

    assert str(held) == f"hold: {ref(1)}\n  to end it: cscm unhold {ref(1).short} --reason …"
    assert str(released) == f"unhold: {ref(1)}"
    assert str(unblocked).splitlines()[1:] == [
        f"  first, if curation refused it meanwhile: cscm curate dev/hello@{digest(1)}",
        f"  then, if execution refused it: cscm deploy curated/hello@{digest(1)} --environment …",
    ]
    assert str(again) == f"unblock: {ref(1)} (it was not blocked)"
    say(Act.BLOCK, 5, repository="curated/base/python")
    base = say(Act.UNBLOCK, 5, at=1, repository="curated/base/python")
    assert str(base).splitlines()[2:] == [
        f"  first, if curation refused it meanwhile: cscm curate dev/base/python@{digest(5)}"
    ]


@pytest.mark.parametrize("act", [Act.HOLD, Act.UNHOLD])
def test_hold_and_release_move_nothing(say, stands, registry, act):
    """A hold only affects deletion and archiving."""
    say(Act.HOLD)
    registry.hold("curated/hello", 1, status=StorageStatus.ARCHIVED)
    result = say(act, at=1)

    assert (result.archived_or_restored, registry.archived()) == ((), {digest(1)})
    assert bool(stands().hold) is (act is Act.HOLD)


def test_block_report_lists_running_containers_with_owner(say, world, make, registry):
    """The last record of each environment counts, also for a reverse proxy; an unreadable owner is unknown."""
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

    result = say(Act.BLOCK)

    assert result.running == (
        RunsFrom(environment="staging", application="broken", address="", owner=""),
        RunsFrom(environment="staging", application="future", address="", owner=""),
        RunsFrom(environment="staging", application="hello", address="http://127.0.0.1:1/", owner="web team"),
        RunsFrom(environment="staging", application="shop", address="", owner="", reverse_proxy=True),
    )
    assert str(result).splitlines()[1:-1] == [
        "  runs from it: broken in staging, of an unknown owner",
        "  runs from it: future in staging, of an unknown owner",
        "  runs from it: hello in staging at http://127.0.0.1:1/, of web team",
        "  runs from it: the reverse proxy of shop in staging, of an unknown owner",
    ]
    assert say(Act.UNBLOCK).running == ()


@pytest.mark.parametrize(("yes", "act"), [(True, PlanAct.APPROVE), (False, PlanAct.REJECT)])
def test_decision_about_plan_is_signed_for_that_plan(world, make, registry, yes, act):
    """It affects no image."""
    plan = digest(77)
    sign_plan_answer(
        plan, yes, world.store(TierName.LIFECYCLE), registry, by="ann", reason="looked at it", now=make.noon
    )

    where = ImageRef(repository="evidence/lifecycle/plans", digest=plan)
    found = world.store(TierName.EXECUTION).read_verified(where, TierName.LIFECYCLE, LIFECYCLE)
    (decision,) = read_decisions(found)
    assert (decision.value.act, decision.value.by, decision.value.reason) == (act, "ann", "looked at it")
    assert compute_image_status(found) == ImageStatus()
    assert registry.immutable_repositories() == {"evidence/lifecycle/plans"}
