"""The registry in front of ministack's: it authorises callers, stores blobs in files and lists referrers.

Tags and manifests stay in ministack, so that its ECR operations and the registry agree. Archived images cannot be
pulled.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from typing import Any

from cscm_laptop.emulator import upstream
from cscm_laptop.emulator.asgi import (
    App,
    Disconnected,
    Message,
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
from cscm_laptop.emulator.authorise import Gate, oci_error
from cscm_laptop.emulator.blobs import DIGEST, Blobs
from cscm_laptop.emulator.catalogue import Catalogue, records
from cscm_laptop.emulator.durable import Part, holding, settle_all
from cscm_laptop.emulator.images import ACTIVE, Record, Unfound, available, status
from cscm_laptop.emulator.manifests import LIMIT, ManifestRefused, checked
from cscm_laptop.emulator.mutability import is_taken
from cscm_laptop.emulator.referrers import referrers, subject_of
from cscm_laptop.emulator.routes import ACTIONS, ANY_REPOSITORY, IN_ONE_REQUEST, Route, parse
from cscm_laptop.emulator.uploads import JSON, BlobEndpoints


class Registry:
    """All endpoints below `/v2/` of the OCI distribution specification."""

    def __init__(self, behind: App, blobs: Blobs, gate: Gate, part: Part, catalogue: Catalogue) -> None:
        self._behind, self._blobs, self._gate, self._part = behind, blobs, gate, part
        self._catalogue = catalogue
        self._endpoints = BlobEndpoints(blobs, part)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        headers, method = headers_of(scope), scope["method"]
        caller = self._gate.caller(headers.get("authorization", ""))
        route = parse(scope["path"])
        if caller is None:
            challenge = f'Basic realm="http://{headers.get("host", "")}/",service="ecr.amazonaws.com"'
            body = oci_error("UNAUTHORIZED", "A valid token from GetAuthorizationToken is needed.")
            await answer(send, 401, {**JSON, "WWW-Authenticate": challenge}, body)
        elif route is None:
            await answer(send, 404, JSON, oci_error("NAME_INVALID", f"{scope['path']} is not a registry's path"))
        elif route.kind == "ping" and method in ("GET", "HEAD"):
            await answer(send, 200, {**JSON, "Docker-Distribution-API-Version": "registry/2.0"}, b"{}")
        elif (method, route.kind) not in ACTIONS:
            await answer(send, 405, JSON, oci_error("UNSUPPORTED", f"{method} is not offered here"))
        elif await self._may_enter(scope, caller, route, send):
            await self._serve(scope, caller, route, receive, send)

    async def _may_enter(self, scope: Scope, caller: dict[str, Any], route: Route, send: Send) -> bool:
        """Return whether the request is allowed and its repository exists; if not, answer it."""
        name = "" if route.name == ANY_REPOSITORY else route.name
        upstream.select_registry_scope(name, headers_of(scope), query_of(scope))
        refusal = self._gate.refusal(caller, ACTIONS[scope["method"], route.kind], route.name)
        if refusal:
            await answer(send, 403, JSON, oci_error("DENIED", refusal))
            return False
        if route.kind != "catalog" and route.name not in upstream.repositories:
            message = f"The repository with name '{route.name}' does not exist in the registry"
            await answer(send, 404, JSON, oci_error("NAME_UNKNOWN", message))
            return False
        return True

    async def _serve(self, scope: Scope, caller: dict[str, Any], route: Route, receive: Receive, send: Send) -> None:
        method = scope["method"]
        try:
            match route.kind:
                case "blob":
                    await self._endpoints.read(method, route.name, route.reference, send)
                case "uploads":
                    await self._start(scope, caller, route.name, receive, send)
                case "upload":
                    await self._upload(scope, route, receive, send)
                case "referrers":
                    await self._referrers(scope, route, send)
                case "manifest" if method == "PUT":
                    await self._put_manifest(scope, route, receive, send)
                case "manifest" if method == "DELETE":
                    await self._delete_manifest(route, send)
                case "manifest":
                    await self._pull(scope, caller, route, receive, send)
                case _:
                    await self._behind(scope, receive, self._send_settled(send, changed=False))
        except Disconnected:
            return

    async def _start(self, scope: Scope, caller: dict[str, Any], name: str, receive: Receive, send: Send) -> None:
        """Begin an upload, or create the blob at once: by mounting it, or from the request's body."""
        query, headers = query_of(scope), headers_of(scope)
        mount, source = query.get("mount", [""])[0], query.get("from", [""])[0]
        digest = query.get("digest", [""])[0]
        if mount and source and self._may_mount(caller, name, source):
            if not await self._endpoints.mount(name, source, mount, send):
                await self._endpoints.start(name, send)
        elif digest and not mount and headers.get("content-length") != "0":
            refusal = self._gate.refusal(caller, IN_ONE_REQUEST, name)
            if refusal:
                await answer(send, 403, JSON, oci_error("DENIED", refusal))
            else:
                await self._endpoints.take_whole(name, digest, receive, send)
        else:
            await self._endpoints.start(name, send)

    def _may_mount(self, caller: dict[str, Any], name: str, source: str) -> bool:
        """Return whether the caller may read from the source and write here; if not, the client has to upload."""
        return not (
            self._gate.refusal(caller, (("ecr:GetDownloadUrlForLayer",),), source)
            or self._gate.refusal(caller, IN_ONE_REQUEST, name)
        )

    async def _upload(self, scope: Scope, route: Route, receive: Receive, send: Send) -> None:
        name, identity = route.name, route.reference
        match scope["method"]:
            case "PATCH":
                content_range = headers_of(scope).get("content-range", "")
                await self._endpoints.append(name, identity, content_range, receive, send)
            case "PUT":
                digest = query_of(scope).get("digest", [""])[0]
                await self._endpoints.complete(name, identity, digest, receive, send)
            case "GET":
                await self._endpoints.status(name, identity, send)
            case _:
                await self._endpoints.cancel(name, identity, send)

    async def _referrers(self, scope: Scope, route: Route, send: Send) -> None:
        if not DIGEST.fullmatch(route.reference):
            await answer(send, 400, JSON, oci_error("DIGEST_INVALID", f"{route.reference!r} is not a sha256 digest"))
            return
        types = query_of(scope).get("artifactType", [])
        active = [each for each in records(route.name) if status(each) == ACTIVE]
        body, headers = referrers(_manifests(active), route.reference, types)
        await self._part.settle()
        await answer(send, 200, headers, body)

    async def _pull(self, scope: Scope, caller: dict[str, Any], route: Route, receive: Receive, send: Send) -> None:
        """Answer HEAD or GET of a manifest; an archived image is not found."""
        kind = "imageDigest" if ":" in route.reference else "imageTag"
        try:
            record = available(records(route.name), {kind: route.reference})
        except Unfound:
            await self._part.settle()
            message = f"{route.name} has no manifest {route.reference}"
            await answer(send, 404, JSON, oci_error("MANIFEST_UNKNOWN", message))
            return
        if scope["method"] == "GET":
            self._catalogue.pulled(record, str(caller["Arn"]))
        await self._behind(scope, receive, self._send_settled(send, changed=False))

    async def _delete_manifest(self, route: Route, send: Send) -> None:
        if not DIGEST.fullmatch(route.reference):
            await answer(send, 400, JSON, oci_error("UNSUPPORTED", "A manifest is deleted by its digest."))
            return
        _, failed = self._catalogue.delete(route.name, [{"imageDigest": route.reference}])
        await settle_all(self._catalogue.parts, changed=True)
        for _, why in failed:
            status_code, code = (404, "MANIFEST_UNKNOWN") if why.code == "ImageNotFound" else (400, "UNSUPPORTED")
            await answer(send, status_code, JSON, oci_error(code, str(why)))
            return
        await answer(send, 202, {})

    async def _put_manifest(self, scope: Scope, route: Route, receive: Receive, send: Send) -> None:
        try:
            body = await read_body(receive, LIMIT)
            manifest = checked(
                body,
                route.reference,
                lambda digest: self._endpoints.size(route.name, digest) is not None,
                lambda digest: any(digest == each["imageDigest"] for each in records(route.name)),
            )
        except TooLarge:
            await answer(send, 413, JSON, oci_error("SIZE_INVALID", f"a manifest has at most {LIMIT} bytes"))
            return
        except ManifestRefused as refused:
            await answer(send, 400, JSON, oci_error(refused.code, str(refused)))
            return
        digest = await asyncio.to_thread(self._blobs.add, body)
        tag = None if DIGEST.fullmatch(route.reference) else route.reference
        if tag and is_taken(upstream.repositories.get(route.name, {}), records(route.name), tag, digest):
            message = f"The image tag '{tag}' already exists and cannot be overwritten because it is immutable."
            await answer(send, 400, JSON, oci_error("TAG_INVALID", message))
            return
        new = all(each["imageDigest"] != digest for each in records(route.name))
        sender = self._send_settled(_naming_subject(send, subject_of(manifest)), changed=True)

        async def telling(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] == 201:
                self._catalogue.pushed(route.name, digest, tag, new=new)
            await sender(message)

        await self._behind(scope, replaying(body, receive), telling)

    def _send_settled(self, send: Send, *, changed: bool) -> Send:
        parts = self._catalogue.parts if changed else [self._part]
        return holding(send, lambda: settle_all(parts, changed=changed))


def _manifests(images: Iterable[Record]) -> Iterator[tuple[str, str, str]]:
    """Yield digest, media type and text of each manifest."""
    for record in images:
        yield record["imageDigest"], record["imageManifestMediaType"], record["imageManifest"]


def _naming_subject(send: Send, subject: str | None) -> Send:
    """Return a `send` that names the subject, as OCI's "Pushing Manifests with Subject" asks of referrers APIs."""

    async def naming(message: Message) -> None:
        if subject and message["type"] == "http.response.start" and message["status"] == 201:
            message = {**message, "headers": [*message["headers"], (b"oci-subject", subject.encode())]}
        await send(message)

    return naming
