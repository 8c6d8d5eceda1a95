"""What an operator configures. A block builds the adapters; nothing else reads settings."""

from blocks.host import ContainerHost
from blocks.inventory import Inventory
from blocks.tier import Tier
from blocks.workbench import Workbench

__all__ = ["ContainerHost", "Inventory", "Tier", "Workbench"]
