"""A tier's block: what an operator has to fill in, and what is said where something is missing."""

import pytest
from prefect_aws import AwsCredentials
from pydantic import SecretStr, ValidationError

from blocks import ContainerHost, Tier
from blocks.host import DockerHost
from supply_chain.errors import SettingInvalid
from supply_chain.model.container import Machine

FILLED = {"aws_access_key_id": "AKIA", "aws_secret_access_key": SecretStr("secret"), "region_name": "eu-west-1"}


def tier(aws=None, **changes):
    values = {
        "tier": "curation",
        "aws": AwsCredentials(**{**FILLED, **(aws or {})}),
        "role_arn": "arn:aws:iam::1:role/cscm-curation",
        "registry": "1.dkr.ecr.eu-west-1.amazonaws.com",
        "signing_key": "alias/cscm-curation",
        "trusted_keys": {"development": "PEM"},
        "storage_key": "alias/cscm-storage",
    }
    return Tier(**{**values, **changes})


def test_a_filled_block_acts_in_its_role():
    """In the region that it names, under the tier's name."""
    session = tier().session

    assert (session.region, session.session_name) == ("eu-west-1", "cscm-curation")
    assert (session.access_key_id, session.secret_access_key) == ("AKIA", "secret")


@pytest.mark.parametrize(
    ("aws", "said"),
    [
        ({"aws_access_key_id": None}, "has no AWS key"),
        ({"aws_secret_access_key": None}, "has no AWS key"),
        ({"aws_secret_access_key": SecretStr("********")}, "holds the mask"),
        ({"region_name": None}, "names no region"),
    ],
    ids=str,
)
def test_what_is_missing_is_told_before_aws_is_asked(aws, said):
    """An edit in the UI saves the secret's mask; another region would be another account's registry."""
    with pytest.raises(SettingInvalid, match=said):
        _ = tier(aws).session


def test_a_tier_believes_the_keys_it_was_given():
    """And no other's."""
    assert tier().trusted_key("development") == "PEM"
    with pytest.raises(SettingInvalid, match="trusts no key of execution"):
        tier().trusted_key("execution")


def test_a_key_that_the_block_does_not_name_is_told():
    """By its field."""
    assert tier().key("storage_key") == "alias/cscm-storage"
    with pytest.raises(SettingInvalid, match="names no content_key"):
        tier().key("content_key")


def test_there_are_three_tiers():
    """A fourth has no repositories."""
    with pytest.raises(ValidationError):
        tier(tier="production")


@pytest.mark.parametrize(
    ("address", "url"),
    [(None, "unix:///var/run/docker.sock"), ("tcp://10.0.0.1:2376", "tcp://10.0.0.1:2376")],
)
def test_a_host_is_reached_where_its_block_says(address, url):
    """Or at the engine's default socket."""
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
def test_images_lie_with_the_engine_or_with_the_systems_containerd(
    tmp_path, monkeypatch, address, engines, containerds, found
):
    """The engine tells its own directory alone; on another machine there is nothing to look at."""
    for name in ("engine", "containerd"):
        (tmp_path / name).mkdir()
    monkeypatch.setattr(ContainerHost, "machine", Machine(cpus=1, memory=1, storage=str(tmp_path / engines)))
    monkeypatch.setattr("blocks.host.CONTAINERD", tmp_path / containerds)

    host = ContainerHost(docker=DockerHost(base_url=address))

    assert [each.name for each in host.storage] == found
