"""The inventory equals what registry, evidence and hosts say, whatever it contained before."""

from datetime import timedelta

import pytest

from supply_chain.adapters.database import open_inventory
from supply_chain.errors import ImageNotFound, RegistryUnavailable
from supply_chain.evidence.statement import BUNDLE, DEPLOYMENT, ENCRYPTION, SUMMARY, VULNERABILITIES
from supply_chain.fleet.reconcile import list_all_images, list_applications, refresh
from supply_chain.model.image import ImageRef
from supply_chain.model.tier import Gate, TierName
from supply_chain.policy.verdict import locate_verdicts
from tests.support.new_inventory import new_inventory
from tests.support.pieces import CURATED

OTHER = "sha256:" + "b" * 64
CURATION, EXECUTION = TierName.CURATION, TierName.EXECUTION


def test_refresh_reads_image_from_registry_and_evidence(fleet, make):
    """Everything comes from the registry or from signed statements."""
    ref = fleet.curated()
    fleet.deploy(ref)

    done = fleet.refresh()
    (image,) = fleet.images

    assert (done.images, done.read, done.missing, done.unreadable) == (1, 1, (), {})
    assert (image.ref, image.kind, image.owner, image.source) == (ref, "service", "web team", make.source())
    assert (image.signed, image.released) == (True, True)
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
    assert [i.ref for i, _ in fleet.inventory.find_carrying("openssl")] == [ref]


def test_refresh_does_not_read_unchanged_evidence_again(fleet):
    """A full reconciliation costs only a listing, which also shows pulls."""
    fleet.curated()
    fleet.refresh()
    fleet.world.registry.layer = None  # reading evidence would fail
    pulled = fleet.make.noon + timedelta(days=1)
    fleet.add(CURATED, pulled_at=pulled)

    done = fleet.refresh()

    assert (done.images, done.read) == (1, 0)
    assert [image.stored.pulled_at for image in fleet.images] == [pulled]


@pytest.mark.parametrize("where", ["beside it", "in the evidence of curation", "in the evidence of execution"])
def test_refresh_reads_verdict_added_later(fleet, where):
    """Each repository of evidence is read, and a refusal in two repositories counts once."""
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
    for place in locate_verdicts(ref, gate, admitted=False):
        fleet.say(place, signer, SUMMARY, no)

    assert fleet.refresh().read == 1
    (image,) = fleet.images
    assert len(image.judgements) == len(before.judgements) + 1
    assert image.last(gate).passed is False
    assert [reason.code for reason in image.last(gate).reasons] == ["x"]
    assert image.released is (gate is Gate.DEPLOY)


def test_refresh_tolerates_missing_sbom_of_missing_image_only(fleet, monkeypatch):
    """An unreadable missing image must not stop the others; an existing image needs its SBOM."""
    ref = fleet.curated()
    fleet.deploy(ref)
    read = fleet.world.registry.content

    def content(referrer):
        if "syft" in fleet.world.registry.artifact_type(referrer):
            raise ImageNotFound("no SBOM\nsome time it was there")
        return read(referrer)

    monkeypatch.setattr(fleet.world.registry, "content", content)
    with pytest.raises(ImageNotFound):
        fleet.refresh()
    fleet.remove(ref)

    fleet.refresh()

    (left,) = fleet.inventory.list_removed()
    assert left.unreadable.startswith("no SBOM") and left.running


def test_refresh_lists_again_if_referrer_was_removed_meanwhile(fleet, monkeypatch):
    """The lifecycle works at the same time."""
    ref = fleet.curated()

    def content(referrer):
        monkeypatch.undo()
        raise ImageNotFound("no SBOM\nit has just been removed")

    monkeypatch.setattr(fleet.world.registry, "content", content)
    fleet.refresh()

    assert [each.ref for each in fleet.inventory.images()] == [ref]


