"""Every rule that ships: a case that passes and a case that refuses, from typed facts to reasons."""

from collections.abc import Callable
from datetime import datetime, timedelta
from fnmatch import fnmatch
from types import SimpleNamespace
from typing import Any

import pytest

from supply_chain.evidence.approval import Approval
from supply_chain.evidence.checks import CHECKS, TESTED, Check, list_required_checks
from supply_chain.evidence.encryption import EncryptedCopy
from supply_chain.evidence.examination import Archive, Contradiction, Database, Examination, Identity
from supply_chain.evidence.soak import Soak
from supply_chain.model.declaration import Limits
from supply_chain.model.image import ImageRef
from supply_chain.model.tier import Gate
from supply_chain.policy.fact_values import make_fact_values
from supply_chain.policy.facts import DeployFacts, IntakeFacts, ReleaseFacts, RequiredSoak
from supply_chain.policy.gate import evaluate, judge
from supply_chain.policy.names import Holder
from supply_chain.policy.outcome import Reason, Refused
from supply_chain.policy.people import People
from supply_chain.vulnerability.findings import Distribution, Report, Severity
from tests.support import builders
from tests.support.builders import DIGEST, NOON
from tests.support.facts import (
    FACTS,
    deploy_facts,
    encryption,
    intake_facts,
    listing,
    release_facts,
    requirements,
    verdicts,
)
from tests.support.policies import DEPLOY, INTAKE, POLICIES, RELEASE

SEVERITIES = ("known-exploited", *(each.value for each in Severity))
KEY = "arn:aws:kms:eu-west-1:1:key/s"
GATES = {IntakeFacts: Gate.INTAKE, ReleaseFacts: Gate.RELEASE, DeployFacts: Gate.DEPLOY}


def asked(*ids: str) -> Callable[..., list[Reason]]:
    """Return a function that returns the reasons of the shipped rules with these ids; `*` stands for any text."""

    def reasons(facts: Any, now: datetime = NOON) -> list[Reason]:
        results = judge(make_fact_values(facts, People()), POLICIES.select_gate(GATES[type(facts)]), now)
        of_rules = [each for each in results if any(fnmatch(each.rule, pattern) for pattern in ids)]
        assert of_rules, f"no rule {ids} at this gate"
        return [reason for each in of_rules for reason in each.reasons]

    return reasons


rules = SimpleNamespace(
    provenance_signed=asked("provenance.missing"),
    application_names_match=asked("provenance.other-application"),
    name_belongs_to_source=asked("name.taken"),
    required_checks_present=asked(*(f"{each}.missing" for each in Check)),
    checks_passed=asked(*(f"{each}.{result}" for each in Check for result in ("failed", "empty"))),
    source_within_limits=asked("dependencies.report-missing", *(f"dependencies.{each}" for each in SEVERITIES)),
    sbom_present=asked("sbom.missing", "sbom.empty"),
    base_packages_listed=asked("sbom.incomplete", "sbom.altered"),
    image_examined=asked("sbom.not-examined"),
    layers_unambiguous=asked("sbom.layers-differ"),
    distribution_consistent=asked("sbom.distribution-differs"),
    single_package_database=asked("sbom.second-database"),
    archives_accepted=asked("sbom.archives"),
    image_scanned=asked("scan.missing"),
    scan_up_to_date=asked("scan.old"),
    distribution_supported=asked("scan.distribution-unknown"),
    findings_within_limits=asked(*(f"scan.{each}" for each in SEVERITIES)),
    encrypted_at_rest=asked("encryption.*"),
    signature_present=asked("signature.missing"),
    earlier_verdicts_passed=asked("verdict.*"),
    environment_declared=asked("placement.*"),
    tests_reported=asked("tests.report-missing"),
    approval_given=asked("approval.*"),
    soak_completed=asked("soak.missing"),
    accepted=asked("content.accepted*", "distribution.accepted"),
)


def over_limits(report: Report, limits: Limits) -> list[Reason]:
    """Return the reasons of the release gate about the findings of an image."""
    facts = release_facts(builders.declaration(limits=limits.model_dump()), report=report)
    return asked(*(f"scan.{each}" for each in SEVERITIES))(facts)


def copy(plain=DIGEST):
    return EncryptedCopy(
        plain=plain, encrypted="sha256:" + "b" * 64, wrapped_key="a2V5", key=KEY, context={"image": plain}
    )


def codes(rule, facts, now=NOON):
    return [reason.code for reason in rule(facts, now)]


@pytest.mark.parametrize("gate", Gate)
def test_gate_accepts_good_facts(gate):
    """The refusals below depend on this."""
    assert not isinstance(evaluate(FACTS[gate](), POLICIES.select_gate(gate), NOON), Refused)


