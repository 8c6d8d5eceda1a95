"""Provides AWS sessions with the role of one tier, and translates AWS's errors to the project's errors."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache, cached_property
from typing import Any

import boto3
import botocore.session
from botocore.config import Config
from botocore.credentials import AssumeRoleCredentialFetcher, Credentials, DeferredRefreshableCredentials
from botocore.exceptions import BotoCoreError, ClientError, EndpointConnectionError, HTTPClientError
from botocore.loaders import Loader, create_loader
from botocore.parsers import ResponseParserError

from supply_chain.adapters.process import tool_errors
from supply_chain.errors import AccessDenied, AwsFailed, AwsUnavailable, ClockWrong, SupplyChainError

THROTTLED = {
    "Throttling",
    "ThrottlingException",
    "ThrottledException",
    "RequestThrottled",
    "RequestThrottledException",
    "RequestLimitExceeded",
    "TooManyRequestsException",
    "ServiceUnavailable",
    "SlowDown",
}
DENIED = {
    "AccessDenied",
    "AccessDeniedException",
    "UnauthorizedOperation",
    "InvalidClientTokenId",
    "SignatureDoesNotMatch",
}
EXPIRED = {"ExpiredToken", "ExpiredTokenException"}
"""AWS's error codes for credentials that have expired."""

CONFIG = Config(
    connect_timeout=5,
    read_timeout=30,
    retries={"mode": "standard", "max_attempts": 4},
    max_pool_connections=16,
)


@dataclass(frozen=True)
class AwsSession:
    """A tier's identity: the access key of a user that may only assume the tier's role, and that role.

    Without an access key, the identity of the environment assumes it: that of a pod, a machine or a profile.
    The role's credentials are fetched when they are first needed, and again before they expire.
    """

    access_key_id: str
    secret_access_key: str = field(repr=False)
    role_arn: str
    region: str
    endpoint_url: str | None = None
    session_name: str = "cscm"
    _assumed: dict[str, Any] = field(default_factory=dict, compare=False, repr=False)
    """Cache of the fetcher that gets the role's credentials."""

    @cached_property
    def _session(self) -> boto3.Session:
        core = _core()
        fetcher = AssumeRoleCredentialFetcher(
            client_creator=self._sts,
            source_credentials=self._find_source(),
            role_arn=self.role_arn,
            extra_args={"RoleSessionName": self.session_name},
            cache=self._assumed,
        )
        core._credentials = DeferredRefreshableCredentials(
            method="assume-role", refresh_using=fetcher.fetch_credentials
        )
        core.set_config_variable("region", self.region)
        return boto3.Session(botocore_session=core, region_name=self.region)

    def _find_source(self) -> Credentials:
        if self.access_key_id:
            return Credentials(self.access_key_id, self.secret_access_key)
        core = _core()
        core.set_config_variable("region", self.region)
        with translate_errors("find the AWS credentials of the environment"):
            credentials: Credentials | None = core.get_credentials()
        if credentials is None:
            raise AwsFailed(
                "The tier's block has no AWS key, and the environment has no AWS credentials.\n"
                "Fill in the key, or give the worker an identity (on EKS: IRSA or pod identity) that may assume "
                f"{self.role_arn}."
            )
        return credentials

    def _sts(self, service: str, **kwargs: Any) -> Any:
        kwargs.pop("region_name", None)
        return _core().create_client(
            service, region_name=self.region, endpoint_url=self.endpoint_url, config=CONFIG, **kwargs
        )

    def client(self, service: str) -> Any:
        """Return a boto3 client of the role; a call that fails on expired credentials is repeated once with new."""
        client = self._session.client(service, endpoint_url=self.endpoint_url, config=CONFIG)
        client.meta.events.register_first(
            f"needs-retry.{client.meta.service_model.service_id.hyphenize()}", self._renew
        )
        return client

    def _renew(self, response: tuple[Any, dict[str, Any]] | None, attempts: int, **_: Any) -> int | None:
        """Return the seconds until the call is repeated with new credentials; None if that would not help.

        Credentials expire at the time that AWS returned, and earlier if somebody revokes them or if AWS's clock is
        ahead.
        """
        if response is None or attempts > 1 or response[1].get("Error", {}).get("Code") not in EXPIRED:
            return None
        self._assumed.clear()
        self._session.get_credentials()._frozen_credentials = None
        return 0

    def environment(self) -> dict[str, str]:
        """Return environment variables for a tool that calls AWS itself; credentials are never passed as arguments."""
        with translate_errors("assume the tier's role"):
            frozen = self._session.get_credentials().get_frozen_credentials()
        values = {
            "AWS_ACCESS_KEY_ID": frozen.access_key or "",
            "AWS_SECRET_ACCESS_KEY": frozen.secret_key or "",
            "AWS_SESSION_TOKEN": frozen.token or "",
            "AWS_REGION": self.region,
            "AWS_EC2_METADATA_DISABLED": "true",
        }
        if self.endpoint_url:
            values["AWS_ENDPOINT_URL"] = self.endpoint_url
            values["AWS_ENDPOINT_URL_KMS"] = self.endpoint_url
        return values


