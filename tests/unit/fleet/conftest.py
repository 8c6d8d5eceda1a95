"""The fixture of these tests: a fleet in memory."""

from tests.support.fleet import fleet

__all__ = ["fleet"]
