"""What the expressions of a policy read about an image: the facts of a gate, joined and in plain values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import singledispatch
from operator import itemgetter
from typing import Any, Literal, cast

from supply_chain.evidence.checks import CheckResult, list_required_checks
from supply_chain.evidence.clock import read_signed_time
from supply_chain.evidence.examination import OS_RELEASE, Examination, Identity, matches
from supply_chain.evidence.image_status import LifecycleDecision
from supply_chain.evidence.levels import build_level, name_level
from supply_chain.evidence.provenance import Provenance
from supply_chain.evidence.sbom import Configuration, Listing, Package, select_system_packages
from supply_chain.evidence.statement import is_about
from supply_chain.evidence.summary import Summary
from supply_chain.model.declaration import Base, Classification, Service
from supply_chain.model.image import Source
from supply_chain.model.tier import name_curated_repository, name_development_repository
from supply_chain.policy import fact_types as types
from supply_chain.policy.builders import find_builder_level
from supply_chain.policy.facts import (
    CuratedFacts,
    DeployFacts,
    EnvironmentRequirements,
    F,
    ImageFacts,
    IntakeFacts,
    ReleaseFacts,
)
from supply_chain.policy.names import Holder
from supply_chain.policy.people import People
from supply_chain.policy.policies import REVIEWERS, GatePolicy
from supply_chain.policy.vex import SCANS, Vex, is_accepted, join_vex, read_attached_vex
from supply_chain.policy.waivers import Waiver, waive_findings
from supply_chain.text import pluralize, truncate_lines
from supply_chain.vulnerability.findings import Finding, Report, Severity
from supply_chain.vulnerability.vex.matching import Image
from supply_chain.vulnerability.vex.statement import VexStatement

NOTED = 20
"""Number of accepted contents that a verdict names one by one."""
WORST = 5
"""Number of findings, or of packages with a licence, that a reason names one by one."""
OPTIONAL: tuple[Literal["epss", "cvss", "published", "fixed_since", "layer"], ...] = (
    "epss",
    "cvss",
    "published",
    "fixed_since",
    "layer",
)
"""What a report may not know of a finding."""


@singledispatch
def make_fact_values(facts: ImageFacts, people: People) -> Mapping[str, Any]:
    """Return the variable `image` of the expressions of the gate whose facts these are.

    `people` are those whose approvals count.
    """
    raise TypeError(type(facts))


@make_fact_values.register
def _(facts: IntakeFacts, people: People) -> types.IntakeValues:
    values = cast(types.IntakeValues, _image(facts, people))
    if (built := facts.provenance) is not None and (
        conflict := name_conflict(built.declaration.name, facts.holder, Holder.of(built.declaration, built.source))
    ):
        values["name_conflict"] = conflict
    if facts.source_report is not None:
        values["source_scan"] = _scan(facts.source_report, facts.declaration)
    return values


@make_fact_values.register
def _(facts: ReleaseFacts, people: People) -> types.ReleaseValues:
    values = cast(types.ReleaseValues, _curated(facts, people))
    values["copied_bases"] = list(facts.copied_bases)
    if facts.report is not None:
        scan = _image_scan(facts.report, facts.declaration, facts.packages or frozenset())
        values["scan"] = {**scan, "findings": _with_bases(scan["findings"], facts.base_packages)}
    if facts.sbom is not None:
        packages = facts.sbom.packages
        missing = select_system_packages(frozenset().union(*facts.base_packages.values())) - packages
        listed = {package[:2] for package in packages}
        values["sbom"] = {
            **_sbom(facts.sbom),
            "missing": sorted(package[1] for package in missing if package[:2] not in listed),
            "altered": sorted(package[1] for package in missing if package[:2] in listed),
        }
    if facts.examination is not None:
        own = facts.examination.distribution
        others = {base: identity for base, identity in facts.base_distributions.items() if identity != own}
        limits = facts.declaration.limits.unjudged if facts.declaration else ()
        accepted = any(each.what == "distribution" and matches(OS_RELEASE, each.at) for each in limits)
        examination = _examination(facts.examination, facts)
        if not accepted:
            examination["differences"].extend(f"{OS_RELEASE}: {base} names {each}" for base, each in others.items())
        differing = [
            f"it is of {own or 'no distribution'}, and {base} of {each or 'none'}" for base, each in others.items()
        ]
        values["examination"] = {**examination, "base_distributions": differing}
    return values


@make_fact_values.register
def _(facts: DeployFacts, people: People) -> types.DeployValues:
    values = cast(types.DeployValues, _curated(facts, people))
    if facts.report is not None:
        values["scan"] = _image_scan(facts.report, facts.declaration, facts.packages or frozenset())
    if facts.sbom is not None:
        values["sbom"] = _sbom(facts.sbom)
    if facts.examination is not None:
        values["examination"] = _examination(facts.examination, facts)
    values["signed"] = facts.signed
    values["verdicts"] = cast(
        types.VerdictsFacts, {gate.value: _verdict(each) for gate, each in facts.verdicts.items()}
    )
    values["environment"] = _environment(facts.environment)
    if (approval := facts.approval) is not None:
        values["approval"] = {
            "approved": approval.approved, "by": approval.by, "reason": approval.reason, "at": approval.decided,
        }  # fmt: skip
    values["approvers"] = list(people.find_approvers(facts.signed_approvals, facts.ref))
    committers = values["build"]["committers"] if "build" in values else []
    values["independent_approvers"] = list(people.find_independent(values["approvers"], committers))
    values["break_glass"] = [
        {
            "by": each.by,
            "reason": each.reason,
            "at": each.at,
            "expires": each.expires,
            "overrides": list(each.overrides),
        }
        for each in people.find_break_glass(facts.break_glass, facts.ref)
    ]
    if facts.soak is not None:
        values["soak"] = {"seconds": int(facts.soak.seconds), "text": str(facts.soak)}
    return values


def apply_waivers(image: Mapping[str, Any], waivers: Sequence[Waiver]) -> tuple[Mapping[str, Any], tuple[Waiver, ...]]:
    """Return the variable `image` with the waivers of its findings, and the waivers that accept one.

    `waivers` are those that cover the image.
    """
    joined, used = dict(image), dict[str, Waiver]()
    for scan in SCANS:
        if scan in image:
            findings, accepting = waive_findings(image[scan]["findings"], waivers)
            joined[scan] = _with_findings(image[scan], findings)
            used |= accepting
    return joined, tuple(used.values())


def _with_findings(scan: Mapping[str, Any], findings: Sequence[types.FindingFacts]) -> Mapping[str, Any]:
    """Return a scan with these findings, counted again."""
    limits = {each["severity"]: each.get("accepted") for each in scan["severities"]}
    return {**scan, "findings": findings, "severities": count_severities(findings, limits)}


@dataclass(frozen=True)
class EvidenceValues:
    """What evidence says about an image. Waivers and VEX documents of the project are not applied yet."""

    image: Mapping[str, Any]
    """The variable `image`."""
    packages: tuple[Package, ...]
    """The packages that findings are in."""
    attached: tuple[VexStatement, ...]
    """What issuers state in documents that are attached to the image."""


def make_evidence_values(facts: ImageFacts, people: People, now: datetime) -> EvidenceValues:
    """Return what evidence says about an image.

    `people` has those whose approvals, VEX documents and provenance count.
    """
    statements, notes = read_attached_vex(facts.attached, people, now)
    verified, uncounted = find_builder_level(facts.attached, facts.ref.digest, people)
    image = dict(make_fact_values(facts, people))
    image["ignored"] = [*image["ignored"], *notes, *uncounted]
    if verified and facts.provenance and verified.level > build_level(facts.provenance):
        image["build"] = {**image["build"], "level": name_level(verified.level), "level_builder": verified.builder}
    named = {(each["type"], each["package"]) for scan in SCANS if scan in image for each in image[scan]["findings"]}
    return EvidenceValues(image, tuple(sorted(each for each in _packages(facts) if each[:2] in named)), statements)


def _packages(facts: ImageFacts) -> Iterable[Package]:
    """Return the packages of the scan at a gate: of the image, or at the intake gate of its source."""
    if isinstance(facts, CuratedFacts):
        return facts.packages or ()
    report = facts.source_report if isinstance(facts, IntakeFacts) else None
    return report.source_packages if report else ()


def join_fact_values(facts: F, policy: GatePolicy[F], now: datetime) -> Mapping[str, Any]:
    """Return the variable `image` with what people and issuers have decided by this time."""
    return join_decisions(make_evidence_values(facts, policy.people, now), policy, now)


def join_decisions(values: EvidenceValues, policy: GatePolicy[Any], now: datetime) -> Mapping[str, Any]:
    """Return the variable `image` with the reviewers, what issuers state, and which waivers of verdicts have ended."""
    image = dict(values.image)
    if "build" in image:
        image["build"] = {**image["build"], REVIEWERS: policy.reviews.find_reviewers(image["build"])}
    image = join_statements(image, values.packages, values.attached, policy.vex, now)
    if "verdicts" in image:
        effective = {each.reference for each in policy.waivers if each.covers(image, now)}
        image["verdicts"] = {gate: _with_ended(each, effective) for gate, each in image["verdicts"].items()}
    return image


def join_statements(
    image: Mapping[str, Any], packages: Iterable[Package], attached: Sequence[VexStatement], vex: Vex, now: datetime
) -> dict[str, Any]:
    """Return facts of an image with what issuers state about the findings of its scans, which are in these packages.

    Of a working copy there is no digest yet: only statements about packages are about it.
    """
    joined, target = dict(image), Image(image.get("digest", ""), packages)
    for scan in SCANS:
        if scan in image and (findings := join_vex(image[scan]["findings"], target, attached, vex, now)) is not None:
            joined[scan] = _with_findings(image[scan], findings)
    return joined


def _with_ended(verdict: types.VerdictFacts, effective: Set[str]) -> types.VerdictFacts:
    """Return a verdict with those of its waivers that are not among the effective ones."""
    return {**verdict, "ended_waivers": [each for each in verdict["waivers"] if each not in effective]}


def make_working_copy_values(
    declaration: Service | Base,
    source: Source,
    uncurated: Sequence[str] | None,
    checks: Sequence[CheckResult],
    report: Report,
    minimum_classification: Classification | None,
) -> types.DeclaredValues | types.PlannedValues:
    """Return the facts of the intake gate that a working copy determines, as `make_fact_values` does after a build.

    `uncurated` are the names of the bases that are not curated; None if the Dockerfile cannot be built.
    `minimum_classification` is that of the name register.
    """
    checked: types.CheckedValues = {
        "repository": name_development_repository(declaration.name),
        "application": declaration.name,
        "checks": _source_checks(checks),
        "source_scan": _scan(report, declaration),
    }
    if lower := _classification_conflict(declaration, minimum_classification):
        checked["classification_conflict"] = lower
    declared = _declared(declaration, source)
    if uncurated is None:
        return {**checked, "build": declared}
    return {**checked, "build": {**declared, "uncurated": list(uncurated)}}


def make_local_image_values(
    declaration: Service | Base, build: types.DeclaredFacts, report: Report, packages: frozenset[Package]
) -> types.ImageScannedValues:
    """Return the facts of the release gate that a report about a local image determines, as `make_fact_values` does.

    `build` are the facts of its working copy, and `packages` those of the SBOM that was scanned.
    """
    return {
        "repository": name_curated_repository(declaration.name),
        "application": declaration.name,
        "build": build,
        "scan": _image_scan(report, declaration, packages),
    }


def name_conflict(name: str, holder: Holder | None, source: Holder) -> types.NameConflictFacts | None:
    """Return that a name belongs to another source; None if it is the source's, or has no holder yet."""
    if holder is None or holder.holds_for(source):
        return None
    return {"name": name, "holder": str(holder), "source": str(source)}


