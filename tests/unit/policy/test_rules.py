"""Every rule once as it passes and once as it refuses."""

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
from supply_chain.policy.gate import Dossier, Place, Policy, SoakAsked, judge
from supply_chain.policy.names import Holder
from supply_chain.policy.outcome import Refused
from supply_chain.policy.rules import POLICIES, over_limits
from supply_chain.vulnerability.findings import Distribution, Severity

DIGEST = "sha256:" + "a" * 64
IMAGE = ImageRef(repository="curated/hello", digest=DIGEST)
KEY = "arn:aws:kms:eu-west-1:1:key/s"


@pytest.fixture
def dossier(make):
    """A dossier that every rule passes; keyword arguments break it."""

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
def test_no_rule_objects_to_what_is_good(dossier, gate):
    """Otherwise the refusals below would prove nothing."""
    assert not isinstance(judge(dossier(), POLICIES[gate]), Refused)


def test_each_severity_is_counted_by_itself(make):
    """Of what else there is nothing is told for it."""
    found = [make.finding("low", id="CVE-1"), make.finding("critical", id="CVE-2"), make.finding("low", id="CVE-3")]

    reasons = list(over_limits(make.report(*found), Limits(critical=0, high=0, medium=0, unknown=0), "scan"))

    assert [reason.code for reason in reasons] == ["scan.critical"]
    assert reasons[0].fact.startswith("1 finding of severity critical, 0 accepted: ") and "CVE-2" in reasons[0].fact
    assert "CVE-1" not in reasons[0].fact and "CVE-3" not in reasons[0].fact


def test_every_rule_is_in_a_policy():
    """A rule that no gate asks is none."""
    written = {
        name
        for name, value in inspect.getmembers(rules, inspect.isgeneratorfunction)
        if value.__module__ == rules.__name__ and not name.startswith("_") and name != "over_limits"
    }
    asked = {rule.__name__ for policy in POLICIES.values() for rule in policy.rules}

    assert written == asked


def test_without_signed_provenance_nothing_is_known(dossier):
    """Neither who built it nor what its owner accepts."""
    assert codes(rules.provenance_signed, dossier(manifest=None)) == ["provenance.missing"]


def test_the_declaration_is_of_this_application(dossier, make):
    """A lenient application's evidence does not serve a strict one."""
    assert codes(rules.application_names_match, dossier(manifest=make.manifest(name="other"))) == [
        "provenance.other-application"
    ]
    assert codes(rules.application_names_match, dossier()) == []


@pytest.mark.parametrize("which", required("service"))
def test_a_service_needs_every_check(dossier, make, which):
    """One that nobody made has not been passed."""
    made = tuple(make.check(each) for each in required("service") if each is not which)

    assert codes(rules.required_checks_present, dossier(checks=made)) == [f"{which}.missing"]


@pytest.mark.parametrize("which", required("base"))
def test_a_base_needs_its_own_checks(dossier, make, which):
    """It has a command in place of tests and probe."""
    made = tuple(make.check(each) for each in required("base") if each is not which)

    assert codes(rules.required_checks_present, dossier(manifest=make.base(), checks=made)) == [f"{which}.missing"]
    assert codes(rules.required_checks_present, dossier(manifest=make.base())) == []


@pytest.mark.parametrize("unknown", ["manifest", "source", "holder"])
def test_a_name_is_nobodys_while_builder_or_holder_are_unknown(dossier, make, unknown):
    """Without provenance another rule refuses; without a holder whoever is admitted first becomes it."""
    known = {"source": make.source(), "holder": Holder(owner="somebody else")}

    assert codes(rules.name_belongs_to_source, dossier(**known)) == ["name.taken"]
    assert codes(rules.name_belongs_to_source, dossier(**{**known, unknown: None})) == []


def test_no_checks_at_all_miss_each_one(dossier):
    """Nothing to check is not a pass."""
    assert codes(rules.required_checks_present, dossier(checks=())) == [
        f"{each}.missing" for each in required("service")
    ]


