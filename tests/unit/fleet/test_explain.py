"""The history of an image: every event with its time and its signer."""

from datetime import timedelta

import pytest

from supply_chain import reports
from supply_chain.errors import DeclarationInvalid, ImageNotFound
from supply_chain.evidence import statement
from supply_chain.evidence.approval import Approval
from supply_chain.evidence.image_status import locate_image_status
from supply_chain.evidence.soak import Soak
from supply_chain.evidence.statement import APPROVAL, LIFECYCLE, PROVENANCE, SOAK, SUMMARY
from supply_chain.evidence.summary import make_summary
from supply_chain.fleet.explain import explain, make_timeline
from supply_chain.fleet.image import FleetImage, HostContainer, Note
from supply_chain.model.image import ImageRef, Material, StoredManifest
from supply_chain.model.tier import Gate, TierName, name_evidence_repository

BASE, OTHER = "sha256:" + "d" * 64, "sha256:" + "b" * 64


@pytest.fixture
def history(fleet, make):
    """A base that was admitted, deployed and later refused, and an image that is built on it."""
    ref = fleet.curated(BASE, "base/python", at=make.noon + timedelta(minutes=1))
    fleet.deploy(ref)
    no = fleet.pieces.verdict(Gate.RELEASE, ref, yes=False, at=make.noon + timedelta(hours=2))
    fleet.say(ref, TierName.CURATION, SUMMARY, no)
    above = fleet.curated(without=("provenance",))
    material = Material(name="base/python:3", digest=BASE, curated=True)
    gone = Material(name="base/old", digest=OTHER, curated=True)
    fleet.say(above, TierName.DEVELOPMENT, PROVENANCE, make.provenance(built={"materials": (material, gone)}))
    for application in ("base/python", "hello"):
        fleet.refresh(application)
    return fleet


def test_explain_lists_events_by_signed_time(history, make):
    """Each event has its signer and the location of its evidence."""
    (explanation,) = explain(BASE, history.inventory)

    at = [moment.at for moment in explanation.timeline if moment.at]
    assert at == sorted(at)
    events = [(moment.text, moment.by) for moment in explanation.timeline]
    assert ("pushed to curated/base/python as v1", "") in events
    assert ("built", "development") in events and ("signed", "curation") in events
    assert ("its source's dependencies scanned", "development") in events and ("scanned", "curation") in events
    assert events.index(("admitted at the release gate", "curation")) < events.index(
        ("refused at the release gate: x", "curation")
    )
    assert events[-2:] == [
        ("deployed to staging as staging-base/python", "execution"), ("refused at the release gate: x", "curation"),
    ]  # fmt: skip
    assert all(moment.evidence for moment in explanation.timeline if moment.by)


def test_explain_lists_deploy_refusals_of_each_environment(fleet, make):
    """Each environment has its own verdicts; one without an environment counts until the next verdict."""
    ref = fleet.curated()
    for hour, yes, environment in (
        (1, False, ""), (2, False, "production"), (3, True, "staging"), (4, False, "canary"), (5, True, "canary"),
    ):  # fmt: skip
        no = () if yes else [{"code": "x", "fact": f"f{hour}", "remedy": "r"}]
        refusal = make_summary(ref, Gate.DEPLOY, OTHER, reasons=no, notes=(), inputs=(),
                          now=make.noon + timedelta(hours=hour), environment=environment)  # fmt: skip
        fleet.say(ref.with_repository("evidence/execution/hello"), TierName.EXECUTION, SUMMARY, refusal.predicate())
    fleet.refresh("hello")

    (explanation,) = explain(ref.digest, fleet.inventory)

    assert [(each.gate_name, each.reasons[0].fact) for each in explanation.image.refusals] == [
        ("deploy gate for production", "f2")
    ]
    assert "admitted at the deploy gate for staging" in [moment.text for moment in explanation.timeline]
    assert "deploy gate for production  x" in reports.explanation_lines(explanation)


def test_explain_names_bases_and_images_built_on_them(history):
    """A base that is no longer in the registry is marked as unknown."""
    (base,) = explain(BASE[7:19], history.inventory)
    assert [ref.application for ref in base.built_on_it] == ["hello"]
    (hello,) = (e for e in explain("a" * 12, history.inventory) if e.image.application == "hello")
    assert [(b.name, b.is_curated, b.released) for b in hello.built_from] == [
        ("base/python:3", True, False), ("base/old", False, False),
    ]  # fmt: skip


