"""Make an image of one program, without an engine: an OCI image layout in a tar archive."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from typing import Any

from supply_chain.adapters.registry.client import INDEX, MANIFEST

CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
NOBODY = "65534:65534"


def make_image(name: str, program: str, content: bytes, architecture: str) -> bytes:
    """Return an archive with an image that contains a static program at `/program` and starts it.

    The same content gives the same image. `name` is a repository with a tag.
    """
    layer = _tar({program: content}, mode=0o755)
    blobs: dict[str, bytes] = {}
    platform = {"architecture": architecture, "os": "linux"}
    config = {
        **platform,
        "config": {"Entrypoint": [f"/{program}"], "User": NOBODY},
        "rootfs": {"type": "layers", "diff_ids": [_digest(layer)]},
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": _add(blobs, CONFIG, _json(config)),
        "layers": [_add(blobs, LAYER, gzip.compress(layer, mtime=0))],
    }
    entry = _add(blobs, MANIFEST, _json(manifest))
    entry |= {"platform": platform, "annotations": {"io.containerd.image.name": name}}
    index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry]}
    files = {f"blobs/sha256/{digest.removeprefix('sha256:')}": blob for digest, blob in blobs.items()}
    return _tar({"oci-layout": _json({"imageLayoutVersion": "1.0.0"}), "index.json": _json(index), **files}, mode=0o644)


def _add(blobs: dict[str, bytes], media_type: str, content: bytes) -> dict[str, Any]:
    digest = _digest(content)
    blobs[digest] = content
    return {"mediaType": media_type, "digest": digest, "size": len(content)}


def _digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def _json(document: Any) -> bytes:
    return json.dumps(document, sort_keys=True).encode()


def _tar(files: dict[str, bytes], mode: int) -> bytes:
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), mode
            tar.addfile(entry, io.BytesIO(content))
    return archive.getvalue()
