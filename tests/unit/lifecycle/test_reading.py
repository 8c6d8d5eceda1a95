"""What a plan looks at, read from the registry and from signed evidence."""

from datetime import timedelta

import pytest

from supply_chain.errors import ClockWrong, ImageDamaged
from supply_chain.evidence.encryption import EncryptedCopy
from supply_chain.evidence.standing import Act, rule
from supply_chain.evidence.statement import ENCRYPTION, LIFECYCLE, PROVENANCE, SIGNATURE, SUMMARY, VULNERABILITIES
from supply_chain.evidence.summary import summary
from supply_chain.image import ImageRef, Material, StorageStatus, StoredManifest
from supply_chain.lifecycle.plan import plan
from supply_chain.lifecycle.reading import INDEXES, Read
from supply_chain.lifecycle.rules import Action
from supply_chain.lifecycle.stock import Evidenced, Member
from supply_chain.tier import Boundary, TierName
from tests.unit.execution import test_records
from tests.unit.lifecycle.stock import NOW, RULES, digest, image, ref, stored

registry, deployed = test_records.registry, test_records.deployed


@pytest.fixture
def read(world, registry, monkeypatch):
    """The lifecycle's view; `there` is what ECR says, `content` what can be pulled of it."""
    view = Read(registry, registry, world.store(TierName.LIFECYCLE))
    registry.there, registry.content = {}, {}
    records = registry.manifest
    monkeypatch.setattr(registry, "images", lambda name: tuple(registry.there[name]), raising=False)
    monkeypatch.setattr(registry, "manifest", lambda r: registry.content[r] if r in registry.content else records(r))
    return view


def test_what_belongs_to_what_is_read_from_the_manifests(read, registry):
    """ECR says what a referrer is attached to; an index names its children, where it can be read."""
    attached, index = stored(2, subject=digest(1)), stored(3, media_type=INDEXES[0])
    shelved = stored(4, media_type=INDEXES[0], status=StorageStatus.ARCHIVED)
    registry.there["curated/hello"] = [stored(1), attached, index, shelved]
    registry.content = {ref(3): {"manifests": [{"digest": digest(1)}, {"digest": digest(9)}]}}

    assert read.members("curated/hello") == (
        Member(ref=ref(1), stored=stored(1)),
        Member(ref=ref(2), stored=attached, subject=digest(1)),
        Member(ref=ref(3), stored=index, children=(digest(1), digest(9))),
        Member(ref=ref(4), stored=shelved),
    )


def test_of_what_is_archived_evidence_says_what_it_is(read, registry, world, make):
    """Nobody can pull it."""
    shelved = {"status": StorageStatus.ARCHIVED}
    registry.there["curated/hello"] = [stored(1, **shelved), stored(2, **shelved)]
    record = record_of(make, (1, 2))
    world.store(TierName.CURATION).attach(ref(1), ENCRYPTION, record, make.noon)
    world.store(TierName.DEVELOPMENT).attach(ref(2), ENCRYPTION, {**record, "verified": "x"}, make.noon)

    one, two = read.members("curated/hello")

    assert (one.copy_of, two.copy_of) == (None, digest(1))


def record_of(make, copy=None):
    """What curation signs about an image's encryption."""
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
def test_what_may_be_a_copy_of_an_image_of_which_that_cannot_be_read_stays_with_it(
    read, registry, world, make, record, code
):
    """What curation signed that it is encrypted is none, nor is another's copy; and no other repository is kept from
    being planned."""
    unsigned = {"signed": False, "passed": None}
    registry.there = {"curated/hello": [stored(n) for n in (1, 2, 3, 4, 6)], "curated/shop": [stored(5)]}
    for number, said in ((1, record), (4, record_of(make, (4, 6)))):
        world.store(TierName.CURATION).attach(ref(number), ENCRYPTION, said, make.noon)
    known = [image(n, **unsigned) for n in (2, 4)] + [image(5, repository="curated/shop", **unsigned)]

    for images in ((image(1, signed=False), *known), tuple(known)):
        whole = read.stock(images, NOW)
        found = plan(whole, RULES, NOW)

        assert {m.ref: m.children for m in whole.members if m.children} == {ref(1): (digest(2), digest(3))}
        assert [(i.ref, code in i.unreadable) for i in whole.images if i.unreadable] == [(ref(1), True)]
        assert {s.ref for s in found.steps if not s.touches} == {ref(1), ref(2), ref(3)}
        assert {s.ref: s.action for s in found.changes} == {
            ref(4): Action.AGE_OUT, ref(5, "curated/shop"): Action.AGE_OUT,
        }  # fmt: skip


def test_an_index_that_is_damaged_keeps_what_it_may_consist_of_and_stops_nothing_else(read, registry, monkeypatch):
    """Nobody can tell what it names; no other repository is kept from being planned."""
    index = stored(3, media_type=INDEXES[0])
    registry.there = {"curated/hello": [stored(1), index], "curated/shop": [stored(5)]}
    records = registry.manifest

    def manifest(where):
        if where == ref(3):
            raise ImageDamaged("curated/hello is no manifest\nlook")
        return records(where)

    monkeypatch.setattr(registry, "manifest", manifest)
    unsigned = {"signed": False, "passed": None}
    images = (image(1, **unsigned), image(3, **unsigned), image(5, repository="curated/shop", **unsigned))

    found = plan(read.stock(images, NOW), RULES, NOW)

    assert {s.ref: s.rule for s in found.steps if not s.touches} == {ref(1): "keep.needed", ref(3): "keep.unreadable"}
    assert [s.ref for s in found.changes] == [ref(5, "curated/shop")]


