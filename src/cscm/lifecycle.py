"""Commands `cscm lifecycle`, `block`, `unblock`, `hold` and `unhold`: plan and decide the lifecycle of images."""

from __future__ import annotations

from pathlib import Path

import click

from cscm.options import Image, NewFile, Words, as_json, by, complete_from, read_login_name
from cscm.running import print_result, run, run_flow, verbose
from cscm.signing import key_option, signer_option, use_key
from orchestration.project import find_project
from supply_chain.lifecycle.plan import Plan, read_plan, write_plan
from supply_chain.lifecycle.rules import TESTS
from supply_chain.reports import plan_lines
from supply_chain.text import sanitize_lines

DECISIONS = {
    "block": "Block IMAGE: from now on, every gate refuses it and nobody can pull it.",
    "unblock": "Lift a block of IMAGE: the gates judge it again, and within minutes it can be pulled.",
    "hold": "Hold IMAGE: the lifecycle removes and archives nothing of it.",
    "unhold": "End a hold of IMAGE: the lifecycle's rules apply to it again.",
}
HELP = """{about}

IMAGE is curated/NAME@sha256:… or a digest, of which 12 digits are enough.

\b
Example:
  cscm {name} 3fb1a90c7d2e --reason "Ticket 4711"
"""


def _list_rules() -> list[str]:
    stems = (path.stem for path in find_project().glob("deployments/lifecycle/*.yaml"))
    return sorted(stem for stem in stems if not stem.endswith(TESTS))


@click.group()
def lifecycle() -> None:
    """Plan which images are removed, archived or blocked, and apply a plan.

    \b
    Example:
      cscm lifecycle plan -o plan.json
      cscm lifecycle apply plan.json
    """


@lifecycle.command()
@click.option("-o", "--output", type=NewFile(), help="The file for the plan.")
@click.option("--rules", default="nightly", show_default=True, shell_complete=complete_from(_list_rules),
              help="The rules, a document in deployments/lifecycle.")  # fmt: skip
@as_json
@verbose
def plan(output: Path | None, rules: str, as_json: bool, verbose: bool) -> None:
    """Make a plan by the rules; change nothing.

    \b
    Example:
      cscm lifecycle plan -o plan.json
    """
    result: Plan = run_flow("flows.lifecycle:plan_only", verbose, rules=rules)
    if output:
        write_plan(result, output)
    print_result(result, as_json)


@lifecycle.command()
@click.argument("plan", type=click.Path(path_type=Path))
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
@by
@click.option("--reason", default="", help="The reason, if the plan is above its limits. It is signed.")
@as_json
@verbose
def apply(plan: Path, yes: bool, by: str, reason: str, as_json: bool, verbose: bool) -> None:
    """Apply the steps of PLAN, and do nothing else.

    A step whose preconditions no longer hold is skipped. After an interruption, repeat the command.

    \b
    Example:
      cscm lifecycle apply plan.json
    """
    reviewed = read_plan(plan)
    if reviewed.exceeded_limits and not reason:
        raise click.BadOptionUsage(
            "reason", f"{'; '.join(reviewed.exceeded_limits)}: add --reason TEXT, which is signed"
        )
    if not yes:
        click.echo(sanitize_lines(plan_lines(reviewed)), err=True)
        click.confirm("Apply the plan?", abort=True, err=True)
    path = str(plan.resolve())
    run("flows.lifecycle:apply_only", as_json, verbose, path=path, by=by, reason=reason, digest=reviewed.digest)


def _make_command(name: str, about: str) -> click.Command:
    @click.command(name=name, help=HELP.format(about=about, name=name))
    @click.argument("image", type=Image())
    @click.option("--reason", type=Words(), required=True, help="The reason. It is signed.")
    @signer_option(default=read_login_name, show_default="you")
    @key_option(default="")
    @as_json
    @verbose
    def command(image: str, reason: str, by: str, key: str, as_json: bool, verbose: bool) -> None:
        use_key(key)
        run(f"flows.image_decisions:{name}", as_json, verbose, image=image, reason=reason, by=by, key=key)

    return command


COMMANDS = (lifecycle, *(_make_command(name, about) for name, about in DECISIONS.items()))
