"""The few words of ASGI spoken here (https://asgi.readthedocs.io/en/latest/specs/www.html)."""

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
    """The client went away before its request was whole."""


class TooLarge(Exception):
    """The client sent more than is taken."""


def headers_of(scope: Scope) -> dict[str, str]:
    """The request's headers, names in lower case."""
    return {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}


def query_of(scope: Scope) -> dict[str, list[str]]:
    """The request's query parameters, empty ones too."""
    return parse_qs(scope["query_string"].decode("latin-1"), keep_blank_values=True)


async def chunks(receive: Receive) -> AsyncIterator[bytes]:
    """The request's body as it comes; raises `Disconnected`."""
    while True:
        message = await receive()
        if message["type"] != "http.request":
            raise Disconnected
        yield message.get("body", b"")
        if not message.get("more_body", False):
            return


async def whole(receive: Receive, limit: int) -> bytes:
    """The request's body, at most `limit` bytes; raises `TooLarge`, `Disconnected`."""
    body = bytearray()
    async for chunk in chunks(receive):
        body += chunk
        if len(body) > limit:
            raise TooLarge
    return bytes(body)


def replaying(body: bytes, receive: Receive) -> Receive:
    """A `receive` that first gives a body that was already read."""
    pending = [body]

    async def again() -> Message:
        if pending:
            return {"type": "http.request", "body": pending.pop(), "more_body": False}
        return await receive()

    return again


async def answer(send: Send, status: int, headers: Mapping[str, str], body: bytes = b"") -> None:
    """A whole answer; its length is the body's unless the headers say otherwise (as for HEAD)."""
    lines = {"content-length": str(len(body)), **{name.lower(): value for name, value in headers.items()}}
    raw = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in lines.items()]
    await send({"type": "http.response.start", "status": status, "headers": raw})
    await send({"type": "http.response.body", "body": body, "more_body": False})
