"""The text of a refusal, and what an admission rests on."""

import pytest

from supply_chain.model.image import ImageRef
from supply_chain.model.tier import Gate
from supply_chain.policy.outcome import Reason, Refused
from tests.support.facts import admitted, intake_facts
from tests.support.policies import INTAKE

DIGEST = "sha256:" + "a" * 64
IMAGE = ImageRef(repository="dev/hello", digest=DIGEST)


@pytest.mark.parametrize(
    ("subject", "words"),
    [
        ({"image": IMAGE}, f"dev/hello@{DIGEST}"),
        ({"image": None, "application": "hello"}, "hello, before it is built,"),
    ],
    ids=["image", "application"],
)
def test_refusal_text_shows_subject_reasons_remedies_and_notes(subject, words):
    """Each reason is followed by its remedy, and the notes come last."""
    reason = Reason(code="name.taken", fact="it is another's", remedy="use your own")
    refused = Refused(**subject, gate=Gate.INTAKE, policy=DIGEST, reasons=(reason,), notes=("left out 1",))

    assert str(refused).split("\n") == [
        f"{words} is refused at the intake gate:",
        "  name.taken: it is another's",
        "      → use your own",
        "Warnings, which refuse nothing:",
        "  left out 1",
    ]


def test_admission_has_provenance_of_its_facts():
    """The next step takes declaration and source from there."""
    facts = intake_facts()

    assert admitted(facts, INTAKE).provenance is facts.provenance
    with pytest.raises(AssertionError):
        _ = admitted(intake_facts(provenance=None), INTAKE).provenance
