"""A preview says what would change, and never that something stays of which it does not know."""

from dataclasses import replace

import pytest

from supply_chain.adapters.database import open_inventory
from supply_chain.errors import DeclarationInvalid, SettingInvalid
from supply_chain.fleet.gate_facts import GateSubject, StoredFacts, compute_facts_version
from supply_chain.fleet.preview import LISTED, OUTDATED, Comparison, Effect, preview
from supply_chain.model.declaration import Classification
from supply_chain.model.image import ImageRef
from supply_chain.model.tier import Gate
from supply_chain.policy.documents import RuleSeverity
from supply_chain.policy.fact_values import make_evidence_values
from supply_chain.policy.people import People
from supply_chain.policy.vex import Vex
from supply_chain.policy.waivers import Waiver, WaiverDocument, Waivers
from supply_chain.vulnerability.findings import Severity
from supply_chain.vulnerability.vex.matching import VexIndex, VexTerms
from supply_chain.vulnerability.vex.statement import Justification, Product, VexStatement, VexStatus, make_component
from tests.contract.inventory import LATER, deployment, entry, offered_image, refs
from tests.support.builders import DIGEST, NOON, declaration, finding, report
from tests.support.facts import FACTS, deploy_facts, no_minimum, provenance_of, requirements, verdicts
from tests.support.new_inventory import new_inventory
from tests.support.policies import POLICIES, policy, rule

EXPLOITED = finding("critical", known_exploited=True)


class Shop:
    """An inventory with images and their facts, and policies that judge them."""

    def __init__(self, address):
        self.inventory = open_inventory(address)
        self.requirements = requirements

    def add(self, number, application="hello", environment="", stored=True, **changes):
        """Add an image with its facts at the release gate, and at the deploy gate if it runs in an environment."""
        deployed = (deployment(environment, container=f"c{number}"),) if environment else ()
        image = entry(number, application, deployed=deployed)
        self.inventory.put([image])
        for state in self.inventory.list_subjects(application):
            subject = state.subject
            if stored and subject.image == image.image.ref:
                facts = FACTS[subject.gate](ref=subject.image, **changes)
                version = compute_facts_version(subject.environment, self.requirements, People(), None)
                self.inventory.put_facts(
                    [StoredFacts(subject, state.mark, version, make_evidence_values(facts, People(), NOON))]
                )

    def preview(self, current=POLICIES, **proposed):
        compared = Comparison(current, replace(POLICIES, **proposed), NOON)
        return preview(self.inventory, compared, self.requirements, People(), no_minimum)


@pytest.fixture
def shop(tmp_path):
    return Shop(new_inventory(tmp_path / "inventory.db"))


def codes(reasons):
    return [each.code for each in reasons]


def test_preview_of_stricter_policy_names_newly_refused_images(shop):
    """Each image and each deployment is named, with its reasons and where it runs."""
    shop.add(1, environment="staging")
    shop.add(2)
    own = rule("own.rule", expression="!image.digest.endsWith('1')")
    current = replace(POLICIES, release=policy(Gate.RELEASE), deploy=policy(Gate.DEPLOY))

    found = shop.preview(current, release=policy(Gate.RELEASE, own), deploy=policy(Gate.DEPLOY, own))

    assert [(refs([c.subject.image])[0], c.subject.gate, c.subject.environment, c.effect) for c in found.changes] == [
        ("hello 1", Gate.RELEASE, "", Effect.REFUSED),
        ("hello 1", Gate.DEPLOY, "staging", Effect.REFUSED),
    ]
    assert all(
        codes(c.new_reasons) == ["own.rule"] and c.removed_reasons == () and c.running == ("staging",)
        for c in found.changes
    )
    assert (found.judged, found.not_judged, found.gates) == (3, (), (Gate.RELEASE, Gate.DEPLOY))
    assert found.policies == ("test 1 (changed)",)


def test_proposed_rule_reads_facts_that_no_current_rule_reads(shop):
    """The engine gets what rules of either side can read."""
    shop.add(1, report=report(finding("low", aliases=("GHSA-1",))))
    aliases = rule("own.rule", expression="image.scan.findings.all(each, size(each.aliases) == 0)")
    current, proposed = policy(Gate.RELEASE), policy(Gate.RELEASE, aliases)

    (change,) = shop.preview(replace(POLICIES, release=current), release=proposed).changes
    (back,) = shop.preview(replace(POLICIES, release=proposed), release=current).changes

    assert (change.effect, codes(change.new_reasons)) == (Effect.REFUSED, ["own.rule"])
    assert (back.effect, codes(back.removed_reasons)) == (Effect.ADMITTED, ["own.rule"])


