"""The inventory is what registry, evidence and hosts say, whatever it was before."""

from datetime import timedelta

import pytest

from supply_chain.adapters.database import open_inventory
from supply_chain.errors import ImageNotFound, RegistryUnavailable
from supply_chain.evidence.statement import BUNDLE, DEPLOYMENT, ENCRYPTION, SUMMARY, VULNERABILITIES
from supply_chain.fleet.known import Seen
from supply_chain.fleet.reconcile import applications, everything, look, refresh, watch
from supply_chain.model.container import ContainerSpec, profile
from supply_chain.model.image import ImageRef
from supply_chain.model.tier import Gate, TierName
from supply_chain.policy.verdict import verdict_places
from tests.support.memory_engine import MemoryEngine
from tests.support.pieces import CURATED

OTHER = "sha256:" + "b" * 64
CURATION, EXECUTION = TierName.CURATION, TierName.EXECUTION


def test_an_image_is_known_by_its_evidence(fleet, make):
    """All that the registry lists and that the tiers signed; nothing of it is anybody's mere word."""
    ref = fleet.curated()
    fleet.deploy(ref)

    done = fleet.refresh()
    (image,) = fleet.images

    assert (done.images, done.read, done.gone, done.unreadable) == (1, 1, (), {})
    assert (image.ref, image.kind, image.owner, image.source) == (ref, "service", "web team", make.source())
    assert (image.signed, image.vended) == (True, True)
    assert image.stored.size == 1_500_000 and image.stored.tags == ("v1",)
    assert [(j.gate, j.passed) for j in image.judgements] == [
        (Gate.INTAKE, True), (Gate.RELEASE, True),
    ]  # fmt: skip
    assert image.scan.findings == () and image.scan.database.digest == "xxh64:0"
    assert image.sbom and image.sbom_content
    assert [(r.environment, r.host, r.since) for r in image.running] == [
        ("staging", "laptop", make.noon + timedelta(hours=1))
    ]
    assert {note.signer for note in image.notes} == set(TierName) - {"lifecycle"}
    assert [i.ref for i, _ in fleet.inventory.carrying("openssl")] == [ref]


def test_what_did_not_change_is_not_read_again(fleet):
    """A full reconciliation costs a list, however many images there are; a pull is seen in it."""
    fleet.curated()
    fleet.refresh()
    fleet.world.registry.layer = None  # reading evidence would fail
    pulled = fleet.make.noon + timedelta(days=1)
    fleet.registry.add("curated/hello", CURATED.digest, at=fleet.make.noon, pulled_at=pulled)

    done = fleet.refresh()

    assert (done.images, done.read) == (1, 0)
    assert [image.stored.pulled_at for image in fleet.images] == [pulled]


@pytest.mark.parametrize("where", ["beside it", "in the evidence of curation", "in the evidence of execution"])
def test_what_is_said_later_is_read(fleet, where):
    """Wherever a tier says it; a no of curation lies in two places and is one."""
    ref = fleet.curated()
    fleet.refresh()
    (before,) = fleet.images
    gate = {
        "beside it": Gate.RELEASE,
        "in the evidence of curation": Gate.INTAKE,
        "in the evidence of execution": Gate.DEPLOY,
    }[where]
    no = fleet.pieces.verdict(gate, ref, yes=False, at=fleet.make.noon + timedelta(days=1))
    signer = EXECUTION if gate is Gate.DEPLOY else CURATION
    for place in verdict_places(ref, gate, admitted=False):
        fleet.say(place, signer, SUMMARY, no)

    assert fleet.refresh().read == 1
    (image,) = fleet.images
    assert len(image.judgements) == len(before.judgements) + 1
    assert image.last(gate).passed is False
    assert [reason.code for reason in image.last(gate).reasons] == ["x"]
    assert image.vended is (gate is not Gate.RELEASE)


def test_of_an_image_that_is_gone_the_sbom_may_be_gone_too(fleet, monkeypatch):
    """It cannot be read, and keeps no other from being read; one that is there has to have its own."""
    ref = fleet.curated()
    fleet.deploy(ref)
    read = fleet.world.registry.content

    def content(referrer):
        if "syft" in fleet.world.registry.held[referrer.repository][referrer.digest][1]:
            raise ImageNotFound("no SBOM\nsome time it was there")
        return read(referrer)

    monkeypatch.setattr(fleet.world.registry, "content", content)
    with pytest.raises(ImageNotFound):
        fleet.refresh()
    del fleet.registry.stored["curated/hello"][ref.digest]

    fleet.refresh()

    (left,) = fleet.inventory.gone()
    assert left.unreadable.startswith("no SBOM") and left.running