def test_refresh_ignores_verdict_and_scan_signed_by_development(fleet):
    """A verdict counts only if the tier of its gate signed it."""
    ref = fleet.curated(without=("verdict of curation",))
    fleet.say(ref, TierName.DEVELOPMENT, SUMMARY, fleet.pieces.verdict(Gate.RELEASE, ref))
    fleet.say(ref, TierName.DEVELOPMENT, VULNERABILITIES, fleet.make.report(fleet.make.finding()).predicate())
    fleet.refresh()

    (image,) = fleet.images
    assert image.last(Gate.RELEASE) is None and not image.released
    assert image.scan.findings == ()


def test_refresh_removes_image_that_left_the_registry(fleet):
    """It does not matter who deleted the image."""
    fleet.curated()
    fleet.curated(OTHER)
    fleet.refresh()
    fleet.remove(CURATED.with_digest(OTHER))

    done = fleet.refresh()

    assert done.missing == (ImageRef(repository="curated/hello", digest=OTHER),)
    assert str(done) == f"hello: 1 image, 0 read again; missing: curated/hello@{OTHER}"
    assert [image.ref.digest for image in fleet.images] == [CURATED.digest]


def test_missing_image_remains_the_last_deployment(fleet, make, tmp_path):
    """An older image does not take its place, even in a new inventory."""
    older, last = fleet.curated(), fleet.curated(OTHER)
    for ref, hours in ((older, 1), (last, 2)):
        fleet.deploy(ref, at=make.noon + timedelta(hours=hours), container=ref.digest[7:])
    fleet.refresh()
    fleet.remove(CURATED.with_digest(OTHER))

    done, again = fleet.refresh(), fleet.refresh()
    assert (done.missing, done.images, done.read) == ((last,), 1, 0) and again.missing == ()
    before = fleet.images
    assert [(each.ref, each.running, len(each.deployed)) for each in before] == [(older, (), 1)]
    assert [each.ref for each in fleet.inventory.list_removed()] == [last]
    assert [each.container for each in fleet.inventory.running()] == [OTHER[7:]]

    fleet.world.registry.layer = None  # reading evidence again would fail
    assert fleet.refresh() == again
    del fleet.world.registry.layer
    fleet.inventory = open_inventory(new_inventory(tmp_path / "another.db"))
    assert fleet.refresh().missing == () and fleet.images == before


def test_missing_image_returns_with_its_history_when_pushed_again(fleet, make):
    """Its evidence and deployments are read again."""
    ref = fleet.curated()
    fleet.deploy(ref)
    fleet.refresh()
    (before,) = fleet.images
    manifests = fleet.world.registry.repositories["curated/hello"].manifests
    stored = manifests.pop(ref.digest)
    fleet.refresh()
    assert fleet.images == []

    manifests[ref.digest] = stored
    fleet.refresh()
    assert fleet.images == [before]


def test_refresh_names_missing_image_with_unreadable_evidence(fleet, make):
    """It may be running, so every refresh reports it."""
    ref = fleet.curated()
    bundle = fleet.world.signers[EXECUTION].sign_bytes(b"no statement")
    filed = {"dev.sigstore.bundle.predicateType": DEPLOYMENT}
    fleet.world.registry.attach(ref.with_repository("evidence/execution/hello"), BUNDLE, bundle, filed)
    fleet.remove(ref)

    for _ in range(2):
        done = fleet.refresh()
        assert list(done.unreadable) == [str(ref)] and "no statement" in done.unreadable[str(ref)]
    assert fleet.images == [] and done.images == 0


def test_refresh_updates_host_of_environment_without_reading_evidence(fleet):
    """A change of host changes no signed statement."""
    fleet.deploy(fleet.curated())
    fleet.refresh()

    moved = refresh("hello", fleet.registry, fleet.store, fleet.inventory, lambda name: f"north of {name}", None)

    assert moved.read == 0
    assert [each.host for each in fleet.inventory.running()] == ["north of staging"]
    assert [each.host for image in fleet.images for each in image.running] == ["north of staging"]


