"""Commands `cscm bridge` and `cscm events`: carry ECR's push events to Prefect, and handle unreadable messages."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cscm.options import NewFile, as_json
from cscm.session import load_block, use_prefect
from supply_chain.fleet.where import find_invalid_names, require_advisory, require_package_names
from supply_chain.promotion.bridge import Bridge, Message, discard, find_dead_message, replay
from supply_chain.text import sanitize_text

if TYPE_CHECKING:
    from blocks import Bridge as Settings

FORMAT = "%(asctime)s %(levelname)s %(message)s"


@click.command()
@click.option("--alive", type=NewFile(), help="Touch this file after each read of the queue.")
def bridge(alive: Path | None) -> None:
    """Carry ECR's push events to Prefect until stopped.

    It may be stopped at any time.

    \b
    Example:
      cscm bridge --alive /tmp/bridge-alive
    """
    settings = _settings()
    from prefect.client.orchestration import get_client  # noqa: PLC0415 - import Prefect only after its environment is set

    from orchestration.announcements import PrefectAnnouncer  # noqa: PLC0415

    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter(FORMAT))
    log = logging.getLogger("supply_chain.bridge")
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    log.propagate = False  # no run owns these messages
    with get_client(sync_client=True) as client:
        carrying = Bridge(settings.queue(), settings.dead_letters(), PrefectAnnouncer(client), time.sleep)
        carrying.run(alive.touch if alive else lambda: None)


@click.group()
def events() -> None:
    """Announce advisories, and handle messages that the bridge could not read.

    \b
    Example:
      cscm events dead
    """


@events.command()
@click.argument("name", metavar="ADVISORY")
@click.argument("packages", nargs=-1)
def advisory(name: str, packages: tuple[str, ...]) -> None:
    """Announce ADVISORY, which rescans the images that contain one of PACKAGES.

    Without PACKAGES, all images are rescanned.

    A package is a name, name@version or a package URL.

    \b
    Example:
      cscm events advisory DSA-5987-1 openssl
    """
    require_advisory(name, packages)
    require_package_names(find_invalid_names(packages))
    use_prefect()
    from orchestration.database_events import post_advisory  # noqa: PLC0415

    post_advisory(name, packages)
    click.echo(sanitize_text(f"announced {name}: rescan/on-advisory matches {', '.join(packages) or 'every image'}"))


@events.command()
@as_json
def dead(as_json: bool) -> None:
    """List the messages in the dead-letter queue, each with its reason.

    A message stays there for 14 days.

    \b
    Example:
      cscm events dead
    """
    messages = _settings().dead_letters().all()
    if as_json:
        click.echo(_json_of(messages))
    elif not messages:
        click.echo("nothing to report")
    for each in () if as_json else messages:
        _print_message(each, each.body[:400])


@events.command(name="replay")
@click.argument("message", required=False, metavar="[ID]")
@click.option("--all", "everything", is_flag=True, help="Send all messages again.")
@as_json
def replay_messages(message: str | None, everything: bool, as_json: bool) -> None:
    """Send the dead message ID, or all dead messages, through the bridge again.

    The beginning of the ID is enough.

    \b
    Example:
      cscm events replay --all
    """
    if bool(message) == everything:
        raise click.UsageError("Give the ID of one message, or --all.")
    settings = _settings()
    dead = settings.dead_letters()
    chosen = (find_dead_message(dead, message),) if message else dead.all()
    replay(dead, settings.queue(), chosen)
    if as_json:
        click.echo(_json_of(chosen))
    for each in () if as_json else chosen:
        click.echo(sanitize_text(f"sent again: {each.id}"))


@events.command(name="discard")
@click.argument("message", metavar="ID")
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
@as_json
def discard_message(message: str, yes: bool, as_json: bool) -> None:
    """Print the dead message ID, and delete it for good.

    The beginning of the ID is enough.

    \b
    Example:
      cscm events discard 0a1b2c3d
    """
    dead = _settings().dead_letters()
    chosen = find_dead_message(dead, message)
    if as_json:
        click.echo(_json_of([chosen]))
    else:
        _print_message(chosen, chosen.body)
    if not yes:
        click.confirm("Delete it?", abort=True, err=True)
    discard(dead, chosen)
    click.echo(sanitize_text(f"deleted: {chosen.id}"), err=True)


def _json_of(messages: Sequence[Message]) -> str:
    fields = {"id", "sent", "reason", "body"}
    return json.dumps([each.model_dump(mode="json", include=fields) for each in messages], indent=2)


def _print_message(message: Message, body: str) -> None:
    click.echo(sanitize_text(f"{message.id}  {_when(message)}  {message.reason}"))
    click.echo(sanitize_text(f"    {body}"))


def _when(message: Message) -> str:
    return f"{message.sent:%Y-%m-%d %H:%M:%S %Z}" if message.sent else "at an unknown time"


def _settings() -> Settings:
    settings: Settings = load_block("Bridge", "bridge")
    return settings


COMMANDS = (bridge, events)