def test_limits_count_each_severity_separately(make):
    """A reason names only findings of its own severity."""
    found = [make.finding("low", id="CVE-1"), make.finding("critical", id="CVE-2"), make.finding("low", id="CVE-3")]

    reasons = list(over_limits(make.report(*found), Limits(critical=0, high=0, medium=0, unknown=0)))

    assert [reason.code for reason in reasons] == ["scan.critical"]
    assert reasons[0].fact.startswith("1 finding of severity critical, 0 accepted: ") and "CVE-2" in reasons[0].fact
    assert "CVE-1" not in reasons[0].fact and "CVE-3" not in reasons[0].fact


def test_provenance_signed_refuses_missing_provenance():
    """Without provenance neither the builder nor the limits of the owner are known."""
    assert codes(rules.provenance_signed, intake_facts(provenance=None)) == ["provenance.missing"]


def test_application_names_match_refuses_other_application(make):
    """Evidence of a lenient application must not serve a strict one."""
    assert codes(rules.application_names_match, intake_facts(declaration=make.declaration(name="other"))) == [
        "provenance.other-application"
    ]
    assert codes(rules.application_names_match, intake_facts()) == []


@pytest.mark.parametrize("which", list_required_checks("service"))
def test_required_checks_present_refuses_service_with_missing_check(make, which):
    """A check that did not run has not passed."""
    made = tuple(make.check(each) for each in list_required_checks("service") if each is not which)

    assert codes(rules.required_checks_present, intake_facts(checks=made)) == [f"{which}.missing"]


@pytest.mark.parametrize("which", list_required_checks("base"))
def test_required_checks_present_refuses_base_with_missing_check(make, which):
    """A base has a command check in place of tests and probe."""
    made = tuple(make.check(each) for each in list_required_checks("base") if each is not which)

    assert codes(rules.required_checks_present, intake_facts(declaration=make.base(), checks=made)) == [
        f"{which}.missing"
    ]
    assert codes(rules.required_checks_present, intake_facts(declaration=make.base())) == []


@pytest.mark.parametrize("unknown", ["provenance", "holder"])
def test_name_belongs_to_source_passes_if_builder_or_holder_is_unknown(unknown):
    """Another rule refuses missing provenance; a name without a holder goes to the first admitted source."""
    facts: dict[str, Any] = {"holder": Holder(owner="somebody else")}

    assert codes(rules.name_belongs_to_source, intake_facts(**facts)) == ["name.taken"]
    assert codes(rules.name_belongs_to_source, intake_facts(**{**facts, unknown: None})) == []


def test_required_checks_present_refuses_each_check_if_there_is_none():
    """An empty list of checks is not a pass."""
    assert codes(rules.required_checks_present, intake_facts(checks=())) == [
        f"{each}.missing" for each in list_required_checks("service")
    ]


@pytest.mark.parametrize("which", Check)
def test_checks_passed_gives_reason_for_every_failure(make, which):
    """Each reason has the remedy of its check, and a warning is no reason."""
    failed = make.check(which, passed=("fine",), failed=("one", "two"), warned=("three",))

    reasons = list(rules.checks_passed(intake_facts(checks=(failed,))))

    assert [(r.code, r.fact) for r in reasons] == [(f"{which}.failed", "one"), (f"{which}.failed", "two")]
    assert all(r.remedy == CHECKS[which].remedy for r in reasons)


def test_checks_passed_refuses_check_without_results(make):
    """A check that examined nothing has not passed; a warning counts as a result."""
    assert codes(rules.checks_passed, intake_facts(checks=(make.check(Check.TESTS, passed=()),))) == ["tests.empty"]
    assert codes(rules.checks_passed, intake_facts(checks=(make.check(Check.TESTS, warned=("w",)),))) == []


def test_source_within_limits_judges_the_source_report(make):
    """The facts of the intake gate have no report on the image."""
    bad = make.report(make.finding("critical"))

    assert codes(rules.source_within_limits, intake_facts(source_report=bad)) == ["dependencies.critical"]
    assert codes(rules.source_within_limits, intake_facts()) == []


@pytest.mark.parametrize("kind", ["declaration", "base"])
def test_source_within_limits_refuses_missing_source_report(make, kind):
    """A check that ran does not say what the scan found."""
    bare = intake_facts(declaration=getattr(make, kind)(), source_report=None)

    assert codes(rules.source_within_limits, bare) == ["dependencies.report-missing"]


