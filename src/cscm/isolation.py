"""Command `cscm unseal`: open what was collected of an isolated application."""

from __future__ import annotations

from pathlib import Path

import click

from cscm.options import Image, as_json
from cscm.running import print_result
from cscm.session import load_execution_ports
from supply_chain.execution.isolation.opening import open_bundle, write_bundle
from supply_chain.fleet.find import find
from supply_chain.model.tier import CURATED


@click.command()
@click.argument("image", type=Image())
@click.argument("directory", type=click.Path(path_type=Path))
@click.option("--case", help="The isolation, if IMAGE was isolated several times.")
@as_json
def unseal(image: str, directory: Path, case: str | None, as_json: bool) -> None:
    """Verify and decrypt what was sealed of the isolated IMAGE, and write it to the new or empty DIRECTORY.

    It needs your own AWS credentials, with kms:Decrypt on the forensics key: no tier may open a bundle.

    \b
    Example:
      AWS_PROFILE=forensics cscm unseal 3fb1a90c7d2e case-1
    """
    ports = load_execution_ports()
    ref = find(image, CURATED, ports.repositories)
    opened = open_bundle(ref, case, ports.evidence, ports.registry, ports.load_own_kms())
    write_bundle(opened, directory)
    print_result(opened.record, as_json)


COMMANDS = (unseal,)
