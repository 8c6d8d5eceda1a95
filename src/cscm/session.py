"""The environment in which a command uses Prefect: the laptop's, or the one that the caller has set."""

from __future__ import annotations

import asyncio
import os
from typing import Any

from cscm_laptop.home import Home
from cscm_laptop.ports import answers
from cscm_laptop.prefect_server import prefect_environment
from cscm_laptop.profile import load_profile
from orchestration.registration.abandoned_runs import FREQUENCY
from supply_chain.errors import PartFailed

STEPS = "supply_chain.steps"
"""The logger that reports each step when it ends."""


def use_prefect(*, verbose: bool = False) -> Home:
    """Set Prefect's environment before it is imported, and return the home.

    If PREFECT_API_URL names a server, that server is used as it is. Otherwise raises `PartFailed` unless this
    laptop's server answers.
    """
    home = Home.find()
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    if not verbose:  # the terminal shows steps and the result; the complete log is in the UI
        os.environ["PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL"] = "CRITICAL"
    os.environ.update(FREQUENCY)
    if "PREFECT_API_URL" in os.environ:
        return home
    profile = load_profile(home.project)
    port = profile.ports.prefect
    if not answers(port, "/api/health"):
        raise PartFailed("Prefect's server does not answer.\nStart the supply chain of this machine: cscm up")
    environment = prefect_environment(home, profile)
    if not answers(port, "/api/admin/version", auth=environment["PREFECT_API_AUTH_STRING"]):
        raise PartFailed(
            f"The Prefect server on port {port} is not the one of {home.directory}.\n"
            "Stop it, or give this supply chain another port in deployments/profiles/laptop.yaml; then: cscm up"
        )
    os.environ.update(environment)
    return home


def load_block(kind: str, name: str) -> Any:
    """Return the block with this name, of a type in `blocks`; raise `SettingInvalid` if there is none.

    Prefect is imported after its environment is set.
    """
    use_prefect()
    import blocks  # noqa: PLC0415

    async def load() -> Any:
        return await getattr(blocks, kind).aload(name)

    return asyncio.run(load())
