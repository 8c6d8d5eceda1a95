"""Every rule of the gates: a case that passes and a case that refuses."""

import inspect
from datetime import timedelta

import pytest

from supply_chain.errors import EvidenceInvalid
from supply_chain.evidence.approval import Approval
from supply_chain.evidence.checks import CHECKS, TESTED, Check, required
from supply_chain.evidence.examination import Archive, Contradiction, Database, Examination, Identity
from supply_chain.evidence.reading import SignedValue
from supply_chain.evidence.soak import Soak
from supply_chain.evidence.statement import ENCRYPTION, VerifiedStatement, about
from supply_chain.evidence.summary import summary
from supply_chain.model.image import ImageRef
from supply_chain.model.manifest import Limits
from supply_chain.model.tier import Gate
from supply_chain.policy import rules
from supply_chain.policy.gate import Dossier, Place, Policy, RequiredSoak, judge
from supply_chain.policy.names import Holder
from supply_chain.policy.outcome import Refused
from supply_chain.policy.rules import POLICIES, over_limits
from supply_chain.vulnerability.findings import Distribution, Severity

DIGEST = "sha256:" + "a" * 64
IMAGE = ImageRef(repository="curated/hello", digest=DIGEST)
KEY = "arn:aws:kms:eu-west-1:1:key/s"


@pytest.fixture
def dossier(make):
    """Return a function that builds facts which pass every rule; keyword arguments change them."""

    def build(**changes):
        manifest = changes.get("manifest", make.manifest())
        kind = manifest.kind if manifest else "service"
        good = {
            "image": "the image",
            "ref": IMAGE,
            "manifest": manifest,
            "evidence": (encryption(),),
            "inventory": frozenset({("deb", "openssl", "pkg:deb/openssl@3"), ("python", "flask", "")}),
            "examination": Examination(),
            "checks": tuple(make.check(each) for each in required(kind)),
            "report": make.report(),
            "source_report": make.report(),
            "signed": True,
            "verdicts": verdicts(make, intake=True, release=True),
            "place": Place("staging"),
            "now": make.noon,
        }
        return Dossier(**{**good, **changes})

    return build


def encryption(signer="curation", **changes):
    record = {
        "repository": "curated/hello",
        "type": "KMS",
        "key": KEY,
        "rotates": True,
        "classification": "internal",
        "verified": "2026-11-24T12:00:00Z",
    }
    return VerifiedStatement(
        digest="sha256:" + "c" * 64,
        repository="curated/hello",
        statement=about(IMAGE, ENCRYPTION, {**record, **changes}),
        signer=signer,
    )


def copy(plain=DIGEST):
    return {
        "plain": plain,
        "encrypted": "sha256:" + "b" * 64,
        "wrapped_key": "a2V5",
        "key": KEY,
        "context": {"image": plain},
    }


def codes(rule, dossier):
    return [reason.code for reason in rule(dossier)]


def verdicts(make, **results):
    no, policy = [{"code": "x", "fact": "f", "remedy": "r"}], "sha256:" + "9" * 64
    given = {Gate(name): [] if yes else no for name, yes in results.items()}
    return {
        gate: SignedValue(
            summary(IMAGE, gate, policy, reasons=reasons, notes=(), inputs=(), now=make.noon), make.noon, encryption()
        )
        for gate, reasons in given.items()
    }


@pytest.mark.parametrize("gate", Gate)
def test_gate_accepts_good_facts(dossier, gate):
    """The refusals below depend on this."""
    assert not isinstance(judge(dossier(), POLICIES[gate]), Refused)


def test_limits_count_each_severity_separately(make):
    """A reason names only findings of its own severity."""
    found = [make.finding("low", id="CVE-1"), make.finding("critical", id="CVE-2"), make.finding("low", id="CVE-3")]

    reasons = list(over_limits(make.report(*found), Limits(critical=0, high=0, medium=0, unknown=0), "scan"))

    assert [reason.code for reason in reasons] == ["scan.critical"]
    assert reasons[0].fact.startswith("1 finding of severity critical, 0 accepted: ") and "CVE-2" in reasons[0].fact
    assert "CVE-1" not in reasons[0].fact and "CVE-3" not in reasons[0].fact


