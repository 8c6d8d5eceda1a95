"""Tests of the calls of cosign and of how its answers are interpreted; tests/integration runs the real program."""

import dataclasses
import json

import pytest

from supply_chain.adapters.tools.cosign import (
    KEYLESS,
    LOGIN,
    SIGNING_CONFIG,
    TIMEOUT,
    TRUSTED_ROOT,
    Cosign,
    read_signing_variables,
    sign_for_person,
    sign_statement,
)
from supply_chain.errors import (
    AccessDenied,
    AwsUnavailable,
    ClockWrong,
    KeyUnusable,
    RegistryUnavailable,
    SettingInvalid,
    SignatureFailed,
    ToolMissing,
    ToolTimedOut,
)
from supply_chain.evidence.clock import SKEW
from supply_chain.evidence.statement import TEST_RESULT, make_image_statement
from supply_chain.model.image import ImageRef

REF = ImageRef(repository="curated/hello", digest="sha256:" + "a" * 64)
STATEMENT = make_image_statement(REF, TEST_RESULT, {"result": "PASSED"})
WRITES_A_BUNDLE = 'while [ $# -gt 0 ]; do [ "$1" = --bundle ] && printf bundle > "$2"; shift; done'


@pytest.fixture
def asked(program, docker_config):
    """Return a factory of adapters whose cosign behaves as the test says, together with the record of its calls."""
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


def test_sign_passes_statement_and_key_and_returns_bundle(asked, tmp_path):
    """The statement is signed byte for byte with the key of the tier."""
    script = f'cp "$3" {tmp_path}/signed; {WRITES_A_BUNDLE}'
    cosign, recorded = asked(script)

    assert cosign.sign(STATEMENT) == b"bundle"

    (call,) = recorded.calls
    assert call[:2] == ["attest-blob", "--statement"]
    assert call[call.index("--key") + 1] == "awskms:///alias/curation"
    assert (tmp_path / "signed").read_bytes() == STATEMENT.bytes()


def test_sign_image_contacts_no_internet_service(asked, tmp_path):
    """The signing configuration and the trusted root are empty: no transparency log, no timestamp authority."""
    copies = "; ".join(
        f'[ "$1" = --{name} ] && cp "$2" {tmp_path}/{name}' for name in ("signing-config", "trusted-root")
    )
    cosign, _ = asked(f"while [ $# -gt 0 ]; do {copies}; shift; done")

    cosign.sign_image(REF)

    assert (tmp_path / "signing-config").read_text() == SIGNING_CONFIG
    assert (tmp_path / "trusted-root").read_text() == TRUSTED_ROOT
    assert json.loads(SIGNING_CONFIG)["rekorTlogConfig"] == {}


def test_image_is_signed_and_verified_by_digest(asked):
    """Registry credentials of the role are used, and plain HTTP only if the block permits it."""
    for insecure in (False, True):
        cosign, recorded = asked(insecure=insecure)
        cosign.sign_image(REF)
        cosign.verify_image(REF, "public key")
        for call, environment in zip(recorded.calls[-2:], recorded.environments[-2:], strict=True):
            assert f"registry.test/{REF}" in call
            assert environment["DOCKER_CONFIG"].endswith("docker-config")
            assert ("--allow-insecure-registry" in call) is insecure


def test_image_signature_is_distinguished_from_attestation(asked):
    """Any statement by the key would verify otherwise, so the same annotation is signed and required."""
    cosign, recorded = asked()
    cosign.sign_image(REF)
    cosign.verify_image(REF, "public key")

    signed, required = (call[call.index("--annotations") + 1] for call in recorded.calls)
    assert signed == required


def test_verify_image_uses_only_the_public_key(asked, tmp_path):
    """Anybody can verify an image in this way."""
    cosign, recorded = asked(f'while [ $# -gt 0 ]; do [ "$1" = --key ] && cp "$2" {tmp_path}/key; shift; done')

    cosign.verify_image(REF, "the public key")

    assert (tmp_path / "key").read_text() == "the public key"
    assert "awskms" not in " ".join(recorded.calls[0])


def test_verify_image_raises_for_missing_signature(asked):
    """Such an image is not released."""
    cosign, _ = asked(stderr="Error: no signatures found", status=10)

    with pytest.raises(SignatureFailed, match="no signatures found"):
        CALLS["verify_image"](cosign)


