"""The rules of the gates: one function per rule, every reason with a published code.

A rule says by the type of its argument which facts it reads, and so at which gates it can be.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import timedelta

from supply_chain.evidence.checks import CHECKS, TESTS_UNPROVEN, required
from supply_chain.evidence.examination import OS_RELEASE, Examination, matches
from supply_chain.evidence.sbom import system_packages
from supply_chain.model.manifest import Limits, Service
from supply_chain.model.tier import Gate
from supply_chain.policy.facts import CuratedFacts, DeployFacts, ImageFacts, IntakeFacts, ReleaseFacts
from supply_chain.policy.names import Holder
from supply_chain.policy.outcome import Reason
from supply_chain.text import pluralize, truncate_lines
from supply_chain.vulnerability.findings import Finding, Report, Severity
from supply_chain.vulnerability.reports import is_current

IMAGE_BLOCKED, BASE_BLOCKED = "image.blocked", "base.blocked"
"""Codes of the reasons that no longer apply once the block is lifted."""


def image_not_blocked(facts: ImageFacts) -> Iterator[Reason]:
    """Refuse if the image is blocked, whatever other evidence there is."""
    if block := facts.status.block:
        yield Reason(
            code=IMAGE_BLOCKED,
            fact=f"it was blocked {block}",
            remedy="build a new image without the reason of the block, or lift the block with `cscm unblock`",
        )


def base_images_not_blocked(facts: CuratedFacts) -> Iterator[Reason]:
    """Refuse if a base or any other image that the build used is blocked.

    The bases of those bases count too.
    """
    for base, block in facts.blocked_bases.items():
        yield Reason(
            code=BASE_BLOCKED,
            fact=f"{base}, which it is built on or with, was blocked {block}",
            remedy="build it again on a base that is not blocked, or lift the block with `cscm unblock`",
        )


def provenance_signed(facts: ImageFacts) -> Iterator[Reason]:
    """Refuse unless provenance that the development tier signed is attached to the image."""
    if facts.manifest is None:
        yield Reason(
            code="provenance.missing",
            fact="no provenance signed by the development tier is attached to this digest",
            remedy="build and offer it with `cscm build`",
        )


def application_names_match(facts: ImageFacts) -> Iterator[Reason]:
    """Refuse if the signed declaration names another application than the image's repository does."""
    if facts.manifest is not None and facts.manifest.name != facts.ref.application:
        yield Reason(
            code="provenance.other-application",
            fact=f"the signed declaration names {facts.manifest.name}, the repository {facts.ref.application}",
            remedy="offer each application in its own repository",
        )


def name_belongs_to_source(facts: IntakeFacts) -> Iterator[Reason]:
    """Refuse if the application name is registered to, or was first used by, another source, owner or kind.

    `deployments/names.yaml` takes precedence, and reserves the names below `base/` and `upstream/`.
    """
    built = facts.provenance
    if built is not None:
        yield from name_reasons(built.manifest.name, facts.holder, Holder.of(built.manifest, built.source))


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


def required_checks_present(facts: IntakeFacts) -> Iterator[Reason]:
    """Refuse unless there is a signed result of every check that this kind of application requires."""
    if facts.manifest is None:
        return
    made = {result.check for result in facts.checks}
    for check in required(facts.manifest.kind):
        if check not in made:
            yield Reason(
                code=f"{check}.missing",
                fact=f"there is no signed result of the check `{check}`",
                remedy="run `cscm build` again; it runs every check",
            )


def checks_passed(facts: IntakeFacts) -> Iterator[Reason]:
    """Refuse if a check failed or examined nothing; each failure is a separate reason."""
    for result in facts.checks:
        for failure in result.failed:
            yield Reason(code=f"{result.check}.failed", fact=failure, remedy=CHECKS[result.check].remedy)
        if result.empty:
            yield Reason(
                code=f"{result.check}.empty",
                fact=f"the check `{result.check}` examined nothing",
                remedy="find out why it examined nothing, and correct it",
            )


