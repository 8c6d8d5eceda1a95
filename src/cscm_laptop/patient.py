"""An ASGI application that is asked again, for a moment, where its answer is 503.

Prefect answers so where SQLite refused a transaction that met another's: it was undone, and the same request
is taken a moment later. Prefect's client would wait for two seconds and more, several times in one chain.
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
"""The variable that names the application, as `module:function`."""
DELAYS = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32)
"""Seconds before each further attempt; the last answer is the client's, whatever it is."""


def application() -> Application:
    """The application that the environment names, made patient.

    One that takes middleware is so from inside, too: Prefect's automations ask it in its own process.
    """
    module, _, function = os.environ[FACTORY].partition(":")
    inner: Any = getattr(import_module(module), function)()
    if not hasattr(inner, "add_middleware"):
        return patient(inner)
    inner.add_middleware(patient)
    made: Application = inner
    return made


def patient(inner: Application, delays: Sequence[float] = DELAYS) -> Application:
    """The same application; a request's body is read before it is asked, so that it can be asked again."""

    async def outer(scope: dict[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await inner(scope, receive, send)
            return
        request = await _read(receive)
        for delay in delays:
            answer = _Answer(send)
            try:
                await inner(dict(scope), _replayed(request, receive), answer)
            except Exception:
                if not answer.unavailable:  # Starlette answers, and then raises what it answered for
                    raise
            if not answer.unavailable:
                return
            await asyncio.sleep(delay)
        await inner(dict(scope), _replayed(request, receive), send)

    return outer


class _Answer:
    """Passes an answer on, unless it is 503: of that one nothing."""

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
