"""ECR API operations that ministack lacks, or answers differently from AWS, on ministack's state.

ministack checks permissions first, as for its own operations. The name of the operation is the IAM action, except for
ListImageReferrers, which needs `ecr:BatchGetImage` (Service Authorization Reference, "Actions, resources, and
condition keys for Amazon ECR").
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import parse_qs

from cscm_laptop.emulator import exclusions, upstream
from cscm_laptop.emulator.api import ApiError, one_by_one, one_of, page, within
from cscm_laptop.emulator.authorise import caller_of, calling
from cscm_laptop.emulator.catalogue import Catalogue, records
from cscm_laptop.emulator.images import (
    ACTIVE,
    ANY,
    Unfound,
    available,
    chosen,
    detail,
    identities,
    named,
    parsed,
    status,
    subject,
)
from cscm_laptop.emulator.mutability import FILTERS, is_taken, setting
from cscm_laptop.emulator.shapes import (
    STATUSES,
    Answer,
    Data,
    content_of,
    existing,
    failure,
    image,
    image_filters,
    image_of,
    referrer,
    repository_of,
    shape,
    whose,
)
from cscm_laptop.emulator.upstream import Handler

PERMISSIONS = {"ecr:ListImageReferrers": "ecr:BatchGetImage"}
TARGET = "AmazonEC2ContainerRegistry_V20150921."
"""Prefix of X-Amz-Target in a request to ECR."""
AMBIGUOUS = "AmbiguousOperation"
"""The action of a request that names two operations; no policy allows it."""


def install(catalogue: Catalogue) -> None:
    """Replace ministack's handlers of these operations."""
    ours = Operations(catalogue).by_name()

    def with_ours(original: Handler) -> Handler:
        async def handle_request(method: str, path: str, headers: dict[str, str], body: bytes, query: Any) -> Any:
            prefix, target, name = headers.get("x-amz-target", "").rpartition(TARGET)
            if prefix or not target or name not in ours:
                return await original(method, path, headers, body, query)
            return answered(ours[name], body)

        return handle_request

    def of_one_operation(permission: Handler) -> Handler:
        def extract_iam_action(
            service: str, method: str, path: str, headers: dict[str, str], body: bytes, query: dict[str, Any]
        ) -> str | None:
            if len(operations_named(headers, body, query)) > 1:
                return f"{service}:{AMBIGUOUS}"
            action: str | None = permission(service, method, path, headers, body, query)
            return PERMISSIONS.get(action or "", action)

        return extract_iam_action

    upstream.wrap_ecr_handler(with_ours)
    upstream.wrap_permission(of_one_operation)


def operations_named(headers: Mapping[str, str], body: bytes, query: Mapping[str, Any]) -> set[str]:
    """Return the operations that a request names in its header, its query and its form.

    The permission check and the handler read different places. If these named two operations, one of them would run
    without a permission check.
    """
    header = headers.get("x-amz-target", "")
    form = body.decode("utf-8", "replace") if "x-www-form-urlencoded" in headers.get("content-type", "") else ""
    actions = query.get("Action", ())
    named = (
        header.rpartition(".")[2],
        *([actions] if isinstance(actions, str) else actions),
        *parse_qs(form).get("Action", ()),
    )
    return {name for name in named if name}


def answered(operation: Callable[[Data], dict[str, Any]], body: bytes) -> Answer:
    """Return the operation's answer or error in the API's protocol."""
    try:
        answer: Answer = upstream.json_response(operation(read(body)))
    except ApiError as error:
        answer = upstream.error_response_json(error.code, str(error))
    return answer


def read(body: bytes) -> Data:
    """Return the members of a request; raise `ApiError` if the body is not a JSON object."""
    try:
        data = json.loads(body or b"{}")
    except (ValueError, RecursionError) as error:
        raise ApiError("SerializationException", str(error)) from error
    if not isinstance(data, dict):
        raise ApiError("SerializationException", "The request is not a JSON object")
    return data


