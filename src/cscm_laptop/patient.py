"""An ASGI wrapper that lets requests which write take turns, and repeats one for a moment if the answer is 503.

Prefect answers 503 if SQLite rolled back a transaction because of a conflict with another; the same request succeeds
a moment later. Prefect's own client would wait at least two seconds, several times in one chain. Requests that take
turns have conflicts only with what the server itself does.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Sequence
from importlib import import_module
from typing import Any

Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[dict[str, Any], Receive, Send], Awaitable[None]]

FACTORY = "CSCM_ASGI_FACTORY"
"""The environment variable that names the application factory, as `module:function`."""
DELAYS = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32)
"""Seconds before each further attempt; after these, the client gets the answer, whatever it is."""
NO_WRITES = (
    "concurrency_status", "count", "count-deployments", "count-task-runs", "counts", "events", "filter",
    "get_runs", "get_scheduled_flow_runs", "history", "lateness", "next-runs", "paginate", "renew", "validate",
)  # fmt: skip
"""Last parts of the paths of POST requests that do not write to the database. Leases are renewed in files; a run whose
lease is not renewed in time ends.
"""


def application() -> Application:
    """Return the application that the environment names, wrapped by `wrap_with_retries`.

    If it accepts middleware, it is wrapped inside, because Prefect's automations call the application in its own
    process.
    """
    module, _, function = os.environ[FACTORY].partition(":")
    inner: Any = getattr(import_module(module), function)()
    if not hasattr(inner, "add_middleware"):
        return wrap_with_retries(inner)
    inner.add_middleware(wrap_with_retries)
    server: Application = inner
    return server


def wrap_with_retries(inner: Application, delays: Sequence[float] = DELAYS) -> Application:
    """Return the application wrapped so that it repeats a request after each delay (seconds) while the answer is 503.

    The body of a request is read first, so that it can be sent again. Requests that write are answered one after
    another, in the order in which they came.
    """
    lock = asyncio.Lock()

    async def outer(scope: dict[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await inner(scope, receive, send)
            return
        request = await _read(receive)
        if not _writes(scope):
            await answer(scope, request, receive, send)
            return
        answered = list[Message]()

        async def keep(message: Message) -> None:
            answered.append(message)

        try:
            async with lock:
                if not await _has_left(receive):  # else it waited for a minute, and sends the request again
                    await answer(scope, request, receive, keep)
        finally:
            for message in answered:  # without the lock, because the client may read slowly
                await send(message)

    async def answer(scope: dict[str, Any], request: Sequence[Message], receive: Receive, send: Send) -> None:
        for delay in delays:
            attempt = _Answer(send)
            try:
                await inner(dict(scope), _replayed(request, receive), attempt)
            except Exception:
                if not attempt.unavailable:  # Starlette answers, and then raises the exception that it answered for
                    raise
            if not attempt.unavailable:
                return
            await asyncio.sleep(delay)
        await inner(dict(scope), _replayed(request, receive), send)

    return outer


def _writes(scope: Message) -> bool:
    if scope["method"] == "POST":
        return scope["path"].rpartition("/")[2] not in NO_WRITES and "/count-by/" not in scope["path"]
    return scope["method"] not in ("GET", "HEAD", "OPTIONS")


async def _has_left(receive: Receive) -> bool:
    """Return whether the client closed the connection after it had sent its request."""
    next_message = asyncio.ensure_future(receive())
    await asyncio.wait([next_message], timeout=0)
    if not next_message.done():
        next_message.cancel()
        return False
    return bool(next_message.result()["type"] == "http.disconnect")


class _Answer:
    """Passes an answer on to the client, except for a 503, which it drops."""

    def __init__(self, send: Send) -> None:
        self.unavailable, self._send = False, send

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.unavailable = message["status"] == 503
        if not self.unavailable:
            await self._send(message)


async def _read(receive: Receive) -> tuple[Message, ...]:
    messages = [await receive()]
    while messages[-1]["type"] == "http.request" and messages[-1].get("more_body"):
        messages.append(await receive())
    return tuple(messages)


def _replayed(request: Sequence[Message], receive: Receive) -> Receive:
    left = list(request)

    async def next_message() -> Message:
        return left.pop(0) if left else await receive()

    return next_message