def test_refresh_keeps_and_names_unreadable_image(fleet):
    """It is read again at every refresh until that succeeds."""
    good, spoilt = fleet.curated(), fleet.curated(OTHER)
    fleet.spoil(spoilt)

    for _ in range(2):
        done = fleet.refresh()
        assert list(done.unreadable) == [str(spoilt)]
    images = {image.ref: image for image in fleet.images}
    assert "a statement that cannot be read" in images[spoilt].unreadable and not images[spoilt].released
    assert images[good].released and done.read == 1
    assert str(done).startswith(f"hello: 2 images, 1 read again\n  cannot be read: {spoilt}: ")


@pytest.mark.parametrize(("changed", "why"), [
    ({"policy": {"uri": "x", "digest": {"sha512": "ab"}}}, "Judgement.policy: "),
    ({"cscm": {"reasons": [{"code": "x"}], "notes": []}}, "Reason.fact: "),
])  # fmt: skip
def test_refresh_marks_image_with_unexpected_value_as_unreadable(fleet, changed, why):
    """A valid statement may contain a value that the inventory cannot store; other images are read."""
    good, odd = fleet.curated(), fleet.curated(OTHER)
    verdict = fleet.pieces.verdict(Gate.RELEASE, odd, at=fleet.make.noon + timedelta(hours=1))
    fleet.say(odd, CURATION, SUMMARY, {**verdict, **changed})

    done = fleet.refresh()

    assert list(done.unreadable) == [str(odd)]
    message, remedy = done.unreadable[str(odd)].splitlines()
    assert message.startswith(f"What is signed of {odd} cannot be read: {why}") and remedy.endswith(
        "[evidence.invalid]"
    )
    assert {image.ref: image.released for image in fleet.images} == {good: True, odd: False}


def test_unreadable_image_keeps_deployments_and_copies(fleet, make):
    """No older image takes its place, and its copy does not count as an image."""
    older, spoilt = fleet.curated(), fleet.curated(OTHER)
    copy = "sha256:" + "c" * 64
    made = {"plain": OTHER, "encrypted": copy, "wrapped_key": "aaaa", "key": "arn:x", "context": {"image": OTHER}}
    record = {**fleet.pieces.scanned["encryption"][2], "classification": "confidential", "copy": made}
    fleet.say(spoilt, CURATION, ENCRYPTION, record)
    for ref, hours in ((older, 1), (spoilt, 2)):
        fleet.deploy(ref, at=make.noon + timedelta(hours=hours))
    fleet.spoil(spoilt)

    fleet.refresh()

    images = {image.ref: image for image in fleet.images}
    assert "a statement that cannot be read" in images[spoilt].unreadable and images[spoilt].copies == (copy,)
    assert [each.environment for each in images[spoilt].running] == ["staging"]
    assert images[older].running == () and len(images[older].deployed) == 1


def test_refresh_keeps_inventory_if_registry_does_not_answer(fleet):
    """A failed request must not remove images."""
    fleet.curated()
    fleet.refresh()

    def gone(repository):
        raise RegistryUnavailable("it is away\nWait.")

    fleet.registry.images = gone
    with pytest.raises(RegistryUnavailable):
        fleet.refresh()
    assert len(fleet.images) == 1


def test_refresh_does_not_count_referrers_and_copies_as_images(fleet):
    """An encrypted copy belongs to its confidential image."""
    ref = fleet.curated(without=("encryption",))
    record = {
        **fleet.pieces.scanned["encryption"][2],
        "classification": "confidential",
        "copy": {"plain": ref.digest, "encrypted": OTHER, "wrapped_key": "AAAA", "key": "k", "context": {}},
    }
    fleet.say(ref, CURATION, ENCRYPTION, record)
    fleet.add(ref.with_digest(OTHER), tags=("v1-encrypted",))
    fleet.refresh()

    (image,) = fleet.images
    assert image.copies == (OTHER,)


