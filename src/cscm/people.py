"""Commands `cscm people`, `waive` and `waivers`: who may decide, and what they accepted."""

from __future__ import annotations

from pathlib import Path

import click

from cscm.options import as_json, json_of
from cscm.session import load_block
from cscm.signing import key_option, require_place, sign_document
from orchestration.project import find_project
from supply_chain import reports
from supply_chain.fleet.waivers import find_uses
from supply_chain.model.documents import read_document
from supply_chain.policy.people import FILE, PeopleDocument
from supply_chain.policy.signed_documents import DocumentKind
from supply_chain.policy.waivers import DIRECTORY, WaiverDocument
from supply_chain.text import plain_text, plain_text_lines


@click.group()
def people() -> None:
    """Check and sign deployments/people.yaml: who may approve and waive, and whose VEX documents count.

    \b
    Example:
      cscm people check
      cscm people sign --key owner.key
    """


@people.command()
def check() -> None:
    """Check deployments/people.yaml, and list what it allows. Whether its owner signed it is not checked.

    \b
    Example:
      cscm people check
    """
    click.echo(plain_text_lines(reports.people_lines(read_document(find_project() / FILE, PeopleDocument))))


@people.command()
@key_option(required=True)
def sign(key: str) -> None:
    """Sign deployments/people.yaml with the owner's key.

    The gates verify it with the public key in the workbench block.

    \b
    Example:
      cscm people sign --key owner.key
    """
    document = find_project() / FILE
    read_document(document, PeopleDocument)
    click.echo(f"signed: {plain_text(sign_document(DocumentKind.PEOPLE, document, key))}")


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@key_option(required=True)
def waive(file: Path, key: str) -> None:
    """Sign the waiver FILE, which is in deployments/waivers, with your own key.

    It has an effect if deployments/people.yaml says that you may, and if somebody else requested it: see
    `cscm waivers`.

    \b
    Example:
      cscm waive deployments/waivers/zlib.yaml --key ann.key
    """
    read_document(file, WaiverDocument)
    require_place(file, DIRECTORY, ".yaml")
    click.echo(f"signed: {plain_text(sign_document(DocumentKind.WAIVER, file, key))}")


@click.command()
@as_json
def waivers(as_json: bool) -> None:
    """List the waivers: whether each has an effect, until when, and which images rest on it.

    \b
    Example:
      cscm waivers
    """
    policies = load_block("Workbench", "workbench").unsigned_policies()
    found = find_uses(policies.waivers.reports, load_block("Inventory", "inventory").open().images(None))
    click.echo(json_of(found) if as_json else plain_text_lines(reports.waiver_lines(found)))


COMMANDS = (people, waive, waivers)
