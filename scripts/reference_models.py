"""Render the keys of documents that people write for the reference pages."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel, TypeAdapter

from supply_chain.model.image import DIGEST

Definitions = Mapping[str, dict[str, Any]]
"""The schemas of all models that a schema refers to, by name."""


def written(model: type[BaseModel] | TypeAdapter[Any]) -> list[tuple[dict[str, Any], Definitions]]:
    """Return the schema of a document that people write, and of each model in it, with all definitions."""
    adapter = model if isinstance(model, TypeAdapter) else TypeAdapter(model)
    return _reached(adapter.json_schema(mode="validation"))


def lines(schema: Mapping[str, Any], definitions: Definitions) -> list[str]:
    """Return a line for each key of a document that people write; keys that differ in nothing else share one."""
    required = schema.get("required", [])
    shared: dict[str, list[str]] = {}
    for key, each in schema["properties"].items():
        text = f"{_kind(each, definitions)}{_default(key, each, required)}"
        if "description" in each or _part(each, definitions) is None:  # otherwise its section has the description
            text += f": {_meaning(each, definitions)}"
        shared.setdefault(text, []).append(f"`{key}`")
    return [f"{', '.join(keys)}{text}" for text, keys in shared.items()]


def flat_lists(forms: Mapping[str, type[BaseModel]]) -> str:
    """Return a line for each key of a document that people write: those that all of its forms have, and of each more.

    Keys of its parts follow a dot. `forms` has the title of each.
    """
    keys: dict[str, list[str]] = {}
    for title, model in forms.items():
        (schema, definitions), *_ = written(model)
        keys[title] = [f"- {line}\n" for line in _flat_lines(schema, definitions)]
    first, *others = keys.values()
    common = [line for line in first if all(line in other for other in others)]
    own = (
        f"\n{title}, also:\n\n" + "".join(line for line in entries if line not in common)
        for title, entries in keys.items()
    )
    return "".join([*common, *own])


def _flat_lines(schema: Mapping[str, Any], definitions: Definitions, prefix: str = "") -> Iterator[str]:
    for key, each in schema["properties"].items():
        name, part = f"{prefix}{key}", _part(each, definitions)
        kinds = [option.get("type") for option in each.get("anyOf", [each])]
        many = "[]" if "array" in kinds else ".NAME" if "object" in kinds else ""
        if part is None or many or "description" in each:
            kind = {"[]": " list", ".NAME": " map"}.get(many, "") if part else _kind(each, definitions)
            default = _default(key, each, schema.get("required", []))
            yield f"`{name}`{kind}{default}: {_meaning(each, definitions)}"
        if part is not None:
            yield from _flat_lines(part, definitions, f"{name}{many}.")


def _kind(schema: dict[str, Any], definitions: Definitions) -> str:
    kind = value_of(schema, definitions)
    return "" if kind == "text" else f" {kind}"


def _reached(schema: dict[str, Any]) -> list[tuple[dict[str, Any], Definitions]]:
    """Return the models of a schema, itself first, in the order of their first use, each with all definitions."""
    definitions = schema.pop("$defs", {})
    schemas: dict[str, dict[str, Any]] = {}
    ahead = [schema]
    while ahead:
        here = ahead.pop(0)
        if "properties" in here:
            schemas.setdefault(here["title"], here)
        ahead += [definitions[name] for name in _names({**here, "discriminator": None}) if name not in schemas]
    return [(each, definitions) for each in schemas.values()]


def _names(schema: Any) -> list[str]:
    return re.findall(r'"#/\$defs/(\w+)"', json.dumps(schema))


def _part(schema: dict[str, Any], definitions: Definitions) -> dict[str, Any] | None:
    """Return the model that a key, a list or a map consists of."""
    models = [definitions[name] for name in _names(schema) if "properties" in definitions[name]]
    return models[0] if len(models) == 1 else None


def _about(schema: Mapping[str, Any]) -> str:
    return " ".join(schema.get("description", "").split())


def _meaning(schema: dict[str, Any], definitions: Definitions) -> str:
    return schema.get("description") or next((_about(definitions[name]) for name in _names(schema)), "")


def value_of(schema: dict[str, Any], definitions: Definitions) -> str:  # noqa: PLR0911, PLR0912 - one return for each form
    """Return a description of the values that a schema allows; `[]` is a list, and `?` stands for null."""
    match schema:
        case {"$ref": ref}:
            model = definitions[ref.rpartition("/")[2]]
            if "properties" not in model:
                return value_of(model, definitions)
            title = model["title"]
            return f"[{title}](#{title.lower()})"
        case {"anyOf": options} | {"oneOf": options}:
            some = [value_of(option, definitions) for option in options if option != {"type": "null"}]
            return "/".join(dict.fromkeys(some)) + "?" * (len(some) < len(options))
        case {"const": value}:
            return f"`{json.dumps(value)}`"
        case {"enum": values}:
            return "/".join(f"`{value}`" for value in values)
        case {"type": "array"}:
            return f"{value_of(schema.get('items', {}), definitions)}[]"
        case {"type": "object"}:
            return "map"
        case {"type": "integer", "minimum": low, "maximum": high}:
            return f"{low}–{high}"
        case {"type": "integer" | "number", "minimum": low}:
            return f"≥{low}"
        case {"type": "string", "pattern": pattern} if pattern == f"^{DIGEST}$":
            return "digest"
        case {"type": "string", "format": "date-time"}:
            return "time"
        case {"type": "string", "format": str(kind)}:
            return kind
        case {"type": list(kinds)}:
            return "/".join(value_of({"type": kind}, definitions) for kind in kinds)
        case {"type": str(kind)}:
            return {"string": "text", "integer": "number"}.get(kind, kind)
    return "anything"


def _default(key: str, schema: dict[str, Any], required: list[str]) -> str:
    """Return the default in brackets, unless it goes without saying."""
    if key in required:
        return " (required)"
    default = json.dumps(schema.get("default"))
    of_parts = "$ref" in schema and default.startswith("{")
    return "" if of_parts or default in ("null", "false", '""', "[]", "{}") else f" (`{default}`)"