def make_user_client(service: str, region: str, endpoint_url: str | None) -> Any:
    """Return a boto3 client with the credentials of whoever runs this, from the environment, a profile or the machine.

    Raises `AwsFailed` if the environment names a profile that does not exist.
    """
    with translate_errors("use your own AWS credentials"):
        return boto3.Session(region_name=region).client(service, endpoint_url=endpoint_url, config=CONFIG)


def _core() -> botocore.session.Session:
    session = botocore.session.Session()
    session.register_component("data_loader", _models())
    return session


@cache
def _models() -> Loader:
    """Return the loader of AWS's service descriptions, shared so that sessions do not each read them again."""
    return create_loader()


def read_descriptions(services: Iterable[str]) -> None:
    """Make a client of each service, so that this process and its forks have read AWS's descriptions of them."""
    keys = dict.fromkeys(("aws_access_key_id", "aws_secret_access_key"), "unused")  # botocore looks for no others
    for service in services:
        with contextlib.suppress(BotoCoreError):  # the user's settings are invalid: whoever calls AWS says so
            _core().create_client(service, region_name="us-east-1", **keys)


@contextlib.contextmanager
def translate_errors(doing: str) -> Iterator[None]:
    """Translate boto3's errors to the project's errors; `doing` completes "could not …"."""
    try:
        yield
    except ClientError as error:
        raise _translate(error, doing) from error
    except (EndpointConnectionError, HTTPClientError) as error:
        raise AwsUnavailable(
            f"Could not {doing}, because AWS did not answer: {error}\n"
            "Check the endpoint in the tier's block and that it can be reached (on a laptop, `cscm status`)."
        ) from error
    except ResponseParserError as error:
        raise AwsUnavailable(
            f"Could not {doing}, because the answer is not one of AWS: {str(error)[:500]}\n"
            "Check for a proxy or a load balancer in between, and check the endpoint in the tier's block."
        ) from error
    except BotoCoreError as error:
        raise AwsFailed(f"Could not {doing}: {error}\nCheck the credentials in the tier's block.") from error


def _translate(error: ClientError, doing: str) -> SupplyChainError:
    code = error.response.get("Error", {}).get("Code", "")
    message = error.response.get("Error", {}).get("Message", "")
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    if tool_errors.is_clock_skew(f"{code} {message}"):
        return ClockWrong(
            f"Could not {doing}, because AWS rejected this machine's time: {message}\n"
            "Set this machine's clock, and run the step again."
        )
    if code in EXPIRED:
        return AccessDenied(
            f"Could not {doing}, because the credentials of this tier's role expired, even new ones: {message}\n"
            "Find out who revoked them, and whether this machine's clock is right; then run the step again."
        )
    if code in DENIED or status == 403:
        return AccessDenied(
            f"This tier's role may not {doing}: {message}\n"
            "Each tier may do only what its own policy in deployments/iam allows."
        )
    if code in THROTTLED or status >= 500:
        return AwsUnavailable(f"AWS could not {doing} now ({code}): {message}\nThe step is retried.")
    return AwsFailed(f"AWS refused to {doing} ({code}): {message}\nLook the code up in AWS's documentation.")


def read_error_code(error: ClientError) -> str:
    """Return AWS's own code of an error, such as `RepositoryNotFoundException`."""
    return str(error.response.get("Error", {}).get("Code", ""))
