"""The command `cscm` with all its subcommands."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import click

from cscm.options import Image, as_json, complete_from, environments
from cscm.running import run, verbose
from orchestration.project import find_project
from supply_chain.errors import Cancelled, LaptopMissing, SupplyChainError
from supply_chain.model.declaration import list_bases, make_json_schema, read_declaration
from supply_chain.scratch import translate_disk_full
from supply_chain.text import sanitize_lines

BASES = ("python", "python-build", "proxy")
"""The bases that every laptop needs; `cscm chain bases/NAME` makes another base."""
MODULES = {
    "check": ("check",),
    "cluster": ("cluster",),
    "enforce": ("enforce",),
    "events": ("bridge", "events"),
    "fleet": ("images", "where", "explain"),
    "hook": ("hook",),
    "isolation": ("isolate", "unseal"),
    "laptop": ("up", "down", "status", "doctor", "reset"),
    "lifecycle": ("lifecycle", "block", "unblock", "hold", "unhold"),
    "outside": ("key", "registry-token", "verdict"),
    "people": ("people", "waive", "waivers", "review", "reviews"),
    "policy": ("policy",),
    "promotion": ("approve", "freeze", "unfreeze", "break-glass"),
    "register": ("register",),
    "vex": ("vex",),
}
"""Module → the commands in its `COMMANDS`. It is imported with its first command: together they take a second."""
PLACES = {command: module for module, commands in MODULES.items() for command in commands}


@contextmanager
def report_missing_laptop() -> Iterator[None]:
    """Raise `LaptopMissing` if something needs the laptop and the extra that installs it is not installed."""
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name != "cscm_laptop":
            raise
        raise LaptopMissing(
            "This needs the supply chain of this machine, which is not installed.\n"
            "Install it: pip install 'container-supply-chain[laptop]'. To run flows with a Prefect server of your own "
            "instead, set PREFECT_API_URL."
        ) from error


@contextmanager
def report_interrupt() -> Iterator[None]:
    """Raise `Cancelled` if the command is interrupted."""
    try:
        yield
    except KeyboardInterrupt as interrupt:
        raise Cancelled(
            "Ctrl-C ended the command.\nRun the same command again; steps that are proven by evidence are not repeated."
        ) from interrupt


class Cli(click.Group):
    """Command group that imports its commands when needed, and prints our errors without a stack trace."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all commands, sorted."""
        return sorted({*super().list_commands(ctx), *PLACES})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a command; None if there is none of this name."""
        if cmd_name in PLACES and cmd_name not in self.commands:
            for each in import_module(f"cscm.{PLACES[cmd_name]}").COMMANDS:
                self.add_command(each)
        return super().get_command(ctx, cmd_name)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; print a `SupplyChainError`, or that Ctrl-C ended it, and exit with status 1."""
        try:
            with translate_disk_full(), report_missing_laptop(), report_interrupt():
                return super().invoke(ctx)
        except SupplyChainError as error:
            click.secho(sanitize_lines(f"error: {error}"), fg="red", err=True)
            ctx.exit(1)


@click.group(cls=Cli, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="container-supply-chain", prog_name="cscm")
def main() -> None:
    """Build, curate, deploy and monitor container images.

    Each step leaves signed evidence, and gates judge an image by it.

    \b
    Example:
      cscm up
      cscm chain examples/hello
    """


force = click.option("--force", is_flag=True, help="Repeat every step, also those that are proven.")


@main.command()
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--revision", help="Build this git commit instead of the current files.")
@click.option(
    "--environment",
    help="Deploy to this environment instead of the first declared one.",
    shell_complete=environments,
)
@force
@as_json
@verbose
def chain(path: Path, revision: str | None, environment: str | None, force: bool, as_json: bool, verbose: bool) -> None:
    """Build, curate and deploy the application in PATH.

    A base image is not deployed.

    \b
    Example:
      cscm chain examples/hello --environment staging
    """
    if revision is None:
        read_declaration(path)
    where = str(path.resolve())
    run("flows.chain:chain", as_json, verbose, path=where, revision=revision, environment=environment, force=force)


