"""The evidence store returns only what the right key signed about this image."""

import base64
import json
from dataclasses import replace
from datetime import timedelta
from unittest.mock import Mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supply_chain.errors import EvidenceInvalid, RegistryUnavailable, TooManyReferrers
from supply_chain.evidence import store as evidence_store
from supply_chain.evidence.attached_statement import OPENVEX
from supply_chain.evidence.reading import is_signed
from supply_chain.evidence.statement import (
    BUNDLE,
    LIFECYCLE,
    PROVENANCE,
    SIGNATURE,
    SUMMARY,
    TEST_RESULT,
    Statement,
    Subject,
    make_image_statement,
)
from supply_chain.evidence.store import CREATED, PREDICATE, NotEvidence, Referrer
from supply_chain.model.image import Descriptor, ImageRef
from supply_chain.model.tier import TierName
from tests.support.builders import NOON
from tests.support.memory_registry import MemoryRegistry
from tests.support.signer import EcdsaSigner
from tests.support.vex import openvex
from tests.support.world import World

DEV, CURATION, EXECUTION = TierName.DEVELOPMENT, TierName.CURATION, TierName.EXECUTION
IMAGE = ImageRef(repository="dev/hello", digest="sha256:" + "a" * 64)
NOTES = {PREDICATE: TEST_RESULT}


@pytest.fixture
def store(world):
    return world.store(DEV)


def attached(world, bundle, annotations=NOTES, kind=BUNDLE):
    return world.registry.attach(IMAGE, kind, bundle, annotations)


def test_attached_statement_is_verified_by_another_tier(world, make):
    """Digest, signer and statement remain; only the key decides."""
    digest = world.store(DEV).attach(IMAGE, TEST_RESULT, {"result": "PASSED"}, make.noon)

    (found,) = world.store(CURATION).read_verified(IMAGE, DEV)

    assert (found.digest, found.signer, found.repository) == (digest, DEV, "dev/hello")
    assert (found.predicate_type, found.predicate) == (TEST_RESULT, {"result": "PASSED"})
    assert found.attached == make.noon


def test_store_for_one_decision_reads_each_list_once(world, store, make):
    """It still attaches, and what it attaches afterwards counts for others."""
    store.attach(IMAGE, TEST_RESULT, {"result": "PASSED"}, make.noon)
    once = store.list_once()
    first = once.read_verified(IMAGE, DEV)

    once.attach(IMAGE, TEST_RESULT, {"result": "FAILED"}, make.noon)

    assert len(first) == 1 and once.read_verified(IMAGE, DEV) == first
    assert len(store.read_verified(IMAGE, DEV)) == 2


def test_statement_of_another_tier_is_not_verified(world, make):
    """The key decides, even if the hint in the bundle names the other tier."""
    world.store(EXECUTION).attach(IMAGE, TEST_RESULT, {"result": "PASSED"}, make.noon)
    statement = make_image_statement(IMAGE, TEST_RESULT, {"result": "PASSED"}).bytes()
    attached(world, world.signers[EXECUTION].sign_bytes(statement, hint=world.signers[DEV].hint))

    assert world.store(CURATION).read_verified(IMAGE, DEV) == ()


def test_statement_of_unknown_key_is_not_verified(world, store, make):
    """A signature is worth only as much as its key."""
    stranger = make.signer()
    statement = make_image_statement(IMAGE, TEST_RESULT, {"result": "PASSED"}).bytes()
    attached(world, stranger.sign_bytes(statement))
    attached(world, stranger.sign_bytes(statement, hint=world.signers[DEV].hint), {**NOTES, CREATED: "later"})

    assert store.read_verified(IMAGE, DEV) == ()


def test_changed_payload_is_not_verified(world, store, make):
    """The signature of one statement does not serve another."""
    no = store.attach(IMAGE, TEST_RESULT, {"result": "FAILED"}, make.noon)
    forged = json.loads(world.registry.content(IMAGE.with_digest(no)))
    yes = make_image_statement(IMAGE, TEST_RESULT, {"result": "PASSED"}).bytes()
    forged["dsseEnvelope"]["payload"] = base64.b64encode(yes).decode()
    world.registry.remove(IMAGE.with_digest(no))
    attached(world, json.dumps(forged).encode())

    assert store.read_verified(IMAGE, DEV) == ()


