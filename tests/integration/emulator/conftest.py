"""The fixtures of these tests: an emulator in an environment of its own."""

from tests.integration.emulator.roles import account
from tests.support.emulator import crane, emulator, python

__all__ = ["account", "crane", "emulator", "python"]