def _classification_conflict(
    declaration: Service | Base, minimum: Classification | None
) -> types.ClassificationConflictFacts | None:
    """Return that a declaration states a lower classification than the name register requires, or None."""
    if minimum is None or not declaration.classification.is_below(minimum):
        return None
    return {"declared": declaration.classification.value, "minimum": minimum.value}


def _image(facts: ImageFacts, people: People) -> types.ImageValues:
    values: types.ImageValues = {
        "repository": facts.ref.repository,
        "digest": facts.ref.digest,
        "application": facts.ref.application,
        "checks": _checks(facts.checks),
        "statements": _statements(facts),
        "ignored": list(facts.ignored_referrers),
    }
    if facts.status.block is not None:
        values["block"] = _block(str(facts.ref), facts.status.block, people)
    if facts.provenance is not None:
        values["build"] = _build(facts.provenance)
        if lower := _classification_conflict(facts.provenance.declaration, facts.minimum_classification):
            values["classification_conflict"] = lower
    return values


def _statements(facts: ImageFacts) -> list[types.StatementFacts]:
    """Return the newest statement of each predicate type and signer about the image; one without a time is oldest."""
    newest: dict[tuple[str, str], datetime | None] = {}
    for each in facts.evidence:
        if is_about(each.statement, facts.ref):
            key, signed = (each.predicate_type, each.signer.value), read_signed_time(each.statement)
            before = newest.setdefault(key, signed)
            newest[key] = max(filter(None, (before, signed)), default=None)
    return [_statement(*key, signed) for key, signed in sorted(newest.items(), key=itemgetter(0))]