def test_explain_shows_blocked_base_as_not_released(fleet, make):
    """The gate had admitted the base before the block."""
    base, above = fleet.curated(BASE, "base/python"), fleet.curated(without=("provenance",))
    material = Material(name="base/python:3", digest=BASE, curated=True)
    fleet.say(above, TierName.DEVELOPMENT, PROVENANCE, make.provenance(built={"materials": (material,)}))
    fleet.refresh()
    block = {"act": "block", "by": "ann", "reason": "a key in it", "at": make.noon.isoformat()}
    for released in (True, False):
        fleet.refresh("base/python")
        assert [each.released for each in explain("a" * 12, fleet.inventory)[0].built_from] == [released]
        fleet.say(locate_image_status(base), TierName.LIFECYCLE, LIFECYCLE, block)


def test_explain_shows_running_image_that_left_the_registry(fleet):
    """The signed evidence remains; what only the registry knows is empty."""
    ref = fleet.curated()
    fleet.deploy(ref)
    fleet.remove(ref)
    fleet.refresh()

    (explanation,) = explain(ref.digest, fleet.inventory)

    events = [moment.text for moment in explanation.timeline]
    assert "signed" in events and "deployed to staging as staging-hello" in events
    assert not any(each.startswith("pushed") for each in events)
    lines = reports.explanation_lines(explanation).splitlines()
    assert "  state     released, gone from the registry" in lines and "  size      —" in lines
    assert lines[-1] == f"Each rule and the facts that it read: cscm policy explain {ref.short}"
    row = reports.image_row(explanation.image)
    assert (row["state"], row["runs in"]) == ("released, gone from the registry", "staging")
    assert {row[each] for each in ("size", "pushed", "pulled")} == {"—"}


def test_explain_shows_missing_base_as_unknown(fleet, make):
    """The base is missing from the registry even if a host still runs it."""
    base = fleet.curated(BASE, "base/python")
    above = fleet.curated(without=("provenance",))
    material = Material(name="base/python:3", digest=BASE, curated=True)
    fleet.say(above, TierName.DEVELOPMENT, PROVENANCE, make.provenance(built={"materials": (material,)}))
    fleet.remove(base)
    for application in ("base/python", "hello"):
        fleet.refresh(application)
    fleet.inventory.record_host(
        "laptop", [HostContainer(container="f1", name="reverse_proxy", digest=BASE, running=True)], make.noon
    )

    (explanation,) = explain(above.digest, fleet.inventory)
    assert [(base.is_curated, base.released) for base in explanation.built_from] == [(False, False)]


def test_explain_shows_complete_reason_why_image_is_unreadable(fleet):
    """A table shows only its beginning; an unknown SBOM differs from a missing one."""
    spoilt, bare = fleet.curated(), fleet.curated(OTHER, without=("inventory",))
    fleet.spoil(spoilt)
    unreadable = fleet.refresh().unreadable[str(spoilt)]

    (one,), (other,) = (explain(ref.digest, fleet.inventory) for ref in (spoilt, bare))

    assert " — ".join(unreadable.splitlines()) in reports.explanation_lines(one)
    assert "SBOM            not known" in reports.explanation_lines(one)
    assert "SBOM      none" in reports.explanation_lines(other)


def list_events(fleet, ref):
    """Return the events in the history of an image, each with its signer."""
    fleet.refresh()
    (explained,) = explain(ref.digest, fleet.inventory)
    return [(moment.text, moment.by) for moment in explained.timeline]


def words(ref, noon):
    """Return an approval, a soak and a hold of an image, each as its signed predicate."""
    approval = Approval(
        environment="production", digest=ref.digest, decision="approved", by="Ada", reason="seen", decided=noon
    )
    soak = Soak(
        environment="staging", digest=ref.digest, container="c", since=noon, until=noon + timedelta(hours=1),
        observations=13, required_seconds=3600,
    )  # fmt: skip
    hold = {"act": "hold", "by": "Ada", "reason": "audit", "at": noon.isoformat()}
    return {APPROVAL: approval.predicate(), SOAK: soak.predicate(), LIFECYCLE: hold}


@pytest.mark.parametrize(("kind", "signer", "what"), [
    (APPROVAL, TierName.EXECUTION, "approved for production by Ada: seen"),
    (SOAK, TierName.EXECUTION, "healthy in staging for 1:00:00"),
    (LIFECYCLE, TierName.LIFECYCLE, "hold: by Ada on 2026-11-24 12:00 UTC: audit"),
])  # fmt: skip
def test_explain_shows_text_of_approval_soak_and_hold(fleet, make, kind, signer, what):
    """The text counts only if the tier that may decide signed it."""
    ref = fleet.curated()
    fleet.say(
        ref.with_repository(name_evidence_repository(signer, ref.application)),
        signer,
        kind,
        words(ref, make.noon)[kind],
    )

    assert (what, signer) in list_events(fleet, ref)


