"""The administration of the registry in memory, with the methods of `adapters.aws.ecr.Ecr`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from supply_chain.errors import AwsFailed, ImageNotFound
from supply_chain.lifecycle.snapshot import INDEXES
from supply_chain.model.image import ATTACHED, Digest, ImageRef, Removal, StorageStatus, StoredManifest
from tests.support.memory_registry import MemoryRegistry, MemoryRepository, children_of

ACTIVE, ARCHIVED, ACTIVATING = StorageStatus.ACTIVE, StorageStatus.ARCHIVED, StorageStatus.ACTIVATING


@dataclass
class MemoryEcr:
    """ECR on a registry in memory. `finish_restores` ends what `restore` begins."""

    registry: MemoryRegistry = field(default_factory=MemoryRegistry)
    host: str = "registry.test"

    # repositories

    def ensure_repository(self, repository: str, *, immutable: bool, key: str | None) -> None:
        self.registry.repositories.setdefault(repository, MemoryRepository(immutable, key))

    def encryption(self, repository: str) -> tuple[str, str | None]:
        key = self._repository(repository).key
        return ("KMS", key) if key else ("AES256", None)

    def is_immutable(self, repository: str) -> bool:
        return self._repository(repository).immutable

    def repositories(self, prefix: str) -> tuple[str, ...]:
        return tuple(sorted(name for name in list(self.registry.repositories) if name.startswith(prefix)))

    # lists

    def images(self, repository: str) -> tuple[StoredManifest, ...]:
        return tuple(self._newest_first(repository))

    def list_pushes(self, repository: str) -> tuple[tuple[Digest, datetime], ...]:
        return tuple((each.digest, each.pushed_at) for each in self._newest_first(repository) if each.status is ACTIVE)

    def list_newest_first(
        self, repository: str, tag_prefix: str = "", *, archived: bool = False
    ) -> tuple[ImageRef, ...]:
        return tuple(
            ImageRef(repository=repository, digest=each.digest)
            for each in self._newest_first(repository)
            if (archived or each.status is ACTIVE)
            and any(tag.startswith(tag_prefix) and not tag.startswith(ATTACHED) for tag in each.tags)
        )

    def find_by_digest(self, begins: str, prefix: str) -> tuple[ImageRef, ...]:
        return tuple(
            ImageRef(repository=repository, digest=each.digest)
            for repository in self.repositories(prefix)
            for each in self._newest_first(repository)
            if each.digest.startswith(begins)
        )

    # images

    def status(self, ref: ImageRef) -> StorageStatus:
        return self._stored(ref).status

    def archive(self, ref: ImageRef) -> None:
        """Archive an image, unless an index that can be pulled lists it or it is being restored."""
        if self.status(ref) is ARCHIVED:
            return
        if self.status(ref) is ACTIVATING or self._indexes(ref, lambda index: index.status is ACTIVE):
            raise AwsFailed(f"{ref} cannot be archived now.\nLook at its status and at the indexes that list it.")
        self.registry.change(ref, status=ARCHIVED, archived_at=self.registry.clock())

    def restore(self, ref: ImageRef) -> StorageStatus:
        if self.status(ref) is ARCHIVED:
            self.registry.change(ref, status=ACTIVATING)
        return self.status(ref)

    def finish_restores(self) -> None:
        """Make active what is being restored."""
        for ref in self.registry.refs():
            if self.status(ref) is ACTIVATING:
                self.registry.change(ref, status=ACTIVE, restored_at=self.registry.clock())

    def delete(self, repository: str, digests: Sequence[Digest]) -> tuple[Removal, ...]:
        self._repository(repository)
        unique = dict.fromkeys(digests)
        return tuple(self._delete(ImageRef(repository=repository, digest=digest)) for digest in unique)

    def _delete(self, ref: ImageRef) -> Removal:
        code = None
        if ref not in self.registry.refs(ref.repository):
            code = "ImageNotFound"
        elif self._indexes(ref):
            code = "ImageReferencedByManifestList"
        else:
            self.registry.remove(ref)
        return Removal(name=ref.digest, code=code, reason=code and "because")

    def _indexes(self, ref: ImageRef, which: Callable[[StoredManifest], bool] = lambda _: True) -> list[Digest]:
        """Return the indexes in its repository that list an image."""
        repository = self._repository(ref.repository)
        return [
            each.digest
            for each in repository.listed()
            if each.media_type in INDEXES
            and which(each)
            and ref.digest in children_of(repository.contents[each.digest])
        ]

    def _newest_first(self, repository: str) -> list[StoredManifest]:
        listed = self.registry.repositories.get(repository, MemoryRepository()).listed()
        return sorted(listed, key=lambda each: each.pushed_at, reverse=True)

    def _repository(self, repository: str) -> MemoryRepository:
        try:
            return self.registry.repositories[repository]
        except KeyError:
            raise ImageNotFound(f"The registry has no {repository}.\nCheck the reference.") from None

    def _stored(self, ref: ImageRef) -> StoredManifest:
        try:
            return self._repository(ref.repository).manifests[ref.digest]
        except KeyError:
            raise ImageNotFound(f"The registry has no {ref}.\nCheck the reference.") from None
