"""Views of the list of runs: `deployments/views.yaml`, made saved searches of Prefect's server, and addresses.

The first face of Prefect's UI offers the saved searches of its server. The second one keeps its own in each browser,
so that a view has an address too, which both read.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlencode

from pydantic import Field, StringConstraints, model_validator

from orchestration.registration.api import Asks, every
from supply_chain.model.documents import read_document
from supply_chain.model.image import Frozen

FILE = Path("deployments/views.yaml")
RANGES = {1: "past-hour", 24: "past-24-hours", 7 * 24: "past-7-days", 30 * 24: "past-30-days"}
"""Hours → what the UI's second face calls them; it shows the least of these that are enough."""
Word = Annotated[str, StringConstraints(pattern=r"^[A-Za-z][A-Za-z0-9 -]*$", max_length=60)]


class View(Frozen):
    """One view: the runs of the last hours in one of the states, with all of the tags."""

    name: Word = Field(description="as the UI offers it; another view of this name is replaced")
    states: tuple[Word, ...] = Field(default=(), description="names of states, as the UI shows them; none: all")
    tags: tuple[Word, ...] = Field(default=(), description="of the runs; none: all")
    hours: int = Field(ge=1, le=max(RANGES), description="how far it looks back")

    @property
    def query(self) -> str:
        """The view as a query of the list of runs, `/runs?…`; each face overlooks what the other reads."""
        words = [("state", each) for each in self.states]
        if self.tags:
            words += [*(("tag", each) for each in self.tags), ("tags", ",".join(self.tags))]
        enough = RANGES[min(hours for hours in RANGES if hours >= self.hours)]
        words += [("type", "span"), ("seconds", str(-3600 * self.hours)), ("range", enough)]
        return urlencode(words)

    def as_prefect(self) -> dict[str, Any]:
        """As Prefect's UI saves one."""
        values = {
            "state": list(self.states),
            "tag": list(self.tags),
            "range": {"type": "span", "seconds": -3600 * self.hours},
        }
        shown = {key: value for key, value in values.items() if value}
        rest = {"object": "flowRun", "type": "", "operation": ""}
        return {
            "name": self.name,
            "filters": [{"property": key, "value": value, **rest} for key, value in shown.items()],
        }


class Views(Frozen):
    """The document."""

    views: tuple[View, ...] = Field(min_length=1, description="in the order in which they are made")

    @model_validator(mode="after")
    def _apart(self) -> Views:
        if twice := [name for name, number in Counter(each.name for each in self.views).items() if number > 1]:
            raise ValueError(f"two views are called {twice[0]!r}")
        return self


def read_views(project: Path) -> tuple[View, ...]:
    """The project's views; `DeclarationInvalid` with the line of what is wrong."""
    return read_document(project / FILE, Views).views


def ensure_views(project: Path, ask: Asks) -> tuple[str, ...]:
    """Make the server's views what the document says; the names of those that were made or changed."""
    found = every("saved_searches", ask)
    known = {each["name"]: each["filters"] for each in found}
    changed = [view for view in read_views(project) if known.get(view.name) != view.as_prefect()["filters"]]
    for view in changed:
        ask("PUT", "/saved_searches/", view.as_prefect())
    return tuple(view.name for view in changed)
