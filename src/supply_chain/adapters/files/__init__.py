"""Adapters for files that others may change during a read, and for files that only this user may read."""