def source_within_limits(facts: IntakeFacts) -> Iterator[Reason]:
    """Refuse unless the source's dependencies have a vulnerability report that is within the owner's limits.

    Findings that are known to be exploited are never accepted.
    """
    if facts.source_report is None:
        yield Reason(
            code="dependencies.report-missing",
            fact="no vulnerability report on the source, signed by the development tier, is attached to this digest",
            remedy="run `cscm build` again; it runs every check",
        )
    elif facts.manifest is not None:
        yield from over_limits(facts.source_report, facts.manifest.limits, "dependencies")


def sbom_present(facts: CuratedFacts) -> Iterator[Reason]:
    """Refuse if there is no signed SBOM, or if it lists no package.

    A scan finds nothing in packages that the SBOM does not list.
    """
    if facts.packages is None:
        yield Reason(
            code="sbom.missing",
            fact="no SBOM signed by the curation tier is attached to this digest",
            remedy="run `cscm curate` again; it creates the SBOM",
        )
    elif not facts.packages:
        yield Reason(
            code="sbom.empty",
            fact="the SBOM lists no package, so a scan can find nothing",
            remedy="keep the package metadata of the distribution, the language and the build in the image",
        )


def base_packages_listed(facts: ReleaseFacts) -> Iterator[Reason]:
    """Refuse if packages of the base are missing or altered in the SBOM.

    A scan finds nothing in packages whose metadata was removed or replaced.
    """
    if facts.packages is None:
        return
    missing, listed = facts.base_packages - facts.packages, {package[:2] for package in facts.packages}
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


def image_examined(facts: CuratedFacts) -> Iterator[Reason]:
    """Refuse unless curation examined the image's files for content that no scanner judges."""
    if facts.packages is not None and facts.examination is None:
        yield Reason(
            code="sbom.not-examined",
            fact="the signed SBOM does not list the content of the image that no scanner judges",
            remedy="run `cscm curate` again; it examines the image and creates the SBOM again",
        )


def layers_unambiguous(facts: CuratedFacts) -> Iterator[Reason]:
    """Refuse if container engines would unpack the image's layers into different files."""
    if facts.examination and (conflicts := facts.examination.conflicts):
        yield Reason(
            code="sbom.layers-differ",
            fact=f"container engines unpack its layers into different files: {'; '.join(conflicts[:5])}",
            remedy="build it on another base, or use COPY instead of `COPY --link`, so that no layer writes through "
            "a link of another layer",
        )


def distribution_consistent(facts: CuratedFacts) -> Iterator[Reason]:
    """Refuse if files of the image contradict its os-release about the distribution.

    A scanner relies on os-release. The owner can accept the difference.
    """
    if facts.examination is None or facts.manifest is None:
        return
    left = facts.examination.unaccepted(facts.manifest.limits.unjudged)
    yield from _distribution_differs(facts.examination, [f"{each.path}: {each.fact}" for each in left.contradictions])


def distribution_matches_base(facts: ReleaseFacts) -> Iterator[Reason]:
    """Refuse if the image names another distribution than its base does.

    A scanner relies on os-release.
    """
    if facts.examination is None or facts.manifest is None:
        return
    own, accepted = facts.examination.distribution, facts.manifest.limits.unjudged
    if not any(each.what == "distribution" and matches(OS_RELEASE, each.at) for each in accepted):
        others = {base: identity for base, identity in facts.base_distributions.items() if identity != own}
        yield from _distribution_differs(
            facts.examination, [f"{OS_RELEASE}: {base} names {identity}" for base, identity in others.items()]
        )


def _distribution_differs(examination: Examination, differences: Sequence[str]) -> Iterator[Reason]:
    if differences:
        yield Reason(
            code="sbom.distribution-differs",
            fact=f"it names {examination.distribution or 'no distribution'}, but {'; '.join(differences[:10])}",
            remedy="do not change os-release and the distribution's release files of the base, or let the owner "
            "accept it (limits.unjudged in supply-chain.yaml)",
        )


def single_package_database(facts: CuratedFacts) -> Iterator[Reason]:
    """Refuse if the image has package databases besides the distribution's own that the owner does not accept."""
    databases = unaccepted(facts).databases
    if databases:
        named = ", ".join(f"{each.path} ({each.manager})" for each in databases[:10])
        yield Reason(
            code="sbom.second-database",
            fact=f"{pluralize(len(databases), 'package database')} besides the distribution's own: {named}",
            remedy="install packages with the distribution's package manager, or build on their image, or let the "
            "owner accept it (limits.unjudged in supply-chain.yaml)",
        )