def test_sbom_present_refuses_missing_sbom():
    """Without an SBOM nobody can say later what the image contains."""
    assert codes(rules.sbom_present, release_facts()) == []
    assert codes(rules.sbom_present, release_facts(packages=None)) == ["sbom.missing"]
    assert codes(rules.base_packages_listed, release_facts(packages=None)) == []


def test_sbom_present_refuses_empty_sbom():
    """A scan of an empty SBOM finds nothing, whatever the image contains."""
    assert codes(rules.sbom_present, release_facts(packages=frozenset())) == ["sbom.empty"]


def test_base_packages_listed_names_hidden_packages_of_the_base():
    """The owner learns which packages the Dockerfile hides."""
    openssl = ("deb", "openssl", "pkg:deb/openssl@3")
    below = frozenset({openssl, ("deb", "libc6", "")})
    (reason,) = rules.base_packages_listed(release_facts(base_packages={"curated/base/python": below}))

    assert reason.code == "sbom.incomplete"
    assert "1 package of the base" in reason.fact and "libc6" in reason.fact and "openssl" not in reason.fact
    assert (
        codes(rules.base_packages_listed, release_facts(base_packages={"curated/base/python": frozenset({openssl})}))
        == []
    )


@pytest.mark.parametrize(
    "purl", ["pkg:deb/openssl@2", "pkg:deb/openssl@3?upstream=other", "pkg:deb/other/openssl@3", ""]
)
def test_base_packages_listed_refuses_altered_package_of_the_base(purl):
    """The scanner would look up the vulnerabilities of another package."""
    (reason,) = rules.base_packages_listed(
        release_facts(base_packages={"curated/base/python": frozenset({("deb", "openssl", purl)})})
    )

    assert reason.code == "sbom.altered" and "openssl" in reason.fact


@pytest.mark.parametrize(("version", "code"), [(None, "sbom.incomplete"), ("2", "sbom.altered")])
def test_base_packages_listed_names_first_packages_and_counts_all(version, code):
    """A reason has to stay readable."""
    names = [f"lib{n:02}" for n in range(51)]
    found = {("deb", name, f"pkg:deb/{name}@{version}") for name in names if version}
    below = frozenset(("deb", name, f"pkg:deb/{name}@1") for name in names)

    (reason,) = rules.base_packages_listed(
        release_facts(base_packages={"curated/base/python": below}, packages=frozenset({("deb", "x", ""), *found}))
    )

    assert reason.code == code and "51 packages" in reason.fact
    assert reason.fact.endswith(": " + ", ".join(names[:50]) + ", and 1 more")


@pytest.mark.parametrize(
    ("after", "old"),
    [
        (timedelta(0), False),
        (timedelta(days=7), False),
        (timedelta(days=7, seconds=1), True),
        (-timedelta(minutes=5), False),
        (-timedelta(minutes=5, seconds=1), True),
    ],
)
def test_scan_up_to_date_refuses_scan_older_than_declared_days(make, after, old):
    """A scan from the future, beyond the tolerance of five minutes, is refused too."""
    assert codes(rules.scan_up_to_date, deploy_facts(), make.noon + after) == (["scan.old"] if old else [])
    longer = make.declaration(limits={"scan_days": 8})
    assert codes(rules.scan_up_to_date, deploy_facts(declaration=longer), make.noon + timedelta(days=8)) == []


def test_findings_within_limits_judges_the_image_report(make):
    """A missing scan is a reason too; the facts have no report on the source."""
    bad = make.report(make.finding("critical"))

    assert codes(rules.image_scanned, release_facts(report=None)) == ["scan.missing"]
    assert codes(rules.findings_within_limits, release_facts(report=bad)) == ["scan.critical"]


@pytest.mark.parametrize("severity", Severity)
@pytest.mark.parametrize(("limit", "found", "refused"), [(0, 0, False), (0, 1, True), (2, 2, False), (2, 3, True)])
def test_limits_accept_findings_up_to_the_limit(make, severity, limit, found, refused):
    """The rule holds for every severity, including Unknown."""
    limits = Limits(**{severity.value: limit})
    report = make.report(*[make.finding(severity)] * found)

    assert [r.code for r in over_limits(report, limits)] == [f"scan.{severity}"] * refused


@pytest.mark.parametrize("severity", Severity)
def test_limit_of_null_accepts_any_number_of_findings(make, severity):
    """It applies to its own severity only."""
    every = {each.value: 0 for each in Severity} | {severity.value: None}
    report = make.report(*[make.finding(severity)] * 1000, *[make.finding(each) for each in Severity])

    found = {r.code for r in over_limits(report, Limits(**every))}

    assert found == {f"scan.{each}" for each in Severity} - {f"scan.{severity}"}


