"""The vulnerability database: the official one where the network allows, else the starter database."""

from supply_chain.adapters.database.held import Database, grype_environment, knows, read_database
from supply_chain.adapters.database.making import FEED, ensure_database

__all__ = ["FEED", "Database", "ensure_database", "grype_environment", "knows", "read_database"]
