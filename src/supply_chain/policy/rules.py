"""The fixed minimal policy: one function per rule, every reason with a published code."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from supply_chain.evidence.checks import CHECKS, NOT_SHOWN, required
from supply_chain.evidence.encryption import encryption_records
from supply_chain.evidence.examination import OS_RELEASE, matches
from supply_chain.model.manifest import Limits, Service
from supply_chain.model.tier import Gate, TierName
from supply_chain.policy.gate import Dossier, Policy, unaccepted, unjudged_packages
from supply_chain.policy.names import Holder
from supply_chain.policy.outcome import Reason
from supply_chain.text import pluralize, truncate_lines
from supply_chain.vulnerability.findings import Finding, Report, Severity
from supply_chain.vulnerability.reports import is_current

VERSION = "9"
IMAGE_BLOCKED, BASE_BLOCKED = "image.blocked", "base.blocked"
"""Codes of the reasons that no longer apply once the block is lifted."""


def image_not_blocked(dossier: Dossier[Any]) -> Iterator[Reason]:
    """Refuse if the image is blocked, whatever other evidence there is."""
    if ruling := dossier.standing.block:
        yield Reason(
            code=IMAGE_BLOCKED,
            fact=f"it was blocked {ruling}",
            remedy="build a new image without the reason of the block, or lift the block with `cscm unblock`",
        )


def base_images_not_blocked(dossier: Dossier[Any]) -> Iterator[Reason]:
    """Refuse if a base or any other image that the build used is blocked.

    The bases of those bases count too.
    """
    for base, ruling in dossier.blocked_bases.items():
        yield Reason(
            code=BASE_BLOCKED,
            fact=f"{base}, which it is built on or with, was blocked {ruling}",
            remedy="build it again on a base that is not blocked, or lift the block with `cscm unblock`",
        )


def provenance_signed(dossier: Dossier[Any]) -> Iterator[Reason]:
    """Refuse unless provenance that the development tier signed is attached to the image."""
    if dossier.manifest is None:
        yield Reason(
            code="provenance.missing",
            fact="no provenance signed by the development tier is attached to this digest",
            remedy="build and offer it with `cscm build`",
        )


def application_names_match(dossier: Dossier[Any]) -> Iterator[Reason]:
    """Refuse if the signed declaration names another application than the image's repository does."""
    if dossier.manifest is not None and dossier.manifest.name != dossier.ref.application:
        yield Reason(
            code="provenance.other-application",
            fact=f"the signed declaration names {dossier.manifest.name}, the repository {dossier.ref.application}",
            remedy="offer each application in its own repository",
        )


def name_belongs_to_source(dossier: Dossier[Any]) -> Iterator[Reason]:
    """Refuse if the application name is registered to, or was first used by, another source, owner or kind.

    `deployments/names.yaml` takes precedence, and reserves the names below `base/` and `upstream/`.
    """
    manifest, source = dossier.manifest, dossier.source
    if manifest is None or source is None:
        return
    yield from name_reasons(manifest.name, dossier.holder, Holder.of(manifest, source))


def name_reasons(name: str, held: Holder | None, asks: Holder) -> tuple[Reason, ...]:
    """Return why `asks` may not use the name; empty if it may, or if nobody holds the name yet. Pure.

    The intake gate applies this to the signed provenance, and development applies it before it builds.
    """
    if held is None or held.holds_for(asks):
        return ()
    return (
        Reason(
            code="name.taken",
            fact=f"{name} is {held}; this is {asks}",
            remedy="use another name; deployments/names.yaml assigns a name to another source",
        ),
    )


def required_checks_present(dossier: Dossier[Any]) -> Iterator[Reason]:
    """Refuse unless there is a signed result of every check that this kind of application requires."""
    if dossier.manifest is None:
        return
    made = {result.check for result in dossier.checks}
    for check in required(dossier.manifest.kind):
        if check not in made:
            yield Reason(
                code=f"{check}.missing",
                fact=f"there is no signed result of the check `{check}`",
                remedy="run `cscm build` again; it runs every check",
            )


def checks_passed(dossier: Dossier[Any]) -> Iterator[Reason]:
    """Refuse if a check failed or examined nothing; each failure is a separate reason."""
    for result in dossier.checks:
        for failure in result.failed:
            yield Reason(code=f"{result.check}.failed", fact=failure, remedy=CHECKS[result.check].remedy)
        if result.empty:
            yield Reason(
                code=f"{result.check}.empty",
                fact=f"the check `{result.check}` examined nothing",
                remedy="find out why it examined nothing, and correct it",
            )