@pytest.mark.parametrize("severity", Severity)
def test_limits_never_accept_known_exploited_finding(make, severity):
    """The rule holds for every severity and every limit."""
    limits = Limits(**{each.value: None for each in Severity})
    report = make.report(make.finding(severity, known_exploited=True), make.finding(severity, id="CVE-2026-0002"))

    (reason,) = over_limits(report, limits)

    assert reason.code == "scan.known-exploited"
    assert "CVE-2026-0001" in reason.fact and "3.0.2" in reason.remedy


def test_limits_reason_names_findings_and_counts_fixes(make):
    """It names the first findings and counts the others."""
    findings = [make.finding(id=f"CVE-2026-{n:04}", fixed_in=("2",) if n < 3 else ()) for n in range(8)]

    (reason,) = over_limits(make.report(*findings), Limits())

    assert "8 findings of severity high, 0 accepted" in reason.fact
    assert "CVE-2026-0004" in reason.fact and "CVE-2026-0005" not in reason.fact and "and 3 more" in reason.fact
    assert reason.remedy.startswith("fixes exist for 3 of them")


def test_limits_remedy_is_removal_if_no_fix_exists(make):
    """Without a fixed version there is nothing to upgrade to."""
    (reason, *_) = over_limits(make.report(make.finding(known_exploited=True, fixed_in=())), Limits())

    assert reason.remedy == "remove openssl; no fix is published"


def test_limits_remedy_names_first_fixed_version(make):
    """The first fixed version is the smallest upgrade."""
    (reason, *_) = over_limits(make.report(make.finding(known_exploited=True, fixed_in=("3.0.2", "3.1.0"))), Limits())

    assert reason.remedy == "upgrade openssl to 3.0.2 or later"


@pytest.mark.parametrize(("count", "more"), [(4, None), (5, None), (6, 1), (7, 2)])
def test_limits_reason_names_five_findings_and_counts_the_rest(make, count, more):
    """A reason has to stay readable."""
    findings = [make.finding(id=f"CVE-2026-{n:04}") for n in range(count)]

    (reason,) = over_limits(make.report(*findings), Limits())

    assert reason.fact.count("CVE-2026-") == min(count, 5)
    assert reason.fact.endswith(f"; and {more} more" if more else "(high, fixed in 3.0.2)")


def test_encrypted_at_rest_refuses_missing_record():
    """Without a record nobody knows whether the repository is encrypted."""
    assert codes(rules.encrypted_at_rest, release_facts(encryption=None)) == ["encryption.missing"]
    assert codes(rules.encrypted_at_rest, release_facts()) == []


def test_encrypted_at_rest_requires_encrypted_copy_if_confidential(make):
    """The copy must be of this image; an image that is not confidential needs none."""
    secret = make.declaration(classification="confidential")

    def asked(encrypted_copy):
        record = encryption(encrypted_copy=encrypted_copy)
        return codes(rules.encrypted_at_rest, release_facts(declaration=secret, encryption=record))

    assert asked(None) == ["encryption.no-copy"]
    assert asked(copy("sha256:" + "e" * 64)) == ["encryption.no-copy"]
    assert asked(copy()) == []
    assert codes(rules.encrypted_at_rest, release_facts(declaration=secret, encryption=None)) == ["encryption.missing"]


def test_signature_present_refuses_unsigned_image():
    """Verdicts do not replace the signature of curation."""
    assert codes(rules.signature_present, deploy_facts(signed=False)) == ["signature.missing"]
    assert codes(rules.signature_present, deploy_facts(signed=True)) == []


@pytest.mark.parametrize(
    ("results", "missing"),
    [
        ({"intake": True, "release": True}, []),
        ({"intake": False, "release": True}, ["verdict.intake.refused"]),
        ({"intake": True, "release": False}, ["verdict.release.refused"]),
        ({"intake": True}, ["verdict.release.missing"]),
        ({"release": True}, ["verdict.intake.missing"]),
        ({"deploy": True}, ["verdict.intake.missing", "verdict.release.missing"]),
        ({}, ["verdict.intake.missing", "verdict.release.missing"]),
    ],
    ids=str,
)
def test_earlier_verdicts_passed_requires_both_earlier_gates(results, missing):
    """A refusal and a missing verdict are both reasons."""
    assert codes(rules.earlier_verdicts_passed, deploy_facts(verdicts=verdicts(**results))) == missing


def test_environment_declared_refuses_base(make):
    """A base is built upon and never deployed."""
    assert codes(rules.environment_declared, deploy_facts(declaration=make.base())) == ["placement.not-a-service"]