def test_stricter_policy_of_the_intake_gate_refuses_offered_images(shop):
    """It names where the image runs, which has the same digest in another repository."""
    shop.add(1, environment="staging")
    offered = ImageRef(repository="dev/hello", digest=shop.inventory.list_subjects()[0].subject.image.digest)
    shop.inventory.put_offered("hello", {offered: "a", offered.with_digest("sha256:" + "2" * 64): "b"})
    subject = GateSubject(image=offered, gate=Gate.INTAKE)
    values = make_evidence_values(FACTS[Gate.INTAKE](ref=offered), People(), NOON)
    version = compute_facts_version("", requirements, People(), None)
    shop.inventory.put_facts([StoredFacts(subject, "a", version, values)])
    own = rule("own.rule", expression="image.build.owner == 'nobody'")

    found = shop.preview(intake=policy(Gate.INTAKE, own))

    (change,) = found.changes
    assert (change.subject, change.effect, change.running) == (subject, Effect.REFUSED, ("staging",))
    assert (found.judged, [each.why for each in found.not_judged]) == (1, [OUTDATED])


def test_preview_of_looser_policy_names_newly_admitted_image(shop):
    """The reasons that fall away are named."""
    shop.add(1, report=report(EXPLOITED))

    (change,) = shop.preview(release=policy(Gate.RELEASE)).changes

    assert change.effect is Effect.ADMITTED and change.new_reasons == ()
    assert set(codes(change.removed_reasons)) == {"scan.critical", "scan.known-exploited"}


def test_other_reasons_of_a_refused_image_are_a_change(shop):
    """What a team has to correct is not the same any more."""
    shop.add(1, report=report(EXPLOITED))
    current = replace(
        POLICIES, release=policy(Gate.RELEASE, rule("one.rule"), rule("two.rule", expression="image.digest == 'x'"))
    )

    (change,) = shop.preview(
        current, release=policy(Gate.RELEASE, rule("two.rule", expression="image.digest == 'x'"), rule("new.rule"))
    ).changes

    assert (change.effect, codes(change.new_reasons), codes(change.removed_reasons)) == (
        Effect.REASONS,
        ["new.rule"],
        ["one.rule"],
    )


def test_rule_that_only_warns_changes_notes(shop):
    """A rule that is effective later is seen before it refuses."""
    shop.add(1)
    warns = [
        rule("new.rule", severity=RuleSeverity.WARN),
        rule("later.rule", effective_on=LATER, expression="image.digest == 'x'"),
    ]

    (change,) = shop.preview(
        replace(POLICIES, release=policy(Gate.RELEASE)), release=policy(Gate.RELEASE, *warns)
    ).changes

    assert (change.effect, codes(change.new_reasons)) == (Effect.NOTES, ["new.rule", "later.rule"])


def test_reasons_of_an_image_are_counted_beyond_a_limit(shop):
    """A rule for each finding gives hundreds of reasons for each of thousands of images."""
    shop.add(1, report=report(*(finding("low", id=f"CVE-2026-{n}") for n in range(LISTED + 3))))
    each = rule("each.finding", for_each="finding in image.scan.findings", expression="finding.severity == 'x'",
                message="{finding.id}")  # fmt: skip

    (change,) = shop.preview(release=policy(Gate.RELEASE, each)).changes

    assert len(change.new_reasons) == LISTED and change.omitted_reasons == 3


def test_new_version_of_a_policy_is_named_with_both(shop):
    """A reader sees what is proposed."""
    current = replace(POLICIES, release=policy(Gate.RELEASE))

    assert "test 1 → 2" in shop.preview(current, release=policy(Gate.RELEASE, version=2)).policies


def test_gates_whose_policies_stay_are_not_judged_again(shop):
    """An equal policy in another order is no change."""
    shop.add(1, environment="staging")

    same = replace(POLICIES.release, policies=POLICIES.release.policies[::-1])
    found = shop.preview(release=same)
    assert (found.gates, found.judged, found.changes, found.policies) == ((), 0, (), ())
    only = shop.preview(deploy=policy(Gate.DEPLOY))
    assert (only.gates, only.judged) == ((Gate.DEPLOY,), 1)


def test_facts_that_are_missing_or_outdated_are_not_judged(shop):
    """They count neither as changed nor as unchanged, and the remedy is named."""
    shop.add(1)
    shop.add(2, stored=False)
    shop.add(3, "shop", environment="staging", provenance=provenance_of(declaration(name="shop")))
    shop.inventory.mark_stale("hello")
    shop.requirements = lambda name: requirements(name, approval=True)

    found = shop.preview(release=policy(Gate.RELEASE), deploy=policy(Gate.DEPLOY))

    places = [(each.subject.image.application, each.subject.gate) for each in found.not_judged]
    assert places == [("hello", Gate.RELEASE), ("hello", Gate.RELEASE), ("shop", Gate.DEPLOY)]
    assert found.judged == 1 and found.changes == ()
    assert {each.why for each in found.not_judged} == {"Its facts are missing or outdated: run `cscm inventory`."}


