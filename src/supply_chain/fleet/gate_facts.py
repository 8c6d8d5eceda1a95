"""The facts that the inventory stores for the gates, so that other policies can judge the same images later.

They are what the rules read, joined from evidence. Waivers and the project's VEX documents are not among them, so that
a preview can apply others. A preview judges them; no gate does.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from itertools import islice
from typing import Any, Protocol

from pydantic import Field
from pydantic_core import from_json, to_json

from supply_chain.concurrency import iterate_concurrently
from supply_chain.errors import UNREADABLE, DeclarationInvalid, ImageNotFound, SettingInvalid
from supply_chain.evidence.store import EvidenceStore
from supply_chain.model.declaration import Classification
from supply_chain.model.image import Digest, ImageRef, Model, digest_of
from supply_chain.model.tier import Gate, name_gate
from supply_chain.policy.fact_schema import find_element_type, list_time_fields
from supply_chain.policy.fact_types import FACTS
from supply_chain.policy.fact_values import EvidenceValues, make_evidence_values
from supply_chain.policy.facts import EnvironmentRequirements, ImageFacts
from supply_chain.policy.loading import compute_code_digest
from supply_chain.policy.names import Holder, MinimumClassification
from supply_chain.policy.people import People
from supply_chain.policy.reading import Layers, read_deploy_facts, read_intake_facts, read_release_facts
from supply_chain.vulnerability.vex.statement import VexStatement

Requirements = Callable[[str], EnvironmentRequirements]
"""Function that returns what an environment requires; without a valid document, raises an error of `INVALID`."""

PART = 50
"""Number of subjects whose facts are stored at once."""


class GateSubject(Model):
    """What a gate judges: an image; at the deploy gate, for an environment."""

    image: ImageRef
    gate: Gate
    environment: str = Field(default="", description="empty except at the deploy gate")

    def __str__(self) -> str:
        return f"{self.image} at the {self.gate_name}"

    @property
    def gate_name(self) -> str:
        """The name of the gate for people."""
        return name_gate(self.gate, self.environment)


@dataclass(frozen=True)
class StoredFacts:
    """The facts of a gate about an image, as they were read from evidence."""

    subject: GateSubject
    mark: str
    """The mark of the image's entry when they were read."""
    version: str
    """What they depend on besides evidence: see `compute_facts_version`."""
    values: EvidenceValues
    """What they are."""


@dataclass(frozen=True)
class SubjectState:
    """What an inventory has of a subject."""

    subject: GateSubject
    mark: str
    """The mark of the image's entry; empty if the entry has to be read again."""
    version: str
    """The version of the stored facts; empty if there are none that belong to this entry."""


class FactsStore(Protocol):
    """A store of the facts of gates; a part of the port `fleet.inventory.Inventory`."""

    def list_subjects(self, application: str | None = None) -> tuple[SubjectState, ...]:
        """Return what gates judge of all applications or of one, by application, digest and gate.

        That is images that the intake gate judged, curated images in the registry, and what should run.
        """

    def put_facts(self, facts: Iterable[StoredFacts]) -> None:
        """Store facts in place of earlier ones, but for those whose image's entry has another mark by now."""

    def read_facts(self, subjects: Iterable[GateSubject]) -> Iterator[StoredFacts]:
        """Yield the facts of these subjects that are stored; read in parts to limit memory."""


def compute_facts_version(
    environment: str, requirements: Requirements, people: People, minimum_classification: Classification | None
) -> Digest:
    """Return a digest of what the facts of a subject in an environment, if any, depend on besides evidence.

    That is the code that joins them, the issuers and builders of what is attached, the lowest classification that may
    be declared, what the environment requires, and the people who may approve. Raise `DeclarationInvalid` or
    `SettingInvalid` without a valid document of the environment.
    """
    required = f"{requirements(environment)!r}\n{people.version}" if environment else ""
    classification = minimum_classification or ""
    return digest_of(f"{compute_code_digest()}\n{people.attached_version}\n{classification}\n{required}".encode())


