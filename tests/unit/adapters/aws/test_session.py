"""AWS's errors in our words, and what a tier's session gives to tools."""

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError, EndpointConnectionError, NoCredentialsError, ReadTimeoutError
from botocore.parsers import ResponseParserError
from botocore.stub import Stubber
from supply_chain.adapters.aws.session import CONFIG, AwsSession, error_code, translated

from supply_chain.errors import AccessDenied, AwsFailed, AwsUnavailable, ClockWrong

SECRET = "secret-access-key-of-the-user"
SESSION = AwsSession(
    access_key_id="AKIAEXAMPLE",
    secret_access_key=SECRET,
    role_arn="arn:aws:iam::111122223333:role/cscm-curation",
    region="eu-west-1",
    endpoint_url="http://127.0.0.1:9",
)


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
def test_an_error_of_boto3_becomes_ours(error, expected):
    """Only what may pass by itself is tried again, and every one says what was being done."""
    with pytest.raises(AwsFailed if expected is not AccessDenied else AccessDenied) as caught, translated("make tea"):
        raise error

    assert type(caught.value) is expected
    assert caught.value.retryable is (expected is AwsUnavailable)
    assert "make tea" in str(caught.value)


@pytest.mark.parametrize("code", ["ThrottlingException", "Throttling", "RequestLimitExceeded", "SlowDown"])
def test_every_way_of_saying_later_is_tried_again(code):
    """AWS's services do not agree on a word."""
    with pytest.raises(AwsUnavailable), translated("make tea"):
        raise client_error(code)


def test_other_errors_pass():
    """A mistake of ours is not AWS's."""
    with pytest.raises(ZeroDivisionError), translated("make tea"):
        raise ZeroDivisionError


def test_knows_awss_own_code():
    """And answers with nothing where there is none."""
    assert error_code(client_error("RepositoryNotFoundException")) == "RepositoryNotFoundException"
    assert error_code(ClientError({}, "Operation")) == ""


def test_a_client_speaks_to_the_endpoint_of_its_block():
    """And to AWS itself where the block names none; no call is made for that."""
    assert SESSION.client("ecr").meta.endpoint_url == "http://127.0.0.1:9"
    real = AwsSession("a", "b", "arn:aws:iam::1:role/x", "eu-west-1").client("ecr")
    assert real.meta.endpoint_url == "https://api.ecr.eu-west-1.amazonaws.com"
    assert real.meta.region_name == "eu-west-1"


def test_the_users_key_is_only_good_for_assuming_the_role(monkeypatch):
    """Tools get the role's credentials, for a while; the user's secret is never among them."""
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


def test_a_role_that_may_not_be_assumed_is_access_denied(monkeypatch):
    """Said before any tool runs."""
    sts = boto3.client("sts", region_name="eu-west-1", aws_access_key_id="a", aws_secret_access_key="b")
    monkeypatch.setattr(AwsSession, "_sts", lambda self, service, **kwargs: sts)
    with Stubber(sts) as stub:
        stub.add_client_error("assume_role", "AccessDenied", http_status_code=403)
        with pytest.raises(AccessDenied, match="assume the tier's role"):
            AwsSession("a", "b", "arn:aws:iam::1:role/x", "eu-west-1").environment()


def test_a_secret_does_not_show():
    """A session may be printed, or end up in an error report."""
    assert SECRET not in repr(SESSION) and SECRET not in str(SESSION)


def test_calls_have_timeouts_and_retries():
    """A step cannot hang on AWS."""
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
def test_a_wrong_clock_is_told_from_a_wrong_role(code, message):
    """AWS answers both with 403."""
    error = ClientError(
        {"Error": {"Code": code, "Message": message}, "ResponseMetadata": {"HTTPStatusCode": 403}}, "Operation"
    )
    with pytest.raises(ClockWrong, match="Set this machine's clock"), translated("make tea"):
        raise error


@pytest.mark.parametrize(
    ("code", "attempts", "again"),
    [("ExpiredTokenException", 1, 0), ("ExpiredToken", 1, 0), ("ExpiredToken", 2, None), ("AccessDenied", 1, None)],
)
def test_credentials_whose_time_is_over_are_got_anew_once(code, attempts, again):
    """By the same call, made again."""
    session = AwsSession("a", "b", "arn:aws:iam::1:role/x", "eu-west-1")
    credentials = session._session.get_credentials()
    credentials._frozen_credentials = "those that are over"

    assert session._renew(response=(None, {"Error": {"Code": code}}), attempts=attempts) == again
    assert session._renew(response=None, attempts=1) is None
    assert credentials._frozen_credentials == (None if again == 0 else "those that are over")
