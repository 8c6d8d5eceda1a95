"""Makes saved searches of Prefect's server, and addresses of the list of runs, from `deployments/views.yaml`.

The first version of Prefect's UI offers the saved searches of its server. The second version stores its own in each
browser. A view therefore has an address too, which both can read.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlencode

from pydantic import Field, StringConstraints, model_validator

from orchestration.registration.api import PrefectApi, fetch_all
from supply_chain.model.documents import read_document
from supply_chain.model.image import Model

FILE = Path("deployments/views.yaml")
RANGES = {1: "past-hour", 24: "past-24-hours", 7 * 24: "past-7-days", 30 * 24: "past-30-days"}
"""Hours → name of the range in the UI's second version; the smallest range that covers a view's hours is used."""
Word = Annotated[str, StringConstraints(pattern=r"^[A-Za-z][A-Za-z0-9 -]*$", max_length=60)]


class View(Model):
    """One view: the runs of the last hours in one of the states, with all of the tags."""

    name: Word = Field(description="the name in the UI")
    states: tuple[Word, ...] = Field(default=(), description="names of states in the UI; empty: all")
    tags: tuple[Word, ...] = Field(default=(), description="tags that a run must have")
    hours: int = Field(ge=1, le=max(RANGES), description="how many past hours it covers")

    @property
    def query(self) -> str:
        """The view as a query of the list of runs, `/runs?…`; each version of the UI ignores the other's parameters."""
        words = [("state", each) for each in self.states]
        if self.tags:
            words += [*(("tag", each) for each in self.tags), ("tags", ",".join(self.tags))]
        enough = RANGES[min(hours for hours in RANGES if hours >= self.hours)]
        words += [("type", "span"), ("seconds", str(-3600 * self.hours)), ("range", enough)]
        return urlencode(words)

    def translate_to_prefect(self) -> dict[str, Any]:
        """Return the view in the form in which Prefect's UI saves one."""
        values = {
            "state": list(self.states),
            "tag": list(self.tags),
            "range": {"type": "span", "seconds": -3600 * self.hours},
        }
        present = {key: value for key, value in values.items() if value}
        rest = {"object": "flowRun", "type": "", "operation": ""}
        return {
            "name": self.name,
            "filters": [{"property": key, "value": value, **rest} for key, value in present.items()],
        }


class Views(Model):
    """The document `deployments/views.yaml`."""

    views: tuple[View, ...] = Field(min_length=1, description="the views, in their order")

    @model_validator(mode="after")
    def _check_names(self) -> Views:
        if twice := [name for name, number in Counter(each.name for each in self.views).items() if number > 1]:
            raise ValueError(f"two views are called {twice[0]!r}")
        return self


def read_views(project: Path) -> tuple[View, ...]:
    """Return the project's views; raise `DeclarationInvalid` with the line of an error."""
    return read_document(project / FILE, Views).views


def ensure_views(project: Path, ask: PrefectApi) -> tuple[str, ...]:
    """Create or correct the server's views from the document; return the names of those created or changed."""
    searches = fetch_all("saved_searches", ask)
    existing = {each["name"]: each["filters"] for each in searches}
    changed = [
        view for view in read_views(project) if existing.get(view.name) != view.translate_to_prefect()["filters"]
    ]
    for view in changed:
        ask("PUT", "/saved_searches/", view.translate_to_prefect())
    return tuple(view.name for view in changed)
