"""Commands `cscm key` and `cscm registry-token`: all that is needed to verify an image elsewhere with plain cosign."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from cscm.session import load_block
from supply_chain.model.tier import TierName

if TYPE_CHECKING:
    from blocks import Tier

TIER = click.argument("tier", type=click.Choice([tier.value for tier in TierName]))


@click.command()
@TIER
def key(tier: str) -> None:
    """Print the public key (PEM) of TIER that the execution tier trusts.

    \b
    Example:
      cscm key curation > curation.pub
    """
    click.echo(_block(TierName.EXECUTION).trusted_key(tier).strip())


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


COMMANDS = (key, registry_token)
