"""Order of the versions of Debian packages (deb-version(7))."""

from __future__ import annotations

import re

_PART = re.compile(r"([^0-9]*)([0-9]*)")
_Part = tuple[tuple[int, ...], tuple[int, str]]
_NOTHING: _Part = ((0,), (0, ""))


def make_version_key(version: str) -> tuple[tuple[int, str], tuple[_Part, ...], tuple[_Part, ...]]:
    """Return a key that sorts versions as dpkg does; any text has one."""
    epoch, colon, rest = version.partition(":")
    rest = rest if colon else version
    upstream, hyphen, revision = rest.rpartition("-")
    return _number(epoch if colon else ""), _split(upstream if hyphen else rest), _split(revision if hyphen else "")


def _split(text: str) -> tuple[_Part, ...]:
    parts = [((*map(_order, letters), 0), _number(digits)) for letters, digits in _PART.findall(text)]
    while parts and parts[-1] == _NOTHING:
        parts.pop()
    return (*parts, _NOTHING)


def _order(letter: str) -> int:
    """Return the place of a character: a tilde before the end, which is 0, letters before the others."""
    if letter == "~":
        return -1
    return ord(letter) if letter.isascii() and letter.isalpha() else ord(letter) + 256


def _number(digits: str) -> tuple[int, str]:
    """Return a key that sorts numbers of any length."""
    digits = digits.lstrip("0")
    return len(digits), digits