def archives_accepted(facts: CuratedFacts) -> Iterator[Reason]:
    """Refuse if the image has archives that no scanner opens, unless a base has them too or the owner accepts them."""
    left = unaccepted(facts)
    many = len(left.archives) + left.unlisted
    if many:
        named = ", ".join(f"{each.path} ({each.format})" for each in left.archives[:10])
        yield Reason(
            code="sbom.archives",
            fact=f"{pluralize(many, 'archive')} that no scanner opens: {named or 'more than are listed'}",
            remedy="unpack or remove them in the build, or let the owner accept them (limits.unjudged)",
        )


def image_scanned(facts: CuratedFacts) -> Iterator[Reason]:
    """Refuse unless there is a vulnerability report of the image that the curation tier signed."""
    if facts.report is None:
        yield Reason(
            code="scan.missing",
            fact="no vulnerability report signed by the curation tier is attached to this digest",
            remedy="run `cscm curate` again; it scans the image",
        )


def scan_up_to_date(facts: DeployFacts) -> Iterator[Reason]:
    """Refuse if the scan is older than the owner's limit (`limits.scan_days`)."""
    if facts.manifest is None or facts.report is None:
        return
    days, scanned = facts.manifest.limits.scan_days, facts.report.scanned
    if not is_current(facts.report, facts.now, days):
        yield Reason(
            code="scan.old",
            fact=f"it was scanned on {scanned:%Y-%m-%d %H:%M %Z}, and a scan is valid for {pluralize(days, 'day')}",
            remedy="run `cscm curate` again; it scans the image again",
        )


def distribution_supported(facts: CuratedFacts) -> Iterator[Reason]:
    """Refuse if the vulnerability database does not know the image's distribution and the owner does not accept that.

    A scan finds nothing in packages that its database does not know.
    """
    packages = unjudged_packages(facts)
    if packages and facts.manifest is not None and not facts.manifest.limits.unknown_distribution:
        yield Reason(
            code="scan.distribution-unknown",
            fact=f"not judged: {packages}",
            remedy="build on a curated base, and do not change its /etc/os-release, or let the owner accept it "
            "(limits.unknown_distribution in supply-chain.yaml)",
        )


def findings_within_limits(facts: CuratedFacts) -> Iterator[Reason]:
    """Refuse if the image has more findings of a severity than its owner accepts, or one known to be exploited."""
    if facts.manifest is not None and facts.report is not None:
        yield from over_limits(facts.report, facts.manifest.limits, "scan")


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


def encrypted_at_rest(facts: CuratedFacts) -> Iterator[Reason]:
    """Refuse unless curation attested encryption at rest with its own key and, if confidential, an encrypted copy."""
    if facts.encryption is None:
        yield Reason(
            code="encryption.missing",
            fact="there is no evidence that it is encrypted with the tier's key",
            remedy="run `cscm curate` again; it verifies the repository's encryption",
        )
        return
    confidential = facts.manifest is not None and facts.manifest.classification == "confidential"
    copy = facts.encryption.encrypted_copy
    if confidential and (copy is None or copy.plain != facts.ref.digest):
        yield Reason(
            code="encryption.no-copy",
            fact="it is confidential and has no encrypted copy",
            remedy="run `cscm curate` again; it writes the copy",
        )


def signature_present(facts: DeployFacts) -> Iterator[Reason]:
    """Refuse unless curation signed this digest."""
    if not facts.signed:
        yield Reason(
            code="signature.missing",
            fact="there is no signature of this digest by the curation tier's key",
            remedy="run `cscm curate`; it signs what it admits",
        )


