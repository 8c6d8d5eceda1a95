"""The environment in which a command uses Prefect: the laptop's, or the one that the caller has set."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestration.project import find_project
from orchestration.registration.abandoned_runs import FREQUENCY

if TYPE_CHECKING:
    from blocks.execution_ports import ExecutionPorts

STEPS = "supply_chain.steps"
"""The logger that reports each step when it ends."""


def use_prefect(*, verbose: bool = False) -> Path:
    """Set Prefect's environment, import Prefect, and return the project's root.

    Prefect reads settings from files of the project and not of the working directory: a source could name programs in
    them. If PREFECT_API_URL names a server, that server is used as it is. Otherwise raises `ComponentFailed` unless
    this laptop's server answers.
    """
    project = find_project()
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    os.environ.update(FREQUENCY)
    if "PREFECT_API_URL" not in os.environ:
        from cscm_laptop.prefect_server import require_server  # noqa: PLC0415 - only if the laptop is used

        os.environ.update(require_server())
    with contextlib.chdir(project):
        import prefect.main  # noqa: F401, PLC0415 - reads the settings
    if not verbose:
        _silence_console()
    return project


def _silence_console() -> None:
    """Let only steps and the result reach the terminal; the complete log is in the UI."""
    from prefect.logging.handlers import PrefectConsoleHandler  # noqa: PLC0415 - after Prefect's environment is set

    for handler in logging.getLogger().handlers:
        if isinstance(handler, PrefectConsoleHandler):
            handler.setLevel(logging.CRITICAL)


def load_block(kind: str, name: str) -> Any:
    """Return the block with this name, of a type in `blocks`; raise `SettingInvalid` if there is none.

    Prefect is imported after its environment is set.
    """
    use_prefect()
    import blocks  # noqa: PLC0415

    async def load() -> Any:
        return await getattr(blocks, kind).aload(name)

    return asyncio.run(load())


def load_execution_ports() -> ExecutionPorts:
    """Return what the execution tier's steps use; raise `SettingInvalid` if a block is missing."""
    use_prefect()
    from blocks.execution_ports import ExecutionPorts  # noqa: PLC0415 - after Prefect's environment is set

    return asyncio.run(ExecutionPorts.aload())