def test_facts_of_another_minimum_classification_are_not_judged(shop):
    """Only applications whose minimum changed have to be read again."""
    shop.add(1)
    shop.add(2, "shop", provenance=provenance_of(declaration(name="shop")))
    compared = Comparison(POLICIES, replace(POLICIES, release=policy(Gate.RELEASE)), NOON)

    minimum = {"shop": Classification.CONFIDENTIAL}
    found = preview(shop.inventory, compared, shop.requirements, People(), minimum.get)

    assert [each.subject.image.application for each in found.not_judged] == ["shop"] and found.judged == 1


@pytest.mark.parametrize("error", [DeclarationInvalid, SettingInvalid])
def test_deployment_without_environment_document_is_not_judged(shop, error):
    """Nobody knows what that environment requires."""
    shop.add(1, environment="staging")

    def missing(name):
        raise error(f"{name} does not exist.\nWrite it.")

    shop.requirements = missing
    found = shop.preview(release=policy(Gate.RELEASE), deploy=policy(Gate.DEPLOY))

    assert [(each.subject.gate, each.why) for each in found.not_judged] == [
        (Gate.DEPLOY, "staging does not exist.\nWrite it.")
    ]
    assert found.judged == 1


@pytest.mark.parametrize("wrong", ["current", "proposed"])
def test_rule_that_cannot_be_evaluated_is_named_with_its_image(shop, wrong):
    """The other images are judged."""
    shop.add(1, report=None)
    shop.add(2)
    broken = replace(
        POLICIES, release=policy(Gate.RELEASE, rule("own.rule", expression="image.scan.scanner == 'grype'"))
    )
    good = replace(POLICIES, release=policy(Gate.RELEASE))
    current, proposed = (broken, good) if wrong == "current" else (good, broken)

    found = preview(shop.inventory, Comparison(current, proposed, NOON), requirements, People(), no_minimum)

    (failed,) = found.not_judged
    assert failed.why.startswith(f"The {wrong} policies cannot judge it: rule own.rule: ")
    assert int(failed.subject.image.digest[7:], 16) == 1 and found.judged == 1


def test_image_that_no_proposed_policy_selects_is_named(shop):
    """The gate would end with an error, and not admit it."""
    shop.add(1)

    found = shop.preview(release=policy(Gate.RELEASE, select={"applications": ["shop"]}))

    (failed,) = found.not_judged
    assert "The proposed policies cannot judge it: No policy of the release gate selects hello." in failed.why


def test_facts_replaced_meanwhile_are_not_judged(shop):
    """The version that is judged is the one that was found up to date."""
    shop.add(1)
    (state,) = shop.inventory.list_subjects()
    read = shop.inventory.read_facts

    class Changing:
        def list_subjects(self, application=None):
            return (state,)

        def put_facts(self, facts):
            raise AssertionError("a preview writes nothing")

        def read_facts(self, subjects):
            return (replace(each, version="another") for each in read(subjects))

    looser = replace(POLICIES, release=policy(Gate.RELEASE))
    found = preview(Changing(), Comparison(POLICIES, looser, NOON), requirements, People(), no_minimum)

    assert (found.judged, [each.subject for each in found.not_judged]) == (0, [state.subject])


def decided(*waivers, vex=None):
    """Return the policies with these waivers and VEX statements."""
    return POLICIES.with_decisions(People(), Waivers(waivers), vex or Vex())


def waiver(**changes):
    """Return a waiver that Ann signed."""
    given = {"vulnerabilities": ("CVE-2026-1",), "applications": ("*",), "reason": "r", "ticket": "t",
             "requester": "bob", "expires": LATER, **changes}  # fmt: skip
    return Waiver("zlib", DIGEST, WaiverDocument.model_validate(given), "ann", Severity.CRITICAL)


def compare(shop, proposed, current=POLICIES, notes=("x",)):
    compared = Comparison(current, proposed, NOON, notes)
    return preview(shop.inventory, compared, shop.requirements, People(), no_minimum)


FOUND = finding("critical", id="CVE-2026-1")


def test_preview_of_waiver_names_newly_admitted_image(shop):
    """The policies stay; every gate may honour it, and the intake gate has judged none of these."""
    shop.add(1, report=report(FOUND))
    shop.add(2)

    found = compare(shop, decided(waiver()))

    (change,) = found.changes
    assert (change.effect, codes(change.removed_reasons), change.new_reasons) == (
        Effect.ADMITTED,
        ["scan.critical"],
        (),
    )
    assert (found.gates, found.policies, found.decisions) == (tuple(Gate), (), ("x",)) and found.judged == 2
    withdrawn = compare(shop, POLICIES, decided(waiver()))
    assert [each.effect for each in withdrawn.changes] == [Effect.REFUSED]


