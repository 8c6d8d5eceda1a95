"""Commands `cscm enforce plan`, `apply` and `status`: the admission policies of the cluster of an environment."""

from __future__ import annotations

import sys

import click

from cscm.options import as_json, environments
from cscm.running import REFUSED, print_result
from cscm.session import load_execution_ports

ENVIRONMENT = click.argument("environment", shell_complete=environments)


@click.group()
def enforce() -> None:
    """Let the cluster of an environment itself refuse what the deploy gate does not admit.

    \b
    Example:
      cscm enforce plan production
      cscm enforce apply production
    """


@enforce.command()
@ENVIRONMENT
@as_json
def plan(environment: str, as_json: bool) -> None:
    """Print what `apply` would create, change or remove in the cluster of ENVIRONMENT; change nothing.

    What is there of environments that the project has in no cluster is printed too; `apply` leaves it.

    \b
    Example:
      cscm enforce plan production
    """
    print_result(load_execution_ports().enforcement(environment).plan(), as_json)


@enforce.command()
@ENVIRONMENT
@as_json
def apply(environment: str, as_json: bool) -> None:
    """Install the policies in the cluster of ENVIRONMENT, and the images that its verdicts admit.

    What somebody changed in them is restored, and what earlier settings installed is removed.

    \b
    Example:
      cscm enforce apply production
    """
    print_result(load_execution_ports().enforcement(environment).apply(), as_json)


@enforce.command()
@ENVIRONMENT
@as_json
def status(environment: str, as_json: bool) -> None:
    """Compare the policies in the cluster of ENVIRONMENT with what was installed, and report what `deny` would refuse.

    Exits with 3 if there are deviations: something was removed, weakened, bypassed or left, the API server does not
    refuse by what is installed, or the verdict of an admitted image has lapsed.

    \b
    Example:
      cscm enforce status production
    """
    current = load_execution_ports().enforcement(environment).status()
    print_result(current, as_json)
    if current.deviations:
        sys.exit(REFUSED)


COMMANDS = (enforce,)