def test_every_rule_is_in_a_policy():
    """A rule that no gate asks has no effect."""
    written = {
        name
        for name, value in inspect.getmembers(rules, inspect.isgeneratorfunction)
        if value.__module__ == rules.__name__ and not name.startswith("_") and name != "over_limits"
    }
    asked = {rule.__name__ for policy in POLICIES.values() for rule in policy.rules}

    assert written == asked


def test_provenance_signed_refuses_missing_provenance(dossier):
    """Without provenance neither the builder nor the limits of the owner are known."""
    assert codes(rules.provenance_signed, dossier(manifest=None)) == ["provenance.missing"]


def test_application_names_match_refuses_other_application(dossier, make):
    """Evidence of a lenient application must not serve a strict one."""
    assert codes(rules.application_names_match, dossier(manifest=make.manifest(name="other"))) == [
        "provenance.other-application"
    ]
    assert codes(rules.application_names_match, dossier()) == []


@pytest.mark.parametrize("which", required("service"))
def test_required_checks_present_refuses_service_with_missing_check(dossier, make, which):
    """A check that did not run has not passed."""
    made = tuple(make.check(each) for each in required("service") if each is not which)

    assert codes(rules.required_checks_present, dossier(checks=made)) == [f"{which}.missing"]


@pytest.mark.parametrize("which", required("base"))
def test_required_checks_present_refuses_base_with_missing_check(dossier, make, which):
    """A base has a command check in place of tests and probe."""
    made = tuple(make.check(each) for each in required("base") if each is not which)

    assert codes(rules.required_checks_present, dossier(manifest=make.base(), checks=made)) == [f"{which}.missing"]
    assert codes(rules.required_checks_present, dossier(manifest=make.base())) == []


@pytest.mark.parametrize("unknown", ["manifest", "source", "holder"])
def test_name_belongs_to_source_passes_if_builder_or_holder_is_unknown(dossier, make, unknown):
    """Another rule refuses missing provenance; a name without a holder goes to the first admitted source."""
    known = {"source": make.source(), "holder": Holder(owner="somebody else")}

    assert codes(rules.name_belongs_to_source, dossier(**known)) == ["name.taken"]
    assert codes(rules.name_belongs_to_source, dossier(**{**known, unknown: None})) == []


def test_required_checks_present_refuses_each_check_if_there_is_none(dossier):
    """An empty list of checks is not a pass."""
    assert codes(rules.required_checks_present, dossier(checks=())) == [
        f"{each}.missing" for each in required("service")
    ]


@pytest.mark.parametrize("which", Check)
def test_checks_passed_gives_reason_for_every_failure(dossier, make, which):
    """Each reason has the remedy of its check, and a warning is no reason."""
    failed = make.check(which, passed=("fine",), failed=("one", "two"), warned=("three",))

    reasons = list(rules.checks_passed(dossier(checks=(failed,))))

    assert [(r.code, r.fact) for r in reasons] == [(f"{which}.failed", "one"), (f"{which}.failed", "two")]
    assert all(r.remedy == CHECKS[which].remedy for r in reasons)


def test_checks_passed_refuses_check_without_results(dossier, make):
    """A check that examined nothing has not passed; a warning counts as a result."""
    assert codes(rules.checks_passed, dossier(checks=(make.check(Check.TESTS, passed=()),))) == ["tests.empty"]
    assert codes(rules.checks_passed, dossier(checks=(make.check(Check.TESTS, warned=("w",)),))) == []


def test_source_within_limits_judges_the_source_report(dossier, make):
    """The report on the image does not count for this rule."""
    bad = make.report(make.finding("critical"))

    assert codes(rules.source_within_limits, dossier(source_report=bad)) == ["dependencies.critical"]
    assert codes(rules.source_within_limits, dossier(report=bad)) == []


@pytest.mark.parametrize("kind", ["manifest", "base"])
def test_source_within_limits_refuses_missing_source_report(dossier, make, kind):
    """A check that ran does not say what the scan found."""
    bare = dossier(manifest=getattr(make, kind)(), source_report=None)

    assert codes(rules.source_within_limits, bare) == ["dependencies.report-missing"]