def test_a_copy_has_no_copies_whatever_is_said_of_it(read, registry, world, make):
    """It goes with its image, and takes nothing else along."""
    registry.there = {"curated/hello": [stored(n) for n in (1, 2, 3)]}
    for number, said in ((1, record_of(make, (1, 2))), (2, DARK[0][0])):
        world.store(TierName.CURATION).attach(ref(number), ENCRYPTION, said, make.noon)

    assert read.members("curated/hello") == (
        Member(ref=ref(1), stored=stored(1)),
        Member(ref=ref(2), stored=stored(2), copy_of=digest(1)),
        Member(ref=ref(3), stored=stored(3)),
    )


def test_who_asks_for_the_copies_of_one_image_is_told_that_they_cannot_be_read(read, world, make):
    """Whoever blocks it cannot close them."""
    world.store(TierName.CURATION).attach(ref(1), ENCRYPTION, DARK[0][0], make.noon)

    with pytest.raises(ClockWrong):
        read.copies(ref(1))


def test_every_deployment_that_was_signed_is_read(read, deployed):
    """Also earlier ones, of every application; and with what fronts them."""
    deployed(after=2)
    deployed(test_records.SECOND, after=1, environment="production")
    other = ImageRef(repository="curated/shop", digest=digest(7))
    deployed(other, after=3, application="shop")
    deployed(after=9, signer=TierName.CURATION)

    found = read.deployments(None)

    assert [(d.environment, d.application, d.digest) for d in found] == [
        ("production", "hello", test_records.SECOND.digest),
        ("staging", "hello", test_records.FIRST.digest),
        ("staging", "shop", digest(7)),
    ]
    assert {(d.proxy, d.address) for d in found} == {("sha256:" + "f" * 64, "http://127.0.0.1:8080/")}
    assert [d.application for d in read.deployments("shop")] == ["shop"]
    assert [d.at for d in found] == sorted(d.at for d in found)


def test_a_record_of_another_application_counts_nowhere(read, deployed):
    """It lies where that application's do not."""
    deployed(application="shop")
    where = ImageRef(repository="curated/hell", digest=digest(8))

    assert read.deployments(None) == ()
    deployed(where, application="hell")
    assert [d.digest for d in read.deployments("hell")] == [digest(8)]
    assert read.deployments("hello") == ()


def test_what_evidence_says_of_an_image_is_read_anew(read, world, make):
    """Whatever the inventory knows."""
    curation, where = world.store(TierName.CURATION), ref(1)
    assert read.evidenced(where, stored(1)) == Evidenced(signed=False, verdict="none")

    report = make.report(make.finding(known_exploited=True))
    curation.attach(where, SIGNATURE, {}, make.noon)
    curation.attach(where, VULNERABILITIES, report.predicate(), make.noon)
    no = summary(where, Boundary.CURATION, digest(9), reasons=[{"code": "x", "fact": "f", "remedy": "r"}], notes=(),
                 inputs=(), now=make.noon)  # fmt: skip
    curation.attach(where, SUMMARY, no.predicate(), make.noon)

    found = read.evidenced(where, stored(1))

    assert found == Evidenced(signed=True, verdict="failed", exploited=(report.findings[0].id,))


def test_bases_are_read_on_which_what_is_there_is_built(read, registry, world, make):
    """By what the builders signed."""
    registry.there = {"curated/hello": [stored(1), stored(2), stored(3)]}
    registry.repositories = lambda prefix: tuple(registry.there)
    for number, base in ((1, digest(71)), (2, digest(72))):
        material = Material(name="python", digest=base, curated=True)
        built = make.provenance(built={"materials": (material,)})
        world.store(TierName.DEVELOPMENT).attach(ref(number), PROVENANCE, built, make.noon)

    assert read.bases() == {digest(71), digest(72)}


@pytest.mark.parametrize(("at", "code"), [
    ("2026-11-24T12:00:00Z", "evidence.invalid"), ("2999-01-01T00:00:00Z", "clock.wrong"),
])  # fmt: skip
def test_an_image_of_which_nobody_can_read_how_it_stands_is_kept(read, registry, world, make, at, code):
    """It may be held; the others are planned."""
    registry.there = {"curated/hello": [stored(1), stored(2)]}
    where = ref(1, "evidence/lifecycle/hello")
    world.store(TierName.LIFECYCLE).attach(where, LIFECYCLE, {"at": at}, make.noon)

    one, two = read.stock((image(1), image(2)), NOW).images

    assert code in one.unreadable and two.unreadable == ""


def test_a_stock_is_whole(read, registry, world, deployed, make):
    """Images, manifests, deployments, and of each image how it stands, where anything was said."""
    registry.there = {"curated/hello": [stored(1)], "curated/shop": [stored(2)]}
    registry.content = {ref(1): {}, ref(2, "curated/shop"): {}}
    registry.ensure_repository = lambda *_, **__: None
    rule(ref(1), Act.HOLD, read.evidence, registry, by="ann", why="audit", now=make.noon)
    deployed()
    images = (image(1), image(2, repository="curated/shop"), image(3, repository="evidence/x/hello"))

    whole = read.stock(images, NOW + timedelta(days=1))

    assert (whole.images, whole.read_at) == (images, NOW + timedelta(days=1))
    assert [m.ref.repository for m in whole.members] == ["curated/hello", "curated/shop"]
    assert [d.digest for d in whole.deployments] == [test_records.FIRST.digest]
    assert {where: each.hold.why for where, each in whole.standings.items()} == {str(ref(1)): "audit"}
    assert isinstance(whole.members[0].stored, StoredManifest)