@pytest.mark.parametrize("which", Check)
def test_every_failure_of_a_check_is_a_reason(dossier, make, which):
    """With a remedy of that check; a warning is none."""
    failed = make.check(which, passed=("fine",), failed=("one", "two"), warned=("three",))

    reasons = list(rules.checks_passed(dossier(checks=(failed,))))

    assert [(r.code, r.fact) for r in reasons] == [(f"{which}.failed", "one"), (f"{which}.failed", "two")]
    assert all(r.remedy == CHECKS[which].remedy for r in reasons)


def test_a_check_that_looked_at_nothing_is_a_reason(dossier, make):
    """It says neither yes nor no."""
    assert codes(rules.checks_passed, dossier(checks=(make.check(Check.TESTS, passed=()),))) == ["tests.empty"]
    assert codes(rules.checks_passed, dossier(checks=(make.check(Check.TESTS, warned=("w",)),))) == []


def test_the_sources_vulnerabilities_are_held_against_the_limits(dossier, make):
    """The dependencies' report, not the image's."""
    bad = make.report(make.finding("critical"))

    assert codes(rules.source_within_limits, dossier(source_report=bad)) == ["dependencies.critical"]
    assert codes(rules.source_within_limits, dossier(report=bad)) == []


@pytest.mark.parametrize("kind", ["manifest", "base"])
def test_without_a_report_on_the_source_nothing_is_within_limits(dossier, make, kind):
    """That the check was made does not say what it found."""
    bare = dossier(manifest=getattr(make, kind)(), source_report=None)

    assert codes(rules.source_within_limits, bare) == ["dependencies.report-missing"]


def test_an_inventory_has_to_be_there(dossier):
    """Without one nobody can say later what is inside."""
    assert codes(rules.sbom_complete, dossier()) == []
    assert codes(rules.sbom_complete, dossier(inventory=None)) == ["sbom.missing"]


def test_an_inventory_of_nothing_is_refused(dossier):
    """A scan of it finds nothing, whatever the image holds."""
    assert codes(rules.sbom_complete, dossier(inventory=frozenset())) == ["sbom.empty"]


def test_the_packages_of_the_base_that_are_hidden_are_named(dossier):
    """So that its owner sees what the Dockerfile removed."""
    openssl = ("deb", "openssl", "pkg:deb/openssl@3")
    below = frozenset({openssl, ("deb", "libc6", "")})
    (reason,) = rules.sbom_complete(dossier(inherited=below))

    assert reason.code == "sbom.incomplete"
    assert "1 package of the base" in reason.fact and "libc6" in reason.fact and "openssl" not in reason.fact
    assert codes(rules.sbom_complete, dossier(inherited=frozenset({openssl}))) == []


@pytest.mark.parametrize(
    "purl", ["pkg:deb/openssl@2", "pkg:deb/openssl@3?upstream=other", "pkg:deb/other/openssl@3", ""]
)
def test_a_package_of_the_base_that_passes_for_another_is_named(dossier, purl):
    """A scanner would look for the other one's vulnerabilities."""
    (reason,) = rules.sbom_complete(dossier(inherited=frozenset({("deb", "openssl", purl)})))

    assert reason.code == "sbom.altered" and "openssl" in reason.fact


@pytest.mark.parametrize(("version", "code"), [(None, "sbom.incomplete"), ("2", "sbom.altered")])
def test_ten_packages_are_named_and_all_are_counted(dossier, version, code):
    """A reason is read by a person."""
    names = [f"lib{n:02}" for n in range(11)]
    found = {("deb", name, f"pkg:deb/{name}@{version}") for name in names if version}
    below = frozenset(("deb", name, f"pkg:deb/{name}@1") for name in names)

    (reason,) = rules.sbom_complete(dossier(inherited=below, inventory=frozenset({("deb", "x", ""), *found})))

    assert reason.code == code and reason.fact.startswith("11 packages")
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
def test_a_scan_is_good_for_the_days_that_are_declared(dossier, make, after, old):
    """What is older has to be looked at again; what is from the future has no age."""
    assert codes(rules.scan_up_to_date, dossier(now=make.noon + after)) == (["scan.old"] if old else [])
    longer = make.manifest(limits={"scan_days": 8})
    assert codes(rules.scan_up_to_date, dossier(now=make.noon + timedelta(days=8), manifest=longer)) == []


