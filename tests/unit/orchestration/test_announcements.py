"""announce: one push gives one event, and an event that Prefect did not accept is an error."""

from datetime import timedelta

import httpx
import pytest
from prefect.client.orchestration import SyncPrefectClient

from orchestration.announcements import PUSHES_WAITING, PrefectAnnouncer, announce, make_event
from orchestration.waiting_runs import WAITING
from supply_chain.errors import EventRejected, EventUnreadable
from supply_chain.model.image import ImageRef
from supply_chain.promotion.coalescing import AT_ONCE
from supply_chain.promotion.pushes import Pushed
from tests.support.builders import DIGEST, NOON

PUSHED = Pushed(event="13cd", at=NOON, image=ImageRef(repository="dev/hello", digest=DIGEST), tag="3f2a1c0")


class Client(SyncPrefectClient):
    """Prefect's client, which answers in place of the server."""

    def __init__(self, answer):
        super().__init__("http://prefect/api")
        self.answer, self.asked = answer, []

    def request(self, method, path, params=None, path_params=None, **kwargs):
        json = kwargs["json"]
        self.asked.append((method, path, json))
        if isinstance(self.answer, Exception):
            raise self.answer
        return httpx.Response(self.answer, request=httpx.Request(method, f"http://prefect{path}"))


def test_announce_posts_event_about_digest():
    """The event has the labels and the payload that a trigger needs."""
    client = Client(204)

    announce(PUSHED, client, followed=False)

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
        "followed": False,
    }


def test_duplicate_message_gives_same_event_id():
    """Prefect identifies an event by its ID; another push of the same image is another event."""
    later = PUSHED.model_copy(update={"at": NOON + timedelta(hours=1)})
    another = PUSHED.model_copy(update={"event": "another"})

    assert make_event(PUSHED, followed=False).id == make_event(later, followed=True).id
    assert make_event(PUSHED, followed=False).id != make_event(another, followed=False).id


@pytest.mark.parametrize("answer", [500, 503, 401, httpx.ConnectError("refused"), httpx.ReadTimeout("")], ids=str)
def test_announce_raises_error_if_prefect_did_not_take_event(answer):
    """The message then stays in its queue."""
    with pytest.raises(EventRejected, match="did not accept"):
        announce(PUSHED, Client(answer), followed=False)


@pytest.mark.parametrize("answer", [400, 413, 422])
def test_announce_raises_other_error_if_prefect_rejects_event(answer):
    """Retrying would never succeed."""
    with pytest.raises(EventUnreadable, match="as an event"):
        announce(PUSHED, Client(answer), followed=False)


class Server(Client):
    """A client that answers with a count of runs."""

    def request(self, method, path, params=None, path_params=None, **kwargs):
        super().request(method, path, **kwargs)
        return httpx.Response(200, json=3, request=httpx.Request(method, f"http://prefect{path}"))


def test_unfinished_counts_push_runs_that_use_slot():
    """The filter selects the deployment and unfinished states, without runs that wait for evidence."""
    server = Server(200)

    assert PrefectAnnouncer(server).count_unfinished() == 3
    ((_, path, wanted),) = server.asked
    assert (path, wanted["deployments"]["name"]["any_"]) == ("/flow_runs/count", ["on-push"])
    assert wanted["flow_runs"]["state"]["name"] == {"not_any_": [WAITING]}


@pytest.mark.parametrize("answer", [404, 422])
def test_unfinished_counts_as_busy_if_server_cannot_count(answer):
    """Endless retries would hold back every push; catch-up runs cover them."""
    assert PrefectAnnouncer(Client(answer)).count_unfinished() == AT_ONCE


@pytest.mark.parametrize("answer", [401, 503])
def test_unfinished_raises_error_if_server_does_not_answer(answer):
    """The bridge retries, as the server may answer later."""
    with pytest.raises(EventRejected):
        PrefectAnnouncer(Client(answer)).count_unfinished()


@pytest.mark.parametrize("answer", [400, 413, 422])
def test_rejected_catch_up_event_is_left_to_schedule(answer, caplog):
    """Endless retries would hold back every later push."""
    client = Client(answer)

    PrefectAnnouncer(client).announce_catch_up(40, 1000)

    assert len(client.asked) == 1 and "1000 pushes are left to the next scheduled catch-up" in caplog.text


def test_catch_up_posts_event_or_raises_error():
    """After an error, the bridge retries."""
    client = Client(204)
    PrefectAnnouncer(client).announce_catch_up(40, 1000)
    ((_, path, (event,)),) = client.asked
    assert (path, event["event"], event["payload"]) == ("/events", PUSHES_WAITING, {"applications": 40, "pushes": 1000})

    for call in (
        PrefectAnnouncer(Client(503)).count_unfinished,
        lambda: PrefectAnnouncer(Client(503)).announce_catch_up(1, 1),
    ):
        with pytest.raises(EventRejected):
            call()
