"""Commands `cscm lifecycle`, `block`, `unblock`, `hold` and `release`: plan and decide the lifecycle of images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from cscm.options import Image, NewFile, Words, as_json, by
from cscm.running import result_of, run, tell, verbose
from cscm_laptop.home import Home
from supply_chain.lifecycle.plan import Plan, read_plan, write_plan
from supply_chain.lifecycle.rules import TESTS
from supply_chain.reports import plan_lines
from supply_chain.text import plain_text_lines

RULINGS = {
    "block": "Refuse IMAGE (curated/NAME@sha256:… or a digest) at every gate and to whoever pulls it, from now on.",
    "unblock": "Lift a block: the gates judge IMAGE by its evidence again, and it can be pulled within minutes.",
    "hold": "Keep IMAGE from the lifecycle: nothing of it is removed or archived.",
    "release": "End a hold: the rules decide about IMAGE again.",
}


def _rules_there(_context: Any, _parameter: Any, typed: str) -> list[str]:
    there = Home.find().project.glob("deployments/lifecycle/*.yaml")
    return sorted(p.stem for p in there if p.stem.startswith(typed) and not p.stem.endswith(TESTS))


@click.group()
def lifecycle() -> None:
    """Plan what is aged out, archived and blocked, and carry a plan out."""


@lifecycle.command()
@click.option("-o", "--output", type=NewFile(), help="Write the plan to this file.")
@click.option("--rules", default="nightly", show_default=True, shell_complete=_rules_there,
              help="The rules to plan by: a document in deployments/lifecycle.")  # fmt: skip
@as_json
@verbose
def plan(output: Path | None, rules: str, as_json: bool, verbose: bool) -> None:
    """Say what the rules come to now. Nothing is changed."""
    found: Plan = result_of("flows.lifecycle:plan_only", verbose, rules=rules)
    if output:
        write_plan(found, output)
    tell(found, as_json)


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
        click.echo(plain_text_lines(plan_lines(found)), err=True)
        click.confirm("Carry it out?", abort=True, err=True)
    path = str(plan.resolve())
    run("flows.lifecycle:apply_only", as_json, verbose, path=path, by=by, why=why, digest=found.digest)


def _ruling(name: str, about: str) -> click.Command:
    @click.command(name=name, help=about)
    @click.argument("image", type=Image())
    @click.option("--why", type=Words(), required=True, help="Why. It is signed, and told to whoever meets it.")
    @by
    @as_json
    @verbose
    def command(image: str, why: str, by: str, as_json: bool, verbose: bool) -> None:
        run(f"flows.image_decisions:{name}", as_json, verbose, image=image, why=why, by=by)

    return command


COMMANDS = (lifecycle, *(_ruling(name, about) for name, about in RULINGS.items()))
