"""VEX documents: signed by an issuer, and joined into the findings of an image; otherwise they do not count."""

import json
import os
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any

import pytest

from supply_chain.evidence.attached_statement import CSAF, OPENVEX
from supply_chain.model.tier import Gate
from supply_chain.policy.fact_values import join_fact_values, make_evidence_values
from supply_chain.policy.gate import evaluate
from supply_chain.policy.outcome import Admitted
from supply_chain.policy.people import FILE, People, read_people
from supply_chain.policy.signed_documents import DocumentKind, locate_signature, make_document_statement
from supply_chain.policy.vex import DIRECTORY, Vex, is_accepted, read_vex_documents
from supply_chain.policy.waivers import Waivers
from supply_chain.vulnerability.findings import Severity
from tests.support.attached import attached_statement
from tests.support.builders import DIGEST, NOON, declaration, finding, report
from tests.support.facts import deploy_facts, intake_facts, release_facts
from tests.support.people import Office
from tests.support.policies import POLICIES
from tests.support.vex import CVE, csaf, csaf_product, csaf_vulnerability, openvex, openvex_statement

PURL = "pkg:deb/debian/openssl@3.0.1?distro=debian-12"
PACKAGES = frozenset({("deb", "openssl", PURL)})
FOUND = finding(id="CVE-2026-1", severity=Severity.HIGH)
NONE = declaration(limits={"critical": 0, "high": 0, "medium": 0})
NOT_REACHABLE = "vulnerable_code_not_in_execute_path"


class Publisher:
    """Acme issues documents; two of the reasons why an image may not be affected are accepted, for a week each."""

    def __init__(self, project):
        self.office = Office(project)
        self.office.issuers = {"acme": self.office.bob, "vendor": self.office.ann}
        self.office.write_people()
        self.directory = project / DIRECTORY
        self.directory.mkdir(parents=True)

    def state(self, name="acme", signer=None, at=NOON, sign=True, **changes):
        """Write and sign a document with one statement."""
        statement = {
            "vulnerability": {"name": "CVE-2026-1"}, "products": [{"@id": PURL}], "status": "not_affected",
            "justification": NOT_REACHABLE,
        }  # fmt: skip
        given = {key: value for key, value in {**statement, **changes}.items() if value is not None}
        document = {
            "@context": "https://openvex.dev/ns/v0.2.0", "@id": f"https://{name}.example/1", "author": name,
            "timestamp": at.isoformat(), "version": 1, "statements": [given],
        }  # fmt: skip
        file = self.directory / f"{name}.json"
        file.write_text(json.dumps(document))
        if sign:
            key = signer or self.office.issuers[name]
            statement_of = make_document_statement(DocumentKind.VEX, file.name, file.read_bytes(), "example", NOON)
            locate_signature(file).write_bytes(key.sign(statement_of))
        return file

    def attach(self, signer=None, document="attached", version=1, at=NOON, **changes):
        """Return a document of Acme's that is attached to the image, with one statement that it is not affected."""
        given = {"vulnerability": {"name": "CVE-2026-1"}, "justification": NOT_REACHABLE, **changes}
        content = openvex(
            openvex_statement(PURL, **given),
            **{"@id": document}, author="acme", version=version, timestamp=at.isoformat(),
        )  # fmt: skip
        return attached_statement(signer or self.office.bob, OPENVEX, content)

    def read(self, now=NOON):
        people = read_people(self.office.project / FILE, self.office.people_owner, now)
        return read_vex_documents(self.directory, people, now)

    def policies(self, now=NOON):
        people = read_people(self.office.project / FILE, self.office.people_owner, now)
        return POLICIES.with_decisions(people, Waivers(), self.read(now))

    def judge(self, facts, gate=Gate.RELEASE, now=NOON):
        return evaluate(facts, self.policies(now).select_gate(gate), now)


@pytest.fixture
def vex(tmp_path):
    return Publisher(tmp_path)


def facts(make=release_facts, **changes):
    return make(NONE, **{"report": report(FOUND), "packages": PACKAGES, **changes})


def codes(verdict):
    return [] if isinstance(verdict, Admitted) else [reason.code for reason in verdict.reasons]


