"""SLSA v1 provenance of a build: what development signs about an image, and reads back before it builds again."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Self

from pydantic import (
    AwareDatetime,
    Field,
    SerializerFunctionWrapHandler,
    TypeAdapter,
    model_serializer,
    model_validator,
)

from supply_chain.evidence.reading import newest
from supply_chain.evidence.statement import PROVENANCE, Evidence, Foreign, Predicate
from supply_chain.model.image import BuildInputs, BuiltImage, Digest, ImageRef, Material, Source, digest_set
from supply_chain.model.manifest import AppManifest, Base, Service
from supply_chain.model.tier import is_base_repository

BUILDER, HOSTED_BUILDER = "urn:cscm:builder:workstation:v1", "urn:cscm:builder:hosted:v1"
"""What builds: the engine of somebody's own machine, or of a host that is there for builds alone (its block says so).
SLSA wants another identity for what earns another level."""
BUILD_TYPE = "urn:cscm:build:buildkit:v1"
TEXTS = DOCKERFILE, DECLARATION = "Dockerfile", "supply-chain.yaml"
"""What a build takes in besides the source and images."""
_DIGEST: TypeAdapter[Digest] = TypeAdapter(Digest)


class ExternalParameters(Foreign):
    """What was asked for. The declaration travels in it, so that any tier can start from the digest alone."""

    source: Source
    declaration: AppManifest
    dockerfile: str = Field(description="its path, as declared")


class InternalParameters(Foreign):
    """What the builder found out."""

    uncurated: tuple[str, ...] = Field(description="bases that are not from the curated repositories")
    base: str | None = Field(description="what the last stage starts from; null for scratch")


class Dependency(Foreign):
    """What the build took in (SLSA v1, "ResourceDescriptor")."""

    name: str
    uri: str | None = None
    digest: dict[str, str]
    annotations: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _names_content(self) -> Self:
        """Who reads this looks an image up by it; a curated base has to be one by its name too."""
        base = self.name.partition("@")[0]
        if is_base_repository(base):
            ImageRef(repository=base, digest=self.content)
        elif "sha256" in self.digest:
            _DIGEST.validate_python(self.content)
        return self

    @property
    def content(self) -> Digest:
        """Of which content it is; empty hexadecimal digits where it is named by something else."""
        return f"sha256:{self.digest.get('sha256', '')}"

    @model_serializer(mode="wrap")
    def _what_there_is(self, whole: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {key: value for key, value in whole(self).items() if value}


class Definition(Foreign):
    """What was to be built from what (SLSA v1, "BuildDefinition"). Two that are equal are the same build."""

    build_type: str
    external_parameters: ExternalParameters
    internal_parameters: InternalParameters
    resolved_dependencies: tuple[Dependency, ...]


class Builder(Foreign):
    """Who built (SLSA v1, "Builder"), with the versions that a result depends on."""

    id: str
    version: dict[str, str]


class Metadata(Foreign):
    """Which run built it, and when."""

    invocation_id: str
    started_on: AwareDatetime
    finished_on: AwareDatetime


class RunDetails(Foreign):
    """How it was built."""

    builder: Builder
    metadata: Metadata


class Provenance(Predicate):
    """The predicate of `statement.PROVENANCE`."""

    build_definition: Definition
    run_details: RunDetails

    @property
    def manifest(self) -> Service | Base:
        """The declaration that was built."""
        return self.build_definition.external_parameters.declaration

    @property
    def source(self) -> Source:
        """The revision that was built."""
        return self.build_definition.external_parameters.source

    @property
    def uncurated(self) -> tuple[str, ...]:
        """The bases that were not curated."""
        return self.build_definition.internal_parameters.uncurated

    @property
    def materials(self) -> tuple[tuple[Digest, str], ...]:
        """The images that went in: what each is, and how the Dockerfile calls it. No name is believed to tell more."""
        found = (d for d in self.build_definition.resolved_dependencies if d.name not in TEXTS and "sha256" in d.digest)
        return tuple((each.content, each.name) for each in found if not is_url(each.name))


def provenance(built: BuiltImage, manifest: Service | Base) -> Provenance:
    """What development says of an image that it built."""
    metadata = Metadata(invocation_id=built.invocation, started_on=built.started, finished_on=built.finished)
    return Provenance(
        build_definition=definition(built, manifest),
        run_details=RunDetails(builder=_builder(built), metadata=metadata),
    )


def definition(inputs: BuildInputs, manifest: Service | Base) -> Definition:
    """The build that these inputs make."""
    source, base = inputs.source, inputs.base
    return Definition(
        build_type=BUILD_TYPE,
        external_parameters=ExternalParameters(
            source=source, declaration=manifest, dockerfile=manifest.build.dockerfile
        ),
        internal_parameters=InternalParameters(uncurated=inputs.uncurated, base=base.name if base else None),
        resolved_dependencies=(
            Dependency(
                name="source",
                uri=f"git+{source.repository}",
                digest={"gitCommit": source.revision},
                annotations={"dirty": source.dirty},
            ),
            Dependency(name=DOCKERFILE, digest=digest_set(inputs.dockerfile)),
            Dependency(name=DECLARATION, digest=digest_set(inputs.declaration)),
            *(_dependency(material) for material in inputs.materials),
        ),
    )


def _dependency(material: Material) -> Dependency:
    if is_url(material.name):
        return Dependency(name=material.name, uri=material.name, digest=digest_set(material.digest))
    return Dependency(name=material.name, digest=digest_set(material.digest), annotations={"curated": material.curated})


def is_url(name: str) -> bool:
    """Whether a material is a file that was fetched by its URL, rather than an image."""
    return name.startswith("https://")


def _builder(inputs: BuildInputs) -> Builder:
    return Builder(id=HOSTED_BUILDER if inputs.hosted else BUILDER, version=inputs.versions)


def is_of(evidence: Evidence, inputs: BuildInputs, manifest: Service | Base) -> bool:
    """Whether it is the provenance of a build from exactly these inputs, by the same builder, and says no more."""
    if evidence.predicate_type != PROVENANCE:
        return False
    details = evidence.predicate.get("runDetails")
    said = evidence.predicate.get("buildDefinition"), details.get("builder") if isinstance(details, dict) else None
    wanted = definition(inputs, manifest), _builder(inputs)
    return said == tuple(each.model_dump(mode="json", by_alias=True) for each in wanted)


def last_provenance(evidence: Iterable[Evidence]) -> Provenance | None:
    """The provenance of the build that finished last; None without any. `EvidenceInvalid`."""
    found = newest(evidence, PROVENANCE, Provenance.model_validate)
    return found.value if found else None
