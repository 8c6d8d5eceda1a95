"""Digests, references, and the states of an image.

There is one class per state. Only the step that verified a state creates it, and a step accepts only the state before
it. The type checker therefore rejects a chain that skips a step.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Self

from pydantic import (
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    TypeAdapter,
    ValidationError,
    model_validator,
)

from supply_chain.errors import DeclarationInvalid, ImageDamaged

DIGEST = r"sha256:[0-9a-f]{64}"
HEXADECIMAL = re.compile(r"(?:sha256:)?[0-9a-f]{12,64}")
"""A digest or the first part of one, as people type it."""
ATTACHED = "sha256-"
"""Prefix of a tag under which content is attached to a digest (OCI distribution 1.1, "Referrers Tag Schema")."""
ATTACHED_TO = re.compile(rf"{ATTACHED}(?P<digest>[0-9a-f]{{64}})(?:\..*)?")
"""A tag of this kind: without a suffix, or with one such as `.sig`, as cosign used before OCI had `subject`."""
COMPONENT = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
PATH = rf"{COMPONENT}(?:/{COMPONENT})*"
IN_IMAGE = r"^/[^\x00*?\[]*(/\*)?$"
"""An absolute path in an image, or a directory followed by `/*`."""

Digest = Annotated[str, StringConstraints(pattern=rf"^{DIGEST}$")]
"""The digest of a piece of content in a registry: `sha256:` and 64 lower-case hexadecimal digits."""

Repository = Annotated[str, StringConstraints(pattern=rf"^{PATH}$", min_length=2, max_length=256)]
"""A repository's path in its registry, without the host (OCI distribution 1.1, "Pulling manifests")."""


class Model(BaseModel):
    """Immutable base model for data that crosses a file, a process or a tier; unknown fields are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class ImageRef(Model):
    """An image by repository and digest, such as `dev/hello@sha256:…`."""

    repository: Repository
    digest: Digest

    def __str__(self) -> str:
        return f"{self.repository}@{self.digest}"

    @property
    def application(self) -> str:
        """Return the application's name: the repository without the prefix of its tier.

        `curated/base/python` → `base/python`, `evidence/curation/hello` → `hello`.
        """
        return parse_application_name(self.repository)

    @property
    def short(self) -> str:
        """Return the first 12 hexadecimal digits of the digest, for people."""
        return shorten_digest(self.digest)

    def with_repository(self, repository: str) -> ImageRef:
        """Return a reference to the same content in another repository."""
        return ImageRef(repository=repository, digest=self.digest)

    def with_digest(self, digest: Digest) -> ImageRef:
        """Return a reference to other content in the same repository; `digest` is not validated again."""
        return self.model_copy(update={"digest": digest})

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse `repository@sha256:…`; raise `DeclarationInvalid` for anything else.

        A tag or a host is refused because neither names content.
        """
        repository, at, digest = text.strip().partition("@")
        if not at or not re.fullmatch(DIGEST, digest):
            raise DeclarationInvalid(
                f"{text!r} does not name an image by digest.\n"
                "Write repository@sha256:<64 hexadecimal digits>, as the run that made it printed it."
            )
        if not re.fullmatch(PATH, repository) or not 2 <= len(repository) <= 256:
            raise DeclarationInvalid(
                f"{repository!r} is not a repository of this registry.\n"
                "Write its path without a host or tag, for example dev/hello."
            )
        return cls(repository=repository, digest=digest)


def parse_application_name(repository: str) -> str:
    """Return the application's name in a repository's path; any text is accepted."""
    first, _, rest = repository.partition("/")
    if first not in ("evidence", "verdicts"):
        return rest
    second, _, rest = rest.partition("/")
    return rest.partition("/")[2] if (first, second) == ("verdicts", "deploy") else rest


def digest_of(content: bytes) -> Digest:
    """Return the digest of content."""
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


ENCRYPTED = "-encrypted"
"""Suffix that is added to the image's tag to form the tag of its encrypted copy."""


def shorten_digest(digest: str) -> str:
    """Return the first 12 hexadecimal digits of a digest, for people and for tags."""
    return digest.removeprefix("sha256:")[:12]


