"""Dossiers: what is known of an image, read from its verified evidence and from nothing else."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

from pydantic import AwareDatetime, TypeAdapter

from supply_chain.app import MANIFEST, Base, Service
from supply_chain.errors import EvidenceInvalid
from supply_chain.evidence.checks import CheckResult, newest_results
from supply_chain.evidence.inventory import Package, packages_in, system_packages
from supply_chain.evidence.reading import is_signed, parsed
from supply_chain.evidence.statement import (
    PROVENANCE,
    SBOM,
    SUMMARY,
    Evidence,
)
from supply_chain.evidence.store import EvidenceStore
from supply_chain.image import Candidate, CuratedImage, Digest, ImageRef, ScannedImage, Source
from supply_chain.policy.gate import Dossier
from supply_chain.policy.names import Holder
from supply_chain.tier import TierName, evidence_repository
from supply_chain.vulnerability.findings import Report
from supply_chain.vulnerability.reports import last_report

Layers = Callable[[ImageRef], tuple[Digest, ...]]
"""The layers of an image, as the registry's manifest lists them."""
INSTANT: TypeAdapter[datetime] = TypeAdapter(AwareDatetime)
NAMES: TypeAdapter[tuple[str, ...]] = TypeAdapter(tuple[str, ...])
UNKNOWN_SOURCE = Source(path=".", repository="unknown", revision="none", dirty=True)


def candidate(
    ref: ImageRef, store: EvidenceStore, curated_before: Sequence[ImageRef], registered: Holder | None
) -> Dossier[Candidate]:
    """At boundary 1: what development's key says of an image in `dev/*`.

    `curated_before` are the images in the application's curated repository, the last one first;
    `registered` is what the platform's owner wrote down for the name.
    """
    reading = store.read(ref)
    evidence = reading.by(TierName.DEVELOPMENT)
    first = holder(curated_before, store)
    return Dossier(
        image=Candidate(ref=ref, source=source_in(evidence), evidence=tuple(e.digest for e in evidence)),
        ref=ref,
        evidence=evidence,
        left_out=reading.notes(),
        holder=registered.over(first) if registered else first,
        **_development(evidence),
    )


def holder(curated_before: Sequence[ImageRef], store: EvidenceStore) -> Holder | None:
    """Who holds a name: the builder of the last image that curation signed under it."""
    for ref in curated_before:
        reading = store.read(ref)
        if not is_signed(reading.evidence):
            continue
        evidence = reading.by(TierName.DEVELOPMENT)
        manifest, source = manifest_in(evidence), source_in(evidence)
        if manifest is not None:
            return Holder(kind=manifest.kind, owner=manifest.owner, repository=source.repository, path=source.path)
    return None


def scanned(
    image: ScannedImage, store: EvidenceStore, layers: Layers, bases: Sequence[ImageRef]
) -> Dossier[ScannedImage]:
    """At curation's own gate: development's word, and what curation found since.

    `bases` are the images in the curated base repositories: which of them an image begins with is seen in
    its layers, whatever its Dockerfile called them.
    """
    ref = image.encrypted.stored.ref
    reading = store.read(ref)
    development, own = reading.by(TierName.DEVELOPMENT), reading.by(TierName.CURATION)
    inventory, below = packages_in(own, store.referrers.content), _below(ref, bases, layers)
    return Dossier(
        image=image,
        ref=ref,
        evidence=(*development, *own),
        left_out=reading.notes(),
        report=newest_report(own),
        signed=is_signed(own),
        inventory=inventory,
        inherited=frozenset().union(*(_system_packages(base, store) for base in below)),
        built_with=_built_with(development, below, bases, inventory or frozenset(), store),
        **_development(development),
    )


def _below(ref: ImageRef, bases: Sequence[ImageRef], layers: Layers) -> list[ImageRef]:
    """The curated bases whose layers the image begins with."""
    own = layers(ref)
    return [base for base in bases if base.digest != ref.digest and _begins(own, layers(base))]


def _built_with(
    development: Sequence[Evidence],
    below: Sequence[ImageRef],
    bases: Sequence[ImageRef],
    inventory: frozenset[Package],
    store: EvidenceStore,
) -> tuple[str, ...]:
    """The curated bases of its build that it does not begin with, but for those whose packages it lists all."""
    known = {base.digest: base for base in bases}
    used = {digest: name for digest, name in curated_in(development) if digest not in {base.digest for base in below}}
    listed = {digest for digest in used if digest in known and _system_packages(known[digest], store) <= inventory}
    return tuple(sorted(name for digest, name in used.items() if digest not in listed))