@main.command()
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--revision", help="Build this git commit instead of the current files.")
@force
@as_json
@verbose
def build(path: Path, revision: str | None, force: bool, as_json: bool, verbose: bool) -> None:
    """Build and check the application in PATH, and offer its image to curation.

    \b
    Example:
      cscm build examples/hello
    """
    if revision is None:
        read_declaration(path)
    run("flows.build:build", as_json, verbose, path=str(path.resolve()), revision=revision, force=force)


@main.command()
@click.argument("image", type=Image())
@force
@as_json
@verbose
def curate(image: str, force: bool, as_json: bool, verbose: bool) -> None:
    """Judge, store, encrypt, scan and sign IMAGE.

    IMAGE is dev/NAME@sha256:… or a digest, of which 12 digits are enough.

    \b
    Example:
      cscm curate 3fb1a90c7d2e
    """
    run("flows.curate:curate", as_json, verbose, image=image, force=force)


@main.command()
@click.argument("image", type=Image())
@click.option("--environment", required=True, help="Deploy to this environment.", shell_complete=environments)
@force
@as_json
@verbose
def deploy(image: str, environment: str, force: bool, as_json: bool, verbose: bool) -> None:
    """Judge IMAGE for an environment, and deploy it there.

    IMAGE is curated/NAME@sha256:… or a digest, of which 12 digits are enough.

    \b
    Example:
      cscm deploy 3fb1a90c7d2e --environment staging
    """
    run("flows.deploy:deploy", as_json, verbose, image=image, environment=environment, force=force)


@main.command()
@click.option("--environment", help="Check only this environment.", shell_complete=environments)
@as_json
@verbose
def monitor(environment: str | None, as_json: bool, verbose: bool) -> None:
    """Compare what runs with the signed deployment records.

    \b
    Example:
      cscm monitor --environment staging
    """
    run("flows.monitor:monitor", as_json, verbose, environment=environment)


@main.command()
@click.argument("application", required=False)
@click.option("--rebuild", is_flag=True, help="Read unchanged images again too.")
@as_json
@verbose
def inventory(application: str | None, rebuild: bool, as_json: bool, verbose: bool) -> None:
    """Reconcile the inventory with the registry, the container hosts and the clusters.

    With APPLICATION, only its images are read.

    \b
    Example:
      cscm inventory hello
    """
    run("flows.inventory:inventory", as_json, verbose, application=application, rebuild=rebuild)


@main.command()
@click.argument("packages", nargs=-1)
@as_json
@verbose
def rescan(packages: tuple[str, ...], as_json: bool, verbose: bool) -> None:
    """Match curated images with the current vulnerability database.

    With PACKAGES, only images that contain one of them.

    A package is a name, name@version or a package URL.

    \b
    Example:
      cscm rescan
      cscm rescan openssl@3.0.1
    """
    run("flows.rescan:rescan", as_json, verbose, packages=list(packages))


@main.command()
@click.option("--force", is_flag=True, help="Build a base again even if it is released.")
@click.argument("names", nargs=-1, shell_complete=complete_from(lambda: list_bases(find_project())))
@as_json
@verbose
def bases(names: tuple[str, ...], force: bool, as_json: bool, verbose: bool) -> None:
    """Build and release the internal base images NAMES.

    Without NAMES: those that every laptop needs.

    \b
    Example:
      cscm bases python python-build
    """
    project = find_project()
    existing = list_bases(project)
    if unknown := [name for name in names if name not in existing]:
        raise click.BadArgumentUsage(f"there is no base {', '.join(unknown)}; the bases are {', '.join(existing)}")
    run("flows.bases:bases", as_json, verbose, names=list(names or BASES), project=str(project), force=force)


@main.command()
def schema() -> None:
    """Print the JSON Schema of supply-chain.yaml.

    \b
    Example:
      cscm schema > supply-chain.schema.json
    """
    click.echo(json.dumps(make_json_schema(), indent=2))


def start() -> None:
    """Run the command with the words of this process."""
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    main(prog_name="cscm")


if __name__ == "__main__":
    start()
