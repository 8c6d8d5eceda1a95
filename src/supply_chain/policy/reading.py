"""Reads the facts of each gate, only from the verified evidence about an image."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from itertools import chain, compress
from typing import TypeVar

from supply_chain.concurrency import map_concurrently, run_both
from supply_chain.errors import UNREADABLE, EvidenceInvalid, ImageNotFound
from supply_chain.evidence.approval import find_last_approval, list_signed_approvals
from supply_chain.evidence.break_glass import list_break_glass_uses
from supply_chain.evidence.checks import CheckResult, find_newest_results
from supply_chain.evidence.encryption import EncryptionRecord, list_encryption_records
from supply_chain.evidence.examination import Examination
from supply_chain.evidence.image_status import compute_image_status, read_image_status
from supply_chain.evidence.provenance import Provenance, find_last_provenance
from supply_chain.evidence.reading import SignedValue, is_signed
from supply_chain.evidence.sbom import (
    Package,
    find_last_sbom,
    read_sbom_listing,
    read_sbom_packages,
    select_system_packages,
)
from supply_chain.evidence.soak import find_longest_soak
from supply_chain.evidence.statement import (
    APPROVAL,
    BREAK_GLASS,
    PROVENANCE,
    SBOM,
    SIGNATURE,
    SOAK,
    SUMMARY,
    VerifiedStatement,
)
from supply_chain.evidence.store import EvidenceStore, Reading
from supply_chain.evidence.summary import Summary, find_last_verdict
from supply_chain.model.declaration import Classification
from supply_chain.model.image import Digest, ImageRef
from supply_chain.model.tier import CURATION_GATES, Gate, TierName, is_base_repository
from supply_chain.policy.blocks import Statements, find_blocked_bases, read_base_statements
from supply_chain.policy.facts import DeployFacts, EnvironmentRequirements, IntakeFacts, ReleaseFacts
from supply_chain.policy.names import Holder, find_settled_holder
from supply_chain.policy.verdict import locate_execution_evidence, locate_refusals
from supply_chain.vulnerability.reports import find_last_report

T = TypeVar("T")

Layers = Callable[[ImageRef], tuple[Digest, ...]]
"""Function that returns the layers of an image as its manifest lists them, of a base also if it is archived; raises
`ImageNotFound`."""


def read_intake_facts(
    ref: ImageRef, store: EvidenceStore, curated_before: Sequence[ImageRef], registered: Holder | None
) -> IntakeFacts:
    """Return the facts of the intake gate: what development's key signed about an image in `dev/*`.

    `curated_before` and `registered` are as for `read_holder`.
    """
    reading, status = _with_status(ref, store)
    evidence = reading.list_signed_by(TierName.DEVELOPMENT)
    return IntakeFacts(
        ref=ref,
        provenance=find_last_provenance(evidence),
        checks=_checks(evidence),
        status=compute_image_status(status.evidence),
        minimum_classification=registered.classification if registered else None,
        evidence=(*evidence, *status.list_signed_by(TierName.LIFECYCLE)),
        ignored_referrers=(*reading.notes(), *status.notes()),
        attached=reading.attached,
        holder=read_holder(curated_before, store, registered),
        source_report=_value(find_last_report(evidence)),
    )


def read_holder(curated_before: Sequence[ImageRef], store: EvidenceStore, registered: Holder | None) -> Holder | None:
    """Return who holds a name: the register takes precedence over the first use.

    `curated_before` are the images in the application's curated repository, the last one first. `registered` is the
    entry for the name in the name register.
    """
    return find_settled_holder(registered, find_holder(curated_before, store))


def find_holder(curated_before: Sequence[ImageRef], store: EvidenceStore) -> Holder | None:
    """Return who holds a name: the source of the last image that curation signed under it."""
    for ref in curated_before:
        reading = store.read(ref, SIGNATURE, PROVENANCE)
        if is_signed(reading.evidence) and (
            built := find_last_provenance(reading.list_signed_by(TierName.DEVELOPMENT))
        ):
            return Holder.of(built.declaration, built.source)
    return None


def read_release_facts(
    ref: ImageRef,
    store: EvidenceStore,
    layers: Layers,
    bases: Sequence[ImageRef],
    minimum_classification: Classification | None,
) -> ReleaseFacts:
    """Return the facts of the release gate: what development signed, and what curation has found since.

    `bases` are the images in the curated base repositories, including archived ones. The layers show with which of them
    an image begins, whatever its Dockerfile calls them. `minimum_classification` is that of the name register.
    """
    store = store.list_once()
    (reading, status), refusals = run_both(
        lambda: _with_status(ref, store),
        lambda: store.read_verified(locate_refusals(ref), TierName.CURATION, SUMMARY),
    )
    development, own = reading.list_signed_by(TierName.DEVELOPMENT), reading.list_signed_by(TierName.CURATION)
    built, listing = find_last_provenance(development), read_sbom_listing(own, store.referrers.content)
    below, unsigned = find_bases_in_layers(ref, bases, layers, store)
    used = {*below, *_named_bases(built, bases)}
    examined = _examinations(used & {*below, *bases}, store)
    copies, copied_from = _copied_bases(built, below, bases, listing.packages if listing else frozenset(), store)
    contained = [*below, *copies]
    base_packages = {str(base): _packages(base, store) for base in contained}
    builds = read_base_builds(used, bases, store)
    base_statements = read_base_statements(builds, built, store)
    return ReleaseFacts(
        ref=ref,
        provenance=built,
        checks=_checks(development),
        status=compute_image_status(status.evidence),
        minimum_classification=minimum_classification,
        evidence=(
            *development,
            *own,
            *refusals,
            *status.list_signed_by(TierName.LIFECYCLE),
            *chain.from_iterable(base_statements.values()),
        ),
        ignored_referrers=(*reading.notes(), *status.notes(), *unsigned),
        attached=reading.attached,
        blocked_bases=find_blocked_bases(base_statements),
        bases=_build_times(builds),
        sbom=listing,
        examination=_examination(own),
        examined_bases=tuple(examined.values()),
        report=_value(find_last_report(own)),
        encryption=_encryption(own),
        base_packages=base_packages,
        base_distributions={str(base): examined[base].distribution for base in contained if base in examined},
        copied_bases=copied_from,
    )


def _with_status(ref: ImageRef, store: EvidenceStore) -> tuple[Reading, Reading]:
    """Read concurrently what is attached to an image and what is signed about its image status."""
    return run_both(lambda: store.read(ref), lambda: read_image_status(ref, store))


def read_blocked_bases(ref: ImageRef, bases: Sequence[ImageRef], store: EvidenceStore) -> Statements:
    """Return the lifecycle's statements about each image that the newest build of an image used and that is blocked.

    `bases` are the same as for the gates.
    """
    built = find_last_provenance(store.read_verified(ref, TierName.DEVELOPMENT, PROVENANCE))
    builds = read_base_builds(_named_bases(built, bases), bases, store)
    statements = read_base_statements(builds, built, store)
    return {base: statements[base] for base in find_blocked_bases(statements)}


def find_all_bases(first: Iterable[ImageRef], bases: Sequence[ImageRef], store: EvidenceStore) -> tuple[ImageRef, ...]:
    """Return these bases, the curated bases that they are built on, and so on; sorted."""
    return tuple(read_base_builds(first, bases, store))


def read_base_builds(
    first: Iterable[ImageRef], bases: Sequence[ImageRef], store: EvidenceStore
) -> dict[ImageRef, Provenance | None]:
    """Return these bases, the curated bases that they are built on, and so on, each with its build; sorted."""
    builds: dict[ImageRef, Provenance | None] = {}
    new = set(first)
    while new:
        read = map_concurrently(
            lambda base: (base, find_last_provenance(store.read_verified(base, TierName.DEVELOPMENT, PROVENANCE))),
            sorted(new, key=str),
        )
        builds |= dict(read)
        new = {each for _, built in read for each in _named_bases(built, bases)} - builds.keys()
    return dict(sorted(builds.items(), key=lambda each: str(each[0])))


def _build_times(builds: Mapping[ImageRef, Provenance | None]) -> dict[str, datetime | None]:
    return {str(base): built.run_details.metadata.finished_on if built else None for base, built in builds.items()}


def _named_bases(built: Provenance | None, bases: Sequence[ImageRef]) -> set[ImageRef]:
    """Return the curated bases that a build used.

    They are found by digest, whatever name the build gives them. Those that the build names as curated bases count even
    if the registry does not have them any more.
    """
    used = {digest: name.partition("@")[0] for digest, name in (built.materials if built else ())}
    listed = {base for base in bases if base.digest in used}
    return listed | {ImageRef.parse(f"{name}@{digest}") for digest, name in used.items() if is_base_repository(name)}


def find_bases_in_layers(
    ref: ImageRef, bases: Sequence[ImageRef], layers: Layers, store: EvidenceStore
) -> tuple[list[ImageRef], tuple[str, ...]]:
    """Return the curated bases whose layers the image begins with, and a note about each that curation did not sign.

    Anybody who can push there can leave a manifest: without curation's signature it is not a base and stops no image.
    """
    own, below, notes = layers(ref), list[ImageRef](), list[str]()

    def compared(base: ImageRef) -> bool:
        try:
            return base.digest != ref.digest and begins_with(own, layers(base))
        except (ImageNotFound, *UNREADABLE):
            if is_vouched_for(base, store):
                raise
            return False

    for base in compress(bases, map_concurrently(compared, bases)):
        if is_vouched_for(base, store):
            below.append(base)
        else:
            notes.append(
                f"it begins like {base.repository}@{base.short}, which does not count as a base: nobody signed it"
            )
    return below, tuple(notes)


def is_vouched_for(base: ImageRef, store: EvidenceStore) -> bool:
    """Return whether curation signed a base."""
    return is_signed(store.read_verified(base, TierName.CURATION, SIGNATURE))


def _copied_bases(
    built: Provenance | None,
    below: Sequence[ImageRef],
    bases: Sequence[ImageRef],
    packages: frozenset[Package],
    store: EvidenceStore,
) -> tuple[list[ImageRef], tuple[str, ...]]:
    """Return the curated bases that an image has a changed copy of, and the names of those that it copied from.

    The build started from none of them. Bases whose packages are all in the image's SBOM are left out. Of the others,
    an image that begins with no base has a changed copy of those that have packages with the same names.
    """
    names = dict(built.materials) if built else {}
    by_digest, below_digests = {base.digest: base for base in bases}, {base.digest for base in below}
    used = {base.digest for base in _named_bases(built, bases)} - below_digests
    packages_of = {digest: _system_packages(by_digest[digest], store) for digest in used & by_digest.keys()}
    listed = {digest for digest, each in packages_of.items() if each <= packages}
    own = _package_names(packages).difference(*(_package_names(packages_of[digest]) for digest in listed))
    changed = {
        digest for digest in packages_of.keys() - listed if not below and own & _package_names(packages_of[digest])
    }
    copied_from = tuple(sorted(names[digest] for digest in used - listed - changed))
    return sorted((by_digest[digest] for digest in changed), key=str), copied_from


def _package_names(packages: Iterable[Package]) -> set[tuple[str, str]]:
    return {package[:2] for package in packages}


def _examination(evidence: Iterable[VerifiedStatement]) -> Examination | None:
    """Return what curation found in an image that no scanner judges; None if it did not examine the image."""
    listed = find_last_sbom(evidence)
    return listed.examination if listed else None


def _examinations(bases: Iterable[ImageRef], store: EvidenceStore) -> dict[ImageRef, Examination]:
    """Return the examinations of these bases, as far as curation examined them."""
    examinations = map_concurrently(
        lambda base: (base, _examination(store.read_verified(base, TierName.CURATION, SBOM))), sorted(bases, key=str)
    )
    return {base: each for base, each in examinations if each is not None}


def begins_with(layers: tuple[Digest, ...], below: tuple[Digest, ...]) -> bool:
    """Return whether an image with these layers is built on one with the layers `below`, or is that one."""
    return bool(below) and layers[: len(below)] == below


def _system_packages(base: ImageRef, store: EvidenceStore) -> frozenset[Package]:
    return select_system_packages(_packages(base, store))


def _packages(base: ImageRef, store: EvidenceStore) -> frozenset[Package]:
    packages = read_sbom_packages(store.read_verified(base, TierName.CURATION, SBOM), store.referrers.content)
    if packages is None:
        raise EvidenceInvalid(
            f"The base {base} has no SBOM that curation signed.\n"
            "Curate it again with `cscm bases --force`, and build again."
        )
    return packages


def read_deploy_facts(
    ref: ImageRef,
    environment: EnvironmentRequirements,
    store: EvidenceStore,
    *,
    bases: Sequence[ImageRef],
    minimum_classification: Classification | None,
) -> DeployFacts:
    """Return the facts of the deploy gate: what both earlier tiers signed, people's decisions, and soaks elsewhere.

    `bases` and `minimum_classification` are the same as for the release gate. A block of a base that went into the
    build takes effect here before any rescan judges the image.
    """
    store = store.list_once()
    (reading, status), (refusals, own) = run_both(
        lambda: _with_status(ref, store),
        lambda: run_both(
            lambda: store.read(locate_refusals(ref)),
            lambda: read_execution_statements(ref, store, APPROVAL, BREAK_GLASS, SOAK, SUMMARY),
        ),
    )
    development, curation = reading.list_signed_by(TierName.DEVELOPMENT), reading.list_signed_by(TierName.CURATION)
    elsewhere, built = refusals.list_signed_by(TierName.CURATION), find_last_provenance(development)
    builds, soak = read_base_builds(_named_bases(built, bases), bases, store), environment.soak
    base_statements = read_base_statements(builds, built, store)
    return DeployFacts(
        ref=ref,
        provenance=built,
        checks=_checks(development),
        status=compute_image_status(status.evidence),
        minimum_classification=minimum_classification,
        evidence=(
            *development,
            *curation,
            *elsewhere,
            *status.list_signed_by(TierName.LIFECYCLE),
            *own,
            *chain.from_iterable(base_statements.values()),
        ),
        ignored_referrers=(*reading.notes(), *refusals.notes(), *status.notes()),
        attached=reading.attached,
        blocked_bases=find_blocked_bases(base_statements),
        bases=_build_times(builds),
        sbom=read_sbom_listing(curation, store.referrers.content),
        examination=_examination(curation),
        examined_bases=tuple(_examinations(_named_bases(built, bases) & set(bases), store).values()),
        report=_value(find_last_report(curation)),
        encryption=_encryption((*curation, *elsewhere)),
        signed=is_signed(curation),
        verdicts=_verdicts((*curation, *elsewhere), ref),
        environment=environment,
        approval=_value(find_last_approval(own, environment.name, ref.digest)),
        signed_approvals=list_signed_approvals(own, environment.name, ref.digest),
        break_glass=list_break_glass_uses(own, environment.name, ref.digest),
        soak=_value(find_longest_soak(own, soak.environment, ref.digest)) if soak else None,
    )


def read_execution_statements(ref: ImageRef, store: EvidenceStore, *kinds: str) -> tuple[VerifiedStatement, ...]:
    """Return what execution signed with these predicate types about an image, for every environment."""
    return store.read_verified(locate_execution_evidence(ref), TierName.EXECUTION, *kinds)


def _checks(evidence: Iterable[VerifiedStatement]) -> tuple[CheckResult, ...]:
    return tuple(each.value for each in find_newest_results(evidence).values())


def _encryption(evidence: Iterable[VerifiedStatement]) -> EncryptionRecord | None:
    return _value(next(reversed(list_encryption_records(evidence)), None))


def _verdicts(evidence: Sequence[VerifiedStatement], ref: ImageRef) -> dict[Gate, Summary]:
    """Return the last verdict of the intake gate and of the release gate about an image, if there is one."""
    return {gate: last.value for gate in CURATION_GATES if (last := find_last_verdict(evidence, gate, ref.digest))}


def _value(signed: SignedValue[T] | None) -> T | None:
    return signed.value if signed else None
