"""Tests of how AWS errors are translated, and of what the session of a tier gives to tools."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError, EndpointConnectionError, NoCredentialsError, ReadTimeoutError
from botocore.parsers import ResponseParserError
from botocore.stub import Stubber

from supply_chain.adapters.aws.session import CONFIG, AwsSession, read_error_code, translate_errors
from supply_chain.errors import AccessDenied, AwsFailed, AwsUnavailable, ClockWrong

SECRET = "secret-access-key-of-the-user"
SESSION = AwsSession(
    access_key_id="AKIAEXAMPLE",
    secret_access_key=SECRET,
    role_arn="arn:aws:iam::111122223333:role/cscm-curation",
    region="eu-west-1",
    endpoint_url="http://127.0.0.1:9",
)


@pytest.fixture
def of_environment(monkeypatch, tmp_path):
    """A session without an access key, on a machine without AWS credentials; it assumes its role with a fake STS."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE", "AWS_ROLE_ARN",
                 "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CONTAINER_CREDENTIALS_FULL_URI"):  # fmt: skip
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    assumed: list[tuple[str, str]] = []

    def assume(key, role):
        assumed.append((key, role))
        credentials = {"AccessKeyId": "ASIA", "SecretAccessKey": "s", "SessionToken": "t",
                       "Expiration": (datetime.now(UTC) + timedelta(hours=1)).isoformat()}  # fmt: skip
        return {"Credentials": credentials}

    def sts(self, service, **kwargs):
        key = kwargs["aws_access_key_id"]
        return SimpleNamespace(assume_role=lambda **about: assume(key, about["RoleArn"]))

    monkeypatch.setattr(AwsSession, "_sts", sts)
    session = replace(SESSION, access_key_id="", secret_access_key="", endpoint_url=None, _assumed={})
    return SimpleNamespace(session=session, assumed=assumed)


