"""What the types of facts contain, and whether values are of these types."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from functools import cache
from typing import Any, NotRequired, get_args, get_origin, get_type_hints, is_typeddict


@cache
def read_fields(facts: type) -> Mapping[str, Any]:
    """Return the fields of a TypedDict with their types, without `NotRequired`."""
    return {name: _required(kind) for name, kind in _hints(facts).items()}


def _required(kind: Any) -> Any:
    if not _is_optional(kind):
        return kind
    (required,) = get_args(kind)
    return required


@cache
def _hints(facts: type) -> dict[str, Any]:
    return get_type_hints(facts, include_extras=True)


def is_optional(facts: type, name: str) -> bool:
    """Return whether a field of a TypedDict may be absent."""
    return _is_optional(_hints(facts)[name])


def _is_optional(kind: Any) -> bool:
    return get_origin(kind) is NotRequired


@cache
def find_element_type(kind: Any) -> Any:
    """Return the type of the elements of a list, or the type itself."""
    if get_origin(kind) is not list:
        return kind
    (element,) = get_args(kind)
    return element


@cache
def list_fact_names(facts: type) -> frozenset[str]:
    """Return the names of all facts in a group of facts."""
    return frozenset(read_fields(facts)).union(*map(list_fact_names, _groups_of(facts).values()))


@cache
def group_names_of(facts: type) -> frozenset[str]:
    """Return the names of those facts in a group of facts that are groups or lists of groups themselves."""
    groups = _groups_of(facts)
    return frozenset(groups).union(*map(group_names_of, groups.values()))


def _groups_of(facts: type) -> dict[str, Any]:
    elements = {name: find_element_type(kind) for name, kind in read_fields(facts).items()}
    return {name: kind for name, kind in elements.items() if is_typeddict(kind)}


def find_fact_type(facts: type, names: Iterable[str]) -> Any:
    """Return the type of the fact at a path from the image; None if there is no such fact."""
    kind: Any = facts
    for name in names:
        kind = read_fields(kind).get(name) if is_typeddict(kind) else None
    return kind


@cache
def list_time_fields(kind: Any) -> tuple[tuple[str, Any], ...]:
    """Return the fields of a group of facts that are or contain a time, with their types."""
    return tuple((name, field) for name, field in read_fields(kind).items() if has_times(field))


@cache
def has_times(kind: Any) -> bool:
    """Return whether a value of a type of facts is or contains a time."""
    if is_typeddict(kind):
        return any(map(has_times, read_fields(kind).values()))
    element = find_element_type(kind)
    return kind is datetime if element is kind else has_times(element)


def find_mistakes(kind: Any, value: Any, path: str, checked: Any = None) -> Iterator[str]:
    """Yield where a value is not of a type of facts: an unknown or missing fact, or one of another type.

    `checked` is a value of that type without mistakes; what is the same object in both is not looked at again.
    """
    if value is checked and checked is not None:
        return
    if is_typeddict(kind):
        if not isinstance(value, dict):
            yield f"{path} is not a group of facts"
            return
        fields = read_fields(kind)
        yield from (f"there is no fact {path}.{name}" for name in value if name not in fields)
        missing = (name for name, hint in _hints(kind).items() if not _is_optional(hint) and name not in value)
        yield from (f"{path}.{name} is missing" for name in missing)
        before = checked if isinstance(checked, dict) else {}
        for name in fields.keys() & value.keys():
            yield from find_mistakes(fields[name], value[name], f"{path}.{name}", before.get(name))
    elif (element := find_element_type(kind)) is not kind:
        if isinstance(value, list):
            yield from (each for at, one in enumerate(value) for each in find_mistakes(element, one, f"{path}[{at}]"))
        else:
            yield f"{path} is not a list"
    elif type(value) is not kind and not (kind is float and type(value) is int):
        yield f"{path} is not of the type {kind.__name__}"
