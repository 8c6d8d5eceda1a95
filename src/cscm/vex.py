"""Commands `cscm vex`: write and check statements about vulnerabilities in images."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import click
from pydantic import AwareDatetime, Field

from cscm.options import Image, NewFile, Words, as_json, render_json
from cscm.running import run, verbose
from cscm.session import load_block
from cscm.signing import key_option, require_place, sign_document, use_key
from supply_chain.model.documents import decode_document, read_content
from supply_chain.model.image import ImageRef, Model
from supply_chain.policy.signed_documents import DocumentKind
from supply_chain.policy.vex import DIRECTORY, VexReport
from supply_chain.text import pluralize, sanitize_text, truncate_lines
from supply_chain.vulnerability.vex.openvex import make_vex_document
from supply_chain.vulnerability.vex.reading import read_vex_file
from supply_chain.vulnerability.vex.statement import Justification, VexStatement, VexStatus


@click.group()
def vex() -> None:
    """Write and check statements about vulnerabilities in images (VEX).

    \b
    Example:
      cscm vex check hello.vex.json
    """


@vex.command()
@click.argument("image", type=Image())
@click.option("--vulnerability", "vulnerabilities", type=Words(), multiple=True, required=True,
              help="The vulnerability, such as CVE-2026-1; may be given several times.")  # fmt: skip
@click.option(
    "--status",
    type=click.Choice([each.value for each in VexStatus]),
    required=True,
    help="What you state about the image.",
)
@click.option(
    "--justification", type=click.Choice([each.value for each in Justification]), help="Why the image is not affected."
)
@click.option("--author", type=Words(), required=True, help="The person or organisation that states it.")
@click.option("--impact", type=Words(), help="Why the image is not affected, in words.")
@click.option("--action", type=Words(), help="What users of an affected image do.")
@click.option("--package", "packages", multiple=True, metavar="PURL",
              help="A package of the image, if only it is meant; may be given several times.")  # fmt: skip
@click.option("-o", "--output", type=NewFile(), help="The file for the document; else it is printed.")
def create(
    image: str,
    vulnerabilities: tuple[str, ...],
    status: str,
    justification: str | None,
    author: str,
    impact: str | None,
    action: str | None,
    packages: tuple[str, ...],
    output: Path | None,
) -> None:
    """Write an OpenVEX document about IMAGE, with a statement for each vulnerability. Sign it with `cscm vex sign`.

    IMAGE is NAME@sha256:… with the whole digest.

    \b
    Example:
      cscm vex create curated/hello@sha256:… --vulnerability CVE-2026-1 --status fixed --author psirt@example.com
    """
    document = make_vex_document(
        ImageRef.parse(image),
        vulnerabilities,
        VexStatus(status),
        author,
        datetime.now(UTC),
        justification=Justification(justification) if justification else None,
        impact=impact or "",
        action=action or "",
        packages=packages,
    )
    if output is None:
        click.echo(document, nl=False)
    else:
        output.write_text(document, encoding="utf-8")


class CheckedStatement(Model):
    """A statement of a VEX document."""

    vulnerability: str
    status: VexStatus
    justification: Justification | None
    by: str = Field(description="the author, the document and its version; nobody verified them")
    at: AwareDatetime
    products: int = Field(description="number of images and packages that it can be about")
    unidentified: tuple[str, ...] = Field(description="products without a digest or package URL, which match nothing")

    @classmethod
    def of(cls, statement: VexStatement) -> CheckedStatement:
        """Return what is printed of a statement."""
        return cls(
            vulnerability=statement.vulnerability,
            status=statement.status,
            justification=statement.justification,
            by=str(statement),
            at=statement.at,
            products=sum(each.is_identified for each in statement.products),
            unidentified=tuple(each.name for each in statement.products if not each.is_identified),
        )

    def __str__(self) -> str:
        reason = f" ({self.justification})" if self.justification else ""
        about = f"{self.vulnerability}: {self.status}{reason} of {pluralize(self.products, 'product')}"
        line = f"{about}, by {self.by}, {self.at:%Y-%m-%d %H:%M %Z}"
        names = truncate_lines(5, self.unidentified)
        return "\n".join(map(sanitize_text, [line, *(f"    note: matches nothing: {name}" for name in names)]))


@vex.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@as_json
def check(files: tuple[Path, ...], as_json: bool) -> None:
    """Show what the OpenVEX and CSAF documents in FILES state; refuse invalid ones.

    Signatures are not verified.

    \b
    Example:
      cscm vex check hello.vex.json
    """
    rows = [CheckedStatement.of(statement) for file in files for statement in read_vex_file(file)]
    click.echo(render_json(rows) if as_json else "\n".join(map(str, rows)))


@vex.command()
@click.argument("file", type=click.Path(path_type=Path))
@key_option(keyless=False, required=True)
def sign(file: Path, key: str) -> None:
    """Sign the VEX document FILE, which is in deployments/vex, with the key of an issuer.

    It counts if deployments/people.yaml lists the issuer: see `cscm vex list`.

    \b
    Example:
      cscm vex sign deployments/vex/hello.json --key issuer.key
    """
    read_vex_file(file)
    require_place(file, DIRECTORY, ".json")
    click.echo(f"signed: {sanitize_text(sign_document(DocumentKind.VEX, file, key))}")


@vex.command()
@click.argument("image", type=Image())
@click.argument("file", type=click.Path(path_type=Path))
@key_option(keyless=False, required=True)
@as_json
@verbose
def attach(image: str, file: Path, key: str, as_json: bool, verbose: bool) -> None:
    """Sign the VEX document FILE as an attestation about IMAGE with the key of an issuer, and attach it to IMAGE.

    The gates read it like those in deployments/vex, and scanners of customers can use OpenVEX. IMAGE is
    curated/NAME@sha256:… or a digest, of which 12 digits are enough.

    \b
    Example:
      cscm vex attach 3fb1a90c7d2e hello.json --key issuer.key
    """
    read_vex_file(file)
    use_key(key)
    document = decode_document(read_content(file), str(file))
    run("flows.vex:attach_vex", as_json, verbose, image=image, document=document, key=key)


@vex.command(name="list")
@as_json
def list_documents(as_json: bool) -> None:
    """List the VEX documents in deployments/vex, with why one does not count at the gates.

    \b
    Example:
      cscm vex list
    """
    reports = load_block("Workbench", "workbench").unsigned_policies().vex.reports
    click.echo(render_json(reports) if as_json else "\n".join(map(_line, reports)) or "there are no VEX documents")


def _line(report: VexReport) -> str:
    state = f"does not count: {report.why}" if report.why else f"counts, {pluralize(report.statements, 'statement')}"
    return sanitize_text(f"{report.name}: {state}{f', signed by {report.by}' if report.by else ''}")


COMMANDS = (vex,)
