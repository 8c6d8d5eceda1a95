"""What several commands take, and how they print what they found."""

from __future__ import annotations

import json
import os
import pwd
from collections.abc import Sequence

import click
from pydantic import BaseModel

from supply_chain.evidence.approval import MOST_WORDS

as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def user() -> str:
    """Who types, as this machine knows them."""
    return pwd.getpwuid(os.getuid()).pw_name


class Words(click.ParamType[str]):
    """What a person says: something, and no more than a statement holds."""

    name = "text"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Without the blanks around it."""
        said = value.strip()
        if not 0 < len(said) <= MOST_WORDS:
            self.fail(f"say something, in at most {MOST_WORDS} characters", param, ctx)
        return said


by = click.option(
    "--by",
    type=Words(),
    default=user,
    show_default="you",
    help="Who decides it; where the decision is signed, with it.",
)


def json_of(rows: Sequence[BaseModel]) -> str:
    """As `--json` prints them: an array."""
    return json.dumps([row.model_dump(mode="json") for row in rows], indent=2)
