"""Read the sources of the reference pages: reasons and constants in the code, and keys of models."""

from __future__ import annotations

import ast
import inspect
import itertools
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from pydantic import BaseModel, TypeAdapter

from supply_chain.evidence.checks import Check
from supply_chain.model.image import DIGEST
from supply_chain.model.tier import Gate
from supply_chain.vulnerability.findings import Severity

VALUES: dict[str, list[str]] = {
    "check": [check.value for check in Check],
    "severity": [severity.value for severity in Severity],
    "gate": [Gate.INTAKE.value, Gate.RELEASE.value],
}
"""The possible values of a placeholder in a code."""


@dataclass(frozen=True)
class Given:
    """A reason in the source; values that are known only at run time are in italics."""

    code: str
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
                for value in words.variants(parts["code"]):
                    said = Words(self, node, {**bound, **value})
                    yield Given(*(said.text(parts[part]) for part in ("code", "fact", "remedy")))
            elif follow and name in self.functions and name != function:
                names = [argument.arg for argument in self.functions[name].args.args]
                constants = {
                    parameter: value.value
                    for parameter, value in zip(names, call.args, strict=False)
                    if isinstance(value, ast.Constant) and isinstance(value.value, str)
                }
                yield from self.given(name, constants)


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
                return "".join(self.text(part) for part in parts)
            case ast.FormattedValue(value=value):
                return self.text(value)
            case ast.IfExp(test=test, body=body, orelse=other) if (key := ast.unparse(test)) in self.bound:
                return self.text(body if self.bound[key] else other)
            case ast.IfExp(body=body, orelse=other):
                return " / ".join(said for said in (self.text(body), self.text(other)) if said)
            case ast.Subscript(value=ast.Name(id=name), slice=key) if name.isupper():
                return str(getattr(self.source.module, name)[self.text(key)])
            case ast.Attribute(value=ast.Subscript(value=ast.Name(id=name), slice=key), attr=field) if name.isupper():
                return str(getattr(getattr(self.source.module, name)[self.text(key)], field))
            case ast.Name(id=name) if isinstance(getattr(self.source.module, name, None), str):
                return str(getattr(self.source.module, name))
            case ast.Call(func=ast.Name(id="pluralize"), args=[_, noun]):
                return f"*n* {self.text(noun)}s"
            case ast.Call(func=ast.Name(id=name)) if name in self.source.functions:
                return self._answers(name)
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

    def _answers(self, function: str) -> str:
        """Return what another function of the module returns."""
        node = self.source.functions[function]
        answers = [each.value for each in ast.walk(node) if isinstance(each, ast.Return) and each.value]
        inner = Words(self.source, node, {})
        said = [inner.text(answer) for answer in answers if isinstance(answer, ast.JoinedStr | ast.Constant)]
        return ", or ".join(said) or f"*{function.strip('_').replace('_', ' ')}*"

    def _named(self, node: ast.expr) -> str:
        name = _name(node)
        if name in self.bound:
            return self.bound[name]
        if isinstance(node, ast.Name) and (made := self._made(name)) is not None:
            return made
        return f"*{name.replace('_', ' ')}*"

    def _made(self, name: str) -> str | None:
        """Return the text of a local variable, if it is a choice of words."""
        made = [
            each.value
            for each in ast.walk(self.function)
            if isinstance(each, ast.Assign) and any(isinstance(t, ast.Name) and t.id == name for t in each.targets)
        ]
        words = all(isinstance(each, ast.IfExp | ast.JoinedStr | ast.Constant) for each in made)
        return " / ".join(map(self.text, made)) if made and words else None


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
    found = []
    for constant, said in itertools.pairwise(body):
        match constant, said:
            case (
                ast.Assign(value=ast.Constant(value=str(value))),
                ast.Expr(value=ast.Constant(value=str(text))),
            ):
                found.append((value, " ".join(text.split())))
    return found


