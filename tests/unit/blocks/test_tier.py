"""The blocks of tiers and container hosts: required fields and error messages."""

import pytest
from prefect_aws import AwsCredentials
from prefect_docker.host import DockerHost
from pydantic import SecretStr, ValidationError

from blocks import ContainerHost, Tier
from supply_chain.errors import SettingInvalid
from supply_chain.model.container import Machine
from tests.support.signer import EcdsaSigner

DEVELOPMENT, OTHER = EcdsaSigner().public, EcdsaSigner().public
FILLED = {"aws_access_key_id": "AKIA", "aws_secret_access_key": SecretStr("secret"), "region_name": "eu-west-1"}


def tier(aws=None, **changes):
    values = {
        "tier": "curation",
        "aws": AwsCredentials(**{**FILLED, **(aws or {})}),
        "role_arn": "arn:aws:iam::1:role/cscm-curation",
        "registry": "1.dkr.ecr.eu-west-1.amazonaws.com",
        "signing_key": "alias/cscm-curation",
        "trusted_keys": {"development": DEVELOPMENT},
        "storage_key": "alias/cscm-storage",
    }
    return Tier(**{**values, **changes})


def test_tier_session_uses_role_and_region_of_block():
    """The name of the session is that of the tier."""
    session = tier().session

    assert (session.region, session.session_name) == ("eu-west-1", "cscm-curation")
    assert (session.access_key_id, session.secret_access_key) == ("AKIA", "secret")


def test_tier_without_key_uses_identity_of_worker():
    """The pod of a worker has one by IRSA or pod identity."""
    session = tier({"aws_access_key_id": None, "aws_secret_access_key": None}).session

    assert (session.access_key_id, session.secret_access_key) == ("", "")
    assert (session.region, session.role_arn) == ("eu-west-1", "arn:aws:iam::1:role/cscm-curation")


@pytest.mark.parametrize(
    ("aws", "message"),
    [
        ({"aws_access_key_id": None}, "has one half of an AWS key"),
        ({"aws_secret_access_key": None}, "has one half of an AWS key"),
        ({"aws_secret_access_key": SecretStr("")}, "has one half of an AWS key"),
        ({"aws_secret_access_key": SecretStr("********")}, "holds the mask"),
        ({"region_name": None}, "names no region"),
    ],
    ids=str,
)
def test_tier_reports_missing_credentials_before_calling_aws(aws, message):
    """An edit in the UI can save the mask of a secret, and another region would be another registry."""
    with pytest.raises(SettingInvalid, match=message):
        _ = tier(aws).session


def test_tier_trusts_only_configured_keys():
    """Other signers are unknown."""
    assert tier().trusted_key("development") == DEVELOPMENT
    with pytest.raises(SettingInvalid, match="trusts no key of execution"):
        tier().trusted_key("execution")


def test_tier_knows_only_configured_verdict_keys():
    """A key for evidence is none for published verdicts."""
    assert tier(verdict_keys={"execution": OTHER}).trusted_verdict_key("execution") == OTHER
    with pytest.raises(SettingInvalid, match="has no verdict key of development"):
        tier().trusted_verdict_key("development")


@pytest.mark.parametrize(
    ("changes", "holders"),
    [
        (
            {"trusted_keys": {"development": OTHER, "curation": OTHER.replace("\n", "\n\n", 1) + DEVELOPMENT}},
            "the signing key of development and the signing key of curation",
        ),
        (
            {"verdict_keys": {"curation": OTHER, "execution": DEVELOPMENT}},
            "the signing key of development and the verdict key of execution",
        ),
        (
            {"verdict_keys": {"curation": OTHER, "execution": OTHER}},
            "the verdict key of curation and the verdict key of execution",
        ),
    ],
)
def test_tier_refuses_one_key_with_two_uses(changes, holders):
    """Whoever has it could sign what two tiers say. The keys are compared, not how they are written."""
    with pytest.raises(SettingInvalid, match=f"curation tier, {holders} are the same key"):
        tier(**changes)


def test_tier_accepts_earlier_keys_of_its_own():
    """A key that was changed stays the tier's, also if it is there twice."""
    keys = {"development": DEVELOPMENT, "curation": OTHER + EcdsaSigner().public + OTHER}
    assert tier(trusted_keys=keys).trusted_keys == keys


def test_missing_key_setting_is_reported_by_field():
    """The error names the field of the block."""
    assert tier().key("storage_key") == "alias/cscm-storage"
    with pytest.raises(SettingInvalid, match="names no content_key"):
        tier().key("content_key")


def test_tier_refuses_unknown_tier():
    """Another tier has no repositories."""
    with pytest.raises(ValidationError):
        tier(tier="production")


@pytest.mark.parametrize(
    ("address", "url"),
    [
        (None, "unix:///var/run/docker.sock"),
        ("http+unix:///run/d.sock", "unix:///run/d.sock"),
        ("tcp://10.0.0.1:2376", "tcp://10.0.0.1:2376"),
    ],
)
def test_container_host_uses_url_of_block_or_default_socket(address, url):
    """Without an address, it is the local engine; a socket has one name, because an engine there is measured."""
    assert ContainerHost(docker=DockerHost(base_url=address)).url == url


@pytest.mark.parametrize(
    ("address", "engines", "containerds", "found"),
    [
        (None, "engine", "containerd", ["engine", "containerd"]),
        (None, "engine", "none", ["engine"]),
        (None, "none", "containerd", []),
        ("tcp://10.0.0.1:2376", "engine", "containerd", []),
    ],
    ids=["both", "no containerd of its own", "engine in a container", "engine elsewhere"],
)
def test_host_storage_has_directories_of_engine_and_containerd(
    tmp_path, monkeypatch, address, engines, containerds, found
):
    """The engine reports only its own directory, and a remote host has no local storage."""
    for name in ("engine", "containerd"):
        (tmp_path / name).mkdir()
    monkeypatch.setattr(ContainerHost, "machine", Machine(cpus=1, memory=1, storage=str(tmp_path / engines)))
    monkeypatch.setattr("blocks.host.CONTAINERD", tmp_path / containerds)

    host = ContainerHost(docker=DockerHost(base_url=address))

    assert [each.name for each in host.storage] == found
