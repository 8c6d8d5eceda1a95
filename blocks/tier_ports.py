"""What the steps of every tier use: registry, evidence and tools, with the tier's credentials."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import cache, cached_property, partial
from pathlib import Path
from typing import ClassVar, Self

from blocks.layers import layers_of
from blocks.tier import Tier
from blocks.workbench import Workbench
from orchestration.clock import read_clock
from supply_chain.adapters.aws.ecr import Ecr
from supply_chain.adapters.image.layers import examine_image
from supply_chain.adapters.image.packages import PackageSources
from supply_chain.adapters.registry.client import Registry
from supply_chain.adapters.registry.upstream_manifests import LayersByManifest, read_manifests
from supply_chain.adapters.tools.cosign import Cosign
from supply_chain.adapters.tools.crane import Crane, read_upstream_config, read_upstream_manifests
from supply_chain.adapters.tools.skopeo import Skopeo
from supply_chain.adapters.tools.syft import Syft
from supply_chain.development.bases import CuratedBases
from supply_chain.evidence.image_status import DIGESTS
from supply_chain.evidence.published import PublishedVerdicts
from supply_chain.evidence.store import EvidenceStore
from supply_chain.model.declaration import list_bases
from supply_chain.model.image import Digest, ImageRef, list_blobs
from supply_chain.model.tier import BASES, Gate, TierName, name_curated_repository
from supply_chain.policy.facts import F
from supply_chain.policy.policies import GatePolicy
from supply_chain.policy.reading import Layers
from supply_chain.policy.rejudge import VerdictPorts
from supply_chain.vulnerability.scanner import SbomGenerator


@dataclass(frozen=True, eq=False)
class TierPorts:
    """The dependencies of a tier's steps, built from the tier's block and the workbench."""

    name: ClassVar[TierName]
    tier: Tier
    workbench: Workbench

    @classmethod
    async def aload(cls) -> Self:
        """Load the blocks; raise `SettingInvalid` if one does not exist or is invalid."""
        return cls(*await cls._load())

    @classmethod
    async def _load(cls) -> tuple[Tier, Workbench]:
        return await asyncio.gather(Tier.aload(cls.name.value), Workbench.aload("workbench"))

    @property
    def repositories(self) -> Ecr:
        """The registry's repositories, through ECR's API."""
        return self.tier.ecr

    @property
    def registry(self) -> Registry:
        """The registry's content."""
        return self.tier.http

    @property
    def cosign(self) -> Cosign:
        """cosign, which signs with the tier's key and uses registry and KMS in its role."""
        return self._cosign(self.tier.signing_key)

    def _cosign(self, key: str) -> Cosign:
        return Cosign(
            self.workbench.tool("cosign"), f"awskms:///{key}", *self._access, self.tier.session.environment
        )  # fmt: skip

    @cached_property
    def evidence(self) -> EvidenceStore:
        """The evidence as the tier sees it."""
        store = self._store(self.tier.signing_key, self.tier.trusted_keys)
        if self.tier.verdict_key:
            store = replace(store, publisher=PublishedVerdicts(self.verdicts, self.repositories))
        if self.workbench.lifting_decisions == "any":
            return store
        people = cache(self.workbench.people)
        return replace(store, explain_uncounted=lambda *about: people().explain_uncounted_lift(*about))

    @cached_property
    def verdicts(self) -> EvidenceStore:
        """The published verdicts as the tier sees them: only the keys for them are trusted."""
        return self._store(self.tier.verdict_key or "", self.tier.verdict_keys)

    def verdict_ports(self, gate: Gate, policy: Callable[[], GatePolicy[F]]) -> VerdictPorts[F]:
        """Return what judging again at a gate uses; `policy` returns the gate's active policies."""
        return VerdictPorts(
            gate, self.evidence, self.verdicts, self.repositories, policy, self.list_base_images, read_clock
        )

    def _store(self, key: str, trusted_keys: Mapping[str, str]) -> EvidenceStore:
        trusted = {TierName(name): key for name, key in trusted_keys.items()}
        return EvidenceStore(TierName(self.tier.tier), self.registry, self._cosign(key), trusted, read_clock)

    @property
    def crane(self) -> Crane:
        """crane, with the role's credentials for the registry."""
        return Crane(self.workbench.tool("crane"), *self._access)

    @property
    def package_sources(self) -> PackageSources:
        """What the packages in images are compared with."""
        workbench = self.workbench
        return PackageSources(
            workbench.python_index, workbench.debian_archive, workbench.npm_registry, self._count_base_layers
        )

    def _count_base_layers(self, layers: Sequence[Digest]) -> int:
        return self.bases.count_layers(layers)

    @property
    def sbom_generator(self) -> SbomGenerator:
        """The SBOM generator, with the role's credentials for the registry."""
        examine = partial(examine_image, self.registry, sources=self.package_sources)
        return Syft(self.workbench.tool("syft"), *self._access, examine=examine)

    @property
    def skopeo(self) -> Skopeo:
        """skopeo, with the role's credentials for the registry."""
        return Skopeo(self.workbench.tool("skopeo"), *self._access)

    @property
    def _access(self) -> tuple[str, Callable[[], AbstractContextManager[Path]], bool]:
        return self.tier.registry, self.repositories.docker_config, self.tier.insecure_registry

    @property
    def bases(self) -> CuratedBases:
        """The internal base images, as the tier can read and verify them."""
        workbench = self.workbench
        return CuratedBases(
            self.repositories, self.evidence, self.tier.registry, workbench.bases, self._read_config,
            self._read_manifests, self.layers, self.list_decided_bases, workbench.registries,
            list_bases(Path(workbench.project)),
        )  # fmt: skip

    def _read_config(self, address: str, platform: str) -> bytes:
        """Return the configuration of an image, from this chain's registry or another one."""
        host, _, rest = address.partition("/")
        if host != self.tier.registry:
            return read_upstream_config(self.workbench.tool("crane"), address, platform)
        ref = ImageRef.parse(rest)
        return self.registry.blob(ref.repository, list_blobs(self.registry.manifest(ref), ref)[0].digest)

    def _read_manifests(self, address: str, platform: str | None) -> LayersByManifest:
        """Return the layers of each manifest of an image, from this chain's registry or another one."""
        host, _, rest = address.partition("/")
        if host != self.tier.registry:
            return read_upstream_manifests(self.workbench.tool("crane"), address, platform)
        image = ImageRef.parse(rest)
        return read_manifests(
            lambda digest: self.registry.read_manifest_text(image.model_copy(update={"digest": digest})),
            address,
            platform,
        )

    def list_decided_bases(self) -> list[ImageRef]:
        """Return the images of internal bases that were ever blocked, archived ones too."""
        decided = {subject for each in self.repositories.images(DIGESTS) for subject in each.subjects}
        return [base for base in self.list_base_images() if base.digest in decided] if decided else []

    def layers(self) -> Layers:
        """Return a function that returns an image's layers."""
        return layers_of(self.registry, self.evidence, self.workbench.content_cache)

    def list_base_images(self) -> list[ImageRef]:
        """Return every image of an internal base, also archived ones; the newest image of each base comes first."""
        return [
            ImageRef(repository=repository, digest=each.digest)
            for repository in self.repositories.repositories(f"{BASES}/")
            for each in self.repositories.images(repository)
            if each.subject is None
        ]

    def list_curated_images(self, application: str) -> list[ImageRef]:
        """Return the images with an application's name, newest first; archived ones also hold the name."""
        repository = name_curated_repository(application)
        images = self.repositories.images(repository)
        return [ImageRef(repository=repository, digest=each.digest) for each in images if each.tags]
