"""What rules read about an image: absent facts are absent, and values are those of the evidence."""

from dataclasses import fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, get_type_hints

import pytest

from supply_chain.evidence.approval import Approval
from supply_chain.evidence.checks import Check
from supply_chain.evidence.examination import Examination, PrivilegedFile
from supply_chain.evidence.sbom import Configuration
from supply_chain.evidence.statement import SBOM, SIGNATURE, SUMMARY, VerifiedStatement, make_image_statement
from supply_chain.evidence.summary import make_summary
from supply_chain.model.declaration import Classification
from supply_chain.model.image import ImageRef
from supply_chain.model.tier import Gate, TierName
from supply_chain.policy.fact_schema import find_mistakes, read_fields
from supply_chain.policy.fact_types import FACTS, DeclaredValues, ImageScannedValues, PlannedValues
from supply_chain.policy.fact_values import (
    join_fact_values,
    make_fact_values,
    make_local_image_values,
    make_working_copy_values,
)
from supply_chain.policy.facts import ImageFacts
from supply_chain.policy.people import FILE, People, read_people
from tests.support.builders import NOON, check, finding, report, source
from tests.support.facts import CURATED, deploy_facts, intake_facts, listing, provenance_of, release_facts
from tests.support.facts import FACTS as MAKERS
from tests.support.people import Office
from tests.support.policies import DEPLOY


@pytest.mark.parametrize(("epss", "read"), [(0.9, 0.9), (0.0, 0.0), (None, None)])
def test_finding_has_exploit_probability_only_if_published(epss: float | None, read: float | None) -> None:
    """A finding without one is not one of probability 0."""
    values: Any = make_fact_values(deploy_facts(report=report(finding(epss=epss))), People())

    (found,) = values["scan"]["findings"]
    assert ("epss" in found, found.get("epss")) == (read is not None, read)


def test_finding_has_optional_values_of_report() -> None:
    """What is unknown is absent, so that a rule has to say what it does then."""
    facts: dict[str, Any] = {"cvss": 9.8, "published": NOON, "fixed_since": NOON, "layer": "sha256:1"}
    values: Any = make_fact_values(deploy_facts(report=report(finding(), finding(id="CVE-2026-2", **facts))), People())

    bare, full = values["scan"]["findings"]
    assert not facts.keys() & bare.keys() and {key: full[key] for key in facts} == facts
    assert values["scan"]["database_digest"] == "xxh64:0"


def test_finding_names_the_base_that_has_its_package() -> None:
    """Another version, or a package of the same name and another type, is the application's own."""
    found = report(finding(), finding(id="CVE-2026-2", version="3.0.2"), finding(id="CVE-2026-3", type="python"))
    bases = {
        "curated/base/a": frozenset({("deb", "zlib1g", "pkg:deb/debian/zlib1g@3.0.1")}),
        "curated/base/b": frozenset({("deb", "openssl", "pkg:deb/debian/openssl@3.0.1?arch=amd64")}),
        "curated/base/c": frozenset({("deb", "openssl", "pkg:deb/debian/openssl@3.0.1")}),
    }
    values: Any = make_fact_values(release_facts(report=found, base_packages=bases), People())

    assert [each.get("base") for each in values["scan"]["findings"]] == ["curated/base/b", None, None]


def test_bases_have_the_time_of_their_build() -> None:
    """That nobody signed it is not that it is new."""
    values: Any = make_fact_values(deploy_facts(bases={"curated/base/a": NOON, "curated/base/b": None}), People())

    assert values["bases"] == [{"image": "curated/base/a", "built": NOON}, {"image": "curated/base/b"}]


def test_sbom_has_names_and_licences() -> None:
    """A licence names five of its packages."""
    many = frozenset(f"deb/p{each}" for each in range(7))
    listed = listing(licenses={"MIT": many}, unlicensed=frozenset({"python/b", "deb/a"}))
    for facts in (deploy_facts(sbom=listed), release_facts(sbom=listed)):
        values: Any = make_fact_values(facts, People())

        assert values["sbom"]["names"] == ["deb/openssl", "python/flask"] and values["sbom"]["packages"] == 2
        assert values["sbom"]["unlicensed"] == ["deb/a", "python/b"]
        (license,) = values["sbom"]["licenses"]
        assert (license["license"], license["packages"]) == ("MIT", 7)
        assert license["examples"] == "deb/p0, deb/p1, deb/p2, deb/p3, deb/p4, and 2 more"


