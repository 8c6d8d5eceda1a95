"""What is asked of cosign, and what is made of its answers. The real one is asked in tests/integration."""

import dataclasses
import json

import pytest

from supply_chain.adapters.tools.cosign import SIGNING_CONFIG, TRUSTED_ROOT, Cosign
from supply_chain.errors import (
    AccessDenied,
    AwsUnavailable,
    ClockWrong,
    KeyUnusable,
    RegistryUnavailable,
    SignatureFailed,
    ToolMissing,
    ToolTimedOut,
)
from supply_chain.evidence.statement import TEST_RESULT, about
from supply_chain.model.image import ImageRef

REF = ImageRef(repository="curated/hello", digest="sha256:" + "a" * 64)
STATEMENT = about(REF, TEST_RESULT, {"result": "PASSED"})
WRITES_A_BUNDLE = 'while [ $# -gt 0 ]; do [ "$1" = --bundle ] && printf bundle > "$2"; shift; done'


@pytest.fixture
def asked(program, docker_config):
    """A cosign that does what the test says; gives the adapter and the program's record of its calls."""
    recorded = program("cosign")

    def cosign(*args, insecure=False, **kwargs):
        tool = recorded.does(*args, **kwargs)
        return Cosign(tool, "awskms:///alias/curation", "registry.test", docker_config, insecure), recorded

    return cosign


CALLS = {
    "sign": lambda c: c.sign(STATEMENT),
    "sign_image": lambda c: c.sign_image(REF),
    "verify_image": lambda c: c.verify_image(REF, "public key"),
}


def test_signs_exactly_the_statement_with_the_tiers_key(asked, tmp_path):
    """And gives back the bundle that cosign wrote."""
    script = f'cp "$3" {tmp_path}/signed; {WRITES_A_BUNDLE}'
    cosign, recorded = asked(script)

    assert cosign.sign(STATEMENT) == b"bundle"

    (call,) = recorded.calls
    assert call[:2] == ["attest-blob", "--statement"]
    assert call[call.index("--key") + 1] == "awskms:///alias/curation"
    assert (tmp_path / "signed").read_bytes() == STATEMENT.bytes()


def test_signing_asks_nothing_of_the_internet(asked, tmp_path):
    """No transparency log and no timestamp authority: both configurations are there, and empty."""
    copies = "; ".join(
        f'[ "$1" = --{name} ] && cp "$2" {tmp_path}/{name}' for name in ("signing-config", "trusted-root")
    )
    cosign, _ = asked(f"while [ $# -gt 0 ]; do {copies}; shift; done")

    cosign.sign_image(REF)

    assert (tmp_path / "signing-config").read_text() == SIGNING_CONFIG
    assert (tmp_path / "trusted-root").read_text() == TRUSTED_ROOT
    assert json.loads(SIGNING_CONFIG)["rekorTlogConfig"] == {}


def test_an_image_is_signed_and_verified_by_digest(asked):
    """With the role's registry credentials, and plain HTTP only where the block says so."""
    for insecure in (False, True):
        cosign, recorded = asked(insecure=insecure)
        cosign.sign_image(REF)
        cosign.verify_image(REF, "public key")
        for call, environment in zip(recorded.calls[-2:], recorded.environments[-2:], strict=True):
            assert f"registry.test/{REF}" in call
            assert environment["DOCKER_CONFIG"].endswith("docker-config")
            assert ("--allow-insecure-registry" in call) is insecure


def test_a_signature_is_told_from_an_attestation(asked):
    """Any statement by the key would verify; what signing says and verifying asks for is the same."""
    cosign, recorded = asked()
    cosign.sign_image(REF)
    cosign.verify_image(REF, "public key")

    said, wanted = (call[call.index("--annotations") + 1] for call in recorded.calls)
    assert said == wanted


