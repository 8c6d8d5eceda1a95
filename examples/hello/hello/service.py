"""What the service answers."""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route


def make_service(greeting: str) -> Starlette:
    """The service; `greeting` comes from the environment it runs in, never from the image."""

    async def greet(request: Request) -> Response:
        name = request.query_params.get("name", "world")
        return PlainTextResponse(f"{greeting}, {name}!\n")

    async def health(_: Request) -> Response:
        return JSONResponse({"status": "ok"})

    return Starlette(routes=[Route("/", greet), Route("/healthz", health)])