def earlier_verdicts_passed(facts: DeployFacts) -> Iterator[Reason]:
    """Refuse unless the last signed verdicts of the intake gate and the release gate admit this digest."""
    for gate in (Gate.INTAKE, Gate.RELEASE):
        verdict = facts.verdicts.get(gate)
        if verdict is None:
            yield Reason(
                code=f"verdict.{gate}.missing",
                fact=f"there is no signed verdict of the {gate} gate about this digest",
                remedy=f"run `cscm curate {facts.ref.digest}`; its gates attach their verdicts to the image",
            )
        elif not verdict.passed:
            yield Reason(
                code=f"verdict.{gate}.refused",
                fact=f"the last signed verdict of the {gate} gate, of {verdict.time_verified:%Y-%m-%d %H:%M:%S %Z}, "
                "refuses this digest",
                remedy=f"correct what `cscm explain {facts.ref.digest}` names, and run the chain again",
            )


def environment_declared(facts: DeployFacts) -> Iterator[Reason]:
    """Refuse if the image is a base, or if its declaration does not list the environment."""
    if facts.manifest is None:
        return
    if not isinstance(facts.manifest, Service):
        yield Reason(
            code="placement.not-a-service",
            fact=f"{facts.manifest.name} is a {facts.manifest.kind}",
            remedy="deploy services only; a base is for builds",
        )
    elif facts.environment.name not in facts.manifest.environments:
        yield Reason(
            code="placement.not-declared",
            fact=f"{facts.environment.name} is not among its environments ({', '.join(facts.manifest.environments)})",
            remedy="add the environment to supply-chain.yaml, and run the chain again",
        )


def tests_reported(facts: DeployFacts) -> Iterator[Reason]:
    """Refuse if the environment requires proof of tests and no test runner's report shows that tests ran."""
    if facts.environment.test_report and not any(each.shows_tests for each in facts.checks):
        yield Reason(
            code=TESTS_UNPROVEN,
            fact=f"{facts.environment.name} requires a test runner's report that shows tests, and there is none",
            remedy="name a test runner as test.command, or let it write the report test.report; then build again",
        )


def approval_given(facts: DeployFacts) -> Iterator[Reason]:
    """Refuse if the latest approval decision is a denial, or if the environment requires an approval and there is none.

    Only decisions about this image in this environment count.
    """
    if facts.approval is None:
        if facts.environment.approval:
            environment = facts.environment.name
            yield Reason(
                code="approval.missing",
                fact=f"{environment} requires an approval, and there is no signed approval of this digest for it",
                remedy="answer the promotion, which asks for approval after the soak, or run `cscm approve`",
            )
    elif not facts.approval.approved:
        last = facts.approval
        yield Reason(
            code="approval.denied",
            fact=f"{last.by} denied it for {last.environment} on {last.decided:%Y-%m-%d %H:%M %Z}: {last.reason}",
            remedy="offer an image that resolves the reason; a later approval (`cscm approve`) overrides the denial",
        )


def soak_completed(facts: DeployFacts) -> Iterator[Reason]:
    """Refuse if the environment requires a soak in another one and the image has not completed it."""
    required_soak = facts.environment.soak
    if required_soak and not required_soak.met_by(facts.soak):
        environment, after = facts.environment.name, required_soak.environment
        time = timedelta(seconds=required_soak.seconds)
        longest = f"this image was {facts.soak}" if facts.soak else "there is no signed soak of this image"
        yield Reason(
            code="soak.missing",
            fact=f"{environment} requires an image that was healthy in {after} for {time}; {longest}",
            remedy=f"deploy it to {after} first; after its soak there, it is promoted",
        )


def unaccepted(facts: CuratedFacts) -> Examination:
    """Return what no scanner judges in the image, without what a base has too or the owner accepts."""
    if facts.examination is None or facts.manifest is None:
        return Examination()
    return facts.examination.without(facts.examined_bases).unaccepted(facts.manifest.limits.unjudged)


def unjudged_packages(facts: CuratedFacts) -> str | None:
    """Return which packages of the distribution the scan does not judge and why; None if there are none.

    A scanner finds nothing in packages that its database does not know, and does not report that.
    """
    if facts.report is None or not (packages := system_packages(facts.packages or frozenset())):
        return None
    of, many = facts.report.distribution, pluralize(len(packages), "package")
    if of is None:
        return f"{many} of a distribution of which the scan does not tell whether the database knows it"
    if not of.name:
        return f"{many} of a distribution that the image does not name as one that the scanner knows"
    if not of.known:
        return f"{many} of {of}, about which the vulnerability database knows nothing"
    return None
