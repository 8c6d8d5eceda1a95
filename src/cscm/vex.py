"""Commands `cscm vex`: write and check statements about vulnerabilities in images."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import click

from cscm.options import Image, NewFile, Words
from supply_chain.model.image import ImageRef
from supply_chain.vulnerability.vex.openvex import vex_document
from supply_chain.vulnerability.vex.statement import Justification, VexStatus


@click.group()
def vex() -> None:
    """Write and check statements about vulnerabilities in images (VEX).

    \b
    Example:
      cscm vex create curated/hello@sha256:… --vulnerability CVE-2026-1 --status fixed --author psirt@example.com
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
    """Write an OpenVEX document about IMAGE, with a statement for each vulnerability. It is not signed.

    IMAGE is NAME@sha256:… with the whole digest.

    \b
    Example:
      cscm vex create curated/hello@sha256:… --vulnerability CVE-2026-1 --status not_affected \\
          --justification vulnerable_code_not_in_execute_path --author psirt@example.com -o hello.vex.json
    """
    document = vex_document(
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


COMMANDS = (vex,)
