"""Read the parameters of requests to ECR's API, and build its answers, from ministack's state."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from cscm_laptop.emulator import upstream
from cscm_laptop.emulator.api import INVALID, ApiError, one_of
from cscm_laptop.emulator.catalogue import records
from cscm_laptop.emulator.images import ACTIVATING, ACTIVE, ANY, ARCHIVED, Identity, Record, Unfound, named, status
from cscm_laptop.emulator.mutability import FILTERS
from cscm_laptop.emulator.referrers import described

Data = Mapping[str, Any]
Answer = tuple[int, dict[str, str], bytes]

STATUSES = (ACTIVE, ARCHIVED, ACTIVATING, ANY)


def repository_of(data: Data) -> str:
    """Return the name of a request's repository; raise `ApiError` if it does not exist."""
    if data.get("registryId", upstream.get_account_id()) != upstream.get_account_id():
        raise _unknown(data.get("repositoryName", ""))
    return existing(data.get("repositoryName", ""))


def existing(name: str) -> str:
    """Return the name; raise `ApiError` if there is no repository with that name."""
    if name not in upstream.repositories:
        raise _unknown(name)
    return name


def image_of(name: str, identity: Identity) -> Record:
    """Return the image that an identity names; raise `ApiError` if there is none."""
    try:
        return named(records(name), identity)
    except Unfound as unfound:
        if unfound.code != "ImageNotFound":
            raise ApiError(INVALID, str(unfound)) from unfound
        identifier = f"imageDigest:'{identity.get('imageDigest')}', imageTag:'{identity.get('imageTag')}'"
        raise ApiError(
            "ImageNotFoundException",
            f"The image with imageId {{{identifier}}} does not exist within the repository with name '{name}' "
            f"in the registry with id '{upstream.get_account_id()}'",
        ) from unfound


def image_filters(data: Data) -> dict[str, str]:
    """Return the filters for tags and status; raise `ApiError` if they are not valid."""
    filters: dict[str, str] = data.get("filter") or {}
    one_of(filters.get("tagStatus", ANY), "filter.tagStatus", ("TAGGED", "UNTAGGED", ANY))
    one_of(filters.get("imageStatus", ANY), "filter.imageStatus", STATUSES)
    return filters


def image(record: Record, identity: Identity) -> dict[str, Any]:
    """Return an image with its manifest (API reference, `Image`)."""
    return {
        **whose(record["repositoryName"]),
        "imageId": identity,
        "imageManifest": record["imageManifest"],
        "imageManifestMediaType": record["imageManifestMediaType"],
    }


def failure(identity: Identity, why: Unfound) -> dict[str, Any]:
    """Return a failure for one image (API reference, `ImageFailure`)."""
    return {"imageId": identity, "failureCode": why.code, "failureReason": str(why)}


def shape(repository: dict[str, Any]) -> dict[str, Any]:
    """Return a repository (API reference, `Repository`)."""
    excluded = {FILTERS: repository[FILTERS]} if FILTERS in repository else {}
    return {**upstream.repository_shape(repository), **excluded}


def whose(name: str) -> dict[str, str]:
    """Return the registry and the repository of an answer."""
    return {"registryId": upstream.get_account_id(), "repositoryName": name}


def content_of(answer: Answer) -> dict[str, Any]:
    """Return the content of ministack's answer; raise `ApiError` if it is an error."""
    content: dict[str, Any] = json.loads(answer[2])
    if answer[0] != 200:
        raise ApiError(content["__type"], content.get("message", ""))
    return content


def referrer(record: Record) -> dict[str, Any]:
    """Return a referrer (API reference, `ImageReferrer`)."""
    descriptor = described(record["imageDigest"], record["imageManifestMediaType"], record["imageManifest"])[1]
    return {**descriptor, "artifactStatus": status(record)}


def _unknown(name: str) -> ApiError:
    return ApiError(
        "RepositoryNotFoundException",
        f"The repository with name '{name}' does not exist in the registry with id '{upstream.get_account_id()}'",
    )
