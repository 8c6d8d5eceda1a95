"""Patterns for the bytes of files that anybody may have made."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

import re2


def compile_linear_pattern(expression: bytes) -> re2.Pattern[bytes]:
    """Compile an expression with RE2, which searches in linear time.

    For several alternatives it is much faster than `bytes.find` for each.
    """
    return re2.compile(expression, _options())


def _options() -> re2.Options:
    options = re2.Options()
    options.encoding = re2.Options.Encoding.LATIN1
    options.never_capture = True
    return options


def compile_alternatives(*contents: bytes) -> re2.Pattern[bytes]:
    """Compile one pattern that matches any of the contents."""
    return compile_linear_pattern(b"|".join(map(re.escape, contents)))


def search_for(contents: Iterable[bytes]) -> Callable[[bytes], frozenset[bytes]]:
    """Return a function that returns which of the contents occur in another one.

    It reads that once, which is 50 times as fast as `in` for each of 200.
    """
    listed = list(dict.fromkeys(contents))
    patterns = re2.Set.SearchSet(_options())
    for each in listed:
        patterns.Add(re.escape(each))
    patterns.Compile()
    return lambda content: frozenset(listed[number] for number in patterns.Match(content) or ())
