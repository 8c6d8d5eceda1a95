"""The snapshot of a plan, read from the registry and from signed evidence."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from supply_chain.errors import ClockWrong
from supply_chain.evidence.encryption import EncryptedCopy
from supply_chain.evidence.image_status import Act, sign_decision
from supply_chain.evidence.statement import ENCRYPTION, LIFECYCLE, PROVENANCE, SIGNATURE, SUMMARY, VULNERABILITIES
from supply_chain.evidence.summary import make_summary
from supply_chain.execution.environment import DockerEnvironment
from supply_chain.lifecycle.planning import plan_lifecycle
from supply_chain.lifecycle.reading import RegistryReader
from supply_chain.lifecycle.rules import Action
from supply_chain.lifecycle.snapshot import INDEXES, EvidenceSummary, Member
from supply_chain.model.image import ImageRef, Material, StorageStatus
from supply_chain.model.tier import Gate, TierName
from tests.support.present import present
from tests.support.records import FIRST, SECOND
from tests.support.snapshots import NOW, RULES, ago, digest, image, newest, ref, stands, stored


@pytest.fixture
def read(world, registry, monkeypatch):
    """Return the reader of the lifecycle; ECR lists what `hold` adds, and no referrers."""
    listed, repositories = registry.images, world.registry.repositories
    monkeypatch.setattr(
        registry,
        "images",
        lambda name: tuple(each for each in listed(name) if each.digest not in repositories[name].annotations),
    )
    return RegistryReader(registry, registry, world.store(TierName.LIFECYCLE))


def hold(registry, listed, contents=None):
    """Add manifests by repository, and the contents of some."""
    for repository, manifests in listed.items():
        for each in manifests:
            where = ImageRef(repository=repository, digest=each.digest)
            registry.registry.add(where, (contents or {}).get(where), **each.model_dump())


def test_members_have_subjects_and_children_from_manifests(read, registry):
    """Children of an index that cannot be read are guessed: neither the index itself nor referrers are among them."""
    attached, index = stored(2, subject=digest(1)), stored(3, media_type=INDEXES[0])
    shelved = stored(4, media_type=INDEXES[0], status=StorageStatus.ARCHIVED)
    children = {ref(3): {"manifests": [{"digest": digest(1)}, {"digest": digest(9)}]}}
    hold(registry, {"curated/hello": [stored(1), attached, index, shelved]}, children)

    assert read.members("curated/hello") == (
        Member(ref=ref(1), stored=stored(1)),
        Member(ref=ref(2), stored=attached, subjects=(digest(1),)),
        Member(ref=ref(3), stored=index, children=(digest(1), digest(9))),
        Member(ref=ref(4), stored=shelved, children=(digest(1), digest(3)), guessed=True),
    )


@pytest.mark.parametrize(("status", "acts", "rule"), [
    ("ARCHIVED", {"block": "bad"}, "keep.blocked"), ("ARCHIVED", {"block": "bad", "hold": "audit"}, "keep.blocked"),
    ("ACTIVATING", {"hold": "audit"}, "keep.restoring"), ("ACTIVATING", {}, "keep.restoring"),
])  # fmt: skip
def test_possible_children_of_unreadable_index_stay_with_it(read, registry, status, acts, rule):
    """An archived index cannot be pulled, so they stay with their evidence and are not archived."""
    index: dict[str, Any] = {"media_type": INDEXES[0], "status": StorageStatus(status)}
    hold(registry, {"curated/hello": [
        stored(1, **index), stored(2, tags=()), stored(3, tags=(), subject=digest(2)), stored(4, tags=()),
    ]})  # fmt: skip
    unsigned: dict[str, Any] = {"signed": False, "passed": None}
    snapshot = read.read_snapshot((image(1, **index, **unsigned), image(2, tags=(), **unsigned)), NOW)

    found = plan_lifecycle(snapshot.model_copy(update={"statuses": {str(ref(1)): stands(**acts)}}), RULES, NOW)

    assert {s.ref: s.rule for s in found.steps} == {
        ref(1): rule, ref(2): "keep.needed", ref(3): "keep.belongs", ref(4): "keep.unknown",
    }  # fmt: skip


def tagged(number, *about, end=".sig", more=()):
    """Return a manifest whose tags attach it to these images."""
    return stored(number, tags=(*(f"sha256-{digest(each)[7:]}{end}" for each in about), *more))


@pytest.mark.parametrize(("manifest", "subjects"), [
    (tagged(2, 1), (1,)), (tagged(2, 1, end=""), (1,)), (tagged(2, 1, 3, end=".sbom"), (1, 3)),
    (tagged(2, 1, more=("v1",)), ()), (tagged(2, 2), ()), (stored(2, tags=("sha256-12.sig",)), ()),
    (stored(2, tags=()), ()), (tagged(2, 1).model_copy(update={"subject": digest(9)}), (9,)),
])  # fmt: skip
def test_member_has_subjects_from_cosign_tags(read, registry, manifest, subjects):
    """Older cosign versions attach by tag; a manifest with another tag is an image, and none is its own referrer."""
    hold(registry, {"curated/hello": [manifest]})

    assert [each.subjects for each in read.members("curated/hello")] == [tuple(map(digest, subjects))]


@pytest.mark.parametrize(("pulled", "also", "rules"), [
    (1, 1, ("keep.pulled", "keep.belongs", "keep.belongs")), (None, 1, ("age-out.superseded",) * 3),
    (None, 900, ("keep.needed", "keep.belongs", "keep.belongs")),
])  # fmt: skip
def test_plan_keeps_and_deletes_tag_attachment_with_its_image(read, registry, pulled, also, rules):
    """The inventory lists it as an unadmitted image; one that is attached to two images keeps both."""
    one = stored(1, pulled_at=ago(pulled) if pulled else None)
    signature, shared = tagged(2, 1), tagged(3, 1, also, end=".sbom")
    hold(registry, {"curated/hello": [*(each.stored for each in newest()), one, signature, shared]})
    unknown: dict[str, Any] = {"signed": False, "passed": None, "kind": "unknown", "owner": "", "environments": ()}
    images = (*newest(), image(1), *(image(n, **unknown) for n in (2, 3)))

    found = plan_lifecycle(read.read_snapshot(images, NOW), RULES, NOW)

    assert [present(found.step(ref(n))).rule for n in (1, 2, 3)] == list(rules)
    assert found.exceeded_limits == ()


def test_archived_copy_is_identified_by_evidence(read, registry, world, make):
    """An archived manifest cannot be pulled."""
    shelved: dict[str, Any] = {"status": StorageStatus.ARCHIVED}
    hold(registry, {"curated/hello": [stored(1, **shelved), stored(2, **shelved)]})
    record = record_of(make, (1, 2))
    world.store(TierName.CURATION).attach(ref(1), ENCRYPTION, record, make.noon)
    world.store(TierName.DEVELOPMENT).attach(ref(2), ENCRYPTION, {**record, "verified": "x"}, make.noon)

    one, two = read.members("curated/hello")

    assert (one.copy_of, two.copy_of) == (None, digest(1))


def record_of(make, copy=None):
    """Return the encryption record that curation signs about an image."""
    copy = copy and EncryptedCopy(plain=digest(copy[0]), encrypted=digest(copy[1]), wrapped_key="", key="k", context={})
    return {
        "repository": "curated/hello", "type": "KMS", "key": "k", "rotates": True, "classification": "confidential",
        "verified": make.noon.isoformat(), "copy": copy.model_dump(mode="json") if copy else None,
    }  # fmt: skip


DARK = [
    ({"verified": "2999-01-01T00:00:00Z"}, "clock.wrong"),
    ({"verified": "2026-11-24T12:00:00Z"}, "evidence.invalid"),
]


@pytest.mark.parametrize(("record", "code"), DARK)
def test_possible_copies_of_image_with_unreadable_record_stay(read, registry, world, make, record, code):
    """Manifests with a readable record are no possible copies, and other repositories are planned."""
    unsigned: dict[str, Any] = {"signed": False, "passed": None}
    hold(registry, {"curated/hello": [stored(n) for n in (1, 2, 3, 4, 6)], "curated/shop": [stored(5)]})
    for number, content in ((1, record), (4, record_of(make, (4, 6)))):
        world.store(TierName.CURATION).attach(ref(number), ENCRYPTION, content, make.noon)
    others = [image(n, **unsigned) for n in (2, 4)] + [image(5, repository="curated/shop", **unsigned)]

    for images in ((image(1, signed=False), *others), tuple(others)):
        snapshot = read.read_snapshot(images, NOW)
        found = plan_lifecycle(snapshot, RULES, NOW)

        assert {m.ref: m.children for m in snapshot.members if m.children} == {ref(1): (digest(2), digest(3))}
        assert [(i.ref, code in i.unreadable) for i in snapshot.images if i.unreadable] == [(ref(1), True)]
        assert {s.ref for s in found.steps if not s.touches} == {ref(1), ref(2), ref(3)}
        assert {s.ref: s.action for s in found.changes} == {
            ref(4): Action.AGE_OUT, ref(5, "curated/shop"): Action.AGE_OUT,
        }  # fmt: skip


def test_damaged_index_keeps_its_possible_children(read, registry):
    """It is unknown what the index lists, and other repositories are planned."""
    index = stored(3, media_type=INDEXES[0])
    hold(registry, {"curated/hello": [stored(1), index], "curated/shop": [stored(5)]})
    registry.registry.damage("curated/hello", digest(3))
    unsigned: dict[str, Any] = {"signed": False, "passed": None}
    images = (image(1, **unsigned), image(3, **unsigned), image(5, repository="curated/shop", **unsigned))

    found = plan_lifecycle(read.read_snapshot(images, NOW), RULES, NOW)

    assert {s.ref: s.rule for s in found.steps if not s.touches} == {ref(1): "keep.needed", ref(3): "keep.unreadable"}
    assert [s.ref for s in found.changes] == [ref(5, "curated/shop")]


def test_copy_has_no_copies(read, registry, world, make):
    """A record about a copy does not make another manifest its copy."""
    hold(registry, {"curated/hello": [stored(n) for n in (1, 2, 3)]})
    for number, record in ((1, record_of(make, (1, 2))), (2, DARK[0][0])):
        world.store(TierName.CURATION).attach(ref(number), ENCRYPTION, record, make.noon)

    assert read.members("curated/hello") == (
        Member(ref=ref(1), stored=stored(1)),
        Member(ref=ref(2), stored=stored(2), copy_of=digest(1)),
        Member(ref=ref(3), stored=stored(3)),
    )


@pytest.mark.parametrize("listed", [False, True])
@pytest.mark.parametrize(
    ("needed", "decided_by"), [("runs", "keep.orphaned"), ("held", "keep.orphaned"), ("", "age-out.orphaned")]
)
def test_copy_of_missing_image_stays_while_image_is_needed(
    read, registry, world, deployed, make, needed, decided_by, listed
):
    """The copy is what runs; the inventory lists it as an image that no gate admitted."""
    plain, left = FIRST, stored(11, subject=FIRST.digest)
    hold(registry, {"curated/hello": [stored(2), left]})
    record = record_of(make, (1, 2))
    record["copy"]["plain"] = plain.digest
    world.store(TierName.CURATION).attach(plain, ENCRYPTION, record, make.noon)
    if needed == "runs":
        deployed()
    if needed == "held":
        sign_decision(plain, Act.HOLD, read.evidence, registry, by="ann", reason="audit", now=make.noon)
    images = (image(2, signed=False, passed=None),)
    gone = image(1).model_copy(update={"ref": plain, "signed": False, "judgements": ()})

    found = plan_lifecycle(read.read_snapshot((*images, gone) if listed else images, NOW), RULES, NOW)

    assert [present(found.step(ref(n))).rule for n in (2, 11)] == [decided_by, decided_by]
    assert present(found.step(ref(2))).evidence_summary is None


def test_possible_copy_of_missing_image_stays_if_record_unreadable(read, registry, world, make):
    """Its evidence stays too; an image with a record of its own is no copy."""
    unsigned: dict[str, Any] = {"signed": False, "passed": None}
    hold(registry, {"curated/hello": [stored(2), stored(3), stored(11, subject=digest(1))]})
    for number, record in ((1, DARK[1][0]), (3, record_of(make))):
        world.store(TierName.CURATION).attach(ref(number), ENCRYPTION, record, make.noon)

    found = plan_lifecycle(read.read_snapshot((image(2, **unsigned), image(3, **unsigned)), NOW), RULES, NOW)

    assert {s.ref: s.rule for s in found.steps} == {
        ref(2): "keep.needed", ref(3): "age-out.unsigned", ref(11): "keep.orphaned",
    }  # fmt: skip


def test_reading_copies_of_one_image_raises_if_record_unreadable(read, world, make):
    """A block cannot archive copies that are not known."""
    world.store(TierName.CURATION).attach(ref(1), ENCRYPTION, DARK[0][0], make.noon)

    with pytest.raises(ClockWrong):
        read.copies(ref(1))


def test_deployments_include_every_signed_record(read, deployed):
    """Earlier records, all applications and reverse proxies are included."""
    deployed(after=2)
    deployed(SECOND, after=1, environment="production")
    other = ImageRef(repository="curated/shop", digest=digest(7))
    deployed(other, after=3, application="shop")
    deployed(after=9, signer=TierName.CURATION)

    found = read.deployments(None)

    assert [(d.environment, d.application, d.digest) for d in found] == [
        ("production", "hello", SECOND.digest),
        ("staging", "hello", FIRST.digest),
        ("staging", "shop", digest(7)),
    ]
    assert {(d.proxy, d.address) for d in found} == {("sha256:" + "f" * 64, "http://127.0.0.1:8080/")}
    assert [d.application for d in read.deployments("shop")] == ["shop"]
    assert [d.at for d in found] == sorted(d.at for d in found)


def test_snapshot_contains_proxies_named_by_environments(read, registry):
    """The environment documents are read each time."""
    named = {"staging": digest(1), "production": digest(1), "test": digest(2), "other": None}
    places = [DockerEnvironment(name=name, proxy=proxy) for name, proxy in named.items()]
    hold(registry, {"curated/hello": [stored(1)]})

    snapshot = replace(read, environments=lambda: places).read_snapshot((image(1),), NOW)

    assert snapshot.proxies == {digest(1): ("staging", "production"), digest(2): ("test",)}
    assert read.proxies() == {}


def test_deployment_record_in_wrong_repository_does_not_count(read, deployed):
    """A record counts only in the repository of its application."""
    deployed(application="shop")
    where = ImageRef(repository="curated/hell", digest=digest(8))

    assert read.deployments(None) == ()
    deployed(where, application="hell")
    assert [d.digest for d in read.deployments("hell")] == [digest(8)]
    assert read.deployments("hello") == ()


def test_evidence_summary_is_read_from_current_statements(read, world, make):
    """The inventory does not matter."""
    curation, where = world.store(TierName.CURATION), ref(1)
    assert read.summarize_evidence(where, stored(1)) == EvidenceSummary(signed=False, verdict="none")

    report = make.report(make.finding(known_exploited=True))
    curation.attach(where, SIGNATURE, {}, make.noon)
    curation.attach(where, VULNERABILITIES, report.predicate(), make.noon)
    no = make_summary(where, Gate.RELEASE, digest(9), reasons=[{"code": "x", "fact": "f", "remedy": "r"}], notes=(),
                 inputs=(), now=make.noon)  # fmt: skip
    curation.attach(where, SUMMARY, no.predicate(), make.noon)

    found = read.summarize_evidence(where, stored(1))

    assert found == EvidenceSummary(signed=True, verdict="failed", exploited=(report.findings[0].id,))


def test_bases_are_read_from_provenance(read, registry, world, make):
    """The provenance is signed by the builder."""
    hold(registry, {"curated/hello": [stored(1), stored(2), stored(3)]})
    for number, base in ((1, digest(71)), (2, digest(72))):
        material = Material(name="python", digest=base, curated=True)
        built = make.provenance(built={"materials": (material,)})
        world.store(TierName.DEVELOPMENT).attach(ref(number), PROVENANCE, built, make.noon)

    assert read.bases() == {digest(71), digest(72)}


@pytest.mark.parametrize(("at", "code"), [
    ("2026-11-24T12:00:00Z", "evidence.invalid"), ("2999-01-01T00:00:00Z", "clock.wrong"),
])  # fmt: skip
def test_image_with_unreadable_status_is_marked_unreadable(read, registry, world, make, at, code):
    """It may be held; the other images are planned."""
    hold(registry, {"curated/hello": [stored(1), stored(2)]})
    where = ref(1, "evidence/lifecycle/hello")
    world.store(TierName.LIFECYCLE).attach(where, LIFECYCLE, {"at": at}, make.noon)

    one, two = read.read_snapshot((image(1), image(2)), NOW).images

    assert code in one.unreadable and two.unreadable == ""


def test_snapshot_contains_status_of_missing_image_with_referrers(read, registry, world, make):
    """It may be held, and an unreadable status is noted."""
    hold(registry, {"curated/hello": [stored(1), *(stored(10 + n, subject=digest(n)) for n in (1, 2, 3, 4))]})
    sign_decision(ref(2), Act.HOLD, read.evidence, registry, by="ann", reason="audit", now=make.noon)
    damaged = ref(3, "evidence/lifecycle/hello")
    world.store(TierName.LIFECYCLE).attach(damaged, LIFECYCLE, {"at": "no"}, make.noon)

    snapshot = read.read_snapshot((image(1),), NOW)

    assert {where: each.hold.reason for where, each in snapshot.statuses.items()} == {str(ref(2)): "audit"}
    assert snapshot.unreadable.keys() == {str(ref(3))} and "evidence.invalid" in snapshot.unreadable[str(ref(3))]


def test_snapshot_contains_all_inputs_of_a_plan(read, registry, world, deployed, make):
    """These are images, manifests, deployments and image statuses."""
    hold(registry, {"curated/hello": [stored(1)], "curated/shop": [stored(2)]})
    sign_decision(ref(1), Act.HOLD, read.evidence, registry, by="ann", reason="audit", now=make.noon)
    deployed()
    images = (image(1), image(2, repository="curated/shop"), image(3, repository="evidence/x/hello"))

    snapshot = read.read_snapshot(images, NOW + timedelta(days=1))

    assert (snapshot.images, snapshot.read_at) == (images, NOW + timedelta(days=1))
    assert [m.ref.repository for m in snapshot.members] == ["curated/hello", "curated/shop"]
    assert [d.digest for d in snapshot.deployments] == [FIRST.digest]
    assert {where: each.hold.reason for where, each in snapshot.statuses.items()} == {str(ref(1)): "audit"}
    assert [m.stored for m in snapshot.members] == [stored(1), stored(2)]