def test_sbom_complete_refuses_missing_sbom(dossier):
    """Without an SBOM nobody can say later what the image contains."""
    assert codes(rules.sbom_complete, dossier()) == []
    assert codes(rules.sbom_complete, dossier(inventory=None)) == ["sbom.missing"]


def test_sbom_complete_refuses_empty_sbom(dossier):
    """A scan of an empty SBOM finds nothing, whatever the image contains."""
    assert codes(rules.sbom_complete, dossier(inventory=frozenset())) == ["sbom.empty"]


def test_sbom_complete_names_hidden_packages_of_the_base(dossier):
    """The owner learns which packages the Dockerfile hides."""
    openssl = ("deb", "openssl", "pkg:deb/openssl@3")
    below = frozenset({openssl, ("deb", "libc6", "")})
    (reason,) = rules.sbom_complete(dossier(inherited=below))

    assert reason.code == "sbom.incomplete"
    assert "1 package of the base" in reason.fact and "libc6" in reason.fact and "openssl" not in reason.fact
    assert codes(rules.sbom_complete, dossier(inherited=frozenset({openssl}))) == []


@pytest.mark.parametrize(
    "purl", ["pkg:deb/openssl@2", "pkg:deb/openssl@3?upstream=other", "pkg:deb/other/openssl@3", ""]
)
def test_sbom_complete_refuses_altered_package_of_the_base(dossier, purl):
    """The scanner would look up the vulnerabilities of another package."""
    (reason,) = rules.sbom_complete(dossier(inherited=frozenset({("deb", "openssl", purl)})))

    assert reason.code == "sbom.altered" and "openssl" in reason.fact


@pytest.mark.parametrize(("version", "code"), [(None, "sbom.incomplete"), ("2", "sbom.altered")])
def test_sbom_complete_names_ten_packages_and_counts_all(dossier, version, code):
    """A reason has to stay readable."""
    names = [f"lib{n:02}" for n in range(11)]
    found = {("deb", name, f"pkg:deb/{name}@{version}") for name in names if version}
    below = frozenset(("deb", name, f"pkg:deb/{name}@1") for name in names)

    (reason,) = rules.sbom_complete(dossier(inherited=below, inventory=frozenset({("deb", "x", ""), *found})))

    assert reason.code == code and "11 packages" in reason.fact
    assert reason.fact.endswith(": " + ", ".join(names[:10]))


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
def test_scan_up_to_date_refuses_scan_older_than_declared_days(dossier, make, after, old):
    """A scan from the future, beyond the tolerance of five minutes, is refused too."""
    assert codes(rules.scan_up_to_date, dossier(now=make.noon + after)) == (["scan.old"] if old else [])
    longer = make.manifest(limits={"scan_days": 8})
    assert codes(rules.scan_up_to_date, dossier(now=make.noon + timedelta(days=8), manifest=longer)) == []


def test_scan_up_to_date_refuses_without_current_time(dossier):
    """The age of a scan is unknown without a clock."""
    assert codes(rules.scan_up_to_date, dossier(now=None)) == ["scan.old"]


def test_findings_within_limits_judges_the_image_report(dossier, make):
    """A missing scan is a reason too; the report on the source does not count."""
    bad = make.report(make.finding("critical"))

    assert codes(rules.image_scanned, dossier(report=None)) == ["scan.missing"]
    assert codes(rules.findings_within_limits, dossier(report=bad)) == ["scan.critical"]
    assert codes(rules.findings_within_limits, dossier(source_report=bad)) == []


@pytest.mark.parametrize("severity", Severity)
@pytest.mark.parametrize(("limit", "found", "refused"), [(0, 0, False), (0, 1, True), (2, 2, False), (2, 3, True)])
def test_limits_accept_findings_up_to_the_limit(make, severity, limit, found, refused):
    """The rule holds for every severity, including Unknown."""
    limits = Limits(**{severity.value: limit})
    report = make.report(*[make.finding(severity)] * found)

    assert [r.code for r in over_limits(report, limits, "scan")] == [f"scan.{severity}"] * refused


