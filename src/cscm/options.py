"""Options, arguments and output formats that several commands share."""

from __future__ import annotations

import json
import os
import pwd
import re
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import click
from pydantic import BaseModel

from orchestration.project import find_project
from supply_chain.evidence.personal_decision import MOST_WORDS
from supply_chain.model.image import HEXADECIMAL, PATH
from supply_chain.text import sanitize_text

as_json = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")


def read_login_name() -> str:
    """Return the user's login name."""
    return pwd.getpwuid(os.getuid()).pw_name


class Words(click.ParamType[str]):
    """Text of a person: not empty, and at most as long as a statement allows."""

    name = "text"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the text without surrounding blanks."""
        text = value.strip()
        if not 0 < len(text) <= MOST_WORDS:
            self.fail(f"write at least 1 and at most {MOST_WORDS} characters", param, ctx)
        return text


class Image(click.ParamType[str]):
    """Name of an image; its syntax is checked before Prefect starts, which takes seconds."""

    name = "image"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the value as typed; whether the image exists is not checked here."""
        repository, _, digest = value.strip().rpartition("@")
        if not HEXADECIMAL.fullmatch(digest) or not re.fullmatch(PATH, repository or "any"):
            self.fail(
                f"{value!r} does not name an image: write NAME@sha256:…, or 12 digits or more of its digest", param, ctx
            )
        return value


class NewFile(click.ParamType[Path]):
    """A file that can be written; this is checked before the work whose result it will hold."""

    name = "file"

    def convert(self, value: str | Path, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """Return the path; fail if it is a directory, or if its directory does not exist or is not writable."""
        path = Path(value)
        if path.is_dir():
            self.fail(f"{path} is a directory", param, ctx)
        try:
            with TemporaryFile(dir=path.parent):
                return path
        except OSError as error:
            self.fail(f"{path} cannot be written: {error.strerror}", param, ctx)


def complete_from(names: Callable[[], list[str]]) -> Callable[[Any, Any, str], list[str]]:
    """Return a shell completion that offers the names that begin with the typed text."""
    return lambda _context, _parameter, typed: [name for name in names() if name.startswith(typed)]


def _list_environments() -> list[str]:
    return sorted(path.stem for path in find_project().glob("deployments/environments/*.yaml"))


environments = complete_from(_list_environments)
"""The shell completion of `--environment`."""
by = click.option(
    "--by",
    metavar="NAME",
    type=Words(),
    default=read_login_name,
    show_default="you",
    help="The name of the person who decides. It is recorded, but not verified.",
)


def render_json(rows: Sequence[BaseModel]) -> str:
    """Return the rows as `--json` prints them: a JSON array."""
    return json.dumps([row.model_dump(mode="json") for row in rows], indent=2)


def make_progress_printer(*, err: bool = False) -> Callable[[str], None]:
    """Return a function that prints a line with the seconds since this call, from any thread, one line at a time.

    It prints to standard error if `err` is true, so that standard output has only the result.
    """
    started, lock = time.monotonic(), threading.Lock()

    def say(line: str) -> None:
        with lock:
            click.echo(f"{time.monotonic() - started:6.1f} s  {sanitize_text(line)}", err=err)

    return say
