"""The vulnerability database in use: grype's official one, or the laptop's starter database."""

from supply_chain.adapters.vulndb.current import (
    Database,
    has_distribution,
    make_grype_environment,
    read_database,
    read_publications,
)
from supply_chain.adapters.vulndb.pinned import PinnedDatabase, pin_database

__all__ = [
    "Database",
    "PinnedDatabase",
    "has_distribution",
    "make_grype_environment",
    "pin_database",
    "read_database",
    "read_publications",
]