@pytest.mark.parametrize(("environment", "reasons"), [("staging", []), ("production", ["placement.not-declared"])])
def test_environment_declared_refuses_undeclared_environment(environment, reasons):
    """A service runs only in the environments that its owner declares."""
    assert codes(rules.environment_declared, deploy_facts(environment=requirements(environment))) == reasons


@pytest.mark.parametrize("name", ["", "stag", "staging2"])
def test_environment_declared_compares_whole_names(name):
    """A prefix or an extension of a declared name does not match."""
    assert codes(rules.environment_declared, deploy_facts(environment=requirements(name))) == ["placement.not-declared"]


LATER = requirements("production", soak=RequiredSoak("staging", 3600))


@pytest.mark.parametrize(
    ("seconds", "detail"),
    [
        (None, "there is no signed soak of this image"),
        (3599, "this image was healthy in staging for 0:59:59"),
        (3600, None),
        (7200, None),
    ],
)
def test_soak_completed_refuses_missing_or_short_soak(make, seconds, detail):
    """The reason names the environment, the required time and the time reached."""
    soak = None if seconds is None else well_for(make, seconds)

    reasons = list(rules.soak_completed(deploy_facts(environment=LATER, soak=soak)))

    assert [(reason.code, reason.fact) for reason in reasons] == [
        ("soak.missing", f"production requires an image that was healthy in staging for 1:00:00; {detail}")
    ][: detail is not None]


def well_for(make, seconds):
    until = make.noon + timedelta(seconds=seconds)
    return Soak(
        environment="staging",
        digest=DIGEST,
        container="c",
        since=make.noon,
        until=until,
        observations=2,
        required_seconds=seconds,
    )


def test_soak_completed_passes_if_no_soak_is_required():
    """The first environment takes every released image."""
    assert codes(rules.soak_completed, deploy_facts()) == []


def test_deploy_gate_requires_soak():
    """The rule also holds for a deployment by hand."""
    refused = evaluate(deploy_facts(environment=LATER), DEPLOY, NOON)

    assert isinstance(refused, Refused)
    assert "soak.missing" in [reason.code for reason in refused.reasons]


UNKNOWN = Distribution(name="slitaz", version="5")


@pytest.mark.parametrize(
    ("distribution", "fact"),
    [
        (UNKNOWN, "1 package of slitaz 5, about which the vulnerability database knows nothing"),
        (Distribution(name="debian", codename="forky"), "1 package of debian forky, about which"),
        (Distribution(name=""), "that the image does not name as one that the scanner knows"),
        (None, "of which the scan does not tell whether the database knows it"),
    ],
)
def test_distribution_supported_refuses_unknown_distribution(make, distribution, fact):
    """A scan without findings proves nothing there; the owner may accept that, and the verdict notes it."""
    facts = deploy_facts(report=make.report(distribution=distribution))
    accepting = make.declaration(limits={"unknown_distribution": True})
    accepted = deploy_facts(report=facts.report, declaration=accepting)
    policy = DEPLOY

    refused = evaluate(facts, policy, NOON)
    assert isinstance(refused, Refused)
    (reason,) = refused.reasons
    assert reason.code == "scan.distribution-unknown"
    assert fact in reason.fact
    (note,) = evaluate(accepted, policy, NOON).notes
    assert note.startswith("no scanner judges this, and the owner accepts it: ") and fact in note


@pytest.mark.parametrize("distribution", [UNKNOWN, Distribution(name=""), None])
def test_distribution_supported_passes_without_distribution_packages(make, distribution):
    """An image may contain only a static program, for example of Go."""
    apart = frozenset({("go-module", "golang.org/x/net", "")})

    assert (
        codes(
            rules.distribution_supported, release_facts(report=make.report(distribution=distribution), packages=apart)
        )
        == []
    )


def test_distribution_supported_passes_if_other_evidence_is_missing(make):
    """A missing scan, SBOM or declaration is the reason of another rule."""
    facts = {"report": make.report(distribution=UNKNOWN)}

    assert codes(rules.distribution_supported, release_facts(report=None)) == []
    assert codes(rules.distribution_supported, release_facts(**facts, packages=None)) == []
    assert codes(rules.distribution_supported, release_facts(**facts, provenance=None)) == []
    assert codes(rules.distribution_supported, release_facts(**facts)) == ["scan.distribution-unknown"]


