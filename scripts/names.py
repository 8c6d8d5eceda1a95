"""Check that no identifier uses a word of the project's former private language; `make check` runs it.

`scripts/language/identifiers.yaml` has the words. `scripts/language/exceptions.yaml` has the names that still contain
one, with the number of their definitions. These numbers only fall: a higher one is an error, and so is a lower one
until `python -m scripts.names --lower` has written it down. Names of tests also have fewer than 70 characters.
"""

from __future__ import annotations

import ast
import re
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

from scripts.project_files import list_files

ROOT = Path(__file__).parents[1]
WORDS = ROOT / "scripts/language/identifiers.yaml"
EXCEPTIONS = ROOT / "scripts/language/exceptions.yaml"
LONGEST_TEST = 69
"""The largest number of characters in the name of a test."""


@dataclass(frozen=True)
class Banned:
    """Banned words, each with the word to use: in every name, and only as the complete name."""

    words: Mapping[str, str]
    names: Mapping[str, str]

    def better(self, name: str) -> str | None:
        """Return what to use instead, if a name contains a banned word, or is that of a test and too long."""
        parts = re.findall(r"[A-Z]?[a-z0-9]+|[A-Z]+(?![a-z])", name)
        if name.startswith("test_") and len(name) > LONGEST_TEST:
            return f"at most {LONGEST_TEST} characters"
        if (complete := "_".join(parts).lower()) in self.names:
            return self.names[complete]
        return next((self.words[part.lower()] for part in parts if part.lower() in self.words), None)


@dataclass(frozen=True)
class Definition:
    """A name that a file defines, and that contains a banned word or is too long."""

    place: str
    name: str
    better: str


def defined(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield each name that a module defines, with its line."""
    for node in ast.walk(tree):
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                yield node.lineno, name
            case ast.arg(arg=name) | ast.Name(id=name, ctx=ast.Store()) | ast.Attribute(attr=name, ctx=ast.Store()):
                yield node.lineno, name
            case ast.ExceptHandler(name=str(name)) | ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)):
                yield node.lineno, name
            case ast.alias(asname=str(name)):
                yield 0, name


def banned_in(path: Path, text: str, banned: Banned) -> Iterator[Definition]:
    """Yield each banned name of a module, of its file, and of its directories below the top."""
    names = [*((1, part) for part in (*path.parent.parts[1:], path.stem)), *defined(ast.parse(text))]
    for line, name in names:
        if better := banned.better(name):
            yield Definition(f"{path}:{line}", name, better)


def check(definitions: list[Definition], exceptions: Mapping[str, int]) -> list[str]:
    """Return a message for each name that has more definitions than its exception allows, or fewer."""
    numbers = Counter(each.name for each in definitions)
    more = [each for each in definitions if numbers[each.name] > exceptions.get(each.name, 0)]
    fewer = [name for name, number in exceptions.items() if numbers[name] < number]
    return [f"{each.place}: `{each.name}`: use {each.better}" for each in more] + [
        f"{EXCEPTIONS.name}: `{name}` has {numbers[name]} definitions: run `python -m scripts.names --lower`"
        for name in fewer
    ]


def lowered(definitions: list[Definition], exceptions: Mapping[str, int]) -> dict[str, int]:
    """Return the exceptions with the present numbers, where these are lower."""
    numbers = Counter(each.name for each in definitions)
    return {name: min(number, numbers[name]) for name, number in exceptions.items() if numbers[name]}


def main() -> None:
    """Print what is wrong in the project's files, and exit with status 1 if there is anything."""
    banned = Banned(**yaml.safe_load(WORDS.read_text(encoding="utf-8")))
    paths = map(Path, list_files(ROOT, "*.py"))
    definitions = [
        each for path in paths for each in banned_in(path, (ROOT / path).read_text(encoding="utf-8"), banned)
    ]
    exceptions = yaml.safe_load(EXCEPTIONS.read_text(encoding="utf-8")) or {}
    if "--lower" in sys.argv:
        exceptions = lowered(definitions, exceptions)
        EXCEPTIONS.write_text(yaml.safe_dump(exceptions), encoding="utf-8")
    wrong = check(definitions, exceptions)
    sys.stdout.writelines(f"{line}\n" for line in wrong)
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
