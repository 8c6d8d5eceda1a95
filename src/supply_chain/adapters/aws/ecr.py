"""Reads and creates ECR repositories through boto3, and gets credentials for the registry."""

from __future__ import annotations

import base64
import contextlib
import json
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from threading import Lock
from typing import Any

from botocore.exceptions import ClientError

from supply_chain.adapters.aws.ecr_images import LARGEST_PAGES, EcrImages, translate_missing
from supply_chain.adapters.aws.session import read_error_code, translate_errors
from supply_chain.concurrency import map_concurrently
from supply_chain.errors import ImageNotFound
from supply_chain.model.image import ATTACHED, DIGEST, Digest, ImageRef
from supply_chain.scratch import make_scratch_directory

MARGIN = 15 * 60
"""A token is renewed this many seconds before it expires."""


@dataclass
class _Token:
    """A token; whoever uses or renews it holds `lock`, so that several threads request one."""

    user: str = ""
    password: str = ""
    expires: float = 0.0
    lock: Lock = field(default_factory=Lock)


@dataclass(frozen=True)
class Ecr(EcrImages):
    """ECR with the permissions of one role; `host` is the registry's address where its own name does not resolve."""

    host: str
    _token: _Token = field(default_factory=_Token, compare=False, repr=False)

    def credentials(self) -> tuple[str, str]:
        """Return this role's user and password for the registry, valid for at least 15 minutes."""
        with self._token.lock:
            if self._token.expires - MARGIN < time.time():
                with translate_errors("get a token for the registry"):
                    data = self.client.get_authorization_token()["authorizationData"][0]
                user, _, password = base64.b64decode(data["authorizationToken"]).decode().partition(":")
                self._token.user, self._token.password = user, password
                self._token.expires = data["expiresAt"].timestamp()
            return self._token.user, self._token.password

    def forget_token(self) -> None:
        """Drop the token, because the registry no longer accepts it; the next call gets a new one."""
        self._token.expires = 0.0

    @contextlib.contextmanager
    def docker_config(self) -> Iterator[Path]:
        """Yield a private Docker configuration directory with these credentials, and remove it afterwards."""
        user, password = self.credentials()
        auth = base64.b64encode(f"{user}:{password}".encode()).decode()
        with make_scratch_directory("registry") as directory:
            path = directory / "config.json"
            path.touch(0o600)
            path.write_text(json.dumps({"auths": {self.host: {"auth": auth}}}))
            yield directory

    def ensure_repository(self, repository: str, *, immutable: bool, key: str | None) -> None:
        """Create a repository from the tier's template if it does not exist.

        `key` is the KMS key that encrypts it. An existing repository is not changed: use `encryption` and `immutable`
        to check it.
        """
        encryption = {"encryptionType": "KMS", "kmsKey": key} if key else {"encryptionType": "AES256"}
        with translate_errors(f"create the repository {repository}"):
            try:
                self.client.describe_repositories(repositoryNames=[repository])
                return
            except ClientError as error:
                if read_error_code(error) != "RepositoryNotFoundException":
                    raise
            try:
                self.client.create_repository(
                    repositoryName=repository,
                    imageTagMutability="IMMUTABLE" if immutable else "MUTABLE",
                    encryptionConfiguration=encryption,
                )
            except ClientError as error:
                if read_error_code(error) != "RepositoryAlreadyExistsException":
                    raise

    def encryption(self, repository: str) -> tuple[str, str | None]:
        """Return how a repository is encrypted at rest: `KMS` or `AES256`, and the key's ARN or id."""
        configured = self._repository(repository).get("encryptionConfiguration", {})
        return configured.get("encryptionType", "AES256"), configured.get("kmsKey")

    def is_immutable(self, repository: str) -> bool:
        """Return whether the repository's tags are immutable."""
        return bool(self._repository(repository).get("imageTagMutability") == "IMMUTABLE")

    def _repository(self, repository: str) -> dict[str, Any]:
        with translate_errors(f"look at the repository {repository}"), translate_missing(repository):
            (entry,) = self.client.describe_repositories(repositoryNames=[repository])["repositories"]
        description: dict[str, Any] = entry
        return description

    def find_by_digest(self, begins: str, prefix: str) -> tuple[ImageRef, ...]:
        """Return the images below `prefix` whose digests start with `begins`, archived or not; this is not a pull."""
        repositories = self.repositories(prefix)
        having = map_concurrently(lambda repository: self._find_by_digest(repository, begins), repositories)
        return tuple(
            ImageRef(repository=repository, digest=digest)
            for repository, digests in zip(repositories, having, strict=True)
            for digest in digests
        )

    def repositories(self, prefix: str) -> tuple[str, ...]:
        """Return the repositories whose names start with `prefix`, sorted."""
        with translate_errors("list the repositories"):
            pages = self.client.get_paginator("describe_repositories").paginate(PaginationConfig=LARGEST_PAGES)
            names = [r["repositoryName"] for page in pages for r in page["repositories"]]
        return tuple(sorted(name for name in names if name.startswith(prefix)))

    def list_pushes(self, repository: str) -> tuple[tuple[Digest, datetime], ...]:
        """Return every manifest of a repository, tagged or not, with its push time, newest first.

        Manifests that cannot be pulled (archived or being restored) are left out. A missing repository has none.
        """
        details = self._details(repository)
        details.sort(key=lambda d: d["imagePushedAt"], reverse=True)
        return tuple((d["imageDigest"], d["imagePushedAt"]) for d in details)

    def list_newest_first(
        self, repository: str, tag_prefix: str = "", *, archived: bool = False
    ) -> tuple[ImageRef, ...]:
        """Return the images that have a tag with this prefix, newest first; a missing repository has none.

        Artifacts that some clients attach to an image under a tag `sha256-…` are not images. Images that cannot be
        pulled (archived or being restored) are returned only with `archived`.
        """
        status = {"imageStatus": "ANY"} if archived else {}
        details = self._details(repository, filter={"tagStatus": "TAGGED", **status})
        # an emulator may answer without the filter
        tagged = [d for d in details if any(_is_own_tag(tag, tag_prefix) for tag in d.get("imageTags", ()))]
        tagged.sort(key=lambda d: d["imagePushedAt"], reverse=True)
        return tuple(ImageRef(repository=repository, digest=d["imageDigest"]) for d in tagged)

    def _find_by_digest(self, repository: str, begins: str) -> tuple[Digest, ...]:
        if not re.fullmatch(DIGEST, begins):
            return tuple(each.digest for each in self.images(repository) if each.digest.startswith(begins))
        try:
            self.status(ImageRef(repository=repository, digest=begins))
        except ImageNotFound:
            return ()
        return (begins,)


def _is_own_tag(tag: str, prefix: str) -> bool:
    return tag.startswith(prefix) and not tag.startswith(ATTACHED)
