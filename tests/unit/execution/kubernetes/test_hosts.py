"""Which hosts of Ingresses two applications of a cluster may not both claim."""

from __future__ import annotations

from typing import Any

import pytest

from supply_chain.errors import ClusterRefused, ManifestsRefused
from supply_chain.execution.kubernetes.cluster import INGRESSES
from supply_chain.execution.kubernetes.hosts import check_hosts, find_conflicts, list_hosts, overlap
from tests.support.memory_cluster import MemoryCluster

SHOP = {"cscm.managed": "true", "cscm.application": "shop", "cscm.environment": "production"}
HELLO = {**SHOP, "cscm.application": "hello"}


def ingress(*hosts: str, namespace: str = "shop", name: str = "web", labels: Any = None, **spec: Any) -> dict[str, Any]:
    """Return an Ingress with a rule for each host."""
    metadata = {"name": name, "namespace": namespace, **({"labels": labels} if labels else {})}
    rules = [{"host": host, "http": {"paths": [{"path": "/"}]}} for host in hosts]
    return {
        "apiVersion": INGRESSES.api_version, "kind": "Ingress", "metadata": metadata, "spec": {"rules": rules, **spec}
    }  # fmt: skip


@pytest.mark.parametrize(
    ("one", "other", "both"),
    [
        ("shop.example", "shop.example", True),
        ("shop.example", "hello.example", False),
        ("*.example", "shop.example", True),
        ("*.example", "*.example", True),
        ("*.example", "*.shop.example", True),
        ("*.example", "a.shop.example", True),
        ("*.example", "example", False),
        ("*.example", "shopexample", False),
        ("*.hello.example", "shop.example", False),
        ("shop.example", "a.shop.example", False),
    ],
)
def test_wildcard_overlaps_with_hosts_below_it(one, other, both):
    """Some controllers let it stand for one label, others for any number; the domain itself is none of them."""
    assert overlap(one, other) is both and overlap(other, one) is both


def test_list_hosts_returns_hosts_of_rules_and_certificates():
    """A rule for every host claims none: a rule for one goes before it."""
    document = ingress("a.example", tls=[{"hosts": ["b.example", "c.example"]}, {"secretName": "x"}])
    document["spec"]["rules"] += [{"http": {}}, {"host": ""}]

    assert list(list_hosts(document)) == ["a.example", "b.example", "c.example"]
    assert list(list_hosts({"kind": "Ingress"})) == []


def test_conflict_names_hosts_and_application():
    """Or the Ingress, if nobody deployed it by the chain."""
    own = [ingress("shop.example"), ingress("a.example", "b.example")]
    others = [ingress("*.example", labels=SHOP), ingress("b.example", namespace="x", name="y"), ingress("other.org")]

    assert list(find_conflicts(own, others)) == [
        "shop.example overlaps with *.example of shop in production (the Ingress shop/web)",
        "a.example overlaps with *.example of shop in production (the Ingress shop/web)",
        "b.example overlaps with *.example of shop in production (the Ingress shop/web)",
        "b.example overlaps with b.example of the Ingress x/y, which nobody deployed by the chain",
    ]


def add(cluster: MemoryCluster, document: dict[str, Any]) -> None:
    metadata = document["metadata"]
    cluster.objects["Ingress", metadata["namespace"], metadata["name"]] = document


@pytest.mark.parametrize(
    ("other", "refused"),
    [
        ({"labels": HELLO}, False),
        ({"labels": HELLO, "namespace": "production"}, True),
        ({"labels": SHOP}, True),
        ({}, True),
        ({"labels": {**HELLO, "cscm.managed": "false"}}, True),
    ],
    ids=["its own", "another environment", "another application", "by hand", "not managed"],
)
def test_host_belongs_to_one_application_of_one_environment(other, refused):
    """Its own earlier Ingress, perhaps of another name, is no conflict."""
    cluster = MemoryCluster()
    add(cluster, ingress("shop.example", name="earlier", **other))

    def check() -> None:
        check_hosts(cluster, "hello", "shop", [{"kind": "Service"}, ingress("shop.example")])

    if not refused:
        check()
        return
    with pytest.raises(
        ManifestsRefused, match=r"The Ingresses of hello claim hosts of others:\n- shop.example overlaps"
    ):
        check()


def test_each_conflict_is_listed_once():
    """Rule and certificate name the same host."""
    cluster = MemoryCluster()
    add(cluster, ingress("shop.example", tls=[{"hosts": ["shop.example"]}]))

    with pytest.raises(ManifestsRefused) as raised:
        check_hosts(cluster, "hello", "shop", [ingress("shop.example")])

    assert str(raised.value).count("overlaps") == 1


def test_ingresses_are_read_only_if_there_is_one_to_deploy():
    """It needs a permission in the whole cluster, which the error names."""
    cluster = MemoryCluster(failing={"list Ingress": ClusterRefused("list ingresses: forbidden\nno")})

    check_hosts(cluster, "hello", "shop", [{"kind": "Service"}])

    with pytest.raises(ClusterRefused, match=r"(?s)hosts of hello cannot be read: list ingresses.*cscm-deployer-hosts"):
        check_hosts(cluster, "hello", "shop", [ingress("shop.example")])
