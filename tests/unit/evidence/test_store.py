"""The evidence store: only what the right key signed about this image comes back."""

import base64
import json
import threading
from datetime import timedelta

import pytest

from supply_chain.errors import EvidenceInvalid, RegistryUnavailable, SignatureFailed
from supply_chain.evidence.statement import BUNDLE, SUMMARY, TEST_RESULT, about
from supply_chain.evidence.store import CREATED, PREDICATE, side_by_side
from supply_chain.image import ImageRef
from supply_chain.tier import TierName

DEV, CURATION, EXECUTION = TierName.DEVELOPMENT, TierName.CURATION, TierName.EXECUTION
IMAGE = ImageRef(repository="dev/hello", digest="sha256:" + "a" * 64)
NOTES = {PREDICATE: TEST_RESULT}


@pytest.fixture
def store(world):
    return world.store(DEV)


def attached(world, bundle, annotations=NOTES, kind=BUNDLE):
    return world.registry.attach(IMAGE, kind, bundle, annotations)


def test_what_a_tier_attaches_another_tier_verifies(world, make):
    """By the key alone; digest, signer and statement are as they were written."""
    digest = world.store(DEV).attach(IMAGE, TEST_RESULT, {"result": "PASSED"}, make.noon)

    (found,) = world.store(CURATION).verified(IMAGE, DEV)

    assert (found.digest, found.signer, found.repository) == (digest, DEV, "dev/hello")
    assert (found.predicate_type, found.predicate) == (TEST_RESULT, {"result": "PASSED"})
    assert found.attached == make.noon


def test_one_tiers_word_is_not_anothers(world, make):
    """What execution signs is no evidence of development's, even with development's hint in it."""
    world.store(EXECUTION).attach(IMAGE, TEST_RESULT, {"result": "PASSED"}, make.noon)
    statement = about(IMAGE, TEST_RESULT, {"result": "PASSED"}).bytes()
    attached(world, world.signers[EXECUTION].sign_bytes(statement, hint=world.signers[DEV].hint))

    assert world.store(CURATION).verified(IMAGE, DEV) == ()


def test_a_strangers_key_proves_nothing(world, store, make):
    """A signature is only worth the key that made it."""
    stranger = make.signer()
    statement = about(IMAGE, TEST_RESULT, {"result": "PASSED"}).bytes()
    attached(world, stranger.sign_bytes(statement))
    attached(world, stranger.sign_bytes(statement, hint=world.signers[DEV].hint), {**NOTES, CREATED: "later"})

    assert store.verified(IMAGE, DEV) == ()


def test_a_changed_payload_is_not_what_was_signed(world, store, make):
    """The signature of one statement does not serve another."""
    no = store.attach(IMAGE, TEST_RESULT, {"result": "FAILED"}, make.noon)
    forged = json.loads(world.registry.held["dev/hello"][no][2])
    yes = about(IMAGE, TEST_RESULT, {"result": "PASSED"}).bytes()
    forged["dsseEnvelope"]["payload"] = base64.b64encode(yes).decode()
    world.registry.change("dev/hello", no, json.dumps(forged).encode())

    assert store.verified(IMAGE, DEV) == ()


def test_what_the_tier_signed_about_another_image_raises(world, store):
    """A replayed statement is not quietly left out: somebody put it there."""
    other = IMAGE.model_copy(update={"digest": "sha256:" + "b" * 64})
    attached(world, world.signers[DEV].sign(about(other, TEST_RESULT, {"result": "PASSED"})))

    with pytest.raises(EvidenceInvalid, match="another image"):
        store.verified(IMAGE, DEV)


def test_what_the_tier_signed_about_another_application_raises(world, store):
    """The same bytes offered under another name have not been judged for it."""
    attached(world, world.signers[DEV].sign(about(IMAGE.moved_to("dev/other"), TEST_RESULT, {"result": "PASSED"})))

    with pytest.raises(EvidenceInvalid, match="another image"):
        store.verified(IMAGE, DEV)


