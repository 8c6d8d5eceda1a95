"""Helpers for the part of ASGI used here (https://asgi.readthedocs.io/en/latest/specs/www.html)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, MutableMapping
from typing import Any
from urllib.parse import parse_qs

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


class Disconnected(Exception):
    """The client disconnected before its request was complete."""


class TooLarge(Exception):
    """The client sent more than the limit."""


def headers_of(scope: Scope) -> dict[str, str]:
    """Return the request's headers, with names in lower case."""
    return {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}


def query_of(scope: Scope) -> dict[str, list[str]]:
    """Return the request's query parameters, including empty ones."""
    return parse_qs(scope["query_string"].decode("latin-1"), keep_blank_values=True)


async def chunks(receive: Receive) -> AsyncIterator[bytes]:
    """Yield the parts of the request's body as they arrive; raise `Disconnected` if the client leaves."""
    while True:
        message = await receive()
        if message["type"] != "http.request":
            raise Disconnected
        yield message.get("body", b"")
        if not message.get("more_body", False):
            return


async def read_body(receive: Receive, limit: int) -> bytes:
    """Return the complete body of the request; raise `TooLarge` above `limit` bytes, or `Disconnected`."""
    body = bytearray()
    async for chunk in chunks(receive):
        body += chunk
        if len(body) > limit:
            raise TooLarge
    return bytes(body)


def replaying(body: bytes, receive: Receive) -> Receive:
    """Return a `receive` that first returns a body that was read before."""
    pending = [body]

    async def again() -> Message:
        if pending:
            return {"type": "http.request", "body": pending.pop(), "more_body": False}
        return await receive()

    return again


async def answer(send: Send, status: int, headers: Mapping[str, str], body: bytes = b"") -> None:
    """Send a complete answer; its content length is the body's, unless the headers set another (as for HEAD)."""
    lines = {"content-length": str(len(body)), **{name.lower(): value for name, value in headers.items()}}
    raw = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in lines.items()]
    await send({"type": "http.response.start", "status": status, "headers": raw})
    await send({"type": "http.response.body", "body": body, "more_body": False})
