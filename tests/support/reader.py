"""The documented role for environments that git delivers to, in a namespace of a real cluster."""

from __future__ import annotations

from supply_chain.adapters.kubernetes.client import ClusterClient
from supply_chain.errors import ClusterRefused
from supply_chain.execution.kubernetes.cluster import DEPLOYMENTS, FIELD_MANAGER
from tests.support.cluster_roles import bind_role, make_account
from tests.support.waiting import eventually

READER = "cscm-reader"


def bind_reader(admin: ClusterClient, namespace: str) -> None:
    """Make a service account that has the role in a namespace and nothing else, and wait until it may read there."""
    make_account(admin, READER, namespace)
    bind_role(admin, READER, READER, namespace)
    eventually(lambda: _may_read(admin, namespace))


def sign_in_reader(admin: ClusterClient, namespace: str) -> ClusterClient:
    """Return a client with the permissions of the role, for an hour."""
    return admin.for_service_account(namespace, READER, FIELD_MANAGER, 3600)


def _may_read(admin: ClusterClient, namespace: str) -> bool:
    """Return whether the cluster's authorization has seen the binding."""
    try:
        sign_in_reader(admin, namespace).list(DEPLOYMENTS, namespace)
    except ClusterRefused:
        return False
    return True
