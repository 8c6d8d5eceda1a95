"""Commands `cscm people`, `waive`, `waivers`, `review` and `reviews`: who may decide, and what they decided."""

from __future__ import annotations

from pathlib import Path

import click
import yaml

from cscm.options import Words, as_json, render_json
from cscm.session import load_block
from cscm.signing import key_option, require_place, sign_content, sign_document
from cscm.waiver_scopes import explain_unchecked, read_known_applications
from orchestration.project import find_project
from supply_chain import reports
from supply_chain.adapters.git.repository import read_commit
from supply_chain.errors import DeclarationInvalid
from supply_chain.fleet.waivers import find_uses
from supply_chain.model.documents import read_document
from supply_chain.policy.loading import list_environments
from supply_chain.policy.people import FILE, read_valid_people
from supply_chain.policy.reviews import DIRECTORY as DIRECTORY_OF_REVIEWS
from supply_chain.policy.reviews import ReviewDocument, name_review
from supply_chain.policy.signed_documents import DocumentKind
from supply_chain.policy.waivers import DIRECTORY, NAME, WaiverDocument, find_unmatched
from supply_chain.text import sanitize_lines, sanitize_text


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
    click.echo(sanitize_lines(reports.people_lines(read_valid_people(find_project() / FILE))))


@people.command()
@key_option(keyless=False, required=True)
def sign(key: str) -> None:
    """Sign deployments/people.yaml with the owner's key.

    The gates verify it with the public key in the workbench block.

    \b
    Example:
      cscm people sign --key owner.key
    """
    document = find_project() / FILE
    read_valid_people(document)
    click.echo(f"signed: {sanitize_text(sign_document(DocumentKind.PEOPLE, document, key))}")


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
    document, project = read_document(file, WaiverDocument), find_project()
    require_place(file, DIRECTORY, ".yaml")
    if not NAME.fullmatch(file.stem):
        raise DeclarationInvalid(
            f"{file} has other characters in its name than {NAME.pattern}.\nRename it, and sign it."
        )
    click.echo(f"signed: {sanitize_text(sign_document(DocumentKind.WAIVER, file, key))}")
    applications = read_known_applications(project)
    for why in find_unmatched(document, applications, list_environments(project)):
        click.echo(f"note: {sanitize_text(why)}, so that the waiver covers nothing there", err=True)
    if unchecked := explain_unchecked([document], applications):
        click.echo(f"note: {unchecked}", err=True)


@click.command()
@as_json
def waivers(as_json: bool) -> None:
    """List the waivers: whether each has an effect, until when, and which images rest on it.

    \b
    Example:
      cscm waivers
    """
    policies = load_block("Workbench", "workbench").unsigned_policies()
    uses = find_uses(policies.waivers.reports, load_block("Inventory", "inventory").open().images(None))
    click.echo(render_json(uses) if as_json else sanitize_lines(reports.waiver_lines(uses)))


@click.command()
@click.argument("directory", type=click.Path(path_type=Path))
@click.option("--revision", help="The commit; otherwise the one that is checked out.")
@click.option("--by", metavar="NAME", type=Words(), required=True, help="Your name, as in deployments/people.yaml.")
@click.option("--reason", type=Words(), required=True, help="What you reviewed, or where the discussion is.")
@key_option(required=True)
def review(directory: Path, revision: str | None, by: str, reason: str, key: str) -> None:
    """Sign with your own key that you reviewed the commit of the application in DIRECTORY.

    It is written to deployments/reviews, and counts if deployments/people.yaml says that you may review, for images
    that are built from exactly this commit, unless you made the last change: see `cscm reviews`.

    \b
    Example:
      cscm review ../shop --by ann --reason "pull request 17" --key ann.key
    """
    repository, commit = read_commit(directory, revision)
    document = ReviewDocument(repository=repository, revision=commit, reason=reason)
    file = find_project() / DIRECTORY_OF_REVIEWS / name_review(document, by)
    content = yaml.safe_dump(document.model_dump(), sort_keys=False).encode()
    file.parent.mkdir(parents=True, exist_ok=True)
    signed = sign_content(DocumentKind.REVIEW, file, content, key)
    file.write_bytes(content)
    click.echo(
        f"signed: {sanitize_text(file)} and {sanitize_text(signed.name)}, about the commit {commit} of {repository}"
    )


@click.command()
@as_json
def reviews(as_json: bool) -> None:
    """List the reviews: by whom, of which commit, and why one does not count.

    \b
    Example:
      cscm reviews
    """
    review_reports = load_block("Workbench", "workbench").unsigned_policies().reviews.reports
    click.echo(render_json(review_reports) if as_json else sanitize_lines(reports.review_lines(review_reports)))


COMMANDS = (people, waive, waivers, review, reviews)