def test_session_without_key_assumes_role_with_identity_of_environment(of_environment, monkeypatch):
    """Nothing but the tier's role is used, whoever runs the worker."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAPOD")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s")

    assert of_environment.session.environment()["AWS_ACCESS_KEY_ID"] == "ASIA"
    assert of_environment.assumed == [("AKIAPOD", SESSION.role_arn)]


def test_session_without_key_reads_web_identity_of_pod(of_environment, monkeypatch, tmp_path):
    """EKS puts the token and the role of a service account there (IRSA)."""
    (tmp_path / "token").write_text("jwt")
    monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(tmp_path / "token"))
    monkeypatch.setenv("AWS_ROLE_ARN", "arn:aws:iam::111122223333:role/pod")

    assert of_environment.session._find_source().method == "assume-role-with-web-identity"


def test_session_without_any_credentials_says_what_is_missing(of_environment):
    """Before it calls AWS."""
    with pytest.raises(AwsFailed, match=f"IRSA or pod identity.*may assume {SESSION.role_arn}"):
        of_environment.session.client("ecr")


def client_error(code, status=400):
    return ClientError(
        {"Error": {"Code": code, "Message": "it said so"}, "ResponseMetadata": {"HTTPStatusCode": status}}, "Operation"
    )


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (client_error("AccessDeniedException"), AccessDenied),
        (client_error("AccessDenied", 403), AccessDenied),
        (client_error("SomethingNew", 403), AccessDenied),
        (client_error("InvalidClientTokenId"), AccessDenied),
        (client_error("ThrottlingException"), AwsUnavailable),
        (client_error("ServerException", 500), AwsUnavailable),
        (client_error("SomethingNew", 503), AwsUnavailable),
        (client_error("InvalidParameterException"), AwsFailed),
        (client_error("RepositoryNotFoundException", 404), AwsFailed),
        (EndpointConnectionError(endpoint_url="http://127.0.0.1:9"), AwsUnavailable),
        (ReadTimeoutError(endpoint_url="http://127.0.0.1:9"), AwsUnavailable),
        (NoCredentialsError(), AwsFailed),
        (client_error("ExpiredTokenException"), AccessDenied),
        (ResponseParserError("not well-formed"), AwsUnavailable),
    ],
    ids=lambda value: getattr(value, "__name__", str(value)[:60]),
)
def test_translated_maps_boto3_error_to_own_exception(error, expected):
    """Only transient errors are retryable, and each message names the failed operation."""
    with (
        pytest.raises(AwsFailed if expected is not AccessDenied else AccessDenied) as caught,
        translate_errors("make tea"),
    ):
        raise error

    assert type(caught.value) is expected
    assert caught.value.retryable is (expected is AwsUnavailable)
    assert "make tea" in str(caught.value)


@pytest.mark.parametrize("code", ["ThrottlingException", "Throttling", "RequestLimitExceeded", "SlowDown"])
def test_translated_treats_every_throttling_code_as_retryable(code):
    """AWS services use different codes for throttling."""
    with pytest.raises(AwsUnavailable), translate_errors("make tea"):
        raise client_error(code)


def test_translated_passes_other_exceptions():
    """A programming error must not look like an AWS error."""
    with pytest.raises(ZeroDivisionError), translate_errors("make tea"):
        raise ZeroDivisionError


def test_error_code_returns_code_of_aws():
    """An error without a code gives the empty string."""
    assert read_error_code(client_error("RepositoryNotFoundException")) == "RepositoryNotFoundException"
    assert read_error_code(ClientError({}, "Operation")) == ""


def test_client_uses_configured_endpoint():
    """Without a configured endpoint the client uses AWS itself; the test makes no request."""
    assert SESSION.client("ecr").meta.endpoint_url == "http://127.0.0.1:9"
    real = AwsSession("a", "b", "arn:aws:iam::1:role/x", "eu-west-1").client("ecr")
    assert real.meta.endpoint_url == "https://api.ecr.eu-west-1.amazonaws.com"
    assert real.meta.region_name == "eu-west-1"


def test_environment_holds_role_credentials_and_not_the_users_secret(monkeypatch):
    """Tools get temporary credentials of the role only."""
    sts = boto3.client("sts", region_name="eu-west-1", aws_access_key_id="a", aws_secret_access_key="b")
    answer = {
        "AccessKeyId": "ASIAROLE000000000",
        "SecretAccessKey": "role secret",
        "SessionToken": "role token",
        "Expiration": "2036-01-01T00:00:00Z",
    }
    wanted = {"RoleArn": SESSION.role_arn, "RoleSessionName": "cscm"}
    session = AwsSession(**{name: getattr(SESSION, name) for name in SESSION.__dataclass_fields__})
    monkeypatch.setattr(AwsSession, "_sts", lambda self, service, **kwargs: sts)
    with Stubber(sts) as stub:
        stub.add_response("assume_role", {"Credentials": answer}, wanted)
        environment = session.environment()

    assert environment["AWS_ACCESS_KEY_ID"] == "ASIAROLE000000000"
    assert environment["AWS_SESSION_TOKEN"] == "role token"
    assert environment["AWS_REGION"] == "eu-west-1"
    assert environment["AWS_ENDPOINT_URL_KMS"] == "http://127.0.0.1:9"
    assert SECRET not in environment.values()


def test_environment_raises_access_denied_if_role_cannot_be_assumed(monkeypatch):
    """The error is raised before any tool starts."""
    sts = boto3.client("sts", region_name="eu-west-1", aws_access_key_id="a", aws_secret_access_key="b")
    monkeypatch.setattr(AwsSession, "_sts", lambda self, service, **kwargs: sts)
    with Stubber(sts) as stub:
        stub.add_client_error("assume_role", "AccessDenied", http_status_code=403)
        with pytest.raises(AccessDenied, match="assume the tier's role"):
            AwsSession("a", "b", "arn:aws:iam::1:role/x", "eu-west-1").environment()


def test_session_text_hides_secret():
    """A session may be printed or be part of an error report."""
    assert SECRET not in repr(SESSION) and SECRET not in str(SESSION)


def test_clients_have_timeouts_and_retries():
    """A step must not hang on AWS."""
    assert isinstance(CONFIG, Config)
    assert CONFIG.connect_timeout <= 10 and CONFIG.read_timeout <= 60
    assert SESSION.client("ecr").meta.config.retries["mode"] == "standard"


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("InvalidSignatureException", "Signature expired: 20261125T100000Z is now earlier than 20261125T105500Z"),
        ("SignatureDoesNotMatch", "Signature not yet current: 20261125T110000Z is still later than 20261125T100500Z"),
        ("RequestTimeTooSkewed", "The difference between the request time and the current time is too large."),
    ],
)
def test_translated_distinguishes_wrong_clock_from_denied_role(code, message):
    """AWS answers both with status 403."""
    error = ClientError(
        {"Error": {"Code": code, "Message": message}, "ResponseMetadata": {"HTTPStatusCode": 403}}, "Operation"
    )
    with pytest.raises(ClockWrong, match="Set this machine's clock"), translate_errors("make tea"):
        raise error


@pytest.mark.parametrize(
    ("code", "attempts", "again"),
    [("ExpiredTokenException", 1, 0), ("ExpiredToken", 1, 0), ("ExpiredToken", 2, None), ("AccessDenied", 1, None)],
)
def test_expired_credentials_are_renewed_once(code, attempts, again):
    """The call that failed is repeated with the new credentials."""
    session = AwsSession("a", "b", "arn:aws:iam::1:role/x", "eu-west-1")
    credentials = session._session.get_credentials()
    credentials._frozen_credentials = "those that are over"

    assert session._renew(response=(None, {"Error": {"Code": code}}), attempts=attempts) == again
    assert session._renew(response=None, attempts=1) is None
    assert credentials._frozen_credentials == (None if again == 0 else "those that are over")