def test_container_has_the_configuration_of_the_image() -> None:
    """It is absent if the SBOM does not have it."""
    found = Configuration("10001", ("8080/tcp",), {"a": "1"}, 4096)
    values: list[Any] = [
        make_fact_values(deploy_facts(sbom=each), People()) for each in (listing(configuration=found), listing(), None)
    ]

    assert values[0]["container"] == {
        "user": "10001", "ports": ["8080/tcp"], "labels": [{"name": "a", "value": "1"}], "size": 4096,
    }  # fmt: skip
    assert not any("container" in each for each in values[1:])


def test_statement_has_its_signer_and_its_newest_time() -> None:
    """A rule can require who signed what, and that it is fresh; statements about another image are left out."""
    other = CURATED.with_digest("sha256:" + "e" * 64)
    evidence = (
        signed(SUMMARY, TierName.CURATION, timeVerified="2026-11-02T12:00:00Z"),
        signed(SUMMARY, TierName.CURATION, timeVerified="2026-11-03T12:00:00Z"),
        signed(SUMMARY, TierName.CURATION, timeVerified="2026-11-01T12:00:00Z"),
        signed(SUMMARY, TierName.EXECUTION, timeVerified="2026-11-04T12:00:00Z"),
        signed(SIGNATURE, TierName.CURATION),
        signed(SBOM, TierName.CURATION, other, created="2026-11-05T12:00:00Z"),
    )

    values: Any = make_fact_values(deploy_facts(evidence=evidence), People())

    assert values["statements"] == [
        {"predicate_type": SIGNATURE, "signer": "curation"},
        {"predicate_type": SUMMARY, "signer": "curation", "signed": datetime(2026, 11, 3, 12, tzinfo=UTC)},
        {"predicate_type": SUMMARY, "signer": "execution", "signed": datetime(2026, 11, 4, 12, tzinfo=UTC)},
    ]
    assert list(find_mistakes(FACTS[Gate.DEPLOY], values, "image")) == []


def signed(predicate_type: str, signer: TierName, ref: ImageRef = CURATED, **predicate: Any) -> VerifiedStatement:
    return VerifiedStatement(
        digest="sha256:" + "d" * 64,
        repository=ref.repository,
        statement=make_image_statement(ref, predicate_type, predicate),
        signer=signer,
    )


def test_examination_has_the_files_that_give_more_rights() -> None:
    """Also those of a base: they are in the image."""
    found = Examination(privileged_files=(PrivilegedFile(path="/usr/bin/su", rights="setuid"),))
    for facts in (deploy_facts, release_facts):
        values: Any = make_fact_values(facts(examination=found, examined_bases=(found,)), People())

        assert values["examination"]["privileged_files"] == [{"path": "/usr/bin/su", "rights": "setuid"}]


def test_check_has_the_time_of_its_end() -> None:
    """A rule may require fresh checks."""
    values: Any = make_fact_values(intake_facts(checks=(check(Check.TESTS),)), People())

    assert values["checks"]["tests"]["finished"] == check(Check.TESTS).interval.finished


@pytest.mark.parametrize("gate", MAKERS)
def test_values_fit_their_types(gate: Any) -> None:
    """An expression is checked against these types and evaluated on these values."""
    for changes in ({}, {"provenance": None}):
        values = make_fact_values(MAKERS[gate](**changes), People())

        assert list(find_mistakes(FACTS[gate], values, "image")) == []
        assert ("build" in values) is (not changes)


def test_refusal_of_an_earlier_gate_has_each_code_once() -> None:
    """A rule with a reason for each finding has many of one code."""
    reasons = [{"code": code, "fact": fact, "remedy": "r"} for code, fact in (("b.b", "1"), ("a.a", "2"), ("b.b", "3"))]
    last = make_summary(CURATED, Gate.RELEASE, "sha256:" + "9" * 64, reasons=reasons, notes=(), inputs=(), now=NOON)

    plain: Any = make_fact_values(deploy_facts(verdicts={Gate.RELEASE: last}), People())

    assert plain["verdicts"]["release"]["refused"] == ["a.a", "b.b"]
    assert plain["verdicts"]["release"]["reasons"] == ["a.a: 2", "b.b: 1", "b.b: 3"]


