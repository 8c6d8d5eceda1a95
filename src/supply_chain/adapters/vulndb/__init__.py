"""The vulnerability database in use: grype's official one, or the laptop's starter database."""

from supply_chain.adapters.vulndb.current import (
    Database,
    grype_environment,
    has_distribution,
    read_database,
    read_publications,
)
from supply_chain.adapters.vulndb.pinned import PinnedDatabase, pin_database

__all__ = [
    "Database",
    "PinnedDatabase",
    "grype_environment",
    "has_distribution",
    "pin_database",
    "read_database",
    "read_publications",
]
