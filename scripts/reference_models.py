"""Render the keys of models for the reference pages: of what people write, and of what the project writes."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from pydantic import BaseModel, TypeAdapter

from supply_chain.model.image import DIGEST

Definitions = Mapping[str, dict[str, Any]]
"""The schemas of all models that a schema refers to, by name."""

Links = dict[tuple[str, ...], str]
"""The address of the section of each model on all pages; a model is identified by its title and keys."""


def fields(models: Iterable[type[BaseModel]], links: Links, page: str = "") -> str:
    """Return a section for each model and, once, for each nested one: what the project writes, as JSON.

    A model that `links` has already is not repeated; those of this `page` are added to it. The keys that a model has
    from its base class are those of the section of that class, if there is one.
    """
    sections: dict[str, str] = {}
    for model in models:
        base = next(
            (
                each
                for each in model.__mro__
                if each is not model and issubclass(each, BaseModel) and _identity(_schema(each)) in links
            ),
            None,
        )
        for schema, definitions in _reached(_schema(model)):
            own = f"{page}#{schema['title'].lower()}"
            if links.setdefault(_identity(schema), own) == own and schema["title"] not in sections:
                part = base if schema["title"] == model.__name__ else None
                sections[schema["title"]] = _section(schema, definitions, links, page, part)
    return "\n".join(sections.values())


def _schema(model: type[BaseModel]) -> dict[str, Any]:
    return TypeAdapter(model).json_schema(mode="serialization")


def _section(
    schema: dict[str, Any], definitions: Definitions, links: Links, page: str, base: type[BaseModel] | None
) -> str:
    inherited = _schema(base)["properties"] if base else {}
    own = {key: each for key, each in schema["properties"].items() if key not in inherited}
    keys = [f"all keys of {link(base, links)}"] if base else []
    text = "".join(f"- {line}\n" for line in (*keys, *_keys(own, definitions, links)))
    return f"### {schema['title']}\n\n{_about(schema)}\n\n{text}".replace(f"({page}#", "(#")


def link(model: type[BaseModel], links: Links) -> str:
    """Return the name of a model, with the address of its section."""
    return f"[{model.__name__}]({links[_identity(_schema(model))]})"


def linked(model: type[BaseModel], page: str) -> Links:
    """Return the address of a model's section on a page that `fields` does not write."""
    return {_identity(_schema(model)): f"{page}#{model.__name__.lower()}"}


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


def flat_list(model: type[BaseModel]) -> str:
    """Return a line for each key of a document that people write; keys of its parts follow a dot."""
    (schema, definitions), *_ = written(model)
    return "".join(f"- {line}\n" for line in _flat_lines(schema, definitions))


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
    found: dict[str, dict[str, Any]] = {}
    ahead = [schema]
    while ahead:
        here = ahead.pop(0)
        if "properties" in here:
            found.setdefault(here["title"], here)
        ahead += [definitions[name] for name in _names({**here, "discriminator": None}) if name not in found]
    return [(each, definitions) for each in found.values()]


def _names(schema: Any) -> list[str]:
    return re.findall(r'"#/\$defs/(\w+)"', json.dumps(schema))


def _part(schema: dict[str, Any], definitions: Definitions) -> dict[str, Any] | None:
    """Return the model that a key, a list or a map consists of."""
    models = [definitions[name] for name in _names(schema) if "properties" in definitions[name]]
    return models[0] if len(models) == 1 else None


def _identity(schema: Mapping[str, Any]) -> tuple[str, ...]:
    return schema["title"], *schema.get("properties", ())


def _about(schema: Mapping[str, Any]) -> str:
    return " ".join(schema.get("description", "").split())


def _meaning(schema: dict[str, Any], definitions: Definitions) -> str:
    return schema.get("description") or next((_about(definitions[name]) for name in _names(schema)), "")


def _keys(properties: Definitions, definitions: Definitions, links: Links) -> list[str]:
    """Return a line with all keys that need no explanation, and one for the keys of each explanation."""
    plain: list[str] = []
    explained: dict[str, list[str]] = {}
    for key, each in properties.items():
        value = value_of(each, definitions, links)
        kind = value if value.startswith("`") else value.rstrip("[]?")
        name, of_type = f"`{key}{value[len(kind) :]}`", f" {kind}".removesuffix(" text")
        if "description" in each:
            explained.setdefault(f"{of_type}: {each['description']}", []).append(name)
        else:
            plain.append(name + of_type)
    lines = [f"{', '.join(names)}{text}" for text, names in explained.items()]
    return [", ".join(plain), *lines] if plain else lines


def value_of(schema: dict[str, Any], definitions: Definitions, links: Links | None = None) -> str:  # noqa: PLR0911, PLR0912 - one return for each form
    """Return a description of the values that a schema allows; `[]` is a list, and `?` stands for null."""
    match schema:
        case {"$ref": ref}:
            model = definitions[ref.rpartition("/")[2]]
            if "properties" not in model:
                return value_of(model, definitions, links)
            title = model["title"]
            return f"[{title}]({(links or {}).get(_identity(model), f'#{title.lower()}')})"
        case {"anyOf": options} | {"oneOf": options}:
            some = [value_of(option, definitions, links) for option in options if option != {"type": "null"}]
            return "/".join(dict.fromkeys(some)) + "?" * (len(some) < len(options))
        case {"const": value}:
            return f"`{json.dumps(value)}`"
        case {"enum": values}:
            return "/".join(f"`{value}`" for value in values)
        case {"type": "array"}:
            return f"{value_of(schema.get('items', {}), definitions, links)}[]"
        case {"type": "object"}:
            return "map"
        case {"type": "integer", "minimum": low, "maximum": high}:
            return f"{low}–{high}"
        case {"type": "integer" | "number", "minimum": low}:
            return f"≥{low}"
        case {"type": "string", "pattern": pattern} if pattern == f"^{DIGEST}$":
            return "digest"
        case {"type": "string", "pattern": pattern} if "a-z" in pattern and "|" not in pattern:
            return f"`{pattern}`"
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
