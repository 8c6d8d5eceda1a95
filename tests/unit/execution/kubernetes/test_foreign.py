"""Objects that somebody added to the namespace of an environment."""

from __future__ import annotations

from dataclasses import replace

import pytest

from supply_chain.execution.delivery.settings import Delivery, GitDelivery
from supply_chain.execution.kubernetes.cluster import INGRESSES, NETWORK_POLICIES, ROLE_BINDINGS, SERVICES
from supply_chain.execution.monitor import drop_deploying
from supply_chain.model.container import APPLICATION, BROUGHT, MANAGED, ROLE

ADMIN = {"roleRef": {"name": "admin"}, "subjects": [{"kind": "User", "name": "mallory"}]}
OPEN = {"spec": {"podSelector": {}, "policyTypes": ["Ingress"], "ingress": [{}]}}


@pytest.fixture
def deployed(harness):
    """A deployment."""
    return harness.deploy(harness.good()).expected


def add(cluster, kind, name, labels=None, **content):
    metadata = {"name": name, "namespace": "shop", "uid": name, "labels": labels or {}}
    cluster.objects[kind.name, "shop", name] = {"metadata": metadata, **content}


@pytest.mark.parametrize(
    ("kind", "content", "fact"),
    [
        (SERVICES, {"spec": {"type": "NodePort"}}, "nobody deployed Service theirs to staging"),
        (INGRESSES, {"spec": {}}, "nobody deployed Ingress theirs to staging"),
        (NETWORK_POLICIES, OPEN, "nobody deployed NetworkPolicy theirs to staging"),
        (ROLE_BINDINGS, ADMIN, "nobody deployed RoleBinding theirs to staging: it gives admin to mallory"),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_foreign_object_is_reported(harness, cluster, deployed, kind, content, fact):
    """It decides who reaches the pods, or who may change them."""
    add(cluster, kind, "theirs", **content)

    own, foreign = harness.target.monitor([deployed])

    assert own.deviations == ()
    assert (foreign.name, foreign.application, foreign.container) == (f"{kind.name} theirs", "", "theirs")
    assert [(each.code, each.fact) for each in foreign.deviations] == [("drift.foreign-object", fact)]


def test_policy_that_only_denies_is_not_reported(harness, cluster, deployed):
    """A failed first deployment leaves such a policy, and nothing is open by it."""
    add(cluster, NETWORK_POLICIES, "deny", spec={"podSelector": {}, "policyTypes": ["Ingress", "Egress"]})

    assert len(harness.target.monitor([deployed])) == 1


def test_objects_that_environment_names_are_not_reported(harness, cluster, deployed):
    """Whatever they are."""
    add(cluster, INGRESSES, "shop", spec={})
    others = (*harness.target.environment.ignored_objects, "Ingress/shop")
    environment = harness.target.environment.model_copy(update={"ignored_objects": others})

    assert len(harness.target.monitor([deployed])) == 2
    assert len(replace(harness.target, environment=environment).monitor([deployed])) == 1


OURS = {"kind": "User", "name": "cscm-execution"}


@pytest.mark.parametrize("name", ["cscm-deployer", "cscm-isolator"])
@pytest.mark.parametrize(
    ("role", "subjects", "foreign"),
    [
        ("", [OURS], False),
        ("admin", [OURS], True),
        ("", [OURS, {"kind": "User", "name": "mallory"}], True),
        ("", [{"kind": "User", "name": "mallory"}], True),
        ("", [{"kind": "Group", "name": "cscm-execution"}], True),
        ("", [{"kind": "ServiceAccount", "namespace": "shop", "name": "cscm-execution"}], True),
        ("", [], True),
    ],
)
def test_binding_of_documented_role_is_reported_if_it_gives_more(
    harness, cluster, deployed, name, role, subjects, foreign
):
    """Its name alone would hide another grant."""
    add(cluster, ROLE_BINDINGS, name, roleRef={"name": role or name}, subjects=subjects)

    assert len(harness.target.monitor([deployed])) == 1 + foreign


def test_binding_of_service_account_that_deploys_is_not_reported(harness, cluster, deployed, monkeypatch):
    """A worker in the cluster has one."""
    monkeypatch.setattr(cluster, "read_identity", lambda: "system:serviceaccount:ci:worker", raising=False)
    subject = {"kind": "ServiceAccount", "namespace": "ci", "name": "worker"}
    add(cluster, ROLE_BINDINGS, "cscm-deployer", roleRef={"name": "cscm-deployer"}, subjects=[subject])

    assert len(harness.target.monitor([deployed])) == 1


def test_monitor_of_one_application_reports_objects_with_its_label(harness, cluster, deployed):
    """Others may be deployed at this moment."""
    add(cluster, SERVICES, "ours", {APPLICATION: "hello"}, spec={})
    add(cluster, SERVICES, "others", {APPLICATION: "shop"}, spec={})

    assert [each.name for each in harness.target.monitor([deployed], "hello")] == ["hello", "Service ours"]


@pytest.mark.parametrize(("name", "left"), [("hello", 0), ("other", 1)])
def test_foreign_objects_during_deployment_are_not_reported(harness, cluster, name, left):
    """They exist before their record does."""
    add(cluster, SERVICES, name, spec={})
    observed = harness.target.monitor([])

    assert len(drop_deploying(observed, {("staging", "hello")})) == left


def test_object_of_earlier_manifests_is_reported_as_left(harness, cluster, deployed):
    """It is one deviation of its application."""
    labels = {MANAGED: "true", APPLICATION: "hello", ROLE: BROUGHT}
    add(cluster, SERVICES, "earlier", labels, spec={})

    (own,) = harness.target.monitor([deployed])

    assert [each.code for each in own.deviations] == ["drift.left"]


def test_object_of_repository_is_not_foreign(harness, cluster, deployed):
    """Only the repository says which objects belong there; pods of nobody are reported all the same."""
    add(cluster, SERVICES, "theirs", spec={})
    cluster.add_pod("foreign", "shop", "registry/x@y")
    delivery = Delivery(git=GitDelivery(repository="r", path="{application}.yaml", kind="manifest"))
    environment = harness.target.environment.model_copy(update={"delivery": delivery})

    own, foreign = replace(harness.target, environment=environment).monitor([deployed])

    assert (own.name, foreign.name, foreign.what) == ("hello", "foreign", "Pod/foreign in c/shop")
