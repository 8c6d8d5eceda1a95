"""Run a flow in the process of a command, with the laptop's Prefect, and print its result."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from importlib import import_module
from typing import Any

import click
from pydantic_core import to_jsonable_python

from cscm.session import STEPS, use_prefect
from supply_chain.errors import Cancelled, ComponentFailed
from supply_chain.text import sanitize_lines, sanitize_text

REFUSED = 3
EXIT = {
    0: "Success, also of `monitor` if it finds deviations.",
    1: "An error, printed with its code; an interruption; what `doctor` finds not ok or `policy check` untested; "
    "a no to a prompt.",
    2: "A wrong call; the message says how to call the command.",
    REFUSED: "A gate refused the image, or would refuse what `check` found; `enforce status` found deviations. Every "
    "reason is printed.",
}
"""The meaning of each exit status of a command."""

verbose = click.option("-v", "--verbose", is_flag=True, help="Show the complete log, not only the steps.")


class _Terminal(logging.Handler):
    """Prints a line for each step to standard error, so that standard output has only the result."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print the record's message."""
        click.echo(sanitize_text(record.getMessage()), err=True)


def run(flow: str, as_json: bool, verbose: bool, /, **parameters: Any) -> None:
    """Run a flow, named as in prefect.yaml (`flows.chain:chain`), and print its result."""
    print_result(run_flow(flow, verbose, **parameters), as_json)


def run_flow(flow: str, verbose: bool, /, **parameters: Any) -> Any:
    """Run a flow, print its steps meanwhile, and return its result.

    The flow is imported after Prefect's environment is set. Raises `Cancelled` if the run gets SIGTERM, and
    `ComponentFailed` if Prefect's server stops answering.
    """
    use_prefect(verbose=verbose)
    if not verbose:  # Prefect has set up logging
        steps = logging.getLogger(STEPS)
        steps.addHandler(_Terminal())
        steps.setLevel(logging.INFO)
    from httpx import TransportError  # noqa: PLC0415 - Prefect's client does not wrap this error
    from prefect.exceptions import TerminationSignal  # noqa: PLC0415

    from orchestration.run_tags import tag_flows  # noqa: PLC0415

    tag_flows()  # by these tags, the server knows which runs it ends when they are abandoned
    module, _, name = flow.partition(":")
    try:
        return asyncio.run(getattr(import_module(module), name)(**parameters))
    except TerminationSignal as signal:
        raise Cancelled(
            "The run received SIGTERM and ended its commands.\n"
            "Run the same command again; steps that are proven by evidence are not repeated."
        ) from signal
    except TransportError as error:
        raise ComponentFailed(
            f"Prefect's server stopped answering: {str(error) or type(error).__name__}\n"
            "Run `cscm up`, then the same command again; steps that are proven by evidence are not repeated."
        ) from error


def print_result(result: Any, as_json: bool) -> None:
    """Print the result of a flow; if it is a refusal, exit with the status `REFUSED`."""
    from cscm.rendering import render  # noqa: PLC0415 - together with Prefect, after its environment is set
    from supply_chain.policy.outcome import Refused  # noqa: PLC0415

    if as_json:
        click.echo(json.dumps(to_jsonable_python(result), indent=2))
    elif isinstance(result, Refused):
        click.secho(sanitize_lines(str(result)), fg="yellow")
    else:
        click.echo(sanitize_lines(render(result)))
    if isinstance(result, Refused):
        sys.exit(REFUSED)
