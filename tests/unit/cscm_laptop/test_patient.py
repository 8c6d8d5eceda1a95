"""Requests that write take turns; one that is answered with 503 is repeated, every other response is passed on."""

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cscm_laptop import patient as module
from cscm_laptop.patient import FACTORY, application, wrap_with_retries

HTTP = {"type": "http", "method": "POST", "path": "/"}


class Application:
    """Responds with each status in turn, and records the request bodies."""

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


def sending(*parts):
    """Return the function with which the server receives a body in these parts from a client that stays."""
    request = [
        {"type": "http.request", "body": part, "more_body": number < len(parts)} for number, part in enumerate(parts, 1)
    ]

    async def receive():
        return request.pop(0) if request else await asyncio.Event().wait()

    return receive


async def read_response(app, *parts, delays=(0, 0)):
    """Return the messages that a client gets which sends its body in these parts."""
    sent, receive = [], sending(*parts)

    async def send(message):
        sent.append(message)

    await wrap_with_retries(app, delays)(HTTP, receive, send)
    assert "seen" not in HTTP
    return sent


@pytest.mark.parametrize("status", [200, 404, 423, 500, 502])
async def test_other_response_than_503_is_passed_on_unchanged(status):
    """Only 503 means that the same request may succeed a moment later."""
    app = Application(status)

    start, *bodies = await read_response(app, b"a", b"b")

    assert (start["status"], start["headers"]) == (status, [(b"n", str(status).encode())])
    assert [each["body"] for each in bodies] == [b"first", b"second"]
    assert app.asked == [b"ab"]


async def test_request_is_repeated_unchanged_until_it_succeeds():
    """The client gets only the last response."""
    app = Application(503, 503, 201)

    start, *bodies = await read_response(app, b"a", b"b")

    assert (start["status"], len(bodies)) == (201, 2)
    assert app.asked == [b"ab"] * 3


class Raising(Application):
    """Responds and then raises the error, as Starlette does."""

    async def __call__(self, scope, receive, send):
        failed = self.statuses[0] >= 500
        await super().__call__(scope, receive, send)
        if failed:
            raise OSError("database is locked")


async def test_error_after_suppressed_response_is_suppressed():
    """Otherwise the server would respond with 500."""
    start, *_ = await read_response(Raising(503, 200), b"")

    assert start["status"] == 200


@pytest.mark.parametrize("statuses", [(500,), (503, 500), (503, 503, 503)], ids=str)
async def test_error_after_final_response_is_raised(statuses):
    """The server logs it."""
    with pytest.raises(OSError, match="locked"):
        await read_response(Raising(*statuses), b"")


async def test_last_response_is_passed_on_after_all_retries():
    """A database that stays locked is reported."""
    app = Application(503, 503, 503)

    start, *_ = await read_response(app, b"")

    assert (start["status"], len(app.asked)) == (503, 3)


class Slow:
    """Records the requests that it answers at the same time, and answers once it may."""

    def __init__(self):
        self.answered, self.may = [], asyncio.Event()

    async def __call__(self, scope, receive, send):
        self.answered.append(scope["path"])
        await self.may.wait()
        await send({"type": "http.response.start", "status": 200, "headers": []})


async def test_write_requests_are_serialized():
    """Requests that read do not wait for them."""
    app = Slow()
    outer = wrap_with_retries(app, ())
    asked = [
        ("POST", "/api/flow_runs/"), ("PATCH", "/api/flow_runs/1"), ("DELETE", "/api/flow_runs/2"),
        ("GET", "/api/flow_runs/3"), ("POST", "/api/flow_runs/filter"),
    ]  # fmt: skip

    tasks = [
        asyncio.ensure_future(outer({"type": "http", "method": method, "path": path}, sending(b""), nothing))
        for method, path in asked
    ]
    for _ in range(10):
        await asyncio.sleep(0)
    before = list(app.answered)
    app.may.set()
    await asyncio.gather(*tasks)

    assert sorted(before) == ["/api/flow_runs/", "/api/flow_runs/3", "/api/flow_runs/filter"]
    assert [each for each in app.answered if each not in before] == ["/api/flow_runs/1", "/api/flow_runs/2"]


async def test_client_that_reads_slowly_holds_up_no_other_request():
    """Whoever reads no answer, even one that refuses a login, would otherwise stop all runs."""
    app = Slow()
    app.may.set()
    outer = wrap_with_retries(app, ())

    async def never(message):
        await asyncio.Event().wait()

    slow = asyncio.ensure_future(outer({**HTTP, "path": "/slow"}, sending(b""), never))
    await asyncio.sleep(0.01)
    await asyncio.wait_for(outer({**HTTP, "path": "/next"}, sending(b""), nothing), 5)

    assert app.answered == ["/slow", "/next"]
    slow.cancel()


async def test_request_whose_client_left_meanwhile_is_not_executed():
    """The client sends it again, and both would be executed."""
    app = Slow()
    outer = wrap_with_retries(app, ())
    left = [{"type": "http.request", "body": b"", "more_body": False}, {"type": "http.disconnect"}]

    async def leaves():
        return left.pop(0)

    first = asyncio.ensure_future(outer({**HTTP, "path": "/first"}, sending(b""), nothing))
    await asyncio.sleep(0.01)
    second = asyncio.ensure_future(outer({**HTTP, "path": "/second"}, leaves, nothing))
    await asyncio.sleep(0.01)
    app.may.set()
    await asyncio.gather(first, second)

    assert app.answered == ["/first"]


async def nothing(message):
    pass


async def receive_nothing():
    return {}


async def test_disconnect_is_passed_to_application():
    """There is no wait for a client that left."""
    received = []

    async def app(scope, receive, send):
        received.append(await receive())

    async def receive():
        return {"type": "http.disconnect"}

    await wrap_with_retries(app, ())({**HTTP, "method": "GET"}, receive, nothing)

    assert received == [{"type": "http.disconnect"}]


@pytest.mark.parametrize("kind", ["lifespan", "websocket"])
async def test_lifespan_and_websocket_scopes_are_passed_on(kind):
    """These are the lifespan and the websocket of the UI."""
    calls = []

    async def app(*given):
        calls.append(given)

    await wrap_with_retries(app)({"type": kind}, receive_nothing, nothing)

    assert calls == [({"type": kind}, receive_nothing, nothing)]


async def test_application_is_created_by_factory_of_environment(monkeypatch):
    """uvicorn calls this function."""
    app = Application(503, 200)
    monkeypatch.setattr(module, "made_here", lambda: app, raising=False)
    monkeypatch.setenv(FACTORY, f"{module.__name__}:made_here")

    await application()(HTTP, sending(b""), nothing)

    assert len(app.asked) == 2


@given(st.lists(st.binary(max_size=4), min_size=1, max_size=4))
async def test_repeated_request_has_complete_body(parts):
    """The body may come in any number of parts."""
    app = Application(503, 200)

    await read_response(app, *parts)

    assert app.asked == [b"".join(parts)] * 2


async def test_patient_is_added_as_middleware_of_application(monkeypatch):
    """Prefect's automations call the application in its own process, past any outer wrapper."""

    class Taking:
        def __init__(self):
            self.inside = []

        def add_middleware(self, made):
            self.inside.append(made)

    taking: Any = Taking()
    monkeypatch.setattr(module, "made_taking", lambda: taking, raising=False)
    monkeypatch.setenv(FACTORY, f"{module.__name__}:made_taking")

    assert application() == taking
    assert taking.inside == [wrap_with_retries]