def test_another_tiers_word_is_not_taken_for_a_gates(fleet):
    """A verdict counts of whoever gives it: development says nothing of curation's gate."""
    ref = fleet.curated(without=("verdict of curation",))
    fleet.say(ref, TierName.DEVELOPMENT, SUMMARY, fleet.pieces.verdict(Gate.RELEASE, ref))
    fleet.say(ref, TierName.DEVELOPMENT, VULNERABILITIES, fleet.make.report(fleet.make.finding()).predicate())
    fleet.refresh()

    (image,) = fleet.images
    assert image.last(Gate.RELEASE) is None and not image.vended
    assert image.scan.findings == ()


def test_an_image_that_went_is_forgotten(fleet):
    """Whoever removed it."""
    fleet.curated()
    fleet.curated(OTHER)
    fleet.refresh()
    del fleet.registry.stored["curated/hello"][OTHER]

    done = fleet.refresh()

    assert done.gone == (ImageRef(repository="curated/hello", digest=OTHER),)
    assert str(done) == f"hello: 1 image, 0 read anew; gone: curated/hello@{OTHER}"
    assert [image.ref.digest for image in fleet.images] == [CURATED.digest]


def test_what_ran_last_did_so_though_it_went(fleet, make, tmp_path):
    """No older image takes its place: not when it goes, and not in an inventory that never knew it."""
    older, last = fleet.curated(), fleet.curated(OTHER)
    for ref, hours in ((older, 1), (last, 2)):
        fleet.deploy(ref, at=make.noon + timedelta(hours=hours), container=ref.digest[7:])
    fleet.refresh()
    del fleet.registry.stored["curated/hello"][OTHER]

    done, again = fleet.refresh(), fleet.refresh()
    assert (done.gone, done.images, done.read) == ((last,), 1, 0) and again.gone == ()
    before = fleet.images
    assert [(each.ref, each.running, len(each.deployed)) for each in before] == [(older, (), 1)]
    assert [each.ref for each in fleet.inventory.gone()] == [last]
    assert [each.container for each in fleet.inventory.running()] == [OTHER[7:]]

    fleet.world.registry.layer = None  # reading evidence again would fail
    assert fleet.refresh() == again
    del fleet.world.registry.layer
    fleet.inventory = open_inventory(f"sqlite:///{tmp_path}/another.db")
    assert fleet.refresh().gone == () and fleet.images == before


def test_what_ran_and_went_is_an_image_again_when_it_is_pushed_again(fleet, make):
    """With all that is said of it, and where it runs."""
    ref = fleet.curated()
    fleet.deploy(ref)
    fleet.refresh()
    (before,) = fleet.images
    stored = fleet.registry.stored["curated/hello"].pop(ref.digest)
    fleet.refresh()
    assert fleet.images == []

    fleet.registry.stored["curated/hello"][ref.digest] = stored
    fleet.refresh()
    assert fleet.images == [before]


def test_what_went_and_cannot_be_read_is_named(fleet, make):
    """For nobody can tell what runs; each time, until it can be read."""
    ref = fleet.curated()
    bundle = fleet.world.signers[EXECUTION].sign_bytes(b"no statement")
    filed = {"dev.sigstore.bundle.predicateType": DEPLOYMENT}
    fleet.world.registry.attach(ref.moved_to("evidence/execution/hello"), BUNDLE, bundle, filed)
    del fleet.registry.stored["curated/hello"][ref.digest]

    for _ in range(2):
        done = fleet.refresh()
        assert list(done.unreadable) == [str(ref)] and "no statement" in done.unreadable[str(ref)]
    assert fleet.images == [] and done.images == 0


def test_an_environment_that_moved_is_where_it_is_now(fleet):
    """Nothing that is signed changed with it, and nothing is read again for it."""
    fleet.deploy(fleet.curated())
    fleet.refresh()

    moved = refresh("hello", fleet.registry, fleet.store, fleet.inventory, lambda name: f"north of {name}")

    assert moved.read == 0
    assert [each.host for each in fleet.inventory.running()] == ["north of staging"]
    assert [each.host for image in fleet.images for each in image.running] == ["north of staging"]


def test_an_image_that_cannot_be_read_is_named_and_kept(fleet):
    """It is there, and nothing else is known of it; it is read again each time until it can be."""
    good, spoilt = fleet.curated(), fleet.curated(OTHER)
    fleet.spoil(spoilt)

    for _ in range(2):
        done = fleet.refresh()
        assert list(done.unreadable) == [str(spoilt)]
    known = {image.ref: image for image in fleet.images}
    assert "no statement" in known[spoilt].unreadable and not known[spoilt].vended
    assert known[good].vended and done.read == 1
    assert str(done).startswith(f"hello: 2 images, 1 read anew\n  cannot be read: {spoilt}: ")


