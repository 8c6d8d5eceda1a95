"""Events: their resource, related resources, origin and ID."""

import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings

from orchestration import events
from orchestration.database_events import post_advisory
from orchestration.steps import run_in_thread
from supply_chain.errors import EventRejected
from supply_chain.model.image import ImageRef

REF = ImageRef(repository="curated/base/python", digest="sha256:" + "a" * 64)


@pytest.fixture
def emitted(monkeypatch):
    """Return a function that emits an event and returns it as Prefect gets it."""

    def emit(*args, **payload):
        found = []
        monkeypatch.setattr(events, "emit_event", lambda **event: found.append(event))
        events.emit(*args, **payload)
        (event,) = found
        return event

    return emit


def test_event_resource_is_the_digest(emitted, make):
    """Application and revision are related resources."""
    event = emitted("image.stored", REF, make.source(dirty=True), tag="t")

    assert event["event"] == "cscm.image.stored"
    assert event["resource"]["prefect.resource.id"] == f"cscm.image.{REF.digest}"
    assert event["resource"]["prefect.resource.name"] == str(REF)
    assert event["resource"]["cscm.application"] == "base/python"
    roles = {each["prefect.resource.role"]: each["prefect.resource.id"] for each in event["related"]}
    assert roles == {
        "application": "cscm.application.base/python",
        "revision": f"cscm.revision.{make.source().revision}",
    }
    assert event["payload"] == {"origin": "tier", "image": str(REF), "tag": "t"}


def test_event_that_prefect_does_not_confirm_is_an_error():
    """A hook would otherwise say that it reported a push that is lost."""
    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api"}), pytest.raises(EventRejected):
        post_advisory("DSA-1-1", [])


def test_event_label_tells_whether_it_comes_from_chain(emitted):
    """A trigger that starts the next tier must ignore events of a chain, and it matches only labels."""
    alone = emitted("image.signed", REF)
    with events.mark_as_chain():
        in_a_chain = emitted("image.signed", REF)
    afterwards = emitted("image.signed", REF)

    for event, origin in ((alone, "tier"), (in_a_chain, "chain"), (afterwards, "tier")):
        assert (event["payload"]["origin"], event["resource"]["cscm.origin"]) == (origin, origin)


def test_event_of_gate_has_gate_label(emitted):
    """A trigger for the verdict of one gate matches only labels."""
    event = emitted("image.admitted", REF, gate="release", notes=["x"])

    assert event["resource"]["cscm.gate"] == event["payload"]["gate"] == "release"
    assert "cscm.notes" not in event["resource"] and "cscm.gate" not in emitted("image.signed", REF)["resource"]


async def test_event_from_thread_of_chain_has_chain_origin(emitted):
    """The steps of a chain are tasks and threads."""
    with events.mark_as_chain():
        event = await run_in_thread(emitted, "image.signed", REF)

    assert event["resource"]["cscm.origin"] == "chain"


def test_event_without_source_relates_only_to_application(emitted):
    """The monitor knows no revision."""
    related = emitted("deployment.drifted", REF)["related"]

    assert [each["prefect.resource.role"] for each in related] == ["application"]


def test_event_of_statement_has_stable_id(emitted):
    """Every emitter gives the same statement the same ID, and other statements another."""
    number = events.make_event_id("image.verdict-changed", REF.digest)

    assert emitted("image.verdict-changed", REF, None, number)["id"] == number
    assert number == events.make_event_id("image.verdict-changed", REF.digest)
    assert number not in (
        events.make_event_id("image.signed", REF.digest),
        events.make_event_id("image.verdict-changed", REF.digest.replace("a", "b")),
    )