@dataclass(frozen=True)
class FactsReader:
    """Reads the facts of gates from evidence, as the gates do."""

    store: EvidenceStore
    layers: Layers
    bases: Callable[[], Sequence[ImageRef]]
    """Function that returns the images in the curated base repositories, including archived ones."""
    curated: Callable[[str], Sequence[ImageRef]]
    """Function that returns the curated images of an application, the last one first."""
    registered: Callable[[str], Holder | None]
    """Function that returns the registered holder of an application's name."""
    minimum_classification: MinimumClassification
    requirements: Requirements
    people: People
    """The people, issuers and builders whose signatures count."""
    now: Callable[[], datetime]

    def read(self, subject: GateSubject) -> EvidenceValues:
        """Return the facts of a subject; raise the errors of evidence and registry."""
        return make_evidence_values(self._read(subject), self.people, self.now())

    def _read(self, subject: GateSubject) -> ImageFacts:
        image = subject.image
        if subject.gate is Gate.INTAKE:
            of = image.application
            return read_intake_facts(image, self.store, self.curated(of), self.registered(of))
        minimum = self.minimum_classification(image.application)
        if subject.gate is Gate.RELEASE:
            return read_release_facts(image, self.store, self.layers, self.bases(), minimum)
        required = self.requirements(subject.environment)
        return read_deploy_facts(image, required, self.store, bases=self.bases(), minimum_classification=minimum)


def refresh_facts(application: str | None, inventory: FactsStore, reader: FactsReader) -> dict[GateSubject, str]:
    """Read and store the facts of one application, or of all, that are missing; return subject → why it failed.

    An image whose entry has to be read again is left out. Raises the registry's errors.
    """
    requirements = cache(reader.requirements)
    outdated, failed = list[tuple[SubjectState, str]](), dict[GateSubject, str]()
    for state in inventory.list_subjects(application):
        try:
            minimum = reader.minimum_classification(state.subject.image.application)
            version = compute_facts_version(state.subject.environment, requirements, reader.people, minimum)
        except (DeclarationInvalid, SettingInvalid) as error:
            failed[state.subject] = str(error)
        else:
            if state.mark and state.version != version:
                outdated.append((state, version))

    def read(each: tuple[SubjectState, str]) -> StoredFacts | str:
        state, version = each
        try:
            return StoredFacts(state.subject, state.mark, version, reader.read(state.subject))
        except (ImageNotFound, *UNREADABLE) as error:
            return str(error)

    results = zip(outdated, iterate_concurrently(read, outdated), strict=True)
    while part := list(islice(results, PART)):
        inventory.put_facts(facts for _, facts in part if isinstance(facts, StoredFacts))
        failed |= {state.subject: why for (state, _), why in part if isinstance(why, str)}
    return failed


def encode_facts(values: EvidenceValues) -> bytes:
    """Return facts as compressed JSON."""
    return zlib.compress(to_json(vars(values)))


def decode_facts(content: bytes, gate: Gate) -> EvidenceValues:
    """Return the facts that were encoded."""
    stored = from_json(zlib.decompress(content), cache_strings="keys")
    return EvidenceValues(
        image=_restore_times(stored["image"], FACTS[gate]),
        packages=tuple((kind, name, purl) for kind, name, purl in stored["packages"]),
        attached=tuple(map(VexStatement.model_validate, stored["attached"])),
    )


def _restore_times(value: Any, kind: Any) -> Any:
    """Put times in place of their texts in a value of a type of facts, and return it."""
    if kind is datetime:
        return datetime.fromisoformat(value)
    if (element := find_element_type(kind)) is not kind:
        value[:] = [_restore_times(each, element) for each in value]
        return value
    for name, field in list_time_fields(kind):
        if name in value:
            value[name] = _restore_times(value[name], field)
    return value