class Descriptor(BaseModel):
    """A blob as a manifest describes it (OCI image 1.1, "Descriptor"), reduced to digest and size in bytes."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    digest: Digest
    size: int = Field(ge=0, strict=True)


_DESCRIPTORS: TypeAdapter[tuple[Descriptor, ...]] = TypeAdapter(tuple[Descriptor, ...])


def list_blobs(manifest: Mapping[str, Any], ref: ImageRef) -> tuple[Descriptor, ...]:
    """Return the blobs of an image manifest, its configuration first; raise `ImageDamaged` for any other document."""
    try:
        return _DESCRIPTORS.validate_python([manifest["config"], *manifest["layers"]])
    except (KeyError, TypeError, ValidationError) as error:
        raise ImageDamaged(
            f"The manifest of {ref} does not name a configuration and layers.\n"
            "Do not use it. Build for one platform, and push it again from its source."
        ) from error


class StorageStatus(StrEnum):
    """Whether an image can be pulled: only an active one can, not an archived one or one that is being restored."""

    ACTIVE = "ACTIVE"
    ARCHIVED = "ARCHIVED"
    ACTIVATING = "ACTIVATING"


class StoredManifest(Model):
    """A manifest in the registry: an image, an index or an artifact."""

    digest: Digest
    tags: tuple[str, ...] = ()
    pushed_at: AwareDatetime
    pulled_at: AwareDatetime | None = Field(default=None, description="to the day; null: not recorded")
    archived_at: AwareDatetime | None = None
    restored_at: AwareDatetime | None = None
    size: int = Field(ge=0, description="compressed bytes; of an index: its largest image's")
    media_type: str = ""
    artifact_type: str | None = Field(default=None, description="of the artifact, or its configuration")
    subject: Digest | None = Field(default=None, description="the manifest that it refers to")
    status: StorageStatus = StorageStatus.ACTIVE

    @property
    def came_at(self) -> datetime:
        """Return when it was pushed or restored, whichever is later."""
        return max(self.pushed_at, self.restored_at or self.pushed_at)

    @property
    def subjects(self) -> tuple[Digest, ...]:
        """Return the digests that it is attached to, sorted.

        This is its `subject` (OCI image 1.1). Without one, it is the digests that its tags name, if every tag names one
        and none is its own digest.
        """
        if self.subject:
            return (self.subject,)
        named = {match and f"sha256:{match['digest']}" for match in map(ATTACHED_TO.fullmatch, self.tags)}
        digests = sorted(each for each in named if each)
        return tuple(digests) if len(digests) == len(named) and self.digest not in named else ()


class Removal(Model):
    """The result of removing one image."""

    name: str = Field(description="its digest")
    code: str | None = Field(description="the registry's code for why it is still there; None when it is gone")
    reason: str | None = Field(description="the registry's words for that")


def digest_set(digest: Digest) -> dict[str, str]:
    """Return a digest as statements write it: algorithm → value (in-toto attestation framework v1, "DigestSet")."""
    algorithm, _, value = digest.partition(":")
    return {algorithm: value}


class Proof(Model):
    """Signed evidence because of which a step was not repeated."""

    evidence: tuple[Digest, ...] = Field(min_length=1, description="referrers, the oldest first")
    since: AwareDatetime | None = Field(description="when the oldest was attached")

    def describe(self, now: datetime) -> str:
        """Return a text such as `already proven by 0123456789ab and 6 more, 2 h old`."""
        more = f" and {len(self.evidence) - 1} more" if len(self.evidence) > 1 else ""
        return f"already proven by {shorten_digest(self.evidence[0])}{more}, {_age(self.since, now)}"


def _age(since: datetime | None, now: datetime) -> str:
    if since is None:
        return "of unknown age"
    seconds = max(0, int((now - since).total_seconds()))
    units = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))
    return next((f"{seconds // size} {unit} old" for size, unit in units if seconds >= size), "0 s old")


class Provable(Model):
    """A state that can rest on evidence of an earlier run."""

    proven: Proof | None = None


class Source(Model):
    """The location and the revision of the source code."""

    path: str = Field(description="the application's directory in the repository")
    repository: str = Field(description="the git remote, or the directory's name")
    revision: str = Field(description="the git commit, or `none`")
    branch: str = Field(
        default="", description="the branch that was checked out and led to that commit; empty: none, or unknown"
    )
    dirty: bool = Field(description="whether files differ from that commit")
    committed: int = Field(default=0, description="last commit in the directory, Unix seconds")
    committers: tuple[str, ...] = Field(
        default=(), description="e-mail addresses of that commit's author and committer; empty: unknown"
    )

    snapshot: Digest | None = Field(default=None, description="of all paths, modes and contents")

    @property
    def short(self) -> str:
        """Return the first 7 digits of the revision, with `-dirty` if files differ from the commit."""
        return self.revision[:7] + ("-dirty" if self.dirty else "")


class Material(Model):
    """An input of a build: another image, or a file."""

    name: str
    digest: Digest
    curated: bool = Field(description="whether it came from the curated base repositories")


class BuildInputs(Model):
    """Everything that a build depends on."""

    application: str
    source: Source
    dockerfile: Digest
    declaration: Digest
    materials: tuple[Material, ...]
    uncurated: tuple[str, ...] = Field(description="bases that are not from the curated repositories")
    base: Material | None = Field(default=None, description="what the last stage starts from, as the Dockerfile says")
    versions: dict[str, str] = Field(description="builder, engine and project versions")
    hosted: bool = Field(default=False, description="whether its builder is a host that is there for builds alone")


class BuiltImage(BuildInputs, Provable):
    """An image in the engine's store, with its inputs; if it is proven, it is in the registry instead."""

    digest: Digest
    started: datetime
    finished: datetime
    invocation: str = Field(description="the run that built it")


class Candidate(Provable):
    """An image in development's repository, with its signed evidence attached."""

    ref: ImageRef
    source: Source
    evidence: tuple[Digest, ...] = ()


class StoredImage(Provable):
    """An image in the curated repository with every blob verified."""

    ref: ImageRef
    tag: str
    source: Source
    blobs: int
    size: int = Field(description="bytes of all blobs, compressed")


class EncryptedImage(Provable):
    """A stored image whose encryption at rest was verified and attested."""

    stored: StoredImage
    key: str = Field(description="ARN of the repository's customer-managed KMS key")
    copy_digest: Digest | None = Field(default=None, description="the encrypted copy of a confidential application")


class ScannedImage(Provable):
    """An encrypted image with its SBOM and findings attested."""

    encrypted: EncryptedImage
    sbom: Digest = Field(description="the SBOM's referrer")
    report: Digest = Field(description="of the signed statement that holds the findings")


class ReleasedImage(Provable):
    """An image that curation admitted, signed and verified again."""

    ref: ImageRef
    tag: str
    source: Source
    environments: tuple[str, ...]


class Interval(Model):
    """A measured span of time."""

    started: AwareDatetime
    finished: AwareDatetime

    @model_validator(mode="after")
    def _check_order(self) -> Self:
        if self.finished < self.started:
            raise ValueError("finished before it started")
        return self

    @property
    def seconds(self) -> float:
        """Return the length in seconds."""
        return (self.finished - self.started).total_seconds()
