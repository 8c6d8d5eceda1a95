"""Register the block types with a Prefect server."""

from __future__ import annotations

from blocks import Bridge, ContainerHost, GitRepository, Inventory, KubernetesCluster, LogNotification, Tier, Workbench


def register_types() -> None:
    """Register the types of blocks, and save the notification block, which needs no values."""
    for kind in (Tier, Bridge, ContainerHost, KubernetesCluster, GitRepository, LogNotification, Workbench, Inventory):
        kind.register_type_and_schema()
    LogNotification().save("operators", overwrite=True)
