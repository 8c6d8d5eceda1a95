"""Expressions in CEL (the Common Expression Language) over typed facts: checked when loaded, evaluated strictly.

An expression is compiled twice. Once with the types of the facts, so that an unknown fact or a wrong type is an error
when the policy is loaded. And once without, for plain values: there a fact that is absent is an error of the
evaluation, and not an empty value as in a message of the declared type.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache, cached_property, lru_cache
from typing import Any, Self, get_origin, is_typeddict

from cel_expr_python import cel
from google.protobuf import descriptor_pb2, descriptor_pool, timestamp_pb2

from supply_chain.errors import PolicyInvalid, RuleNotEvaluated
from supply_chain.model.tier import Gate
from supply_chain.policy.fact_schema import (
    find_element_type,
    find_fact_type,
    group_names_of,
    has_times,
    list_fact_names,
    list_time_fields,
    read_fields,
)
from supply_chain.policy.fact_types import FACTS
from supply_chain.text import pluralize

PACKAGE, IMAGE, NOW, DYNAMIC = "facts", "image", "now", "DYN"
LONGEST = 2000
"""Maximum characters of an expression."""
FIELD = descriptor_pb2.FieldDescriptorProto
FIELDS = {str: FIELD.TYPE_STRING, bool: FIELD.TYPE_BOOL, int: FIELD.TYPE_INT64, float: FIELD.TYPE_DOUBLE}
TIMESTAMP = "google.protobuf.Timestamp"
TOKEN = re.compile(
    r"""(?P<text>r?(?:\"\"\"[\s\S]*?\"\"\"|'''[\s\S]*?'''|\"(?:\\.|[^\"\\])*\"|'(?:\\.|[^'\\])*'))"""
    r"""|(?P<comment>//[^\n]*)|(?P<name>[A-Za-z_]\w*)|(?P<number>\d[\w.]*)|(?P<operator>[=!<>]=|&&|\|\||[<>!])"""
    r"""|(?P<sign>\S)"""
)
"""A token of CEL, as far as names, texts, operators and brackets differ."""
OPPOSITES = {"==": "!=", "!=": "==", "<": "<=", "<=": "<", ">": ">=", ">=": ">", "&&": "||", "||": "&&", "!": ""}
"""Operator → one with another result."""
LOOPS = ("all", "exists", "exists_one")
NESTED = 2
"""Maximum number of loops in each other: over a list of facts, and over a list of its element or of a parameter."""
OPENING, CLOSING = ("(", "[", "{"), (")", "]", "}")
GROWING = ("map", "filter")
"""Macros that make a list. The time that the engine needs for them grows with the square of the list."""
CONSTANTS = ("true", "false", "null", "in")
NAME = re.compile(r"\w+")
Readers = frozenset[frozenset[str]]
"""The names of the facts that each rule can read, and other words."""


@dataclass(frozen=True)
class Expression:
    """A checked expression."""

    text: str
    type: str
    """The type of the result, in the words of CEL: `BOOL`, `STRING`, `LIST<facts.FindingFacts>` and others."""
    program: Any
    reads: tuple[str, ...]
    """The facts that it reads, as paths from a variable."""
    values: tuple[str, ...]
    """The same, without those of which it only asks `has(…)`."""
    names: frozenset[str]
    """The names of all facts that it can read, and other words. CEL reads a fact only by its name."""

    @property
    def element(self) -> str | None:
        """The type of an element, if the result is a list."""
        return self.type[5:-1] if self.type.startswith("LIST<") else None

    def evaluate(self, values: Values) -> Any:
        """Return the result as a plain value; raise `RuleNotEvaluated` if there is none of the checked type."""
        try:
            result = self.program.eval(values.activation)
        except RuntimeError as error:  # it would loop over more than 10,000 elements
            raise self._not_evaluated(str(error)) from error
        value = result.plain_value()
        if isinstance(value, bool) and self.type == "BOOL":  # of nearly all, and the type is no other then
            return value
        kind = result.type().name()
        if kind != self.type and kind.partition("<")[0] != self.type.partition("<")[0]:
            raise self._not_evaluated(value if kind == "ERROR" else f"the result is a {kind} and not a {self.type}")
        return value

    def _not_evaluated(self, why: str) -> RuleNotEvaluated:
        return RuleNotEvaluated(
            f"`{self.text}` cannot be evaluated: {why}\n"
            "Test with `has(…)` whether a fact is there, or correct what the fact is read from. Of a long list, judge "
            "each element with `for_each`."
        )


@dataclass(frozen=True)
class Values:
    """The values of the variables of one image, for many expressions."""

    language: Language
    image: Mapping[str, Any]
    """The variable `image`."""
    plain: Mapping[str, Any]
    """What the engine takes over of it, with values that the engine knows."""
    now: datetime
    element: tuple[str, Any] | None = None

    @classmethod
    def of(cls, gate: Gate, image: Mapping[str, Any], now: datetime, readers: Readers | None = None) -> Self:
        """Return the values for the facts of a gate.

        `readers` have the names that each rule can read of the image; None: all. The engine takes over no others.
        """
        return cls(make_language(gate), image, convert_value(image, FACTS[gate], readers), now)

    @cached_property
    def activation(self) -> Any:
        """The values in the engine's own form, which is made once: that takes most of the time."""
        language, data = self.language, {IMAGE: self.plain, NOW: _to_timestamp(self.now)}
        if self.element:
            name, value = self.element
            language, data = language.with_element(name, DYNAMIC), {**data, name: value}
        return _environments(language)[1].Activation(data)

    def with_image(self, image: Mapping[str, Any], reads: Iterable[str], readers: Readers) -> Values:
        """Return the values for other facts of the image; the engine gets those at these paths and of these readers."""
        return Values(
            self.language, image, convert_value(_pruned(image, reads), self.language.facts, readers), self.now
        )

    def take(self, path: str, part: Sequence[Any], readers: Readers) -> Sequence[Any]:
        """Return a part of the list at a path with values that the engine knows."""
        taken: Sequence[Any] = convert_value(part, find_fact_type(self.language.facts, path.split(".")), readers)
        return taken

    def with_element(self, name: str, element: Any) -> Values:
        """Return the values with one element of a list, which has values that the engine knows."""
        return Values(self.language, self.image, self.plain, self.now, (name, element))

    def with_list(self, path: str, part: Sequence[Any]) -> Values:
        """Return the values with a part of the list at a path, whose elements have values that the engine knows."""
        image = dict(self.plain)
        group, (*groups, name) = image, path.split(".")
        for each in groups:
            group[each] = dict(group.get(each, {}))
            group = group[each]
        group[name] = part
        return Values(self.language, self.image, image, self.now)


def _pruned(image: Mapping[str, Any], reads: Iterable[str]) -> Mapping[str, Any]:
    """Return the image with the facts at these paths only."""
    retained: dict[str, Any] = {}
    for path in reads:
        variable, *names = path.split(".")
        if variable == IMAGE:
            _copy(image, retained, names)
    return retained


def _copy(source: Mapping[str, Any], target: dict[str, Any], names: Sequence[str]) -> None:
    """Copy the fact at a path with the groups that it is in; nothing if it is absent."""
    name, *more = names
    if name not in source:
        return
    if not more:
        target[name] = source[name]
    elif target.get(name) is not source[name]:
        _copy(source[name], target.setdefault(name, {}), more)


def find(image: Mapping[str, Any], path: str) -> Any:
    """Return the fact at a path; raise `RuleNotEvaluated` if there is none."""
    value: Any = image
    for name in path.split("."):
        if name not in value:
            raise RuleNotEvaluated(f"There is no image.{path}.\nTest with `has(…)` in `when` whether it is there.")
        value = value[name]
    return value


@dataclass(frozen=True)
class Language:
    """The variables of an expression, each with its type in the words of CEL."""

    facts: type
    """The type of `image`, a TypedDict."""
    variables: tuple[tuple[str, str], ...]

    @property
    def names(self) -> frozenset[str]:
        """The names of the variables."""
        return frozenset(name for name, _ in self.variables)

    @property
    def has_element(self) -> bool:
        """Whether a variable stands for each element of a list."""
        return not self.names <= {IMAGE, NOW}

    def with_element(self, name: str, kind: str) -> Language:
        """Return the language with one more variable, which stands for each element of a list."""
        return Language(self.facts, (*self.variables, (name, kind)))

    def compile(self, text: str, *kinds: str) -> Expression:
        """Check an expression; raise `PolicyInvalid` if it is not of one of these types, or not bounded in its cost."""
        if len(text) > LONGEST:
            raise PolicyInvalid(f"it has {len(text)} characters; an expression has at most {LONGEST}.")
        read = tuple(_read_paths(text, self))
        reads = tuple(dict.fromkeys(path for path, _ in read))
        values = tuple(dict.fromkeys(path for path, is_tested in read if not is_tested))
        typed, plain = _environments(self)
        try:
            kind, program = typed.compile(text).return_type().name(), plain.compile(text)
        except RuntimeError as error:
            raise PolicyInvalid(f"`{text}`: {_reason(error)}") from error
        if kinds and kind.partition("<")[0] not in kinds:
            raise PolicyInvalid(f"`{text}` is a {kind}, and has to be a {' or '.join(kinds)}.")
        self._require_known(text, reads)
        names = frozenset(NAME.findall(text))
        return Expression(
            text,
            kind,
            program,
            reads,
            values,
            names | list_fact_names(self.facts) if _reads_group(text, self) else names,
        )

    def _require_known(self, text: str, reads: Iterable[str]) -> None:
        """Raise `PolicyInvalid` if a fact is named so that only the engine understands it, as in image.`digest`.

        The engine may get only the facts that an expression is known to read, and would take others as absent.
        """
        paths = (path for path in reads if path.startswith(f"{IMAGE}."))
        if strange := next((path for path in paths if find_fact_type(self.facts, path.split(".")[1:]) is None), None):
            raise PolicyInvalid(f"`{text}` names the fact {strange} in another way.\nWrite image.NAME without quotes.")


def make_language(gate: Gate) -> Language:
    """Return the language of a gate: its facts as `image`, and the time of the decision as `now`."""
    facts = FACTS[gate]
    return Language(facts, ((IMAGE, f"{PACKAGE}.{facts.__name__}"), (NOW, "TIMESTAMP")))


def convert_value(value: Any, kind: Any, readers: Readers | None = None) -> Any:
    """Return a value of a type of facts as the engine takes it: only times change, for it does not know Python's.

    What contains no time is not copied. Groups of facts that have times lose the facts that no reader names of those
    that name the group too; None: none is lost.
    """
    return _converter(kind, readers)(value)


@cache
def _converter(kind: Any, readers: Readers | None) -> Callable[[Any], Any]:
    """Return the function that converts values of a type of facts."""
    if kind is datetime:
        return _to_timestamp
    if not has_times(kind):
        return lambda value: value
    if (element := find_element_type(kind)) is not kind:
        convert = _converter(element, readers)
        return lambda value: [convert(each) for each in value]
    times = tuple((name, _converter(field, _narrow(readers, name))) for name, field in list_time_fields(kind))
    if readers is None:
        return lambda value: _convert_fields(dict(value), times)
    names = tuple(name for name in read_fields(kind) if any(name in each for each in readers))
    taken = tuple((name, convert) for name, convert in times if name in names)
    return lambda value: _convert_fields({name: value[name] for name in names if name in value}, taken)


def _narrow(readers: Readers | None, name: str) -> Readers | None:
    """Return the readers that name a group of facts: no other can read what is in it."""
    return None if readers is None else frozenset(each for each in readers if name in each)


def _convert_fields(group: dict[str, Any], times: Iterable[tuple[str, Callable[[Any], Any]]]) -> dict[str, Any]:
    """Convert those facts of a group in place that are or contain a time, and return the group."""
    for name, convert in times:
        if name in group:
            group[name] = convert(group[name])
    return group


@lru_cache(maxsize=10_000)
def _to_timestamp(value: datetime) -> Any:
    """Return a time as the engine takes it. Findings have few different times, so most are made once."""
    stamp = timestamp_pb2.Timestamp()
    stamp.FromDatetime(value)
    return stamp


@cache
def _environments(language: Language) -> tuple[Any, Any]:
    """Return the environments that check types and that evaluate."""
    count = cel.Overload("count_int_string", cel.Type.STRING, [cel.Type.INT, cel.Type.STRING], False, pluralize)
    functions = [cel.FunctionDecl("count", [count])]
    typed = {name: _type(kind) for name, kind in language.variables}
    plain = {name: cel.Type.TIMESTAMP if name == NOW else cel.Type.DYN for name in language.names}
    return (
        cel.NewEnv(_pool(language.facts), variables=typed, functions=functions),
        cel.NewEnv(variables=plain, functions=functions),
    )


def _type(kind: str) -> Any:
    return cel.Type(kind) if kind.startswith(PACKAGE) else getattr(cel.Type, kind)


def _pool(facts: type) -> descriptor_pool.DescriptorPool:
    """Return the message types for a TypedDict and all that it refers to; no message of them is ever made."""
    file = descriptor_pb2.FileDescriptorProto(
        name=f"{facts.__name__}.proto", package=PACKAGE, syntax="proto3", dependency=["google/protobuf/timestamp.proto"]
    )
    left, done = [facts], set[type]()
    while left:
        each = left.pop()
        if each in done:
            continue
        done.add(each)
        message = file.message_type.add(name=each.__name__)
        for number, (name, kind) in enumerate(read_fields(each).items(), 1):
            item = find_element_type(kind)
            repeated = FIELD.LABEL_REPEATED if item is not kind else FIELD.LABEL_OPTIONAL
            field = message.field.add(name=name, number=number, label=repeated)
            if item in FIELDS:
                field.type = FIELDS[item]
            else:
                field.type = FIELD.TYPE_MESSAGE
                field.type_name = f".{TIMESTAMP}" if item is datetime else f".{PACKAGE}.{item.__name__}"
                left.extend([] if item is datetime else [item])
    pool, well_known = descriptor_pool.DescriptorPool(), descriptor_pb2.FileDescriptorProto()
    timestamp_pb2.DESCRIPTOR.CopyToProto(well_known)
    pool.Add(well_known)
    pool.Add(file)
    return pool


def mutate(text: str) -> Iterator[str]:
    """Yield the expressions that differ from this one in one operator, number or text."""
    for token in TOKEN.finditer(text):
        original = token.group()
        match token.lastgroup:
            case "operator":
                changed = OPPOSITES[original]
            case "number" if original.isdigit():
                changed = str(int(original) + 1)
            case "text":
                changed = re.sub(r"(?=['\"]$)", "x", original)
            case _:
                continue
        yield f"{text[: token.start()]}{changed}{text[token.end() :]}"


def _tokens(text: str) -> list[str]:
    """Return the tokens of an expression, without comments."""
    return [each.group() for each in TOKEN.finditer(text) if each.lastgroup != "comment"]


def _read_paths(text: str, language: Language) -> Iterator[tuple[str, bool]]:
    """Yield the paths that an expression reads, and whether it only asks `has(…)` of each.

    Raise `PolicyInvalid` if its cost is not bounded. What is evaluated for each element of a list reads only single
    values of the image, so that the time grows with the number of facts, and not with its square.
    """
    tokens, brackets = _tokens(text), list[bool]()  # the open brackets, and whether each is that of a loop
    for at, token in enumerate(tokens):
        if token in OPENING:
            brackets.append(tokens[at - 1] in LOOPS)
            if brackets.count(True) > NESTED:
                raise PolicyInvalid(f"`{text}` has more than {NESTED} loops in each other: its cost has no bound.")
        elif token in CLOSING:
            del brackets[-1:]
        elif token in GROWING:
            raise PolicyInvalid(f"`{text}` uses {token}(), whose cost has no bound.\nUse all(), exists() or for_each.")
        elif token in language.names and not _is_member(tokens, at):
            path = _path(tokens[at:])
            if path == [IMAGE]:
                raise PolicyInvalid(f"`{text}` reads the image as a whole.\nName the fact: image.digest, for example.")
            is_tested = tokens[at - 2 : at] == ["has", "("]
            if (any(brackets) or language.has_element) and not is_tested and not _is_single(language, path):
                raise PolicyInvalid(
                    f"`{text}` reads {'.'.join(path)} for each element of a list, so that its cost has no bound.\n"
                    "Read only single values of the image, and lists of the element itself."
                )
            yield ".".join(path), is_tested


def _is_member(tokens: Sequence[str], at: int) -> bool:
    """Return whether a name follows a value and a dot; after a dot alone, it is that of a variable."""
    if at < len("x.") or tokens[at - 1] != ".":
        return False
    value = tokens[at - 2]
    return value in CLOSING or (value.isidentifier() and value != "in")


def _path(tokens: Sequence[str]) -> list[str]:
    """Return the names of the path with which the tokens begin, without a function at its end."""
    path = [tokens[0]]
    for dot, name, after in zip(tokens[1::2], tokens[2::2], [*tokens[3::2], ""], strict=False):
        if dot != "." or after == "(":
            break
        path.append(name)
    return path


def _is_single(language: Language, path: Sequence[str]) -> bool:
    """Return whether a path leads to a single value or to no fact at all; True if it does not begin with the image."""
    variable, *names = path
    if variable != IMAGE:
        return True
    kind = find_fact_type(language.facts, names)
    return not is_typeddict(kind) and get_origin(kind) is not list


def _reads_group(text: str, language: Language) -> bool:
    """Return whether an expression may read facts of a group without their names, as if it compares two groups."""
    tokens = _tokens(text)
    groups = {name: kind == DYNAMIC or PACKAGE in kind for name, kind in language.variables}
    for at, token in enumerate(tokens):
        if token in LOOPS and tokens[at + 3 : at + 4] == [","]:
            variable = tokens[at + 2]
            groups[variable] = groups.get(variable, False) or _has_groups(tokens[: at - 1], groups, language)
    for at, token in enumerate(tokens):
        if not token.isidentifier() or token in CONSTANTS or _is_member(tokens, at):
            continue
        path = _path(tokens[at:])
        before, after = tokens[max(0, at - 2) : at], tokens[at + 2 * len(path) - 1 : at + 2 * len(path)]
        is_asked = before in (["has", "("], ["size", "("])
        is_variable_of_loop = after == [","] and before[-1:] == ["("] and before[0] in LOOPS
        if (
            not is_asked
            and not is_variable_of_loop
            and after not in (["."], ["("])
            and _is_group(path, groups, language)
        ):
            return True
    return "dyn" in tokens


def _has_groups(tokens: Sequence[str], groups: Mapping[str, bool], language: Language) -> bool:
    """Return whether the list at the end of these tokens may have groups of facts as its elements."""
    if tokens[-1] == "]":
        start = len(tokens) - 1 - list(reversed(tokens)).index("[")
        return any(each.isidentifier() for each in tokens[start:])
    start = len(tokens) - 1
    while start >= len("x.") and tokens[start - 1] == "." and tokens[start - 2].isidentifier():
        start -= len("x.")
    return not tokens[start].isidentifier() or _is_group(tokens[start::2], groups, language)


def _is_group(path: Sequence[str], groups: Mapping[str, bool], language: Language) -> bool:
    """Return whether a path may lead to a group of facts, or to a list of groups.

    `groups` tells of the variables whether they are groups.
    """
    variable, *names = path
    if variable == IMAGE:
        return is_typeddict(find_element_type(find_fact_type(language.facts, names)))
    return names[-1] in group_names_of(language.facts) if names else groups.get(variable, True)


def _reason(error: RuntimeError) -> str:
    """Return what is wrong, in one line and without the status code of the library."""
    lines = str(error).removeprefix("INVALID_ARGUMENT: ").removesuffix(" [INVALID_ARGUMENT]").splitlines()
    return lines[0].removeprefix("ERROR: ").replace("<input>:", "line ") if lines else "it cannot be compiled"
