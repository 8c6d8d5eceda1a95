"""Validate a pushed manifest before it is accepted: everything that it names must exist in the repository."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from typing import Any

from cscm_laptop.emulator.blobs import DIGEST

LIMIT = 4 * 1024 * 1024
"""Maximum size in bytes (OCI distribution specification, "Pushing Manifests")."""

TAG = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}")


class ManifestRefused(Exception):
    """A manifest that is refused, with the specification's error code."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


def checked(
    body: bytes, reference: str, has_blob: Callable[[str], bool], has_manifest: Callable[[str], bool]
) -> dict[str, Any]:
    """Return the manifest; raise `ManifestRefused` unless it is valid and the repository has everything that it names.

    Its subject may be missing, because it may be pushed later.
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
    """Return the descriptors under a key; raise `ManifestRefused` if its value is not a list."""
    value = manifest.get(key) or []
    if not isinstance(value, list):
        raise ManifestRefused("MANIFEST_INVALID", f"{key} is not a list")
    return value


def missing(descriptors: list[Any], has: Callable[[str], bool]) -> list[str]:
    """Return the digests that are named and do not exist; skip layers that are stored elsewhere, at their URLs."""
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
