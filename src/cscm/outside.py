"""Commands `cscm key`, `registry-token` and `verdict`: what is needed to verify images elsewhere."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from cscm.options import Image, as_json, environments
from cscm.running import REFUSED, print_result
from cscm.session import load_block, load_execution_ports
from supply_chain.evidence.published import read_current_verdict
from supply_chain.fleet.find import find
from supply_chain.model.tier import CURATED, OFFERED, Gate, TierName

if TYPE_CHECKING:
    from blocks import Tier

TIER = click.argument("tier", type=click.Choice([tier.value for tier in TierName]))


@click.command()
@TIER
@click.option("--verdicts", is_flag=True, help="The key for the published verdicts instead of the one for evidence.")
def key(tier: str, verdicts: bool) -> None:
    """Print the public key (PEM) of TIER that the execution tier trusts.

    \b
    Example:
      cscm key curation > curation.pub
      cscm key execution --verdicts > verdicts.pub
    """
    block = _block(TierName.EXECUTION)
    click.echo((block.trusted_verdict_key(tier) if verdicts else block.trusted_key(tier)).strip())


@click.command()
@click.argument("image", type=Image())
@click.option("--environment", default="", help="The environment, for the verdict of the deploy gate.",
              shell_complete=environments)  # fmt: skip
@click.option(
    "--gate",
    type=click.Choice(["intake", "release"]),
    default="release",
    help="The gate of curation, without --environment.",
)
@as_json
def verdict(image: str, environment: str, gate: str, as_json: bool) -> None:
    """Verify and print the published verdict about IMAGE, as an enforcer reads it.

    IMAGE is curated/NAME@sha256:… or a digest, of which 12 digits are enough; dev/NAME@sha256:… before it is curated.
    The verdict has to be signed with the verdict key of the gate's tier. Exits with 3 if it admits nothing.

    \b
    Example:
      cscm verdict 3fb1a90c7d2e --environment production
    """
    ports = load_execution_ports()
    ref = find(image, OFFERED if image.strip().startswith(OFFERED) else CURATED, ports.repositories)
    current = read_current_verdict(ports.verdicts, ref, Gate.DEPLOY if environment else Gate(gate), environment)
    print_result(current, as_json)
    if not current.admits:
        sys.exit(REFUSED)


@click.command()
@TIER
def registry_token(tier: str) -> None:
    """Print a registry password for the role of TIER, valid for 12 hours.

    Its user name is AWS.

    \b
    Example:
      cscm registry-token execution | docker login --username AWS --password-stdin REGISTRY
    """
    click.echo(_block(TierName(tier)).ecr.credentials()[1])


def _block(tier: TierName) -> Tier:
    block: Tier = load_block("Tier", tier.value)
    return block


COMMANDS = (key, registry_token, verdict)