def test_statement_about_other_image_is_left_out(world, store, make):
    """Everyone with push access can attach a genuine statement to another image."""
    other = IMAGE.model_copy(update={"digest": "sha256:" + "b" * 64})
    for subject in (other, IMAGE.with_repository("dev/other")):
        attached(world, world.signers[DEV].sign(make_image_statement(subject, TEST_RESULT, {"result": "PASSED"})))

    reading = store.read(IMAGE)

    assert reading.list_signed_by(DEV) == ()
    assert reading.notes() == (f"left out 2 of what is attached to dev/hello@{'a' * 12}: 2 × about another image",)


def test_statement_attached_repeatedly_counts_once(world, store, make):
    """Repeated attachment changes nothing, under whatever type."""
    first = store.attach(IMAGE, TEST_RESULT, {"result": "FAILED"}, make.noon)
    bundle = world.registry.content(IMAGE.with_digest(first))
    spaced = json.dumps(json.loads(bundle), indent=1).encode()
    for n in range(9):
        attached(world, bundle, {**NOTES, CREATED: (make.noon + timedelta(days=n)).isoformat(), "n": str(n)})
    attached(world, spaced)
    attached(world, bundle, {PREDICATE: SUMMARY})

    reading = store.read(IMAGE)

    assert [e.predicate for e in reading.list_signed_by(DEV)] == [{"result": "FAILED"}]
    assert "10 × attached more than once" in reading.notes()[0]
    assert "1 × of another type than it is filed under" in reading.notes()[0]


@pytest.mark.parametrize(
    "payload",
    [
        b'{"predicateType": "x"}',
        b'{"predicateType": "x", "_type": "https://in-toto.io/Statement/v1", "subject": [], "predicate": {}}',
        b'{"predicateType": "x", "_type": "https://in-toto.io/Statement/v0.1", "predicate": {}}',
    ],
    ids=["bare", "no subject", "old version"],
)
def test_unreadable_signed_statement_raises(world, store, payload):
    """It may be a refusal."""
    attached(world, world.signers[DEV].sign_bytes(payload))

    with pytest.raises(EvidenceInvalid, match="a statement that cannot be read"):
        store.read_verified(IMAGE, DEV)


def test_signed_bundle_of_other_payload_type_raises(world, store):
    """The tier signed it, but its meaning is unknown."""
    statement = make_image_statement(IMAGE, TEST_RESULT, {"result": "PASSED"}).bytes()
    attached(world, world.signers[DEV].sign_bytes(statement, payload_type="text/plain"))

    with pytest.raises(EvidenceInvalid):
        store.read_verified(IMAGE, DEV)


def test_same_statement_of_two_tiers_counts_for_each(world, store, make):
    """The statement of each tier counts for itself."""
    world.store(CURATION).attach(IMAGE, SUMMARY, {}, make.noon)
    store.attach(IMAGE, SUMMARY, {}, make.noon)

    reading = store.read(IMAGE)

    assert [len(reading.list_signed_by(tier)) for tier in (DEV, CURATION, EXECUTION)] == [1, 1, 0]
    assert reading.notes() == ()


def test_invalid_referrers_are_left_out_and_noted(world, store, make):
    """Otherwise everyone with push access could stop every image."""
    store.attach(IMAGE, TEST_RESULT, {"result": "PASSED"}, make.noon)
    for content in (b"rubbish", b"{}", b"[" * 100_000, b"\xff" * 1000):
        attached(world, content)
    attached(world, make.signer().sign(make_image_statement(IMAGE, TEST_RESULT, {"result": "FAILED"})))

    reading = store.read(IMAGE)

    assert len(reading.list_signed_by(DEV)) == 1
    assert [note.partition(": ")[2] for note in reading.notes()] == [
        "4 × no signed statement; 1 × not signed by a tier that is trusted here"
    ]