def _statement(predicate_type: str, signer: str, signed: datetime | None) -> types.StatementFacts:
    values: types.StatementFacts = {"predicate_type": predicate_type, "signer": signer}
    return values if signed is None else {**values, "signed": signed}


def _curated(facts: CuratedFacts, people: People) -> types.CuratedValues:
    values = cast(types.CuratedValues, _image(facts, people))
    values["bases"] = [_base(base, built) for base, built in facts.bases.items()]
    values["blocked_bases"] = [_block(base, block, people) for base, block in facts.blocked_bases.items()]
    if facts.sbom is not None and facts.sbom.configuration is not None:
        values["container"] = _container(facts.sbom.configuration)
    if (record := facts.encryption) is not None:
        values["encryption"] = {"key": record.key}
        if record.encrypted_copy is not None:
            values["encryption"]["copy_of"] = record.encrypted_copy.plain
    return values


def _with_bases(
    findings: Sequence[types.FindingFacts], bases: Mapping[str, frozenset[Package]]
) -> list[types.ReleaseFindingFacts]:
    """Return the findings, each with the first base that has the same package in the same version."""
    images = {base: Image("", packages) for base, packages in bases.items()}

    def joined(finding: types.FindingFacts) -> types.ReleaseFindingFacts:
        listed = finding["type"], finding["package"], finding["version"]
        base = next((base for base, image in images.items() if image.find_packages(listed)), None)
        return cast(types.ReleaseFindingFacts, finding if base is None else {**finding, "base": base})

    return list(map(joined, findings))