@pytest.mark.parametrize("severity", Severity)
def test_limit_of_null_accepts_any_number_of_findings(make, severity):
    """It applies to its own severity only."""
    every = {each.value: 0 for each in Severity} | {severity.value: None}
    report = make.report(*[make.finding(severity)] * 1000, *[make.finding(each) for each in Severity])

    found = {r.code for r in over_limits(report, Limits(**every), "scan")}

    assert found == {f"scan.{each}" for each in Severity} - {f"scan.{severity}"}


@pytest.mark.parametrize("severity", Severity)
def test_limits_never_accept_known_exploited_finding(make, severity):
    """The rule holds for every severity and every limit."""
    limits = Limits(**{each.value: None for each in Severity})
    report = make.report(make.finding(severity, known_exploited=True), make.finding(severity, id="CVE-2026-0002"))

    (reason,) = over_limits(report, limits, "scan")

    assert reason.code == "scan.known-exploited"
    assert "CVE-2026-0001" in reason.fact and "3.0.2" in reason.remedy


def test_limits_reason_names_findings_and_counts_fixes(make):
    """It names the first findings and counts the others."""
    findings = [make.finding(id=f"CVE-2026-{n:04}", fixed_in=("2",) if n < 3 else ()) for n in range(8)]

    (reason,) = over_limits(make.report(*findings), Limits(), "scan")

    assert "8 findings of severity high, 0 accepted" in reason.fact
    assert "CVE-2026-0004" in reason.fact and "CVE-2026-0005" not in reason.fact and "and 3 more" in reason.fact
    assert reason.remedy.startswith("fixes exist for 3 of them")


def test_limits_remedy_is_removal_if_no_fix_exists(make):
    """Without a fixed version there is nothing to upgrade to."""
    (reason, *_) = over_limits(make.report(make.finding(known_exploited=True, fixed_in=())), Limits(), "scan")

    assert reason.remedy == "remove openssl; no fix is published"


def test_limits_remedy_names_first_fixed_version(make):
    """The first fixed version is the smallest upgrade."""
    (reason, *_) = over_limits(
        make.report(make.finding(known_exploited=True, fixed_in=("3.0.2", "3.1.0"))), Limits(), "scan"
    )

    assert reason.remedy == "upgrade openssl to 3.0.2 or later"


@pytest.mark.parametrize(("count", "more"), [(4, None), (5, None), (6, 1), (7, 2)])
def test_limits_reason_names_five_findings_and_counts_the_rest(make, count, more):
    """A reason has to stay readable."""
    findings = [make.finding(id=f"CVE-2026-{n:04}") for n in range(count)]

    (reason,) = over_limits(make.report(*findings), Limits(), "scan")

    assert reason.fact.count("CVE-2026-") == min(count, 5)
    assert reason.fact.endswith(f"; and {more} more" if more else "(high, fixed in 3.0.2)")


def test_encrypted_at_rest_requires_record_signed_by_curation(dossier):
    """A statement of development about the repository of curation does not count."""
    assert codes(rules.encrypted_at_rest, dossier(evidence=())) == ["encryption.missing"]
    assert codes(rules.encrypted_at_rest, dossier(evidence=(encryption(signer="development"),))) == [
        "encryption.missing"
    ]


def test_encrypted_at_rest_raises_for_unreadable_record(dossier):
    """An unreadable record proves neither encryption nor its absence."""
    with pytest.raises(EvidenceInvalid):
        codes(rules.encrypted_at_rest, dossier(evidence=(encryption(type="none"),)))


def test_encrypted_at_rest_requires_encrypted_copy_if_confidential(dossier, make):
    """The copy must be of this image; an image that is not confidential needs none."""
    secret = make.manifest(classification="confidential")

    def asked(record):
        return codes(rules.encrypted_at_rest, dossier(manifest=secret, evidence=(record,)))

    assert asked(encryption()) == ["encryption.no-copy"]
    assert asked(encryption(copy=copy("sha256:" + "e" * 64))) == ["encryption.no-copy"]
    assert asked(encryption(copy=copy())) == []
    assert (
        codes(rules.encrypted_at_rest, dossier(manifest=secret, evidence=(encryption(), encryption(copy=copy())))) == []
    )
    assert codes(rules.encrypted_at_rest, dossier(manifest=secret, evidence=())) == ["encryption.missing"]
    assert codes(rules.encrypted_at_rest, dossier()) == []


