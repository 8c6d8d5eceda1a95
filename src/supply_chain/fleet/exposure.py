"""Pure functions that order rescanned images by exposure, compare reports and propose rebuilds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence

from pydantic import AwareDatetime, Field

from supply_chain.curation.rescan import Change, News
from supply_chain.errors import RescanIncomplete
from supply_chain.evidence.sbom import Package
from supply_chain.fleet.packages import list_package_names, normalize_name, parse_package
from supply_chain.model.declaration import Limits
from supply_chain.model.image import Digest, ImageRef, Model
from supply_chain.model.package_url import normalize_version, parse_package_url
from supply_chain.text import pluralize
from supply_chain.vulnerability.findings import Database, Finding, Report, Severity

FindingKey = tuple[str, str, str, str]
"""Vulnerability, package, package type and version: two findings with the same key are the same finding."""


class Rebuild(Model):
    """A proposal to rebuild an image on its newest base, which removes findings."""

    base: str = Field(description="the base's repository")
    built_on: Digest
    newest: Digest
    findings: tuple[str, ...] = Field(description="vulnerabilities that the newest base no longer has")


class RescanResult(Model):
    """The result of a rescan for one image."""

    ref: ImageRef
    owner: str = ""
    running: tuple[str, ...] = Field(default=(), description="environments")
    in_production: bool = Field(default=False, description="whether users reach one of them")
    passes: bool = Field(description="whether the release gate admits it now")
    news: News | None = Field(default=None, description="of the gate's verdict, if it is not reported yet")
    change: Change | None = Field(default=None, description="of the gate's verdict, compared with the last report")
    signed: bool = Field(default=False, description="whether a new report was signed")
    exploited: tuple[Finding, ...] = ()
    worse: tuple[Finding, ...] = Field(default=(), description="new, or of a higher severity than before")
    better: tuple[Finding, ...] = Field(default=(), description="no longer found, or of a lower severity")
    due: tuple[Finding, ...] = Field(default=(), description="with a fix, and above the owner's limits")
    rebuild: tuple[Rebuild, ...] = ()
    findings: tuple[Finding, ...] = Field(default=(), description="all, only for bases")

    @property
    def is_reportable(self) -> bool:
        """Whether the image belongs in the report. A refused image that runs always does."""
        refused = not self.passes and self.running
        return bool(refused or self.change or self.exploited or self.worse or self.better or self.due or self.rebuild)


class Unjudged(Model):
    """An image that the rescan could not judge, with the error."""

    ref: ImageRef
    code: str
    message: str
    retryable: bool = False


class AffectedApplication(Model):
    """An application with results, and totals of its images."""

    owner: str
    application: str
    running: tuple[str, ...] = Field(default=(), description="environments")
    exploited: int
    worse: int
    better: int
    due: int
    images_exploited: int = Field(description="images with known exploited findings")
    refused: int = Field(description="images that the release gate refuses")
    rebuild: tuple[str, ...] = Field(default=(), description="bases that have a newer image with fewer findings")


MOST_REPORTED = 500
"""Number of images that a rescan reports one by one, most exposed first; others are reported by application only."""


class RescanReport(Model):
    """The result of a rescan, also if it was interrupted."""

    database: Database
    scanner: str
    started: AwareDatetime
    seconds: float
    images: int = Field(description="that were rescanned")
    packages: tuple[str, ...] = Field(default=(), description="requested packages; empty: all")
    images_without_packages: int = Field(default=0, description="that contain none of these packages")
    images_not_rescanned: int = Field(default=0, description="not rescanned, because the run was interrupted")
    archived: int = Field(default=0, description="archived, not rescanned")
    signed: int = Field(description="new reports")
    changed: int = Field(description="verdicts that changed")
    exploited: int = Field(description="images with known exploited findings")
    reported: tuple[RescanResult, ...] = Field(description=f"the {MOST_REPORTED} most exposed images with results")
    omitted: int = Field(default=0, description="further images with results")
    applications: tuple[AffectedApplication, ...] = Field(
        default=(), description="their applications, the most exposed first"
    )
    unjudged: tuple[Unjudged, ...] = ()

    @property
    def is_complete(self) -> bool:
        """Whether the report covers all images; it does not if an image may still be judged later."""
        return not (self.packages or self.images_not_rescanned or any(each.retryable for each in self.unjudged))


def make_incomplete_error(unjudged: Sequence[Unjudged]) -> RescanIncomplete:
    """Return the error to raise for images that could not be judged."""
    named = "\n".join(f"  {each.ref}: {each.message}" for each in unjudged)
    return RescanIncomplete(
        f"{pluralize(len(unjudged), 'image')} could not be judged; all others were:\n{named}\n"
        "Correct what each line names, and start the rescan again: it continues with what is missing."
    )


def make_finding_key(finding: Finding) -> FindingKey:
    """Return the key by which findings are compared."""
    return finding.id, finding.package, finding.type, finding.version


def compare_reports(before: Report | None, after: Report) -> tuple[tuple[Finding, ...], tuple[Finding, ...]]:
    """Return the findings that got worse and those that got better; both are empty without an earlier report."""
    if before is None:
        return (), ()
    old, new = ({make_finding_key(f): f for f in report.findings} for report in (before, after))
    worse = tuple(f for key, f in new.items() if key not in old or f.weight < old[key].weight)
    better = tuple(f for key, f in old.items() if key not in new or new[key].weight > f.weight)
    return worse, better


def find_exceeded_severities(report: Report, limits: Limits) -> frozenset[Severity]:
    """Return the severities with more findings than the owner accepts."""
    numbers = Counter(finding.severity for finding in report.findings)
    accepted = {severity: getattr(limits, severity.value) for severity in numbers}
    return frozenset(
        severity for severity, limit in accepted.items() if limit is not None and numbers[severity] > limit
    )


def find_due(report: Report, limits: Limits) -> tuple[Finding, ...]:
    """Return findings that have a fix and are known to be exploited, or whose severity exceeds the owner's limits."""
    over = find_exceeded_severities(report, limits)
    return tuple(f for f in report.findings if f.fixable and (f.known_exploited or f.severity in over))