@pytest.mark.parametrize("place", ["evidence/lifecycle/hello", "evidence/execution/hello", "evidence/curation/hello"])
def test_unverified_bundle_in_evidence_repository_raises(world, store, make, place):
    """A former key of the tier may have signed a refusal there; a former key in the settings counts."""
    subject, before = IMAGE.with_repository(place), make.signer()
    bundle = before.sign(make_image_statement(subject, LIFECYCLE, {"at": make.noon.isoformat()}))
    world.registry.attach(subject, BUNDLE, bundle, {PREDICATE: LIFECYCLE})

    with pytest.raises(EvidenceInvalid, match="add the earlier key"):
        store.read(subject)
    assert store.read(subject, SUMMARY).evidence == (), "of another type nothing is there"

    keys = {**store.trusted, TierName.LIFECYCLE: store.trusted[TierName.LIFECYCLE] + before.public}
    (statement,) = replace(store, trusted=keys).read(subject).evidence
    assert statement.signer is TierName.LIFECYCLE


def test_valid_referrers_give_no_note(world, store, make):
    """Statements of other trusted tiers and files of other types are not left out."""
    store.attach(IMAGE, TEST_RESULT, {"result": "PASSED"}, make.noon)
    world.store(CURATION).attach(IMAGE, SUMMARY, {}, make.noon)
    attached(world, b"an SBOM", kind="application/vnd.syft+json")

    assert store.read(IMAGE).notes() == ()


class Odd(MemoryRegistry):
    """A registry in which some manifests or contents are no evidence, and some cannot be read."""

    def layer(self, referrer):
        layer = super().layer(referrer)
        assert isinstance(layer, Descriptor)
        content = super().bundle(referrer.repository, layer.digest)
        assert isinstance(content, bytes)
        if content.startswith(b"no manifest"):
            return NotEvidence(why="no manifest of an artifact")
        return layer.model_copy(update={"size": layer.size + content.startswith(b"lie") + (b"\n " in content)})

    def bundle(self, repository, digest):
        content = super().bundle(repository, digest)
        if content == b"broken":
            raise RegistryUnavailable("it broke off\nwait")
        return NotEvidence(why="without their content in the registry") if content == b"lost" else content


def test_left_out_note_counts_each_reason(world, make):
    """The note is part of the verdict."""
    world.registry = Odd()
    store = world.store(DEV)
    store.attach(IMAGE, TEST_RESULT, {"result": "PASSED"}, make.noon)
    signed = json.dumps(
        json.loads(world.signers[DEV].sign(make_image_statement(IMAGE, TEST_RESULT, {}))), indent=1
    ).encode()
    for content in (b"no manifest 1", b"no manifest 2", b"lost", signed):
        attached(world, content)

    reading = store.read(IMAGE)

    assert [e.predicate for e in reading.list_signed_by(DEV)] == [{"result": "PASSED"}]
    assert sorted(reading.notes()[0].partition(": ")[2].split("; ")) == [
        "1 × not as large as its manifest says",
        "1 × without their content in the registry",
        "2 × no manifest of an artifact",
    ]


def test_unreadable_bundle_is_not_treated_as_missing(world, make):
    """It may be the refusal that counts."""
    world.registry = Odd()
    store = world.store(DEV)
    store.attach(IMAGE, TEST_RESULT, {"result": "PASSED"}, make.noon)
    attached(world, b"broken")

    with pytest.raises(RegistryUnavailable):
        store.read(IMAGE)


BUNDLES = st.one_of(
    st.binary(max_size=100),
    st.sampled_from(["stranger", "other image", "again", "again, otherwise"]),
)


@given(st.lists(st.tuples(BUNDLES, st.dictionaries(st.sampled_from([CREATED, "x"]), st.text())), max_size=6))
def test_bundles_of_other_signers_never_change_the_evidence(bundles):
    """The rule holds for any content and any annotation."""
    world, stranger = World(Odd()), EcdsaSigner()
    store = world.store(DEV)
    digest = store.attach(IMAGE, TEST_RESULT, {"result": "FAILED"}, NOON)
    genuine = world.registry.content(IMAGE.with_digest(digest))
    other = IMAGE.model_copy(update={"digest": "sha256:" + "b" * 64})
    made = {
        "stranger": stranger.sign(make_image_statement(IMAGE, TEST_RESULT, {"result": "PASSED"})),
        "other image": world.signers[DEV].sign(make_image_statement(other, TEST_RESULT, {"result": "PASSED"})),
        "again": genuine,
        "again, otherwise": json.dumps(json.loads(genuine), sort_keys=True).encode(),
    }
    for content, annotations in bundles:
        attached(world, made.get(content, content) if content != b"broken" else b"", {**NOTES, **annotations})

    assert [e.predicate for e in store.read_verified(IMAGE, DEV)] == [{"result": "FAILED"}]


