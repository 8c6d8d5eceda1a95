"""Mutants of a module: one small change each, and what names it whatever else in the file moves."""

from __future__ import annotations

import ast
import difflib
import random
import re
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code

from tests.mutation.operators import Node, operators


@dataclass(frozen=True)
class Name:
    """Which mutant it is. `nth` tells those apart that are otherwise called the same, from 1."""

    file: str
    function: str
    line: str
    becomes: str
    nth: int = 1

    def __str__(self) -> str:
        which = f" ({self.nth})" if self.nth > 1 else ""
        return f"{self.file} {self.function}{which}:\n    - {self.line}\n    + {self.becomes}"


@dataclass(frozen=True)
class Mutant:
    """A module's text with one change."""

    name: Name
    text: str
    lines: frozenset[int] = frozenset()
    """Lines of the statement that is changed, as `_statements` gives them."""


def changed_lines(diff: str) -> dict[str, frozenset[int]]:
    """Return the added and changed lines of each file in a diff that has no context and no prefixes of paths."""
    found: dict[str, frozenset[int]] = {}
    for part in re.split(r"^diff --git .*$", diff, flags=re.MULTILINE)[1:]:
        if name := re.search(r"^\+\+\+ (?!/dev/null)(.+)$", part, re.MULTILINE):
            hunks = re.findall(r"^@@ -\S+ \+(\d+)(?:,(\d+))? @@", part, re.MULTILINE)
            lines = (range(int(start), int(start) + int(count or 1)) for start, count in hunks)
            found[name[1]] = frozenset(line for each in lines for line in each)
    return found


def mutants_of(root: Path, file: str) -> Iterator[Mutant]:
    """Every mutant of a module that is another program than the module, each once."""
    original = (root / file).read_text()
    tree = ast.parse(original)
    existing, names, statements = {ast.dump(tree)}, set[Name](), _statements(tree)
    for node, text in _changed(original):
        meaning = ast.dump(ast.parse(text))
        if meaning in existing:
            continue
        existing.add(meaning)
        line, becomes = _difference(original, text)
        function = _function(node)
        nth = next(n for n in range(1, len(names) + 2) if Name(file, function, line, becomes, n) not in names)
        names.add(name := Name(file, function, line, becomes, nth))
        lines = min((each for each in statements if node.start_pos[0] in each), key=len, default=())
        yield Mutant(name, text, frozenset(lines))


def seed_of(mutants: Sequence[Mutant]) -> int:
    """Return the seed of a sample of these mutants: another one after any change to the modules."""
    return zlib.crc32("\n".join(str(each.name) for each in mutants).encode())


def drawn(mutants: Sequence[Mutant], number: int, seed: int) -> list[Mutant]:
    """About so many of them by chance, of each module its share and at least one; the same for the same seed."""
    chance = random.Random(seed)
    modules = {mutant.name.file: [each for each in mutants if each.name.file == mutant.name.file] for mutant in mutants}
    shares = {file: max(1, round(number * len(own) / len(mutants))) for file, own in modules.items()}
    return [each for file, own in modules.items() for each in chance.sample(own, min(shares[file], len(own)))]


def _changed(original: str) -> Iterator[tuple[Node, str]]:
    nodes = tuple(ast_nodes(get_ast(original)))
    for operator in operators():
        places = (node for node in nodes for _ in operator.mutation_positions(node))
        for occurrence, node in enumerate(places):
            text = mutate_code(original, operator, occurrence)
            assert text is not None, f"{operator} changed nothing"
            yield node, text


def _function(node: Node) -> str:
    """`Class.method`; the module's own statements are in `-`."""
    names = []
    while node := node.parent:
        if node.type in ("funcdef", "classdef"):
            names.append(node.name.value)
    return ".".join(reversed(names)) or "-"


def _statements(tree: ast.Module) -> list[range]:
    """The lines of each statement; of a statement with a body, those before it."""
    return [range(node.lineno, _header_end(node) + 1) for node in ast.walk(tree) if isinstance(node, ast.stmt)]


def _header_end(node: ast.stmt) -> int:
    body = getattr(node, "body", None)
    return max(node.lineno, body[0].lineno - 1) if body else node.end_lineno or node.lineno


def _difference(before: str, after: str) -> tuple[str, str]:
    lines = list(difflib.unified_diff(before.splitlines(), after.splitlines(), lineterm="", n=0))[2:]
    removed, added = ([line[1:] for line in lines if line.startswith(sign)] for sign in "-+")
    return " ".join(" ".join(removed).split()), " ".join(" ".join(added).split())
