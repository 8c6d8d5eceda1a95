"""announce: the same push is the same event, and what Prefect did not take is told."""

from datetime import timedelta

import httpx
import pytest

from orchestration.announcements import WAITING, Announcer, announce, event_of
from supply_chain.errors import EventNotTaken, EventUnreadable
from supply_chain.model.image import ImageRef
from supply_chain.promotion.coalescing import AT_ONCE
from supply_chain.promotion.pushes import Pushed
from tests.unit.conftest import DIGEST, NOON

PUSHED = Pushed(event="13cd", at=NOON, image=ImageRef(repository="dev/hello", digest=DIGEST), tag="3f2a1c0")


class Client:
    """Prefect's client, of which this answers in Prefect's place."""

    def __init__(self, answer):
        self.answer, self.asked = answer, []

    def request(self, method, path, json):
        self.asked.append((method, path, json))
        if isinstance(self.answer, Exception):
            raise self.answer
        return httpx.Response(self.answer, request=httpx.Request(method, f"http://prefect{path}"))


def test_the_event_is_posted_and_taken():
    """About the digest, with what a trigger needs."""
    client = Client(204)

    announce(PUSHED, client)

    ((method, path, (event,)),) = client.asked
    assert (method, path, event["event"]) == ("POST", "/events", "cscm.image.pushed")
    assert event["resource"]["prefect.resource.id"] == f"cscm.image.{DIGEST}"
    assert event["resource"]["cscm.origin"] == "tier"
    assert event["payload"] == {
        "origin": "tier",
        "image": f"dev/hello@{DIGEST}",
        "repository": "dev/hello",
        "digest": DIGEST,
        "tag": "3f2a1c0",
    }


def test_a_message_that_comes_twice_is_one_event():
    """Prefect knows an event by its id; another push of the same image is another event."""
    assert event_of(PUSHED).id == event_of(PUSHED.model_copy(update={"at": NOON + timedelta(hours=1)})).id
    assert event_of(PUSHED).id != event_of(PUSHED.model_copy(update={"event": "another"})).id


@pytest.mark.parametrize("answer", [500, 503, 401, httpx.ConnectError("refused"), httpx.ReadTimeout("")], ids=str)
def test_what_prefect_did_not_take_is_told(answer):
    """So that the message stays in its queue."""
    with pytest.raises(EventNotTaken, match="did not take"):
        announce(PUSHED, Client(answer))


@pytest.mark.parametrize("answer", [400, 413, 422])
def test_what_prefect_will_never_take_is_told_as_such(answer):
    """So that nothing waits for it."""
    with pytest.raises(EventUnreadable, match="for an event"):
        announce(PUSHED, Client(answer))


class Server(Client):
    """It counts."""

    def request(self, method, path, json):
        super().request(method, path, json)
        return httpx.Response(200, json=3, request=httpx.Request(method, f"http://prefect{path}"))


def test_what_is_unfinished_is_counted_by_prefect():
    """By kind of run, and by what goes on of it."""
    server = Server(200)

    assert Announcer(server).unfinished() == 3
    ((_, path, wanted),) = server.asked
    assert (path, wanted["deployments"]["name"]["any_"]) == ("/flow_runs/count", ["on-push"])


@pytest.mark.parametrize("answer", [404, 422])
def test_a_server_that_cannot_count_counts_as_busy(answer):
    """Asked for ever, it would keep every push; catch-up runs look at them all."""
    assert Announcer(Client(answer)).unfinished() == AT_ONCE


@pytest.mark.parametrize("answer", [401, 503])
def test_a_server_that_does_not_answer_now_is_asked_again(answer):
    """It may say later how much it has to do."""
    with pytest.raises(EventNotTaken):
        Announcer(Client(answer)).unfinished()


@pytest.mark.parametrize("answer", [400, 413, 422])
def test_a_catch_up_that_prefect_will_never_take_is_left_to_the_schedule(answer, caplog):
    """Asked for ever, it would keep every push that comes after."""
    client = Client(answer)

    Announcer(client).catch_up(40, 1000)

    assert len(client.asked) == 1 and "1000 pushes are left to the next scheduled reconcile" in caplog.text


def test_a_catch_up_run_is_announced_or_that_it_was_not_is_told():
    """The bridge tries again."""
    client = Client(204)
    Announcer(client).catch_up(40, 1000)
    ((_, path, (event,)),) = client.asked
    assert (path, event["event"], event["payload"]) == ("/events", WAITING, {"applications": 40, "pushes": 1000})

    for call in (Announcer(Client(503)).unfinished, lambda: Announcer(Client(503)).catch_up(1, 1)):
        with pytest.raises(EventNotTaken):
            call()