def test_verdict_ends_with_the_investigation_or_the_list_of_issuers(vex):
    """Until then it is an admission; after an investigation, the finding counts."""
    vex.state(status="under_investigation", justification=None)
    for gate, make in ((Gate.RELEASE, release_facts), (Gate.DEPLOY, deploy_facts)):
        assert vex.judge(facts(make), gate).expires == NOON + timedelta(days=7)
    assert codes(vex.judge(facts(), now=NOON + timedelta(days=7))) == ["scan.high"]
    vex.state()
    assert vex.judge(facts()).expires == vex.policies().release.people.expires == NOON + timedelta(days=300)
    assert vex.judge(release_facts(NONE)).expires is None


def test_accepted_statement_removes_the_finding_and_is_noted(vex):
    """At both gates of a curated image; the verdict says who stated it."""
    vex.state()

    assert codes(evaluate(facts(), POLICIES.release, NOON)) == ["scan.high"]
    for gate, make in ((Gate.RELEASE, release_facts), (Gate.DEPLOY, deploy_facts)):
        verdict = vex.judge(facts(make), gate)
        assert codes(verdict) == []
        note = "CVE-2026-1 in openssl does not count: acme (https://acme.example/1, version 1) states not_affected"
        assert note in verdict.notes


@pytest.mark.parametrize(
    ("changes", "now", "counts"),
    [
        ({"justification": "inline_mitigations_already_exist"}, 0, True),
        ({"status": "fixed", "justification": None}, 0, False),
        ({"status": "affected", "justification": None, "action_statement": "upgrade"}, 0, True),
        ({"status": "under_investigation", "justification": None}, 6, False),
        ({"status": "under_investigation", "justification": None}, 7, True),
        ({"vulnerability": {"name": "CVE-2026-2"}}, 0, True),
        ({"products": [{"@id": "pkg:deb/debian/zlib@1"}]}, 0, True),
        ({"products": [{"@id": "pkg:deb/debian/openssl@3.0.1?distro=debian-11"}]}, 0, True),
        ({"products": [{"@id": f"pkg:oci/hello@{DIGEST}"}]}, 0, False),
        ({"products": [{"@id": "pkg:oci/hello@sha256:" + "e" * 64}]}, 0, True),
    ],
    ids=str,
)
def test_finding_counts_unless_accepted_statement_matches_it(vex, changes, now, counts):
    """Status, justification, time, vulnerability, package and image decide."""
    vex.state(**changes)
    verdict = vex.judge(facts(), now=NOON + timedelta(days=now))

    assert codes(verdict) == (["scan.high"] if counts else [])


def test_contradiction_refuses_the_image(vex):
    """It is a reason, never a choice."""
    vex.state()
    vex.state("vendor", status="affected", justification=None, action_statement="upgrade")
    reasons = {each.code: each.fact for each in vex.judge(facts()).reasons}

    assert reasons.keys() == {"scan.vex-contradiction", "scan.high"}
    assert "acme (https://acme.example/1, version 1) states not_affected" in reasons["scan.vex-contradiction"]
    assert "vendor (https://vendor.example/1, version 1) states affected" in reasons["scan.vex-contradiction"]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda vex: vex.state(sign=False), "nobody signed it"),
        (lambda vex: vex.state(signer=vex.office.owner), "no key that is trusted for it signed it"),
        (lambda vex: vex.state(status="fine"), "acme.json: statements.0.status"),
        (lambda vex: vex.state(at=NOON + timedelta(minutes=6)), "in the future"),
        (lambda vex: (vex.state(), vex.office.write_people(signer=vex.office.bob)), "people.yaml does not count"),
    ],
)
def test_vex_document_without_valid_issuer_does_not_count(vex, change, why):
    """It says why, and stops no gate."""
    change(vex)
    found = vex.read()
    (about,) = found.reports

    assert why in about.why and about.statements == 0 and found.index is None and found.version == ""
    assert codes(vex.judge(facts())) == ["scan.high"]


def test_documents_that_count_are_reported_with_issuer_and_number(vex):
    """The order is that of their names, and signatures are no documents."""
    vex.state()
    vex.state("vendor")
    found = vex.read()

    assert [(each.name, each.by, each.why, each.statements) for each in found.reports] == [
        ("acme.json", "acme", "", 1), ("vendor.json", "vendor", "", 1),
    ]  # fmt: skip


def test_document_that_does_not_count_hides_no_other(vex):
    """Neither one that nobody signed, nor one that is no file."""
    os.mkfifo(vex.directory / "a.json")
    vex.state(sign=False)
    vex.state("vendor")
    found = vex.read()

    assert [(each.name, each.why) for each in found.reports] == [
        ("a.json", "it is not a file"), ("acme.json", "nobody signed it"), ("vendor.json", ""),
    ]  # fmt: skip
    assert codes(vex.judge(facts())) == []