def source_within_limits(dossier: Dossier[Any]) -> Iterator[Reason]:
    """Refuse unless the source's dependencies have a vulnerability report that is within the owner's limits.

    Findings that are known to be exploited are never accepted.
    """
    if dossier.source_report is None:
        yield Reason(
            code="dependencies.report-missing",
            fact="no vulnerability report on the source, signed by the development tier, is attached to this digest",
            remedy="run `cscm build` again; it runs every check",
        )
    elif dossier.manifest is not None:
        yield from over_limits(dossier.source_report, dossier.manifest.limits, "dependencies")


def sbom_complete(dossier: Dossier[Any]) -> Iterator[Reason]:
    """Refuse if there is no signed SBOM, if it is empty, or if packages of the base are missing or altered in it."""
    if dossier.inventory is None:
        yield Reason(
            code="sbom.missing",
            fact="no SBOM signed by the curation tier is attached to this digest",
            remedy="run `cscm curate` again; it creates the SBOM",
        )
        return
    if not dossier.inventory:
        yield Reason(
            code="sbom.empty",
            fact="the SBOM lists no package, so a scan can find nothing",
            remedy="keep the package metadata of the distribution, the language and the build in the image",
        )
    missing, listed = dossier.inherited - dossier.inventory, {package[:2] for package in dossier.inventory}
    hidden = sorted(package[1] for package in missing if package[:2] not in listed)
    altered = sorted(package[1] for package in missing if package[:2] in listed)
    if hidden:
        yield Reason(
            code="sbom.incomplete",
            fact=f"its SBOM lacks {pluralize(len(hidden), 'package')} of the base: {', '.join(hidden[:10])}",
            remedy="do not change the package manager's records (/var/lib/dpkg) of the base",
        )
    if altered:
        yield Reason(
            code="sbom.altered",
            fact=f"its SBOM gives another version, source or distribution to {pluralize(len(altered), 'package')} "
            f"of the base: {', '.join(altered[:10])}",
            remedy="upgrade packages in the base, and build on it; do not change its /var/lib/dpkg and os-release",
        )


def image_examined(dossier: Dossier[Any]) -> Iterator[Reason]:
    """Refuse unless curation examined the image's files for content that no scanner judges."""
    if dossier.inventory is not None and dossier.examination is None:
        yield Reason(
            code="sbom.not-examined",
            fact="the signed SBOM does not list the content of the image that no scanner judges",
            remedy="run `cscm curate` again; it examines the image and creates the SBOM again",
        )


def layers_unambiguous(dossier: Dossier[Any]) -> Iterator[Reason]:
    """Refuse if container engines would unpack the image's layers into different files."""
    if dossier.examination and (conflicts := dossier.examination.conflicts):
        yield Reason(
            code="sbom.layers-differ",
            fact=f"container engines unpack its layers into different files: {'; '.join(conflicts[:5])}",
            remedy="build it on another base, or use COPY instead of `COPY --link`, so that no layer writes through "
            "a link of another layer",
        )


def distribution_matches_base(dossier: Dossier[Any]) -> Iterator[Reason]:
    """Refuse if the image names another distribution than its base does, or contradicts itself about it.

    A scanner relies on os-release.
    """
    if dossier.examination is None or dossier.manifest is None:
        return
    left = dossier.examination.unaccepted(dossier.manifest.limits.unjudged)
    facts = [f"{each.path}: {each.fact}" for each in left.contradictions]
    accepts = any(
        each.what == "distribution" and matches(OS_RELEASE, each.at) for each in dossier.manifest.limits.unjudged
    )
    own = dossier.examination.distribution
    if not accepts:
        facts += [
            f"{OS_RELEASE}: {base} names {identity}"
            for base, identity in dossier.distributions.items()
            if identity != own
        ]
    if facts:
        yield Reason(
            code="sbom.distribution-differs",
            fact=f"it names {own or 'no distribution'}, but {'; '.join(facts[:10])}",
            remedy="do not change os-release and the distribution's release files of the base, or let the owner "
            "accept it (limits.unjudged in supply-chain.yaml)",
        )


def single_package_database(dossier: Dossier[Any]) -> Iterator[Reason]:
    """Refuse if the image has package databases besides the distribution's own that the owner does not accept."""
    databases = unaccepted(dossier).databases
    if databases:
        named = ", ".join(f"{each.path} ({each.manager})" for each in databases[:10])
        yield Reason(
            code="sbom.second-database",
            fact=f"{pluralize(len(databases), 'package database')} besides the distribution's own: {named}",
            remedy="install packages with the distribution's package manager, or build on their image, or let the "
            "owner accept it (limits.unjudged in supply-chain.yaml)",
        )


def archives_accepted(dossier: Dossier[Any]) -> Iterator[Reason]:
    """Refuse if the image has archives that no scanner opens, unless a base has them too or the owner accepts them."""
    left = unaccepted(dossier)
    many = len(left.archives) + left.unlisted
    if many:
        named = ", ".join(f"{each.path} ({each.format})" for each in left.archives[:10])
        yield Reason(
            code="sbom.archives",
            fact=f"{pluralize(many, 'archive')} that no scanner opens: {named or 'more than are listed'}",
            remedy="unpack or remove them in the build, or let the owner accept them (limits.unjudged)",
        )


