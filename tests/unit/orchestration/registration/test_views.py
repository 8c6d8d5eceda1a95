"""The views that the UI offers are those of the document."""

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
    """What Prefect holds, name → filters; what it was asked; and how it is asked."""
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


def test_a_view_is_as_the_ui_saves_one(project, server):
    """States, tags and time; what is not said is not filtered by."""
    there = project("views: [{name: Bad, states: [Failed, Late], tags: [rescan], hours: 2}, {name: All, hours: 1}]")

    held, _, ask = server
    assert views.ensure_views(there, ask) == ("Bad", "All")
    assert {each["property"]: each["value"] for each in held["Bad"]} == {
        "state": ["Failed", "Late"], "tag": ["rescan"], "range": {"type": "span", "seconds": -7200},
    }  # fmt: skip
    assert [each["property"] for each in held["All"]] == ["range"]


def test_only_what_differs_is_made_again(project, server):
    """And an operator's own views stay."""
    held, asked, ask = server
    held["Mine"] = []
    there = project("views: [{name: Bad, states: [Failed], hours: 2}]")
    views.ensure_views(there, ask)
    assert views.ensure_views(there, ask) == ()
    project("views: [{name: Bad, states: [Failed], hours: 3}]")
    assert views.ensure_views(there, ask) == ("Bad",)
    assert asked.count("PUT") == 2 and held["Mine"] == []


@pytest.mark.parametrize(
    ("hours", "enough"), [(1, "past-hour"), (2, "past-24-hours"), (24, "past-24-hours"), (720, "past-30-days")]
)
def test_a_view_has_an_address_that_both_faces_of_the_ui_read(hours, enough):
    """One takes states, tags and seconds, the other tags in one word and a range that it knows."""
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
def test_what_is_no_view_is_refused(project, text):
    """With where it stands; nothing is made."""
    with pytest.raises(DeclarationInvalid, match=r"views\.yaml"):
        views.read_views(project(text))


def test_the_projects_views_are_well_formed():
    """They are what an operator finds."""
    assert {view.name for view in views.read_views(ROOT)} >= {"Failed last night", "Waits for approval"}
