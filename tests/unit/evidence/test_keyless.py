"""Keyless signatures: whose certificate it is, under which root, of what, and when."""

import base64
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from supply_chain.errors import DiskFull
from supply_chain.evidence import keyless
from supply_chain.evidence.approval import Approval
from supply_chain.evidence.clock import SKEW
from supply_chain.evidence.keyless import (
    BRACKETS,
    Identity,
    SignedContent,
    explain_root,
    find_identity,
    is_keyless,
    verify_content,
)
from supply_chain.evidence.personal_decision import explain_keyless
from supply_chain.evidence.statement import make_image_statement
from tests.support.builders import DIGEST, NOON
from tests.support.facts import CURATED
from tests.support.signer import EcdsaSigner
from tests.support.signing_service import ISSUER, KeylessSigner, SigningService, b64

SERVICE, OTHER_SERVICE = SigningService(), SigningService()
ROOT = SERVICE.trusted_root()
ANN, CI = "ann@shop.example", "https://github.com/shop/release/.github/workflows/approve.yaml@refs/heads/main"
STATEMENT = make_image_statement(CURATED, "urn:x", {"a": 1})
ASSETS = Path(__file__).parents[2] / "assets"


def identity(subject=ANN, issuer=ISSUER, root=ROOT, **period):
    return Identity(issuer, subject, root, **period)


def signed(subject=ANN, issuer=ISSUER, service=SERVICE, at=NOON, **more):
    return KeylessSigner(service, subject, issuer, at=at, **more).sign(STATEMENT)


def changed(bundle, *path, value):
    """Return a bundle with another value at a path."""
    document = json.loads(bundle)
    part = document
    for each in path[:-1]:
        part = part[each]
    part[path[-1]] = value
    return json.dumps(document).encode()


@pytest.mark.parametrize("subject", [ANN, CI])
def test_signature_proves_content_and_time(subject):
    """An e-mail address or the address of a workflow is what the issuer verified."""
    found = verify_content(signed(subject), identity(subject))

    assert isinstance(found, SignedContent)
    assert (found.envelope.payload, found.at) == (STATEMENT.bytes(), NOON)


@pytest.mark.parametrize(
    ("bundle", "why"),
    [
        (signed("eve@shop.example"), "SANs do not match ann@shop.example"),
        (signed("ann@shop.example.evil.example"), "SANs do not match"),
        (signed(issuer="https://accounts.example.evil.example"), "does not match"),
        (signed(service=OTHER_SERVICE), "certificate chain"),
        (signed(issued=NOON - timedelta(minutes=11)), "certificate chain"),
        (signed(issued=NOON + timedelta(seconds=1)), "certificate chain"),
        (signed(service=SigningService(SERVICE.key, SERVICE.certificates)), "invalid log entry"),
        (signed(service=SigningService(SERVICE.key, entries=SERVICE.entries)), "SCT"),
        (EcdsaSigner().sign(STATEMENT), "not signed keyless"),
        (b"{}", "not signed keyless"),
        (b"", "not signed keyless"),
    ],
    ids=[
        "subject", "longer subject", "issuer", "root", "expired", "not yet valid", "log", "certificate log", "key",
        "empty", "nothing",
    ],
)  # fmt: skip
def test_keyless_signature_of_other_identity_is_refused(bundle, why):
    """The same authority with another log is another service."""
    found = verify_content(bundle, identity())

    assert isinstance(found, str) and why in found


ENTRY = ("verificationMaterial", "tlogEntries", 0)
OTHER = json.loads(KeylessSigner(SERVICE, ANN, at=NOON).sign(make_image_statement(CURATED, "urn:x", {"a": 2})))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("dsseEnvelope", "payload"), b64(b"{}")),
        (("dsseEnvelope", "payload"), OTHER["dsseEnvelope"]["payload"]),
        (("dsseEnvelope", "payloadType"), "text/plain"),
        (("dsseEnvelope", "signatures", 0, "sig"), OTHER["dsseEnvelope"]["signatures"][0]["sig"]),
        (("dsseEnvelope",), OTHER["dsseEnvelope"]),
        (ENTRY, OTHER["verificationMaterial"]["tlogEntries"][0]),
        (("verificationMaterial", "tlogEntries"), []),
        (("verificationMaterial", "certificate"), OTHER["verificationMaterial"]["certificate"]),
        (("verificationMaterial", "certificate"), {"rawBytes": b64(b"none")}),
        (("verificationMaterial", "certificate"), {}),
        ((*ENTRY, "integratedTime"), str(int(NOON.timestamp()) + 1)),
        ((*ENTRY, "integratedTime"), "0"),
        ((*ENTRY, "inclusionPromise"), None),
        ((*ENTRY, "inclusionProof", "rootHash"), b64(b"0" * 32)),
        (("verificationMaterial", "timestampVerificationData"), {"rfc3161Timestamps": [{"signedTimestamp": "AAAA"}]}),
        (("dsseEnvelope", "signatures"), []),
        (("more",), 1),
    ],
    ids=[
        "no content",
        "other payload",
        "type",
        "other signature",
        "other envelope",
        "other entry",
        "no entry",
        "other certificate",
        "no certificate",
        "empty certificate",
        "later",
        "no time",
        "no promise",
        "other log",
        "unproven timestamp",
        "no signature",
        "more",
    ],
)
def test_changed_bundle_is_not_signed(path, value):
    """Entry, certificate, payload and signature belong together; a time that nothing proves is none."""
    bundle = signed()
    assert isinstance(verify_content(bundle, identity()), SignedContent)

    assert isinstance(verify_content(changed(bundle, *path, value=value), identity()), str)


