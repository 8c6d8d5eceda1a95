"""Saved views of the UI: created from the document."""

from pathlib import Path
from urllib.parse import parse_qs

import pytest

from orchestration.registration import views
from supply_chain.errors import DeclarationInvalid

ROOT = Path(__file__).parents[4]


@pytest.fixture
def project(tmp_path):
    def write(text):
        path = tmp_path / views.FILE
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        return tmp_path

    return write


@pytest.fixture
def server():
    """Return Prefect's views by name, the recorded methods, and a function that answers API calls."""
    held, asked = {}, []

    def answer(method, path, body=None):
        asked.append(method)
        if method == "PUT":
            held[body["name"]] = body["filters"]
        if path.endswith("/filter"):
            every = [{"name": name, "filters": filters} for name, filters in held.items()]
            return every[body["offset"] : body["offset"] + body["limit"]]
        return None

    return held, asked, answer


def test_view_is_saved_in_format_of_ui(project, server):
    """Unset filters are left out."""
    directory = project("views: [{name: Bad, states: [Failed, Late], tags: [rescan], hours: 2}, {name: All, hours: 1}]")

    held, _, ask = server
    assert views.ensure_views(directory, ask) == ("Bad", "All")
    assert {each["property"]: each["value"] for each in held["Bad"]} == {
        "state": ["Failed", "Late"], "tag": ["rescan"], "range": {"type": "span", "seconds": -7200},
    }  # fmt: skip
    assert [each["property"] for each in held["All"]] == ["range"]


def test_only_changed_views_are_saved(project, server):
    """Views of an operator stay."""
    held, asked, ask = server
    held["Mine"] = []
    directory = project("views: [{name: Bad, states: [Failed], hours: 2}]")
    views.ensure_views(directory, ask)
    assert views.ensure_views(directory, ask) == ()
    project("views: [{name: Bad, states: [Failed], hours: 3}]")
    assert views.ensure_views(directory, ask) == ("Bad",)
    assert asked.count("PUT") == 2 and held["Mine"] == []


@pytest.mark.parametrize(
    ("hours", "enough"), [(1, "past-hour"), (2, "past-24-hours"), (24, "past-24-hours"), (720, "past-30-days")]
)
def test_view_query_works_in_both_versions_of_ui(hours, enough):
    """One version reads states, tags and seconds, the other joined tags and a fixed range."""
    view = views.View(name="Bad", states=("Failed", "Late"), tags=("rescan", "curation"), hours=hours)

    assert parse_qs(view.query) == {
        "state": ["Failed", "Late"], "tag": ["rescan", "curation"], "tags": ["rescan,curation"],
        "type": ["span"], "seconds": [str(-3600 * hours)], "range": [enough],
    }  # fmt: skip
    assert set(parse_qs(views.View(name="All", hours=hours).query)) == {"type", "seconds", "range"}


@pytest.mark.parametrize(
    "text", ["views: []", "{}", "views: [{name: A, hours: 0}]", "views: [{name: A, hours: 721}]",
             "views: [{name: A, hours: 1}, {name: A, hours: 2}]",
             "views: [{name: A, hours: 1, stats: [Failed]}]"],
)  # fmt: skip
def test_invalid_view_document_is_refused(project, text):
    """The error names the file, and nothing is saved."""
    with pytest.raises(DeclarationInvalid, match=r"views\.yaml"):
        views.read_views(project(text))


def test_views_of_the_project_are_valid():
    """These are the views that an operator finds."""
    assert {view.name for view in views.read_views(ROOT)} >= {"Failed last night", "Waits for approval"}