def test_copy_of_missing_image_does_not_count_as_image(fleet, make):
    """Signed evidence says that it is a copy, and it cannot be judged alone."""
    ref = fleet.curated(without=("encryption",))
    record = {
        **fleet.pieces.scanned["encryption"][2],
        "classification": "confidential",
        "copy": {"plain": ref.digest, "encrypted": OTHER, "wrapped_key": "AAAA", "key": "k", "context": {}},
    }
    fleet.say(ref, CURATION, ENCRYPTION, record)
    fleet.add(ref.with_digest(OTHER), tags=("v1-encrypted",))
    fleet.refresh()
    fleet.remove(ref)

    done, again = fleet.refresh(), fleet.refresh()

    assert (done.missing, again.missing, fleet.images) == ((ref,), (), [])
    assert again.read == 0, "what is left of it does not change"


def test_cosign_tag_attachment_does_not_count_as_image(fleet, make):
    """Older cosign versions attach by tag; an image with another tag remains an image."""
    ref = fleet.curated(tags=("v1", f"sha256-{'1' * 64}"))
    other = fleet.curated(OTHER, tags=("sha256-notes",))
    for number, name in enumerate(("", ".sig", ".att")):
        fleet.add(ref.with_digest(f"sha256:{number:064x}"), tags=(f"sha256-{ref.digest[7:]}{name}",))

    assert [each.ref for each in list_all_images(fleet.registry, fleet.inventory)] == [ref, other]
    assert fleet.refresh().images == 2
    assert [image.ref for image in fleet.images] == [ref, other]


def test_applications_include_those_of_deleted_repositories(fleet):
    """A refresh must notice a deleted repository."""
    fleet.curated()
    fleet.curated(OTHER, "base/python")
    for application in ("hello", "base/python"):
        fleet.refresh(application)
    for name in fleet.registry.repositories(""):
        if name != "curated/base/python":
            del fleet.world.registry.repositories[name]

    assert list_applications(fleet.registry, fleet.inventory) == ("base/python", "hello")
    fleet.refresh()
    assert [image.application for image in fleet.images] == ["base/python"]


def test_inventory_is_equal_after_rebuild(fleet):
    """Everything in it comes from registry, evidence and hosts."""
    fleet.curated(at=fleet.make.noon)
    fleet.deploy(fleet.curated(OTHER, at=fleet.make.noon + timedelta(days=1)))
    fleet.refresh()
    before = fleet.images
    fleet.inventory.mark_stale()
    assert fleet.images == before and fleet.refresh().read == 2
    assert fleet.images == before
    fleet.inventory.forget([image.ref for image in before])
    assert fleet.images == [] and fleet.refresh().read == 2

    assert len(before) == 2 and fleet.images == before


def test_everything_lists_all_images_of_the_registry(fleet):
    """An image without an event or a tag is included, but copies and evidence are not."""
    ref = fleet.curated()
    fleet.refresh()
    fleet.add(ref.with_digest(OTHER), tags=())
    fleet.add(ref.with_digest("sha256:" + "c" * 64), tags=("r-aaaaaaaaaaaa-encrypted-cccccccccccc",))

    found = {image.ref.digest: image for image in list_all_images(fleet.registry, fleet.inventory)}

    assert set(found) == {ref.digest, OTHER}
    assert found[ref.digest].owner == "web team" and found[OTHER].owner == ""
    assert found[ref.digest].stored.tags and not found[ref.digest].notes, "tens of thousands are held at once"


def test_lean_image_keeps_only_exploited_findings(fleet, make):
    """Rules over many images need only these."""
    ref = fleet.curated(without=("scan",))
    report = make.report(make.finding(), make.finding(id="CVE-2026-9", known_exploited=True))
    fleet.say(ref, CURATION, VULNERABILITIES, report.predicate())
    fleet.refresh()

    (image,) = fleet.images
    assert len(image.scan.findings) == 2
    assert [each.id for each in image.keep_exploited_findings().scan.findings] == ["CVE-2026-9"]
