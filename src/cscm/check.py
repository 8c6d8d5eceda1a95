"""Command `cscm check`: what the intake gate would say about a working copy."""

from __future__ import annotations

import os
import sys
from importlib.metadata import version
from pathlib import Path

import click

from cscm.options import NewFile, as_json, make_progress_printer
from cscm.running import REFUSED
from supply_chain.development.preflight import Preflight, preflight
from supply_chain.reports import preflight_junit, preflight_lines, preflight_sarif
from supply_chain.scratch import write_private

FORMATS = ("text", "sarif", "junit")


@click.command()
@click.argument("path", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--format", "form", type=click.Choice(FORMATS), default="text", show_default=True,
              help="The format: for people, for code scanning, or for test reports.")  # fmt: skip
@click.option("-o", "--output", type=NewFile(), help="Write that to this file, and the text to standard output.")
@click.option(
    "--image", metavar="IMAGE", help="Also run and scan this image of the local engine, which was built from PATH."
)
@click.option("--install", "install_tools", is_flag=True,
              help="Install the tools and the vulnerability database first, and start nothing.")  # fmt: skip
@as_json
def check(path: Path, form: str, output: Path | None, image: str | None, install_tools: bool, as_json: bool) -> None:
    """Check the working copy in PATH as the intake gate would, without building it.

    It needs no registry and no Prefect server, and a container engine only for --image. Rules that need more are listed
    as not judged.

    \b
    Example:
      cscm check examples/hello
      cscm check examples/hello --image hello:dev
      cscm check . --format sarif --output check.sarif
    """
    if as_json and form != "text":
        raise click.UsageError("--json and --format exclude each other.")
    from cscm_laptop.home import Home  # noqa: PLC0415 - the extra `laptop` installs it
    from cscm_laptop.preflight import TOOLS, make_preflight_ports, read_first  # noqa: PLC0415
    from cscm_laptop.profile import load_profile  # noqa: PLC0415

    home = Home.find()
    profile = load_profile(home.project)
    result = read_first(home, path.resolve())
    if install_tools and result is None:
        from cscm_laptop.laptop import install  # noqa: PLC0415

        install(profile, home, TOOLS, make_progress_printer(err=True))
    result = result or preflight(path.resolve(), make_preflight_ports(home, profile, image))
    directory = _name_of(path.resolve())
    report = result.model_dump_json(indent=2) if as_json else _render(result, form, directory)
    if output:
        write_private(output, f"{report}\n")
    click.echo(preflight_lines(result, directory) if output else report)
    if result.refused:
        sys.exit(REFUSED)


def _render(result: Preflight, form: str, directory: str) -> str:
    if form == "sarif":
        return preflight_sarif(result, directory, version("container-supply-chain"))
    return preflight_junit(result, directory) if form == "junit" else preflight_lines(result, directory)


def _name_of(directory: Path) -> str:
    """Return a directory as seen from the working directory: empty for itself, absolute outside of it."""
    current = Path.cwd()
    name = os.path.relpath(directory, current) if directory.is_relative_to(current) else str(directory)
    return "" if name == "." else name


COMMANDS = (check,)