def test_verifying_uses_the_public_key_and_nothing_else(asked, tmp_path):
    """As anybody would."""
    cosign, recorded = asked(f'while [ $# -gt 0 ]; do [ "$1" = --key ] && cp "$2" {tmp_path}/key; shift; done')

    cosign.verify_image(REF, "the public key")

    assert (tmp_path / "key").read_text() == "the public key"
    assert "awskms" not in " ".join(recorded.calls[0])


def test_an_image_whose_signature_does_not_verify_is_an_error(asked):
    """It is not vended."""
    cosign, _ = asked(stderr="Error: no signatures found", status=10)

    with pytest.raises(SignatureFailed, match="no signatures found"):
        CALLS["verify_image"](cosign)


@pytest.mark.parametrize("call", ["sign", "sign_image"])
@pytest.mark.parametrize(
    ("said", "error"),
    [
        ("operation error KMS: Sign, AccessDeniedException: not authorized", AccessDenied),
        ("User: arn:aws:sts::1:x is not authorized to perform: kms:Sign", AccessDenied),
        ("KMS: DisabledException: key is disabled", KeyUnusable),
        ("NotFoundException: Alias does not exist", KeyUnusable),
        ("KMSInvalidStateException: pending deletion", KeyUnusable),
        ("operation error KMS: Sign, https response error StatusCode: 503, request send failed", AwsUnavailable),
        ("operation error KMS: Sign, ThrottlingException: Rate exceeded", AwsUnavailable),
        ("signing: dial tcp 127.0.0.1:1: connect: connection refused", RegistryUnavailable),
        ('Get "http://registry.test/v2/": EOF', RegistryUnavailable),
        ("operation error KMS: Sign, 403, InvalidSignatureException: Signature expired: 2026", ClockWrong),
        ("something else", SignatureFailed),
    ],
)
def test_why_nothing_was_signed(asked, call, said, error):
    """The role, the key, or something else; each has another remedy."""
    cosign, _ = asked(stderr=said, status=1)

    with pytest.raises(error, match=said[:20]):
        CALLS[call](cosign)


def test_success_without_a_bundle_is_no_signature(asked):
    """What was not written was not signed."""
    cosign, _ = asked()

    with pytest.raises(SignatureFailed):
        cosign.sign(STATEMENT)


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_a_cosign_that_is_missing_or_hangs_is_an_error(asked, call, monkeypatch):
    """Never a no, and never a yes."""
    cosign, recorded = asked("exec sleep 60")
    monkeypatch.setattr("supply_chain.adapters.tools.cosign.TIMEOUT", 0.2)
    with pytest.raises(ToolTimedOut):
        call(cosign)

    (recorded.directory / "cosign").unlink()
    with pytest.raises(ToolMissing):
        call(cosign)


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_nothing_stays_in_the_temporary_directory(asked, call, tmp_path, monkeypatch):
    """Neither keys nor statements."""
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    call(asked(WRITES_A_BUNDLE)[0])

    assert list(temporary.iterdir()) == []


def test_credentials_are_asked_for_at_each_signature(asked):
    """Those of an hour ago may be over; verifying needs none."""
    cosign, recorded = asked(WRITES_A_BUNDLE)
    turns = iter(("first", "second"))
    cosign = dataclasses.replace(cosign, environment=lambda: {"AWS_SESSION_TOKEN": next(turns)})

    cosign.sign(STATEMENT)
    cosign.sign_image(REF)
    cosign.verify_image(REF, "public key")

    tokens = [environment.get("AWS_SESSION_TOKEN") for environment in recorded.environments]
    assert tokens == ["first", "second", None]


def test_a_registry_that_is_down_says_nothing_about_a_signature(asked):
    """It is there or not, and nobody knows."""
    cosign, _ = asked(stderr='Get "http://registry.test/v2/": dial tcp: connect: connection refused', status=1)

    with pytest.raises(RegistryUnavailable):
        cosign.verify_image(REF, "public key")
