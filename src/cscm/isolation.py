"""Commands `cscm isolate` and `unseal`: isolate an application, and open what was collected of it."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import click

from cscm.options import Image, Words, as_json, by
from cscm.running import print_result, run, verbose
from cscm.session import load_execution_ports
from supply_chain.execution.isolation.opening import open_bundle, write_bundle
from supply_chain.fleet.find import find
from supply_chain.model.tier import CURATED


def _split_place(_context: click.Context, _parameter: click.Parameter, value: str) -> tuple[str, str]:
    environment, _, application = value.partition("/")
    if not environment or not application:
        raise click.BadParameter(f"{value!r} is not ENVIRONMENT/APPLICATION, such as staging/hello")
    return environment, application


@click.command()
@click.argument("place", metavar="ENVIRONMENT/APPLICATION", callback=_split_place)
@click.option("--reason", type=Words(), required=True, help="The reason. It is signed.")
@by
@as_json
@verbose
def isolate(place: tuple[str, str], reason: str, by: str, as_json: bool, verbose: bool) -> None:
    """Isolate an application in a cluster: deny all its traffic, seal what it left as evidence, and roll back.

    What runs is kept in quarantine. After an interruption, repeat the command.

    \b
    Example:
      cscm isolate production/hello --reason "It connects to an unknown host"
    """
    environment, application = place
    parameters = {"environment": environment, "application": application, "reason": reason, "by": by}
    run("flows.isolate:isolate", as_json, verbose, **parameters, since=datetime.now(UTC))


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


COMMANDS = (isolate, unseal)
