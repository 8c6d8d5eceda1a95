"""Comments by which the author of a Python source declares a finding of bandit harmless: `# nosec` and a reason.

bandit itself also accepts such a comment without a reason, and every word that begins with `nosec`.
"""

from __future__ import annotations

import io
import re
import tokenize
from dataclasses import dataclass

COMMENT = re.compile(r"#\s*nosec(?!\w):?(?P<text>[^#]*)")
"""The comment. Its text ends at the next comment in the line."""
TEST_ID = re.compile(r"\bB\d+\b")
WORD = re.compile(r"[^\W\d_]{2}")
FEWEST_WORDS = 2
"""Minimum words of a reason, besides the codes and names of bandit's tests."""


@dataclass(frozen=True)
class Comment:
    """A comment in a line."""

    tests: frozenset[str]
    """Codes of the findings that it declares harmless; empty: all."""
    has_reason: bool

    def covers(self, test_id: str) -> bool:
        """Return whether the comment is about a finding with this code."""
        return not self.tests or test_id in self.tests


def read_comments(source: bytes) -> dict[int, Comment]:
    """Return line → comment in a Python source; those in strings do not count.

    A source that cannot be read to its end has the comments before that.
    """
    comments = dict[int, Comment]()
    if b"nosec" not in source:
        return comments
    try:
        for token in tokenize.tokenize(io.BytesIO(source).readline):
            if token.type == tokenize.COMMENT and (match := COMMENT.search(token.string)):
                comments[token.start[0]] = _parse(match["text"])
    except (tokenize.TokenError, SyntaxError, UnicodeError):
        pass
    return comments


def _parse(text: str) -> Comment:
    words = [word for word in text.split() if WORD.search(word) and "_" not in word]
    return Comment(frozenset(TEST_ID.findall(text)), len(words) >= FEWEST_WORDS)
