"""What a real cluster allows to whoever has a documented role: exactly what this table says, and nothing elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import product
from uuid import uuid4

import pytest
from lightkube.models.authorization_v1 import ResourceAttributes

from supply_chain.adapters.kubernetes.client import ClusterClient
from supply_chain.execution.enforcement.installation import KINDS, install, read_objects
from supply_chain.execution.enforcement.policies import PUBLISHER, SYSTEM
from supply_chain.execution.kubernetes.cluster import Kind
from tests.support.cluster_roles import RBAC, ROLES, may, restricted_namespace
from tests.support.waiting import eventually

pytestmark = pytest.mark.real

CLUSTER_ROLE_BINDINGS = Kind(f"{RBAC}/v1", "ClusterRoleBinding", "clusterrolebindings", namespaced=False)
VERBS = (
    "get", "list", "watch", "create", "update", "patch", "delete", "deletecollection", "bind", "escalate",
    "impersonate", "approve", "sign", "publish",
)  # fmt: skip
READ = {"list", "watch"}
GET = {"get", "list", "watch"}
DEPLOY = {"get", "list", "watch", "create", "patch", "delete"}
ALLOWED: dict[str, dict[str, set[str]]] = {
    "cscm-deployer": {
        "deployments.apps": DEPLOY, "configmaps": DEPLOY, "serviceaccounts": DEPLOY, "services": DEPLOY,
        "ingresses.networking.k8s.io": DEPLOY, "networkpolicies.networking.k8s.io": DEPLOY,
        "poddisruptionbudgets.policy": DEPLOY, "horizontalpodautoscalers.autoscaling": DEPLOY,
        "replicasets.apps": READ, "events": READ, "pods": READ, "pods/log": {"get"}, f"rolebindings.{RBAC}": READ,
    },
    "cscm-isolator": {"pods": {"patch"}, "pods/ephemeralcontainers": {"patch"}},
    "cscm-reader": {
        "deployments.apps": GET, "configmaps": READ, "events": READ, "pods": READ, "serviceaccounts": READ,
        "services": READ, "ingresses.networking.k8s.io": READ, "networkpolicies.networking.k8s.io": READ,
        "poddisruptionbudgets.policy": READ, "horizontalpodautoscalers.autoscaling": READ, "replicasets.apps": READ,
        f"rolebindings.{RBAC}": READ, "pods/log": {"get"}, "kustomizations.kustomize.toolkit.fluxcd.io": {"get"},
        "gitrepositories.source.toolkit.fluxcd.io": {"get"}, "applications.argoproj.io": {"get"},
    },
    "cscm-deployer-nodes": {"nodes": {"list"}},
    "cscm-deployer-hosts": {"ingresses.networking.k8s.io": {"list"}},
    "cscm-execution": {
        f"serviceaccounts/token {PUBLISHER}": {"create"}, "configmaps": {"get"}, "admissions.cscm": {"publish"},
    },
    "cscm-publisher": {"configmaps": {"create", "update"}},
    "cscm-execution-enforcement": {
        "mutatingadmissionpolicies.admissionregistration.k8s.io": {"get"},
        "mutatingadmissionpolicybindings.admissionregistration.k8s.io": {"get"},
        "validatingadmissionpolicies.admissionregistration.k8s.io": {"get"},
        "validatingadmissionpolicybindings.admissionregistration.k8s.io": {"get", "list"},
        "validatingwebhookconfigurations.admissionregistration.k8s.io": {"get"},
        "imagevalidatingpolicies.policies.kyverno.io": {"get"}, "policyexceptions.policies.kyverno.io": {"list"},
        f"clusterroles.{RBAC}": {"get"}, f"rolebindings.{RBAC}": {"get"}, f"roles.{RBAC}": {"get"},
        "namespaces": {"get"}, "nodes": {"get"}, "serviceaccounts": {"get"}, "pods": {"list"},
        "podtemplates": {"list", "create"}, "replicationcontrollers": {"list"}, "daemonsets.apps": {"list"},
        "deployments.apps": {"list"}, "replicasets.apps": {"list"}, "statefulsets.apps": {"list"},
        "cronjobs.batch": {"list"}, "jobs.batch": {"list"},
    },
    "cscm-observer": {
        "pods": {"list"}, "replicationcontrollers": {"list"}, "daemonsets.apps": {"list"},
        "replicasets.apps": {"list"}, "statefulsets.apps": {"list"}, "cronjobs.batch": {"list"},
        "jobs.batch": {"list"},
    },
}  # fmt: skip
"""Role → resource → verbs. The name of the only object that is allowed follows a resource."""
IN_NAMESPACE = ("cscm-deployer", "cscm-isolator", "cscm-reader")
"""The roles that are bound in the namespace of an environment."""
OTHERS = {
    "secrets", "pods/exec", "pods/attach", "pods/portforward", "pods/eviction", "pods/status", "pods/proxy",
    "services/proxy", "nodes/proxy", "serviceaccounts/token", "deployments.apps/scale", "persistentvolumes",
    "users", "groups", f"clusterrolebindings.{RBAC}", "mutatingwebhookconfigurations.admissionregistration.k8s.io",
    "certificatesigningrequests.certificates.k8s.io", "customresourcedefinitions.apiextensions.k8s.io", "*.*",
}  # fmt: skip
"""Resources that no role has."""


def documents() -> dict[str, dict[str, object]]:
    """Return the documented roles by their names."""
    kinds = ("Role", "ClusterRole")
    return {each["metadata"]["name"]: dict(each) for each in read_objects(ROLES) if each["kind"] in kinds}


def list_resources() -> set[str]:
    """Return every resource of the table, of the documents, and further ones."""
    listed = {resource for role in ALLOWED.values() for resource in role} | OTHERS
    for document in documents().values():
        rules: object = document["rules"]
        assert isinstance(rules, list)
        for rule in rules:
            names = rule.get("resourceNames") or [""]
            listed |= {
                _join(*each).strip() for each in product(rule["resources"], rule["apiGroups"], names)
            }  # fmt: skip
    return listed


def _join(resource: str, group: str, name: str) -> str:
    plural, _, below = resource.partition("/")
    return f"{plural}{f'.{group}' if group else ''}{f'/{below}' if below else ''} {name}"


def is_allowed(admin: ClusterClient, user: str, namespace: str, resource: str, verb: str) -> bool:
    """Ask the cluster whether a user may do something in a namespace; an empty one is all of them."""
    address, _, name = resource.partition(" ")
    kind, _, below = address.partition("/")
    plural, _, group = kind.partition(".")
    attributes = ResourceAttributes(
        namespace=namespace, verb=verb, group=group, resource=plural, subresource=below, name=name
    )
    return may(admin, user, attributes)


@contextmanager
def bound(admin: ClusterClient, role: str, namespace: str) -> Iterator[str]:
    """Yield the name of a user who has a documented role and nothing else."""
    user, kind = f"user-{uuid4().hex[:8]}", documents()[role]["kind"]
    where = SYSTEM if kind == "Role" else namespace if role in IN_NAMESPACE else ""
    binding = KINDS["RoleBinding"] if where else CLUSTER_ROLE_BINDINGS
    admin.create(binding, {
        "apiVersion": binding.api_version, "kind": binding.name,
        "metadata": {"name": user, **({"namespace": where} if where else {})},
        "roleRef": {"apiGroup": RBAC, "kind": kind, "name": role},
        "subjects": [{"apiGroup": RBAC, "kind": "User", "name": user}],
    })  # fmt: skip
    try:
        yield user
    finally:
        admin.delete(binding, user, where)


@pytest.fixture(scope="module")
def namespace(cluster: ClusterClient) -> Iterator[str]:
    """A namespace, in a cluster with the documented roles."""
    install(read_objects(ROLES), cluster)
    with restricted_namespace(cluster, "roles") as name:
        yield name


def test_every_documented_role_is_in_the_table() -> None:
    """A new one is tested too."""
    assert documents().keys() == ALLOWED.keys()


@pytest.mark.parametrize("role", ALLOWED)
def test_role_allows_exactly_what_the_table_says(cluster: ClusterClient, namespace: str, role: str) -> None:
    """A verb that somebody adds to the document fails here, and one that is missing too."""
    is_of_system = documents()[role]["kind"] == "Role"
    is_of_cluster = not is_of_system and role not in IN_NAMESPACE
    home, elsewhere = (SYSTEM if is_of_system else "" if is_of_cluster else namespace), "default"
    wanted = {(resource, verb) for resource, verbs in ALLOWED[role].items() for verb in verbs}

    with bound(cluster, role, namespace) as user:
        eventually(lambda: all(is_allowed(cluster, user, home, *each) for each in wanted), describe=lambda: role)
        requests = product(sorted(list_resources()), VERBS)
        assert {each for each in requests if is_allowed(cluster, user, home, *each)} == wanted
        found = {each for each in wanted if is_allowed(cluster, user, elsewhere, *each)}
        assert found == (wanted if is_of_cluster else set())