def test_finding_without_statement_stays(vex):
    """It is judged as before."""
    vex.state()
    other = finding(id="CVE-2026-2", severity=Severity.LOW)
    values: Any = join_fact_values(facts(report=report(FOUND, other)), vex.policies().release, NOON)

    stated, left = values["scan"]["findings"]
    assert stated["vex"]["accepted"] is True
    assert left["id"] == "CVE-2026-2" and "vex" not in left


@pytest.mark.parametrize(
    ("vulnerability", "aliases"),
    [("cve-2026-1", ()), ("GHSA-1", ("CVE-2026-1",)), ("GHSA-1", ("GHSA-2", "cve-2026-1"))],
)
def test_statement_matches_finding_by_name_or_alias(vex, vulnerability, aliases):
    """Scanners and issuers call a vulnerability differently."""
    vex.state()
    other = finding(id=vulnerability, aliases=aliases, severity=Severity.HIGH)
    last: Any = join_fact_values(facts(report=report(FOUND, other)), vex.policies().release, NOON)

    assert [each["vex"]["accepted"] for each in last["scan"]["findings"]] == [True, True]


def test_statement_about_another_package_leaves_the_finding(vex):
    """It names the vulnerability, and a package that the image does not have."""
    vex.state(products=[{"@id": "pkg:deb/debian/zlib1g@1"}])
    plain = join_fact_values(facts(), POLICIES.release, NOON)

    assert join_fact_values(facts(), vex.policies().release, NOON)["scan"] == plain["scan"]
    assert codes(vex.judge(facts())) == ["scan.high"]


def test_statement_about_one_package_leaves_the_finding_in_another(vex):
    """Both packages have the vulnerability."""
    vex.state()
    other = finding(id="CVE-2026-1", package="zlib1g", severity=Severity.HIGH)
    last: Any = join_fact_values(facts(report=report(FOUND, other)), vex.policies().release, NOON)

    assert ["vex" in each for each in last["scan"]["findings"]] == [True, False]


def test_clock_of_an_issuer_may_be_ahead_by_minutes(vex):
    """As for every other statement."""
    vex.state(at=NOON + timedelta(minutes=5))

    assert vex.read().index is not None


def test_version_of_vex_differs_with_documents_and_terms(vex):
    """Facts that were joined with others are outdated."""
    vex.state()
    first = vex.read().version
    assert first == vex.read().version != ""
    vex.state("vendor")
    second = vex.read().version
    versions = {first, second}
    for terms in ("investigation_days", "not_affected_days", "fixed_days"):
        vex.office.terms = {terms: 8}
        vex.office.write_people()
        versions.add(vex.read().version)

    assert len(versions) == 5


def test_fixed_statement_ends_after_configured_days(vex):
    """The verdict ends with it, as with every other statement; without days it has no end."""
    vex.state(status="fixed", justification=None)
    assert vex.judge(facts()).expires == vex.policies().release.people.expires
    vex.office.terms = {"fixed_days": 8}
    vex.office.write_people()

    assert vex.judge(facts()).expires == NOON + timedelta(days=8)
    assert codes(vex.judge(facts(), now=NOON + timedelta(days=8))) == ["scan.high"]


def test_without_settings_no_document_counts(vex):
    """Issuers and justifications are what the owner signs."""
    vex.state()
    vex.office.issuers = {}
    vex.office.write_people()

    assert vex.read().index is None


def test_policies_with_statements_have_another_digest(vex):
    """A verdict that rests on statements is given again when all of them are gone."""
    vex.state()
    with_vex, without = (POLICIES.with_decisions(People(), Waivers(), each).release for each in (vex.read(), Vex()))

    assert with_vex.digest != without.digest == POLICIES.release.digest
    assert without.is_settled and not with_vex.is_settled


def test_rule_for_each_finding_leaves_out_accepted_ones(vex):
    """A rule of an organisation need not know of VEX; what is known to be exploited counts all the same."""
    vex.state()
    exploited = finding(id="CVE-2026-1", severity=Severity.HIGH, known_exploited=True)

    assert codes(vex.judge(facts(report=report(exploited)))) == ["scan.known-exploited"]


