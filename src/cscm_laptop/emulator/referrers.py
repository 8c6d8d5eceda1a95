"""Referrers of an image: the referrers API of the OCI distribution specification, section "Listing Referrers"."""

from __future__ import annotations

import json
from collections.abc import Iterable
from functools import lru_cache
from typing import Any

INDEX = "application/vnd.oci.image.index.v1+json"


def referrers(
    manifests: Iterable[tuple[str, str, str]], subject: str, artifact_types: list[str]
) -> tuple[bytes, dict[str, str]]:
    """Return the image index of the manifests with this subject, and its headers; the index may be empty.

    `manifests` are tuples of digest, media type and text. `artifact_types` filters them, unless it is empty.
    """
    descriptors = []
    for digest, media_type, text in manifests:
        about, descriptor = described(digest, media_type, text)
        if about == subject and (not artifact_types or descriptor.get("artifactType") in artifact_types):
            descriptors.append(descriptor)
    headers = {"Content-Type": INDEX}
    if artifact_types:
        headers["OCI-Filters-Applied"] = "artifactType"
    index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": descriptors}
    return json.dumps(index).encode(), headers


@lru_cache(maxsize=100_000)
def described(digest: str, media_type: str, text: str) -> tuple[str | None, dict[str, Any]]:
    """Return the digest of a manifest's subject, and the manifest's descriptor; without a subject, None and `{}`."""
    try:
        manifest = json.loads(text)
    except (ValueError, RecursionError):
        return None, {}
    subject = subject_of(manifest)
    if subject is None:
        return None, {}
    descriptor = {"mediaType": media_type, "digest": digest, "size": len(text.encode())}
    config = manifest.get("config")
    artifact_type = manifest.get("artifactType") or (config.get("mediaType") if isinstance(config, dict) else None)
    if artifact_type:
        descriptor["artifactType"] = artifact_type
    if manifest.get("annotations"):
        descriptor["annotations"] = manifest["annotations"]
    return subject, descriptor


def subject_of(manifest: Any) -> str | None:
    """Return the digest of the subject that a manifest names, or None."""
    subject = manifest.get("subject") if isinstance(manifest, dict) else None
    return str(subject["digest"]) if isinstance(subject, dict) and "digest" in subject else None
