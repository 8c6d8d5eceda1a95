"""What a plan looks at, read from the registry and from signed evidence."""

from dataclasses import replace
from datetime import timedelta

import pytest

from supply_chain.errors import ClockWrong, ImageDamaged
from supply_chain.evidence.encryption import EncryptedCopy
from supply_chain.evidence.image_status import Act, sign_decision
from supply_chain.evidence.statement import ENCRYPTION, LIFECYCLE, PROVENANCE, SIGNATURE, SUMMARY, VULNERABILITIES
from supply_chain.evidence.summary import summary
from supply_chain.execution.environment import Environment
from supply_chain.lifecycle.planning import plan_lifecycle
from supply_chain.lifecycle.reading import RegistryReader
from supply_chain.lifecycle.rules import Action
from supply_chain.lifecycle.snapshot import INDEXES, Evidenced, Member
from supply_chain.model.image import ImageRef, Material, StorageStatus
from supply_chain.model.tier import Gate, TierName
from tests.support.stock import NOW, RULES, ago, digest, image, ref, stands, stored
from tests.unit.execution import test_records
from tests.unit.lifecycle.test_plan import newest

registry, deployed = test_records.registry, test_records.deployed


@pytest.fixture
def read(world, registry, monkeypatch):
    """The lifecycle's view; `there` is what ECR says, `content` what can be pulled of it."""
    view = RegistryReader(registry, registry, world.store(TierName.LIFECYCLE))
    registry.there, registry.content = {}, {}
    records = registry.manifest
    monkeypatch.setattr(registry, "images", lambda name: tuple(registry.there[name]), raising=False)
    monkeypatch.setattr(registry, "manifest", lambda r: registry.content[r] if r in registry.content else records(r))
    return view


def test_what_belongs_to_what_is_read_from_the_manifests(read, registry):
    """ECR says what a referrer is attached to; an index names its children, where it can be read. Where nobody can read
    that, whatever may be one counts; an index is none of itself, and nothing that is attached is one."""
    attached, index = stored(2, subject=digest(1)), stored(3, media_type=INDEXES[0])
    shelved = stored(4, media_type=INDEXES[0], status=StorageStatus.ARCHIVED)
    registry.there["curated/hello"] = [stored(1), attached, index, shelved]
    registry.content = {ref(3): {"manifests": [{"digest": digest(1)}, {"digest": digest(9)}]}}

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
def test_what_an_index_that_is_closed_consists_of_stays_with_it(read, registry, status, acts, rule):
    """Nobody can pull it to read that: what may be a part stays, with what vouches for it, and is not closed."""
    index = {"media_type": INDEXES[0], "status": StorageStatus(status)}
    registry.there["curated/hello"] = [
        stored(1, **index), stored(2, tags=()), stored(3, tags=(), subject=digest(2)), stored(4, tags=()),
    ]  # fmt: skip
    unsigned = {"signed": False, "passed": None}
    whole = read.stock((image(1, **index, **unsigned), image(2, tags=(), **unsigned)), NOW)

    found = plan_lifecycle(whole.model_copy(update={"standings": {str(ref(1)): stands(**acts)}}), RULES, NOW)

    assert {s.ref: s.rule for s in found.steps} == {
        ref(1): rule, ref(2): "keep.needed", ref(3): "keep.belongs", ref(4): "keep.unknown",
    }  # fmt: skip


def tagged(number, *about, end=".sig", more=()):
    """What is attached to these by its tags."""
    return stored(number, tags=(*(f"sha256-{digest(each)[7:]}{end}" for each in about), *more))


@pytest.mark.parametrize(("manifest", "subjects"), [
    (tagged(2, 1), (1,)), (tagged(2, 1, end=""), (1,)), (tagged(2, 1, 3, end=".sbom"), (1, 3)),
    (tagged(2, 1, more=("v1",)), ()), (tagged(2, 2), ()), (stored(2, tags=("sha256-12.sig",)), ()),
    (stored(2, tags=()), ()), (tagged(2, 1).model_copy(update={"subject": digest(9)}), (9,)),
])  # fmt: skip
def test_what_a_manifest_is_attached_to_its_tags_may_say(read, registry, manifest, subjects):
    """As cosign did before there were subjects. What has a name of its own is an image, and nothing is attached to
    itself."""
    registry.there["curated/hello"] = [manifest]

    assert [each.subjects for each in read.members("curated/hello")] == [tuple(map(digest, subjects))]


@pytest.mark.parametrize(("pulled", "also", "rules"), [
    (1, 1, ("keep.pulled", "keep.belongs", "keep.belongs")), (None, 1, ("age-out.superseded",) * 3),
    (None, 900, ("keep.needed", "keep.belongs", "keep.belongs")),
])  # fmt: skip
def test_what_is_attached_by_a_tag_stays_with_its_image_and_goes_with_it(read, registry, pulled, also, rules):
    """The inventory takes it for an image that nobody admitted. What is attached to two images keeps both."""
    one = stored(1, pulled_at=ago(pulled) if pulled else None)
    signature, shared = tagged(2, 1), tagged(3, 1, also, end=".sbom")
    registry.there["curated/hello"] = [*(each.stored for each in newest()), one, signature, shared]
    unknown = {"signed": False, "passed": None, "kind": "unknown", "owner": "", "environments": ()}
    known = (*newest(), image(1), *(image(n, **unknown) for n in (2, 3)))

    found = plan_lifecycle(read.stock(known, NOW), RULES, NOW)

    assert [found.step(ref(n)).rule for n in (1, 2, 3)] == list(rules)
    assert found.over == ()


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
        found = plan_lifecycle(whole, RULES, NOW)

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

    found = plan_lifecycle(read.stock(images, NOW), RULES, NOW)

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


