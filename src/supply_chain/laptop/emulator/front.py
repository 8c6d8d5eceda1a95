"""The layer before ministack: health, the registry, and answers that wait for the disk."""

from __future__ import annotations

from collections.abc import Mapping

from ministack.app import app as ministack
from ministack.core.router import detect_service, extract_access_key_id

from supply_chain.laptop.emulator.asgi import App, Receive, Scope, Send, answer, headers_of, query_of
from supply_chain.laptop.emulator.authorise import calling
from supply_chain.laptop.emulator.durable import Part, holding, settle_all
from supply_chain.laptop.emulator.routes import is_registry

HEALTH = "/_cscm/health"

EFFECTS = {
    "ecr": ("ecr",),
    "events": ("eventbridge", "sqs"),  # events are delivered to queues
    "iam": ("iam",),
    "kms": ("kms",),
    "sqs": ("sqs",),
    "sts": ("sts", "iam"),
}
"""Which services' state a request to a service can change; a request to any other, all of them."""

READING = ("Describe", "List", "Get", "BatchGet", "BatchCheck")
"""How the operations begin that change nothing, of the services that name them in a header."""


class Front:
    """The emulator as it is served."""

    def __init__(self, parts: Mapping[str, Part], registry: App) -> None:
        self._parts, self._registry = parts, registry

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await ministack(scope, receive, send)
        elif scope["path"] == HEALTH:
            await answer(send, 200, {"Content-Type": "application/json"}, b'{"status": "ready"}')
        elif scope["path"].startswith("/_") and scope["method"] not in ("GET", "HEAD"):
            # ministack's own administration needs no credentials and could empty everything.
            await answer(send, 403, {"Content-Type": "text/plain"}, b"not offered here\n")
        elif is_registry(scope["path"]):
            await self._registry(scope, receive, send)
        else:
            await self._aws(scope, receive, send)

    async def _aws(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers, query = headers_of(scope), query_of(scope)
        calling.set((extract_access_key_id(headers, query), headers.get("host", "")))
        service = detect_service(scope["method"], scope["path"], headers, query)
        parts = [self._parts[name] for name in EFFECTS.get(service, tuple(self._parts))]
        changed = not _reads(service, headers.get("x-amz-target", ""))
        await ministack(scope, receive, holding(send, lambda: settle_all(parts, changed=changed)))


def _reads(service: str, target: str) -> bool:
    return service in ("ecr", "kms", "events") and target.rpartition(".")[2].startswith(READING)
