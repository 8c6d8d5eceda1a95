"""Events: whose they are, and where they come from."""

import time
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import pytest
from prefect.client.orchestration import get_client
from prefect.settings import PREFECT_API_URL, temporary_settings

from orchestration import events
from orchestration.announcements import event_of
from orchestration.database_events import post_advisory
from orchestration.steps import in_thread
from supply_chain.model.image import ImageRef
from supply_chain.promotion.pushes import Pushed
from tasks import source
from tasks.source import post_pushed
from tests.unit.conftest import NOON

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


@pytest.mark.parametrize(
    ("post", "name", "about", "payload"),
    [
        (lambda: post_pushed(Path("/shop/hello"), "a" * 40, "refs/heads/main"), "cscm.source.pushed",
         f"cscm.revision.{'a' * 40}", {"path": "/shop/hello", "revision": "a" * 40, "ref": "refs/heads/main",
                                       "pushed": "2026-11-24T12:00:00+00:00"}),
        (lambda: post_advisory("DSA-1-1", ["openssl"]),
         "cscm.advisory.published", "cscm.advisory.DSA-1-1", {"packages": ["openssl"]}),
        (lambda: post_advisory("DSA-1-1", []), "cscm.advisory.published", "cscm.advisory.DSA-1-1", {}),
    ],
    ids=["push", "advisory", "advisory about everything"],
)  # fmt: skip
def test_what_is_posted_is_sent_before_who_posts_it_may_end(monkeypatch, post, name, about, payload):
    """A git hook ends at once, and Prefect sends events in a thread that does not outlive it."""
    done = []
    monkeypatch.setattr(source, "now", lambda: NOON)
    monkeypatch.setattr(events, "emit_event", lambda **event: done.append(event))
    monkeypatch.setattr(
        events.EventsWorker, "instance", lambda: SimpleNamespace(drain=lambda: done.append("all are sent"))
    )

    post()

    event, last = done
    assert (event["event"], event["resource"]["prefect.resource.id"], event["payload"]) == (name, about, payload)
    assert last == "all are sent"


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
    event = emitted("image.admitted", REF, gate="curation", notes=["x"])

    assert event["resource"]["cscm.gate"] == event["payload"]["gate"] == "curation"
    assert "cscm.notes" not in event["resource"] and "cscm.gate" not in emitted("image.signed", REF)["resource"]


async def test_what_a_chain_starts_is_part_of_it(emitted):
    """Its steps are tasks and threads."""
    with events.in_a_chain():
        told = await in_thread(emitted, "image.signed", REF)

    assert told["resource"]["cscm.origin"] == "chain"


def test_without_a_source_only_the_application_is_related(emitted):
    """The monitor knows no revision."""
    related = emitted("deployment.drifted", REF)["related"]

    assert [each["prefect.resource.role"] for each in related] == ["application"]


def test_an_event_that_tells_of_a_statement_has_its_number(emitted):
    """The same, whoever emits it; another statement's or event's has another."""
    number = events.event_id("image.verdict-changed", REF.digest)

    assert emitted("image.verdict-changed", REF, None, number)["id"] == number
    assert number == events.event_id("image.verdict-changed", REF.digest)
    assert number not in (
        events.event_id("image.signed", REF.digest),
        events.event_id("image.verdict-changed", REF.digest.replace("a", "b")),
    )


def test_what_prefect_has_is_known(machine):
    """A while after it was emitted; where nobody can say, it counts as not told."""
    number = events.event_id("image.signed", REF.digest)
    pushed = Pushed(event="k", at=datetime.now(UTC), image=REF, tag="t")
    event = event_of(pushed).model_copy(update={"id": number})

    assert not events.is_recorded(number)
    with get_client(sync_client=True) as client:
        client.request("POST", "/events", json=[event.model_dump(mode="json")]).raise_for_status()
    for _ in range(300):
        if events.is_recorded(number):
            break
        time.sleep(0.1)
    assert events.is_recorded(number) and not events.is_recorded(event_of(pushed).id)
    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:1/api"}):
        assert not events.is_recorded(number)