@pytest.mark.timeout(120)
def test_thousand_invalid_referrers_are_read_within_seconds(world, store, make):
    """No process is started for any of them."""
    store.attach(IMAGE, TEST_RESULT, {"result": "PASSED"}, make.noon)
    stranger = make.signer()
    for n in range(1000):
        attached(world, stranger.sign(make_image_statement(IMAGE, TEST_RESULT, {"n": n})) if n % 2 else b"{}%d" % n)

    assert len(store.read_verified(IMAGE, DEV)) == 1


def test_read_fetches_only_requested_predicate_types(world, store, make, monkeypatch):
    """A gate that needs one statement of a base does not fetch all of them."""
    wanted = store.attach(IMAGE, SUMMARY, {"result": "PASSED"}, make.noon)
    store.attach(IMAGE, TEST_RESULT, {"result": "PASSED"}, make.noon)
    fetched, layer = [], world.registry.layer

    def fetch(ref):
        fetched.append(ref.digest)
        return layer(ref)

    monkeypatch.setattr(world.registry, "layer", fetch)

    assert [e.digest for e in store.read_verified(IMAGE, DEV, SUMMARY)] == [wanted]
    assert fetched == [wanted]
    assert len(store.read_verified(IMAGE, DEV, SUMMARY, TEST_RESULT)) == 2


def test_statement_annotated_with_other_type_is_left_out(world, store):
    """Anybody can write the annotation of a manifest."""
    attached(
        world,
        world.signers[DEV].sign(make_image_statement(IMAGE, TEST_RESULT, {"result": "PASSED"})),
        {PREDICATE: SUMMARY},
    )

    assert store.read_verified(IMAGE, DEV, SUMMARY) == ()


@pytest.mark.parametrize("signer", TierName)
def test_image_counts_as_signed_only_by_curation(world, make, signer):
    """The signature of another tier does not release an image."""
    world.store(signer).attach(IMAGE, SIGNATURE, {}, make.noon)

    assert is_signed(world.store(EXECUTION).read(IMAGE).evidence) is (signer is CURATION)


def test_referrer_of_other_artifact_type_is_not_evidence(world, store):
    """An SBOM is attached to the image as a file."""
    attached(world, b"{}", kind="application/vnd.syft+json")

    assert store.read_verified(IMAGE, DEV) == ()


def test_bundle_without_predicate_type_annotation_is_not_evidence(world, store):
    """cosign writes the annotation on every statement."""
    attached(world, world.signers[DEV].sign(make_image_statement(IMAGE, TEST_RESULT, {})), {})

    assert store.read(IMAGE).evidence == ()
    assert store.read(IMAGE).notes() == ()


def test_evidence_is_read_from_repository_of_the_image(world, store, make):
    """A statement in another repository must be asked for by its name."""
    store.attach(IMAGE.with_repository("evidence/curation/hello"), SUMMARY, {}, make.noon)

    assert store.read_verified(IMAGE, DEV) == ()
    assert len(store.read_verified(IMAGE.with_repository("evidence/curation/hello"), DEV)) == 1


def test_statements_are_returned_oldest_first(world, store, make):
    """Times are compared as instants, and an invalid or missing time comes first."""
    attached(world, world.signers[DEV].sign(make_image_statement(IMAGE, TEST_RESULT, {"n": 0})))
    store.attach(IMAGE, TEST_RESULT, {"n": 2}, make.noon)
    zoned = {**NOTES, CREATED: "2026-11-24T12:30:00+01:00"}
    attached(world, world.signers[DEV].sign(make_image_statement(IMAGE, TEST_RESULT, {"n": 1})), zoned)
    attached(
        world,
        world.signers[DEV].sign(make_image_statement(IMAGE, TEST_RESULT, {"n": -1})),
        {**NOTES, CREATED: "rubbish"},
    )
    store.attach(IMAGE, TEST_RESULT, {"n": 3}, make.noon + timedelta(microseconds=1))

    found = [e.predicate["n"] for e in store.read_verified(IMAGE, DEV)]
    assert (set(found[:2]), found[2:]) == ({-1, 0}, [1, 2, 3])


