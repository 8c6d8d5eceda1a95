"""The journal of a run: each step with its duration, and the pages that an operator reads."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

from prefect.artifacts import acreate_link_artifact, acreate_markdown_artifact, acreate_table_artifact

from supply_chain import pages
from supply_chain.container import slug

T = TypeVar("T")
log = logging.getLogger("supply_chain.steps")


class Journal:
    """Collects the story of a run. A tier run inside of a chain writes into the chain's journal."""

    def __init__(self, application: str) -> None:
        self.story = pages.Story(application=application)

    def add(self, **known: Any) -> None:
        """Replace what is known."""
        self.story = self.story.model_copy(update=known)

    def decided(self, verdict: Any) -> None:
        """Add a gate's verdict."""
        self.add(verdicts=(*self.story.verdicts, verdict))

    async def step(self, name: str, work: Awaitable[T], say: Callable[[T], str] = lambda _: "") -> T:
        """Await one step and note how long it took; a step that fails is noted too."""
        started = time.monotonic()
        said = "failed"
        try:
            result = await work
            said = say(result)
            return result
        finally:
            step = pages.Step(name=name, seconds=time.monotonic() - started, said=said)
            self.add(steps=(*self.story.steps, step))
            log.info("%s: %s (%.1f s) %s", self.story.application, name, step.seconds, said)

    async def publish(self) -> None:
        """Write the pages as artifacts of this run; each key keeps its history."""
        key = slug(self.story.application)
        await acreate_markdown_artifact(
            key=f"dossier-{key}", markdown=pages.dossier(self.story), description="What happened, and why"
        )
        if self.story.report:
            rows = pages.findings_table(self.story.report)
            await acreate_table_artifact(key=f"findings-{key}", table=rows, description="What the scan found")

    async def link(self, name: str, address: str) -> None:
        """A link to where the application answers."""
        await acreate_link_artifact(key=slug(f"{name}-{self.story.application}"), link=address, link_text=address)


_current: ContextVar[Journal | None] = ContextVar("journal", default=None)


@contextmanager
def journal(application: str) -> Iterator[Journal]:
    """The journal of the run around this one, or a new one."""
    around = _current.get()
    if around is not None:
        yield around
        return
    mine = Journal(application)
    token = _current.set(mine)
    try:
        yield mine
    finally:
        _current.reset(token)