@pytest.mark.parametrize(("changed", "why"), [
    ({"policy": {"uri": "x", "digest": {"sha512": "ab"}}}, "Judgement.policy: "),
    ({"cscm": {"reasons": [{"code": "x"}], "notes": []}}, "Reason.fact: "),
])  # fmt: skip
def test_an_image_of_which_a_value_has_no_place_here_cannot_be_read(fleet, changed, why):
    """A statement may be well-formed and say what no field takes; every other image is read all the same."""
    good, odd = fleet.curated(), fleet.curated(OTHER)
    verdict = fleet.pieces.verdict(Gate.RELEASE, odd, at=fleet.make.noon + timedelta(hours=1))
    fleet.say(odd, CURATION, SUMMARY, {**verdict, **changed})

    done = fleet.refresh()

    assert list(done.unreadable) == [str(odd)]
    said, remedy = done.unreadable[str(odd)].splitlines()
    assert said.startswith(f"What is signed of {odd} cannot be read: {why}") and remedy.endswith("[evidence.invalid]")
    assert {image.ref: image.vended for image in fleet.images} == {good: True, odd: False}


def test_an_image_that_cannot_be_read_still_runs_and_has_its_copies(fleet, make):
    """No older image takes its place, and a copy does not count as an image."""
    older, spoilt = fleet.curated(), fleet.curated(OTHER)
    copy = "sha256:" + "c" * 64
    made = {"plain": OTHER, "encrypted": copy, "wrapped_key": "aaaa", "key": "arn:x", "context": {"image": OTHER}}
    record = {**fleet.pieces.scanned["encryption"][2], "classification": "confidential", "copy": made}
    fleet.say(spoilt, CURATION, ENCRYPTION, record)
    for ref, hours in ((older, 1), (spoilt, 2)):
        fleet.deploy(ref, at=make.noon + timedelta(hours=hours))
    fleet.spoil(spoilt)

    fleet.refresh()

    known = {image.ref: image for image in fleet.images}
    assert "no statement" in known[spoilt].unreadable and known[spoilt].copies == (copy,)
    assert [each.environment for each in known[spoilt].running] == ["staging"]
    assert known[older].running == () and len(known[older].deployed) == 1


def test_a_registry_that_does_not_answer_leaves_the_inventory_as_it_was(fleet):
    """Nothing is forgotten because nobody could be asked."""
    fleet.curated()
    fleet.refresh()

    def gone(repository):
        raise RegistryUnavailable("it is away\nWait.")

    fleet.registry.images = gone
    with pytest.raises(RegistryUnavailable):
        fleet.refresh()
    assert len(fleet.images) == 1


def test_what_refers_to_an_image_is_no_image(fleet):
    """Nor is the encrypted copy of a confidential one."""
    ref = fleet.curated(without=("encryption",))
    record = {
        **fleet.pieces.scanned["encryption"][2],
        "classification": "confidential",
        "copy": {"plain": ref.digest, "encrypted": OTHER, "wrapped_key": "AAAA", "key": "k", "context": {}},
    }
    fleet.say(ref, CURATION, ENCRYPTION, record)
    fleet.registry.add("curated/hello", OTHER, at=fleet.make.noon, tags=("v1-encrypted",))
    fleet.refresh()

    (image,) = fleet.images
    assert image.copies == (OTHER,)


def test_the_copy_of_an_image_that_went_is_no_image(fleet, make):
    """As long as something says that it is one; nobody could judge it by itself."""
    ref = fleet.curated(without=("encryption",))
    record = {
        **fleet.pieces.scanned["encryption"][2],
        "classification": "confidential",
        "copy": {"plain": ref.digest, "encrypted": OTHER, "wrapped_key": "AAAA", "key": "k", "context": {}},
    }
    fleet.say(ref, CURATION, ENCRYPTION, record)
    fleet.registry.add("curated/hello", OTHER, at=make.noon, tags=("v1-encrypted",))
    fleet.refresh()
    del fleet.registry.stored["curated/hello"][ref.digest]

    done, again = fleet.refresh(), fleet.refresh()

    assert (done.gone, again.gone, fleet.images) == ((ref,), (), [])
    assert again.read == 0, "what is left of it does not change"