def test_signature_present_refuses_unsigned_image(dossier):
    """Verdicts do not replace the signature of curation."""
    assert codes(rules.signature_present, dossier(signed=False)) == ["signature.missing"]
    assert codes(rules.signature_present, dossier(signed=True)) == []


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
def test_earlier_verdicts_passed_requires_both_earlier_gates(dossier, make, results, missing):
    """A refusal and a missing verdict are both reasons."""
    assert codes(rules.earlier_verdicts_passed, dossier(verdicts=verdicts(make, **results))) == missing


def test_environment_declared_refuses_base(dossier, make):
    """A base is built upon and never deployed."""
    assert codes(rules.environment_declared, dossier(manifest=make.base())) == ["placement.not-a-service"]


@pytest.mark.parametrize(("environment", "reasons"), [("staging", []), ("production", ["placement.not-declared"])])
def test_environment_declared_refuses_undeclared_environment(dossier, environment, reasons):
    """A service runs only in the environments that its owner declares."""
    assert codes(rules.environment_declared, dossier(place=Place(environment))) == reasons


@pytest.mark.parametrize("place", [None, *map(Place, ("", "stag", "staging2"))])
def test_environment_declared_compares_whole_names(dossier, place):
    """A prefix or an extension of a declared name does not match."""
    assert codes(rules.environment_declared, dossier(place=place)) == ["placement.not-declared"]


LATER = Place("production", soak=RequiredSoak("staging", 3600))


@pytest.mark.parametrize(
    ("seconds", "told"),
    [
        (None, "there is no signed soak of this image"),
        (3599, "this image was healthy in staging for 0:59:59"),
        (3600, None),
        (7200, None),
    ],
)
def test_soak_completed_refuses_missing_or_short_soak(dossier, make, seconds, told):
    """The reason names the environment, the required time and the time reached."""
    soak = None if seconds is None else SignedValue(well_for(make, seconds), make.noon, encryption())

    reasons = list(rules.soak_completed(dossier(place=LATER, soak=soak)))

    assert [(reason.code, reason.fact) for reason in reasons] == [
        ("soak.missing", f"production requires an image that was healthy in staging for 1:00:00; {told}")
    ][: told is not None]


def well_for(make, seconds):
    until = make.noon + timedelta(seconds=seconds)
    return Soak(
        environment="staging", digest=DIGEST, container="c", since=make.noon, until=until, looks=2, asked=seconds
    )


@pytest.mark.parametrize("place", [None, Place("staging")])
def test_soak_completed_passes_if_no_soak_is_required(dossier, place):
    """The first environment takes every released image."""
    assert codes(rules.soak_completed, dossier(place=place)) == []


def test_deploy_gate_requires_soak(dossier):
    """The rule also holds for a deployment by hand."""
    refused = judge(dossier(place=LATER), POLICIES[Gate.DEPLOY])

    assert "soak.missing" in [reason.code for reason in refused.reasons]


UNKNOWN = Distribution(name="slitaz", version="5")


@pytest.mark.parametrize(
    ("distribution", "told"),
    [
        (UNKNOWN, "1 package of slitaz 5, about which the vulnerability database knows nothing"),
        (Distribution(name="debian", codename="forky"), "1 package of debian forky, about which"),
        (Distribution(name=""), "that the image does not name as one that the scanner knows"),
        (None, "of which the scan does not tell whether the database knows it"),
    ],
)
def test_distribution_supported_refuses_unknown_distribution(dossier, make, distribution, told):
    """A scan without findings proves nothing there; the owner may accept that, and the verdict notes it."""
    said = dossier(report=make.report(distribution=distribution))
    accepting = make.manifest(limits={"unknown_distribution": True})
    accepted = dossier(report=said.report, manifest=accepting)
    policy = POLICIES[Gate.DEPLOY]

    (reason,) = judge(said, policy).reasons
    assert reason.code == "scan.distribution-unknown"
    assert told in reason.fact
    (note,) = judge(accepted, policy).notes
    assert note.startswith("not judged, which its owner accepts: ") and told in note


