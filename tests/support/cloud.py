"""The account that the contract tests use: an emulator or AWS, with the helpers for both."""

from __future__ import annotations

import base64
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import httpx

from tests.support.content import INDEX, MANIFEST, Content, encoded, sha


@dataclass(frozen=True)
class Cloud:
    """ECR, EventBridge and SQS of one account. The names of all created resources begin with `prefix`.

    `patience` is the time in seconds to wait for asynchronous changes: a restore takes up to 20 minutes on AWS.
    `settling` is the time in seconds until a new EventBridge rule is in force.
    """

    client: Callable[[str], Any]
    prefix: str
    patience: float
    settling: float
    registry_url: Callable[[dict[str, Any]], str]

    def name(self, kind: str) -> str:
        """Return an unused name."""
        return f"{self.prefix}{kind}-{secrets.token_hex(4)}"


@dataclass(frozen=True)
class Repository:
    """A repository for one test, and its registry over plain HTTP."""

    cloud: Cloud
    ecr: Any
    name: str
    http: httpx.Client

    def push(self, *tags: str, seed: str = "") -> Content:
        """Push an image of one layer under these tags, or by its digest alone."""
        image = Content.image(seed or secrets.token_hex(8))
        self.put(image, *tags)
        return image

    def attach(self, subject: Content, kind: str = "application/vnd.example") -> Content:
        """Push a referrer of an image."""
        artifact = Content.artifact(subject, kind, secrets.token_hex(8))
        self.put(artifact)
        return artifact

    def index(self, *children: Content, tag: str) -> Content:
        """Push an index of images that are in the repository."""
        index = Content.index(children)
        self.put(index, tag)
        return index

    def put(self, content: Content, *tags: str) -> None:
        """Push the blobs, then the manifest under these tags or by its digest alone."""
        for blob in content.blobs:
            self._upload(blob)
        for reference in tags or (content.digest,):
            self.put_manifest(content, reference).raise_for_status()

    def put_manifest(self, content: Content, reference: str) -> httpx.Response:
        """Push the manifest alone."""
        kind = {"Content-Type": content.media_type}
        return self.http.put(f"/v2/{self.name}/manifests/{reference}", content=content.manifest, headers=kind)

    def pull(self, reference: str, method: str = "GET") -> httpx.Response:
        """Return the registry's response for a manifest."""
        accepted = {"Accept": f"{MANIFEST}, {INDEX}"}
        return self.http.request(method, f"/v2/{self.name}/manifests/{reference}", headers=accepted)

    def referrers(self, digest: str) -> list[str]:
        """List the digests that the registry reports as referrers."""
        found = self.http.get(f"/v2/{self.name}/referrers/{digest}").raise_for_status().json()
        return [each["digest"] for each in found["manifests"]]

    def described(self, content: Content) -> dict[str, Any]:
        """Return the details that DescribeImages reports for the image."""
        (found,) = self.ecr.describe_images(repositoryName=self.name, imageIds=[{"imageDigest": content.digest}])[
            "imageDetails"
        ]
        return dict(found)

    def listed(self, **filters: str) -> set[str]:
        """List the digests that DescribeImages reports."""
        pages = self.ecr.get_paginator("describe_images").paginate(repositoryName=self.name, filter=filters)
        return {each["imageDigest"] for page in pages for each in page["imageDetails"]}

    def store(self, content: Content, target: str) -> str:
        """Change the storage class and return the reported status."""
        answer = self.ecr.update_image_storage_class(
            repositoryName=self.name, imageId={"imageDigest": content.digest}, targetStorageClass=target
        )
        return str(answer["imageStatus"])

    def delete(self, *ids: dict[str, str]) -> tuple[list[dict[str, str]], list[str]]:
        """Delete images; return the deleted ids and the failure codes."""
        answer = self.ecr.batch_delete_image(repositoryName=self.name, imageIds=list(ids))
        return answer["imageIds"], [each["failureCode"] for each in answer["failures"]]

    def _upload(self, blob: bytes) -> None:
        if self.http.head(f"/v2/{self.name}/blobs/{sha(blob)}").status_code == 200:
            return
        place = self.http.post(f"/v2/{self.name}/blobs/uploads/").raise_for_status().headers["Location"]
        kind = {"Content-Type": "application/octet-stream"}
        place = self.http.patch(place, content=blob, headers=kind).raise_for_status().headers["Location"]
        self.http.put(httpx.URL(place).copy_merge_params({"digest": sha(blob)})).raise_for_status()


def credentials(ecr: Any) -> tuple[str, str]:
    """Return user and password for the registry."""
    token = ecr.get_authorization_token()["authorizationData"][0]["authorizationToken"]
    user, _, password = base64.b64decode(token).decode().partition(":")
    return user, password


def policy_of(arn: str, rule: str) -> str:
    """Return a queue policy that lets EventBridge deliver events of a rule."""
    return encoded(
        {
            "Version": "2012-10-17",
            "Statement": [
                {
                    "Effect": "Allow",
                    "Principal": {"Service": "events.amazonaws.com"},
                    "Action": "sqs:SendMessage",
                    "Resource": arn,
                    "Condition": {"ArnEquals": {"aws:SourceArn": rule}},
                }
            ],
        }
    ).decode()
