"""The facts that each gate decides from, read only from the verified evidence about an image."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from functools import partial
from itertools import chain, compress
from typing import Any, TypeVar

from supply_chain.concurrency import map_concurrently, run_both
from supply_chain.errors import UNREADABLE, EvidenceInvalid, ImageNotFound
from supply_chain.evidence.approval import last_approval
from supply_chain.evidence.checks import newest_results
from supply_chain.evidence.examination import Examination
from supply_chain.evidence.image_status import LifecycleDecision, image_status, read_blocks, read_image_status
from supply_chain.evidence.levels import build_level
from supply_chain.evidence.provenance import Provenance, last_provenance
from supply_chain.evidence.reading import SignedValue, is_signed
from supply_chain.evidence.sbom import Package, last_listed, packages_in, system_packages
from supply_chain.evidence.soak import longest_soak
from supply_chain.evidence.statement import APPROVAL, PROVENANCE, SBOM, SIGNATURE, SOAK, SUMMARY, VerifiedStatement
from supply_chain.evidence.store import EvidenceStore, Reading
from supply_chain.evidence.summary import Summary, last_verdict
from supply_chain.model.image import Candidate, CuratedImage, Digest, ImageRef, ScannedImage, Source
from supply_chain.model.tier import Gate, TierName, is_base_repository
from supply_chain.policy.gate import Dossier, Place
from supply_chain.policy.names import Holder, settled_holder
from supply_chain.policy.verdict import execution_place, refusals_place
from supply_chain.vulnerability.findings import Report
from supply_chain.vulnerability.reports import last_report

T = TypeVar("T")

Layers = Callable[[ImageRef], tuple[Digest, ...]]
"""Function that returns the layers of an image as its manifest lists them, of a base also if it is archived; raises
`ImageNotFound`."""
UNKNOWN_SOURCE = Source(path=".", repository="unknown", revision="none", dirty=True)


def candidate(
    ref: ImageRef, store: EvidenceStore, curated_before: Sequence[ImageRef], registered: Holder | None
) -> Dossier[Candidate]:
    """Return the facts of the intake gate: what development's key signed about an image in `dev/*`.

    `curated_before` are the images in the application's curated repository, the last one first. `registered` is the
    entry for the name in the register of names.
    """
    reading, said = _with_standing(ref, store)
    evidence = reading.by(TierName.DEVELOPMENT)
    first, built = holder(curated_before, store), last_provenance(evidence)
    source = built.source if built else UNKNOWN_SOURCE
    return Dossier(
        image=Candidate(ref=ref, source=source, evidence=tuple(e.digest for e in evidence)),
        ref=ref,
        evidence=(*evidence, *said.by(TierName.LIFECYCLE)),
        left_out=(*reading.notes(), *said.notes()),
        standing=image_status(said.evidence),
        holder=settled_holder(registered, first),
        **_development(built, evidence),
    )


def holder(curated_before: Sequence[ImageRef], store: EvidenceStore) -> Holder | None:
    """Return who holds a name: the source of the last image that curation signed under it."""
    for ref in curated_before:
        reading = store.read(ref)
        if is_signed(reading.evidence) and (built := last_provenance(reading.by(TierName.DEVELOPMENT))):
            return Holder.of(built.manifest, built.source)
    return None


def scanned(
    image: ScannedImage, store: EvidenceStore, layers: Layers, bases: Sequence[ImageRef]
) -> Dossier[ScannedImage]:
    """Return the facts of the release gate: what development signed, and what curation has found since.

    `bases` are the images in the curated base repositories, including archived ones. The layers show with which of them
    an image begins, whatever its Dockerfile calls them.
    """
    return _at_curation(image, image.encrypted.stored.ref, store, layers, bases)


def kept(ref: ImageRef, store: EvidenceStore, layers: Layers, bases: Sequence[ImageRef]) -> Dossier[ImageRef]:
    """Return the same facts about an image that is in the curated repository already, from its evidence alone."""
    return _at_curation(ref, ref, store, layers, bases)


def _at_curation(
    image: T, ref: ImageRef, store: EvidenceStore, layers: Layers, bases: Sequence[ImageRef]
) -> Dossier[T]:
    (reading, said), refusals = run_both(
        lambda: _with_standing(ref, store),
        lambda: store.verified(refusals_place(ref), TierName.CURATION, SUMMARY),
    )
    development, own = reading.by(TierName.DEVELOPMENT), reading.by(TierName.CURATION)
    inventory, (below, strange) = packages_in(own, store.referrers.content), upon(ref, bases, layers, store)
    built = last_provenance(development)
    examined = _examinations({*below, *_named(built, bases)} & {*below, *bases}, store)
    of_bases = _said_of_bases({*below, *_named(built, bases)}, built, bases, store)
    return Dossier(
        image=image,
        ref=ref,
        evidence=(
            *development,
            *own,
            *refusals,
            *said.by(TierName.LIFECYCLE),
            *chain.from_iterable(of_bases.values()),
        ),
        left_out=(*reading.notes(), *said.notes(), *strange),
        standing=image_status(said.evidence),
        blocked_bases=_blocked(of_bases),
        report=_report(own),
        signed=is_signed(own),
        inventory=inventory,
        examination=_examined(own),
        examined_bases=tuple(examined.values()),
        distributions={str(base): examined[base].distribution for base in below if base in examined},
        inherited=frozenset().union(*(_system_packages(base, store) for base in below)),
        built_with=_built_with(built, below, bases, inventory or frozenset(), store),
        **_development(built, development),
    )


def _with_standing(ref: ImageRef, store: EvidenceStore) -> tuple[Reading, Reading]:
    """Read concurrently what is attached to an image and what is signed about its image status."""
    return run_both(lambda: store.read(ref), lambda: read_image_status(ref, store))


def _said_of_bases(
    suspects: Iterable[ImageRef], built: Provenance | None, bases: Sequence[ImageRef], store: EvidenceStore
) -> Mapping[str, tuple[VerifiedStatement, ...]]:
    """Return the lifecycle's statements about every image that a build used, by repository and digest.

    That is these bases, the bases that they are built on, and every other material, by its digest under any name.
    """
    all_of_them = with_their_bases(suspects, bases, store)
    known = {base.digest for base in all_of_them}
    others = [(digest, name) for digest, name in (built.materials if built else ()) if digest not in known]
    reads: list[tuple[str, Callable[[], Reading]]] = [
        *((str(base), partial(read_image_status, base, store)) for base in all_of_them),
        *((f"{name.partition('@')[0]}@{digest}", partial(read_blocks, digest, store)) for digest, name in others),
    ]
    return dict(map_concurrently(lambda each: (each[0], each[1]().by(TierName.LIFECYCLE)), reads))


def _blocked(said_of: Mapping[str, tuple[VerifiedStatement, ...]]) -> dict[str, LifecycleDecision]:
    """Return those that are blocked, each with its block."""
    return {base: block for base, said in said_of.items() if (block := image_status(said).block)}


def with_their_bases(
    first: Iterable[ImageRef], bases: Sequence[ImageRef], store: EvidenceStore
) -> tuple[ImageRef, ...]:
    """Return these bases, the curated bases that they are built on, and so on; sorted."""
    found: set[ImageRef] = set()
    new = set(first)
    while new:
        found |= new
        read = map_concurrently(
            lambda base: last_provenance(store.verified(base, TierName.DEVELOPMENT, PROVENANCE)), sorted(new, key=str)
        )
        new = {each for built in read for each in _named(built, bases)} - found
    return tuple(sorted(found, key=str))


def _named(built: Provenance | None, bases: Sequence[ImageRef]) -> set[ImageRef]:
    """Return the curated bases that a build used.

    They are found by digest, whatever name the build gives them. Those that the build names as curated bases count even
    if the registry does not have them any more.
    """
    used = {digest: name.partition("@")[0] for digest, name in (built.materials if built else ())}
    listed = {base for base in bases if base.digest in used}
    return listed | {ImageRef.parse(f"{name}@{digest}") for digest, name in used.items() if is_base_repository(name)}


def upon(
    ref: ImageRef, bases: Sequence[ImageRef], layers: Layers, store: EvidenceStore
) -> tuple[list[ImageRef], tuple[str, ...]]:
    """Return the curated bases whose layers the image begins with, and a note about each that curation did not sign.

    Anybody who can push there can leave a manifest: without curation's signature it is not a base and stops no image.
    """
    own, below, notes = layers(ref), list[ImageRef](), list[str]()

    def compared(base: ImageRef) -> bool:
        try:
            return base.digest != ref.digest and _begins(own, layers(base))
        except (ImageNotFound, *UNREADABLE):
            if _is_vouched_for(base, store):
                raise
            return False

    for base in compress(bases, map_concurrently(compared, bases)):
        if _is_vouched_for(base, store):
            below.append(base)
        else:
            notes.append(f"it begins like {base.repository}@{base.short}, which counts as no base: nobody signed it")
    return below, tuple(notes)


def _is_vouched_for(base: ImageRef, store: EvidenceStore) -> bool:
    return is_signed(store.verified(base, TierName.CURATION, SIGNATURE))


def _built_with(
    built: Provenance | None,
    below: Sequence[ImageRef],
    bases: Sequence[ImageRef],
    inventory: frozenset[Package],
    store: EvidenceStore,
) -> tuple[str, ...]:
    """Return the names of the curated bases that the build used without starting from them.

    Bases whose packages are all in the image's SBOM are left out.
    """
    names = dict(built.materials) if built else {}
    known, there = {base.digest: base for base in bases}, {base.digest for base in below}
    used = {base.digest for base in _named(built, bases)} - there
    listed = {digest for digest in used & known.keys() if _system_packages(known[digest], store) <= inventory}
    return tuple(sorted(names[digest] for digest in used - listed))


def _examined(evidence: Iterable[VerifiedStatement]) -> Examination | None:
    """Return what curation found in an image that no scanner judges; None if it did not examine the image."""
    listed = last_listed(evidence)
    return listed.examination if listed else None


def _examinations(bases: Iterable[ImageRef], store: EvidenceStore) -> dict[ImageRef, Examination]:
    """Return the examinations of these bases, as far as curation examined them."""
    found = map_concurrently(
        lambda base: (base, _examined(store.verified(base, TierName.CURATION, SBOM))), sorted(bases, key=str)
    )
    return {base: each for base, each in found if each is not None}


def _begins(layers: tuple[Digest, ...], below: tuple[Digest, ...]) -> bool:
    return bool(below) and layers[: len(below)] == below


def _system_packages(base: ImageRef, store: EvidenceStore) -> frozenset[Package]:
    packages = packages_in(store.verified(base, TierName.CURATION, SBOM), store.referrers.content)
    if packages is None:
        raise EvidenceInvalid(
            f"The base {base} has no SBOM that curation signed.\n"
            "Curate it again with `cscm bases --force`, and build again."
        )
    return system_packages(packages)


def curated(
    ref: ImageRef,
    tag: str,
    place: Place,
    store: EvidenceStore,
    now: datetime,
    *,
    bases: Sequence[ImageRef],
) -> Dossier[CuratedImage]:
    """Return the facts of the deploy gate: what both earlier tiers signed, people's decisions, and soaks elsewhere.

    `bases` are the same as for the release gate. A block of a base that went into the build takes effect here before
    any rescan judges the image.
    """
    (reading, said), (refusals, own) = run_both(
        lambda: _with_standing(ref, store),
        lambda: run_both(
            lambda: store.read(refusals_place(ref)),
            lambda: execution_statements(ref, store, APPROVAL, SOAK),
        ),
    )
    development, curation = reading.by(TierName.DEVELOPMENT), reading.by(TierName.CURATION)
    elsewhere, built = refusals.by(TierName.CURATION), last_provenance(development)
    source, environments = (built.source, built.manifest.environments) if built else (UNKNOWN_SOURCE, ())
    of_bases = _said_of_bases(_named(built, bases), built, bases, store)
    return Dossier(
        image=CuratedImage(ref=ref, tag=tag, source=source, environments=environments),
        ref=ref,
        evidence=(
            *development,
            *curation,
            *elsewhere,
            *said.by(TierName.LIFECYCLE),
            *own,
            *chain.from_iterable(of_bases.values()),
        ),
        left_out=(*reading.notes(), *refusals.notes(), *said.notes()),
        standing=image_status(said.evidence),
        blocked_bases=_blocked(of_bases),
        report=_report(curation),
        signed=is_signed(curation),
        inventory=packages_in(curation, store.referrers.content),
        examination=_examined(curation),
        examined_bases=tuple(_examinations(_named(built, bases) & set(bases), store).values()),
        verdicts=_verdicts((*curation, *elsewhere), ref),
        place=place,
        approval=last_approval(own, place.name, ref.digest),
        soak=longest_soak(own, place.soak.environment, ref.digest) if place.soak else None,
        now=now,
        **_development(built, development),
    )


def execution_statements(ref: ImageRef, store: EvidenceStore, *kinds: str) -> tuple[VerifiedStatement, ...]:
    """Return what execution signed with these predicate types about an image, for every environment."""
    return store.verified(execution_place(ref), TierName.EXECUTION, *kinds)


def _development(built: Provenance | None, evidence: Sequence[VerifiedStatement]) -> dict[str, Any]:
    return {
        "manifest": built.manifest if built else None,
        "source": built.source if built else None,
        "levels": build_level(built),
        "uncurated": built.uncurated if built else (),
        "checks": tuple(each.value for each in newest_results(evidence).values()),
        "source_report": _report(evidence),
    }


def _report(evidence: Sequence[VerifiedStatement]) -> Report | None:
    found = last_report(evidence)
    return found.value if found else None


def _verdicts(evidence: Sequence[VerifiedStatement], ref: ImageRef) -> dict[Gate, SignedValue[Summary]]:
    """Return the last verdict of the intake gate and of the release gate about an image, if there is one."""
    gates = (Gate.INTAKE, Gate.RELEASE)
    return {gate: last for gate in gates if (last := last_verdict(evidence, gate, ref.digest))}