@pytest.mark.parametrize("distribution", [UNKNOWN, Distribution(name=""), None])
def test_distribution_supported_passes_without_distribution_packages(dossier, make, distribution):
    """An image may contain only a static program, for example of Go."""
    apart = frozenset({("go-module", "golang.org/x/net", "")})

    assert (
        codes(rules.distribution_supported, dossier(report=make.report(distribution=distribution), inventory=apart))
        == []
    )


def test_distribution_supported_passes_if_other_evidence_is_missing(dossier, make):
    """A missing scan, SBOM or declaration is the reason of another rule."""
    said = {"report": make.report(distribution=UNKNOWN)}

    assert codes(rules.distribution_supported, dossier(report=None)) == []
    assert codes(rules.distribution_supported, dossier(**said, inventory=None)) == []
    assert codes(rules.distribution_supported, dossier(**said, manifest=None)) == []
    assert codes(rules.distribution_supported, dossier(**said)) == ["scan.distribution-unknown"]


def test_approval_given_refuses_denial_with_person_and_reason(dossier, make):
    """A denial counts in every environment; only some environments require an approval."""
    said = Approval(
        environment="staging", digest=DIGEST, decision="denied", by="Ada", reason="not today", decided=make.noon
    )
    denied = SignedValue(said, make.noon, encryption())

    for asks in (True, False):
        (reason,) = rules.approval_given(dossier(place=Place("staging", approval=asks), approval=denied))
        assert (reason.code, reason.fact) == (
            "approval.denied",
            "Ada denied it for staging on 2026-11-24 12:00 UTC: not today",
        )
    assert codes(rules.approval_given, dossier()) == []
    assert codes(rules.approval_given, dossier(place=Place("staging", approval=True))) == ["approval.missing"]
    assert codes(rules.approval_given, dossier(place=None)) == []


DEBIAN, BUSTER = Identity(id="debian", version="12"), Identity(id="debian", version="10")
ZIP = Archive(path="/srv/a.zip", format="zip", sha256="a" * 64)
DPKG = Database(path="/opt/x", manager="dpkg")
LIE = Contradiction(path="/etc/debian_version", fact="it names the version 11")


def accepting(make, what, at):
    return make.manifest(limits={"unjudged": [{"what": what, "at": [at], "reason": "it is well"}]})


def test_image_examined_refuses_image_without_examination(dossier):
    """An SBOM does not tell what it leaves out; a missing SBOM is the reason of another rule."""
    assert codes(rules.image_examined, dossier(examination=None)) == ["sbom.not-examined"]
    assert codes(rules.image_examined, dossier(examination=None, inventory=None)) == []
    assert codes(rules.image_examined, dossier()) == []


def test_gate_refuses_ambiguous_layers(dossier, make):
    """The owner cannot accept it, because the judged content may differ from what runs."""
    differs = dossier(examination=Examination(conflicts=("a/su is written through the link a",)))

    assert codes(rules.layers_unambiguous, differs) == ["sbom.layers-differ"]
    assert codes(rules.layers_unambiguous, dossier()) == []
    assert codes(rules.layers_unambiguous, dossier(examination=None)) == []


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
def test_distribution_matches_base_refuses_other_distribution(dossier, make, own, below, lie, accepted, refused):
    """Neither os-release nor another file may contradict the base, unless the owner accepts that very file."""
    judged = dossier(
        examination=Examination(distribution=own, contradictions=(LIE,) if lie else ()),
        distributions={"curated/base/python@sha256:0": below},
        manifest=accepting(make, "distribution", accepted) if accepted else make.manifest(),
    )

    assert codes(rules.distribution_matches_base, judged) == (["sbom.distribution-differs"] if refused else [])


def test_distribution_matches_base_ignores_acceptance_of_archive(dossier, make):
    """An owner accepts one kind of content at a time."""
    judged = dossier(
        examination=Examination(distribution=DEBIAN),
        distributions={"base": BUSTER},
        manifest=accepting(make, "archive", "/etc/os-release"),
    )

    assert codes(rules.distribution_matches_base, judged) == ["sbom.distribution-differs"]


def test_distribution_matches_base_passes_without_examination(dossier):
    """A missing examination or declaration is the reason of another rule."""
    assert codes(rules.distribution_matches_base, dossier(examination=None)) == []
    assert codes(rules.distribution_matches_base, dossier(manifest=None)) == []