@pytest.mark.parametrize(
    ("kind", "what"), [(APPROVAL, "an approval"), (SOAK, "a soak"), (LIFECYCLE, "a lifecycle decision")]
)
def test_explain_hides_text_of_decision_signed_by_development(fleet, make, kind, what):
    """The event and its signer are listed, but it is not shown as a person's decision."""
    ref = fleet.curated()
    fleet.say(ref, TierName.DEVELOPMENT, kind, words(ref, make.noon)[kind])

    assert (what, "development") in list_events(fleet, ref)


def test_every_predicate_type_has_a_readable_event_name(make):
    """A history must not show the URN of a predicate type."""
    types = {
        value for value in vars(statement).values()
        if isinstance(value, str) and value.startswith(("https://", "urn:")) and value != statement.STATEMENT
    }  # fmt: skip
    ref = ImageRef(repository="curated/hello", digest=BASE)
    notes = [
        Note(digest=BASE, repository=ref.repository, predicate_type=each, signer=TierName.EXECUTION, at=None)
        for each in types
    ]
    stored = StoredManifest(digest=BASE, pushed_at=make.noon, size=1)

    moments = make_timeline(FleetImage(ref=ref, stored=stored, notes=tuple(notes)))

    assert len(moments) == len(types) + 1 > 10
    assert [each.text for each in moments if "://" in each.text or "urn:" in each.text] == []


def test_explain_names_repository_that_has_the_digest(history):
    """A misspelt name is corrected; the name in `dev/` means the same image."""
    ref = next(each.ref for each in history.inventory.images() if each.application == "hello")
    with pytest.raises(ImageNotFound, match="curated/hello has it"):
        explain(f"curated/helo@{ref.digest}", history.inventory)

    assert explain(f"dev/hello@{ref.digest}", history.inventory) == explain(str(ref), history.inventory)


def test_explain_raises_for_unknown_or_short_digest(history):
    """The message says where to look."""
    with pytest.raises(ImageNotFound, match="cscm images"):
        explain("sha256:" + "9" * 64, history.inventory)
    for little in ("", "a", "a" * 11, "sha256:", "hello"):
        with pytest.raises(DeclarationInvalid, match="12 digits or more"):
            explain(little, history.inventory)


def test_explanation_page_is_complete_and_escaped(history, make):
    """Names come from outside and must not format the page."""
    (explanation,) = explain(BASE, history.inventory)
    odd = explanation.image.model_copy(update={"owner": "<b>|me\x1b[31m"})
    explanation = explanation.model_copy(update={"image": odd})

    page, lines = reports.explanation_page(explanation), reports.explanation_lines(explanation)

    for each in (page, lines):
        assert "staging" in each and "not released" not in each and BASE in each
        assert "\x1b" not in each.replace("\n", "")
    assert "<b>|me" not in page and r"\<b\>\|me" in page
    assert "refused at the release gate: x" in page and "## Refused" in page
    assert "hello" in page.partition("Built on it")[2]


def test_image_rows_list_running_then_newest_images(history):
    """A page shows only the first of many images."""
    image = next(each for each in history.inventory.images() if each.application == "hello")
    running = next(each for each in history.inventory.images() if each.running)
    later = image.stored.model_copy(update={"pushed_at": image.stored.pushed_at + timedelta(days=9)})
    newer = image.model_copy(update={"owner": "the newer", "stored": later})

    rows = reports.image_rows([image, newer, running])
    assert rows == [reports.image_row(each) for each in (running, newer, image)]


def test_image_row_shows_state_of_image(history):
    """The cells of the image table are text."""
    rows = {row["application"]: row for row in map(reports.image_row, history.inventory.images())}

    assert rows["base/python"]["state"] == "refused (x)" and rows["base/python"]["runs in"] == "staging"
    assert rows["hello"]["state"] == "released" and rows["hello"]["runs in"] == "—"
    image = next(each for each in history.inventory.images() if each.application == "hello")
    for change, state in (
        ({"held": "by ann: audit"}, "released, held"),
        ({"blocked": "by ann: bad", "held": "by ann"}, "blocked by ann: bad"),
        ({"blocked": "x", "stored": image.stored.model_copy(update={"status": "ARCHIVED"})}, "blocked x, archived"),
    ):
        assert reports.image_row(image.model_copy(update=change))["state"] == state
    assert rows["hello"]["size"] == "1.5 MB" and rows["hello"]["pulled"] == "never"
