"""Commands `cscm up`, `down`, `status`, `doctor` and `reset`: the supply chain of this machine.

Each imports the laptop when it runs, because the laptop is a package that the extra `laptop` installs.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cscm.options import as_json, make_progress_printer, render_json
from supply_chain.scratch import write_private
from supply_chain.text import sanitize_text

if TYPE_CHECKING:
    from cscm_laptop.home import Home
    from cscm_laptop.profile import Profile


@click.command()
def up() -> None:
    """Start the supply chain of this machine, or those of its parts that do not run.

    \b
    Example:
      cscm up
    """
    from cscm_laptop import laptop  # noqa: PLC0415
    from cscm_laptop.doctor import check_environments  # noqa: PLC0415
    from cscm_laptop.home import Home  # noqa: PLC0415
    from cscm_laptop.profile import load_profile  # noqa: PLC0415

    home = Home.find()
    profile = load_profile(home.project)
    say = make_progress_printer()
    state = laptop.start_laptop(profile, home, say, register=_register(home, profile))
    say(f"ready; Prefect's UI: http://127.0.0.1:{profile.ports.prefect} (login: {home.state / 'prefect.auth'})")
    if state.database.kind == "starter":
        say("note: scans use the starter vulnerability database, which has only some of the known vulnerabilities")
    for line in check_environments(home):
        if not line.ok:
            say(f"note: {line.actual}; {line.remedy}")


def _register(home: Home, profile: Profile) -> Callable[[Any], None]:
    """Return a function that registers the blocks; it imports Prefect only when called, with the laptop's settings."""

    def register(state: Any) -> None:
        from cscm_laptop.prefect_server import make_prefect_environment  # noqa: PLC0415

        for name in [name for name in os.environ if name.startswith("PREFECT_")]:
            del os.environ[name]  # another server, chosen by these variables, must not get the laptop's blocks
        os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
        os.environ.update(make_prefect_environment(home, profile))
        from cscm_laptop.blocks import register_laptop  # noqa: PLC0415

        register_laptop(state)
        _announce_update(state.database, home.state / "database-announced")

    return register


def _announce_update(database: Any, file: Path) -> None:
    """Post an event if the vulnerability database changed since the last call; there is none for the first database."""
    before = file.read_text(encoding="ascii") if file.exists() else database.digest
    if database.digest != before:
        from orchestration.database_events import post_updated  # noqa: PLC0415

        post_updated(database.facts)
    write_private(file, database.digest)


@click.command()
def down() -> None:
    """Stop what `cscm up` started, and nothing else.

    State and deployed containers remain.

    \b
    Example:
      cscm down
    """
    from cscm_laptop import laptop  # noqa: PLC0415
    from cscm_laptop.home import Home  # noqa: PLC0415

    laptop.stop_laptop(Home.find(), make_progress_printer())


@click.command()
@as_json
def status(as_json: bool) -> None:
    """Show which parts run, at which address and since when.

    \b
    Example:
      cscm status --json
    """
    from cscm_laptop import laptop  # noqa: PLC0415
    from cscm_laptop.home import Home  # noqa: PLC0415
    from cscm_laptop.profile import load_profile  # noqa: PLC0415

    home = Home.find()
    parts = laptop.read_laptop_status(load_profile(home.project), home)
    if as_json:
        click.echo(render_json(parts))
        return
    for part in parts:
        state = "running" if part.running else "stopped"
        pid = f"pid {part.pid}" if part.pid else ""
        since = f"since {part.since.astimezone():%Y-%m-%d %H:%M:%S}" if part.since else ""
        click.echo(
            sanitize_text(f"{part.name:<10} {state:<8} {part.address:<16} {pid:<12} {since} {part.note}".rstrip())
        )


@click.command()
@as_json
def doctor(as_json: bool) -> None:
    """Check every part, and print what is found, what is expected and the remedy.

    The exit status is 1 if a part is not ok.

    \b
    Example:
      cscm doctor
    """
    from cscm_laptop.doctor import examine  # noqa: PLC0415
    from cscm_laptop.home import Home  # noqa: PLC0415
    from cscm_laptop.profile import load_profile  # noqa: PLC0415

    home = Home.find()
    checks = examine(load_profile(home.project), home)
    if as_json:
        click.echo(render_json(checks))
    else:
        for line in checks:
            state = ("note" if line.remedy else "ok") if line.ok else "NOT"
            click.echo(sanitize_text(f"{state:<4} {line.name:<24} {line.actual}  (expected: {line.expected})"))
            if line.remedy:
                click.echo(sanitize_text(f"    → {line.remedy}"))
    if not all(line.ok for line in checks):
        raise SystemExit(1)


@click.command()
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
@click.option(
    "--left-by",
    "lost_owner",
    metavar="ID",
    help="Remove only what the lost supply chain with this id left in the engine and, as root, its firewall rules.",
)
def reset(yes: bool, lost_owner: str | None) -> None:
    """Stop everything and remove it: state, tools, database, and what this chain runs in the engine.

    \b
    Example:
      cscm reset
    """
    from cscm_laptop import laptop  # noqa: PLC0415
    from cscm_laptop.home import Home  # noqa: PLC0415

    if lost_owner:
        if not yes:
            click.confirm(
                f"Remove every container, network, volume and firewall rule of {lost_owner} from this machine?",
                abort=True,
            )
        laptop.remove_left(lost_owner, make_progress_printer())
        return
    home = Home.find()
    if not yes:
        click.confirm(
            f"Remove {home.directory} with all images, keys and records, and all its containers?",
            abort=True,
        )
    laptop.reset(home, make_progress_printer())


COMMANDS = (up, down, status, doctor, reset)
