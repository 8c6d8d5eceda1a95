"""Events: whose they are, and where they come from."""

import pytest

from supply_chain.image import ImageRef
from tasks import events
from tasks.running import in_thread

REF = ImageRef(repository="curated/base/python", digest="sha256:" + "a" * 64)


@pytest.fixture
def emitted(monkeypatch):
    """Emit, and give the event as Prefect gets it."""

    def emit(*args, **payload):
        found = []
        monkeypatch.setattr(events, "emit_event", lambda **event: found.append(event))
        events.emit(*args, **payload)
        (event,) = found
        return event

    return emit


def test_an_event_is_about_a_digest(emitted, make):
    """Application and revision are related; a name says which."""
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


def test_an_event_says_whether_it_comes_out_of_a_chain(emitted):
    """A trigger that starts the next tier must not start it twice; it matches labels, and no payload."""
    alone = emitted("image.signed", REF)
    with events.in_a_chain():
        in_a_chain = emitted("image.signed", REF)
    afterwards = emitted("image.signed", REF)

    for event, origin in ((alone, "tier"), (in_a_chain, "chain"), (afterwards, "tier")):
        assert (event["payload"]["origin"], event["resource"]["cscm.origin"]) == (origin, origin)


def test_the_boundary_of_an_event_is_a_label_too(emitted):
    """A trigger that waits for one gate's word matches labels alone."""
    event = emitted("image.admitted", REF, boundary="curation", notes=["x"])

    assert event["resource"]["cscm.boundary"] == event["payload"]["boundary"] == "curation"
    assert "cscm.notes" not in event["resource"] and "cscm.boundary" not in emitted("image.signed", REF)["resource"]


async def test_what_a_chain_starts_is_part_of_it(emitted):
    """Its steps are tasks and threads."""
    with events.in_a_chain():
        told = await in_thread(emitted, "image.signed", REF)

    assert told["resource"]["cscm.origin"] == "chain"


def test_without_a_source_only_the_application_is_related(emitted):
    """The monitor knows no revision."""
    related = emitted("deployment.drifted", REF)["related"]

    assert [each["prefect.resource.role"] for each in related] == ["application"]
