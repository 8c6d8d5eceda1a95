"""Tokens for EKS: a presigned request that is bound to the cluster."""

import base64
from typing import cast
from urllib.parse import parse_qs, urlsplit

import boto3

from supply_chain.adapters.aws.eks import EksTokens, read_cluster
from supply_chain.adapters.aws.session import AwsSession


class Session:
    """A session whose clients sign with fixed credentials and call nothing."""

    def client(self, service):
        return boto3.client(
            service, region_name="eu-west-1", aws_access_key_id="AKIA", aws_secret_access_key="secret"
        )  # fmt: skip


def test_token_is_signed_request_bound_to_cluster():
    """EKS sends the request with the header; STS refuses it with another cluster's name."""
    token = EksTokens(cast(AwsSession, Session()), "shop")()

    content = token.removeprefix("k8s-aws-v1.")
    url = urlsplit(base64.urlsafe_b64decode(content + "=" * (-len(content) % 4)).decode())
    query = parse_qs(url.query)
    assert token.startswith("k8s-aws-v1.")
    assert query["Action"] == ["GetCallerIdentity"]
    assert query["X-Amz-SignedHeaders"] == ["host;x-k8s-aws-id"]
    assert query["X-Amz-Expires"] == ["60"]


def test_eks_token_is_renewed_before_it_expires(monkeypatch):
    """EKS refuses a token after 15 minutes."""
    now = [0.0]
    tokens = EksTokens(cast(AwsSession, Session()), "shop", clock=lambda: now[0])
    monkeypatch.setattr(tokens, "_make", iter(("first", "second")).__next__)

    assert [tokens(), tokens()] == ["first", "first"]
    now[0] = 601.0
    assert tokens() == "second"


def test_cluster_has_address_and_authority():
    """The authority is base64 in EKS's answer."""

    class Eks:
        def client(self, service):
            assert service == "eks"
            return self

        def describe_cluster(self, name):
            data = base64.b64encode(b"PEM").decode()
            return {"cluster": {"endpoint": f"https://{name}", "certificateAuthority": {"data": data}}}

    found = read_cluster(cast(AwsSession, Eks()), "shop")

    assert (found.address, found.authority) == ("https://shop", "PEM")
