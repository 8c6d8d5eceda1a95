"""Promotions in a repository that no record names, because their run was killed or lost its connection. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

from supply_chain.errors import DeclarationInvalid
from supply_chain.execution.delivery.images import ImageFile
from supply_chain.execution.delivery.repository import FileChange
from supply_chain.model.image import Digest


@dataclass(frozen=True)
class Unrecorded:
    """The promotions of a file that no record names, and the file before them.

    `promotions` are their commits, the newest first, with the digest that each set.
    """

    before: bytes
    promotions: Mapping[str, Digest] = field(default_factory=dict)

    def add(self, commit: str, digest: Digest) -> Unrecorded:
        """Return these and a newer one."""
        return replace(self, promotions={commit: digest, **self.promotions})

    def revert(self, file: ImageFile, content: bytes) -> bytes:
        """Return the file without these promotions, and with what else was changed; unchanged if that is impossible.

        A digest that somebody else committed since stays.
        """
        (now, *more), earlier = file.read_digests(content), file.read_digests(self.before)
        if more or now not in self.promotions.values():
            return content
        if file.set_digest(self.before, now) == content:
            return self.before
        return file.set_digest(content, earlier[0]) if len(earlier) == 1 and earlier[0] else content


def find_unrecorded(file: ImageFile, changes: Sequence[FileChange], recorded: Digest) -> Unrecorded:
    """Return the newest promotions that are not recorded; `changes` are those of the file, the newest first.

    A promotion is a commit that the chain signed, whose message names the digest that the file has since then. The last
    `recorded` digest, empty if none is, ends them, as does a digest that somebody else committed.
    """
    unrecorded = Unrecorded(changes[0].revision.content)
    for change, earlier in pairwise(changes):
        digests = _read_digests(file, change)
        if digests == (recorded,):
            break
        if digests == _read_digests(file, earlier):
            continue
        if not _is_promotion(file, change, digests):
            break
        promotions = {**unrecorded.promotions, change.revision.commit: digests[0]}
        unrecorded = Unrecorded(earlier.revision.content, promotions)
    return unrecorded


def _read_digests(file: ImageFile, change: FileChange) -> tuple[Digest, ...]:
    try:
        return file.read_digests(change.revision.content)
    except DeclarationInvalid:  # somebody added the image to the file later
        return ()


def _is_promotion(file: ImageFile, change: FileChange, digests: Sequence[Digest]) -> bool:
    return change.signed and len(digests) == 1 and file.describe(digests[0]) in change.message.splitlines()
