"""A signature counts for exactly one content of one kind, by a key that is trusted for it."""

import os
from datetime import timedelta

import pytest

from supply_chain.evidence.envelope import Envelope, parse_keys
from supply_chain.evidence.statement import make_image_statement
from supply_chain.model.image import ImageRef
from supply_chain.policy.signed_documents import (
    LIMIT,
    DocumentKind,
    Keyring,
    Signature,
    Unsigned,
    locate_signature,
    make_document_statement,
    read_bundle,
    read_file,
    verify_document,
)
from tests.support.builders import NOON
from tests.support.signer import EcdsaSigner

CONTENT = b"expires: tomorrow\n"
ANN, STRANGER = EcdsaSigner(), EcdsaSigner()
KEYS = {"bob": parse_keys(EcdsaSigner().public, "bob"), "ann": parse_keys(ANN.public, "ann")}


def signed(content=CONTENT, kind=DocumentKind.WAIVER, at=NOON, signer=ANN, name="zlib.yaml"):
    return signer.sign(make_document_statement(kind, name, content, "example", at))


def verified(bundle, kind=DocumentKind.WAIVER, now=NOON):
    return verify_document(kind, "zlib.yaml", CONTENT, bundle, KEYS, "example", now)


def test_signature_names_signer_and_time():
    """Each person has keys of their own."""
    assert verified(signed()) == Signature(by="ann", at=NOON)


@pytest.mark.parametrize(
    ("bundle", "why"),
    [
        (None, "nobody signed it"),
        (b"", "not a sigstore bundle"),
        (signed() + b" " * LIMIT, "not a sigstore bundle"),
        (signed(signer=STRANGER), "no key that is trusted"),
        (ANN.sign_bytes(b"{}"), "not a statement about a document"),
        (
            ANN.sign(make_image_statement(ImageRef(repository="dev/a", digest="sha256:" + "a" * 64), "urn:x", {})),
            "not a statement",
        ),
        (signed(kind=DocumentKind.PEOPLE), "another kind of document"),
        (signed(content=b"expires: never\n"), "other content"),
        (signed(name="other.yaml"), "under another name"),
        (signed(at=NOON + timedelta(minutes=6)), "in the future"),
    ],
)
def test_document_without_its_signature_says_why(bundle, why):
    """Everything else than this content, kind and key is no signature of it."""
    found = verified(bundle)

    assert isinstance(found, Unsigned) and why in found.why


def test_each_key_of_a_person_signs():
    """People have several, for example on two tokens."""
    keys = {"ann": (*parse_keys(STRANGER.public, "ann"), *parse_keys(ANN.public, "ann"))}

    assert verify_document(DocumentKind.WAIVER, "zlib.yaml", CONTENT, signed(), keys, "example", NOON) == Signature(
        by="ann", at=NOON
    )


def test_bundle_of_64_kib_is_read_and_a_longer_one_is_not():
    """A longer one is no signature of a document."""
    bundle = signed()
    padded = bundle + b" " * (65536 - len(bundle))

    assert isinstance(verified(padded), Signature)
    assert isinstance(verified(padded + b" "), Unsigned)


def test_statement_of_another_type_is_no_signature():
    """A person's key may sign other things elsewhere, with the same digest and words."""
    other = make_document_statement(DocumentKind.WAIVER, "zlib.yaml", CONTENT, "example", NOON)
    found = verified(ANN.sign(other.model_copy(update={"predicate_type": "urn:other"})))

    assert isinstance(found, Unsigned) and "another kind of document" in found.why


def test_clock_of_the_signer_may_be_ahead_by_minutes():
    """As for every other statement."""
    assert isinstance(verified(signed(at=NOON + timedelta(minutes=5))), Signature)


def test_bundle_is_next_to_its_document(tmp_path):
    """A document without a bundle has none."""
    document = tmp_path / "zlib.yaml"
    assert read_bundle(document) is None

    locate_signature(document).write_bytes(b"x" * (LIMIT + 9))
    assert locate_signature(document).name == "zlib.yaml.sigstore.json"
    assert read_bundle(document) == b"x" * (LIMIT + 1)


def test_signature_bundle_that_is_a_pipe_is_not_read(tmp_path):
    """A pipe would never end, and every gate waits for it."""
    document = tmp_path / "zlib.yaml"
    os.mkfifo(locate_signature(document))

    assert read_bundle(document) is None


def test_file_that_cannot_be_read_has_no_content(tmp_path):
    """A name that is too long names no file."""
    assert read_file(tmp_path / ("a" * 300), 1) is None
    (tmp_path / "a").write_bytes(b"123")
    assert read_file(tmp_path / "a", 1) == b"12"


