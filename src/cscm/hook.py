"""Command `cscm hook`: a git hook that reports every push to the supply chain."""

from __future__ import annotations

import shlex
import sys
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path

import click

from cscm.session import use_prefect
from supply_chain.adapters.git.hooks import find_hooks, parse_pushes, read_hook, write_hook
from supply_chain.errors import DeclarationInvalid, SupplyChainError

HOOK = """#!/bin/sh
# Written by `cscm hook install`: starts a chain for what is pushed. It never stops a push.
{settings}{call} || echo "supply chain: could not report this push" >&2
exit 0
"""
CALL = "cd {project} && {python} -P -m cscm.hook {path}"
"""Shell command that reports a push. git runs a hook in the working copy (githooks(5)): without another directory, and
without -P, Python and Prefect read modules and settings of whoever wrote the source.
"""


@click.group()
def hook() -> None:
    """Start a chain on every git push.

    \b
    Example:
      cscm hook install .
    """


@hook.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("path", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--team", metavar="NAME", default="", help="The team whose pushes are built one after another.")
def install(path: Path, team: str) -> None:
    """Write the git hook for the application in PATH.

    The hook is pre-push in a clone, and post-receive in a bare repository.

    \b
    Example:
      cscm hook install .
      cscm hook install --team sales /srv/git/shop.git
    """
    project = use_prefect()
    where, name = find_hooks(path.resolve())
    target, existing = where / name, read_hook(where, name)
    names = {"project": project, "python": sys.executable, "path": path.resolve()}
    call = CALL.format_map({name: shlex.quote(str(each)) for name, each in names.items()})
    call += f" {shlex.quote(team)}" if team else ""
    if existing is not None and b"cscm hook install" not in existing:
        raise DeclarationInvalid(
            f"{target} exists already and was not written by `cscm hook install`.\nCall `({call})` in it."
        )
    write_hook(where, name, HOOK.format(settings=_laptop_settings(), call=call).encode())
    click.echo(f"wrote {target}")


def _laptop_settings() -> str:
    """Return shell commands that set the laptop's home and profile; empty if the laptop is not installed."""
    if find_spec("cscm_laptop") is None:
        return ""
    from cscm_laptop.home import Home  # noqa: PLC0415
    from cscm_laptop.profile import locate_profile  # noqa: PLC0415

    home = Home.find()
    profile = locate_profile(home.project).resolve()
    return f"export CSCM_HOME={shlex.quote(str(home.directory))} CSCM_PROFILE={shlex.quote(str(profile))}\n"


def post(path: str, team: str = "") -> None:
    """Read the hook's standard input and schedule one chain for each revision.

    Without a team, the pushes of the repository have one place in the work queue. Raises `EventRejected` at the first
    push that Prefect does not confirm.
    """
    pushed = datetime.now(UTC)  # before everything that takes time: of two pushes, the later one is built
    pushes = parse_pushes(sys.stdin.readlines())
    if not pushes:
        return
    use_prefect()
    from orchestration.source_pushes import schedule_chain  # noqa: PLC0415 - import Prefect only for a push

    place = team or str(find_hooks(Path(path))[0].parent)
    for revision, ref in pushes:
        schedule_chain(Path(path), revision, ref, place, pushed)
        click.echo(f"supply chain: reported {revision[:12]}", err=True)


COMMANDS = (hook,)

if __name__ == "__main__":
    try:
        post(*sys.argv[1:])
    except SupplyChainError as error:
        sys.exit(f"supply chain: {error}")
