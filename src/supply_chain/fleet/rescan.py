"""The rescan of many images: read their evidence, match SBOMs without a valid report, and conclude."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from itertools import chain

from supply_chain.concurrency import iterate_concurrently, map_concurrently
from supply_chain.curation.rescan import (
    BaseDecisions,
    Conclusion,
    ImageEvidence,
    ReportRegistry,
    conclude,
    read_evidence,
)
from supply_chain.errors import SupplyChainError
from supply_chain.evidence.statement import VULNERABILITIES
from supply_chain.evidence.store import EvidenceStore
from supply_chain.fleet.exposure import (
    Fixes,
    RescanResult,
    Unjudged,
    compare_reports,
    contains_package,
    find_due,
    find_fixes,
    propose_rebuilds,
)
from supply_chain.fleet.image import FleetImage
from supply_chain.fleet.where import find_invalid_names, require_package_names
from supply_chain.model.image import ImageRef
from supply_chain.model.registry_ports import RepositoryCreator
from supply_chain.model.tier import TierName, is_base_repository
from supply_chain.policy.facts import ReleaseFacts
from supply_chain.policy.names import MinimumClassification
from supply_chain.policy.policies import GatePolicy
from supply_chain.policy.reading import Layers
from supply_chain.vulnerability.findings import Report
from supply_chain.vulnerability.matching import OF_ALL, Key, Matched, MatchRequest, Results, count_processors, match
from supply_chain.vulnerability.reports import find_last_report, make_outdated_error
from supply_chain.vulnerability.scanner import Sbom, SbomGenerator, Scanner

LEAST = 48
"""Minimum number of images in a part: few enough for little memory, many enough to keep all processors busy."""
FOR_EACH = 12
"""Images in a part for each processor."""
PARTS = 10
"""Parts in a chunk."""


@dataclass(frozen=True)
class RescanPorts:
    """The dependencies and settings of a rescan, constant from its start to its end."""

    generator: SbomGenerator
    scanner: Scanner
    results: Results
    registry: ReportRegistry
    evidence: EvidenceStore
    repositories: RepositoryCreator
    layers: Layers
    bases: Sequence[ImageRef]
    base_decisions: BaseDecisions
    """The statements that blocked or unblocked a base."""
    minimum_classification: MinimumClassification
    policy: GatePolicy[ReleaseFacts]
    production: frozenset[str]
    """The environments that users reach, or may reach, because their documents cannot be read."""
    now: Callable[[], datetime]
    last_full_report_time: datetime | None = None
    """Time of the last rescan that reported on all images; this rescan reports changes since then."""
    matching: Callable[[Sequence[MatchRequest], Scanner, Results], Matched] = match
    on_result: Callable[[ImageRef, RescanResult | Unjudged | None], object] = field(default=lambda ref, result: None)
    """Called with each image once it is done, from any thread; with None if it carries none of the wanted packages."""


def split_package_names(names: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the package names, and the other names. Raises `DeclarationInvalid` if there are no package names."""
    strange = find_invalid_names(names)
    packages = tuple(each for each in names if each not in strange)
    if not packages:
        require_package_names(strange)
    return packages, strange


def is_base(image: FleetImage) -> bool:
    """Return whether the image is a base."""
    return is_base_repository(image.ref.repository)


def sort_bases_first(images: Iterable[FleetImage]) -> tuple[list[FleetImage], list[FleetImage]]:
    """Return the bases, and then the other images, each newest first; shelved images are left out."""
    looked_at = [each for each in _newest_first(images) if not each.shelved]
    return [each for each in looked_at if is_base(each)], [each for each in looked_at if not is_base(each)]


def _newest_first(images: Iterable[FleetImage]) -> list[FleetImage]:
    return sorted(images, key=lambda each: each.stored.pushed_at, reverse=True)


def find_fixed(images: Iterable[FleetImage], judged: Iterable[RescanResult], ports: RescanPorts) -> Fixes:
    """Return what newer bases fix. A shelved base is included, as images may still be built on it."""
    by_image = {each.ref: each for each in judged}
    bases = filter(is_base, _newest_first(images))
    results = (read_signed_result(each, ports) if each.shelved else by_image.get(each.ref) for each in bases)
    return find_fixes([each for each in results if each])


def read_signed_result(image: FleetImage, ports: RescanPorts) -> RescanResult | None:
    """Return a shelved base as its last signed report describes it; None if no report can be read."""
    try:
        report = find_last_report(ports.evidence.read_verified(image.ref, TierName.CURATION, VULNERABILITIES))
    except SupplyChainError as error:
        if isinstance(error, OF_ALL):
            raise
        return None
    return RescanResult(ref=image.ref, passes=False, findings=report.value.findings) if report else None


def split_into_chunks(images: Sequence[FleetImage]) -> Iterator[tuple[FleetImage, ...]]:
    """Yield the images in chunks that keep this machine's processors busy for about a minute."""
    return _split(images, PARTS)


def _split(images: Sequence[FleetImage], parts: int = 1) -> Iterator[tuple[FleetImage, ...]]:
    size = parts * max(LEAST, FOR_EACH * count_processors())
    for start in range(0, len(images), size):
        yield tuple(images[start : start + size])


def rescan(
    images: Sequence[FleetImage], ports: RescanPorts, only: Collection[str] = (), fixed: Fixes | None = None
) -> Iterator[RescanResult | Unjudged]:
    """Yield the result of each image, part by part; with `only`, of the images that carry one of these packages.

    An image that cannot be judged is returned as `Unjudged`, and the others are still judged. An error that concerns
    all images (`OF_ALL`) is raised. While one part is matched, the evidence of the next is read. At most two parts are
    in memory at a time. Nothing is done before the first result is requested.
    """
    lock = threading.Lock()
    parts = iterate_concurrently(lambda part: _rescan_part(part, ports, only, fixed or {}, lock), _split(images), 2)
    return chain.from_iterable(parts)