def test_facts_of_finding_have_fields_of_statement(vex):
    """Only what the statement has."""
    vex.state(impact_statement="not linked")
    values: Any = join_fact_values(facts(), vex.policies().release, NOON)

    (found,) = values["scan"]["findings"]
    assert found["vex"] == {
        "status": "not_affected", "justification": NOT_REACHABLE, "text": "not linked", "at": NOON, "accepted": True,
        "until": NOON + timedelta(days=365), "by": "acme (https://acme.example/1, version 1)",
    }  # fmt: skip
    vex.state(status="under_investigation", justification=None)
    values = join_fact_values(facts(), vex.policies().release, NOON)
    (found,) = values["scan"]["findings"]
    assert found["vex"]["until"] == NOON + timedelta(days=7) and "justification" not in found["vex"]


def test_facts_without_a_report_or_packages_are_left_as_they_are(vex):
    """Older reports about a source have no package URLs, and an image may lack its scan."""
    vex.state()
    with_vex = vex.policies()

    for gate, given in (
        (Gate.RELEASE, facts(report=None)),
        (Gate.INTAKE, intake_facts(source_report=report(FOUND))),
        (Gate.RELEASE, facts(packages=None)),
    ):
        plain: Any = join_fact_values(given, POLICIES.select_gate(gate), NOON)
        assert join_fact_values(given, with_vex.select_gate(gate), NOON) == plain


@pytest.mark.parametrize(
    ("finding", "accepted"),
    [({}, False), ({"waiver": {}}, True), ({"vex": {"accepted": True}}, True), ({"vex": {"accepted": False}}, False)],
)
def test_finding_is_accepted_by_waiver_or_statement(finding, accepted):
    """A statement that is not accepted changes nothing."""
    assert is_accepted(finding) is accepted


def ignored(vex, facts, gate=Gate.RELEASE, now=NOON):
    return join_fact_values(facts, vex.policies(now).select_gate(gate), now)["ignored"]


def test_attached_document_of_an_issuer_removes_the_finding(vex):
    """No file is needed; the terms of the people document count."""
    given = facts(attached=(vex.attach(),))

    assert codes(vex.judge(given)) == [] and ignored(vex, given) == []
    assert codes(vex.judge(facts(attached=(vex.attach(justification="component_not_present"),)))) == []
    other = facts(attached=(vex.attach(justification="inline_mitigations_already_exist"),))
    assert codes(vex.judge(other)) == ["scan.high"]


@pytest.mark.parametrize(
    ("attach", "why"),
    [
        (lambda vex: vex.attach(signer=vex.office.owner), "no issuer signed it"),
        (lambda vex: vex.attach(at=NOON + timedelta(minutes=6)), "it states something at 2026-11-24 12:06 UTC"),
        (lambda vex: vex.attach(status="fine"), "it: statements.0.status: "),
        (lambda vex: (vex.office.write_people(signer=vex.office.bob), vex.attach())[1], "people.yaml does not count"),
    ],
)
def test_attached_document_without_valid_issuer_is_named(vex, attach, why):
    """It changes nothing, and stops no gate."""
    attached = attach(vex)
    for gate, make in ((Gate.RELEASE, release_facts), (Gate.DEPLOY, deploy_facts)):
        given = facts(make, attached=(attached,))
        assert codes(vex.judge(given, gate)) == ["scan.high"]
        (note,) = ignored(vex, given, gate)
        assert note.startswith(f"the VEX document {attached} does not count: ") and why in note
    (note,) = ignored(vex, intake_facts(ignored_referrers=("x",), attached=(attached,)), Gate.INTAKE)[1:]
    assert why in note


def test_statements_remove_findings_of_the_source_at_the_intake_gate(vex):
    """Those about its packages, and those about the image, wherever the document is; the verdict ends as others do."""
    found = report(FOUND).model_copy(update={"source_packages": tuple(PACKAGES)})

    def judged(**changes):
        return vex.judge(intake_facts(NONE, source_report=found, **changes), Gate.INTAKE)

    assert codes(judged()) == ["dependencies.high"]
    assert codes(judged(attached=(vex.attach(),))) == []
    vex.state()
    verdict = judged()
    assert codes(verdict) == [] and verdict.expires == vex.policies().intake.people.expires
    vex.state(status="under_investigation", justification=None)
    assert judged().expires == NOON + timedelta(days=7)
    vex.state(products=[{"@id": "pkg:deb/debian/zlib@1"}])
    assert codes(judged()) == ["dependencies.high"]
    found = report(FOUND)
    vex.state(products=[{"@id": f"pkg:oci/hello@{DIGEST}"}])
    assert codes(judged()) == []


