"""`judge` asks every rule and keeps every reason, and admits nothing without a rule."""

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


def test_judge_keeps_all_reasons_in_order():
    """A refused developer learns all reasons at once."""
    verdict = judge(dossier(), policy(refusing("a", "b"), refusing(), refusing("c")))

    assert isinstance(verdict, Refused)
    assert [reason.code for reason in verdict.reasons] == ["a", "b", "c"]
    assert (verdict.image, verdict.gate) == (IMAGE, Gate.INTAKE)


def test_judge_admits_image_without_reasons():
    """The verdict contains the image unchanged and the digest of the policy."""
    rules = policy(refusing())
    verdict = judge(dossier(), rules)

    assert isinstance(verdict, Admitted)
    assert (verdict.image, verdict.policy, verdict.gate) == ("the image", rules.digest, Gate.INTAKE)


def test_policy_without_rules_is_invalid():
    """An empty policy would admit everything."""
    with pytest.raises(ValueError, match="admits everything"):
        policy()


def test_refusal_without_reasons_is_invalid():
    """A refusal without a reason would tell nobody what to do."""
    with pytest.raises(ValidationError):
        Refused(image=IMAGE, gate=Gate.RELEASE, policy="sha256:" + "0" * 64, reasons=())


def test_judge_raises_when_rule_fails():
    """An error in a rule is never an admission."""

    def broken(_):
        raise RuntimeError("no answer")

    with pytest.raises(RuntimeError):
        judge(dossier(), policy(broken))


def test_policy_digest_covers_gate_version_and_rules():
    """Different policies have different digests, and equal policies have equal ones."""
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


def test_policy_digest_is_stable_across_machines():
    """Signed verdicts contain it: the SHA-256 of gate, version and rule names, one per line."""

    def rule(_):
        return ()

    text = b"intake\n2\nrule\nrule"

    assert policy(rule, rule, version="2").digest == f"sha256:{hashlib.sha256(text).hexdigest()}"


def test_every_gate_has_a_policy():
    """An image cannot pass a gate without a policy."""
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
def test_gate_lists_everything_missing_if_there_is_no_evidence(gate, missing):
    """Without provenance the kind of the application is unknown, so no check is required."""
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
def test_admission_notes_uncurated_base_and_uncommitted_changes(changes, word):
    """A note informs the operator and does not refuse the image."""
    verdict = judge(dossier(**changes), policy(refusing()))

    assert isinstance(verdict, Admitted)
    assert word in " ".join(verdict.notes)


def test_admission_notes_report_of_starter_database(make):
    """The starter database knows few vulnerabilities; a report of the official one needs no note."""
    starter, official = (
        judge(dossier(report=make.report(kind=kind)), policy(refusing())) for kind in ("starter", "official")
    )

    assert "starter database" in " ".join(starter.notes)
    assert official.notes == ()


@pytest.mark.parametrize(("image", "source", "told"), [
    ("starter", "official", True), ("official", "starter", False), (None, "starter", True), (None, "official", False),
    (None, None, False),
])  # fmt: skip
def test_note_on_starter_database_prefers_image_report_to_source_report(make, image, source, told):
    """At the intake gate there is only the report on the source."""
    reports = {"report": image and make.report(kind=image), "source_report": source and make.report(kind=source)}

    verdict = judge(dossier(**reports), policy(refusing()))

    assert ["starter database" in note for note in verdict.notes] == ([True] if told else [])


@pytest.mark.parametrize("codes", [(), ("a.b",)], ids=["admitted", "refused"])
def test_verdict_notes_evidence_that_was_left_out(codes):
    """The left-out referrers may explain missing evidence, so both verdicts note them."""
    verdict = judge(dossier(left_out=("left out 3 of what is attached",)), policy(refusing(*codes)))

    assert verdict.notes == ("left out 3 of what is attached",)
    if codes:
        assert str(verdict).endswith("  note: left out 3 of what is attached")


def test_refusal_text_shows_every_reason_with_remedy():
    """The text is for people."""
    text = str(judge(dossier(), policy(refusing("a.b", "c.d"))))

    assert str(IMAGE) in text
    assert "a.b" in text and "c.d" in text and text.count("remedy") == 2
