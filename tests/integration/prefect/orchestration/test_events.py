"""Events that Prefect's server confirms."""

import time
from datetime import UTC, datetime

import pytest
from prefect.client.orchestration import get_client
from prefect.events.filters import EventFilter, EventNameFilter
from prefect.settings import PREFECT_API_URL, temporary_settings

from orchestration import events
from orchestration.announcements import make_event
from orchestration.database_events import post_advisory
from supply_chain.model.image import ImageRef
from supply_chain.promotion.pushes import Pushed
from tests.support.waiting import eventually

REF = ImageRef(repository="curated/base/python", digest="sha256:" + "a" * 64)


@pytest.mark.parametrize(
    ("post", "name", "about", "payload"),
    [
        (lambda: post_advisory("DSA-1-1", ["openssl"]),
         "cscm.advisory.published", "cscm.advisory.DSA-1-1", {"packages": ["openssl"]}),
        (lambda: post_advisory("DSA-1-1", []), "cscm.advisory.published", "cscm.advisory.DSA-1-1", {}),
    ],
    ids=["advisory", "advisory about everything"],
)  # fmt: skip
def test_posted_event_is_confirmed_before_return(machine, post, name, about, payload):
    """A command ends at once, and Prefect's background thread would end with it."""
    post()

    with get_client(sync_client=True) as client:
        wanted = EventFilter(event=EventNameFilter(name=[name]))
        eventually(
            lambda: (
                (about, payload) in [(e.resource.id, e.payload) for e in client.read_events(wanted, limit=50).events]
            )
        )


def test_is_recorded_tells_whether_prefect_has_event(machine):
    """If the server does not answer, the event counts as not recorded."""
    number = events.make_event_id("image.signed", REF.digest)
    pushed = Pushed(event="k", at=datetime.now(UTC), image=REF, tag="t")
    event = make_event(pushed, followed=False).model_copy(update={"id": number})

    assert not events.is_recorded(number)
    with get_client(sync_client=True) as client:
        client.request("POST", "/events", json=[event.model_dump(mode="json")]).raise_for_status()
    for _ in range(300):
        if events.is_recorded(number):
            break
        time.sleep(0.1)
    assert events.is_recorded(number) and not events.is_recorded(make_event(pushed, followed=False).id)
    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:1/api"}):
        assert not events.is_recorded(number)
