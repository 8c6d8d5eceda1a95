"""How a command runs a flow here, with the laptop's Prefect, and says how it ended."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from collections.abc import Callable
from importlib import import_module
from typing import Any

import click

from cscm.session import STEPS, use_prefect
from supply_chain.errors import Cancelled, PartFailed
from supply_chain.reports import applied_lines, observation_lines, plan_lines, rescan_message
from supply_chain.text import plain, plain_lines

REFUSED = 3
EXIT = {
    0: "Done. Also of `monitor`, whatever it found: read its deviations.",
    1: "An error, told with its code; an interruption; of `doctor`, a part that is not well; a question answered no.",
    2: "A wrong call, told with how to call it.",
    REFUSED: "A gate refused the image, told with every reason.",
}
"""What each exit status of a command says."""

verbose = click.option("-v", "--verbose", is_flag=True, help="Show the whole log, not the steps alone.")


class _Terminal(logging.Handler):
    """A line per step on standard error, so that standard output is the result alone."""

    def emit(self, record: logging.LogRecord) -> None:
        click.echo(plain(record.getMessage()), err=True)


def run(flow: str, as_json: bool, verbose: bool, /, **parameters: Any) -> None:
    """Run a flow, named as in prefect.yaml (`flows.chain:chain`), and say how it ended."""
    tell(result_of(flow, verbose, **parameters), as_json)


def result_of(flow: str, verbose: bool, /, **parameters: Any) -> Any:
    """What a flow comes to, its steps told meanwhile. It is imported once Prefect's environment is set."""
    use_prefect(verbose=verbose)
    import prefect.main  # noqa: F401, PLC0415 - sets logging up, which is then added to

    if not verbose:
        steps = logging.getLogger(STEPS)
        steps.addHandler(_Terminal())
        steps.setLevel(logging.INFO)
    from httpx import TransportError  # noqa: PLC0415 - Prefect's client lets it through
    from prefect.exceptions import TerminationSignal  # noqa: PLC0415

    from orchestration.run_tags import tag_flows  # noqa: PLC0415

    tag_flows()  # by which the server knows whose runs it is to end when they are abandoned
    module, _, name = flow.partition(":")
    try:
        return asyncio.run(getattr(import_module(module), name)(**parameters))
    except TerminationSignal as signal:
        raise Cancelled(
            "The run was told to end (SIGTERM), and ended its commands.\n"
            "Run the same again; what is proven by then is not done again."
        ) from signal
    except TransportError as error:
        raise PartFailed(
            f"Prefect's server stopped answering: {error or type(error).__name__}\n"
            "Run `cscm up`, then the same again; what is proven by then is not done again."
        ) from error


def tell(result: Any, as_json: bool) -> None:
    """Print what a flow came to; a refusal ends the command with its own status."""
    from supply_chain.policy.outcome import Refused  # noqa: PLC0415 - with Prefect, after its environment is set

    if as_json:
        click.echo(json.dumps(_plain(result), indent=2))
    elif isinstance(result, Refused):
        click.secho(plain_lines(str(result)), fg="yellow")
    else:
        click.echo(plain_lines(_told(result)))
    if isinstance(result, Refused):
        sys.exit(REFUSED)


def _plain(result: Any) -> Any:
    if isinstance(result, (list, tuple)):
        return [_plain(each) for each in result]
    return result.model_dump(mode="json") if hasattr(result, "model_dump") else result


TOLD: tuple[tuple[str, Callable[[Any], str]], ...] = (
    ("deviations", observation_lines),
    ("steps", plan_lines),
    ("entries", applied_lines),
    ("unjudged", rescan_message),
    ("url", lambda it: f"{it.application} {it.digest} answers at {it.url}"),
    ("decision", lambda it: f"{it.decision} by {it.who} for {it.environment}: {it.digest}"),
    ("act", str),
    ("ref", lambda it: str(it.ref)),
)
"""What only one kind of result has, and how that kind is told; any other tells itself."""


def _told(result: Any) -> str:
    if isinstance(result, (list, tuple)):
        return "\n".join(_told(each) for each in result) or "nothing to report"
    return next((words(result) for has, words in TOLD if hasattr(result, has)), None) or str(result)
