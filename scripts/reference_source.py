"""Read reasons and documented constants in the code for the reference pages."""

from __future__ import annotations

import ast
import inspect
import itertools
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import ModuleType

from supply_chain.evidence.checks import Check
from supply_chain.model.tier import Gate
from supply_chain.vulnerability.findings import Severity

VALUES: dict[str, list[str]] = {
    "check": [check.value for check in Check],
    "severity": [severity.value for severity in Severity],
    "gate": [Gate.INTAKE.value, Gate.RELEASE.value],
}
"""The possible values of a placeholder in a code."""
NAMES = {
    "describe_end": "why it ended",
    "summarize_error": "why",
    "host_namespaces": "namespaces",
    "shared": "namespaces or volumes",
    "unconfined": "security options",
}
"""What a page calls a value whose name in the code is not clear to its readers."""
PLACEHOLDER = r"\*[^*]+\*"


@dataclass(frozen=True)
class Given:
    """A reason in the source, with all codes that share it; values that are known only at run time are in italics."""

    codes: tuple[str, ...]
    fact: str
    remedy: str


class Source:
    """The functions of a module, and the reasons (calls of `kind`) in them."""

    def __init__(self, module: ModuleType, kind: str) -> None:
        self.module, self.kind = module, kind
        tree = ast.parse(inspect.getsource(module))
        self.functions = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}

    def all(self) -> Iterator[Given]:
        """Yield every reason in the module, in its order."""
        for name in self.functions:
            yield from self.given(name, {}, follow=False)

    def given(self, function: str, bound: Mapping[str, str], *, follow: bool = True) -> Iterator[Given]:
        """Yield the reasons of a function, and of the functions of this module that it calls."""
        node = self.functions[function]
        words = Words(self, node, bound)
        for call in (each for each in ast.walk(node) if isinstance(each, ast.Call)):
            name = call.func.id if isinstance(call.func, ast.Name) else ""
            if name == self.kind:
                parts = {word.arg: word.value for word in call.keywords}
                shared: dict[tuple[str, ...], list[Given]] = {}
                for value in words.variants(parts["code"]):
                    text = Words(self, node, {**bound, **value}).text
                    own = Given((text(parts["code"]),), text(parts["fact"]), text(parts["remedy"]))
                    shared.setdefault(tuple(_general(each, value) for each in (own.fact, own.remedy)), []).append(own)
                for (fact, remedy), same in shared.items():
                    codes = tuple(code for each in same for code in each.codes)
                    yield Given(codes, fact, remedy) if len(same) > 1 else same[0]
            elif follow and name in self.functions and name != function:
                names = [argument.arg for argument in self.functions[name].args.args]
                constants = {
                    parameter: value.value
                    for parameter, value in zip(names, call.args, strict=False)
                    if isinstance(value, ast.Constant) and isinstance(value.value, str)
                }
                yield from self.given(name, constants)


def _general(text: str, values: Mapping[str, str]) -> str:
    """Return a text with the names of placeholders in place of their values."""
    for name, value in values.items():
        if value in VALUES.get(name, ()):
            text = re.sub(rf"`{value}`|\b{value}\b", f"*{name}*", text)
    return text


