"""What a verdict tells an operator about an image that it admits: one function per note."""

from __future__ import annotations

from collections.abc import Iterator

from supply_chain.evidence.checks import TESTS_UNPROVEN, Check
from supply_chain.policy.facts import CuratedFacts, ImageFacts, IntakeFacts, ReleaseFacts
from supply_chain.policy.rules import unaccepted, unjudged_packages
from supply_chain.vulnerability.findings import Report

NOTED = 20
"""Number of things without a scanner's judgement that a verdict names one by one."""
ACCEPTED = "not judged, which its owner accepts: "


def uncurated_bases(facts: ImageFacts) -> Iterator[str]:
    """Name each base that is not curated."""
    for name in facts.provenance.uncurated if facts.provenance else ():
        yield f"built on {name}, which is not a curated base"


def copied_bases(facts: ReleaseFacts) -> Iterator[str]:
    """Name each curated base that the build only copied from."""
    for name in facts.copied_bases:
        yield f"built with {name} but not on it: content copied from it is judged only if the SBOM lists it"


def uncommitted_changes(facts: ImageFacts) -> Iterator[str]:
    """Tell that the source differed from its commit."""
    if facts.source and facts.source.dirty:
        yield "built from a working copy with uncommitted changes"


def accepted_packages(facts: CuratedFacts) -> Iterator[str]:
    """Tell which packages of the distribution no scan judged."""
    if packages := unjudged_packages(facts):
        yield f"{ACCEPTED}{packages}"


def accepted_content(facts: CuratedFacts) -> Iterator[str]:
    """Name the content that no scanner judges and the owner accepts, and count what is more than `NOTED`."""
    if facts.examination is None or facts.manifest is None:
        return
    own, left = facts.examination.without(facts.examined_bases), unaccepted(facts)
    found = [
        *(f"the archive {each.path} ({each.format})" for each in own.archives if each not in left.archives),
        *(f"the package database {each.path} ({each.manager})" for each in own.databases if each not in left.databases),
        *(f"{each.path}: {each.fact}" for each in own.contradictions if each not in left.contradictions),
    ]
    yield from (f"{ACCEPTED}{each}" for each in found[:NOTED])
    if found[NOTED:]:
        yield f"{ACCEPTED}{len(found) - NOTED} more (limits.unjudged)"


def accepted_distribution(facts: ReleaseFacts) -> Iterator[str]:
    """Name each base whose distribution differs from the image's."""
    if facts.examination is None or facts.manifest is None:
        return
    own = facts.examination.distribution
    for base, identity in facts.base_distributions.items():
        if identity != own:
            yield f"{ACCEPTED}it is of {own or 'no distribution'}, and {base} of {identity or 'none'}"


def starter_database_of_source(facts: IntakeFacts) -> Iterator[str]:
    """Tell that the starter database judged the source's dependencies."""
    yield from _starter_database(facts.source_report)


def starter_database(facts: CuratedFacts) -> Iterator[str]:
    """Tell that the starter database judged the image."""
    yield from _starter_database(facts.report)


def _starter_database(report: Report | None) -> Iterator[str]:
    if report and report.database.kind == "starter":
        yield f"judged with the starter database (facts of {report.database.built:%Y-%m-%d}), which covers few packages"


def ignored_referrers(facts: ImageFacts) -> Iterator[str]:
    """Tell what else is attached to the image and why that is not evidence."""
    yield from facts.ignored_referrers


def unproven_tests(facts: ImageFacts) -> Iterator[str]:
    """Tell that there is a result of the check of tests, but no report of a test runner shows that tests ran."""
    tested = any(each.check is Check.TESTS for each in facts.checks)
    if tested and not any(each.shows_tests for each in facts.checks):
        yield f"it is not shown that anything was tested ({TESTS_UNPROVEN})"
