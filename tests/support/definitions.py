"""Kinds that tests define in a real cluster, by the definitions of a product that they run beside it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from supply_chain.adapters.kubernetes.client import ClusterClient
from supply_chain.execution.enforcement.installation import DEFINITIONS
from supply_chain.execution.kubernetes.cluster import Document
from tests.support.waiting import eventually

OURS = "cscm.test"
"""The label of the definitions that the tests made."""
SOON = 60.0
"""Seconds in which a busy cluster serves new kinds, or removes some with all their objects."""


def define(admin: ClusterClient, definitions: Iterable[Document]) -> None:
    """Define kinds, and wait until the cluster serves them."""
    names = []
    for each in definitions:
        admin.create(DEFINITIONS, {**each, "metadata": {**each["metadata"], "labels": {OURS: ""}}})
        names.append(each["metadata"]["name"])
    eventually(lambda: all(_is_established(admin, name) for name in names), SOON)


def find_left(admin: ClusterClient, definitions: Iterable[Document], product: str) -> list[Document]:
    """Return what a killed session left; end the test in a cluster that has the product for somebody else."""
    left = [found for each in definitions if (found := admin.read(DEFINITIONS, each["metadata"]["name"]))]
    assert all(OURS in each["metadata"].get("labels", {}) for each in left), f"the cluster has a {product} of its own"
    return left


def remove_definitions(admin: ClusterClient, definitions: Sequence[Document]) -> None:
    """Remove kinds with all their objects, without waiting for it."""
    for each in definitions:
        admin.delete(DEFINITIONS, each["metadata"]["name"])


def wait_until_removed(admin: ClusterClient, definitions: Sequence[Document]) -> None:
    """Wait until the cluster has none of the kinds."""
    names = [each["metadata"]["name"] for each in definitions]
    eventually(lambda: not any(admin.read(DEFINITIONS, name) for name in names), SOON)


def _is_established(admin: ClusterClient, name: str) -> bool:
    found = admin.read(DEFINITIONS, name) or {}
    conditions = found.get("status", {}).get("conditions") or ()
    return any(each["type"] == "Established" and each["status"] == "True" for each in conditions)