@pytest.mark.parametrize("listed", [False, True])
@pytest.mark.parametrize(
    ("needed", "decided_by"), [("runs", "keep.orphaned"), ("held", "keep.orphaned"), ("", "age-out.orphaned")]
)
def test_a_copy_whose_image_is_gone_stays_with_what_is_owed_to_that(
    read, registry, world, deployed, make, needed, decided_by, listed
):
    """It is what runs of a confidential application. The inventory takes it for an image that nobody admitted."""
    plain, left = test_records.FIRST, stored(11, subject=test_records.FIRST.digest)
    registry.there = {"curated/hello": [stored(2), left]}
    registry.ensure_repository = lambda *_, **__: None
    record = record_of(make, (1, 2))
    record["copy"]["plain"] = plain.digest
    world.store(TierName.CURATION).attach(plain, ENCRYPTION, record, make.noon)
    if needed == "runs":
        deployed()
    if needed == "held":
        sign_decision(plain, Act.HOLD, read.evidence, registry, by="ann", why="audit", now=make.noon)
    images = (image(2, signed=False, passed=None),)
    gone = image(1).model_copy(update={"ref": plain, "signed": False, "judgements": ()})

    found = plan_lifecycle(read.stock((*images, gone) if listed else images, NOW), RULES, NOW)

    assert [found.step(ref(n)).rule for n in (2, 11)] == [decided_by, decided_by]
    assert found.step(ref(2)).evidenced is None


def test_what_may_be_a_copy_of_an_image_that_is_gone_stays_where_that_cannot_be_read(read, registry, world, make):
    """And what is attached to that; what curation signed that it is encrypted is none."""
    unsigned = {"signed": False, "passed": None}
    registry.there = {"curated/hello": [stored(2), stored(3), stored(11, subject=digest(1))]}
    for number, said in ((1, DARK[1][0]), (3, record_of(make))):
        world.store(TierName.CURATION).attach(ref(number), ENCRYPTION, said, make.noon)

    found = plan_lifecycle(read.stock((image(2, **unsigned), image(3, **unsigned)), NOW), RULES, NOW)

    assert {s.ref: s.rule for s in found.steps} == {
        ref(2): "keep.needed", ref(3): "age-out.unsigned", ref(11): "keep.orphaned",
    }  # fmt: skip


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


def test_the_proxies_that_environments_name_are_read(read, registry):
    """From their documents, each time."""
    named = {"staging": digest(1), "production": digest(1), "test": digest(2), "other": None}
    places = [Environment(name=name, proxy=proxy) for name, proxy in named.items()]
    registry.there = {"curated/hello": [stored(1)]}

    whole = replace(read, environments=lambda: places).stock((image(1),), NOW)

    assert whole.proxies == {digest(1): ("staging", "production"), digest(2): ("test",)}
    assert read.proxies() == {}


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
    no = summary(where, Gate.RELEASE, digest(9), reasons=[{"code": "x", "fact": "f", "remedy": "r"}], notes=(),
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


def test_how_an_image_stands_that_is_gone_is_read_where_something_is_left_of_it(read, registry, world, make):
    """It may be held; what nobody can read of it is told."""
    registry.there = {"curated/hello": [stored(1), *(stored(10 + n, subject=digest(n)) for n in (1, 2, 3, 4))]}
    registry.ensure_repository = lambda *_, **__: None
    sign_decision(ref(2), Act.HOLD, read.evidence, registry, by="ann", why="audit", now=make.noon)
    damaged = ref(3, "evidence/lifecycle/hello")
    world.store(TierName.LIFECYCLE).attach(damaged, LIFECYCLE, {"at": "no"}, make.noon)

    whole = read.stock((image(1),), NOW)

    assert {where: each.hold.why for where, each in whole.standings.items()} == {str(ref(2)): "audit"}
    assert whole.untold.keys() == {str(ref(3))} and "evidence.invalid" in whole.untold[str(ref(3))]


def test_a_stock_is_whole(read, registry, world, deployed, make):
    """Images, manifests, deployments, and of each image how it stands, where anything was said."""
    registry.there = {"curated/hello": [stored(1)], "curated/shop": [stored(2)]}
    registry.content = {ref(1): {}, ref(2, "curated/shop"): {}}
    registry.ensure_repository = lambda *_, **__: None
    sign_decision(ref(1), Act.HOLD, read.evidence, registry, by="ann", why="audit", now=make.noon)
    deployed()
    images = (image(1), image(2, repository="curated/shop"), image(3, repository="evidence/x/hello"))

    whole = read.stock(images, NOW + timedelta(days=1))

    assert (whole.images, whole.read_at) == (images, NOW + timedelta(days=1))
    assert [m.ref.repository for m in whole.members] == ["curated/hello", "curated/shop"]
    assert [d.digest for d in whole.deployments] == [test_records.FIRST.digest]
    assert {where: each.hold.why for where, each in whole.standings.items()} == {str(ref(1)): "audit"}
    assert [m.stored for m in whole.members] == [stored(1), stored(2)]
