"""Exposure: what is known of each image, in the order in which it asks for somebody. Pure functions."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

from pydantic import AwareDatetime, Field

from supply_chain.curation.rescan import Change, News
from supply_chain.errors import RescanIncomplete
from supply_chain.evidence.sbom import Package, in_url
from supply_chain.fleet.packages import asked_for, name_of, names_of, version_of
from supply_chain.model.image import Digest, Frozen, ImageRef
from supply_chain.model.manifest import Limits
from supply_chain.policy.rules import exceeded
from supply_chain.text import counted
from supply_chain.vulnerability.findings import Database, Finding, Report

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
    passes: bool = Field(description="whether curation's gate says yes by now; to what is blocked it does not")
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
        """Whether there is anything to read about it: what is refused and runs stays to be read."""
        refused = not self.passes and self.running
        return bool(refused or self.change or self.exploited or self.worse or self.better or self.due or self.rebuild)


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
    """What a rescan came to, at its end or where it broke off."""

    database: Database
    scanner: str
    started: AwareDatetime
    seconds: float
    images: int = Field(description="that were looked at")
    only: tuple[str, ...] = Field(default=(), description="packages that were asked for; empty: all images were")
    without: int = Field(default=0, description="that carry none of the packages asked for")
    left: int = Field(default=0, description="that were not looked at, as the run broke off")
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

    @property
    def tells_all(self) -> bool:
        """Whether it tells what there is to tell of all images: of one that may still be judged nobody knows that."""
        return not (self.only or self.left or any(each.retryable for each in self.unjudged))


def incomplete(unjudged: Sequence[Unjudged]) -> RescanIncomplete:
    """What to raise for images that could not be judged."""
    named = "\n".join(f"  {each.ref}: {each.message}" for each in unjudged)
    return RescanIncomplete(
        f"{counted(len(unjudged), 'image')} could not be judged; all others were:\n{named}\n"
        "Do what each one says, and start the rescan again: it goes on with what is missing."
    )


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
    over = exceeded(report, limits)
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

    By name, by name@version, or by package URL with or without version; see `fleet.packages`.
    """
    asked = [(kind, name_of(name), version_of(version)) for kind, name, version in map(asked_for, wanted)]
    return any(_named(package, asked) for package in packages)


def _named(package: Package, asked: Iterable[tuple[str, str, str]]) -> bool:
    of_kind, names = in_url(package[2])[0], names_of(package)
    return any(
        name == own and (not version or at in ("", version))
        for kind, name, version in asked
        if not kind or of_kind in ("", kind)
        for own, at in names
    )


Gone = Mapping[Digest, tuple[ImageRef, frozenset[FindingKey]]]
"""Base → the newest of its name that curation admits, and what that one does not have any more."""


def gone(bases: Sequence[Judged]) -> Gone:
    """Of the images of bases, the newest of each name first, what the newest one that passes is rid of; none that is
    blocked passes."""
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
