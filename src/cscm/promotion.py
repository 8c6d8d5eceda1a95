"""Commands of people about promotions: `cscm approve`, `freeze`, `unfreeze` and `break-glass`."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from typing import Any

import click

from cscm.options import Image, Words, as_json, by, environments
from cscm.running import run, verbose
from cscm.session import use_prefect
from cscm.signing import key_option, signer_option, use_key
from supply_chain.text import sanitize_text


@click.command()
@click.argument("image", type=Image())
@click.option("--environment", required=True, help="Decide about this environment.", shell_complete=environments)
@signer_option(required=True)
@click.option("--reason", type=Words(), required=True, help="The reason. It is signed.")
@key_option(default="")
@click.option("--deny", is_flag=True, help="Deny it, which overrides an earlier approval.")
@as_json
@verbose
def approve(
    image: str, environment: str, by: str, reason: str, key: str, deny: bool, as_json: bool, verbose: bool
) -> None:
    """Sign your approval or denial of IMAGE for an environment.

    Some environments count only what you sign with a key of your own (--key).

    IMAGE is curated/NAME@sha256:… or a digest, of which 12 digits are enough.

    \b
    Example:
      cscm approve 3fb1a90c7d2e --environment production --by "Ann Lee" --reason "Load test passed"
    """
    use_key(key)
    parameters = {"image": image, "environment": environment, "by": by, "reason": reason, "key": key, "deny": deny}
    run("flows.promote:approve", as_json, verbose, **parameters)


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
    from orchestration.clock import read_clock  # noqa: PLC0415 - import Prefect only after its environment is set
    from orchestration.promotion_freeze import set_freeze  # noqa: PLC0415
    from supply_chain.promotion.freeze import PromotionFreeze  # noqa: PLC0415

    about = PromotionFreeze(by=by, reason=reason, since=read_clock())
    asyncio.run(set_freeze(about))
    click.echo(sanitize_text(about))


@click.command()
def unfreeze() -> None:
    """End a freeze: promotions continue, and the next catch-up starts missed ones.

    \b
    Example:
      cscm unfreeze
    """
    use_prefect()
    from orchestration.promotion_freeze import lift_freeze  # noqa: PLC0415

    click.echo("the promotion freeze ended" if asyncio.run(lift_freeze()) else "there was no promotion freeze")


class Time(click.ParamType[datetime]):
    """A time in UTC."""

    name = "time"

    def convert(self, value: str | datetime, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        """Return the time; fail without a time zone, or with another one."""
        try:
            at = datetime.fromisoformat(value) if isinstance(value, str) else value
        except ValueError:
            self.fail(f"{value!r} is not a time: write 2026-12-01T12:00Z", param, ctx)
        if at.utcoffset() != timedelta(0):
            self.fail(f"{value!r} is not in UTC: write 2026-12-01T12:00Z", param, ctx)
        return at


@click.command("break-glass")
@click.argument("image", type=Image())
@click.option("--environment", required=True, help="Deploy to this environment.", shell_complete=environments)
@click.option("--by", metavar="NAME", type=Words(), required=True, help="Your name in deployments/people.yaml.")
@click.option("--reason", type=Words(), required=True, help="The reason. It is signed.")
@click.option("--expires", metavar="TIME", type=Time(), required=True, help="When it ends, in UTC: 2026-12-01T12:00Z.")
@key_option(required=True)
@as_json
@verbose
def break_glass(**options: Any) -> None:
    """Deploy IMAGE although the deploy gate refuses it, for some hours.

    You sign it with your own key, for the reasons that refuse the image now, and the operators are notified. When it
    ends, or another reason comes up, the deployment is refused again.

    IMAGE is curated/NAME@sha256:… or a digest, of which 12 digits are enough.

    \b
    Example:
      cscm break-glass 3fb1a90c7d2e --environment prod --by ann --key a.key --reason Outage --expires 2026-12-01T12:00Z
    """
    use_key(options["key"])
    run("flows.break_glass:break_glass", options.pop("as_json"), options.pop("verbose"), **options)


COMMANDS = (approve, freeze, unfreeze, break_glass)