@pytest.mark.parametrize(
    "payload",
    [
        b'{"predicateType": "x"}',
        b'{"predicateType": "x", "_type": "https://in-toto.io/Statement/v1", "subject": [], "predicate": {}}',
        b'{"predicateType": "x", "_type": "https://in-toto.io/Statement/v0.1", "predicate": {}}',
    ],
    ids=["bare", "no subject", "old version"],
)
def test_what_the_tier_signed_and_nobody_can_read_raises(world, store, payload):
    """It may have said no."""
    attached(world, world.signers[DEV].sign_bytes(payload))

    with pytest.raises(EvidenceInvalid, match="not readable evidence"):
        store.verified(IMAGE, DEV)


def test_a_signature_over_another_payload_type_is_never_admitted(world, store):
    """The tool says that it cannot tell, and so does the store."""
    statement = about(IMAGE, TEST_RESULT, {"result": "PASSED"}).bytes()
    attached(world, world.signers[DEV].sign_bytes(statement, payload_type="text/plain"))

    with pytest.raises((SignatureFailed, EvidenceInvalid)):
        store.verified(IMAGE, DEV)


def test_rubbish_of_unknown_origin_is_left_out(world, store, make):
    """Whoever may push could otherwise stop every image."""
    store.attach(IMAGE, TEST_RESULT, {"result": "PASSED"}, make.noon)
    attached(world, b"rubbish")
    attached(world, b"{}")

    assert len(store.verified(IMAGE, DEV)) == 1


def test_referrers_of_other_kinds_are_not_evidence(world, store):
    """SBOMs lie beside the image as they are."""
    attached(world, b"{}", kind="application/vnd.syft+json")

    assert store.verified(IMAGE, DEV) == ()


def test_evidence_is_looked_for_in_the_images_own_repository(world, store, make):
    """What another repository's writer says is asked for by name."""
    store.attach(IMAGE.moved_to("evidence/curation/hello"), SUMMARY, {}, make.noon)

    assert store.verified(IMAGE, DEV) == ()
    assert len(store.verified(IMAGE.moved_to("evidence/curation/hello"), DEV)) == 1


def test_gives_the_oldest_first(world, store, make):
    """In the order of the instants, whatever zone they were written in, and a missing time first of all."""
    attached(world, world.signers[DEV].sign(about(IMAGE, TEST_RESULT, {"n": 0})))
    store.attach(IMAGE, TEST_RESULT, {"n": 2}, make.noon)
    zoned = {**NOTES, CREATED: "2026-11-24T12:30:00+01:00"}
    attached(world, world.signers[DEV].sign(about(IMAGE, TEST_RESULT, {"n": 1})), zoned)
    attached(world, world.signers[DEV].sign(about(IMAGE, TEST_RESULT, {"n": 0})), {**NOTES, CREATED: "rubbish"})
    store.attach(IMAGE, TEST_RESULT, {"n": 3}, make.noon + timedelta(microseconds=1))

    assert [e.predicate["n"] for e in store.verified(IMAGE, DEV)] == [0, 0, 1, 2, 3]


def test_attaches_all_in_order(world, store, make):
    """One digest for each statement."""
    digests = store.attach_all(IMAGE, [(TEST_RESULT, {"n": n}) for n in range(9)], make.noon)

    found = {e.digest: e.predicate["n"] for e in store.verified(IMAGE, DEV)}
    assert [found[digest] for digest in digests] == list(range(9))


def test_a_registry_that_does_not_answer_is_an_error(world, store):
    """No evidence and no answer are two things."""

    class Silent:
        def referrers(self, subject):
            raise RegistryUnavailable("it is silent\nwait")

    with pytest.raises(RegistryUnavailable):
        store.__class__(DEV, Silent(), store.signer, store.trusted).verified(IMAGE, DEV)


def test_side_by_side_raises_the_first_error_and_keeps_order():
    """Four at a time, so that two that wait for each other do meet."""
    together = threading.Barrier(2, timeout=5)

    def work(number):
        together.wait()
        return number * 10

    assert side_by_side(work, [1, 2]) == (10, 20)
    with pytest.raises(ZeroDivisionError):
        side_by_side(lambda n: 1 // n, [1, 0, 2])
    assert side_by_side(work, []) == ()