def test_attach_all_returns_digests_in_order(world, store, make):
    """There is one digest for each statement."""
    digests = store.attach_all(IMAGE, [(TEST_RESULT, {"n": n}) for n in range(9)], make.noon)

    found = {e.digest: e.predicate["n"] for e in store.read_verified(IMAGE, DEV)}
    assert [found[digest] for digest in digests] == list(range(9))


def test_store_raises_if_registry_does_not_answer(world, store):
    """No answer is not the same as no evidence."""

    class Silent(MemoryRegistry):
        def referrers(self, subject):
            raise RegistryUnavailable("it is silent\nwait")

    with pytest.raises(RegistryUnavailable):
        store.__class__(DEV, Silent(), store.signer, store.trusted, store.now).read_verified(IMAGE, DEV)


def test_too_many_invalid_referrers_raise_for_one_image(world, store, make):
    """Up to the limit the signed statements are found, and signed statements are not counted."""
    few = replace(store, most=30)
    for number in range(30):
        attached(world, f"junk {number}".encode(), {**NOTES, "n": str(number)})
    for number in range(40):
        world.store(DEV).attach(IMAGE, TEST_RESULT, {"number": number}, make.noon)
    assert len(few.read_verified(IMAGE, DEV)) == 40

    attached(world, b"one more")
    with pytest.raises(TooManyReferrers, match="31 pieces attached to dev/hello"):
        few.read(IMAGE)
    assert few.read(IMAGE, SUMMARY).evidence == ()
    assert few.read(IMAGE.with_repository("dev/other")).evidence == ()


def test_invalid_referrers_are_counted_after_every_500(world, store, monkeypatch):
    """A flood of referrers causes no more requests than that."""
    fetched, layer = [], world.registry.layer

    def fetch(ref):
        fetched.append(ref.digest)
        return layer(ref)

    monkeypatch.setattr(world.registry, "layer", fetch)
    for number in range(1001):
        attached(world, f"junk {number}".encode(), {**NOTES, "n": str(number)})

    with pytest.raises(TooManyReferrers, match="500 pieces"):
        replace(store, most=499).read(IMAGE)
    assert len(fetched) == 500


def test_repeated_statement_counts_towards_the_limit(world, store, make):
    """Each of its manifests has to be read."""
    world.store(DEV).attach(IMAGE, TEST_RESULT, {"result": "PASSED"}, make.noon)
    (found,) = store.read_verified(IMAGE, DEV)
    bundle = world.registry.content(IMAGE.with_digest(found.digest))
    for number in range(31):
        attached(world, bundle, {**NOTES, "n": str(number)})

    with pytest.raises(TooManyReferrers):
        replace(store, most=30).read(IMAGE)


def test_too_many_invalid_bytes_raise(world, store):
    """A few referrers may be large; the size of signed statements does not count."""
    store = replace(store, most_bytes=1000)
    for number in range(3):
        store.attach(IMAGE, TEST_RESULT, {"number": number, "counts": "x" * 400}, NOON)
    attached(world, b"x" * 900, {**NOTES, "n": "1"})
    assert len(store.read(IMAGE).evidence) == 3
    attached(world, b"y" * 900, {**NOTES, "n": "2"})

    with pytest.raises(TooManyReferrers):
        store.read(IMAGE)


def test_bytes_of_a_repeated_statement_count_towards_the_limit(world, store):
    """Whoever copies a signed bundle can change what is not signed, as often as they like."""
    store.attach(IMAGE, TEST_RESULT, {"result": "PASSED"}, NOON)
    (found,) = store.read_verified(IMAGE, DEV)
    bundle = world.registry.content(IMAGE.with_digest(found.digest))
    for number in range(1, 3):
        attached(world, bundle + b" " * number, {**NOTES, "n": str(number)})
    with pytest.raises(TooManyReferrers):  # one of the three counts, whichever is first
        replace(store, most_bytes=2 * len(bundle)).read(IMAGE)

    assert len(replace(store, most_bytes=2 * len(bundle) + 3).read(IMAGE).evidence) == 1