@pytest.mark.parametrize("call", ["sign", "sign_image"])
@pytest.mark.parametrize(
    ("stderr", "error"),
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
def test_signing_failure_raises_exception_for_its_cause(asked, call, stderr, error):
    """The role, the key, the network and the clock each need another remedy."""
    cosign, _ = asked(stderr=stderr, status=1)

    with pytest.raises(error, match=stderr[:20]):
        CALLS[call](cosign)


@pytest.mark.parametrize(
    ("stderr", "remedy"),
    [
        ("KMS: AccessDeniedException: not authorized", "a person, a key that they may use"),
        ("KMS: DisabledException", "name the right one"),
        ("KMS: StatusCode: 503", "a person tries again"),
    ],
)
def test_remedy_of_signing_is_for_tiers_and_people(asked, stderr, remedy):
    """Both sign with cosign; a person has no role of a tier, and nothing is retried for them."""
    cosign, _ = asked(stderr=stderr, status=1)

    with pytest.raises((AccessDenied, KeyUnusable, AwsUnavailable), match=remedy):
        sign_statement(cosign.tool, "ann.key", STATEMENT)


def test_sign_fails_if_cosign_writes_no_bundle(asked):
    """An exit status of zero alone is no signature."""
    cosign, _ = asked()

    with pytest.raises(SignatureFailed):
        cosign.sign(STATEMENT)


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_missing_or_hanging_cosign_raises(asked, call, monkeypatch):
    """The answer must be neither "signed" nor "not signed"."""
    cosign, recorded = asked("exec sleep 60")
    monkeypatch.setattr("supply_chain.adapters.tools.cosign.TIMEOUT", 0.05)
    with pytest.raises(ToolTimedOut):
        call(cosign)

    (recorded.directory / "cosign").unlink()
    with pytest.raises(ToolMissing):
        call(cosign)


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_cosign_leaves_no_temporary_files(asked, call, tmp_path, monkeypatch):
    """Keys and statements must not stay behind."""
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    call(asked(WRITES_A_BUNDLE)[0])

    assert list(temporary.iterdir()) == []


def test_credentials_are_requested_for_each_signature(asked):
    """Older credentials may have expired; verification needs none."""
    cosign, recorded = asked(WRITES_A_BUNDLE)
    session_tokens = iter(("first", "second"))
    cosign = dataclasses.replace(cosign, environment=lambda: {"AWS_SESSION_TOKEN": next(session_tokens)})

    cosign.sign(STATEMENT)
    cosign.sign_image(REF)
    cosign.verify_image(REF, "public key")

    tokens = [environment.get("AWS_SESSION_TOKEN") for environment in recorded.environments]
    assert tokens == ["first", "second", None]


def test_verify_image_reports_unavailable_registry(asked):
    """An outage does not mean that the signature is missing."""
    cosign, _ = asked(stderr='Get "http://registry.test/v2/": dial tcp: connect: connection refused', status=1)

    with pytest.raises(RegistryUnavailable):
        cosign.verify_image(REF, "public key")


@pytest.fixture
def service(tmp_path):
    """A directory of a signing service."""
    for name in ("signing_config.json", "trusted_root.json"):
        (tmp_path / name).write_text("{}")
    return tmp_path


def test_person_signs_keyless_with_the_service_of_the_project(asked, service, capsys):
    """No key is passed, and the person sees what cosign asks, without the codes of a terminal."""
    cosign, recorded = asked(f"printf 'open \\033[1mhttps://a\\n' >&2; {WRITES_A_BUNDLE}")

    assert sign_for_person(cosign.tool, KEYLESS, STATEMENT, service) == b"bundle"

    (call,) = recorded.calls
    assert "--key" not in call
    assert [call[call.index(each) + 1] for each in ("--signing-config", "--trusted-root")] == [
        str(service / "signing_config.json"), str(service / "trusted_root.json"),
    ]  # fmt: skip
    text = capsys.readouterr().err
    assert "https://a" in text and "\033" not in text


def test_person_signs_with_a_key_as_a_tier_does(asked, tmp_path):
    """Then no service is needed."""
    cosign, recorded = asked(WRITES_A_BUNDLE)

    assert sign_for_person(cosign.tool, "ann.key", STATEMENT, tmp_path / "none") == b"bundle"
    (call,) = recorded.calls
    assert call[call.index("--key") + 1] == "ann.key"


@pytest.mark.parametrize("missing", ["signing_config.json", "trusted_root.json"])
def test_keyless_signing_without_service_is_refused(asked, service, missing):
    """cosign would otherwise ask the public one, and publish the e-mail address."""
    cosign, recorded = asked(WRITES_A_BUNDLE)
    (service / missing).unlink()

    with pytest.raises(SettingInvalid, match=missing):
        sign_for_person(cosign.tool, KEYLESS, STATEMENT, service)
    assert recorded.calls == []


def test_failed_log_in_signs_nothing(asked, service):
    """The answer of cosign is in the error."""
    cosign, _ = asked(stderr="Error: token expired", status=1)

    with pytest.raises(SignatureFailed, match=r"token expired\nNothing was signed. Log in again"):
        sign_for_person(cosign.tool, KEYLESS, STATEMENT, service)


def test_log_in_ends_before_its_decision_is_too_old():
    """The time of a keyless signature has to be near that of the decision."""
    assert TIMEOUT < LOGIN < SKEW.total_seconds()


def test_settings_of_person_are_variables_of_cosign_and_login(monkeypatch):
    """No other variable reaches cosign so."""
    for name in ("COSIGN_PASSWORD", "SIGSTORE_ID_TOKEN", "SIGSTORE_ROOT_FILE", "TUF_ROOT"):
        monkeypatch.setenv(name, "a")

    found = read_signing_variables()
    assert {"COSIGN_PASSWORD", "SIGSTORE_ID_TOKEN"} <= found.keys()
    assert found.keys().isdisjoint({"SIGSTORE_ROOT_FILE", "TUF_ROOT"})