def test_without_a_clock_no_scan_is_current(dossier):
    """What cannot be judged is not admitted."""
    assert codes(rules.scan_up_to_date, dossier(now=None)) == ["scan.old"]


def test_the_image_is_scanned_and_within_limits(dossier, make):
    """No scan is a reason, and so is what it found."""
    bad = make.report(make.finding("critical"))

    assert codes(rules.image_scanned, dossier(report=None)) == ["scan.missing"]
    assert codes(rules.findings_within_limits, dossier(report=bad)) == ["scan.critical"]
    assert codes(rules.findings_within_limits, dossier(source_report=bad)) == []


@pytest.mark.parametrize("severity", Severity)
@pytest.mark.parametrize(("limit", "found", "refused"), [(0, 0, False), (0, 1, True), (2, 2, False), (2, 3, True)])
def test_a_limit_is_the_number_that_is_accepted(make, severity, limit, found, refused):
    """For every severity, Unknown too: as many are accepted, one more is not."""
    limits = Limits(**{severity.value: limit})
    report = make.report(*[make.finding(severity)] * found)

    assert [r.code for r in over_limits(report, limits, "scan")] == [f"scan.{severity}"] * refused


@pytest.mark.parametrize("severity", Severity)
def test_a_limit_of_null_accepts_any_number(make, severity):
    """But of that severity only."""
    every = {each.value: 0 for each in Severity} | {severity.value: None}
    report = make.report(*[make.finding(severity)] * 1000, *[make.finding(each) for each in Severity])

    found = {r.code for r in over_limits(report, Limits(**every), "scan")}

    assert found == {f"scan.{each}" for each in Severity} - {f"scan.{severity}"}


@pytest.mark.parametrize("severity", Severity)
def test_what_is_known_to_be_exploited_is_never_accepted(make, severity):
    """Whatever its severity and the limits say."""
    limits = Limits(**{each.value: None for each in Severity})
    report = make.report(make.finding(severity, known_exploited=True), make.finding(severity, id="CVE-2026-0002"))

    (reason,) = over_limits(report, limits, "scan")

    assert reason.code == "scan.known-exploited"
    assert "CVE-2026-0001" in reason.fact and "3.0.2" in reason.remedy


def test_a_reason_names_the_findings_and_how_many_have_a_fix(make):
    """The first ones, and how many more there are."""
    findings = [make.finding(id=f"CVE-2026-{n:04}", fixed_in=("2",) if n < 3 else ()) for n in range(8)]

    (reason,) = over_limits(make.report(*findings), Limits(), "scan")

    assert "8 findings of severity high, 0 accepted" in reason.fact
    assert "CVE-2026-0004" in reason.fact and "CVE-2026-0005" not in reason.fact and "and 3 more" in reason.fact
    assert reason.remedy.startswith("for 3 of them there is a fix")


def test_an_exploited_finding_without_a_fix_has_to_go(make):
    """There is nothing to raise it to."""
    (reason, *_) = over_limits(make.report(make.finding(known_exploited=True, fixed_in=())), Limits(), "scan")

    assert reason.remedy == "remove openssl; no fix is published"


def test_the_first_version_that_has_a_fix_is_named(make):
    """It is the smallest step."""
    (reason, *_) = over_limits(
        make.report(make.finding(known_exploited=True, fixed_in=("3.0.2", "3.1.0"))), Limits(), "scan"
    )

    assert reason.remedy == "raise openssl to 3.0.2 or later"


@pytest.mark.parametrize(("count", "more"), [(4, None), (5, None), (6, 1), (7, 2)])
def test_five_findings_are_named_and_the_others_counted(make, count, more):
    """A reason is read by a person."""
    findings = [make.finding(id=f"CVE-2026-{n:04}") for n in range(count)]

    (reason,) = over_limits(make.report(*findings), Limits(), "scan")

    assert reason.fact.count("CVE-2026-") == min(count, 5)
    assert reason.fact.endswith(f"; and {more} more" if more else "(high, fixed in 3.0.2)")


