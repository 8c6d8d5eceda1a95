"""Command `cscm register`: register the project on your own Prefect server, as `cscm up` does on the laptop's."""

from __future__ import annotations

import os
import sys

import click

from cscm.options import make_progress_printer
from cscm.session import load_block, use_prefect
from orchestration.registration import (
    deploy,
    ensure_abandoned,
    ensure_automations,
    ensure_views,
    read_declared_deployments,
    remove_undeclared_deployments,
)
from supply_chain.errors import SettingInvalid


@click.command()
def register() -> None:
    """Register deployments, automations, views and types of blocks on a Prefect server.

    PREFECT_API_URL is its address. The command corrects what differs, removes deployments that prefect.yaml no longer
    declares, and keeps the values of blocks.

    \b
    Example:
      PREFECT_API_URL=https://prefect.example.com/api cscm register
    """
    if "PREFECT_API_URL" not in os.environ:
        raise SettingInvalid(
            "PREFECT_API_URL does not name a Prefect server.\n"
            "Set it, with what the server asks for (PREFECT_API_AUTH_STRING or PREFECT_API_KEY). "
            "On a laptop, `cscm up` registers everything."
        )
    project, say = use_prefect(), make_progress_printer()
    if not read_declared_deployments(project):
        raise SettingInvalid(
            f"{project} declares no deployments in prefect.yaml, so there is nothing to register.\n"
            "Run this where the supply chain's own prefect.yaml is."
        )
    from prefect.client.orchestration import get_client  # noqa: PLC0415 - only after its environment is set

    from blocks.register import register_types  # noqa: PLC0415
    from orchestration.registration.client import make_prefect_api  # noqa: PLC0415

    with get_client(sync_client=True) as client:
        ask = make_prefect_api(client)
        ask("POST", "/deployments/filter", {"limit": 1})  # check that the server answers before anything is made
        say("blocks: registering their types")
        register_types()
        deploy(project, [sys.executable], {"PREFECT_CLI_PROMPT": "false", "PREFECT_CLI_COLORS": "false"}, ask, say)
        done = {
            "deployments: no longer declared, removed": remove_undeclared_deployments(project, ask),
            "automations": (*ensure_automations(project, _notify(), ask), *ensure_abandoned(ask)),
            "views": ensure_views(project, ask),
        }
    for what, names in done.items():
        if names:
            say(f"{what}: {', '.join(names)}")
    say(f"registered on {os.environ['PREFECT_API_URL']}")


def _notify() -> str:
    """Return the notification block that the workbench block names, or the default if there is no workbench block."""
    try:
        return str(load_block("Workbench", "workbench").notify)
    except SettingInvalid:
        from blocks import Workbench  # noqa: PLC0415

        return str(Workbench.model_fields["notify"].default)


COMMANDS = (register,)
