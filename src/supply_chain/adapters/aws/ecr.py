"""ECR through boto3: repositories from a template, credentials for its registry, and look-ups."""

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
from typing import Any

from botocore.exceptions import ClientError

from supply_chain.adapters.aws.ecr_images import EcrImages, found
from supply_chain.adapters.aws.session import error_code, translated
from supply_chain.concurrency import side_by_side
from supply_chain.errors import ImageNotFound
from supply_chain.model.image import ATTACHED, DIGEST, Digest, ImageRef
from supply_chain.scratch import scratch

MARGIN = 15 * 60
"""Seconds before its expiry at which a token is fetched anew."""


@dataclass
class _Token:
    user: str = ""
    password: str = ""
    expires: float = 0.0


@dataclass(frozen=True)
class Ecr(EcrImages):
    """One role's view of ECR. `host` stands for the registry where its own name does not resolve."""

    host: str
    _token: _Token = field(default_factory=_Token, compare=False, repr=False)

    def credentials(self) -> tuple[str, str]:
        """User and password for the registry, of this role, valid for at least 15 minutes."""
        if self._token.expires - MARGIN < time.time():
            with translated("get a token for the registry"):
                data = self.client.get_authorization_token()["authorizationData"][0]
            user, _, password = base64.b64decode(data["authorizationToken"]).decode().partition(":")
            self._token.user, self._token.password = user, password
            self._token.expires = data["expiresAt"].timestamp()
        return self._token.user, self._token.password

    def forget_token(self) -> None:
        """The registry does not take the token any more: the next one is a new one."""
        self._token.expires = 0.0

    @contextlib.contextmanager
    def docker_config(self) -> Iterator[Path]:
        """A private Docker configuration directory with these credentials, gone afterwards."""
        user, password = self.credentials()
        auth = base64.b64encode(f"{user}:{password}".encode()).decode()
        with scratch("registry") as directory:
            path = directory / "config.json"
            path.touch(0o600)
            path.write_text(json.dumps({"auths": {self.host: {"auth": auth}}}))
            yield directory

    def ensure_repository(self, repository: str, *, immutable: bool, key: str | None) -> None:
        """Create a repository from the tier's template if there is none.

        `key` is the KMS key it is encrypted with. One that exists is left as it is: `encryption` and
        `immutable` say whether it is fit.
        """
        encryption = {"encryptionType": "KMS", "kmsKey": key} if key else {"encryptionType": "AES256"}
        with translated(f"create the repository {repository}"):
            try:
                self.client.describe_repositories(repositoryNames=[repository])
                return
            except ClientError as error:
                if error_code(error) != "RepositoryNotFoundException":
                    raise
            try:
                self.client.create_repository(
                    repositoryName=repository,
                    imageTagMutability="IMMUTABLE" if immutable else "MUTABLE",
                    encryptionConfiguration=encryption,
                )
            except ClientError as error:
                if error_code(error) != "RepositoryAlreadyExistsException":
                    raise

    def encryption(self, repository: str) -> tuple[str, str | None]:
        """How a repository is encrypted at rest: `KMS` or `AES256`, and the key's ARN or id."""
        configured = self._repository(repository).get("encryptionConfiguration", {})
        return configured.get("encryptionType", "AES256"), configured.get("kmsKey")

    def immutable(self, repository: str) -> bool:
        """Whether a tag in this repository can never be moved."""
        return bool(self._repository(repository).get("imageTagMutability") == "IMMUTABLE")

    def _repository(self, repository: str) -> dict[str, Any]:
        with translated(f"look at the repository {repository}"), found(repository):
            (described,) = self.client.describe_repositories(repositoryNames=[repository])["repositories"]
        known: dict[str, Any] = described
        return known

    def tags(self, ref: ImageRef) -> tuple[str, ...]:
        """The tags of an image; none where it has none."""
        return tuple(sorted(self._detail(ref).get("imageTags", [])))

    def having(self, begins: str, prefix: str) -> tuple[ImageRef, ...]:
        """The images below `prefix` whose digests begin so, archived or not. To look is no pull."""
        repositories = self.repositories(prefix)
        having = side_by_side(lambda repository: self._having(repository, begins), repositories)
        return tuple(
            ImageRef(repository=repository, digest=digest)
            for repository, digests in zip(repositories, having, strict=True)
            for digest in digests
        )

    def repositories(self, prefix: str) -> tuple[str, ...]:
        """The repositories whose names begin with `prefix`, sorted."""
        with translated("list the repositories"):
            pages = self.client.get_paginator("describe_repositories").paginate()
            names = [r["repositoryName"] for page in pages for r in page["repositories"]]
        return tuple(sorted(name for name in names if name.startswith(prefix)))

    def pushed(self, repository: str) -> tuple[tuple[Digest, datetime], ...]:
        """Every manifest of a repository, tagged or not, and when it was pushed, the last one first.

        But for those that nobody can pull, being archived or on their way back. None where there is no repository.
        """
        details = self._details(repository)
        details.sort(key=lambda d: d["imagePushedAt"], reverse=True)
        return tuple((d["imageDigest"], d["imagePushedAt"]) for d in details)

    def newest_first(self, repository: str, tag_prefix: str = "", *, archived: bool = False) -> tuple[ImageRef, ...]:
        """The images with a tag that begins so, the last one first; none where there is no repository.

        What some clients attach to an image under a tag `sha256-…` is no image. Those that nobody can pull, being
        archived or on their way back, only where they are asked for.
        """
        status = {"imageStatus": "ANY"} if archived else {}
        details = self._details(repository, filter={"tagStatus": "TAGGED", **status})
        # an emulator may answer without the filter
        tagged = [d for d in details if any(_names(tag, tag_prefix) for tag in d.get("imageTags", ()))]
        tagged.sort(key=lambda d: d["imagePushedAt"], reverse=True)
        return tuple(ImageRef(repository=repository, digest=d["imageDigest"]) for d in tagged)

    def _having(self, repository: str, begins: str) -> tuple[Digest, ...]:
        if not re.fullmatch(DIGEST, begins):
            return tuple(each.digest for each in self.images(repository) if each.digest.startswith(begins))
        try:
            self.status(ImageRef(repository=repository, digest=begins))
        except ImageNotFound:
            return ()
        return (begins,)


def _names(tag: str, prefix: str) -> bool:
    return tag.startswith(prefix) and not tag.startswith(ATTACHED)
