"""`cscm`: what a person types."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import click

from cscm import events, fleet, hook, laptop, lifecycle, outside, promotion, register
from cscm.options import Words, as_json
from cscm.session import STEPS, use_prefect
from supply_chain.app import FILE, json_schema, read_manifest
from supply_chain.errors import Cancelled, PartFailed, SupplyChainError
from supply_chain.laptop.home import Home
from supply_chain.pages import applied_lines, observation_lines, plan_lines, rescan_message
from supply_chain.scratch import disk_full_told
from supply_chain.shown import plain, plain_lines

REFUSED = 3
EXIT = {
    0: "Done. Also of `monitor`, whatever it found: read its deviations.",
    1: "An error, told with its code; an interruption; of `doctor`, a part that is not well; a question answered no.",
    2: "A wrong call, told with how to call it.",
    REFUSED: "A gate refused the image, told with every reason.",
}
"""What each exit status of a command says."""
BASES = ("python", "python-build", "proxy")
"""What every laptop needs; another base is made with `cscm chain bases/NAME`."""


class Cli(click.Group):
    """Shows our errors as messages, and never a stack trace for what a user can mend."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            with disk_full_told():
                return super().invoke(ctx)
        except SupplyChainError as error:
            click.secho(plain_lines(f"error: {error}"), fg="red", err=True)
            ctx.exit(1)


@click.group(cls=Cli, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="container-supply-chain", prog_name="cscm")
def main() -> None:
    """Take code across three tiers until it runs as a watched container."""


for command in (
    *laptop.COMMANDS,
    *outside.COMMANDS,
    *fleet.COMMANDS,
    *promotion.COMMANDS,
    *events.COMMANDS,
    *register.COMMANDS,
):
    main.add_command(command)
main.add_command(hook.hook)


class _Terminal(logging.Handler):
    """A line per step on standard error, so that standard output is the result alone."""

    def emit(self, record: logging.LogRecord) -> None:
        click.echo(plain(record.getMessage()), err=True)


def _run(start: Callable[[], Coroutine[Any, Any, Any]], as_json: bool, verbose: bool) -> None:
    """Run a flow here, with the laptop's Prefect, and say how it ended."""
    use_prefect(verbose=verbose)
    import prefect.main  # noqa: F401, PLC0415 - sets logging up, which is then added to

    if not verbose:
        steps = logging.getLogger(STEPS)
        steps.addHandler(_Terminal())
        steps.setLevel(logging.INFO)
    from httpx import TransportError  # noqa: PLC0415 - Prefect's client lets it through
    from prefect.exceptions import TerminationSignal  # noqa: PLC0415

    try:
        result = asyncio.run(start())
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
    return next((tell(result) for has, tell in TOLD if hasattr(result, has)), None) or str(result)


def _environments_there() -> list[str]:
    return sorted(path.stem for path in Home.find().project.glob("deployments/environments/*.yaml"))


def _bases_there(project: Path) -> list[str]:
    return sorted(path.parent.name for path in project.glob(f"bases/*/{FILE}"))


def _offered(names: Callable[[], list[str]]) -> Callable[[Any, Any, str], list[str]]:
    """What a shell is offered: those that begin as what is typed."""
    return lambda _context, _parameter, typed: [name for name in names() if name.startswith(typed)]


environments = _offered(_environments_there)
fresh = click.option("--fresh", is_flag=True, help="Do every step again, also those that signed evidence proves.")
verbose = click.option("-v", "--verbose", is_flag=True, help="Show the whole log, not the steps alone.")


@main.command()
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--revision", help="Build this git commit instead of the files as they are.")
@click.option(
    "--environment",
    help="Deploy here instead of to the first environment the application declares.",
    shell_complete=environments,
)
@fresh
@as_json
@verbose
def chain(path: Path, revision: str | None, environment: str | None, fresh: bool, as_json: bool, verbose: bool) -> None:
    """Take the application in PATH through all three tiers."""
    read_manifest(path)

    def start() -> Coroutine[Any, Any, Any]:
        from flows.chain import chain as flow  # noqa: PLC0415

        return flow(path=str(path.resolve()), revision=revision, environment=environment, fresh=fresh)

    _run(start, as_json, verbose)


@main.command()
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--revision", help="Build this git commit instead of the files as they are.")
@fresh
@as_json
@verbose
def develop(path: Path, revision: str | None, fresh: bool, as_json: bool, verbose: bool) -> None:
    """Build, test and offer the application in PATH."""
    read_manifest(path)

    def start() -> Coroutine[Any, Any, Any]:
        from flows.develop import develop as flow  # noqa: PLC0415

        return flow(path=str(path.resolve()), revision=revision, fresh=fresh)

    _run(start, as_json, verbose)