@pytest.mark.parametrize(
    ("rule", "found", "what", "path", "code"),
    [
        (rules.single_package_database, Examination(databases=(DPKG,)), "database", "/opt/x", "sbom.second-database"),
        (rules.archives_accepted, Examination(archives=(ZIP,)), "archive", "/srv/*", "sbom.archives"),
    ],
)
def test_unscanned_content_is_refused_unless_accepted(dossier, make, rule, found, what, path, code):
    """The owner accepts it, or the base has the same archive; a second database in the base does not help."""
    other = "archive" if what == "database" else "database"

    assert codes(rule, dossier(examination=found)) == [code]
    assert codes(rule, dossier(examination=found, manifest=accepting(make, what, path))) == []
    assert codes(rule, dossier(examination=found, manifest=accepting(make, other, path))) == [code]
    assert codes(rule, dossier(examination=found, examined_bases=(found,))) == ([] if what == "archive" else [code])
    assert codes(rule, dossier()) == [] == codes(rule, dossier(examination=None)) == codes(rule, dossier(manifest=None))


def test_archives_accepted_refuses_unlisted_archives(dossier, make):
    """An owner cannot accept archives that are not known."""
    many = Examination(archives=(ZIP,), unlisted=2)
    (reason,) = rules.archives_accepted(dossier(examination=many, manifest=accepting(make, "archive", "/srv/*")))

    assert reason.fact == "2 archives that no scanner opens: more than are listed"


def test_verdict_notes_unscanned_content_that_owner_accepts(dossier, make):
    """Each note has a path; content that the base has too is not noted again."""
    limits = [
        {"what": "archive", "at": ["/srv/*"], "reason": "pictures"},
        {"what": "database", "at": ["/opt/x"], "reason": "a chroot"},
        {"what": "distribution", "at": ["/etc/debian_version", "/etc/os-release"], "reason": "an old program"},
    ]
    found = Examination(distribution=DEBIAN, archives=(ZIP,), databases=(DPKG,), contradictions=(LIE,))
    judged = dossier(
        examination=found, distributions={"base": BUSTER}, manifest=make.manifest(limits={"unjudged": limits})
    )

    verdict = judge(judged, POLICIES[Gate.RELEASE])

    assert verdict.notes == (
        "not judged, which its owner accepts: the archive /srv/a.zip (zip)",
        "not judged, which its owner accepts: the package database /opt/x (dpkg)",
        "not judged, which its owner accepts: /etc/debian_version: it names the version 11",
        "not judged, which its owner accepts: it is of debian 12, and base of debian 10",
    )
    assert judge(dossier(examination=found, examined_bases=(found,)), POLICIES[Gate.INTAKE]).notes == ()


def test_verdict_notes_accepted_absence_of_distribution(dossier, make):
    """The image or a base may have no distribution; a base with the same one needs no note."""
    accepting_it = accepting(make, "distribution", "/etc/os-release")
    for own, bases, notes in (
        (None, {"base": DEBIAN, "other": None}, ["it is of no distribution, and base of debian 12"]),
        (DEBIAN, {"base": None, "other": DEBIAN}, ["it is of debian 12, and base of none"]),
    ):
        judged = dossier(examination=Examination(distribution=own), distributions=bases, manifest=accepting_it)
        found = judge(judged, POLICIES[Gate.RELEASE]).notes
        assert found == tuple(f"not judged, which its owner accepts: {note}" for note in notes)


def test_verdict_does_not_note_unaccepted_content_as_accepted(dossier, make):
    """Without a declaration the owner accepts nothing, whatever the policy is."""
    found = Examination(distribution=DEBIAN, archives=(ZIP,), databases=(DPKG,), contradictions=(LIE,))
    lenient = Policy(Gate.RELEASE, (rules.image_scanned,), "1")

    assert judge(dossier(examination=found), lenient).notes == ()
    assert judge(dossier(examination=found, distributions={"base": BUSTER}, manifest=None), lenient).notes == ()