def test_invalid_bytes_are_counted_between_parts(world, store, monkeypatch):
    """No more of a flood is downloaded than the limit and one part, by the sizes that manifests state."""
    monkeypatch.setattr(evidence_store, "PART_BYTES", 2000)
    for number in range(9):
        attached(world, b"%d" % number * 900, {**NOTES, "n": str(number)})
    read = Mock(side_effect=world.registry.bundle)
    monkeypatch.setattr(world.registry, "bundle", read)

    with pytest.raises(TooManyReferrers):
        replace(store, most_bytes=2000).read(IMAGE)
    assert read.call_count == 4


def test_manifests_are_read_in_parts_of_what_may_be_invalid(world, store, monkeypatch):
    """A look that reads few of them does not read those of a whole part first."""
    for number in range(9):
        attached(world, b"x", {**NOTES, "n": str(number)})
    read = Mock(side_effect=world.registry.layer)
    monkeypatch.setattr(world.registry, "layer", read)

    with pytest.raises(TooManyReferrers):
        replace(store, most=2).read(IMAGE)
    assert read.call_count == 3


class Large(bytes):
    """Bytes whose length is the number that they spell."""

    def __len__(self):
        return int(self.decode())


@pytest.mark.parametrize(("more", "flooded"), [(b"0", False), (b"1", True)], ids=["1 GiB", "1 GiB and a byte"])
def test_more_than_1_gib_of_invalid_referrers_raises(world, store, monkeypatch, more, flooded):
    """The number of referrers does not matter."""
    bundle = world.registry.bundle
    missing = NotEvidence(why="not there")

    def large(*where):
        content = bundle(*where)
        return missing if content == b"missing" else Large(content)

    monkeypatch.setattr(world.registry, "bundle", large)
    for content in (b"%d" % 1024**3, more, b"missing"):
        attached(world, content)

    if flooded:
        with pytest.raises(TooManyReferrers, match=r"\(1024 MiB\)"):
            store.read(IMAGE)
    else:
        assert missing in store.read(IMAGE).left_out


def test_more_than_20000_invalid_referrers_raise(world, store, monkeypatch):
    """None of them is fetched, because the manifest alone shows that it is no evidence."""
    pieces = [
        Referrer(digest=f"sha256:{number:064x}", artifact_type=BUNDLE, annotations=NOTES) for number in range(20_001)
    ]
    monkeypatch.setattr(world.registry, "layer", lambda _: NotEvidence(why="no layer"))
    monkeypatch.setattr(world.registry, "referrers", lambda _: pieces[:-1])
    assert len(replace(store, wide=1).read(IMAGE).left_out) == 20_000

    monkeypatch.setattr(world.registry, "referrers", lambda _: pieces)
    with pytest.raises(TooManyReferrers, match="20001 pieces"):
        replace(store, wide=1).read(IMAGE)


VEX_NOTES = {PREDICATE: OPENVEX}
STORED = IMAGE.with_repository("curated/hello")


def attach_vex(world, signer, image=STORED, notes=VEX_NOTES, where=STORED, **changes):
    bundle = signer.sign(make_image_statement(image, OPENVEX, openvex(**changes)))
    return world.registry.attach(where, BUNDLE, bundle, notes)


def test_vex_document_by_no_tier_is_returned_apart(world, store, make):
    """Issuers sign it; whether one did is decided where their keys are known."""
    digest = attach_vex(world, make.signer())

    reading = store.read(STORED)

    (found,) = reading.attached
    assert (found.repository, found.digest, found.predicate) == (STORED.repository, digest, openvex())
    assert (reading.evidence, reading.left_out, reading.notes()) == ((), (), ())
    assert store.read(STORED, TEST_RESULT).attached == (), "other types were asked for"