@main.command()
@click.argument("image")
@fresh
@as_json
@verbose
def curate(image: str, fresh: bool, as_json: bool, verbose: bool) -> None:
    """Admit, store, encrypt, scan and sign IMAGE (dev/NAME@sha256:… or a digest)."""

    def start() -> Coroutine[Any, Any, Any]:
        from flows.curate import curate as flow  # noqa: PLC0415

        return flow(image=image, fresh=fresh)

    _run(start, as_json, verbose)


@main.command()
@click.argument("image")
@click.option("--environment", required=True, help="Where to run it.", shell_complete=environments)
@fresh
@as_json
@verbose
def execute(image: str, environment: str, fresh: bool, as_json: bool, verbose: bool) -> None:
    """Admit and deploy IMAGE (curated/NAME@sha256:… or a digest)."""

    def start() -> Coroutine[Any, Any, Any]:
        from flows.execute import execute as flow  # noqa: PLC0415

        return flow(image=image, environment=environment, fresh=fresh)

    _run(start, as_json, verbose)


@main.command()
@click.argument("image")
@click.option("--environment", required=True, help="Where it may run, or not.", shell_complete=environments)
@click.option("--who", type=Words(), required=True, help="Your name, recorded as you write it.")
@click.option("--why", type=Words(), required=True, help="One sentence; it stands in the signed statement.")
@click.option("--deny", is_flag=True, help="Say no, also where somebody said yes before.")
@as_json
@verbose
def approve(image: str, environment: str, who: str, why: str, deny: bool, as_json: bool, verbose: bool) -> None:
    """Sign your decision about IMAGE (curated/NAME@sha256:… or a digest) in an environment."""

    def start() -> Coroutine[Any, Any, Any]:
        from flows.promote import approve as flow  # noqa: PLC0415

        return flow(image=image, environment=environment, who=who, why=why, deny=deny)

    _run(start, as_json, verbose)


@main.command()
@click.option("--environment", help="Look at this environment only.", shell_complete=environments)
@as_json
@verbose
def monitor(environment: str | None, as_json: bool, verbose: bool) -> None:
    """Compare what runs with what should run."""

    def start() -> Coroutine[Any, Any, Any]:
        from flows.monitor import monitor as flow  # noqa: PLC0415

        return flow(environment=environment)

    _run(start, as_json, verbose)


@main.command()
@click.argument("application", required=False)
@click.option("--rebuild", is_flag=True, help="Read all of it anew, also what did not change.")
@as_json
@verbose
def inventory(application: str | None, rebuild: bool, as_json: bool, verbose: bool) -> None:
    """Hold the inventory against the registry and the hosts, for APPLICATION or for all."""

    def start() -> Coroutine[Any, Any, Any]:
        from flows.inventory import inventory as flow  # noqa: PLC0415

        return flow(application=application, rebuild=rebuild)

    _run(start, as_json, verbose)


@main.command()
@click.argument("packages", nargs=-1)
@as_json
@verbose
def rescan(packages: tuple[str, ...], as_json: bool, verbose: bool) -> None:
    """Match every curated image with the vulnerability database; with PACKAGES, those that carry one of them."""

    def start() -> Coroutine[Any, Any, Any]:
        from flows.rescan import rescan as flow  # noqa: PLC0415

        return flow(packages=list(packages))

    _run(start, as_json, verbose)


@main.command()
@click.option("--fresh", is_flag=True, help="Make them anew, also where a curated one is there.")
@click.argument("names", nargs=-1, shell_complete=_offered(lambda: _bases_there(Home.find().project)))
@as_json
@verbose
def bases(names: tuple[str, ...], fresh: bool, as_json: bool, verbose: bool) -> None:
    """Make the internal base images NAMES (default: those every laptop needs) through the chain."""
    home = use_prefect(verbose=verbose)
    there = _bases_there(home.project)
    if unknown := [name for name in names if name not in there]:
        raise click.BadArgumentUsage(f"no base is called {', '.join(unknown)}; there are {', '.join(there)}")

    async def make() -> Any:
        from flows.bases import bases as flow  # noqa: PLC0415

        return await flow(names=list(names or BASES), project=str(home.project), fresh=fresh)

    _run(make, as_json, verbose)


lifecycle.add_to(main, _run, verbose)


@main.command()
def schema() -> None:
    """Print the JSON Schema of supply-chain.yaml."""
    click.echo(json.dumps(json_schema(), indent=2))


if __name__ == "__main__":
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    main()