def test_verdict_of_base_has_no_note_about_tests(dossier, make):
    """A base has a command check in place of tests."""
    judged = dossier(manifest=make.base(), ref=ImageRef(repository="curated/base/python", digest=DIGEST))

    assert judge(judged, POLICIES[Gate.INTAKE]).notes == ()


def numbered(kind, start):
    return tuple(start.model_copy(update={kind: f"/x/{number:02}"}) for number in range(11))


@pytest.mark.parametrize(
    ("rule", "found", "words"),
    [
        (rules.layers_unambiguous, {"conflicts": tuple("abcdef")}, "into different files: a; b; c; d; e"),
        (
            rules.distribution_matches_base,
            {"contradictions": numbered("path", LIE)},
            "it names no distribution, but "
            + "; ".join(f"/x/{number:02}: it names the version 11" for number in range(10)),
        ),
        (
            rules.single_package_database,
            {"databases": numbered("path", DPKG)},
            "11 package databases besides the distribution's own: "
            + ", ".join(f"/x/{number:02} (dpkg)" for number in range(10)),
        ),
        (
            rules.archives_accepted,
            {"archives": numbered("path", ZIP), "unlisted": 3},
            "14 archives that no scanner opens: " + ", ".join(f"/x/{number:02} (zip)" for number in range(10)),
        ),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_reason_names_first_items_and_counts_all(dossier, rule, found, words):
    """A reason has to stay readable."""
    (reason,) = rule(dossier(examination=Examination(**found)))

    assert reason.fact.endswith(words)


def test_distribution_matches_base_names_both_distributions(dossier):
    """The reason names a base only if its distribution differs."""
    bases = {"base": BUSTER, "other": DEBIAN}
    (reason,) = rules.distribution_matches_base(
        dossier(examination=Examination(distribution=DEBIAN), distributions=bases)
    )

    assert reason.fact == "it names debian 12, but /etc/os-release: base names debian 10"


def test_verdict_limits_number_of_notes(dossier, make):
    """A verdict has to stay readable, so it counts the remaining notes."""
    archives = tuple(ZIP.model_copy(update={"path": f"/srv/{number:02}"}) for number in range(25))
    judged = dossier(examination=Examination(archives=archives), manifest=accepting(make, "archive", "/srv/*"))

    notes = judge(judged, POLICIES[Gate.RELEASE]).notes

    assert len(notes) == 21 and notes[-1] == "not judged, which its owner accepts: 5 more (limits.unjudged)"


@pytest.mark.parametrize(
    ("details", "shown"),
    [
        ({TESTED: {"shown": True, "by": "pytest", "ran": 1}}, True),
        ({TESTED: {"shown": False, "by": "", "ran": 0}}, False),
        ({TESTED: {"shown": "yes"}}, False),
        ({TESTED: "shown"}, False),
        ({}, False),
    ],
)
def test_tests_reported_refuses_unproven_tests_if_required(dossier, make, details, shown):
    """Elsewhere it is a note, because the chain does not know every test runner."""
    checks = (make.check(Check.PROBE), make.check(Check.TESTS, details=details))
    asks, not_shown = Place("staging", tests_shown=True), "it is not shown that anything was tested (tests.not-shown)"

    assert codes(rules.tests_reported, dossier(checks=checks, place=asks)) == ([] if shown else ["tests.not-shown"])
    assert codes(rules.tests_reported, dossier(checks=checks)) == []
    assert codes(rules.tests_reported, dossier(checks=checks, place=None)) == []
    assert codes(rules.tests_reported, dossier(checks=(), place=asks)) == ["tests.not-shown"]
    assert (not_shown in judge(dossier(checks=checks), POLICIES[Gate.DEPLOY]).notes) is not shown


def test_tests_reported_ignores_failed_or_other_checks(dossier, make):
    """The details of such a check do not prove that tests ran."""
    asks = Place("staging", tests_shown=True)
    good = {TESTED: {"shown": True, "by": "pytest", "ran": 1}}
    for check in (
        make.check(Check.TESTS, details=good, failed=("no",)),
        make.check(Check.PROBE, details=good),
        make.check(Check.TESTS, details=good, passed=()),
    ):
        assert codes(rules.tests_reported, dossier(checks=(check,), place=asks)) == ["tests.not-shown"]
