"""Command `cscm unseal`: open what was collected of an isolated application."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cscm.options import Image, as_json
from cscm.running import print_result
from cscm.session import use_prefect
from supply_chain.execution.isolation.opening import open_bundle, write_bundle
from supply_chain.fleet.find import find
from supply_chain.model.tier import CURATED

if TYPE_CHECKING:
    from blocks.execution_ports import ExecutionPorts


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
    ports = _load_ports()
    ref = find(image, CURATED, ports.repositories)
    opened = open_bundle(ref, case, ports.evidence, ports.registry, ports.load_own_kms())
    write_bundle(opened, directory)
    print_result(opened.record, as_json)


def _load_ports() -> ExecutionPorts:
    use_prefect()
    from blocks.execution_ports import ExecutionPorts  # noqa: PLC0415 - after Prefect's environment is set

    return asyncio.run(ExecutionPorts.aload())


COMMANDS = (unseal,)
