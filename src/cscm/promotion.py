"""Commands `cscm freeze` and `cscm unfreeze`: stop and resume promotions by events."""

from __future__ import annotations

import asyncio

import click

from cscm.options import Words, by
from cscm.session import use_prefect
from supply_chain.text import plain_text


@click.command()
@click.option("--reason", type=Words(), required=True, help="The reason. Every promotion that waits shows it.")
@by
def freeze(reason: str, by: str) -> None:
    """Stop promotions by events until `cscm unfreeze`.

    The commands `chain`, `curate` and `deploy` still work.

    \b
    Example:
      cscm freeze --reason "The registry is being moved"
    """
    use_prefect()
    from orchestration.clock import now  # noqa: PLC0415 - import Prefect only after its environment is set
    from orchestration.promotion_freeze import set_freeze as start  # noqa: PLC0415
    from supply_chain.promotion.freeze import PromotionFreeze  # noqa: PLC0415

    about = PromotionFreeze(by=by, reason=reason, since=now())
    asyncio.run(start(about))
    click.echo(plain_text(about))


@click.command()
def unfreeze() -> None:
    """End a freeze: promotions continue, and the next reconcile starts missed ones.

    \b
    Example:
      cscm unfreeze
    """
    use_prefect()
    from orchestration.promotion_freeze import lift_freeze as end  # noqa: PLC0415

    click.echo("the promotion freeze ended" if asyncio.run(end()) else "there was no promotion freeze")


COMMANDS = (freeze, unfreeze)
