"""Fixtures of these tests: deployment records in memory."""

from tests.support.records import deployed, registry

__all__ = ["deployed", "registry"]
