"""The program that a Python interpreter's arguments name."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Sequence
from typing import NamedTuple

INTERPRETER = re.compile(r"(python|pypy)(\d+(\.\d+)*t?)?")
"""Name of a Python interpreter."""


def is_interpreter(word: str) -> bool:
    """Return whether a word of a command is a Python interpreter, by its name."""
    return bool(INTERPRETER.fullmatch(posixpath.basename(word)))


class Program(NamedTuple):
    """What a Python interpreter runs; at most one field is not empty, and none for standard input."""

    module: str = ""
    script: str = ""
    code: str = ""
    """The text after `-c`."""


def parse_arguments(arguments: Sequence[str]) -> Program:
    """Return what a Python interpreter with these arguments runs.

    Options without values may be joined with the next one, as in `-Bm`.
    """
    words = list(arguments)
    while words:
        word = words.pop(0)
        if not word.startswith("-"):
            return Program(script=word)
        long = word.startswith("--")
        if word == "-" or (long and word != "--check-hash-based-pycs"):
            return Program()
        option = None if long else re.search(r"[cmWX]", word)
        value = word[option.end() :] if option else ""
        if (option or long) and not value:
            value = words.pop(0) if words else ""
        if option and option[0] in "cm":
            return Program(module=value) if option[0] == "m" else Program(code=value)
    return Program()
