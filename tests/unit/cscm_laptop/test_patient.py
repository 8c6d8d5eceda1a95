"""An answer of 503 is asked for again, with the same request; every other answer is passed on as it comes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cscm_laptop import patient as module
from cscm_laptop.patient import FACTORY, application, patient

HTTP = {"type": "http", "method": "POST", "path": "/"}


class Application:
    """Answers with each status in turn, and keeps what it was asked."""

    def __init__(self, *statuses):
        self.statuses, self.asked = list(statuses), []

    async def __call__(self, scope, receive, send):
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message["body"], message["more_body"]
        self.asked.append(body)
        scope["seen"] = True
        status = self.statuses.pop(0)
        await send({"type": "http.response.start", "status": status, "headers": [(b"n", str(status).encode())]})
        await send({"type": "http.response.body", "body": b"first", "more_body": True})
        await send({"type": "http.response.body", "body": b"second"})


async def told(app, *parts, delays=(0, 0)):
    """The messages that a client gets that sends these parts of a body."""
    request = [
        {"type": "http.request", "body": part, "more_body": number < len(parts)} for number, part in enumerate(parts, 1)
    ]
    sent = []

    async def receive():
        return request.pop(0)

    async def send(message):
        sent.append(message)

    await patient(app, delays)(HTTP, receive, send)
    assert "seen" not in HTTP
    return sent


@pytest.mark.parametrize("status", [200, 404, 423, 500, 502])
async def test_an_answer_is_passed_on_whole(status):
    """Nothing but 503 says that the same request may be taken a moment later."""
    app = Application(status)

    start, *bodies = await told(app, b"a", b"b")

    assert (start["status"], start["headers"]) == (status, [(b"n", str(status).encode())])
    assert [each["body"] for each in bodies] == [b"first", b"second"]
    assert app.asked == [b"ab"]


async def test_a_request_is_made_again_as_it_was_until_it_is_taken():
    """The client hears of the last answer only."""
    app = Application(503, 503, 201)

    start, *bodies = await told(app, b"a", b"b")

    assert (start["status"], len(bodies)) == (201, 2)
    assert app.asked == [b"ab"] * 3


class Raising(Application):
    """As Starlette does: it answers, and then raises what it answered for."""

    async def __call__(self, scope, receive, send):
        failed = self.statuses[0] >= 500
        await super().__call__(scope, receive, send)
        if failed:
            raise OSError("database is locked")


async def test_what_is_raised_after_an_answer_that_nobody_hears_is_not_told():
    """The server around it would answer 500 in its place."""
    start, *_ = await told(Raising(503, 200), b"")

    assert start["status"] == 200


@pytest.mark.parametrize("statuses", [(500,), (503, 500), (503, 503, 503)], ids=str)
async def test_what_is_raised_after_the_clients_answer_is_the_servers_to_log(statuses):
    """Or nobody would learn why."""
    with pytest.raises(OSError, match="locked"):
        await told(Raising(*statuses), b"")


async def test_the_last_answer_is_the_clients_whatever_it_is():
    """A database that stays locked is told."""
    app = Application(503, 503, 503)

    start, *_ = await told(app, b"")

    assert (start["status"], len(app.asked)) == (503, 3)


async def test_a_client_that_leaves_is_not_waited_for():
    """The application is told that it left."""
    seen = []

    async def app(scope, receive, send):
        seen.append(await receive())

    async def receive():
        return {"type": "http.disconnect"}

    await patient(app, ())(HTTP, receive, None)

    assert seen == [{"type": "http.disconnect"}]


@pytest.mark.parametrize("kind", ["lifespan", "websocket"])
async def test_what_is_no_request_is_the_applications_own(kind):
    """Its start and end, and the UI's stream of events."""
    seen = []

    async def app(*given):
        seen.append(given)

    await patient(app)({"type": kind}, "receive", "send")

    assert seen == [({"type": kind}, "receive", "send")]


async def test_the_application_is_the_one_that_the_environment_names(monkeypatch):
    """As uvicorn asks for it."""
    app = Application(503, 200)
    monkeypatch.setattr(module, "made_here", lambda: app, raising=False)
    monkeypatch.setenv(FACTORY, f"{module.__name__}:made_here")

    async def receive():
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message):
        pass

    await application()(HTTP, receive, send)

    assert len(app.asked) == 2


@given(st.lists(st.binary(max_size=4), min_size=1, max_size=4))
async def test_any_body_arrives_whole_each_time(parts):
    """In however many parts it comes."""
    app = Application(503, 200)

    await told(app, *parts)

    assert app.asked == [b"".join(parts)] * 2


async def test_an_application_that_takes_middleware_is_patient_from_inside(monkeypatch):
    """Prefect's automations ask it in its own process, past whatever is around it."""

    class Taking:
        def __init__(self):
            self.inside = []

        def add_middleware(self, made):
            self.inside.append(made)

    taking = Taking()
    monkeypatch.setattr(module, "made_taking", lambda: taking, raising=False)
    monkeypatch.setenv(FACTORY, f"{module.__name__}:made_taking")

    assert application() is taking
    assert taking.inside == [patient]
