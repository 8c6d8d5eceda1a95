"""The story of an image: everything with its time and who says so."""

from datetime import timedelta

import pytest

from supply_chain import pages
from supply_chain.errors import DeclarationInvalid, ImageNotFound
from supply_chain.evidence.statement import PROVENANCE, SUMMARY
from supply_chain.fleet.explain import explain
from supply_chain.image import Material
from supply_chain.tier import Boundary, TierName

BASE, OTHER = "sha256:" + "d" * 64, "sha256:" + "b" * 64


@pytest.fixture
def story(fleet, make):
    """An image that was admitted, deployed, refused later, and built upon by another."""
    ref = fleet.curated(BASE, "base/python", at=make.noon + timedelta(minutes=1))
    fleet.deploy(ref)
    no = fleet.pieces.verdict(Boundary.CURATION, ref, yes=False, at=make.noon + timedelta(hours=2))
    fleet.say(ref, TierName.CURATION, SUMMARY, no)
    above = fleet.curated(without=("provenance",))
    material = Material(name="base/python:3", digest=BASE, curated=True)
    gone = Material(name="base/old", digest=OTHER, curated=True)
    fleet.say(above, TierName.DEVELOPMENT, PROVENANCE, make.provenance(built={"materials": (material, gone)}))
    for application in ("base/python", "hello"):
        fleet.refresh(application)
    return fleet


def test_what_happened_is_told_in_order(story, make):
    """By the signed times, with the signer and where the evidence lies."""
    (told,) = explain(BASE, story.inventory)

    at = [moment.at for moment in told.timeline if moment.at]
    assert at == sorted(at)
    said = [(moment.what, moment.by) for moment in told.timeline]
    assert ("pushed to curated/base/python as v1", "") in said
    assert ("built", "development") in said and ("signed", "curation") in said
    assert ("its source's dependencies scanned", "development") in said and ("scanned", "curation") in said
    assert said.index(("admitted at curation", "curation")) < said.index(("refused at curation: x", "curation"))
    assert said[-2:] == [
        ("deployed to staging as staging-base/python", "execution"), ("refused at curation: x", "curation"),
    ]  # fmt: skip
    assert all(moment.evidence for moment in told.timeline if moment.by)


def test_what_it_hangs_together_with_is_told(story):
    """Below it and above it; what is no longer there is told as such."""
    (base,) = explain(BASE[7:19], story.inventory)
    assert [ref.application for ref in base.built_on_it] == ["hello"]
    (hello,) = (e for e in explain("a" * 12, story.inventory) if e.image.application == "hello")
    assert [(b.name, b.known, b.vended) for b in hello.built_from] == [
        ("base/python:3", True, False), ("base/old", False, False),
    ]  # fmt: skip


def test_an_unknown_digest_is_an_error(story):
    """With where to look."""
    with pytest.raises(ImageNotFound, match="cscm images"):
        explain("sha256:" + "9" * 64, story.inventory)
    for little in ("", "a", "a" * 11, "sha256:", "hello"):
        with pytest.raises(DeclarationInvalid, match="12 digits or more"):
            explain(little, story.inventory)


def test_the_page_tells_all_of_it_and_nothing_formats_it(story, make):
    """Names come from outside."""
    (told,) = explain(BASE, story.inventory)
    odd = told.image.model_copy(update={"owner": "<b>|me\x1b[31m"})
    told = told.model_copy(update={"image": odd})

    page, lines = pages.explanation(told), pages.explanation_lines(told)

    for each in (page, lines):
        assert "staging" in each and "not vended" not in each and BASE in each
        assert "\x1b" not in each.replace("\n", "")
    assert "<b>|me" not in page and r"\<b\>\|me" in page
    assert "refused at curation: x" in page and "## Refused" in page
    assert "hello" in page.partition("Built on it")[2]


def test_what_runs_stands_first_and_then_what_is_new(story):
    """A page shows the first of very many."""
    image = next(each for each in story.inventory.images() if each.application == "hello")
    running = next(each for each in story.inventory.images() if each.running)
    later = image.stored.model_copy(update={"pushed_at": image.stored.pushed_at + timedelta(days=9)})
    newer = image.model_copy(update={"owner": "the newer", "stored": later})

    rows = pages.image_rows([image, newer, running])
    assert rows == [pages.image_row(each) for each in (running, newer, image)]


def test_a_row_says_how_it_stands(story):
    """For the table of images, whose cells are text."""
    rows = {row["application"]: row for row in map(pages.image_row, story.inventory.images())}

    assert rows["base/python"]["state"] == "refused (x)" and rows["base/python"]["runs in"] == "staging"
    assert rows["hello"]["state"] == "vended" and rows["hello"]["runs in"] == "—"
    image = next(each for each in story.inventory.images() if each.application == "hello")
    for change, state in (
        ({"held": "by ann: audit"}, "vended, held"),
        ({"blocked": "by ann: bad", "held": "by ann"}, "blocked by ann: bad"),
        ({"blocked": "x", "stored": image.stored.model_copy(update={"status": "ARCHIVED"})}, "blocked x, archived"),
    ):
        assert pages.image_row(image.model_copy(update=change))["state"] == state
    assert rows["hello"]["size"] == "1.5 MB" and rows["hello"]["pulled"] == "never"