def test_encryption_is_evidence_of_curations_own(dossier):
    """Development's word about curation's repository counts for nothing."""
    assert codes(rules.encrypted_at_rest, dossier(evidence=())) == ["encryption.missing"]
    assert codes(rules.encrypted_at_rest, dossier(evidence=(encryption(signer="development"),))) == [
        "encryption.missing"
    ]


def test_a_record_of_encryption_that_cannot_be_read_is_an_error(dossier):
    """It is neither a yes nor a no."""
    with pytest.raises(EvidenceInvalid):
        codes(rules.encrypted_at_rest, dossier(evidence=(encryption(type="none"),)))


def test_what_is_confidential_has_an_encrypted_copy(dossier, make):
    """A copy of this image, not of another; what is not confidential needs none."""
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


def test_execution_wants_curations_signature(dossier):
    """Verdicts alone do not do."""
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
def test_execution_wants_the_yes_of_both_gates_before(dossier, make, results, missing):
    """A no, or none, is a reason."""
    assert codes(rules.earlier_verdicts_passed, dossier(verdicts=verdicts(make, **results))) == missing


def test_a_base_never_runs(dossier, make):
    """It is built upon."""
    assert codes(rules.environment_declared, dossier(manifest=make.base())) == ["placement.not-a-service"]


@pytest.mark.parametrize(("environment", "reasons"), [("staging", []), ("production", ["placement.not-declared"])])
def test_a_service_runs_where_its_owner_says(dossier, environment, reasons):
    """And nowhere else."""
    assert codes(rules.environment_declared, dossier(place=Place(environment))) == reasons


@pytest.mark.parametrize("place", [None, *map(Place, ("", "stag", "staging2"))])
def test_a_name_like_a_declared_environments_will_not_do(dossier, place):
    """Names are compared whole."""
    assert codes(rules.environment_declared, dossier(place=place)) == ["placement.not-declared"]


LATER = Place("production", soak=SoakAsked("staging", 3600))


@pytest.mark.parametrize(
    ("seconds", "told"),
    [
        (None, "nobody signed a soak of this one there"),
        (3599, "this one was well in staging for 0:59:59"),
        (3600, None),
        (7200, None),
    ],
)
def test_what_was_not_well_elsewhere_for_long_enough_is_refused_and_told_why(dossier, make, seconds, told):
    """With where, and for how long it has to be."""
    soak = None if seconds is None else SignedValue(well_for(make, seconds), make.noon, encryption())

    reasons = list(rules.soak_completed(dossier(place=LATER, soak=soak)))

    assert [(reason.code, reason.fact) for reason in reasons] == [
        ("soak.missing", f"production takes only what was well in staging for 1:00:00, and {told}")
    ][: told is not None]


def well_for(make, seconds):
    until = make.noon + timedelta(seconds=seconds)
    return Soak(
        environment="staging", digest=DIGEST, container="c", since=make.noon, until=until, looks=2, asked=seconds
    )


@pytest.mark.parametrize("place", [None, Place("staging")])
def test_nobody_asks_for_a_soak_where_nothing_comes_before(dossier, place):
    """The first environment takes what curation vends."""
    assert codes(rules.soak_completed, dossier(place=place)) == []


def test_deploy_gate_asks_for_the_soak(dossier):
    """By hand, too."""
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
def test_packages_that_the_database_knows_nothing_about_are_not_judged(dossier, make, distribution, told):
    """No finding in them says nothing; the owner may accept that, and the verdict says it."""
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
def test_without_packages_of_a_distribution_it_need_not_be_known(dossier, make, distribution):
    """A program by itself, as Go makes it."""
    apart = frozenset({("go-module", "golang.org/x/net", "")})

    assert (
        codes(rules.distribution_supported, dossier(report=make.report(distribution=distribution), inventory=apart))
        == []
    )


def test_what_is_missing_is_told_by_its_own_rule(dossier, make):
    """Not twice: without scan, SBOM or declaration nothing is said of the distribution."""
    said = {"report": make.report(distribution=UNKNOWN)}

    assert codes(rules.distribution_supported, dossier(report=None)) == []
    assert codes(rules.distribution_supported, dossier(**said, inventory=None)) == []
    assert codes(rules.distribution_supported, dossier(**said, manifest=None)) == []
    assert codes(rules.distribution_supported, dossier(**said)) == ["scan.distribution-unknown"]


