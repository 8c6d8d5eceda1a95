"""Makes the vulnerability database of the laptop."""

from cscm_laptop.vulndb.building import FEED, ensure_database

__all__ = ["FEED", "ensure_database"]
