"""Read the registry's record of an image: identities, size, types and status; nothing here changes a record.

A record is ministack's dictionary for one digest, with additional keys: `imageStatus`, `lastArchivedAt`,
`lastActivatedAt`, `activeFrom` and `lastRecordedPullTime` (times in seconds since the epoch).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from cscm_laptop.emulator.referrers import subject_of

Record = dict[str, Any]
Identity = dict[str, str]

ACTIVE, ARCHIVED, ACTIVATING, ANY = "ACTIVE", "ARCHIVED", "ACTIVATING", "ANY"
DIGEST = re.compile(r"[a-zA-Z0-9-_+.]+:[a-fA-F0-9]+")
TIMES = ("lastRecordedPullTime", "lastArchivedAt", "lastActivatedAt")


class Unfound(Exception):
    """An identity that matches no image of the repository, with a code of the API's `ImageFailureCode`."""

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(reason)
        self.code = code


@lru_cache(maxsize=100_000)
def parsed(text: str) -> Mapping[str, Any]:
    """Return a manifest's content; an empty mapping if the text is not a JSON object."""
    try:
        manifest = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return manifest if isinstance(manifest, dict) else {}


def manifest_of(record: Record) -> Mapping[str, Any]:
    """Return the record's manifest."""
    return parsed(record.get("imageManifest", ""))


def status(record: Record) -> str:
    """Return ACTIVE, ARCHIVED or ACTIVATING."""
    return str(record.get("imageStatus", ACTIVE))


def subject(record: Record) -> str | None:
    """Return the digest of the image's subject, or None."""
    return subject_of(manifest_of(record))


def artifact_type(record: Record) -> str | None:
    """Return the artifact type, else the configuration's media type; None for an index without an artifact type."""
    manifest = manifest_of(record)
    config = manifest.get("config")
    media_type = manifest.get("artifactType") or (config.get("mediaType") if isinstance(config, dict) else None)
    return str(media_type) if media_type else None


def children(record: Record) -> frozenset[str]:
    """Return the digests that an index lists."""
    return frozenset(str(each["digest"]) for each in _descriptors(manifest_of(record), "manifests"))


def holders(records: Sequence[Record], digest: str) -> list[str]:
    """Return the digests of the indexes that list this digest."""
    return [each["imageDigest"] for each in records if digest in children(each)]


def size(record: Record, records: Sequence[Record]) -> int:
    """Return the compressed size in bytes: configuration and layers, or the largest image that an index lists.

    See API reference, `ImageDetail.imageSizeInBytes`.
    """
    listed = children(record)
    if listed:
        return max((size(each, records) for each in records if each["imageDigest"] in listed), default=0)
    manifest = manifest_of(record)
    parts = [manifest.get("config"), *_descriptors(manifest, "layers")]
    sizes = [part.get("size") for part in parts if isinstance(part, dict)]
    return sum(each for each in sizes if isinstance(each, int) and each > 0)


def identities(record: Record) -> list[Identity]:
    """Return one identity for each tag, or the digest alone if there are no tags."""
    digest = record["imageDigest"]
    return [{"imageDigest": digest, "imageTag": tag} for tag in sorted(record["imageTags"])] or [
        {"imageDigest": digest}
    ]


def named(records: Sequence[Record], identity: Identity) -> Record:
    """Return the image that a digest, a tag or both identify; raise `Unfound`."""
    digest, tag = identity.get("imageDigest"), identity.get("imageTag")
    if not digest and not tag:
        raise Unfound("MissingDigestAndTag", "Invalid request parameters: both tag and digest cannot be null")
    if digest and not DIGEST.fullmatch(digest):
        rule = "image digest should satisfy the regex '[a-zA-Z0-9-_+.]+:[a-fA-F0-9]+'"
        raise Unfound("InvalidImageDigest", f"Invalid request parameters: {rule}")
    if not tag:
        record = next((each for each in records if each["imageDigest"] == digest), None)
    else:
        record = next((each for each in records if tag in each["imageTags"]), None)
        if record and digest and record["imageDigest"] != digest:
            raise Unfound(
                "ImageTagDoesNotMatchDigest",
                "Invalid request parameters: given tag does not map to the given digest",
            )
    if record is None:
        raise Unfound("ImageNotFound", "Requested image not found")
    return record


def available(records: Sequence[Record], identity: Identity) -> Record:
    """Return the image that can be pulled by this identity; raise `Unfound`, also if it is archived."""
    record = named(records, identity)
    if status(record) != ACTIVE:
        raise Unfound("ImageNotFound", "Requested image not found")
    return record


def detail(record: Record, records: Sequence[Record]) -> dict[str, Any]:
    """Return the record as DescribeImages does (API reference, `ImageDetail`), without fields that have no value."""
    fields = {
        "registryId": record["registryId"],
        "repositoryName": record["repositoryName"],
        "imageDigest": record["imageDigest"],
        "imageTags": sorted(record["imageTags"]) or None,
        "imageSizeInBytes": size(record, records),
        "imagePushedAt": record["imagePushedAt"],
        "imageManifestMediaType": record["imageManifestMediaType"],
        "artifactMediaType": artifact_type(record),
        "subjectManifestDigest": subject(record),
        "imageStatus": status(record),
        **{name: record.get(name) for name in TIMES},
    }
    return {name: value for name, value in fields.items() if value is not None}


def chosen(record: Record, filters: Mapping[str, str], otherwise: str) -> bool:
    """Return whether the image passes the filters `tagStatus` and `imageStatus`; `otherwise` is the default status."""
    tags, image_status = filters.get("tagStatus", ANY), filters.get("imageStatus", otherwise)
    tagged = tags == ANY or (tags == "TAGGED") is bool(record["imageTags"])
    return tagged and image_status in (ANY, status(record))


def _descriptors(manifest: Mapping[str, Any], key: str) -> list[dict[str, Any]]:
    value = manifest.get(key)
    return [each for each in value if isinstance(each, dict) and "digest" in each] if isinstance(value, list) else []
