"""The vulnerability database: grype's official one if the network allows it, else the starter database."""

from supply_chain.adapters.vulndb.building import FEED, ensure_database
from supply_chain.adapters.vulndb.current import Database, grype_environment, knows, read_database
from supply_chain.adapters.vulndb.pinned import Pinned, pinned

__all__ = ["FEED", "Database", "Pinned", "ensure_database", "grype_environment", "knows", "pinned", "read_database"]