def image_scanned(dossier: Dossier[Any]) -> Iterator[Reason]:
    """Refuse unless there is a vulnerability report of the image that the curation tier signed."""
    if dossier.report is None:
        yield Reason(
            code="scan.missing",
            fact="no vulnerability report signed by the curation tier is attached to this digest",
            remedy="run `cscm curate` again; it scans the image",
        )


def scan_up_to_date(dossier: Dossier[Any]) -> Iterator[Reason]:
    """Refuse if the scan is older than the owner's limit (`limits.scan_days`)."""
    if dossier.manifest is None or dossier.report is None:
        return
    days, scanned = dossier.manifest.limits.scan_days, dossier.report.scanned
    if dossier.now is None or not is_current(dossier.report, dossier.now, days):
        yield Reason(
            code="scan.old",
            fact=f"it was scanned on {scanned:%Y-%m-%d %H:%M %Z}, and a scan is valid for {pluralize(days, 'day')}",
            remedy="run `cscm curate` again; it scans the image again",
        )


def distribution_supported(dossier: Dossier[Any]) -> Iterator[Reason]:
    """Refuse if the vulnerability database does not know the image's distribution and the owner does not accept that.

    A scan finds nothing in packages that its database does not know.
    """
    packages = unjudged_packages(dossier)
    if packages and dossier.manifest is not None and not dossier.manifest.limits.unknown_distribution:
        yield Reason(
            code="scan.distribution-unknown",
            fact=f"not judged: {packages}",
            remedy="build on a curated base, and do not change its /etc/os-release, or let the owner accept it "
            "(limits.unknown_distribution in supply-chain.yaml)",
        )


def findings_within_limits(dossier: Dossier[Any]) -> Iterator[Reason]:
    """Refuse if the image has more findings of a severity than its owner accepts, or one known to be exploited."""
    if dossier.manifest is not None and dossier.report is not None:
        yield from over_limits(dossier.report, dossier.manifest.limits, "scan")


def over_limits(report: Report, limits: Limits, what: str) -> Iterator[Reason]:
    """Yield one reason per finding that is known to be exploited, and one per severity above its limit."""
    over = exceeded(report, limits)
    for finding in report.findings:
        if finding.known_exploited:
            yield Reason(code=f"{what}.known-exploited", fact=str(finding), remedy=_raise(finding))
    for severity in Severity:
        limit = getattr(limits, severity.value)
        found = [f for f in report.findings if f.severity is severity]
        if severity in over:
            worst = "; ".join(truncate_lines(5, [str(finding) for finding in found]))
            fixable = sum(f.fixable for f in found)
            yield Reason(
                code=f"{what}.{severity}",
                fact=f"{pluralize(len(found), 'finding')} of severity {severity}, {limit} accepted: {worst}",
                remedy=f"fixes exist for {fixable} of them: upgrade those packages, or rebuild on a newer base",
            )


def exceeded(report: Report, limits: Limits) -> frozenset[Severity]:
    """Return the severities with more findings than the owner accepts."""
    found = Counter(finding.severity for finding in report.findings)
    accepted = {severity: getattr(limits, severity.value) for severity in found}
    return frozenset(severity for severity, limit in accepted.items() if limit is not None and found[severity] > limit)


def _raise(finding: Finding) -> str:
    if finding.fixed_in:
        return f"upgrade {finding.package} to {finding.fixed_in[0]} or later"
    return f"remove {finding.package}; no fix is published"


def encrypted_at_rest(dossier: Dossier[Any]) -> Iterator[Reason]:
    """Refuse unless curation attested encryption at rest with its own key and, if confidential, an encrypted copy."""
    records = encryption_records(e for e in dossier.evidence if e.signer == TierName.CURATION)
    if not records:
        yield Reason(
            code="encryption.missing",
            fact="there is no evidence that it is encrypted with the tier's key",
            remedy="run `cscm curate` again; it verifies the repository's encryption",
        )
        return
    confidential = dossier.manifest is not None and dossier.manifest.classification == "confidential"
    copy = records[-1].value.encrypted_copy
    if confidential and (copy is None or copy.plain != dossier.ref.digest):
        yield Reason(
            code="encryption.no-copy",
            fact="it is confidential and has no encrypted copy",
            remedy="run `cscm curate` again; it writes the copy",
        )


def signature_present(dossier: Dossier[Any]) -> Iterator[Reason]:
    """Refuse unless curation signed this digest."""
    if not dossier.signed:
        yield Reason(
            code="signature.missing",
            fact="there is no signature of this digest by the curation tier's key",
            remedy="run `cscm curate`; it signs what it admits",
        )