def test_second_spelling_of_log_time_is_not_read():
    """The library reads both spellings; what is read here is what it verified."""
    bundle = signed()
    for name in ("integrated_time", "inclusion_promise"):
        found = verify_content(changed(bundle, *ENTRY, name, value="1"), identity())
        assert isinstance(found, str) or found.at == NOON


def test_signing_time_is_that_of_timestamp_without_log_time():
    """Rekor v2 does not; recorded, with the timestamp of `openssl ts`."""
    recorded = json.loads((ASSETS / "keyless-timestamp.json").read_text())
    bundle, root = (json.dumps(recorded[each]).encode() for each in ("bundle", "trustedRoot"))
    found = verify_content(bundle, identity(root=root))

    assert isinstance(found, SignedContent) and found.at == datetime.fromisoformat(recorded["time"])
    data = ("verificationMaterial", "timestampVerificationData", "rfc3161Timestamps")
    stamps = recorded["bundle"][data[0]][data[1]][data[2]]
    for less in ([], [*stamps, recorded["second"]]):
        assert isinstance(verify_content(changed(bundle, *data, value=less), identity(root=root)), str)
    unproven = changed(bundle, *ENTRY, "integratedTime", value="1")
    assert verify_content(unproven, identity(root=root)) == found, "the log promises nothing"


def test_bundle_of_cosign_is_verified():
    """Recorded, as cosign 3.1.3 wrote it."""
    recorded = json.loads((ASSETS / "keyless-cosign.json").read_text())
    bundle, root = (json.dumps(recorded[each]).encode() for each in ("bundle", "trustedRoot"))

    assert isinstance(verify_content(bundle, identity(root=root)), SignedContent)
    assert isinstance(verify_content(bundle, identity()), str), "another root"


@pytest.mark.parametrize(
    ("period", "why"),
    [
        ({}, None),
        ({"since": NOON}, None),
        ({"since": NOON + timedelta(seconds=1)}, "counts since 2026-11-24 12:00:01 UTC"),
        ({"until": NOON + timedelta(seconds=1)}, None),
        ({"until": NOON}, "ann@shop.example of https://accounts.example counted until 2026-11-24 12:00:00 UTC"),
    ],
    ids=str,
)
def test_identity_counts_from_its_first_to_before_its_last_time(period, why):
    """The time is proven, so that who left signs nothing more, and who came signed nothing before."""
    found = verify_content(signed(), identity(**period))

    assert isinstance(found, SignedContent) if why is None else why in str(found)


def test_missing_trusted_root_is_reported_as_reason():
    """Without one, nothing proves whose certificate it is."""
    assert verify_content(signed(), identity(root="there is no root")) == "there is no root"


@pytest.mark.parametrize(
    "root", [b"", b"{}", b'{"mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1"}']
)
def test_unusable_root_verifies_nothing(root):
    """The mistake is in the reason."""
    assert "the trusted root cannot be used: " in explain_root(root)
    assert isinstance(verify_content(signed(), identity(root=root)), str)
    assert explain_root(ROOT) == ""


@pytest.mark.parametrize("error", [DiskFull("full"), OSError(24, "Too many open files"), MemoryError()])
def test_outage_raises_instead_of_refusing_signature(monkeypatch, error):
    """Who signed is verified once there is space again."""
    root, bundle = OTHER_SERVICE.trusted_root() + b" " * (1 + len(str(error))), signed(service=OTHER_SERVICE)

    def fail(_):
        raise error

    with monkeypatch.context() as patched:
        patched.setattr(keyless, "make_scratch_directory", fail)
        for verify in (lambda: explain_root(root), lambda: verify_content(bundle, identity(root=root))):
            with pytest.raises(type(error)):
                verify()
    assert explain_root(root) == "" and isinstance(verify_content(bundle, identity(root=root)), SignedContent)


