"""The vulnerability database in use: grype's official one, or the laptop's starter database."""

from supply_chain.adapters.vulndb.current import Database, grype_environment, knows, read_database
from supply_chain.adapters.vulndb.pinned import Pinned, pinned

__all__ = ["Database", "Pinned", "grype_environment", "knows", "pinned", "read_database"]