def test_waivers_of_a_verdict_have_ended_unless_they_are_valid() -> None:
    """Whoever does not join them assumes the worst."""
    last = make_summary(
        CURATED, Gate.RELEASE, "sha256:" + "9" * 64, reasons=(), notes=(), inputs=(), now=NOON, waivers=["zlib"],
        expires=NOON,
    )  # fmt: skip
    facts = deploy_facts(verdicts={Gate.RELEASE: last})
    wanted = {
        "passed": True, "at": NOON, "refused": [], "reasons": [], "refused_findings": [], "waivers": ["zlib"],
        "ended_waivers": ["zlib"], "expires": NOON,
    }  # fmt: skip

    plain: Any = make_fact_values(facts, People())
    joined: Any = join_fact_values(facts, DEPLOY, NOON)
    assert plain["verdicts"] == joined["verdicts"] == {"release": wanted}


def test_approvers_are_verified_with_the_people(tmp_path: Path) -> None:
    """Without people nobody approved, whatever the evidence says."""
    office = Office(tmp_path)
    office.write_people()
    unsigned = Approval(
        environment="production",
        digest=CURATED.digest,
        decision="approved",
        by="ann",
        reason="so",
        decided=NOON,
        installation="example",
    )
    signed = unsigned.model_copy(update={"signature": office.ann.sign(unsigned.statement(CURATED)).decode()})
    facts = deploy_facts(signed_approvals=(signed,))
    people = read_people(tmp_path / FILE, office.people_owner, NOON)

    values: list[Any] = [make_fact_values(facts, each) for each in (people, People())]
    assert [each["approvers"] for each in values] == [["ann"], []]


@pytest.mark.parametrize("minimum", [None, Classification.CONFIDENTIAL])
@pytest.mark.parametrize(
    ("uncurated", "kind"),
    [(["docker.io/library/python:3"], PlannedValues), ([], PlannedValues), (None, DeclaredValues)],
)
def test_working_copy_has_the_values_of_its_build(
    uncurated: list[str] | None, kind: type, minimum: Classification | None
) -> None:
    """Otherwise `cscm check` and the intake gate would judge different facts."""
    facts = intake_facts(
        provenance=provenance_of(uncurated=tuple(uncurated or ()), source=source(dirty=True)),
        checks=(check(Check.SECRETS, failed=("a.py:1: x",)), check(Check.DEPENDENCIES)),
        source_report=report(finding()),
        minimum_classification=minimum,
    )
    built = facts.provenance
    assert built is not None and facts.source_report is not None

    found: Any = make_working_copy_values(
        built.declaration, built.source, uncurated, facts.checks, facts.source_report, minimum
    )

    assert list(find_mistakes(kind, found, "image")) == []
    gate: Any = make_fact_values(facts, People())
    assert found == {
        **{name: gate[name] for name in ("repository", "application", "source_scan")},
        **({"classification_conflict": gate["classification_conflict"]} if minimum else {}),
        "checks": {name: each for name, each in gate["checks"].items() if name != "tests_reported"},
        "build": {name: gate["build"][name] for name in read_fields(get_type_hints(kind)["build"])},
    }


@pytest.mark.parametrize("packages", [(), (("deb", "zlib1g", ""),)], ids=["none", "of a distribution"])
def test_local_image_has_the_values_of_its_scan(packages: Any) -> None:
    """Otherwise `cscm check --image` and the release gate would judge different facts."""
    unknown = report(finding()).model_copy(update={"distribution": None})
    facts = release_facts(report=unknown, packages=frozenset(packages))
    built, scan = facts.provenance, facts.report
    assert built is not None and scan is not None

    copy: Any = make_working_copy_values(built.declaration, built.source, None, (), report(), None)
    found: Any = make_local_image_values(built.declaration, copy["build"], scan, frozenset(packages))

    assert list(find_mistakes(ImageScannedValues, found, "image")) == []
    gate: Any = make_fact_values(facts, People())
    assert found == {
        **{name: gate[name] for name in ("repository", "application", "scan")},
        "build": {name: gate["build"][name] for name in found["build"]},
    }
    assert ("unjudged" in found["scan"]) is bool(packages)


def test_facts_of_no_gate_have_no_values() -> None:
    """Every rule would be evaluated on nothing."""
    facts = deploy_facts()
    of_every_gate = ImageFacts(**{each.name: getattr(facts, each.name) for each in fields(ImageFacts)})

    with pytest.raises(TypeError, match="ImageFacts"):
        make_fact_values(of_every_gate, People())
