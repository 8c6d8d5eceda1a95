"""Prefect blocks: the operator's settings. Blocks build the adapters; nothing else reads settings."""

from blocks.bridge import Bridge
from blocks.cluster import KubernetesCluster
from blocks.git import GitRepository
from blocks.host import ContainerHost
from blocks.inventory import Inventory
from blocks.notification import LogNotification
from blocks.tier import Tier
from blocks.workbench import Workbench

__all__ = [
    "Bridge",
    "ContainerHost",
    "GitRepository",
    "Inventory",
    "KubernetesCluster",
    "LogNotification",
    "Tier",
    "Workbench",
]