def _begins(layers: tuple[Digest, ...], below: tuple[Digest, ...]) -> bool:
    return bool(below) and layers[: len(below)] == below


def _system_packages(base: ImageRef, store: EvidenceStore) -> frozenset[Package]:
    packages = packages_in(store.verified(base, TierName.CURATION, SBOM), store.referrers.content)
    if packages is None:
        raise EvidenceInvalid(
            f"The base {base} has no SBOM that curation signed.\n"
            "Curate it again with `cscm bases --fresh`, and build anew."
        )
    return system_packages(packages)


def curated(ref: ImageRef, tag: str, environment: str, store: EvidenceStore, now: datetime) -> Dossier[CuratedImage]:
    """At boundary 2: everything that both tiers before have signed."""
    reading = store.read(ref)
    refusals = store.read(ref.moved_to(evidence_repository(TierName.CURATION, ref.application)))
    development, curation = reading.by(TierName.DEVELOPMENT), reading.by(TierName.CURATION)
    elsewhere = refusals.by(TierName.CURATION)
    return Dossier(
        image=CuratedImage(ref=ref, tag=tag, source=source_in(development)),
        ref=ref,
        evidence=(*development, *curation, *elsewhere),
        left_out=(*reading.notes(), *refusals.notes()),
        report=newest_report(curation),
        signed=is_signed(curation),
        inventory=packages_in(curation, store.referrers.content),
        summaries=tuple(e.predicate for e in (*curation, *elsewhere) if e.predicate_type == SUMMARY),
        environment=environment,
        now=now,
        **_development(development),
    )


def _development(evidence: Sequence[Evidence]) -> dict[str, Any]:
    return {
        "manifest": manifest_in(evidence),
        "checks": checks_in(evidence),
        "source_report": newest_report(evidence),
        "uncurated": uncurated_in(evidence),
        "dirty": source_in(evidence).dirty,
        "source": source_in(evidence) if newest_provenance(evidence) is not None else None,
    }


def newest_provenance(evidence: Sequence[Evidence]) -> dict[str, Any] | None:
    """The provenance whose build finished last, as its signed statement says."""
    found = [e.predicate for e in evidence if e.predicate_type == PROVENANCE]
    return max(found, key=_finished, default=None)


def _finished(provenance: dict[str, Any]) -> datetime:
    return parsed(lambda: INSTANT.validate_python(provenance["runDetails"]["metadata"]["finishedOn"]), "provenance")


def manifest_in(evidence: Sequence[Evidence]) -> Service | Base | None:
    """The declaration in the newest provenance; None without provenance."""
    provenance = newest_provenance(evidence)
    if provenance is None:
        return None
    return parsed(
        lambda: MANIFEST.validate_python(provenance["buildDefinition"]["externalParameters"]["declaration"]),
        "declaration",
    )


def source_in(evidence: Sequence[Evidence]) -> Source:
    """The revision in the newest provenance."""
    provenance = newest_provenance(evidence)
    if provenance is None:
        return UNKNOWN_SOURCE
    return parsed(
        lambda: Source.model_validate(provenance["buildDefinition"]["externalParameters"]["source"]), "source"
    )


def uncurated_in(evidence: Sequence[Evidence]) -> tuple[str, ...]:
    """The bases in the newest provenance that were not curated."""
    provenance = newest_provenance(evidence)
    if provenance is None:
        return ()
    return parsed(
        lambda: NAMES.validate_python(provenance["buildDefinition"]["internalParameters"]["uncurated"]), "provenance"
    )


def curated_in(evidence: Sequence[Evidence]) -> tuple[tuple[Digest, str], ...]:
    """The curated bases in the newest provenance: what each is and how the Dockerfile calls it."""
    provenance = newest_provenance(evidence)
    if provenance is None:
        return ()
    return parsed(
        lambda: tuple(
            (f"sha256:{each['digest']['sha256']}", str(each["name"]))
            for each in provenance["buildDefinition"]["resolvedDependencies"]
            if each.get("annotations", {}).get("curated")
        ),
        "provenance",
    )


def checks_in(evidence: Sequence[Evidence]) -> tuple[CheckResult, ...]:
    """The newest result of every check, by the time in its signed statement."""
    return tuple(result for result, _ in newest_results(evidence).values())


def newest_report(evidence: Sequence[Evidence]) -> Report | None:
    """The vulnerability report that was made last, by the time in its signed statement."""
    found = last_report(evidence)
    return found[0] if found else None
