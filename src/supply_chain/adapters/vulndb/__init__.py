"""The vulnerability database: grype's official one if the network allows it, else the starter database."""

from supply_chain.adapters.vulndb.building import FEED, ensure_database
from supply_chain.adapters.vulndb.current import Database, grype_environment, has_distribution, read_database
from supply_chain.adapters.vulndb.pinned import PinnedDatabase, pin_database

__all__ = [
    "FEED",
    "Database",
    "PinnedDatabase",
    "ensure_database",
    "grype_environment",
    "has_distribution",
    "pin_database",
    "read_database",
]
