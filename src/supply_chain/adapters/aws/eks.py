"""EKS: where a cluster is, and a role's tokens for its API."""

from __future__ import annotations

import base64
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from supply_chain.adapters.aws.session import AwsSession, translate_errors

HEADER = "x-k8s-aws-id"
PREFIX = "k8s-aws-v1."
VALID = 60
"""Seconds for which the signed request in a token can be presented; EKS accepts the token for 15 minutes."""
RENEW = 600.0
"""Seconds after which a token is made again."""


@dataclass(frozen=True)
class EksCluster:
    """Where the API server of a cluster is, and the certificate authority (PEM) that it has."""

    address: str
    authority: str


def read_cluster(session: AwsSession, name: str) -> EksCluster:
    """Return a cluster of the role's account and region.

    Raises `AwsFailed` if there is none, and `AccessDenied` without the permission `eks:DescribeCluster`.
    """
    with translate_errors(f"read the EKS cluster {name}"):
        client = session.client("eks")
        cluster = client.describe_cluster(name=name)["cluster"]
    return EksCluster(cluster["endpoint"], base64.b64decode(cluster["certificateAuthority"]["data"]).decode())


@dataclass
class EksTokens:
    """Makes tokens of a role for one cluster: a signed request to STS that EKS sends to learn who the caller is."""

    session: AwsSession
    cluster: str
    clock: Callable[[], float] = time.monotonic
    _token: str = field(default="", repr=False)
    _issued_at: float = 0.0

    def __call__(self) -> str:
        """Return a token that is valid for at least five minutes."""
        if not self._token or self.clock() - self._issued_at > RENEW:
            self._token, self._issued_at = self._make(), self.clock()
        return self._token

    def _make(self) -> str:
        with translate_errors(f"sign in to the EKS cluster {self.cluster}"):
            client = self.session.client("sts")
            client.meta.events.register("before-sign.sts.GetCallerIdentity", self._add_cluster)
            url = client.generate_presigned_url("get_caller_identity", ExpiresIn=VALID, HttpMethod="GET")
        return PREFIX + base64.urlsafe_b64encode(url.encode()).decode().rstrip("=")

    def _add_cluster(self, request: Any, **_: Any) -> None:
        """Bind the token to the cluster, so that another one cannot use it."""
        request.headers[HEADER] = self.cluster
