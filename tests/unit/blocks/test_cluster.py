"""The block of a Kubernetes cluster."""

from typing import cast

import pytest
from pydantic import ValidationError

from blocks import KubernetesCluster
from supply_chain.adapters.aws.session import AwsSession


@pytest.mark.parametrize(
    "fields",
    [{}, {"kubeconfig": "a", "in_cluster": True}, {"eks": "a", "context": "b"}, {"in_cluster": True, "region": "b"}],
    ids=str,
)
def test_cluster_block_names_exactly_one_way_to_sign_in(fields):
    """With two, nobody could say which cluster is meant."""
    with pytest.raises(ValidationError):
        KubernetesCluster(**fields)


def test_cluster_block_connects_by_kubeconfig(tmp_path):
    """The session of the tier is for EKS only."""
    config = tmp_path / "config"
    config.write_text(
        "clusters: [{name: a, cluster: {server: https://a}}]\nusers: [{name: u, user: {token: t}}]\n"
        "contexts: [{name: c, context: {cluster: a, user: u}}]\n"
    )

    assert KubernetesCluster(kubeconfig=str(config), context="c").client(cast(AwsSession, None)).address == "https://a"
