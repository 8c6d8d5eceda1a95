"""source: the files that a run is about, and what happens to them told to the supply chain."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path

from blocks import Workbench
from supply_chain.adapters.git import Git
from supply_chain.image import Source
from tasks.events import post
from tasks.running import in_thread


@asynccontextmanager
async def checked_out(workbench: Workbench, path: Path, revision: str | None) -> AsyncIterator[tuple[Path, Source]]:
    """The application's files as they are, or a private copy of a commit's; and where they come from."""
    with ExitStack() as stack:
        yield await in_thread(stack.enter_context, Git(workbench.git).checked_out(path, revision))


def post_pushed(path: Path, revision: str) -> None:
    """Post `cscm.source.pushed` for the application in `path`, a directory or a bare repository."""
    application = {"prefect.resource.id": f"cscm.application.{path.name}", "prefect.resource.role": "application"}
    payload = {"path": str(path), "revision": revision}
    post("cscm.source.pushed", f"cscm.revision.{revision}", path.name, payload, [application])
