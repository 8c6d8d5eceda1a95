"""What an image's configuration sets (OCI image 1.1, "Image Configuration")."""

from __future__ import annotations

import json
import posixpath
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

from supply_chain.adapters.image.secret_forms import find_secret_patterns
from supply_chain.model.declaration import Runtime

NAME = re.compile(r"[\w./-]{1,100}")
"""Name of a variable or label that is repeated in a finding."""
NUMBER = re.compile(r"[+-]?[0-9]+")
"""A number as container engines read it."""
LARGEST_ID, LONGEST_NUMBER = 2**31 - 1, 1000
"""The largest id of a user that no engine takes for another one, and the digits of a number that are read."""
CODE_VARIABLES = ("BASH_ENV", "LD_AUDIT", "LD_PRELOAD")
"""Variables that name code for every program, or every script of bash (ld.so(8), bash(1))."""


def list_settings(config: Mapping[str, Any]) -> list[str]:
    """Return the variables and labels in an image's configuration, as `NAME=value`."""
    own = config.get("config") or {}
    return [*(own.get("Env") or ()), *(f"{name}={value}" for name, value in (own.get("Labels") or {}).items())]


def name_settings(settings: Iterable[str]) -> tuple[str, ...]:
    """Return the name of each variable and label; empty for a name that may be a secret itself."""
    names = (setting.partition("=")[0] for setting in settings)
    return tuple(
        name if NAME.fullmatch(name) and not any(find_secret_patterns(name.encode())) else "" for name in names
    )


def read_working_directory(config: Mapping[str, Any]) -> str:
    """Return the directory in which an image's processes start, as an absolute path."""
    return posixpath.join("/", (config.get("config") or {}).get("WorkingDir") or "")


def list_variables(config: Mapping[str, Any]) -> dict[str, str]:
    """Return the variables that an image's configuration sets, with their values; the last one of a name counts."""
    variables = (config.get("config") or {}).get("Env") or ()
    return {name: value for name, _, value in (str(each).partition("=") for each in variables)}


@dataclass(frozen=True)
class Start:
    """What decides what a container of an image runs: the image's configuration, and the declared runtime."""

    directory: str
    """Where its processes start, as an absolute path."""
    commands: tuple[Sequence[str], ...]
    variables: tuple[tuple[str, str], ...]
    """Name and value of each; the runtime's follow those of the image that they replace."""

    @classmethod
    def of(cls, config: Mapping[str, Any], runtime: Runtime | None = None) -> Start:
        """Return what decides (OCI image 1.1, "Image Configuration"; the health check is Docker's)."""
        own = config.get("config") or {}
        entrypoint = own.get("Entrypoint") or ()
        commands = [(*entrypoint, *(own.get("Cmd") or ())), (own.get("Healthcheck") or {}).get("Test") or ()]
        commands += [(*(each.command or entrypoint), *each.args) for each in (runtime.commands if runtime else ())]
        declared = runtime.environment if runtime else {}
        variables = (*list_variables(config).items(), *declared.items())
        return cls(read_working_directory(config), tuple(commands), variables)

    def list_code_variables(self) -> tuple[str, ...]:
        """Return which of `CODE_VARIABLES` are set."""
        names = {name for name, value in self.variables if value}
        return tuple(name for name in CODE_VARIABLES if name in names)


def runs_as_root(config: Mapping[str, Any], accounts: bytes | None) -> bool:
    """Return whether an engine runs an image as root by its configuration alone, or may do so.

    `accounts` is the image's passwd(5); None: it cannot be read. A number is an id; engines find another name in the
    first line with that name, where what is no number counts as 0 (moby/sys/user, `GetExecUser`). They differ about
    spaces and large numbers, so each line that may be that one counts, and each number that may be 0.
    """
    name = ((config.get("config") or {}).get("User") or "").partition(":")[0] or "0"
    if NUMBER.fullmatch(name):
        return _may_be_zero(name)
    if accounts is None:
        return True
    for line in accounts.decode("utf-8", "surrogateescape").split("\n"):
        fields = [*line.split(":"), "", ""]
        if fields[0].strip() == name.strip() and _may_be_zero(fields[2]):
            return True
        if fields[0] == name:
            break  # every engine takes this line, or one before it
    return False


def _may_be_zero(number: str) -> bool:
    return not NUMBER.fullmatch(number) or not 0 < int(number[:LONGEST_NUMBER]) <= LARGEST_ID


def search_configuration(config: bytes, settings: Sequence[str]) -> Iterator[tuple[int, str]]:
    """Yield number and kind of each likely secret in the variables and labels, and in the other fields after these.

    `settings` are what `list_settings` returns. The history repeats variables; there, the values that were found are
    left out.
    """
    values = list[bytes]()
    for number, setting in enumerate(settings, start=1):
        text = setting.encode("utf-8", "surrogatepass")
        kinds = [kind for _, kind in find_secret_patterns(text)]
        yield from ((number, kind) for kind in kinds)
        values += [text.partition(b"=")[2] or text] if kinds else []
    for text in (config, *_strings(json.loads(config, object_pairs_hook=list))):
        rest = reduce(_leave_out, values, text)
        yield from ((len(settings) + 1, kind) for _, kind in find_secret_patterns(rest))


def _leave_out(text: bytes, value: bytes) -> bytes:
    """Return a text without a value, as it is and as a string in JSON."""
    written = json.dumps(value.decode("utf-8", "surrogatepass"))[1:-1].encode()
    return text.replace(written, b"").replace(value, b"")


def _strings(document: Any) -> Iterator[bytes]:
    """Yield every string in a JSON document, decoded, including names; objects are lists of pairs."""
    waiting = [document]
    while waiting:
        each = waiting.pop()
        if isinstance(each, str):
            yield each.encode("utf-8", "surrogatepass")
        elif isinstance(each, list | tuple):
            waiting += each