def fields(models: Iterable[type[BaseModel] | TypeAdapter[Any]], level: int = 2, *, written: bool = True) -> str:
    """Return a table of keys for every model, and once for each nested model.

    `written` is whether people write the documents; otherwise, the project does.
    """
    sections: dict[str, str] = {}
    for model in models:
        adapter = model if isinstance(model, TypeAdapter) else TypeAdapter(model)
        schema = adapter.json_schema(mode="validation" if written else "serialization")
        known = schema.pop("$defs", {})
        if "properties" in schema:
            known[schema["title"]] = schema
        for name in _reached(schema, known):
            sections.setdefault(name, _section(name, known, level, written))
    return "\n".join(sections.values())


def _reached(schema: dict[str, Any], known: Mapping[str, dict[str, Any]]) -> list[str]:
    """Return the names of a schema's models, itself first, in the order of their first use."""
    found: list[str] = []
    ahead = [schema]
    while ahead:
        here = ahead.pop(0)
        if "properties" in here and here["title"] not in found:
            found.append(here["title"])
        inside = json.dumps({**here, "discriminator": None})
        ahead += [known[name] for name in re.findall(r'"#/\$defs/(\w+)"', inside) if name not in found]
    return found


def _section(name: str, known: Mapping[str, dict[str, Any]], level: int, written: bool) -> str:
    schema = known[name]
    rows = []
    for key, each in schema["properties"].items():
        referred = next((known[name] for name in re.findall(r'"#/\$defs/(\w+)"', json.dumps(each))), {})
        default = "required" if key in schema.get("required", []) else _default(each)
        meaning = each.get("description") or referred.get("description", "")
        rows.append([f"`{key}`", value_of(each, known), *([default] if written else []), meaning])
    head = ["key", "value", *(["default"] if written else []), "meaning"]
    return f"{'#' * level} {name}\n\n{' '.join(schema.get('description', '').split())}\n\n" + table(head, rows)


def value_of(schema: dict[str, Any], known: Mapping[str, dict[str, Any]]) -> str:  # noqa: PLR0911, PLR0912 - one return for each form
    """Return a description of the values that a schema allows."""
    match schema:
        case {"$ref": ref}:
            name = ref.rpartition("/")[2]
            return f"[{name}](#{name.lower()})" if "properties" in known[name] else value_of(known[name], known)
        case {"anyOf": options} | {"oneOf": options}:
            return " or ".join(value_of(option, known) for option in options)
        case {"const": value}:
            return f"`{json.dumps(value)}`"
        case {"enum": values}:
            return ", ".join(f"`{value}`" for value in values)
        case {"type": "array"}:
            return f"list of {value_of(schema.get('items', {}), known)}"
        case {"type": "object", "additionalProperties": dict(each)}:
            return f"name → {value_of(each, known)}"
        case {"type": "integer", "minimum": low, "maximum": high}:
            return f"{low} to {high}"
        case {"type": "integer", "minimum": low}:
            return f"{low} or more"
        case {"type": "string", "pattern": pattern} if pattern == f"^{DIGEST}$":
            return "`sha256:…`"
        case {"type": "string", "pattern": pattern} if "|" not in pattern:  # alternatives are too long for a table
            return f"text like `{pattern}`"
        case {"type": "string", "format": str(kind)}:
            return kind
        case {"type": list(kinds)}:
            return " or ".join(value_of({"type": kind}, known) for kind in kinds)
        case {"type": str(kind)}:
            return {"string": "text", "integer": "number", "boolean": "`true`, `false`"}.get(kind, kind)
    return "anything"


def _default(schema: dict[str, Any]) -> str:
    value = schema.get("default")
    return "" if isinstance(value, dict) and "$ref" in schema else f"`{json.dumps(value)}`"


def table(head: list[str], rows: list[list[str]]) -> str:
    """Return a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(_cell(cell) for cell in line)} |" for line in lines) + "\n"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