@pytest.mark.parametrize("name", ["", "registry.example/elsewhere/shop", "127.0.0.1:4566/curated/hello"])
def test_provenance_by_no_tier_is_returned_apart(world, store, make, name):
    """The digest decides, for builders name an image as they like, and cosign puts a host before its repository."""
    subject = Subject(name=name, digest={"sha256": STORED.digest.removeprefix("sha256:")})
    statement = Statement(subject=(subject,), predicate_type=PROVENANCE, predicate={"a": 1})
    digest = world.registry.attach(STORED, BUNDLE, make.signer().sign(statement), {PREDICATE: PROVENANCE})

    (found,) = store.read(STORED).attached

    assert (found.digest, found.predicate_type, found.predicate) == (digest, PROVENANCE, {"a": 1})
    assert store.read(STORED).evidence == ()


def test_provenance_of_another_image_is_left_out(world, store, make):
    """Also if it has the name of this one."""
    statement = make_image_statement(STORED.with_digest("sha256:" + "b" * 64), PROVENANCE, {})
    world.registry.attach(STORED, BUNDLE, make.signer().sign(statement), {PREDICATE: PROVENANCE})

    reading = store.read(STORED)

    assert reading.attached == () and [each.why for each in reading.left_out] == ["about another image"]


def test_vex_document_by_a_tier_is_its_evidence(world, store):
    """No issuer has the key of a tier."""
    attach_vex(world, world.signers[CURATION])

    reading = store.read(STORED)

    assert reading.attached == () and [each.signer for each in reading.evidence] == [CURATION]


def test_vex_document_of_another_image_or_type_is_left_out(world, store, make):
    """As every other statement."""
    attach_vex(world, make.signer(), image=STORED.with_digest("sha256:" + "b" * 64))
    attach_vex(world, make.signer(), notes=NOTES)

    reading = store.read(STORED)

    assert reading.attached == ()
    assert {each.why for each in reading.left_out} == {"about another image", "of another type than it is filed under"}


def test_vex_document_in_an_evidence_repository_raises(world, make):
    """Only one tier can push there, so nobody else's statement belongs there."""
    image = IMAGE.with_repository("evidence/curation/hello")
    bundle = make.signer().sign(make_image_statement(image, OPENVEX, openvex()))
    world.registry.attach(image, BUNDLE, bundle, VEX_NOTES)

    with pytest.raises(EvidenceInvalid, match="is not signed with a trusted key"):
        world.store(DEV).read(image)


def test_statement_without_content_in_an_evidence_repository_raises(world, make):
    """It may be the block or the refusal that counts; one tier alone can push there."""
    world.registry = Odd()
    image = IMAGE.with_repository("evidence/lifecycle/hello")
    world.registry.attach(image, BUNDLE, b"lost", NOTES)

    with pytest.raises(EvidenceInvalid, match="lacks the content of evidence/lifecycle/hello"):
        world.store(DEV).read(image)


def test_too_many_vex_documents_by_no_tier_raise(world, store, make):
    """None is left out silently: it may state that the image is affected."""
    signer = make.signer()
    for number in range(200):
        attach_vex(world, signer, version=number)
    assert len(store.read(STORED).attached) == 200
    attach_vex(world, signer, version=201)

    with pytest.raises(TooManyReferrers):
        store.read(STORED)


def test_bytes_of_vex_documents_count_towards_the_limit(world, store, make):
    """They are not evidence before somebody knows their signer."""
    attach_vex(world, make.signer(), author="x" * 1000)

    with pytest.raises(TooManyReferrers):
        replace(store, most_bytes=1000).read(STORED)


def test_vex_document_in_development_repository_is_left_out(world, store, make):
    """Its content takes many times its size in memory, and no gate reads it there."""
    attach_vex(world, make.signer(), image=IMAGE, where=IMAGE)

    reading = store.read(IMAGE)

    assert reading.attached == () and [each.why for each in reading.left_out] == [evidence_store.STRANGE.why]


def test_bundle_of_other_signer_has_annotations_of_statement(world, store, make):
    """cosign finds it by the same annotations."""
    bundle = make.signer().sign(make_image_statement(STORED, OPENVEX, openvex()))
    store.attach_signed(STORED, OPENVEX, bundle, NOON)

    (found,) = world.registry.referrers(STORED)
    assert found.annotations[PREDICATE] == OPENVEX and found.annotations[CREATED] == NOON.isoformat()
    assert len(store.read(STORED).attached) == 1
