"""Routes of registry requests, and the permissions that each needs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

KEYWORDS = ("blobs", "manifests", "referrers", "tags")
ANY_REPOSITORY = "*"

Needs = tuple[tuple[str, ...], ...]
"""Groups of actions: of each group, one action must be allowed."""

ACTIONS: Mapping[tuple[str, str], Needs] = {
    ("GET", "catalog"): (("ecr:DescribeRepositories",),),
    ("GET", "tags"): (("ecr:ListImages",),),
    ("GET", "manifest"): (("ecr:BatchGetImage",),),
    ("HEAD", "manifest"): (("ecr:BatchGetImage",),),
    ("PUT", "manifest"): (("ecr:PutImage",),),
    ("DELETE", "manifest"): (("ecr:BatchDeleteImage",),),
    ("GET", "blob"): (("ecr:GetDownloadUrlForLayer",),),
    ("HEAD", "blob"): (("ecr:BatchCheckLayerAvailability",),),
    ("GET", "referrers"): (("ecr:BatchGetImage",),),
    ("POST", "uploads"): (("ecr:InitiateLayerUpload",),),
    ("GET", "upload"): (("ecr:UploadLayerPart",),),
    ("PATCH", "upload"): (("ecr:UploadLayerPart",),),
    ("DELETE", "upload"): (("ecr:UploadLayerPart",),),
    ("PUT", "upload"): (("ecr:UploadLayerPart",), ("ecr:CompleteLayerUpload",)),
}
"""Amazon ECR's actions for each endpoint of the OCI distribution specification."""

IN_ONE_REQUEST: Needs = (("ecr:UploadLayerPart",), ("ecr:CompleteLayerUpload",))
"""Additional permissions for a POST that carries the blob."""


@dataclass(frozen=True)
class Route:
    """Kind of an endpoint, name of the repository, and the digest, tag or upload."""

    kind: str
    name: str = ""
    reference: str = ""


def is_registry(path: str) -> bool:
    """Return whether a path belongs to the registry; other services also have paths below `/v2/`."""
    if path in ("/v2", "/v2/", "/v2/_catalog"):
        return True
    inside = any(f"/{word}/" in path for word in ("blobs", "manifests", "referrers"))
    return path.startswith("/v2/") and (inside or path.endswith("/tags/list"))


def parse(path: str) -> Route | None:
    """Return the route of a path, or None; the first keyword ends the repository's name, as in ministack."""
    if path in ("/v2", "/v2/"):
        return Route("ping")
    if path == "/v2/_catalog":
        return Route("catalog", ANY_REPOSITORY)
    parts = path.removeprefix("/v2/").split("/")
    at = next((i for i, part in enumerate(parts) if part in KEYWORDS), 0)
    kind, reference = _endpoint(parts[at], parts[at + 1 :])
    named = at > 0 and all(parts[:at])
    return Route(kind, "/".join(parts[:at]), reference) if kind and named else None


def _endpoint(keyword: str, rest: list[str]) -> tuple[str, str]:
    """Return the kind and the reference for a keyword and the rest of the path; empty if they are not valid."""
    endpoint = "", ""
    match keyword, rest:
        case "blobs", ["uploads"] | ["uploads", ""]:
            endpoint = "uploads", ""
        case "blobs", ["uploads", identity]:
            endpoint = "upload", identity
        case (("blobs" | "manifests" | "referrers"), [reference]) if reference:
            endpoint = keyword.removesuffix("s") if keyword != "referrers" else keyword, reference
        case "tags", ["list"]:
            endpoint = "tags", ""
    return endpoint
