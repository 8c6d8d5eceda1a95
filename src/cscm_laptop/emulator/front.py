"""The ASGI application in front of ministack: health, registry, authentication, and answers that wait for the disk."""

from __future__ import annotations

from collections.abc import Mapping
from uuid import uuid4

from cscm_laptop.emulator import upstream
from cscm_laptop.emulator.asgi import (
    App,
    Disconnected,
    Receive,
    Scope,
    Send,
    TooLarge,
    answer,
    headers_of,
    query_of,
    read_body,
    replaying,
)
from cscm_laptop.emulator.authorise import calling
from cscm_laptop.emulator.callers import signer
from cscm_laptop.emulator.catalogue import TOUCHED
from cscm_laptop.emulator.durable import Part, holding, settle_all
from cscm_laptop.emulator.routes import is_registry

HEALTH = "/_cscm/health"
LIMIT = 64 * 1024 * 1024
"""Maximum size in bytes of a request to AWS's API; it does not apply to the registry."""

EFFECTS = {
    "ecr": TOUCHED,
    "events": ("eventbridge", "sqs"),  # events are delivered to queues
    "iam": ("iam",),
    "kms": ("kms",),
    "sqs": ("sqs",),
    "sts": ("sts", "iam"),
}
"""The services whose state a request to a service can change; a request to any other can change all of them."""

READING = ("Describe", "List", "Get", "BatchGet", "BatchCheck")
"""Prefixes of operations that change nothing, for the services that name the operation in a header."""


class Front:
    """The emulator's application."""

    def __init__(self, parts: Mapping[str, Part], registry: App) -> None:
        self._parts, self._registry = parts, registry

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "lifespan":
            await upstream.app(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close"})
        elif scope["path"] == HEALTH:
            await answer(send, 200, {"Content-Type": "application/json"}, b'{"status": "ready"}')
        elif scope["path"].startswith("/_"):
            # ministack's own pages and administration need no credentials, and can show and delete everything.
            await answer(send, 403, {"Content-Type": "text/plain"}, b"not offered here\n")
        elif is_registry(scope["path"]):
            await self._registry(scope, receive, send)
        else:
            await self._aws(scope, receive, send)

    async def _aws(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = headers_of(scope)
        service = upstream.detect_service(scope["method"], scope["path"], headers, query_of(scope))
        try:
            body = await read_body(receive, LIMIT)
        except Disconnected:
            return
        except TooLarge:
            await answer(send, 413, {"Content-Type": "text/plain"}, b"too large\n")
            return
        caller = signer(scope, body)
        if isinstance(caller, upstream.AuthError):
            await answer(send, *upstream.refuse_credential(service, str(uuid4()), caller, headers))
            return
        calling.set((caller.access_key_id, headers.get("host", "")))
        parts = [self._parts[name] for name in EFFECTS.get(service, tuple(self._parts))]
        changed = not _reads(service, headers.get("x-amz-target", ""))
        await upstream.app(scope, replaying(body, receive), holding(send, lambda: settle_all(parts, changed=changed)))


def _reads(service: str, target: str) -> bool:
    return service in ("ecr", "kms", "events") and target.rpartition(".")[2].startswith(READING)