def test_approval_given_refuses_denial_and_missing_required_approval(make):
    """A denial counts in every environment; only some environments require an approval."""
    denied = Approval(
        environment="staging", digest=DIGEST, decision="denied", by="Ada", reason="not today", decided=make.noon
    )
    approved = denied.model_copy(update={"decision": "approved"})

    for asks in (True, False):
        (reason,) = rules.approval_given(deploy_facts(environment=requirements(approval=asks), approval=denied))
        assert (reason.code, reason.fact) == (
            "approval.denied",
            "Ada denied it for staging on 2026-11-24 12:00 UTC: not today",
        )
        given = deploy_facts(environment=requirements(approval=asks), approval=approved)
        assert codes(rules.approval_given, given) == ["approval.unverified"], "a note"
    assert codes(rules.approval_given, deploy_facts()) == []
    assert codes(rules.approval_given, deploy_facts(environment=requirements(approval=True))) == ["approval.missing"]


DEBIAN, BUSTER = Identity(id="debian", version="12"), Identity(id="debian", version="10")
ZIP = Archive(path="/srv/a.zip", format="zip", sha256="a" * 64)
DPKG = Database(path="/opt/x", manager="dpkg")
LIE = Contradiction(path="/etc/debian_version", fact="it names the version 11")


def accepting(make, what, at):
    return make.declaration(limits={"unjudged": [{"what": what, "at": [at], "reason": "it is well"}]})


def test_image_examined_refuses_image_without_examination():
    """An SBOM does not tell what it leaves out; a missing SBOM is the reason of another rule."""
    assert codes(rules.image_examined, release_facts(examination=None)) == ["sbom.not-examined"]
    assert codes(rules.image_examined, release_facts(examination=None, packages=None)) == []
    assert codes(rules.image_examined, release_facts()) == []


def test_gate_refuses_ambiguous_layers(make):
    """The owner cannot accept it, because the judged content may differ from what runs."""
    differs = release_facts(examination=Examination(conflicts=("a/su is written through the link a",)))

    assert codes(rules.layers_unambiguous, differs) == ["sbom.layers-differ"]
    assert codes(rules.layers_unambiguous, release_facts()) == []
    assert codes(rules.layers_unambiguous, release_facts(examination=None)) == []


@pytest.mark.parametrize(
    ("own", "below", "lie", "accepted", "refused"),
    [
        (DEBIAN, DEBIAN, False, "", False),
        (DEBIAN, BUSTER, False, "", True),
        (None, DEBIAN, False, "", True),
        (DEBIAN, BUSTER, False, "/etc/os-release", False),
        (DEBIAN, BUSTER, False, "/etc/debian_version", True),
        (DEBIAN, DEBIAN, True, "", True),
        (DEBIAN, DEBIAN, True, "/etc/debian_version", False),
        (DEBIAN, DEBIAN, True, "/etc/os-release", True),
        (DEBIAN, None, False, "", True),
    ],
)
def test_distribution_rules_refuse_contradiction_and_other_distribution(make, own, below, lie, accepted, refused):
    """Neither os-release nor another file may contradict the base, unless the owner accepts that very file."""
    judged = release_facts(
        examination=Examination(distribution=own, contradictions=(LIE,) if lie else ()),
        base_distributions={"curated/base/python@sha256:0": below},
        declaration=accepting(make, "distribution", accepted) if accepted else make.declaration(),
    )

    found = codes(rules.distribution_consistent, judged)
    assert found == (["sbom.distribution-differs"] if refused else [])


@pytest.mark.parametrize(
    ("own", "listed", "refused"),
    [
        (DEBIAN, DEBIAN, False),
        (None, None, False),
        (None, Identity(id="busybox", version="1.36.1"), False),
        (DEBIAN, DEBIAN.model_copy(update={"version": f"{DEBIAN.version}.15"}), False),
        (DEBIAN, DEBIAN.model_copy(update={"version": f"{DEBIAN.version}5"}), True),
        (DEBIAN.model_copy(update={"version": ""}), DEBIAN, True),
        (DEBIAN, BUSTER, True),
        (DEBIAN, DEBIAN.model_copy(update={"id": "ubuntu"}), True),
        (DEBIAN, DEBIAN.model_copy(update={"codename": "bullseye"}), True),
        (DEBIAN, Identity(id="busybox"), True),
        (DEBIAN, None, True),
        (None, DEBIAN, True),
    ],
)
@pytest.mark.parametrize("facts", [release_facts, deploy_facts])
def test_distribution_rule_refuses_sbom_of_another_distribution(make, facts, own, listed, refused):
    """The scanner looks for the vulnerabilities of the distribution that the SBOM names, so no owner accepts that."""
    judged = facts(
        examination=Examination(distribution=own),
        sbom=listing(distribution=listed),
        declaration=accepting(make, "distribution", "/etc/os-release"),
    )

    assert codes(rules.distribution_consistent, judged) == (["sbom.distribution-differs"] if refused else [])


