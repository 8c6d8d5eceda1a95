"""Envelopes: only what cosign writes is read, and only the signing key verifies it."""

import base64
import json

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from supply_chain.errors import SettingInvalid
from supply_chain.evidence.envelope import (
    END,
    Bundle,
    compute_key_hint,
    find_shared_keys,
    parse_bundle,
    parse_envelope,
    parse_keys,
)
from supply_chain.evidence.statement import PAYLOAD, TEST_RESULT, make_image_statement
from supply_chain.model.image import ImageRef
from tests.support.present import present
from tests.support.signer import EcdsaSigner

IMAGE = ImageRef(repository="dev/hello", digest="sha256:" + "a" * 64)
STATEMENT = make_image_statement(IMAGE, TEST_RESULT, {"result": "PASSED"})
MINE, OTHER = EcdsaSigner(), EcdsaSigner()
GOOD = json.loads(MINE.sign(STATEMENT))

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


def changed(**values):
    """Return the valid bundle with these values in its envelope."""
    return json.dumps({**GOOD, "dsseEnvelope": {**GOOD["dsseEnvelope"], **values}}).encode()


def test_envelope_returns_payload_and_verifies_only_with_its_key():
    """Payload and payload type are returned unchanged."""
    envelope = parse_envelope(MINE.sign(STATEMENT))
    assert envelope is not None

    assert (envelope.payload, envelope.payload_type) == (STATEMENT.bytes(), PAYLOAD)
    assert envelope.is_signed_by(parse_keys(MINE.public, "development")[0])
    assert not envelope.is_signed_by(parse_keys(OTHER.public, "development")[0])


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
def test_changed_envelope_does_not_verify(values):
    """The signature covers payload and payload type."""
    assert not present(parse_envelope(changed(**values))).is_signed_by(parse_keys(MINE.public, "development")[0])


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
def test_bundle_of_other_format_is_not_read(bundle):
    """A bundle that cosign would not verify does not count, even with a valid signature."""
    assert parse_envelope(json.dumps(bundle).encode()) is None


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
def test_content_that_is_no_bundle_is_not_read(content):
    """An attached file must not make a run fail."""
    assert parse_envelope(content) is None


def test_oversized_bundle_is_not_parsed(monkeypatch):
    """Everyone with push access can attach content that would take gigabytes of memory."""
    oversized = b'{"x":[' + b"[]," * (5 * 1024 * 1024) + b"[]]}"
    monkeypatch.setattr(Bundle, "model_validate_json", lambda content: pytest.fail("it was parsed"))

    assert parse_envelope(oversized) is None


@given(st.binary(max_size=300) | JSON.map(lambda value: json.dumps(value).encode()))
def test_arbitrary_content_is_not_read(content):
    """Arbitrary content raises no error either."""
    assert parse_envelope(content) is None


@given(st.sampled_from(["payload", "payloadType", "signatures", "sig", "mediaType", "hint"]), JSON)
def test_bundle_with_arbitrary_field_never_verifies_other_content(key, value):
    """A changed field gives no envelope, an unverified one or the original content."""
    bundle = json.loads(json.dumps(GOOD))
    if key == "sig":
        bundle["dsseEnvelope"]["signatures"][0]["sig"] = value
    elif key == "hint":
        bundle["verificationMaterial"]["publicKey"]["hint"] = value
    else:
        (bundle if key == "mediaType" else bundle["dsseEnvelope"])[key] = value

    envelope = parse_envelope(json.dumps(bundle).encode())

    if envelope and envelope.is_signed_by(parse_keys(MINE.public, "development")[0]):
        assert (envelope.payload, envelope.payload_type) == (STATEMENT.bytes(), PAYLOAD)


def test_tier_may_have_current_and_former_keys():
    """One text contains all PEM keys, separated by blank lines."""
    keys = parse_keys(f"{MINE.public}\n\n{OTHER.public}\n", "development")

    assert keys == (*parse_keys(MINE.public, "development"), *parse_keys(OTHER.public, "development"))


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
def test_unusable_public_key_is_invalid_setting(pem):
    """Otherwise everything that the tier signed would be left out as unsigned."""
    with pytest.raises(SettingInvalid, match="curation"):
        parse_keys(pem, "curation")


def test_shared_keys_are_those_of_a_tier_with_another_holder():
    """Others may share keys with each other; a holder with an earlier key has two."""
    one, two, three = (parse_keys(EcdsaSigner().public, "a")[0] for _ in range(3))

    assert find_shared_keys([("a", one), ("a", one), ("b", two)], [("c", three), ("d", three)]) == ()
    assert find_shared_keys([("a", one), ("b", two), ("b", one)], [("c", two)]) == ("a and b", "b and c")


def test_bundle_with_a_long_hint_is_no_evidence():
    """Anybody can attach the same statement with another hint, which nobody signed, of any size."""
    for length, is_read in ((200, True), (201, False)):
        bundle = json.loads(json.dumps(GOOD))
        bundle["verificationMaterial"]["publicKey"]["hint"] = "x" * length
        assert (parse_envelope(json.dumps(bundle).encode()) is not None) is is_read


def test_hint_of_a_key_is_that_of_cosign():
    """The bundle names the key with which it was signed."""
    signer = EcdsaSigner()
    (key,) = parse_keys(signer.public, "development")

    bundle = parse_bundle(signer.sign_bytes(b"{}"))
    assert bundle is not None and bundle.hint == compute_key_hint(key) == signer.hint
