"""The inventory in a database: SQLite in a file, or PostgreSQL, according to its address."""

from supply_chain.adapters.database.store import SqlInventory, open_inventory

__all__ = ["SqlInventory", "open_inventory"]