def test_a_denial_is_told_with_who_and_why(dossier, make):
    """Where the environment does not ask, nobody's yes is needed, and a no is heard."""
    said = Approval(
        environment="staging", digest=DIGEST, decision="denied", who="Ada", why="not today", decided=make.noon
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


def test_an_image_that_nobody_examined_is_refused(dossier):
    """An SBOM alone does not tell what it leaves out; where there is none, that is the reason."""
    assert codes(rules.image_examined, dossier(examination=None)) == ["sbom.not-examined"]
    assert codes(rules.image_examined, dossier(examination=None, inventory=None)) == []
    assert codes(rules.image_examined, dossier()) == []


def test_an_image_that_engines_unpack_differently_is_refused(dossier, make):
    """No owner may accept it: what was judged is not what would run."""
    differs = dossier(examination=Examination(conflicts=("a/su is written through the link a",)))

    assert codes(rules.layers_match_base, differs) == ["sbom.layers-differ"]
    assert codes(rules.layers_match_base, dossier()) == []
    assert codes(rules.layers_match_base, dossier(examination=None)) == []


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
def test_an_image_is_of_its_bases_distribution(dossier, make, own, below, lie, accepted, refused):
    """Neither its os-release nor another file says otherwise, unless the owner accepts that very file."""
    judged = dossier(
        examination=Examination(distribution=own, contradictions=(LIE,) if lie else ()),
        distributions={"curated/base/python@sha256:0": below},
        manifest=accepting(make, "distribution", accepted) if accepted else make.manifest(),
    )

    assert codes(rules.distribution_matches_base, judged) == (["sbom.distribution-differs"] if refused else [])


def test_an_archive_at_the_place_of_os_release_accepts_no_distribution(dossier, make):
    """An owner accepts one kind of thing at a time."""
    judged = dossier(
        examination=Examination(distribution=DEBIAN),
        distributions={"base": BUSTER},
        manifest=accepting(make, "archive", "/etc/os-release"),
    )

    assert codes(rules.distribution_matches_base, judged) == ["sbom.distribution-differs"]


def test_nothing_is_said_of_a_distribution_that_nobody_looked_for(dossier):
    """Another rule refuses that."""
    assert codes(rules.distribution_matches_base, dossier(examination=None)) == []
    assert codes(rules.distribution_matches_base, dossier(manifest=None)) == []


@pytest.mark.parametrize(
    ("rule", "found", "what", "path", "code"),
    [
        (rules.single_package_database, Examination(databases=(DPKG,)), "database", "/opt/x", "sbom.second-database"),
        (rules.archives_accepted, Examination(archives=(ZIP,)), "archive", "/srv/*", "sbom.archives"),
    ],
)
def test_what_no_scanner_judges_is_refused_unless_it_is_accepted(dossier, make, rule, found, what, path, code):
    """By the owner; or an archive by the base, whose own owner was asked. A database may be another than the base's."""
    other = "archive" if what == "database" else "database"

    assert codes(rule, dossier(examination=found)) == [code]
    assert codes(rule, dossier(examination=found, manifest=accepting(make, what, path))) == []
    assert codes(rule, dossier(examination=found, manifest=accepting(make, other, path))) == [code]
    assert codes(rule, dossier(examination=found, examined_bases=(found,))) == ([] if what == "archive" else [code])
    assert codes(rule, dossier()) == [] == codes(rule, dossier(examination=None)) == codes(rule, dossier(manifest=None))


def test_archives_that_are_not_listed_cannot_be_accepted(dossier, make):
    """Nobody knows which they are."""
    many = Examination(archives=(ZIP,), unlisted=2)
    (reason,) = rules.archives_accepted(dossier(examination=many, manifest=accepting(make, "archive", "/srv/*")))

    assert reason.fact == "2 archives in which no scanner looks: more than are listed"


def test_a_verdict_says_what_its_owner_accepts_as_not_judged(dossier, make):
    """Each with where it is; what the base has too is not told again."""
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


def test_a_verdict_says_where_there_is_no_distribution(dossier, make):
    """Neither in the image nor in a base of the same is anything to accept."""
    accepting_it = accepting(make, "distribution", "/etc/os-release")
    for own, bases, notes in (
        (None, {"base": DEBIAN, "other": None}, ["it is of no distribution, and base of debian 12"]),
        (DEBIAN, {"base": None, "other": DEBIAN}, ["it is of debian 12, and base of none"]),
    ):
        judged = dossier(examination=Examination(distribution=own), distributions=bases, manifest=accepting_it)
        found = judge(judged, POLICIES[Gate.RELEASE]).notes
        assert found == tuple(f"not judged, which its owner accepts: {note}" for note in notes)


def test_what_nobody_accepted_is_not_told_as_accepted(dossier, make):
    """Whatever a policy makes of it; without a declaration nobody accepted anything."""
    found = Examination(distribution=DEBIAN, archives=(ZIP,), databases=(DPKG,), contradictions=(LIE,))
    lenient = Policy(Gate.RELEASE, (rules.image_scanned,), "1")

    assert judge(dossier(examination=found), lenient).notes == ()
    assert judge(dossier(examination=found, distributions={"base": BUSTER}, manifest=None), lenient).notes == ()


def test_no_tests_are_missed_where_none_are_asked_for(dossier, make):
    """A base has a check command of its own."""
    judged = dossier(manifest=make.base(), ref=ImageRef(repository="curated/base/python", digest=DIGEST))

    assert judge(judged, POLICIES[Gate.INTAKE]).notes == ()


def numbered(kind, start):
    return tuple(start.model_copy(update={kind: f"/x/{number:02}"}) for number in range(11))


@pytest.mark.parametrize(
    ("rule", "found", "words"),
    [
        (rules.layers_match_base, {"conflicts": tuple("abcdef")}, "in different engines: a; b; c; d; e"),
        (
            rules.distribution_matches_base,
            {"contradictions": numbered("path", LIE)},
            "it says to be of no distribution, and "
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
            "14 archives in which no scanner looks: " + ", ".join(f"/x/{number:02} (zip)" for number in range(10)),
        ),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_a_reason_names_the_first_and_counts_all(dossier, rule, found, words):
    """It is read by people, and has to be of use to them."""
    (reason,) = rule(dossier(examination=Examination(**found)))

    assert reason.fact.endswith(words)


def test_a_reason_says_of_which_distribution_each_is(dossier):
    """The image, and the base where it is another."""
    bases = {"base": BUSTER, "other": DEBIAN}
    (reason,) = rules.distribution_matches_base(
        dossier(examination=Examination(distribution=DEBIAN), distributions=bases)
    )

    assert reason.fact == "it says to be of debian 12, and /etc/os-release: base is of debian 10"


def test_a_verdict_names_so_many_and_counts_the_rest(dossier, make):
    """It is read by people."""
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
def test_an_environment_may_ask_for_tests_that_are_shown(dossier, make, details, shown):
    """Elsewhere it is a note: the chain does not know every runner."""
    checks = (make.check(Check.PROBE), make.check(Check.TESTS, details=details))
    asks, not_shown = Place("staging", tests_shown=True), "it is not shown that anything was tested (tests.not-shown)"

    assert codes(rules.tests_reported, dossier(checks=checks, place=asks)) == ([] if shown else ["tests.not-shown"])
    assert codes(rules.tests_reported, dossier(checks=checks)) == []
    assert codes(rules.tests_reported, dossier(checks=checks, place=None)) == []
    assert codes(rules.tests_reported, dossier(checks=(), place=asks)) == ["tests.not-shown"]
    assert (not_shown in judge(dossier(checks=checks), POLICIES[Gate.DEPLOY]).notes) is not shown


def test_a_failed_or_another_check_shows_no_tests(dossier, make):
    """Whatever its details say."""
    asks = Place("staging", tests_shown=True)
    good = {TESTED: {"shown": True, "by": "pytest", "ran": 1}}
    for check in (
        make.check(Check.TESTS, details=good, failed=("no",)),
        make.check(Check.PROBE, details=good),
        make.check(Check.TESTS, details=good, passed=()),
    ):
        assert codes(rules.tests_reported, dossier(checks=(check,), place=asks)) == ["tests.not-shown"]