def count_verifications(monkeypatch):
    """Return the list that grows with each signature that is verified from now on."""
    counted = []
    verify = Envelope.is_signed_by

    def counting(self, key):
        counted.append(key)
        return verify(self, key)

    monkeypatch.setattr(Envelope, "is_signed_by", counting)
    return counted


def test_document_is_verified_once_with_the_same_keys(monkeypatch):
    """A thousand waivers are read at every gate; equal keys are read again each time."""
    counted, content = count_verifications(monkeypatch), b"once"
    found = [
        verify_document(DocumentKind.WAIVER, "zlib.yaml", content, bundle, Keyring(KEYS), "example", NOON)
        for bundle in [signed(content=content)] * 3
    ]

    assert found == [Signature(by="ann", at=NOON)] * 3 and len(counted) == 1


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"bob": KEYS["bob"]}, "no key that is trusted for it signed it"),
        ({"ann": KEYS["bob"]}, "no key that is trusted for it signed it"),
        ({}, "no key that is trusted for it signed it"),
        ({"carol": KEYS["ann"]}, "carol"),
    ],
    ids=["removed", "new key", "nobody", "renamed"],
)
def test_verified_document_is_verified_again_with_other_keys(keys, expected):
    """Whoever was removed signs nothing any more, also where the process has verified it before."""
    bundle = signed()
    assert verified(bundle) == Signature(by="ann", at=NOON)
    found = verify_document(DocumentKind.WAIVER, "zlib.yaml", CONTENT, bundle, keys, "example", NOON)

    assert expected == (found.by if isinstance(found, Signature) else found.why)


def test_verified_document_is_verified_again_as_another_one():
    """The same bundle next to other content, under another name or as another kind signs nothing."""
    bundle = signed()
    assert verified(bundle) == Signature(by="ann", at=NOON)

    assert isinstance(verified(bundle, DocumentKind.VEX), Unsigned)
    for name, content in (("zlib.yaml", b"other"), ("other.yaml", CONTENT)):
        assert isinstance(verify_document(DocumentKind.WAIVER, name, content, bundle, KEYS, "example", NOON), Unsigned)
    other = signed(signer=STRANGER)
    assert isinstance(verified(other), Unsigned)


def test_time_of_a_verified_document_is_judged_each_time():
    """What is in the future now is not then."""
    bundle = signed(at=NOON + timedelta(minutes=6))

    assert isinstance(verified(bundle), Unsigned)
    assert isinstance(verified(bundle, now=NOON + timedelta(minutes=1)), Signature)
    assert verified(bundle) == Unsigned(why="ann signed it at 2026-11-24 12:06 UTC, which is in the future")


def test_key_that_the_bundle_names_is_tried_first(monkeypatch):
    """Of a hundred people, a hundred signatures would be verified otherwise."""
    many = {f"p{each}": parse_keys(EcdsaSigner().public, "p") for each in range(9)} | KEYS
    counted = count_verifications(monkeypatch)

    found = verify_document(DocumentKind.WAIVER, "zlib.yaml", b"many", signed(content=b"many"), many, "example", NOON)

    assert isinstance(found, Signature) and counted == [*KEYS["ann"]]


@pytest.mark.parametrize(
    "hint",
    ["", "unknown", EcdsaSigner().hint, STRANGER.hint],
    ids=["none", "text", "another key", "the key of a stranger"],
)
def test_hint_of_another_key_changes_nothing(hint):
    """Nothing verifies the hint."""
    keys = KEYS | {"stranger": parse_keys(STRANGER.public, "stranger")}
    payload = make_document_statement(DocumentKind.WAIVER, "zlib.yaml", CONTENT, "example", NOON).bytes()
    bundle = ANN.sign_bytes(payload, hint=hint or " ")

    assert verify_document(DocumentKind.WAIVER, "zlib.yaml", CONTENT, bundle, keys, "example", NOON) == Signature(
        by="ann", at=NOON
    )


def test_keyrings_are_equal_if_people_and_keys_are():
    """Not if a person has another's key."""
    same, other = Keyring(dict(KEYS)), Keyring({"bob": KEYS["ann"], "ann": KEYS["bob"]})

    assert Keyring(KEYS) == same and hash(Keyring(KEYS)) == hash(same)
    assert Keyring(KEYS) not in (other, Keyring({"ann": KEYS["ann"]}), KEYS)
    assert dict(same) == KEYS and len(same) == len(KEYS)