def test_distribution_matches_base_ignores_acceptance_of_archive(make):
    """An owner accepts one kind of content at a time."""
    judged = release_facts(
        examination=Examination(distribution=DEBIAN),
        base_distributions={"base": BUSTER},
        declaration=accepting(make, "archive", "/etc/os-release"),
    )

    assert codes(rules.distribution_consistent, judged) == ["sbom.distribution-differs"]


def test_distribution_rules_pass_without_examination_or_declaration():
    """A missing examination or declaration is the reason of another rule."""
    for facts in (release_facts(examination=None), release_facts(provenance=None)):
        assert codes(rules.distribution_consistent, facts) == []


@pytest.mark.parametrize(
    ("rule", "found", "what", "path", "code"),
    [
        (rules.single_package_database, Examination(databases=(DPKG,)), "database", "/opt/x", "sbom.second-database"),
        (rules.archives_accepted, Examination(archives=(ZIP,)), "archive", "/srv/*", "sbom.archives"),
    ],
)
def test_unscanned_content_is_refused_unless_accepted(make, rule, found, what, path, code):
    """The owner accepts it, or the base has the same archive; a second database in the base does not help."""
    other = "archive" if what == "database" else "database"

    assert codes(rule, release_facts(examination=found)) == [code]
    assert codes(rule, release_facts(examination=found, declaration=accepting(make, what, path))) == []
    assert codes(rule, release_facts(examination=found, declaration=accepting(make, other, path))) == [code]
    assert codes(rule, release_facts(examination=found, examined_bases=(found,))) == (
        [] if what == "archive" else [code]
    )
    assert (
        codes(rule, release_facts())
        == []
        == codes(rule, release_facts(examination=None))
        == codes(rule, release_facts(provenance=None))
    )


def test_archives_accepted_refuses_unlisted_archives(make):
    """An owner cannot accept archives that are not known."""
    many = Examination(archives=(ZIP,), unlisted=2)
    (reason,) = rules.archives_accepted(
        release_facts(examination=many, declaration=accepting(make, "archive", "/srv/*"))
    )

    assert reason.fact == "2 archives that no scanner opens: more than are listed"


def test_verdict_notes_unscanned_content_that_owner_accepts(make):
    """Each note has a path; content that the base has too is not noted again."""
    limits = [
        {"what": "archive", "at": ["/srv/*"], "reason": "pictures"},
        {"what": "database", "at": ["/opt/x"], "reason": "a chroot"},
        {"what": "distribution", "at": ["/etc/debian_version", "/etc/os-release"], "reason": "an old program"},
    ]
    found = Examination(distribution=DEBIAN, archives=(ZIP,), databases=(DPKG,), contradictions=(LIE,))
    judged = release_facts(
        examination=found,
        base_distributions={"base": BUSTER},
        declaration=make.declaration(limits={"unjudged": limits}),
    )

    verdict = evaluate(judged, RELEASE, NOON)

    assert verdict.notes == (
        "no scanner judges this, and the owner accepts it: the archive /srv/a.zip (zip)",
        "no scanner judges this, and the owner accepts it: the package database /opt/x (dpkg)",
        "no scanner judges this, and the owner accepts it: /etc/debian_version: it names the version 11",
        "no scanner judges this, and the owner accepts it: it is of debian 12, and base of debian 10",
    )
    of_the_base = release_facts(examination=found, examined_bases=(found,))
    assert not any("/srv/a.zip" in each.fact for each in rules.accepted(of_the_base))


def test_verdict_notes_accepted_absence_of_distribution(make):
    """The image or a base may have no distribution; a base with the same one needs no note."""
    accepting_it = accepting(make, "distribution", "/etc/os-release")
    for own, bases, noted in (
        (None, {"base": DEBIAN, "other": None}, ["it is of no distribution, and base of debian 12"]),
        (DEBIAN, {"base": None, "other": DEBIAN}, ["it is of debian 12, and base of none"]),
    ):
        judged = release_facts(
            examination=Examination(distribution=own), base_distributions=bases, declaration=accepting_it
        )
        found = evaluate(judged, RELEASE, NOON).notes
        assert found == tuple(f"no scanner judges this, and the owner accepts it: {note}" for note in noted)


def test_verdict_does_not_note_unaccepted_content_as_accepted(make):
    """Without a declaration the owner accepts nothing, whatever the policy is."""
    found = Examination(distribution=DEBIAN, archives=(ZIP,), databases=(DPKG,), contradictions=(LIE,))
    undeclared = release_facts(examination=found, base_distributions={"base": BUSTER}, provenance=None)

    assert rules.accepted(release_facts(examination=found)) == []
    assert rules.accepted(undeclared) == []


