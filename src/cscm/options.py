"""What several commands take, and how they print what they found."""

from __future__ import annotations

import json
import os
import pwd
from collections.abc import Sequence

import click
from pydantic import BaseModel

as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def user() -> str:
    """Who types, as this machine knows them."""
    return pwd.getpwuid(os.getuid()).pw_name


by = click.option(
    "--by", default=user, show_default="you", help="Who decides it; where the decision is signed, with it."
)


def json_of(rows: Sequence[BaseModel]) -> str:
    """As `--json` prints them: an array."""
    return json.dumps([row.model_dump(mode="json") for row in rows], indent=2)