def test_what_cosign_attached_by_a_tag_is_no_image(fleet, make):
    """So it did before there were referrers; whatever else an image is called, it stays one."""
    ref = fleet.curated(tags=("v1", f"sha256-{'1' * 64}"))
    other = fleet.curated(OTHER, tags=("sha256-notes",))
    for number, name in enumerate(("", ".sig", ".att")):
        fleet.registry.add(
            "curated/hello", f"sha256:{number:064x}", at=make.noon, tags=(f"sha256-{ref.digest[7:]}{name}",)
        )

    assert [each.ref for each in everything(fleet.registry, fleet.inventory)] == [ref, other]
    assert fleet.refresh().images == 2
    assert [image.ref for image in fleet.images] == [ref, other]


def test_the_applications_are_those_of_the_registry_and_those_that_went(fleet):
    """A repository that was removed is found out too."""
    fleet.curated()
    fleet.curated(OTHER, "base/python")
    for application in ("hello", "base/python"):
        fleet.refresh(application)
    del fleet.registry.stored["curated/hello"]
    fleet.world.registry.held.clear()

    assert applications(fleet.registry, fleet.inventory) == ("base/python", "hello")
    fleet.refresh()
    assert [image.application for image in fleet.images] == ["base/python"]


def test_it_is_the_same_when_it_is_made_anew(fleet):
    """Nothing in it is known from anywhere else than registry, evidence and hosts."""
    fleet.curated(at=fleet.make.noon)
    fleet.deploy(fleet.curated(OTHER, at=fleet.make.noon + timedelta(days=1)))
    fleet.refresh()
    before = fleet.images
    fleet.inventory.distrust()
    assert fleet.images == before and fleet.refresh().read == 2
    assert fleet.images == before
    fleet.inventory.forget([image.ref for image in before])
    assert fleet.images == [] and fleet.refresh().read == 2

    assert len(before) == 2 and fleet.images == before


def test_everything_is_what_the_registry_lists_whatever_the_inventory_knows(fleet):
    """An image that no event told of is among them, whatever its tags are; an encrypted copy and evidence are not."""
    ref = fleet.curated()
    fleet.refresh()
    fleet.registry.add("curated/hello", OTHER, at=fleet.make.noon, tags=())
    fleet.registry.add(
        "curated/hello", "sha256:" + "c" * 64, at=fleet.make.noon, tags=("r-aaaaaaaaaaaa-encrypted-cccccccccccc",)
    )

    found = {image.ref.digest: image for image in everything(fleet.registry, fleet.inventory)}

    assert set(found) == {ref.digest, OTHER}
    assert found[ref.digest].owner == "web team" and found[OTHER].owner == ""
    assert found[ref.digest].stored.tags and not found[ref.digest].notes, "tens of thousands are held at once"


def test_an_image_is_lean_without_what_nobody_exploits(fleet, make):
    """Of many images only what rules ask for is held."""
    ref = fleet.curated(without=("scan",))
    report = make.report(make.finding(), make.finding(id="CVE-2026-9", known_exploited=True))
    fleet.say(ref, CURATION, VULNERABILITIES, report.predicate())
    fleet.refresh()

    (image,) = fleet.images
    assert len(image.scan.findings) == 2
    assert [each.id for each in image.lean().scan.findings] == ["CVE-2026-9"]


def test_what_a_host_showed_that_no_environment_names_any_more_is_forgotten(fleet, make):
    """Nobody looks at it: what ran on it would run for ever."""
    ref = fleet.curated()
    fleet.refresh()
    fleet.inventory.saw("old", [Seen(container="9" * 64, name="x", digest=ref.digest, running=True)], make.noon)

    watch({"new": MemoryEngine}, fleet.inventory, lambda: make.noon)

    assert [image.running for image in fleet.images] == [()]


def test_a_host_shows_what_runs_on_it(fleet):
    """What has a record is asked at its address; what has none is told all the same."""
    engine = MemoryEngine()
    image, stranger = engine.add("curated/hello:v1"), engine.add("somebody:else")
    assert look(engine, ()) == ()
    made = [
        engine.create(
            ContainerSpec(
                name=name, image=digest, labels={}, environment={}, profile=profile(fleet.make.manifest().runtime)
            )
        )
        for name, digest in (("recorded", image), ("stranger", stranger))
    ]
    fleet.curated(image)
    fleet.deploy(ImageRef(repository="curated/hello", digest=image), container=made[0])
    fleet.curated(stranger, "other")
    fleet.refresh()
    fleet.refresh("other")
    at = fleet.make.noon + timedelta(days=2)

    engine.start(made[1])

    for _ in range(2):  # what was seen once is no record
        watch({"laptop": lambda: engine}, fleet.inventory, lambda: at)

    hello, other = fleet.images
    assert [(r.name, r.healthy, r.seen) for r in hello.running] == [("staging-hello", False, at)]  # it does not run
    assert [(r.environment, r.name, r.healthy) for r in other.running] == [("", "stranger", None)]
