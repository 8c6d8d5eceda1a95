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
LINE_END = re.compile(rb"\r\n?")
"""Ends of lines of Python besides newlines, which the tokenizer does not know."""
TEST_ID = re.compile(r"\bB\d+\b")
WORD = re.compile(r"[^\W\d_]{2}")
FEWEST_WORDS = 2
"""Minimum words of a reason, besides the codes and names of bandit's tests."""


@dataclass(frozen=True)
class Comment:
    """A comment in a line."""

    tests: frozenset[str]
    """Codes of the findings that it declares harmless."""
    has_names: bool
    """Whether it names bandit's tests, which this program does not know by name, in place of codes."""
    has_reason: bool

    def covers(self, test_id: str) -> bool:
        """Return whether the comment is about a finding with this code; without codes and names it is about all."""
        return test_id in self.tests or not (self.tests or self.has_names)


def read_comments(source: bytes) -> dict[int, Comment]:
    """Return line → comment in a Python source; those in strings do not count.

    A source that cannot be read to its end has the comments before that.
    """
    comments = dict[int, Comment]()
    if b"nosec" not in source:
        return comments
    try:
        for token in tokenize.tokenize(io.BytesIO(LINE_END.sub(b"\n", source)).readline):
            if token.type == tokenize.COMMENT and (match := COMMENT.search(token.string)):
                comments[token.start[0]] = _parse(match["text"])
    except (tokenize.TokenError, SyntaxError, UnicodeError):
        pass
    return comments


def _parse(text: str) -> Comment:
    names = [word for word in text.split() if "_" in word]
    words = [word for word in text.split() if WORD.search(word) and word not in names]
    return Comment(frozenset(TEST_ID.findall(text)), bool(names), len(words) >= FEWEST_WORDS)
