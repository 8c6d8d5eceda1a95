"""The fixtures of these tests: the interpreter of the emulator and the program that pushes to it."""

from tests.support.emulator import crane, python

__all__ = ["crane", "python"]
