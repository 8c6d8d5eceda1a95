"""`cscm lifecycle`, `block`, `unblock`, `hold` and `release`: what is aged out, archived, blocked or held."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import click

from cscm.options import Words, as_json, by
from supply_chain.laptop.home import Home
from supply_chain.lifecycle.plan import Plan, read_plan, write_plan
from supply_chain.lifecycle.rules import TESTS
from supply_chain.pages import plan_lines
from supply_chain.shown import plain_lines

Run = Callable[[Callable[[], Coroutine[Any, Any, Any]], bool, bool], None]
Option = Callable[[Callable[..., Any]], Callable[..., Any]]
RULINGS = {
    "block": "Refuse IMAGE (curated/NAME@sha256:… or a digest) at every gate and to whoever pulls it, from now on.",
    "unblock": "Lift a block: the gates judge IMAGE by its evidence again, and it can be pulled within minutes.",
    "hold": "Keep IMAGE from the lifecycle: nothing of it is removed or archived.",
    "release": "End a hold: the rules decide about IMAGE again.",
}


def _rules_there(_context: Any, _parameter: Any, typed: str) -> list[str]:
    there = Home.find().project.glob("deployments/lifecycle/*.yaml")
    return sorted(p.stem for p in there if p.stem.startswith(typed) and not p.stem.endswith(TESTS))


def add_to(main: click.Group, run: Run, verbose: Option) -> None:
    """Add the commands; `run` runs a flow and tells how it ended."""

    @main.group()
    def lifecycle() -> None:
        """Plan what is aged out, archived and blocked, and carry a plan out."""

    @lifecycle.command()
    @click.option("-o", "--output", type=click.Path(path_type=Path), help="Write the plan to this file.")
    @click.option("--rules", default="nightly", show_default=True, shell_complete=_rules_there,
                  help="The rules to plan by: a document in deployments/lifecycle.")  # fmt: skip
    @as_json
    @verbose
    def plan(output: Path | None, rules: str, as_json: bool, verbose: bool) -> None:
        """Say what the rules come to now. Nothing is changed."""

        async def start() -> Plan:
            from flows.lifecycle import plan_only as flow  # noqa: PLC0415

            found: Plan = await flow(rules=rules)
            if output:
                write_plan(found, output)
            return found

        run(start, as_json, verbose)

    @lifecycle.command()
    @click.argument("plan", type=click.Path(path_type=Path))
    @click.option("--yes", is_flag=True, help="Do not ask.")
    @by
    @click.option("--why", default="", help="Why, where the plan is above its limits. It is signed.")
    @as_json
    @verbose
    def apply(plan: Path, yes: bool, by: str, why: str, as_json: bool, verbose: bool) -> None:
        """Do what PLAN says and nothing else, as far as what it rested on still holds.

        Interrupted, it is finished by the same command.
        """
        found = read_plan(plan)
        if found.over and not why:
            raise click.BadOptionUsage("why", f"{'; '.join(found.over)}: say --why, it is signed")
        if not yes:
            click.echo(plain_lines(plan_lines(found)), err=True)
            click.confirm("Carry it out?", abort=True, err=True)

        def start() -> Coroutine[Any, Any, Any]:
            from flows.lifecycle import apply_only as flow  # noqa: PLC0415

            return flow(path=str(plan.resolve()), by=by, why=why, digest=found.digest)

        run(start, as_json, verbose)

    for name, about in RULINGS.items():
        main.add_command(_ruling(name, about, run, verbose))


def _ruling(name: str, about: str, run: Run, verbose: Option) -> click.Command:
    @click.command(name=name, help=about)
    @click.argument("image")
    @click.option("--why", type=Words(), required=True, help="Why. It is signed, and told to whoever meets it.")
    @by
    @as_json
    @verbose
    def command(image: str, why: str, by: str, as_json: bool, verbose: bool) -> None:
        def start() -> Coroutine[Any, Any, Any]:
            from flows import rulings  # noqa: PLC0415

            flow: Any = getattr(rulings, name)
            started: Coroutine[Any, Any, Any] = flow(image=image, why=why, by=by)
            return started

        run(start, as_json, verbose)

    return command