class Operations:
    """One method for each operation: takes a request's members and returns the answer's; they raise `ApiError`."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue

    def by_name(self) -> dict[str, Callable[[Data], dict[str, Any]]]:
        """Return the operations by their names in the API."""
        return {
            "BatchDeleteImage": self.batch_delete_image,
            "BatchGetImage": self.batch_get_image,
            "CreateRepository": self.create_repository,
            "DeregisterPullTimeUpdateExclusion": exclusions.deregister,
            "DescribeImages": self.describe_images,
            "DescribeRepositories": self.describe_repositories,
            "ListImageReferrers": self.list_image_referrers,
            "ListImages": self.list_images,
            "ListPullTimeUpdateExclusions": exclusions.listed,
            "PutImage": self.put_image,
            "PutImageTagMutability": self.put_image_tag_mutability,
            "RegisterPullTimeUpdateExclusion": lambda data: exclusions.register(data, self._catalogue.moment()),
            "UpdateImageStorageClass": self.update_image_storage_class,
        }

    def update_image_storage_class(self, data: Data) -> dict[str, Any]:
        """Archive an image, or begin to restore it."""
        name = repository_of(data)
        target = one_of(data.get("targetStorageClass"), "targetStorageClass", ("STANDARD", "ARCHIVE"))
        record = image_of(name, data.get("imageId") or {})
        if target == "ARCHIVE":
            self._catalogue.archive(record)
        else:
            self._catalogue.restore(record)
        identity = {**data["imageId"], "imageDigest": record["imageDigest"]}
        return {**whose(name), "imageId": identity, "imageStatus": status(record)}

    def list_image_referrers(self, data: Data) -> dict[str, Any]:
        """List the referrers of a digest; only active ones, unless the filter asks for others."""
        name, about = repository_of(data), data.get("subjectId", {}).get("imageDigest")
        filters = data.get("filter", {})
        artifact_status = one_of(filters.get("artifactStatus", ACTIVE), "filter.artifactStatus", STATUSES)
        types = within(filters["artifactTypes"], "filter.artifactTypes", 5) if filters.get("artifactTypes") else ()
        matches = [each for each in records(name) if subject(each) == about and artifact_status in (ANY, status(each))]
        typed = [each for each in map(referrer, matches) if not types or each.get("artifactType") in types]
        referrers, more = page(typed, lambda each: (each["digest"],), data, usual=20, most=50)
        return {"referrers": referrers, **more}

    def batch_delete_image(self, data: Data) -> dict[str, Any]:
        """Delete tags and images."""
        name = repository_of(data)
        deleted, failed = self._catalogue.delete(name, within(data.get("imageIds"), "imageIds", 100))
        return {"imageIds": deleted, "failures": [failure(identity, why) for identity, why in failed]}

    def batch_get_image(self, data: Data) -> dict[str, Any]:
        """Return manifests, one for each tag of a digest, and record the pulls; archived images are not found."""
        name, images, failures = repository_of(data), [], []
        caller = str(caller_of(calling.get()[0])["Arn"])
        for identity in within(data.get("imageIds"), "imageIds", 100):
            try:
                record = available(records(name), identity)
            except Unfound as why:
                failures.append(failure(identity, why))
                continue
            self._catalogue.pulled(record, caller)
            tag = identity.get("imageTag")
            images += [image(record, each) for each in identities(record) if tag in (None, each.get("imageTag"))]
        return {"images": images, "failures": failures}

    def describe_images(self, data: Data) -> dict[str, Any]:
        """Describe the named images, whatever their status, or a page of all active images."""
        name, filters = repository_of(data), image_filters(data)
        one_by_one(data, "imageIds")
        everything = records(name)
        if data.get("imageIds"):
            ids = within(data["imageIds"], "imageIds", 100)
            requested = {(record := image_of(name, each))["imageDigest"]: record for each in ids}
            more: dict[str, str] = {}
            images = [each for each in requested.values() if chosen(each, filters, otherwise=ANY)]
        else:
            listed = [each for each in everything if chosen(each, filters, otherwise=ACTIVE)]
            images, more = page(listed, lambda each: (each["imageDigest"],), data, usual=100, most=1000)
        return {"imageDetails": [detail(each, everything) for each in images], **more}

    def list_images(self, data: Data) -> dict[str, Any]:
        """List digests and tags, one entry for each tag; only active images, unless the filter asks for others."""
        name, filters = repository_of(data), image_filters(data)
        listed = [each for each in records(name) if chosen(each, filters, otherwise=ACTIVE)]
        ids = [identity for record in listed for identity in identities(record)]
        images, more = page(ids, lambda i: (i["imageDigest"], i.get("imageTag", "")), data, usual=100, most=1000)
        return {"imageIds": images, **more}

    def describe_repositories(self, data: Data) -> dict[str, Any]:
        """Describe the named repositories, or a page of all."""
        one_by_one(data, "repositoryNames")
        more: dict[str, str] = {}
        if names := data.get("repositoryNames"):
            repositories = [upstream.repositories[existing(each)] for each in within(names, "repositoryNames", 100)]
        else:
            everything = upstream.repositories.values()
            repositories, more = page(everything, lambda each: (each["repositoryName"],), data, usual=100, most=1000)
        return {"repositories": [shape(each) for each in repositories], **more}

    def create_repository(self, data: Data) -> dict[str, Any]:
        """Create a repository."""
        tags = setting(data)
        answer = content_of(upstream.create_repository(data))
        repository = upstream.repositories[answer["repository"]["repositoryName"]]
        repository.update(tags)
        return {"repository": shape(repository)}

    def put_image_tag_mutability(self, data: Data) -> dict[str, Any]:
        """Set the tag mutability of a repository."""
        name, tags = repository_of(data), setting(data)
        upstream.repositories[name].pop(FILTERS, None)
        upstream.repositories[name].update(tags)
        return {**whose(name), **tags}

    def put_image(self, data: Data) -> dict[str, Any]:
        """Push a manifest."""
        name, text, tag = repository_of(data), data.get("imageManifest", ""), data.get("imageTag")
        digest = upstream.image_digest(text)
        if data.get("imageDigest", digest) != digest:
            raise ApiError("ImageDigestDoesNotMatchException", f"The manifest's digest is {digest}")
        before = next((each for each in records(name) if each["imageDigest"] == digest), None)
        if before and status(before) == ACTIVE and (not tag or tag in before["imageTags"]):
            raise ApiError(
                "ImageAlreadyExistsException", f"Image with digest '{digest}' and tag '{tag}' already exists"
            )
        if tag and is_taken(upstream.repositories[name], records(name), tag, digest):
            raise ApiError("ImageTagAlreadyExistsException", f"The tag '{tag}' exists and cannot be overwritten")
        kind = parsed(text).get("mediaType")
        typed = {"imageManifestMediaType": kind, **data} if kind else dict(data)
        if not (before and tag in before["imageTags"]):
            content_of(upstream.put_image(typed))
        self._catalogue.pushed(name, digest, tag, new=before is None)
        record = named(records(name), {"imageDigest": digest})
        return {"image": image(record, {"imageDigest": digest, **({"imageTag": tag} if tag else {})})}