def test_contradiction_about_the_source_is_a_reason_at_the_intake_gate(vex):
    """Otherwise nobody learns of it before curation has copied the image."""
    vex.state()
    vex.state("vendor", status="affected", justification=None, action_statement="upgrade")
    found = report(FOUND).model_copy(update={"source_packages": tuple(PACKAGES)})

    reasons = {each.code: each.fact for each in vex.judge(intake_facts(source_report=found), Gate.INTAKE).reasons}

    assert "vendor (https://vendor.example/1, version 1) states affected" in reasons["dependencies.vex-contradiction"]


def test_attached_csaf_document_of_an_issuer_removes_the_finding(vex):
    """The gates read both formats, wherever a document is."""
    vulnerability = csaf_vulnerability(flags=[{"label": "vulnerable_code_not_in_execute_path", "product_ids": ["P1"]}])
    document = csaf(vulnerability, tree={"full_product_names": [csaf_product(1, PURL)]})

    def attached(signer):
        return attached_statement(signer, CSAF, document)

    for gate, make in ((Gate.RELEASE, release_facts), (Gate.DEPLOY, deploy_facts)):
        given = partial(facts, make, report=report(finding(id=CVE, severity=Severity.HIGH)))
        assert codes(vex.judge(given(attached=(attached(vex.office.bob),)), gate)) == []
        assert codes(vex.judge(given(attached=(attached(vex.office.owner),)), gate)) == ["scan.high"]


def test_attached_document_that_does_not_count_hides_no_other(vex):
    """The others count."""
    given = facts(attached=(vex.attach(signer=vex.office.owner), vex.attach()))

    assert codes(vex.judge(given)) == [] and len(ignored(vex, given)) == 1


def test_attached_document_may_contradict_one_of_the_project(vex):
    """It is a reason, never a choice."""
    vex.state("vendor", status="affected", justification=None, action_statement="upgrade")

    assert set(codes(vex.judge(facts(attached=(vex.attach(),))))) == {"scan.vex-contradiction", "scan.high"}


AFFECTED: dict[str, Any] = {"status": "affected", "justification": None, "action_statement": "upgrade"}


def test_newest_version_of_a_document_counts_wherever_it_is(vex):
    """What the older one states does not contradict it."""
    own = "https://acme.example/1"
    vex.state(**AFFECTED)
    assert codes(vex.judge(facts(attached=(vex.attach(document=own, version=2),)))) == []

    vex.state()
    assert codes(vex.judge(facts(attached=(vex.attach(document=own, version=1),)))) == []
    newer = vex.attach(document=own, version=2, **AFFECTED)
    assert codes(vex.judge(facts(attached=(newer,)))) == ["scan.high"]


def test_evidence_values_have_the_packages_of_findings_alone(vex):
    """An SBOM has thousands of others."""
    other = ("deb", "zlib", "pkg:deb/debian/zlib@1")
    given = facts(packages=PACKAGES | {other}, attached=(vex.attach(),))
    found = make_evidence_values(given, vex.policies().release.people, NOON)

    assert found.packages == tuple(PACKAGES) and [each.signer for each in found.attached] == ["acme"]
    assert "vex" not in found.image["scan"]["findings"][0]
    assert make_evidence_values(facts(report=None), People(), NOON).packages == ()
    assert make_evidence_values(facts(packages=None), People(), NOON).packages == ()
    assert make_evidence_values(intake_facts(source_report=report(FOUND)), People(), NOON).packages == ()


def test_version_of_issuers_differs_with_their_keys(vex):
    """Facts that were read with others are outdated."""

    def people():
        return read_people(vex.office.project / FILE, vex.office.people_owner, NOON)

    def version():
        return people().attached_version

    first = version()
    assert first == version() != People().attached_version
    assert replace(people(), issuers=dict(reversed(tuple(people().issuers.items())))).attached_version == first
    vex.office.issuers = {"acme": vex.office.ann, "vendor": vex.office.ann}
    vex.office.write_people()
    second = version()
    vex.office.issuers = {"other": vex.office.ann, "vendor": vex.office.ann}
    vex.office.write_people()

    assert len({first, second, version()}) == 3
