"""Base images by digest: curated ones that curation's last verdict admits and nobody blocks, or a profile's."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from supply_chain.errors import BaseMissing
from supply_chain.evidence.standing import read_standing, standing
from supply_chain.evidence.statement import SIGNATURE, SUMMARY
from supply_chain.evidence.store import EvidenceStore
from supply_chain.evidence.summary import is_vended
from supply_chain.image import DIGEST, Digest, ImageRef, Material
from supply_chain.tier import BASES, TierName, is_base_repository

PINNED = re.compile(rf"^(?P<name>[^@$\s]+)@(?P<digest>{DIGEST})$")


class Catalogue(Protocol):
    """What a repository holds."""

    def newest_first(self, repository: str) -> tuple[ImageRef, ...]: ...


@dataclass(frozen=True)
class CuratedBases:
    """Resolves the names in a Dockerfile.

    `instead` maps a curated base's name to an upstream image by digest, as a profile may ask;
    `upstream` asks another registry for the digest of a tag, or raises `BaseMissing`.
    """

    catalogue: Catalogue
    evidence: EvidenceStore
    host: str
    instead: Mapping[str, str]
    upstream: Callable[[str], Digest]

    def resolve(self, name: str) -> tuple[str, Material]:
        """See `development.build.Bases`."""
        if "$" in name:
            raise BaseMissing(
                f"The Dockerfile names a base by a variable: {name}.\nWrite the name itself, so that it can be pinned."
            )
        if name in self.instead:
            return self._pinned(name, self.instead[name])
        if is_base_repository(name):
            return self.curated(name)
        if PINNED.match(name):
            return self._pinned(name, name)
        return self._pinned(name, f"{name.partition('@')[0]}@{self.upstream(name)}")

    def curated(self, name: str) -> tuple[str, Material]:
        """The newest one that curation admits; where `name` has a digest, that one. `BaseMissing` otherwise."""
        repository, at, digest = name.partition("@")
        for ref in self.catalogue.newest_first(repository):
            if (not at or ref.digest == digest) and self._admitted(ref):
                return f"{self.host}/{ref}", Material(name=name, digest=ref.digest, curated=True)
        raise BaseMissing(self._why(name, repository))

    def _why(self, name: str, repository: str) -> str:
        newest = next(iter(self.catalogue.newest_first(repository)), None)
        block = standing(read_standing(newest, self.evidence).evidence).block if newest else None
        if newest and block:
            return (
                f"There is no curated image {name} that may be used: the newest, {newest}, is blocked {block}\n"
                "Use a newer base, or let whoever blocked it lift that: `cscm unblock`."
            )
        called = repository.removeprefix(f"{BASES}/")
        return (
            f"There is no curated image {name}.\n"
            f"Make it with `cscm bases {called}`, or name an upstream image by digest for it in the profile."
        )

    def _pinned(self, name: str, address: str) -> tuple[str, Material]:
        match = PINNED.match(address)
        if not match:
            raise BaseMissing(f"{address} does not name {name} by digest.\nWrite image@sha256:… in the profile.")
        return address, Material(name=name, digest=match["digest"], curated=False)

    def _admitted(self, ref: ImageRef) -> bool:
        vended = is_vended(self.evidence.verified(ref, TierName.CURATION, SUMMARY, SIGNATURE), ref.digest)
        return vended and standing(read_standing(ref, self.evidence).evidence).block is None
