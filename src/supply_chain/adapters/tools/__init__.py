"""The external programs of the chain: pinned in one file, then found, downloaded or built, and verified."""

from supply_chain.adapters.tools.pins import Pins
from supply_chain.adapters.tools.toolbox import Toolbox, ToolReport

__all__ = ["Pins", "ToolReport", "Toolbox"]