@dataclass(frozen=True)
class Words:
    """The text that an expression of a function produces, with the values in `bound` inserted."""

    source: Source
    function: ast.FunctionDef
    bound: Mapping[str, str]

    def text(self, node: ast.expr) -> str:  # noqa: PLR0911 - one return for each form
        """Return the words that are known; the rest by its name, in italics."""
        match node:
            case ast.Constant(value=str(value)):
                return value
            case ast.JoinedStr(values=parts):
                return self._joined(parts)
            case ast.FormattedValue(value=value):
                return self.text(value)
            case ast.IfExp(test=test, body=body, orelse=other) if (key := ast.unparse(test)) in self.bound:
                return self.text(body if self.bound[key] else other)
            case ast.IfExp(body=body, orelse=other):
                return " / ".join(text for text in (self.text(body), self.text(other)) if text)
            case ast.Subscript(value=ast.Name(id=name), slice=key) if name.isupper():
                return str(getattr(self.source.module, name)[self.text(key)])
            case ast.Attribute(value=ast.Subscript(value=ast.Name(id=name), slice=key), attr=field) if name.isupper():
                return str(getattr(getattr(self.source.module, name)[self.text(key)], field))
            case ast.Attribute(value=ast.Name(id=name), attr=field) if name.isupper():
                return str(getattr(getattr(self.source.module, name), field))
            case ast.Name(id=name) if isinstance(getattr(self.source.module, name, None), str):
                return str(getattr(self.source.module, name))
            case ast.Call(func=ast.Name(id="pluralize"), args=[_, noun]):
                return f"*n* {self.text(noun)}s"
            case ast.Call(func=ast.Name(id=name), args=arguments) if name in self.source.functions:
                return self._answers(name) or self._named(arguments[0] if arguments else node)
        return self._named(node)

    def variants(self, code: ast.expr) -> list[dict[str, str]]:
        """Return each combination of values of the placeholders and choices in a code."""
        parts = [part.value for part in ast.walk(code) if isinstance(part, ast.FormattedValue)]
        choices = [part for part in parts if isinstance(part, ast.IfExp)]
        free = {
            _name(part): VALUES[_name(part)] for part in parts if part not in choices and _name(part) not in self.bound
        }
        free |= {ast.unparse(choice.test): ["yes", ""] for choice in choices}
        return [dict(zip(free, values, strict=True)) for values in itertools.product(*free.values())]

    def _joined(self, parts: list[ast.expr]) -> str:
        """Return the text of parts without placeholders that directly follow another one."""
        texts: list[str] = []
        for text in map(self.text, parts):
            if not (texts and re.fullmatch(PLACEHOLDER, text) and re.fullmatch(PLACEHOLDER, texts[-1])):
                texts.append(text)
        return "".join(texts)

    def _answers(self, function: str) -> str:
        """Return the texts that another function of the module returns; empty if there are none."""
        node = self.source.functions[function]
        answers = [each.value for each in ast.walk(node) if isinstance(each, ast.Return) and each.value]
        inner = Words(self.source, node, {})
        texts = [inner.text(answer) for answer in answers if isinstance(answer, ast.JoinedStr | ast.Constant)]
        return ", or ".join(texts)

    def _named(self, node: ast.expr) -> str:
        name = _name(node)
        if name in self.bound:
            return self.bound[name]
        if isinstance(node, ast.Name) and (text := self._made(name)) is not None:
            return text
        return f"*{NAMES.get(name, name.replace('_', ' '))}*"

    def _made(self, name: str) -> str | None:
        """Return the text of a local variable, if it is a text, or a choice that has words."""
        values = [
            each.value
            for each in ast.walk(self.function)
            if isinstance(each, ast.Assign) and any(isinstance(t, ast.Name) and t.id == name for t in each.targets)
        ]
        return " / ".join(map(self.text, values)) if values and all(map(self._is_text, values)) else None

    def _is_text(self, node: ast.expr) -> bool:
        """Return whether an expression is a text, or a choice that has words."""
        words = re.sub(PLACEHOLDER, "", self.text(node)) if isinstance(node, ast.IfExp) else ""
        return isinstance(node, ast.JoinedStr | ast.Constant) or re.search(r"\w", words) is not None


def _name(node: ast.expr) -> str:  # noqa: PLR0911 - one return for each form
    """Return the name by which a reader would call a value."""
    match node:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
        case ast.Subscript(slice=ast.Constant(value=str(name))):
            return name
        case ast.Call(func=ast.Name(id="len")):
            return "n"
        case ast.Call(func=ast.Name(id=name), args=[ast.Name(), *_]) if name != "str":
            return name
        case ast.Call(args=[first, *_]) | ast.Subscript(value=first) | ast.BinOp(left=first):
            return _name(first)
        case ast.Call(func=function):
            return _name(function)
    return "…"


def documented(module: ModuleType, owner: str | None = None) -> list[tuple[str, str]]:
    """Return value and docstring of each constant of a module, or of one of its classes, that has a docstring."""
    body: list[ast.stmt] = ast.parse(inspect.getsource(module)).body
    if owner:
        (body,) = [node.body for node in body if isinstance(node, ast.ClassDef) and node.name == owner]
    values = []
    for constant, docstring in itertools.pairwise(body):
        match constant, docstring:
            case (
                ast.Assign(value=ast.Constant(value=str(value))),
                ast.Expr(value=ast.Constant(value=str(text))),
            ):
                values.append((value, " ".join(text.split())))
    return values