def _sbom(listing: Listing) -> types.SbomFacts:
    return {
        "packages": len(listing.packages),
        "names": sorted({f"{kind}/{name}" for kind, name, _ in listing.packages}),
        "licenses": [_license(name, packages) for name, packages in listing.licenses.items()],
        "unlicensed": sorted(listing.unlicensed),
    }


def _license(name: str, packages: Set[str]) -> types.LicenseFacts:
    examples = ", ".join(truncate_lines(WORST, sorted(packages)))
    return {"license": name, "packages": len(packages), "examples": examples}


def _container(configuration: Configuration) -> types.ContainerFacts:
    labels: list[types.LabelFacts] = [{"name": name, "value": value} for name, value in configuration.labels.items()]
    return {
        "user": configuration.user,
        "ports": list(configuration.ports),
        "labels": labels,
        "size": configuration.size,
    }


def _base(image: str, built: datetime | None) -> types.BaseFacts:
    return {"image": image} if built is None else {"image": image, "built": built}


def _block(image: str, block: LifecycleDecision, people: People) -> types.BlockFacts:
    verified = block.rule or not people.explain_uncounted_decision(block, image.rpartition("@")[2])
    text = str(block) if verified else f"{block} (unverified name)"
    return {"image": image, "by": block.by, "reason": block.reason, "at": block.at, "text": text}


