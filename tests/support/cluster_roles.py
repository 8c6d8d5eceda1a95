"""The documented roles of a cluster, bound to service accounts of a namespace."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from uuid import uuid4

from lightkube.models.authorization_v1 import ResourceAttributes, SubjectAccessReviewSpec
from lightkube.models.meta_v1 import ObjectMeta
from lightkube.resources.authorization_v1 import SubjectAccessReview

from supply_chain.adapters.kubernetes.client import ClusterClient
from supply_chain.execution.enforcement.installation import KINDS, read_objects
from supply_chain.execution.kubernetes.cluster import NAMESPACES, SERVICE_ACCOUNTS, Document, Kind
from tests.support.command import ROOT
from tests.support.waiting import eventually

DEPLOYER = "cscm-deployer"
ROLES = ROOT / "deployments/kubernetes/rbac"
RBAC = "rbac.authorization.k8s.io"
ROLE_BINDINGS = KINDS["RoleBinding"]
RESTRICTED = {"pod-security.kubernetes.io/enforce": "restricted"}
"""Labels of a namespace with Pod Security `restricted`."""


def bind_role(
    cluster: ClusterClient, role: str, account: str, namespace: str, kind: Kind = ROLE_BINDINGS, name: str = ""
) -> None:
    """Give a service account of a namespace the rules of a documented role, by a binding of a kind and name.

    The binding has the role's name by default. A Role in the namespace disturbs no other test of the cluster. Returns
    once the cluster answers by it.
    """
    (document,) = (each for each in read_objects(ROLES) if each["metadata"]["name"] == role)
    of = KINDS["Role" if kind.namespaced else "ClusterRole"]
    where = {"namespace": namespace} if kind.namespaced else {}
    cluster.apply(of, {**document, "kind": of.name, "metadata": {"name": role, **where}})
    cluster.apply(kind, {
        "apiVersion": kind.api_version, "kind": kind.name, "metadata": {"name": name or role, **where},
        "roleRef": {"apiGroup": RBAC, "kind": of.name, "name": role},
        "subjects": [{"kind": "ServiceAccount", "name": account, "namespace": namespace}],
    })  # fmt: skip
    wait_for_role(cluster, document, f"system:serviceaccount:{namespace}:{account}", where.get("namespace", ""))


def wait_for_role(cluster: ClusterClient, role: Document, user: str, namespace: str) -> None:
    """Wait until a user may do what a role's first rule allows in a namespace; an empty one is all of them.

    An API server learns of a binding some time after it has answered that it is there.
    """
    rule = next(each for each in role["rules"] if each.get("resources"))
    resource, _, below = rule["resources"][0].partition("/")
    (name, *_) = rule.get("resourceNames") or [""]
    attributes = ResourceAttributes(
        namespace=namespace, verb=rule["verbs"][0], group=rule["apiGroups"][0], resource=resource, subresource=below,
        name=name,
    )  # fmt: skip
    eventually(lambda: may(cluster, user, attributes), describe=lambda: f"{user} does not have {role}")


def may(cluster: ClusterClient, user: str, attributes: ResourceAttributes) -> bool:
    """Ask the cluster whether a user may do something."""
    spec = SubjectAccessReviewSpec(user=user, groups=["system:authenticated"], resourceAttributes=attributes)
    review = cluster.client.create(SubjectAccessReview(metadata=ObjectMeta(), spec=spec))
    assert review.status
    return review.status.allowed


def make_account(cluster: ClusterClient, name: str, namespace: str) -> None:
    """Make a service account, which may do nothing yet."""
    metadata = {"name": name, "namespace": namespace}
    cluster.apply(SERVICE_ACCOUNTS, {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata})


@contextmanager
def restricted_namespace(cluster: ClusterClient, prefix: str) -> Iterator[str]:
    """Yield a new namespace with Pod Security `restricted`, which is removed at the end."""
    name = f"{prefix}-{uuid4().hex[:8]}"
    metadata = {"name": name, "labels": RESTRICTED}
    cluster.apply(NAMESPACES, {"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})
    try:
        yield name
    finally:
        cluster.delete(NAMESPACES, name)


@contextmanager
def deployable_namespace(cluster: ClusterClient, prefix: str) -> Iterator[str]:
    """Yield a new namespace with Pod Security `restricted`, in which a service account has the documented role."""
    with restricted_namespace(cluster, prefix) as name:
        make_account(cluster, DEPLOYER, name)
        bind_role(cluster, DEPLOYER, DEPLOYER, name)
        yield name