def _rescan_part(
    images: Sequence[FleetImage], ports: RescanPorts, only: Collection[str], fixed: Fixes, lock: threading.Lock
) -> tuple[RescanResult | Unjudged, ...]:
    """Rescan one part; a lock lets one part match at a time, as matching uses every processor."""
    evidence = map_concurrently(lambda image: _read_evidence(image, ports, only), images)
    pairs = [(image, each) for image, each in zip(images, evidence, strict=True) if isinstance(each, ImageEvidence)]
    with lock:
        matched = ports.matching(list(_find_wanted([each for _, each in pairs], ports)), ports.scanner, ports.results)
    concluded = map_concurrently(lambda pair: _conclude_image(*pair, matched, ports, fixed), pairs)
    failed = [each for each in evidence if isinstance(each, Unjudged)]
    for each in failed:
        ports.on_result(each.ref, each)
    return (*failed, *concluded)


def _read_evidence(image: FleetImage, ports: RescanPorts, only: Collection[str]) -> ImageEvidence | Unjudged | None:
    """Return the evidence of an image; None if it carries none of the wanted packages."""
    try:
        evidence = read_evidence(
            image.ref, ports.generator, ports.registry, ports.evidence, ports.now, ports.last_full_report_time
        )
        if only and not contains_package(evidence.listed.read(ports.registry.content).packages, only):
            ports.on_result(image.ref, None)
            return None
        report = evidence.last.report.value if evidence.last.report else None
        if report and _is_better(report, ports.scanner) and not _is_signed(evidence, ports.scanner, ports.now()):
            raise make_outdated_error(report.database, ports.scanner)
    except SupplyChainError as error:
        return _unjudged(image.ref, error)
    return evidence


def _unjudged(ref: ImageRef, error: SupplyChainError) -> Unjudged:
    """Return the image with its error; raise the error if it concerns all images."""
    if isinstance(error, OF_ALL):
        raise error
    return Unjudged(ref=ref, code=error.code, message=str(error), retryable=error.retryable)


def _find_wanted(images: Sequence[ImageEvidence], ports: RescanPorts) -> Iterator[MatchRequest]:
    now = ports.now()
    for image in images:
        if not _is_signed(image, ports.scanner, now):
            yield MatchRequest(
                image.listed.content, partial(_read_sbom, image, ports.registry), _renewal_time(image, now)
            )


def _renewal_time(image: ImageEvidence, now: datetime) -> datetime:
    """Return the time after which a new report must be made.

    A report older than the signed one, as of a scanner that was replaced and put back, would not be the last one, by
    which gates judge.
    """
    due = image.compute_renewal_time(now)
    return max(due, image.last.report.at) if image.last.report else due


def _is_signed(image: ImageEvidence, scanner: Scanner, now: datetime) -> bool:
    """Return whether a signed report has the same result as a new scan would, and stays valid long enough."""
    if image.last.report is None:
        return False
    report, listed = image.last.report.value, image.listed.content
    same = report.sbom == listed if _is_better(report, scanner) else Key.of_report(report) == Key.of(listed, scanner)
    return same and report.scanned >= image.compute_renewal_time(now)


def _is_better(report: Report, scanner: Scanner) -> bool:
    """Return whether the report used a database that knows more than this scanner's database.

    Such a report comes from another machine, or from another run since this run pinned its database.
    """
    return report.database.knows_more_than(scanner.identify()[1])


def _read_sbom(image: ImageEvidence, registry: ReportRegistry) -> Sbom:
    """Return the SBOM of record, as it was signed."""
    sbom = image.listed.read(registry.content)
    return Sbom(sbom.content, image.listed.packages, sbom.generator)


def _conclude_image(
    image: FleetImage, evidence: ImageEvidence, matched: Matched, ports: RescanPorts, fixed: Fixes
) -> RescanResult | Unjudged:
    new_report = matched.get(evidence.listed.content)
    before = evidence.last.report.value if evidence.last.report else None
    report = before if new_report is None else new_report
    try:
        if isinstance(report, SupplyChainError):
            raise report
        assert report is not None  # an image without a signed report was in the list for matching
        concluded = conclude(
            evidence, report, ports.evidence, ports.repositories, ports.layers, ports.bases, ports.base_decisions,
            ports.minimum_classification(image.ref.application), ports.policy, ports.now,
        )  # fmt: skip
    except SupplyChainError as error:
        result: RescanResult | Unjudged = _unjudged(image.ref, error)
    else:
        result = _make_result(image, evidence, report, concluded, fixed, ports.production)
    ports.on_result(image.ref, result)
    return result


def _make_result(
    image: FleetImage,
    evidence: ImageEvidence,
    report: Report,
    concluded: Conclusion,
    fixed: Fixes,
    production: frozenset[str],
) -> RescanResult:
    worse, better = compare_reports(
        evidence.last_reported.report.value if evidence.last_reported.report else None, report
    )
    running = {each.environment for each in image.running}
    return RescanResult(
        ref=image.ref,
        owner=evidence.built.declaration.owner if evidence.built else image.owner,
        running=tuple(sorted(running)),
        in_production=not running.isdisjoint(production),
        passes=concluded.passes,
        news=concluded.news,
        change=concluded.change,
        signed=concluded.signed,
        exploited=tuple(f for f in report.findings if f.known_exploited),
        worse=worse,
        better=better,
        due=find_due(report, evidence.limits),
        rebuild=propose_rebuilds(report.findings, evidence.materials, fixed),
        findings=report.findings if is_base(image) else (),
    )