def test_proposed_waiver_keeps_the_verdict_that_rests_on_it(shop):
    """A deployment is refused once the waiver of its release verdict is gone."""
    verdicts_of = verdicts(intake=True, release=True)
    rests = verdicts_of[Gate.RELEASE].cscm.model_copy(update={"waivers": (waiver().reference,)})
    verdicts_of[Gate.RELEASE] = verdicts_of[Gate.RELEASE].model_copy(update={"cscm": rests})
    shop.add(1, environment="staging")
    for state in shop.inventory.list_subjects("hello"):
        if state.subject.gate is Gate.DEPLOY:
            values = make_evidence_values(deploy_facts(ref=state.subject.image, verdicts=verdicts_of), People(), NOON)
            stored = StoredFacts(state.subject, state.mark, state.version, values)
            shop.inventory.put_facts([stored])

    found = compare(shop, POLICIES, decided(waiver()))

    assert [(each.subject.gate, each.effect, codes(each.new_reasons)) for each in found.changes] == [
        (Gate.DEPLOY, Effect.REFUSED, ["verdict.release.waived"])
    ]


def stated(*purls, **changes):
    """Return what an issuer states about packages."""
    terms = VexTerms(accepted_justifications=frozenset(Justification), investigation_days=0, not_affected_days=365)
    statement = VexStatement(
        vulnerability="CVE-2026-1", products=tuple(make_product(each) for each in purls), author="a",
        version="1", at=NOON, **{"document": "d", "status": VexStatus.FIXED, **changes},
    )  # fmt: skip
    return Vex(VexIndex.of([statement], NOON), terms, "v1")


def make_product(purl):
    return Product(**dict(make_component(purl, (purl,))))


OPENSSL = "pkg:deb/debian/openssl@3.0.1"


def test_preview_of_vex_document_names_newly_admitted_image(shop):
    """Packages are found by the package URLs that are stored with the findings."""
    shop.add(1, report=report(FOUND), packages=frozenset({("deb", "openssl", OPENSSL)}))
    shop.add(2, report=report(FOUND), packages=frozenset({("deb", "openssl", OPENSSL.replace("3.0.1", "3.0.2"))}))

    found = compare(shop, decided(vex=stated(OPENSSL)))

    (change,) = found.changes
    assert change.effect is Effect.ADMITTED and codes(change.removed_reasons) == ["scan.critical"]
    assert int(change.subject.image.digest[7:], 16) == 1
    assert found.gates == tuple(Gate)


def test_proposed_vex_document_admits_a_source(shop):
    """The intake gate reads statements too, about what the source declares."""
    source = report(FOUND, source_packages=(("deb", "openssl", OPENSSL),))
    ref = offered_image(1)
    shop.inventory.put_offered("hello", {ref: "m"})
    facts, version = (
        FACTS[Gate.INTAKE](ref=ref, source_report=source),
        compute_facts_version("", requirements, People(), None),
    )
    subject = GateSubject(image=ref, gate=Gate.INTAKE)
    shop.inventory.put_facts([StoredFacts(subject, "m", version, make_evidence_values(facts, People(), NOON))])

    (change,) = compare(shop, decided(vex=stated(OPENSSL))).changes

    assert (change.subject, change.effect) == (subject, Effect.ADMITTED)


def test_statement_that_is_not_accepted_changes_nothing(shop):
    """What is the same is judged once."""
    shop.add(1, report=report(FOUND), packages=frozenset({("deb", "openssl", OPENSSL)}))

    found = compare(shop, decided(vex=stated(OPENSSL, status=VexStatus.AFFECTED)))
    assert (found.judged, found.changes) == (1, ())


def test_attached_document_counts_in_a_preview(shop):
    """What issuers state in it is stored with the facts."""
    shop.add(1, report=report(FOUND), packages=frozenset({("deb", "openssl", OPENSSL)}))
    (state,) = shop.inventory.list_subjects()
    (stored,) = shop.inventory.read_facts([state.subject])
    attached = stated(OPENSSL).index.statements
    shop.inventory.put_facts([replace(stored, values=replace(stored.values, attached=attached))])
    (again,) = shop.inventory.read_facts([state.subject])
    assert again.values.attached == attached

    contrary = stated(OPENSSL, status=VexStatus.AFFECTED, document="other")
    (change,) = compare(shop, decided(vex=contrary)).changes

    assert change.effect is Effect.REFUSED, "the current policies admit it"
    assert set(codes(change.new_reasons)) == {"scan.vex-contradiction", "scan.critical"}


def test_equal_waivers_and_statements_are_no_change(shop):
    """Another object with the same content decides the same."""
    shop.add(1)

    found = compare(shop, decided(waiver(), vex=stated(OPENSSL)), decided(waiver(), vex=stated(OPENSSL)))
    assert (found.gates, found.judged) == ((), 0)