def _build(built: Provenance) -> types.BuildFacts:
    own = {
        "uncurated": list(built.uncurated),
        "reviewers": [],
        "builder": built.run_details.builder.id,
        "finished": built.run_details.metadata.finished_on,
        "level": name_level(build_level(built)),
    }
    return cast(types.BuildFacts, {**_declared(built.declaration, built.source), **own})


def _declared(declaration: Service | Base, source: Source) -> types.DeclaredFacts:
    return {
        "name": declaration.name,
        "kind": declaration.kind,
        "owner": declaration.owner,
        "classification": declaration.classification.value,
        "environments": list(declaration.environments),
        "repository": source.repository,
        "path": source.path,
        "revision": source.revision,
        "branch": source.branch,
        "uncommitted": source.dirty,
        "committers": [] if source.dirty else list(source.committers),
        "required_checks": [each.value for each in list_required_checks(declaration.kind)],
        "limits": {
            "scan_days": declaration.limits.scan_days,
            "unknown_distribution": declaration.limits.unknown_distribution,
        },
    }


def _checks(results: Sequence[CheckResult]) -> types.ChecksFacts:
    reported = any(each.shows_tests for each in results)
    return cast(types.ChecksFacts, {**_source_checks(results), "tests_reported": reported})


def _source_checks(results: Sequence[CheckResult]) -> types.SourceChecksFacts:
    newest = {
        each.check.value: {
            "failed": list(each.failed), "examined": not each.empty, "finished": each.interval.finished,
        }
        for each in results
    }  # fmt: skip
    return cast(types.SourceChecksFacts, newest)


def _scan(report: Report, declaration: Service | Base | None) -> types.ScanFacts:
    findings = [_finding(each) for each in report.findings]
    limits = declaration.limits if declaration else None
    return {
        "scanned": report.scanned,
        "scanner": report.scanner,
        "version": report.scanner_version,
        "database": report.database.kind,
        "database_built": report.database.built,
        "database_digest": report.database.digest,
        "findings": findings,
        "severities": count_severities(findings, {each.value: getattr(limits, each.value, None) for each in Severity}),
    }


def _image_scan(
    report: Report, declaration: Service | Base | None, packages: frozenset[Package]
) -> types.ImageScanFacts:
    scan = cast(types.ImageScanFacts, _scan(report, declaration))
    if unjudged := _unjudged_packages(report, packages):
        scan["unjudged"] = unjudged
    return scan


def _finding(finding: Finding) -> types.FindingFacts:
    fields = vars(finding)  # a report has many findings, and attributes of a model take twice the time
    package, fixed_in = fields["package"], fields["fixed_in"]
    values: types.FindingFacts = {
        "id": fields["id"],
        "aliases": list(fields["aliases"]),
        "severity": fields["severity"]._value_,  # `value` is a property, which takes as long as five of these fields
        "package": package,
        "version": fields["version"],
        "type": fields["type"],
        "fixed_in": list(fixed_in),
        "exploited": fields["known_exploited"],
        "text": str(finding),
        "fix": f"upgrade {package} to {fixed_in[0]} or later" if fixed_in else f"remove {package}; no fix is published",
    }
    for name in OPTIONAL:
        if (value := fields[name]) is not None:
            values[name] = value
    return values


def count_severities(
    findings: Iterable[types.FindingFacts], accepted: Mapping[str, int | None]
) -> list[types.SeverityFacts]:
    """Return each severity, the worst first, with the findings that are not accepted.

    `accepted` is the most findings that the owner accepts, by severity; None for any number.
    """
    by_severity: dict[str, list[types.FindingFacts]] = {severity.value: [] for severity in Severity}
    for finding in findings:
        if not is_accepted(finding):
            by_severity[finding["severity"]].append(finding)
    return [_severity(severity, of, accepted.get(severity)) for severity, of in by_severity.items()]


def _severity(severity: str, findings: Sequence[types.FindingFacts], accepted: int | None) -> types.SeverityFacts:
    values: types.SeverityFacts = {
        "severity": severity,
        "found": len(findings),
        "fixable": sum(1 for each in findings if each["fixed_in"]),
        "worst": "; ".join(truncate_lines(WORST, findings, itemgetter("text"))),
    }
    if accepted is not None:
        values["accepted"] = accepted
    return values