def test_verdict_of_unexamined_image_notes_no_accepted_content(make):
    """The image is refused as not examined; its bases are known all the same."""
    unexamined = release_facts(examination=None, base_distributions={"base": BUSTER})

    assert rules.accepted(unexamined) == []


def test_verdict_of_base_has_no_note_about_tests(make):
    """A base has a command check in place of tests."""
    judged = intake_facts(declaration=make.base(), ref=ImageRef(repository="dev/base/python", digest=DIGEST))

    assert evaluate(judged, INTAKE, NOON).notes == ()


def numbered(kind, start):
    return tuple(start.model_copy(update={kind: f"/x/{number:02}"}) for number in range(51))


@pytest.mark.parametrize(
    ("rule", "found", "words"),
    [
        (rules.layers_unambiguous, {"conflicts": tuple("abcdef")}, "into different files: a, b, c, d, e, f"),
        (
            rules.distribution_consistent,
            {"contradictions": numbered("path", LIE)},
            "it names no distribution, but "
            + ", ".join(f"/x/{number:02}: it names the version 11" for number in range(50))
            + ", and 1 more",
        ),
        (
            rules.single_package_database,
            {"databases": numbered("path", DPKG)},
            "51 package databases besides the distribution's own: "
            + ", ".join(f"/x/{number:02} (dpkg)" for number in range(50))
            + ", and 1 more",
        ),
        (
            rules.archives_accepted,
            {"archives": numbered("path", ZIP), "unlisted": 3},
            "54 archives that no scanner opens: "
            + ", ".join(f"/x/{number:02} (zip)" for number in range(50))
            + ", and 1 more, and 3 that are not listed",
        ),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_reason_names_first_items_and_counts_all(rule, found, words):
    """A reason has to stay readable."""
    (reason,) = rule(release_facts(examination=Examination(**found)))

    assert reason.fact.endswith(words)


def test_distribution_matches_base_names_both_distributions():
    """The reason names a base only if its distribution differs."""
    bases = {"base": BUSTER, "other": DEBIAN}
    (reason,) = rules.distribution_consistent(
        release_facts(examination=Examination(distribution=DEBIAN), base_distributions=bases)
    )

    assert reason.fact == "it names debian 12, but /etc/os-release: base names debian 10"


def test_verdict_limits_number_of_notes(make):
    """A verdict has to stay readable, so it counts the remaining notes."""
    archives = tuple(ZIP.model_copy(update={"path": f"/srv/{number:02}"}) for number in range(25))
    judged = release_facts(examination=Examination(archives=archives), declaration=accepting(make, "archive", "/srv/*"))

    noted = evaluate(judged, RELEASE, NOON).notes

    assert (
        len(noted) == 21 and noted[-1] == "no scanner judges this, and the owner accepts it: 5 more (limits.unjudged)"
    )


@pytest.mark.parametrize(
    ("details", "proven"),
    [
        ({TESTED: {"proven": True, "by": "pytest", "ran": 1}}, True),
        ({TESTED: {"proven": False, "by": "", "ran": 0}}, False),
        ({TESTED: {"proven": "yes"}}, False),
        ({TESTED: "shown"}, False),
        ({}, False),
    ],
)
def test_tests_reported_refuses_unproven_tests_if_required(make, details, proven):
    """Elsewhere it is a note, because the chain does not know every test runner."""
    checks = (make.check(Check.PROBE), make.check(Check.TESTS, details=details))
    asks, note = requirements(test_report=True), "no test runner's report shows that tests ran (tests.report-missing)"

    assert codes(rules.tests_reported, deploy_facts(checks=checks, environment=asks)) == (
        [] if proven else ["tests.report-missing"]
    )
    assert codes(rules.tests_reported, deploy_facts(checks=checks)) == []
    assert codes(rules.tests_reported, deploy_facts(checks=(), environment=asks)) == ["tests.report-missing"]
    assert (note in evaluate(deploy_facts(checks=checks), DEPLOY, NOON).notes) is not proven


def test_tests_reported_ignores_failed_or_other_checks(make):
    """The details of such a check do not prove that tests ran."""
    asks = requirements(test_report=True)
    good = {TESTED: {"proven": True, "by": "pytest", "ran": 1}}
    for check in (
        make.check(Check.TESTS, details=good, failed=("no",)),
        make.check(Check.PROBE, details=good),
        make.check(Check.TESTS, details=good, passed=()),
    ):
        assert codes(rules.tests_reported, deploy_facts(checks=(check,), environment=asks)) == ["tests.report-missing"]
