"""Commands `cscm images`, `where` and `explain`: list images, find what is in them, and show their history."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import chain
from typing import TYPE_CHECKING

import click

from cscm.options import Image, as_json, render_json
from cscm.session import load_block
from supply_chain import reports
from supply_chain.errors import ImageNotFound
from supply_chain.fleet.explain import explain as explained
from supply_chain.fleet.where import find_places, list_exclusions, parse_question
from supply_chain.text import pluralize

if TYPE_CHECKING:
    from blocks import Inventory
    from supply_chain.adapters.database import SqlInventory

WIDEST = 60
"""Maximum number of characters in a cell of a table on a terminal."""


@click.command()
@click.argument("application", required=False)
@as_json
def images(application: str | None, as_json: bool) -> None:
    """List the curated images of APPLICATION or of all applications, the last push first.

    \b
    Example:
      cscm images hello
    """
    inventory = _inventory()
    if application and application not in inventory.applications():
        raise ImageNotFound(
            f"The inventory has no image of an application {application!r}.\n"
            "`cscm images` lists all; `cscm inventory` reads the registry again."
        )
    fleet = chain(inventory.list_removed(application), inventory.images(application))
    if as_json:  # print one by one, because there may be many
        before = "["
        for image in fleet:
            click.echo(before + json.dumps(image.model_dump(mode="json")))  # in ASCII: the names in it are untrusted
            before = ","
        click.echo("]" if before == "," else "[]")
        return
    rows = [reports.image_row(image) for image in fleet]
    _table(rows, ("application", "digest", "revision", "state", "runs in", "findings", "size", "pushed", "pulled"))
    click.echo(reports.freshness_line(inventory.find_last_reconciliation()), err=True)


@click.command()
@click.argument("question")
@as_json
def where(question: str, as_json: bool) -> None:
    """List the curated images that contain QUESTION; running images come first.

    QUESTION is a vulnerability (CVE-…), package[@version], a package URL, a digest, or base/NAME.

    \b
    Example:
      cscm where CVE-2026-1234
      cscm where zlib1g@1:1.2.13
    """
    parsed_question, inventory = parse_question(question), _inventory()
    places = find_places(parsed_question, inventory)
    if as_json:
        click.echo(render_json(places))
    else:
        _table([reports.place_row(each) for each in places], ("application", "digest", "owner", "runs in", "match"))
    running = sum(1 for each in places if each.running)
    click.echo(f"{parsed_question}: in {pluralize(len(places), 'curated image')}, {running} of them running", err=True)
    click.echo(
        reports.freshness_line(inventory.find_last_reconciliation(), list_exclusions(inventory, parsed_question)),
        err=True,
    )


@click.command()
@click.argument("digest", type=Image())
@as_json
def explain(digest: str, as_json: bool) -> None:
    """Show the history of the image DIGEST.

    It has each event with its reason, what runs from the image, and what depends on it.

    \b
    Example:
      cscm explain 3fb1a90c7d2e
    """
    explanations = explained(digest, _inventory())
    click.echo(render_json(explanations) if as_json else "\n".join(map(reports.explanation_lines, explanations)))


def _inventory() -> SqlInventory:
    block: Inventory = load_block("Inventory", "inventory")
    return block.open()


def _table(rows: Sequence[dict[str, str]], columns: Sequence[str]) -> None:
    """Print rows as columns of the width of their content; long cells are cut, `--json` prints everything."""
    lines = [columns, *([_cut(row[column]) for column in columns] for row in rows)]
    widths = [max(len(line[place]) for line in lines) for place in range(len(columns))]
    for line in lines:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def _cut(cell: str) -> str:
    return cell if len(cell) <= WIDEST else f"{cell[: WIDEST - 1]}…"


COMMANDS = (images, where, explain)
