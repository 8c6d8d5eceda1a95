"""What a pushed manifest has to be before it is taken: nothing is admitted half-pushed."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from typing import Any

from cscm_laptop.emulator.blobs import DIGEST

LIMIT = 4 * 1024 * 1024
"""Bytes (OCI distribution specification, "Pushing Manifests")."""

TAG = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}")


class ManifestRefused(Exception):
    """A manifest that cannot be taken, with the specification's error code."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


def checked(
    body: bytes, reference: str, has_blob: Callable[[str], bool], has_manifest: Callable[[str], bool]
) -> dict[str, Any]:
    """The manifest, which names only what the repository has; raises `ManifestRefused`.

    A subject may be missing: it may be pushed later.
    """
    actual = "sha256:" + hashlib.sha256(body).hexdigest()
    if ":" in reference and reference != actual:
        raise ManifestRefused("DIGEST_INVALID", f"the manifest is {actual}, not {reference}")
    if ":" not in reference and not TAG.fullmatch(reference):
        raise ManifestRefused("TAG_INVALID", f"{reference!r} is not a tag")
    try:
        manifest = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise ManifestRefused("MANIFEST_INVALID", f"the manifest is not JSON: {error}") from error
    if not isinstance(manifest, dict):
        raise ManifestRefused("MANIFEST_INVALID", "the manifest is not a JSON object")
    blobs = [manifest.get("config"), *listed(manifest, "layers")]
    lacking = [*missing(blobs, has_blob), *missing(listed(manifest, "manifests"), has_manifest)]
    if lacking:
        raise ManifestRefused("MANIFEST_BLOB_UNKNOWN", f"the repository lacks {', '.join(lacking)}")
    return manifest


def listed(manifest: dict[str, Any], key: str) -> list[Any]:
    """The descriptors below a key; raises `ManifestRefused` when it holds something else."""
    value = manifest.get(key) or []
    if not isinstance(value, list):
        raise ManifestRefused("MANIFEST_INVALID", f"{key} is not a list")
    return value


def missing(descriptors: list[Any], has: Callable[[str], bool]) -> list[str]:
    """The digests that are named and not there; layers that lie elsewhere by their URLs are not asked for."""
    digests = []
    for descriptor in descriptors:
        if descriptor is None:
            continue
        digest = descriptor.get("digest") if isinstance(descriptor, dict) else None
        if not isinstance(digest, str) or not DIGEST.fullmatch(digest):
            raise ManifestRefused("MANIFEST_INVALID", f"{digest!r} is not a sha256 digest")
        if not descriptor.get("urls") and not has(digest):
            digests.append(digest)
    return digests
