"""Exposure: what is known of each image, in the order in which it asks for somebody. Pure functions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence

from pydantic import AwareDatetime, Field

from supply_chain.app import Limits
from supply_chain.curation.rescan import Change, News
from supply_chain.evidence.sbom import Package, in_url, source_in, version_in
from supply_chain.image import Digest, Frozen, ImageRef
from supply_chain.vulnerability.findings import Database, Finding, Report, Severity

FindingKey = tuple[str, str, str, str]
"""Vulnerability, package, type of package and version: what makes two findings the same."""


class Rebuild(Frozen):
    """An image would be rid of findings, were it built again on the newest of its base."""

    base: str = Field(description="repository of the base")
    built_on: Digest
    newest: Digest
    findings: tuple[str, ...] = Field(description="vulnerabilities that the newest does not have any more")


class Judged(Frozen):
    """What a rescan found of one image."""

    ref: ImageRef
    owner: str = ""
    running: tuple[str, ...] = Field(default=(), description="environments")
    in_production: bool = Field(default=False, description="whether one of them is what users reach")
    passes: bool = Field(description="whether curation's gate says yes by now")
    news: News | None = Field(default=None, description="of the gate's verdict, which somebody may not know yet")
    change: Change | None = Field(default=None, description="of the gate's verdict, against what was told last")
    signed: bool = Field(default=False, description="whether a new report was signed")
    exploited: tuple[Finding, ...] = ()
    worse: tuple[Finding, ...] = Field(default=(), description="new, or taken more seriously than before")
    better: tuple[Finding, ...] = Field(default=(), description="gone, or taken less seriously")
    due: tuple[Finding, ...] = Field(default=(), description="have a fix, and are beyond what the owner accepts")
    rebuild: tuple[Rebuild, ...] = ()
    findings: tuple[Finding, ...] = Field(default=(), description="all of them; of bases alone")

    @property
    def tells(self) -> bool:
        """Whether there is anything to read about it."""
        return bool(self.change or self.exploited or self.worse or self.better or self.due or self.rebuild)


class Unjudged(Frozen):
    """An image of which nothing is known now."""

    ref: ImageRef
    code: str
    message: str
    retryable: bool = False


class Concerned(Frozen):
    """An application of which there is something to tell its owner: how much, over all of its images."""

    owner: str
    application: str
    running: tuple[str, ...] = Field(default=(), description="environments")
    exploited: int = Field(description="findings that are known to be exploited")
    worse: int = Field(description="findings")
    better: int = Field(description="findings")
    due: int = Field(description="findings")
    images_exploited: int = Field(description="images with findings that are known to be exploited")
    refused: int = Field(description="images to which curation's gate says no")
    rebuild: tuple[str, ...] = Field(default=(), description="bases of which a newer one has fewer findings")


TOLD = 500
"""Images that a rescan tells of one by one, the most exposed; of the others with their applications."""


class Rescanned(Frozen):
    """A rescan that came to its end."""

    database: Database
    scanner: str
    started: AwareDatetime
    seconds: float
    images: int = Field(description="that were looked at")
    without: int = Field(default=0, description="that carry none of the packages asked for")
    archived: int = Field(default=0, description="that are archived, so that nobody can pull them: not looked at")
    signed: int = Field(description="new reports")
    changed: int = Field(description="verdicts that are others than before")
    exploited: int = Field(description="images with findings that are known to be exploited")
    told: tuple[Judged, ...] = Field(description=f"the {TOLD} most exposed images of which there is something to tell")
    more: int = Field(default=0, description="further images of which there is something to tell")
    concerned: tuple[Concerned, ...] = Field(
        default=(), description="applications of all of them, that of the most exposed image first"
    )
    unjudged: tuple[Unjudged, ...] = ()


def key_of(finding: Finding) -> FindingKey:
    return finding.id, finding.package, finding.type, finding.version


def compared(before: Report | None, after: Report) -> tuple[tuple[Finding, ...], tuple[Finding, ...]]:
    """What got worse, and what got better; nothing did where there was no report."""
    if before is None:
        return (), ()
    old, new = ({key_of(f): f for f in report.findings} for report in (before, after))
    worse = tuple(f for key, f in new.items() if key not in old or f.weight < old[key].weight)
    better = tuple(f for key, f in old.items() if key not in new or new[key].weight > f.weight)
    return worse, better


def due(report: Report, limits: Limits) -> tuple[Finding, ...]:
    """What has a fix and is known to be exploited, or of a severity of which there is more than the owner accepts."""
    counts = Counter(f.severity for f in report.findings)
    accepted = {severity: getattr(limits, severity.value) for severity in Severity}
    over = {severity for severity, limit in accepted.items() if limit is not None and counts[severity] > limit}
    return tuple(f for f in report.findings if f.fixable and (f.known_exploited or f.severity in over))


def by_exposure(seen: Iterable[Judged]) -> tuple[Judged, ...]:
    """What runs in production and is exploited first, then what runs at all, then what only lies there."""
    return tuple(sorted(seen, key=_exposure))


def _exposure(seen: Judged) -> tuple[bool, bool, bool, bool, bool, int, str]:
    return (
        not (seen.exploited and seen.in_production),
        not (seen.exploited and seen.running),
        not seen.in_production,
        not seen.running,
        seen.passes,
        -len(seen.worse) - len(seen.due),
        str(seen.ref),
    )


def concerned(seen: Iterable[Judged]) -> tuple[Concerned, ...]:
    """The applications of these images, that of the first one first."""
    found: dict[tuple[str, str], list[Judged]] = {}
    for each in seen:
        found.setdefault((each.owner, each.ref.application), []).append(each)
    return tuple(_concerned(owner, application, images) for (owner, application), images in found.items())


def _concerned(owner: str, application: str, images: Sequence[Judged]) -> Concerned:
    return Concerned(
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


def carries(packages: Iterable[Package], wanted: Collection[str]) -> bool:
    """Whether one of the packages is named, or the source package that it was built from, as advisories name it.

    By name, by name@version, or by package URL with or without version.
    """
    return any(_named(name, purl, each) for _, name, purl in packages for each in wanted)


def _named(name: str, purl: str, wanted: str) -> bool:
    if wanted.startswith("pkg:"):
        kind, asked, version = in_url(wanted)
        if purl and in_url(purl)[0] != kind:
            return False
        wanted = f"{asked}@{version}" if version else asked
    source, version = source_in(purl)
    return wanted in (name, f"{name}@{version_in(purl)}", *((source, f"{source}@{version}") if source else ()))


Gone = Mapping[Digest, tuple[ImageRef, frozenset[FindingKey]]]
"""Base → the newest of its name that curation admits, and what that one does not have any more."""


def gone(bases: Sequence[Judged]) -> Gone:
    """Of the images of bases, the newest of each name first, what the newest one that passes is rid of."""
    newest: dict[str, Judged] = {}
    for each in bases:
        if each.passes:
            newest.setdefault(each.ref.repository, each)
    found = {}
    for each in bases:
        new = newest.get(each.ref.repository)
        if new is not None and new.ref != each.ref:
            still = {key_of(finding)[:3] for finding in new.findings}  # in whichever version
            rid = frozenset(key for finding in each.findings if (key := key_of(finding))[:3] not in still)
            found[each.ref.digest] = new.ref, rid
    return found


def rebuilds(findings: Iterable[Finding], bases: Iterable[Digest], fixed: Gone) -> tuple[Rebuild, ...]:
    """What an image with these findings would be rid of on the newest of each of its bases."""
    own, proposed = {key_of(f) for f in findings}, []
    for base in dict.fromkeys(bases):
        if base in fixed and (less := own & fixed[base][1]):
            newest = fixed[base][0]
            names = tuple(sorted({key[0] for key in less}))
            proposed.append(Rebuild(base=newest.repository, built_on=base, newest=newest.digest, findings=names))
    return tuple(proposed)
