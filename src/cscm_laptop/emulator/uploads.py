"""The registry's blob endpoints, served from files (OCI distribution specification, "Pushing Blobs", "Pulling")."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from cscm_laptop.emulator import upstream
from cscm_laptop.emulator.asgi import Disconnected, Receive, Send, answer, chunks
from cscm_laptop.emulator.authorise import oci_error
from cscm_laptop.emulator.blobs import BLOCK, DIGEST, Blobs, DigestMismatch, Upload, give_up
from cscm_laptop.emulator.durable import Part, settle_all

JSON = {"Content-Type": "application/json"}


@dataclass(frozen=True)
class BlobEndpoints:
    """Answers requests that were authorised before, for repositories that exist."""

    blobs: Blobs
    part: Part
    uploads: dict[tuple[str, str, str, str], Upload] = field(default_factory=dict)

    def size(self, name: str, digest: str) -> int | None:
        """Return a blob's size in bytes, or None if the repository does not have it completely."""
        size: int | None = upstream.layers.get(name, {}).get(digest)
        return size if size is not None and self.blobs.has(digest, size) else None

    async def read(self, method: str, name: str, digest: str, send: Send) -> None:
        """Answer HEAD or GET of a blob."""
        await self.part.settle()
        size = self.size(name, digest)
        if size is None:
            await answer(send, 404, JSON, oci_error("BLOB_UNKNOWN", f"{name} has no blob {digest}"))
            return
        headers = {
            "Content-Length": str(size),
            "Content-Type": "application/octet-stream",
            "Docker-Content-Digest": digest,
        }
        if method == "HEAD":
            await answer(send, 200, headers)
            return
        raw = [(key.lower().encode(), value.encode()) for key, value in headers.items()]
        await send({"type": "http.response.start", "status": 200, "headers": raw})
        with self.blobs.path(digest).open("rb") as file:
            while block := await asyncio.to_thread(file.read, BLOCK):
                await send({"type": "http.response.body", "body": block, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def mount(self, name: str, source: str, digest: str, send: Send) -> bool:
        """Link a blob of another repository; return False if that repository does not have it."""
        size = self.size(source, digest)
        if size is None:
            return False
        await self._link(name, digest, size, send)
        return True

    async def start(self, name: str, send: Send) -> None:
        """Begin an upload."""
        give_up(self.uploads)
        upload = self.blobs.begin()
        self.uploads[self._key(name, upload.identity)] = upload
        await answer(send, 202, self._progress(name, upload))

    async def take_whole(self, name: str, digest: str, receive: Receive, send: Send) -> None:
        """Store a blob from the request that starts its upload."""
        upload = self.blobs.begin()
        self.uploads[self._key(name, upload.identity)] = upload
        await self.complete(name, upload.identity, digest, receive, send)

    async def status(self, name: str, identity: str, send: Send) -> None:
        """Answer how much of an upload has arrived."""
        upload = self.uploads.get(self._key(name, identity))
        if upload is None:
            await self._unknown(name, identity, send)
        else:
            await answer(send, 204, self._progress(name, upload))

    async def append(self, name: str, identity: str, content_range: str, receive: Receive, send: Send) -> None:
        """Append the next data of an upload; discard the upload if the client disconnects."""
        upload = self.uploads.get(self._key(name, identity))
        if upload is None:
            await self._unknown(name, identity, send)
            return
        async with upload.lock:
            if content_range and content_range.partition("-")[0].strip() != str(upload.size):
                await answer(send, 416, self._progress(name, upload))
                return
            await self._take(name, upload, receive)
        await answer(send, 202, self._progress(name, upload))

    async def complete(self, name: str, identity: str, digest: str, receive: Receive, send: Send) -> None:
        """Append the last data of an upload; answer when the blob and its entry are on disk."""
        upload = self.uploads.get(self._key(name, identity))
        if upload is None:
            await self._unknown(name, identity, send)
            return
        if not DIGEST.fullmatch(digest):
            await answer(send, 400, JSON, oci_error("DIGEST_INVALID", f"{digest!r} is not a sha256 digest"))
            return
        async with upload.lock:
            await self._take(name, upload, receive)
            self.uploads.pop(self._key(name, identity), None)
            try:
                await asyncio.to_thread(upload.finish, digest)
            except DigestMismatch as mismatch:
                await answer(send, 400, JSON, oci_error("DIGEST_INVALID", f"what arrived is {mismatch}, not {digest}"))
                return
        await self._link(name, digest, upload.size, send)

    async def cancel(self, name: str, identity: str, send: Send) -> None:
        """Discard an upload."""
        upload = self.uploads.pop(self._key(name, identity), None)
        if upload is None:
            await self._unknown(name, identity, send)
            return
        async with upload.lock:
            upload.discard()
        await answer(send, 204, {})

    async def _take(self, name: str, upload: Upload, receive: Receive) -> None:
        try:
            async for chunk in chunks(receive):
                upload.append(chunk)
        except Disconnected:
            self.uploads.pop(self._key(name, upload.identity), None)
            upload.discard()
            raise

    async def _link(self, name: str, digest: str, size: int, send: Send) -> None:
        if name not in upstream.repositories:  # the repository was deleted during the upload
            await answer(send, 404, JSON, oci_error("NAME_UNKNOWN", f"there is no repository {name}"))
            return
        upstream.layers.setdefault(name, {})[digest] = size
        await settle_all([self.part], changed=True)
        await answer(send, 201, {"Location": f"/v2/{name}/blobs/{digest}", "Docker-Content-Digest": digest})

    def _progress(self, name: str, upload: Upload) -> dict[str, str]:
        return {
            "Location": f"/v2/{name}/blobs/uploads/{upload.identity}",
            "Range": f"0-{max(0, upload.size - 1)}",
            "Docker-Upload-UUID": upload.identity,
        }

    def _key(self, name: str, identity: str) -> tuple[str, str, str, str]:
        return upstream.get_account_id(), upstream.get_region(), name, identity

    async def _unknown(self, name: str, identity: str, send: Send) -> None:
        await answer(send, 404, JSON, oci_error("BLOB_UPLOAD_UNKNOWN", f"{name} has no upload {identity}"))
