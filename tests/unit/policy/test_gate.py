"""`judge`: every rule is asked, every reason is kept, and nothing to judge by admits nothing."""

import hashlib

import pytest
from pydantic import ValidationError

from supply_chain.model.image import ImageRef
from supply_chain.model.tier import Gate
from supply_chain.policy.gate import Dossier, Policy, judge
from supply_chain.policy.outcome import Admitted, Reason, Refused
from supply_chain.policy.rules import POLICIES
from tests.unit.conftest import source

IMAGE = ImageRef(repository="dev/hello", digest="sha256:" + "a" * 64)


def dossier(**changes):
    return Dossier(**{"image": "the image", "ref": IMAGE, "manifest": None, "evidence": (), **changes})


def refusing(*codes):
    def rule(_):
        return [Reason(code=code, fact="fact", remedy="remedy") for code in codes]

    return rule


def policy(*rules, gate=Gate.INTAKE, version="1"):
    return Policy(gate, rules, version)


def test_keeps_every_reason_of_every_rule_in_order():
    """Whoever is refused learns everything at once."""
    verdict = judge(dossier(), policy(refusing("a", "b"), refusing(), refusing("c")))

    assert isinstance(verdict, Refused)
    assert [reason.code for reason in verdict.reasons] == ["a", "b", "c"]
    assert (verdict.image, verdict.gate) == (IMAGE, Gate.INTAKE)


def test_admits_what_no_rule_objects_to():
    """The image comes out as it went in, with the policy that admitted it."""
    rules = policy(refusing())
    verdict = judge(dossier(), rules)

    assert isinstance(verdict, Admitted)
    assert (verdict.image, verdict.policy, verdict.gate) == ("the image", rules.digest, Gate.INTAKE)


def test_an_empty_policy_does_not_exist():
    """It would admit everything."""
    with pytest.raises(ValueError, match="admit everything"):
        policy()


def test_a_refusal_has_a_reason():
    """One without would tell nobody what to do."""
    with pytest.raises(ValidationError):
        Refused(image=IMAGE, gate=Gate.RELEASE, policy="sha256:" + "0" * 64, reasons=())


def test_a_rule_that_cannot_judge_is_an_error():
    """Never an admission."""

    def broken(_):
        raise RuntimeError("no answer")

    with pytest.raises(RuntimeError):
        judge(dossier(), policy(broken))


def test_the_digest_names_boundary_version_and_rules():
    """Another policy has another digest; the same one has the same."""
    rules = POLICIES[Gate.INTAKE].rules

    def digest(*rules, **changes):
        return policy(*rules, **changes).digest

    digests = [
        digest(*rules),
        digest(*rules[1:]),
        digest(*reversed(rules)),
        digest(*rules, version="2"),
        digest(*rules, gate=Gate.RELEASE),
    ]
    assert len(set(digests)) == len(digests)
    assert digest(*rules) == digests[0]


def test_the_digest_is_the_same_on_every_machine_and_day():
    """It stands in signed verdicts: SHA-256 of boundary, version and rules, a line each."""

    def rule(_):
        return ()

    text = b"intake\n2\nrule\nrule"

    assert policy(rule, rule, version="2").digest == f"sha256:{hashlib.sha256(text).hexdigest()}"


def test_every_boundary_has_its_policy():
    """There is no way across without one."""
    assert set(POLICIES) == set(Gate)
    assert all(policy.gate is gate for gate, policy in POLICIES.items())


@pytest.mark.parametrize(
    ("gate", "missing"),
    [
        (Gate.INTAKE, ["provenance.missing", "dependencies.report-missing"]),
        (Gate.RELEASE, ["provenance.missing", "sbom.missing", "scan.missing", "encryption.missing"]),
        (
            Gate.DEPLOY,
            [
                "provenance.missing",
                "signature.missing",
                "verdict.intake.missing",
                "verdict.release.missing",
                "sbom.missing",
                "scan.missing",
                "encryption.missing",
            ],
        ),
    ],
)
def test_no_evidence_is_refused_at_every_boundary(gate, missing):
    """With everything that is missing; without provenance nobody knows which checks there had to be."""
    verdict = judge(dossier(), POLICIES[gate])

    assert isinstance(verdict, Refused)
    assert [reason.code for reason in verdict.reasons] == missing


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"uncurated": ("docker.io/library/python",)}, "docker.io/library/python"),
        ({"source": source(dirty=True)}, "uncommitted"),
    ],
)
def test_an_admission_says_what_an_operator_should_know(changes, word):
    """It passed all the same."""
    verdict = judge(dossier(**changes), policy(refusing()))

    assert isinstance(verdict, Admitted)
    assert word in " ".join(verdict.notes)


def test_an_admission_by_the_starter_database_says_so(make):
    """It knows little; with the official one there is nothing to add."""
    starter, official = (
        judge(dossier(report=make.report(kind=kind)), policy(refusing())) for kind in ("starter", "official")
    )

    assert "starter database" in " ".join(starter.notes)
    assert official.notes == ()


@pytest.mark.parametrize(("image", "source", "told"), [
    ("starter", "official", True), ("official", "starter", False), (None, "starter", True), (None, "official", False),
    (None, None, False),
])  # fmt: skip
def test_what_was_judged_is_the_image_and_before_it_is_scanned_its_source(make, image, source, told):
    """At the intake gate there is no other report than the source's."""
    reports = {"report": image and make.report(kind=image), "source_report": source and make.report(kind=source)}

    verdict = judge(dossier(**reports), policy(refusing()))

    assert ["starter database" in note for note in verdict.notes] == ([True] if told else [])


@pytest.mark.parametrize("codes", [(), ("a.b",)], ids=["admitted", "refused"])
def test_what_does_not_count_is_told_whatever_the_answer(codes):
    """Evidence that is missing may be among it, and somebody put it there."""
    verdict = judge(dossier(left_out=("left out 3 of what is attached",)), policy(refusing(*codes)))

    assert verdict.notes == ("left out 3 of what is attached",)
    if codes:
        assert str(verdict).endswith("  note: left out 3 of what is attached")


def test_a_refusal_tells_each_reason_with_its_remedy():
    """As a person reads it."""
    text = str(judge(dossier(), policy(refusing("a.b", "c.d"))))

    assert str(IMAGE) in text
    assert "a.b" in text and "c.d" in text and text.count("remedy") == 2
