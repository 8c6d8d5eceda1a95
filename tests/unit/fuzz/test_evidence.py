"""Changed output of cosign and syft never verifies, and raises only the documented error."""

import base64
import gzip
import hashlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supply_chain.errors import EvidenceInvalid
from supply_chain.evidence.envelope import parse_envelope, parse_keys
from supply_chain.evidence.sbom import read_sbom_packages
from supply_chain.evidence.statement import SBOM, TEST_RESULT, VerifiedStatement, make_image_statement, read_statement
from supply_chain.model.image import ImageRef
from tests.support.examples import tries
from tests.support.world import World
from tests.unit.fuzz.changes import ASSETS, JSON, changed, recorded

IMAGE = ImageRef(repository="dev/hello", digest="sha256:" + "a" * 64)
BUNDLE = (ASSETS / "bundle.json").read_bytes()
(KEY,) = parse_keys((ASSETS / "bundle.pub").read_text(), "development")
SIGNED = make_image_statement(IMAGE, TEST_RESULT, {"result": "PASSED"})
SYFT = recorded("syft.json")


def believed(bundle):
    """Return the statement in the bundle if the signature of the key verifies, or None."""
    envelope = parse_envelope(bundle)
    return read_statement(envelope, "here") if envelope and envelope.is_signed_by(KEY) else None


def test_recorded_bundle_is_verified():
    """The tests below depend on this."""
    assert believed(BUNDLE) == SIGNED


@tries(500)
@given(
    st.integers(0, len(BUNDLE) - 1),
    st.sampled_from(["flip", "drop", "cut", "insert"]),
    st.integers(1, 255),
)
def test_bundle_with_changed_byte_verifies_only_original_content(at, how, by):
    """A byte is flipped, removed, cut off or inserted."""
    changes = {
        "flip": BUNDLE[:at] + bytes([BUNDLE[at] ^ by]) + BUNDLE[at + 1 :],
        "drop": BUNDLE[:at] + BUNDLE[at + 1 :],
        "cut": BUNDLE[:at],
        "insert": BUNDLE[:at] + bytes([by]) + BUNDLE[at:],
    }

    assert believed(changes[how]) in (None, SIGNED)


@tries(300)
@given(changed(json.loads(BUNDLE)))
def test_bundle_with_changed_value_verifies_only_original_content(document):
    """The bundle remains valid JSON with another payload, type, signature, key or shape."""
    assert believed(json.dumps(document).encode()) in (None, SIGNED)


@tries(200)
@given(changed(json.loads(SIGNED.bytes())))
def test_bundle_with_changed_statement_does_not_verify(statement):
    """The payload changes and the signature remains."""
    bundle = json.loads(BUNDLE)
    payload = json.dumps(statement, separators=(",", ":")).encode()
    bundle["dsseEnvelope"]["payload"] = base64.b64encode(payload).decode()

    assert believed(json.dumps(bundle).encode()) is None or payload == SIGNED.bytes()


def inventory(document, world):
    """Return the packages of an SBOM whose signed statement names exactly these bytes."""
    content = json.dumps(document).encode()
    referrer = world.registry.attach(IMAGE, "application/vnd.syft+json", gzip.compress(content, mtime=0), {})
    statement = references(referrer, hashlib.sha256(content).hexdigest())
    return read_sbom_packages([evidence(statement)], world.registry.content)


def references(referrer, sha256):
    """Return the SBOM predicate that curation signs."""
    syft = {
        "name": "syft",
        "mediaType": "application/vnd.syft+json",
        "digest": {"sha256": sha256},
        "annotations": {"referrer": referrer, "generator": "syft 1.57.0", "packages": 2},
    }
    return {"references": [syft], "created": "2026-11-24T12:00:00Z"}


def evidence(predicate):
    return VerifiedStatement(
        digest="sha256:" + "c" * 64,
        repository="dev/hello",
        statement=make_image_statement(IMAGE, SBOM, predicate),
        signer="curation",
    )


def test_recorded_sbom_is_read(world):
    """The result has every artifact with its type."""
    assert {each[:2] for each in inventory(SYFT, world)} == {("deb", "libapt-pkg6.0"), ("python", "salt")}


@tries(300)
@given(document=changed(SYFT) | JSON)
def test_changed_sbom_is_read_completely_or_refused(document):
    """The only error is `EvidenceInvalid`, and no package is lost."""
    try:
        packages = inventory(document, World())
    except EvidenceInvalid:
        return
    assert packages == {(str(a["type"]), str(a["name"]), str(a.get("purl", ""))) for a in document["artifacts"]}


@given(st.binary(max_size=200) | JSON.map(lambda value: json.dumps(value).encode()))
def test_sbom_with_other_bytes_is_refused(content):
    """The bytes are no gzip, or differ from what was signed."""
    statement = references("sha256:" + "b" * 64, "0" * 64)

    with pytest.raises(EvidenceInvalid, match="The SBOM that"):
        read_sbom_packages([evidence(statement)], lambda ref: content)
