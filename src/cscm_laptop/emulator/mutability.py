"""Tag immutability of a repository (Amazon ECR User Guide, "Preventing image tags from being overwritten")."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from cscm_laptop.emulator.api import INVALID, ApiError, within
from cscm_laptop.emulator.images import Record

SETTINGS = ("MUTABLE", "IMMUTABLE", "MUTABLE_WITH_EXCLUSION", "IMMUTABLE_WITH_EXCLUSION")
FILTERS = "imageTagMutabilityExclusionFilters"


def fixed(repository: Mapping[str, Any], tag: str) -> bool:
    """Return whether a tag is immutable."""
    setting = repository.get("imageTagMutability", "MUTABLE")
    excluded = setting.endswith("_WITH_EXCLUSION") and any(
        re.fullmatch(re.escape(each["filter"]).replace(r"\*", ".*"), tag) for each in repository.get(FILTERS, ())
    )
    return bool(setting.startswith("IMMUTABLE") is not excluded)


def is_taken(repository: Mapping[str, Any], records: Sequence[Record], tag: str, digest: str) -> bool:
    """Return whether the tag is immutable and belongs to another image."""
    is_used = any(tag in each["imageTags"] and each["imageDigest"] != digest for each in records)
    return is_used and fixed(repository, tag)


def setting(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return a request's tag mutability and exclusion filters; raise `ApiError` if they are not valid."""
    chosen, filters = data.get("imageTagMutability", "MUTABLE"), data.get(FILTERS)
    if chosen not in SETTINGS:
        raise ApiError(INVALID, f"Invalid parameter at 'imageTagMutability': {chosen}")
    if chosen.endswith("_WITH_EXCLUSION"):
        return {"imageTagMutability": chosen, FILTERS: within(filters, FILTERS, 5)}
    if filters:
        raise ApiError(INVALID, f"Invalid parameter at '{FILTERS}': {chosen} has no exclusions")
    return {"imageTagMutability": chosen}