def earlier_verdicts_passed(dossier: Dossier[Any]) -> Iterator[Reason]:
    """Refuse unless the last signed verdicts of the intake gate and the release gate admit this digest."""
    for gate in (Gate.INTAKE, Gate.RELEASE):
        said = dossier.verdicts.get(gate)
        if said is None or not said.value.passed:
            yield Reason(
                code=f"verdict.{gate}.{'missing' if said is None else 'refused'}",
                fact=f"there is no signed verdict of the {gate} gate about this digest"
                if said is None
                else f"the last signed verdict of the {gate} gate, of {said.value.time_verified:%Y-%m-%d %H:%M:%S %Z}, "
                "refuses this digest",
                remedy=f"run `cscm curate {dossier.ref.digest}`; its gates attach their verdicts to the image",
            )


def environment_declared(dossier: Dossier[Any]) -> Iterator[Reason]:
    """Refuse if the image is a base, or if its declaration does not list the environment."""
    if dossier.manifest is None:
        return
    environment = dossier.place.name if dossier.place else ""
    if not isinstance(dossier.manifest, Service):
        yield Reason(
            code="placement.not-a-service",
            fact=f"{dossier.manifest.name} is a {dossier.manifest.kind}",
            remedy="deploy services only; a base is for builds",
        )
    elif environment not in dossier.manifest.environments:
        yield Reason(
            code="placement.not-declared",
            fact=f"{environment} is not among its environments ({', '.join(dossier.manifest.environments)})",
            remedy="add the environment to supply-chain.yaml, and run the chain again",
        )


def tests_reported(dossier: Dossier[Any]) -> Iterator[Reason]:
    """Refuse if the environment requires proof of tests and no test runner's report shows that tests ran."""
    if dossier.place and dossier.place.tests_shown and not any(each.shows_tests for each in dossier.checks):
        yield Reason(
            code=NOT_SHOWN,
            fact=f"{dossier.place.name} requires a test runner's report that shows tests, and there is none",
            remedy="name a test runner as test.command, or let it write the report test.report; then build again",
        )


def approval_given(dossier: Dossier[Any]) -> Iterator[Reason]:
    """Refuse if the latest approval decision is a denial, or if the environment requires an approval and there is none.

    Only decisions about this image in this environment count.
    """
    if dossier.approval is None:
        if dossier.place and dossier.place.approval:
            environment = dossier.place.name
            yield Reason(
                code="approval.missing",
                fact=f"{environment} requires an approval, and there is no signed approval of this digest for it",
                remedy="answer the promotion, which asks for approval after the soak, or run `cscm approve`",
            )
    elif not dossier.approval.value.approved:
        said = dossier.approval.value
        yield Reason(
            code="approval.denied",
            fact=f"{said.by} denied it for {said.environment} on {said.decided:%Y-%m-%d %H:%M %Z}: {said.reason}",
            remedy="offer an image that resolves the reason; a later approval (`cscm approve`) overrides the denial",
        )


def soak_completed(dossier: Dossier[Any]) -> Iterator[Reason]:
    """Refuse if the environment requires a soak in another one and the image has not completed it."""
    place, known = dossier.place, dossier.soak
    if place and place.soak and not place.soak.met_by(known):
        environment, after, time = place.name, place.soak.environment, timedelta(seconds=place.soak.seconds)
        longest = f"this image was {known.value}" if known else "there is no signed soak of this image"
        yield Reason(
            code="soak.missing",
            fact=f"{environment} requires an image that was healthy in {after} for {time}; {longest}",
            remedy=f"deploy it to {after} first; after its soak there, it is promoted",
        )


POLICIES = {
    Gate.INTAKE: Policy(
        Gate.INTAKE,
        (image_not_blocked, provenance_signed, application_names_match, name_belongs_to_source,
         required_checks_present, checks_passed, source_within_limits),
        VERSION,
    ),
    Gate.RELEASE: Policy(
        Gate.RELEASE,
        (image_not_blocked, base_images_not_blocked, provenance_signed, application_names_match, sbom_complete,
         image_examined, layers_unambiguous, distribution_matches_base, single_package_database, archives_accepted,
         image_scanned, distribution_supported, findings_within_limits, encrypted_at_rest),
        VERSION,
    ),
    Gate.DEPLOY: Policy(
        Gate.DEPLOY,
        (image_not_blocked, base_images_not_blocked, provenance_signed, application_names_match, signature_present,
         earlier_verdicts_passed, sbom_complete, image_examined, layers_unambiguous, distribution_matches_base,
         single_package_database, archives_accepted, image_scanned, scan_up_to_date, distribution_supported,
         findings_within_limits, encrypted_at_rest, environment_declared, tests_reported, soak_completed,
         approval_given),
        VERSION,
    ),
}  # fmt: skip
