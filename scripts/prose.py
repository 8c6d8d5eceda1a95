"""Check the language of the documentation, docstrings and messages; `make check` runs it.

proselint applies its own checks for plain English to the documentation. Here are the project's checks: terms of the
glossary (`scripts/language/terms.yaml`) everywhere; other words for them (`variants.yaml`) and long sentences in the
documentation.
"""

from __future__ import annotations

import ast
import itertools
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import yaml
from proselint.checks import __register__ as general
from proselint.config import Config
from proselint.registry import CheckRegistry
from proselint.registry.checks import Check, CheckResult
from proselint.registry.checks.types import PreferredForms
from proselint.tools import LintFile

from scripts.project_files import list_files

ROOT = Path(__file__).parents[1]
TERMS = ROOT / "scripts/language/terms.yaml"
VARIANTS = ROOT / "scripts/language/variants.yaml"
MOST_WORDS = 35
"""The largest number of words in a sentence."""
GENERAL = (
    "archaism", "cliches", "hedging", "industrial_language", "malapropisms", "misc",
    "mixed_metaphors", "needless_variants", "nonwords", "oxymorons", "redundancy", "uncomparables", "weasel_words",
)  # fmt: skip
"""The checks of proselint that apply to technical text."""
NOT = ("misc.phrasal_adjectives.ly",)
"""Checks among these that take `supply-chain` for an adverb."""
OTHER = ("CHANGELOG.md", "docs/progress.md", "tests/")
"""History, and names of tests."""

CODE = re.compile(
    r"^```.*?^```$|`[^`\n]+`|<!--.*?-->|<[^>\n]+>|\]\([^)\n]*\)|https?://\S+|(?<!\*)\*[^*\n]+\*(?!\*)",
    re.MULTILINE | re.DOTALL,
)
"""What is not prose in a page: code, comments, tags, addresses and values in italics."""
ENDS = re.compile(r"[.!?…](?=[\s)*\"'])|\n\s*\n|\n\s*(?:[-*|#>]|\d+\.)\s|\s\|\s|\n---|:\s*\n|\n(?=.*\s\|\s)")
"""The end of a sentence, list item, cell or paragraph."""


def long_sentences(text: str, check: Check) -> Iterator[CheckResult]:
    """Yield each sentence with more than `MOST_WORDS` words."""
    start = 0
    for end in (*(match.end() for match in ENDS.finditer(text)), len(text)):
        words = re.findall(r"\S*\w\S*", text[start:end])
        if len(words) > MOST_WORDS:
            begin = start + len(text[start:end]) - len(text[start:end].lstrip())
            yield CheckResult(check.path, f"{len(words)} words in a sentence: make it two", (begin, end), None)
        start = end


def prose(page: str) -> str:
    """Return a Markdown page with a word in place of each piece of code, in the same lines."""
    numbers = itertools.count()
    return CODE.sub(lambda match: f"x{next(numbers)}" + "\n" * match[0].count("\n"), page)


def strings(source: str) -> Iterator[tuple[int, str]]:
    """Yield every docstring and message of a module, with its line; words alone are keys, not text."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value:
            yield node.lineno, re.sub(r"`[^`\n]+`", "x", node.value)


def register() -> None:
    """Register the checks with proselint: its own, and those of the project."""
    terms, variants = (PreferredForms(yaml.safe_load(file.read_text(encoding="utf-8"))) for file in (TERMS, VARIANTS))
    registry = CheckRegistry()
    registry.register_many(general)
    registry.register(Check(terms, path="project.terms", message="write {} in place of {!r}"))
    registry.register(Check(variants, path="project.variants", message="write {} in place of {!r}"))
    registry.register(Check(long_sentences, path="project.sentences"))


def wrong_in(name: str, text: str, checks: tuple[str, ...], line: int = 1) -> Iterator[str]:
    """Yield a message for each finding of the given checks in a text that begins in a line of a file."""
    config: Config = {"max_errors": 1000, "checks": dict.fromkeys(NOT, False) | dict.fromkeys(checks, True)}
    for mistake in LintFile(name, text).lint(config):
        yield f"{name}:{line + mistake.pos[0] - 1}: {mistake.check_result.message}"


def main() -> None:
    """Print what is wrong in the project's files, and exit with status 1 if there is anything."""
    register()
    wrong: list[str] = []
    for name in (each for each in list_files(ROOT, "*.md", "*.py") if not each.startswith(OTHER)):
        text = (ROOT / name).read_text(encoding="utf-8")
        if name.endswith(".md"):
            wrong += wrong_in(name, prose(text), (*GENERAL, "project"))
        else:
            wrong += (each for line, part in strings(text) for each in wrong_in(name, part, ("project.terms",), line))
    sys.stdout.writelines(f"{line}\n" for line in dict.fromkeys(wrong))
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
