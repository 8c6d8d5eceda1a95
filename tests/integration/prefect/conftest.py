"""Fixtures of tests on Prefect's test server, and of unit tests: their registry, engine and tools are in memory."""

from tests.support.fixtures import make, without_threads, world
from tests.support.prefect_server import at_work, machine, prefect_server, shared

__all__ = ["at_work", "machine", "make", "prefect_server", "shared", "without_threads", "world"]