def test_signer_is_found_by_identity():
    """Each person has identities of their own; a reason is of the one that the certificate names."""
    people = [("bob", identity("bob@shop.example")), ("ann", identity(until=NOON)), ("anna", identity())]
    found = find_identity(signed(), people)

    assert not isinstance(found, str) and (found[0], found[1].at) == ("anna", NOON)
    assert "counted until" in find_identity(signed(), people[:2])
    assert find_identity(signed(), people[:1]) == (
        "its certificate names ann@shop.example of https://accounts.example, which is not an identity of anybody who "
        "may sign it"
    )
    broken = changed(signed(), "verificationMaterial", "certificate", value={"rawBytes": "AAAA"})
    assert find_identity(broken, people) == "its certificate cannot be read"


def test_reason_is_that_of_first_person_named_by_certificate():
    """Both are wrong; the order is that of the document."""
    people = [("ann", identity(root="there is no root")), ("anna", identity(until=NOON))]

    assert find_identity(signed(), people) == "there is no root"


def test_reason_has_300_characters_of_a_name():
    """A certificate may name somebody with a text of any length."""
    long = f"{'a' * 400}@shop.example"

    assert find_identity(signed(long), []) == (
        f"its certificate names {'a' * 300}, which is not an identity of anybody who may sign it"
    )


@pytest.mark.parametrize(("text", "reason"), [("x " * 400, ("x " * 150)), ("y" * 301, "y" * 300), ("", "ValueError")])
def test_reason_has_300_characters_of_an_error(monkeypatch, text, reason):
    """What a library says may be of any length, or nothing."""

    def fail(_):
        raise ValueError(text)

    monkeypatch.setattr(keyless, "_load_root", fail)
    assert explain_root(ROOT) == f"the trusted root cannot be used: {reason}"


def test_key_proves_no_time():
    """A bundle with a certificate is no signature with a key, and the other way round."""
    ann = EcdsaSigner()
    key = ann.private.public_key()
    found = verify_content(ann.sign(STATEMENT), key)

    assert isinstance(found, SignedContent) and found.at is None
    assert isinstance(verify_content(signed(), key), str)
    assert isinstance(verify_content(EcdsaSigner().sign(STATEMENT), key), str)


def test_deep_or_large_bundle_is_not_parsed():
    """Its depth and size do no harm."""
    assert BRACKETS == 80
    room = BRACKETS - signed().count(b"{") - signed().count(b"[")
    value = json.loads("[" * room + "]" * room)

    assert is_keyless(changed(signed(), "dsseEnvelope", "x", value=value))
    assert not is_keyless(changed(signed(), "dsseEnvelope", "x", value=[value]))
    assert not is_keyless(changed(signed(), "mediaType", value="application/vnd.dev.sigstore.bundle+json;version=0.1"))


def approved(minutes=0.0, service=SERVICE, subject=ANN, at=NOON):
    """Return an approval that says it was decided so many minutes after it was signed."""
    unsigned = Approval(
        environment="production", digest=DIGEST, decision="approved", by="ann", reason="so",
        decided=at + timedelta(minutes=minutes),
    )  # fmt: skip
    bundle = KeylessSigner(service, subject, at=at).sign(unsigned.statement(CURATED))
    return unsigned.model_copy(update={"signature": bundle.decode()})


@pytest.mark.parametrize(("minutes", "counts"), [(0, True), (5, True), (-5, True), (5.1, False), (-5.1, False)])
def test_decision_states_the_time_at_which_it_was_signed(minutes, counts):
    """Otherwise somebody could decide today what counts as decided before a denial."""
    assert timedelta(minutes=5) == SKEW
    assert approved(minutes).is_signed_by(identity(), CURATED) is counts


def test_reason_of_a_keyless_decision_names_what_is_wrong():
    """A signature with a key has no such reason."""
    assert "names eve@" in explain_keyless(approved(subject="eve@shop.example").signature, [identity()])
    assert "names ann@" in explain_keyless(approved().signature, [EcdsaSigner().private.public_key()])
    assert "certificate chain" in explain_keyless(approved(service=OTHER_SERVICE).signature, [identity()])
    assert "another time" in explain_keyless(approved(6).signature, [identity()])
    assert explain_keyless(EcdsaSigner().sign(STATEMENT).decode(), [identity()]) == ""


def test_any_broken_bundle_is_a_reason_and_no_error():
    """Whoever can write a file could otherwise stop every gate."""
    bundle = signed()
    for position in range(0, len(bundle), 97):
        broken = bundle[:position] + bytes([bundle[position] ^ 1]) + bundle[position + 1 :]
        if is_keyless(broken):
            assert isinstance(find_identity(broken, [("ann", identity())]), str | tuple)


def test_keyless_signature_is_verified_after_certificate_expiry():
    """A certificate of ten minutes is verified years later."""
    for at in (datetime(2021, 1, 1, tzinfo=UTC), datetime(2036, 1, 1, tzinfo=UTC)):
        assert isinstance(verify_content(signed(at=at), identity()), SignedContent)
    assert base64.b64decode(json.loads(signed())["dsseEnvelope"]["payload"]) == STATEMENT.bytes()
