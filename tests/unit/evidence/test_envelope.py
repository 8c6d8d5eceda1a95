"""Envelopes: exactly what cosign writes is read, and only the key that signed it is said to have signed it."""

import base64
import json

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from supply_chain.errors import SettingInvalid
from supply_chain.evidence.envelope import END, _Bundle, envelope_in, keys_of
from supply_chain.evidence.statement import PAYLOAD, TEST_RESULT, about
from supply_chain.model.image import ImageRef
from tests.unit.conftest import EcdsaSigner

IMAGE = ImageRef(repository="dev/hello", digest="sha256:" + "a" * 64)
STATEMENT = about(IMAGE, TEST_RESULT, {"result": "PASSED"})
MINE, OTHER = EcdsaSigner(), EcdsaSigner()
GOOD = json.loads(MINE.sign(STATEMENT))

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


def changed(**values):
    """The good bundle with other values in its envelope."""
    return json.dumps({**GOOD, "dsseEnvelope": {**GOOD["dsseEnvelope"], **values}}).encode()


def test_gives_what_was_signed_and_knows_by_whom():
    """Payload and type as they were signed; the key that did, and no other."""
    envelope = envelope_in(MINE.sign(STATEMENT))

    assert (envelope.payload, envelope.payload_type) == (STATEMENT.bytes(), PAYLOAD)
    assert envelope.signed_by(keys_of(MINE.public, "development")[0])
    assert not envelope.signed_by(keys_of(OTHER.public, "development")[0])


@pytest.mark.parametrize(
    "values",
    [
        {"payload": base64.b64encode(STATEMENT.bytes() + b" ").decode()},
        {"payload": ""},
        {"payloadType": "text/plain"},
        {"payloadType": ""},
        {"signatures": [{"sig": ""}]},
        {"signatures": [{"sig": base64.b64encode(b"no signature").decode()}]},
        {"signatures": json.loads(OTHER.sign(STATEMENT))["dsseEnvelope"]["signatures"]},
    ],
    ids=["longer", "nothing", "another type", "no type", "no signature", "not a signature", "another's signature"],
)
def test_what_was_changed_is_not_signed(values):
    """The signature is over payload and type; one of another key, or none, does not do."""
    assert not envelope_in(changed(**values)).signed_by(keys_of(MINE.public, "development")[0])


@pytest.mark.parametrize(
    "bundle",
    [
        {**GOOD, "mediaType": "application/vnd.dev.sigstore.bundle+json;version=0.2"},
        {**GOOD, "messageSignature": {}},
        {**GOOD, "verificationMaterial": {"certificate": {}}},
        {**GOOD, "verificationMaterial": {**GOOD["verificationMaterial"], "tlogEntries": [{}]}},
        {key: value for key, value in GOOD.items() if key != "verificationMaterial"},
        {**GOOD, "dsseEnvelope": {**GOOD["dsseEnvelope"], "signatures": []}},
        {**GOOD, "dsseEnvelope": {**GOOD["dsseEnvelope"], "signatures": 2 * GOOD["dsseEnvelope"]["signatures"]}},
        {**GOOD, "dsseEnvelope": {**GOOD["dsseEnvelope"], "more": 1}},
        {**GOOD, "dsseEnvelope": {**GOOD["dsseEnvelope"], "payload": "e30"}},
        {**GOOD, "dsseEnvelope": {**GOOD["dsseEnvelope"], "payload": 7}},
        {**GOOD, "dsseEnvelope": {**GOOD["dsseEnvelope"], "payload": GOOD["dsseEnvelope"]["payload"] + "!"}},
    ],
    ids=[
        "old",
        "blob's",
        "certificate",
        "logged",
        "bare",
        "unsigned",
        "signed twice",
        "more",
        "padding",
        "number",
        "base64 and more",
    ],
)
def test_another_bundle_is_none(bundle):
    """What cosign would not verify does not count here either, good signature or not."""
    assert envelope_in(json.dumps(bundle).encode()) is None


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"null",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b"[" + b"{}," * 1_000_000 + b"{}]",
        json.dumps(GOOD).encode()[:-1],
        json.dumps(GOOD).encode() + b"{}",
    ],
    ids=["empty", "null", "binary", "deep lists", "deep objects", "wide", "cut off", "two"],
)
def test_what_is_no_bundle_is_none(content):
    """Whoever attaches such a thing gets no run to fall over it."""
    assert envelope_in(content) is None


def test_rubbish_that_would_take_gigabytes_to_parse_is_not_parsed(monkeypatch):
    """Whoever may push can make it as large as evidence may be, and attach it often."""
    rubbish = b'{"x":[' + b"[]," * (5 * 1024 * 1024) + b"[]]}"
    monkeypatch.setattr(_Bundle, "model_validate_json", lambda content: pytest.fail("it was parsed"))

    assert envelope_in(rubbish) is None


@given(st.binary(max_size=300) | JSON.map(lambda value: json.dumps(value).encode()))
def test_arbitrary_content_is_no_envelope(content):
    """Nor an error."""
    assert envelope_in(content) is None


@given(st.sampled_from(["payload", "payloadType", "signatures", "sig", "mediaType", "hint"]), JSON)
def test_arbitrary_values_in_a_bundle_are_never_taken_for_signed(key, value):
    """Whatever stands in a field: no envelope, one that is not signed, or the one that was."""
    bundle = json.loads(json.dumps(GOOD))
    if key == "sig":
        bundle["dsseEnvelope"]["signatures"][0]["sig"] = value
    elif key == "hint":
        bundle["verificationMaterial"]["publicKey"]["hint"] = value
    else:
        (bundle if key == "mediaType" else bundle["dsseEnvelope"])[key] = value

    envelope = envelope_in(json.dumps(bundle).encode())

    if envelope and envelope.signed_by(keys_of(MINE.public, "development")[0]):
        assert (envelope.payload, envelope.payload_type) == (STATEMENT.bytes(), PAYLOAD)


def test_a_tier_has_its_key_and_those_that_it_had_before():
    """One text, with whatever blanks between them."""
    keys = keys_of(f"{MINE.public}\n\n{OTHER.public}\n", "development")

    assert keys == (*keys_of(MINE.public, "development"), *keys_of(OTHER.public, "development"))


@pytest.mark.parametrize(
    "pem",
    ["", "rubbish", "é", f"{MINE.public}rubbish", f"rubbish{END}"]
    + [
        key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
        for key in (
            ec.generate_private_key(ec.SECP384R1()).public_key(),
            rsa.generate_private_key(65537, 2048).public_key(),
            ed25519.Ed25519PrivateKey.generate().public_key(),
        )
    ],
    ids=["empty", "rubbish", "text", "rubbish after it", "rubbish in it", "P-384", "RSA", "Ed25519"],
)
def test_a_key_that_cannot_verify_is_a_wrong_setting(pem):
    """Otherwise everything that the tier signed would be left out as a stranger's."""
    with pytest.raises(SettingInvalid, match="curation"):
        keys_of(pem, "curation")
