"""Strict reading of YAML documents that people write: one document, plain values, no unknown or duplicate keys."""

from __future__ import annotations

import json
import re
from datetime import date
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, TypeVar

import yaml
from pydantic import AwareDatetime, BaseModel, BeforeValidator, TypeAdapter, ValidationError
from pydantic_core import ErrorDetails
from yaml.composer import Composer

from supply_chain.errors import DeclarationInvalid
from supply_chain.model.image import IN_IMAGE, PATH

LIMIT = 256 * 1024
"""Maximum size of a document in bytes, more than a person writes."""

MANY = 20_000
"""Maximum number of values and keys in a document: more than a person writes, and few enough to read quickly."""
NUMBER = 64
"""Maximum length in characters of a scalar that is not a string."""
MOST_MISTAKES = 20
"""Maximum number of mistakes that are reported for one document."""
LONGEST_KEY = 80
"""Maximum length in characters of a key in a message."""
GUIDE = "its page in docs/index.md"
"""What shows how to write a document, for which nothing else is named."""
FORMS = {
    rf"^{PATH}$": "write lower-case letters and digits, joined by -, _, . or /, such as shop/checkout",
    IN_IMAGE: "write an absolute path, or a directory below / followed by /*",
}
"""Pattern of a text → what a person may write."""
WORD = "tag:yaml.org,2002:str"
CLOCK = re.compile(r"[-+]?[0-9][0-9_]*(:[0-9]+)+(\.[0-9_]*)?")
"""What YAML 1.1 reads as a number to the base 60, and a person writes as a time of day: 16:30."""

M = TypeVar("M", bound=BaseModel)


class _StrictLoader(Composer, yaml.CSafeLoader):
    """A YAML loader that limits the number of values and refuses aliases, tags and duplicate keys.

    Aliases are refused because they can expand without limit. libyaml reads the text, and Python composes the values: a
    text that is nested too deeply ends with an exception.
    """

    nodes = 0

    def __init__(self, text: str) -> None:
        try:
            yaml.CSafeLoader.__init__(self, text)
        except UnicodeEncodeError as error:
            raise yaml.YAMLError("half of a surrogate pair is not allowed here") from error
        Composer.__init__(self)

    def compose_node(self, parent: Any, index: Any) -> Any:
        event: Any = self.peek_event()
        alias = isinstance(event, yaml.events.AliasEvent)
        if alias or getattr(event, "tag", None) is not None:
            what = "aliases" if alias else "tags"
            raise yaml.MarkedYAMLError(problem=f"{what} are not allowed here", problem_mark=event.start_mark)
        self.nodes += 1
        if self.nodes > MANY:
            raise yaml.MarkedYAMLError(problem=f"more than {MANY} values", problem_mark=event.start_mark)
        return super().compose_node(parent, index)

    def construct_object(self, node: Any, deep: bool = False) -> Any:
        is_no_text = isinstance(node, yaml.ScalarNode) and node.tag != WORD
        if is_no_text and (len(node.value) > NUMBER or CLOCK.fullmatch(node.value)):
            raise _no_value(node)
        try:
            return super().construct_object(node, deep)
        except (ValueError, OverflowError) as error:  # such as a date that does not exist
            raise _no_value(node) from error

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        keys: set[str] = set()
        for key_node, _ in node.value:
            if key_node.tag != WORD:
                raise yaml.MarkedYAMLError(problem="keys are words", problem_mark=key_node.start_mark)
            if key_node.value in keys:
                raise yaml.MarkedYAMLError(problem=f"{_cut(key_node.value)!r} twice", problem_mark=key_node.start_mark)
            keys.add(key_node.value)
        return super().construct_mapping(node, deep)


def _require_date(value: object) -> object:
    """Return a time as written; raise `ValueError` for a number, which would count as seconds since 1970: 20270331."""
    if not isinstance(value, date) and (not isinstance(value, str) or value[4:5] != "-"):
        raise ValueError("write a date and a time, such as 2026-01-31T12:00:00Z")
    return value


WrittenTime = Annotated[AwareDatetime, BeforeValidator(_require_date)]
"""A time with its zone (RFC 3339), as a document has it."""


def _no_value(node: Any) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem="no such value; put words in quotes", problem_mark=node.start_mark)


def read_document(path: Path, model: type[M] | TypeAdapter[M], guide: str = GUIDE) -> M:
    """Read `path` as `model`; raise `DeclarationInvalid` with the file, line and column of each mistake.

    `guide` is the page that shows how to write such a document.
    """
    return parse_document(decode_document(read_content(path), str(path)), model, str(path), guide)


def read_content(path: Path) -> bytes:
    """Return the content of a document, no more than is needed to refuse a longer one; raise `DeclarationInvalid`."""
    try:
        if path.exists() and not path.is_file():
            raise DeclarationInvalid(f"{path} is not a file.\nWrite the document itself there.")
        with path.open("rb") as file:
            return file.read(LIMIT + 1)
    except FileNotFoundError:
        raise DeclarationInvalid(f"{path} does not exist.\nCreate it, or name the right directory.") from None
    except (OSError, ValueError) as error:
        raise DeclarationInvalid(f"{path} cannot be read: {error}\nIt has to be a text file in UTF-8.") from error


def decode_document(content: bytes, name: str) -> str:
    """Return the text of a document; raise `DeclarationInvalid` if it is too long or not UTF-8."""
    if len(content) > LIMIT:
        raise DeclarationInvalid(
            f"{name} has more than {LIMIT // 1024} KiB.\nA document of this kind is a page; look at what got into it."
        )
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DeclarationInvalid(f"{name} cannot be read: {error}\nIt has to be a text file in UTF-8.") from error


