"""Transfer of an image into an environment's engine, by a pull or from an encrypted copy, and its removal."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from supply_chain.errors import EngineFailed, EngineUnavailable, EvidenceInvalid, ImageDamaged
from supply_chain.evidence.encryption import (
    EncryptedCopy,
    KeyUnwrapper,
    list_encryption_records,
    make_encryption_context,
)
from supply_chain.evidence.statement import ENCRYPTION
from supply_chain.evidence.store import EvidenceStore
from supply_chain.model.container import PREVIOUS, Engine, ImageLoader, ImagePuller, LocalImage, Login
from supply_chain.model.image import Digest, ImageRef, shorten_digest
from supply_chain.model.tier import TierName
from supply_chain.scratch import make_scratch_directory

log = logging.getLogger("supply_chain.supply")

LOADED = "localhost"
"""Replaces the registry's host in the name of an image that an engine loaded from an archive."""


class Supply(Protocol):
    """Brings the content of a digest to an engine."""

    def supply(self, ref: ImageRef) -> Digest:
        """Bring an image to the engine, and return its digest, which is the engine's name for it.

        Raises an error if the image is not available or is another one.
        """


class Decryptor(Protocol):
    """Decrypts encrypted copies."""

    def decrypt(self, copy: ImageRef, image: ImageRef, key: bytes, archive: Path) -> None:
        """Write an archive of exactly the manifest and blobs of `image`, taken from its encrypted copy.

        An engine that loads it names the image `LOADED/<repository>:<first 12 of the digest>`.
        """


@dataclass(frozen=True)
class PullSupply:
    """Pulls by digest from the registry at `host`; `credentials` returns a user and a password, valid at each call."""

    engine: ImagePuller
    host: str
    credentials: Callable[[], tuple[str, str]]

    def supply(self, ref: ImageRef) -> Digest:
        """Pull the image, as `Supply` describes."""
        login = Login(*self.credentials())
        return require_same(ref, self.engine.pull(f"{self.host}/{ref.repository}", ref.digest, login))


@dataclass(frozen=True)
class DecryptingSupply:
    """Starts from the encrypted copy that curation attested, every time.

    The key is unwrapped before anything else, whatever the engine already has. So nothing starts without the grant, not
    even from plain layers that an earlier start left on the host.
    """

    engine: ImageLoader
    evidence: EvidenceStore
    keys: KeyUnwrapper
    decryptor: Decryptor

    def supply(self, ref: ImageRef) -> Digest:
        """Load the image from its encrypted copy, as `Supply` describes.

        Raises `EvidenceInvalid` if no copy is recorded, and `AccessDenied` without the grant.
        """
        copy = self._find_copy(ref)
        key = self.keys.unwrap(copy.key, copy.wrapped, make_encryption_context(ref.digest))
        with make_scratch_directory("supply") as work:
            archive = work / "image.tar"
            self.decryptor.decrypt(ref.with_digest(copy.encrypted), ref, key, archive)
            return require_same(ref, self.engine.load(archive))

    def _find_copy(self, ref: ImageRef) -> EncryptedCopy:
        """Return the encrypted copy in curation's last record about this image."""
        records = list_encryption_records(self.evidence.read_verified(ref, TierName.CURATION, ENCRYPTION))
        copy = records[-1].value.encrypted_copy if records else None
        if copy is None or copy.plain != ref.digest:
            raise EvidenceInvalid(
                f"{ref} is confidential, and curation attests no encrypted copy of it.\n"
                "Run `cscm curate` again; it writes the copy and records how to open it."
            )
        return copy


def remove_unneeded(connect: Callable[[], Engine], host: str, repositories: Iterable[str]) -> None:
    """Remove what deployments brought of these repositories of the registry at `host` and nobody needs any more.

    An image is needed if any container is made from it, whoever created that, or if an environment would roll back to
    it. An image to which somebody gave another name stays. An image that cannot be removed stays too, and the log says
    so.
    """
    with _warn_on_failure("what deployments brought"):
        engine = connect()
        containers = engine.containers()
        needed = {c.image for c in containers} | {c.labels[PREVIOUS] for c in containers if PREVIOUS in c.labels}
        for repository in repositories:
            _remove_unneeded(engine, f"{host}/{repository}", needed, lambda pulled: f"@{pulled}")
            _remove_unneeded(engine, f"{LOADED}/{repository}", needed, lambda loaded: f":{shorten_digest(loaded)}")


def _remove_unneeded(
    engine: Engine, repository: str, needed: Collection[Digest], suffix: Callable[[Digest], str]
) -> None:
    """Remove the images of a repository that are not needed and have only the name that they came with."""
    with _warn_on_failure(f"what was brought of {repository}"):
        for digest, names in engine.names(repository).items():
            if digest not in needed and names == (f"{repository}{suffix(digest)}",):
                with _warn_on_failure(names[0]):
                    engine.forget(names[0])


@contextlib.contextmanager
def _warn_on_failure(what: str) -> Iterator[None]:
    """Log a warning if the removal in the block fails; a deployment that serves is not affected."""
    try:
        yield
    except (EngineFailed, EngineUnavailable) as error:
        log.warning("%s stays in the engine: %s", what, error)


def require_same(ref: ImageRef, image: LocalImage) -> Digest:
    """Return the image's digest if it is the requested one; raise `ImageDamaged` otherwise."""
    if image.digest != ref.digest:
        raise ImageDamaged(
            f"The engine has {image.digest} instead of {ref}.\n"
            "It is not started. An engine with the containerd image store is needed (`cscm doctor`)."
        )
    return image.digest
