"""SLSA v1 provenance of a build: development signs it for an image, and reads it before it builds again."""

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

from supply_chain.evidence.reading import read_newest_statement
from supply_chain.evidence.statement import PROVENANCE, Foreign, Predicate, VerifiedStatement
from supply_chain.model.declaration import Base, Declaration, Service
from supply_chain.model.image import BuildInputs, BuiltImage, Digest, ImageRef, Material, Source, digest_set
from supply_chain.model.tier import is_base_repository

BUILDER, HOSTED_BUILDER = "urn:cscm:builder:workstation:v1", "urn:cscm:builder:hosted:v1"
"""The identities of the builder: the engine of a person's own machine, or a host that is used for builds only
(according to its block). SLSA requires separate identities for builders of different levels."""
BUILD_TYPE = "urn:cscm:build:buildkit:v1"
TEXTS = DOCKERFILE, DECLARATION = "Dockerfile", "supply-chain.yaml"
"""Inputs of a build other than the source and images."""
_DIGEST: TypeAdapter[Digest] = TypeAdapter(Digest)


class ExternalParameters(Foreign):
    """What was requested. It contains the declaration, so that every tier can start from the digest alone."""

    source: Source
    declaration: Declaration
    dockerfile: str = Field(description="its path, as declared")


class InternalParameters(Foreign):
    """What the builder determined."""

    uncurated: tuple[str, ...] = Field(description="bases that are not from the curated repositories")
    base: str | None = Field(description="what the last stage starts from; null for scratch")


class Dependency(Foreign):
    """An input of the build (SLSA v1, "ResourceDescriptor")."""

    name: str
    uri: str | None = None
    digest: dict[str, str]
    annotations: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _names_content(self) -> Self:
        """Validate the digest, by which readers find an image, and the name of a curated base."""
        base = self.name.partition("@")[0]
        if is_base_repository(base):
            ImageRef(repository=base, digest=self.content)
        elif "sha256" in self.digest:
            _DIGEST.validate_python(self.content)
        return self

    @property
    def content(self) -> Digest:
        """Return the digest of the content; without hexadecimal digits if it is identified in another way."""
        return f"sha256:{self.digest.get('sha256', '')}"

    @model_serializer(mode="wrap")
    def _what_there_is(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {key: value for key, value in serialize(self).items() if value}


class Definition(Foreign):
    """The subject and inputs of a build (SLSA v1, "BuildDefinition"). Two that are equal are the same build."""

    build_type: str
    external_parameters: ExternalParameters
    internal_parameters: InternalParameters
    resolved_dependencies: tuple[Dependency, ...]


class Builder(Foreign):
    """The builder (SLSA v1, "Builder"), with the versions that affect a result."""

    id: str
    version: dict[str, str]


class Metadata(Foreign):
    """The run that built the image, and its times."""

    invocation_id: str
    started_on: AwareDatetime
    finished_on: AwareDatetime


class RunDetails(Foreign):
    """The builder and the run of a build."""

    builder: Builder
    metadata: Metadata


class Provenance(Predicate):
    """The predicate of `statement.PROVENANCE`."""

    build_definition: Definition
    run_details: RunDetails

    @property
    def declaration(self) -> Service | Base:
        """Return the declaration that was built."""
        return self.build_definition.external_parameters.declaration

    @property
    def source(self) -> Source:
        """Return the source that was built."""
        return self.build_definition.external_parameters.source

    @property
    def uncurated(self) -> tuple[str, ...]:
        """Return the bases that were not curated."""
        return self.build_definition.internal_parameters.uncurated

    @property
    def materials(self) -> tuple[tuple[Digest, str], ...]:
        """Return the images that went into the build, each as digest and name in the Dockerfile.

        The name proves nothing about the content.
        """
        dependencies = (
            d for d in self.build_definition.resolved_dependencies if d.name not in TEXTS and "sha256" in d.digest
        )
        return tuple((each.content, each.name) for each in dependencies if not is_url(each.name))


def make_provenance(built: BuiltImage, declaration: Service | Base) -> Provenance:
    """Return the provenance of an image that development built."""
    metadata = Metadata(invocation_id=built.invocation, started_on=built.started, finished_on=built.finished)
    return Provenance(
        build_definition=make_definition(built, declaration),
        run_details=RunDetails(builder=_builder(built), metadata=metadata),
    )


def make_definition(inputs: BuildInputs, declaration: Service | Base) -> Definition:
    """Return the definition of the build that has these inputs."""
    source, base = inputs.source, inputs.base
    return Definition(
        build_type=BUILD_TYPE,
        external_parameters=ExternalParameters(
            source=source, declaration=declaration, dockerfile=declaration.build.dockerfile
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
    """Return whether a material is a file that was fetched by its URL, not an image."""
    return name.startswith("https://")


def _builder(inputs: BuildInputs) -> Builder:
    return Builder(id=HOSTED_BUILDER if inputs.hosted else BUILDER, version=inputs.versions)


def is_of(evidence: VerifiedStatement, inputs: BuildInputs, declaration: Service | Base) -> bool:
    """Return whether the evidence is the provenance of a build from exactly these inputs, by the same builder."""
    if evidence.predicate_type != PROVENANCE:
        return False
    details = evidence.predicate.get("runDetails")
    stated = evidence.predicate.get("buildDefinition"), details.get("builder") if isinstance(details, dict) else None
    expected = make_definition(inputs, declaration), _builder(inputs)
    return stated == tuple(each.model_dump(mode="json", by_alias=True) for each in expected)


def find_last_provenance(evidence: Iterable[VerifiedStatement]) -> Provenance | None:
    """Return the provenance of the build that finished last, or None; raise `EvidenceInvalid` if it is unreadable."""
    newest = read_newest_statement(evidence, PROVENANCE, Provenance.model_validate)
    return newest.value if newest else None