def sort_by_exposure(results: Iterable[RescanResult]) -> tuple[RescanResult, ...]:
    """Sort images by exposure, most exposed first.

    The order is: exploited in production, exploited and running, in production, running, refused, number of findings
    that got worse or are due.
    """
    return tuple(sorted(results, key=_exposure))


def _exposure(result: RescanResult) -> tuple[bool, bool, bool, bool, bool, int, str]:
    return (
        not (result.exploited and result.in_production),
        not (result.exploited and result.running),
        not result.in_production,
        not result.running,
        result.passes,
        -len(result.worse) - len(result.due),
        str(result.ref),
    )


def group_by_application(results: Iterable[RescanResult]) -> tuple[AffectedApplication, ...]:
    """Return the applications of these images, in the order in which their first images appear."""
    by_application: dict[tuple[str, str], list[RescanResult]] = {}
    for each in results:
        by_application.setdefault((each.owner, each.ref.application), []).append(each)
    return tuple(_summarise(owner, application, images) for (owner, application), images in by_application.items())


def _summarise(owner: str, application: str, images: Sequence[RescanResult]) -> AffectedApplication:
    return AffectedApplication(
        owner=owner,
        application=application,
        running=tuple(sorted({name for each in images for name in each.running})),
        exploited=sum(len(each.exploited) for each in images),
        worse=sum(len(each.worse) for each in images),
        better=sum(len(each.better) for each in images),
        due=sum(len(each.due) for each in images),
        images_exploited=sum(bool(each.exploited) for each in images),
        refused=sum(not each.passes for each in images),
        rebuild=tuple(sorted({r.base for each in images for r in each.rebuild})),
    )


def contains_package(packages: Iterable[Package], names: Collection[str]) -> bool:
    """Return whether one of the packages, or the source package that it was built from, has one of the wanted names.

    A wanted name is a name, `name@version`, or a package URL with or without a version; see `fleet.packages`.
    """
    searched = [
        (kind, normalize_name(name), normalize_version(version)) for kind, name, version in map(parse_package, names)
    ]
    return any(_matches_package(package, searched) for package in packages)


def _matches_package(package: Package, searched: Iterable[tuple[str, str, str]]) -> bool:
    of_kind, names = parse_package_url(package[2]).type, list_package_names(package)
    return any(
        name == own and (not version or at in ("", version))
        for kind, name, version in searched
        if not kind or of_kind in ("", kind)
        for own, at in names
    )


Fixes = Mapping[Digest, tuple[ImageRef, frozenset[FindingKey]]]
"""Base → the newest image of its name that curation admits, and the findings that this newest image no longer has."""


def find_fixes(bases: Sequence[RescanResult]) -> Fixes:
    """Return, for each older base image, the newest one that passes and the findings that it no longer has.

    `bases` must list the newest image of each name first. A blocked image never passes.
    """
    newest: dict[str, RescanResult] = {}
    for each in bases:
        if each.passes:
            newest.setdefault(each.ref.repository, each)
    fixes = {}
    for each in bases:
        new = newest.get(each.ref.repository)
        if new is not None and new.ref != each.ref:
            still = {make_finding_key(finding)[:3] for finding in new.findings}  # in any version
            rid = frozenset(key for finding in each.findings if (key := make_finding_key(finding))[:3] not in still)
            fixes[each.ref.digest] = new.ref, rid
    return fixes


def propose_rebuilds(findings: Iterable[Finding], bases: Iterable[Digest], fixed: Fixes) -> tuple[Rebuild, ...]:
    """Return the rebuilds on the newest image of each base that would remove some of these findings."""
    own, proposed = {make_finding_key(f) for f in findings}, []
    for base in dict.fromkeys(bases):
        if base in fixed and (less := own & fixed[base][1]):
            newest = fixed[base][0]
            names = tuple(sorted({key[0] for key in less}))
            proposed.append(Rebuild(base=newest.repository, built_on=base, newest=newest.digest, findings=names))
    return tuple(proposed)