def _examination(examination: Examination, facts: CuratedFacts) -> types.ExaminationFacts:
    own = examination.exclude_bases(facts.examined_bases)
    left = own.exclude_accepted(facts.declaration.limits.unjudged) if facts.declaration else own
    accepted = [
        *(f"the archive {each.path} ({each.format})" for each in own.archives if each not in left.archives),
        *(f"the package database {each.path} ({each.manager})" for each in own.databases if each not in left.databases),
        *(f"{each.path}: {each.fact}" for each in own.contradictions if each not in left.contradictions),
    ]
    values: types.ExaminationFacts = {
        "conflicts": list(examination.conflicts),
        "differences": [f"{each.path}: {each.fact}" for each in left.contradictions],
        "databases": [f"{each.path} ({each.manager})" for each in left.databases],
        "archives": [f"{each.path} ({each.format})" for each in left.archives],
        "privileged_files": [{"path": each.path, "rights": each.rights} for each in examination.privileged_files],
        "unlisted": left.unlisted,
        "accepted": accepted[:NOTED],
        "accepted_more": len(accepted[NOTED:]),
    }
    if examination.distribution is not None:
        values["distribution"] = str(examination.distribution)
    if facts.sbom is not None and not _is_same_distribution(facts.sbom.distribution, examination.distribution):
        listed = f"{facts.sbom.distribution or 'no distribution'}"
        codename = facts.sbom.distribution.codename if facts.sbom.distribution else ""
        values["differences"].append(f"{OS_RELEASE}: syft reads {listed}{codename and f' ({codename})'} in it")
    return values


def _is_same_distribution(listed: Identity | None, own: Identity | None) -> bool:
    """Return whether the SBOM names the image's distribution.

    syft adds the point release to the version (debian 12.15), and names busybox in an image that has no os-release.
    """
    if listed is None or own is None:
        return listed == own or (listed is not None and listed.id == "busybox")
    same_version = listed.version == own.version or (own.version and listed.version.startswith(f"{own.version}."))
    return bool(same_version) and (listed.id, listed.codename) == (own.id, own.codename)


def _unjudged_packages(report: Report, listed: frozenset[Package]) -> str | None:
    """Return which packages of the distribution the scan does not judge and why; None if there are none.

    A scanner finds nothing in packages that its database does not know, and does not report that.
    """
    packages = select_system_packages(listed)
    if not packages:
        return None
    of, many = report.distribution, pluralize(len(packages), "package")
    if of is None:
        return f"{many} of a distribution of which the scan does not tell whether the database knows it"
    if not of.name:
        return f"{many} of a distribution that the image does not name as one that the scanner knows"
    if not of.in_database:
        return f"{many} of {of}, about which the vulnerability database knows nothing"
    return None


def _verdict(last: Summary) -> types.VerdictFacts:
    waivers = list(last.cscm.waivers)
    values: types.VerdictFacts = {
        "passed": last.passed,
        "at": last.time_verified,
        "refused": sorted({each["code"] for each in last.cscm.reasons}),
        "reasons": sorted({f"{each['code']}: {each['fact']}" for each in last.cscm.reasons}),
        "refused_findings": sorted(
            {f"{each.rule}: {each.findings}" for each in last.cscm.refused_rules if each.findings}
        ),
        "waivers": waivers,
        "ended_waivers": waivers,
    }
    if last.cscm.expires is not None:
        values["expires"] = last.cscm.expires
    return values


def _environment(required_of: EnvironmentRequirements) -> types.EnvironmentFacts:
    values: types.EnvironmentFacts = {
        "name": required_of.name,
        "approval": required_of.approval,
        "signed_approvals": required_of.signed_approvals,
        "test_report": required_of.test_report,
    }
    if (soak := required_of.soak) is not None:
        time = str(timedelta(seconds=soak.seconds))
        values["soak"] = {"environment": soak.environment, "seconds": soak.seconds, "time": time}
    return values