def parse_document(text: str, model: type[M] | TypeAdapter[M], name: str, guide: str = GUIDE) -> M:
    """Parse `text` as `model`; errors call the document `name`. Raise as `read_document`."""
    adapter = model if isinstance(model, TypeAdapter) else TypeAdapter(model)
    try:
        loader = _StrictLoader(text)
        node = loader.get_single_node()
        value = loader.construct_document(node) if node else None
    except yaml.YAMLError as error:
        raise DeclarationInvalid(f"{name}{_yaml_place(error)}\nCorrect it and try again.") from error
    except RecursionError:
        raise DeclarationInvalid(f"{name} is nested too deeply.\nWrite it flat.") from None
    if value is None:
        raise DeclarationInvalid(f"{name} is empty.\nWrite it as {guide} shows.")
    try:
        return adapter.validate_python(value)
    except ValidationError as error:
        mistakes = _without_echoes(error.errors(include_url=False, include_input=False), adapter)
        placed = [
            (e["type"] == "missing", _place(node, e["loc"]), f": {_path(e['loc'])}{_mistake(e, adapter)}")
            for e in mistakes[:MOST_MISTAKES]
        ]
        placed.sort(key=lambda each: (each[0], [int(number) for number in each[1].split(":")[1:]]))
        lines = [f"{name}{place}{mistake}" for _, place, mistake in placed]
        if len(mistakes) > MOST_MISTAKES:
            lines.append(f"{name}: and {len(mistakes) - MOST_MISTAKES} mistakes more")
        raise DeclarationInvalid("\n".join(lines) + "\nCorrect it and try again.") from None  # it contains the values


def parse_stream(text: str, name: str) -> list[Any]:
    """Parse `text` as YAML documents, without the empty ones, each of values that JSON has.

    Raises `DeclarationInvalid`; its message calls the text `name`.
    """
    documents = list[Any]()
    try:
        loader = _StrictLoader(text)
        while loader.check_data():  # type: ignore[no-untyped-call]
            documents.append(loader.get_data())
        json.dumps(documents, allow_nan=False)
    except yaml.YAMLError as error:
        raise DeclarationInvalid(f"{name}{_yaml_place(error)}\nCorrect it and try again.") from error
    except RecursionError:
        raise DeclarationInvalid(f"{name} is nested too deeply.\nWrite it flat.") from None
    except (TypeError, ValueError) as error:
        raise DeclarationInvalid(
            f"{name} has a value that JSON cannot represent: {error}\nPut it in quotes."
        ) from error
    return [each for each in documents if each is not None]


def _mistake(error: ErrorDetails, adapter: TypeAdapter[Any]) -> str:
    """Return what is wrong; for an unknown key, also suggest the known key that is most similar."""
    if error["type"] == "string_pattern_mismatch":
        return FORMS.get(error["ctx"]["pattern"], error["msg"])
    if error["type"] != "extra_forbidden":
        return error["msg"].removeprefix("Value error, ")
    like = _similar_key(error, adapter)
    return f"unknown key{f'; did you mean {like}?' if like else ''}"


def _similar_key(error: ErrorDetails, adapter: TypeAdapter[Any]) -> str | None:
    """Return the known key that is most similar to the unknown key of an error; None if none is similar."""
    schema = adapter.json_schema()
    keys = {key for part in (schema, *schema.get("$defs", {}).values()) for key in part.get("properties", {})}
    return next(iter(get_close_matches(str(error["loc"][-1]), sorted(keys), 1)), None)


def _without_echoes(mistakes: list[ErrorDetails], adapter: TypeAdapter[Any]) -> list[ErrorDetails]:
    """Return the mistakes without those that follow from others.

    These are the missing keys that are suggested for an unknown key in the same place, and lists that are too short
    because an element is wrong.
    """
    unknown = [each for each in mistakes if each["type"] == "extra_forbidden"][:MOST_MISTAKES]
    suggested = {(*each["loc"][:-1], _similar_key(each, adapter)) for each in unknown}
    around = {each["loc"][:end] for each in mistakes for end in range(len(each["loc"]))}
    return [
        each
        for each in mistakes
        if (each["type"] != "missing" or each["loc"] not in suggested)
        and (each["type"] != "too_short" or each["loc"] not in around)
    ]


def _yaml_place(error: yaml.YAMLError) -> str:
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark:
        mark = error.problem_mark
        return f":{mark.line + 1}:{mark.column + 1}: {error.problem}"
    return f": {error}"


def _path(loc: tuple[int | str, ...]) -> str:
    keys = [_cut(str(part)) for part in loc]
    return f"{'.'.join(keys)}: " if keys else ""


def _cut(key: str) -> str:
    return key if len(key) <= LONGEST_KEY else f"{key[:LONGEST_KEY]}…"


def _place(node: Any, loc: tuple[int | str, ...]) -> str:
    """Return line and column of the value at `loc`, followed as far as the path exists."""
    mark = node.start_mark
    for part in loc:
        if isinstance(node, yaml.MappingNode):
            entries = [(key, value) for key, value in node.value if key.value == part]
            if not entries:
                continue  # the tag of a union, or a missing key
            mark, node = entries[0][0].start_mark, entries[0][1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
            mark = node.start_mark
    return f":{mark.line + 1}:{mark.column + 1}"
