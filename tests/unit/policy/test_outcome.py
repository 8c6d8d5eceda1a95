"""A refusal as people read it."""

import pytest

from supply_chain.model.image import ImageRef
from supply_chain.model.tier import Gate
from supply_chain.policy.outcome import Reason, Refused

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
def test_a_refusal_says_of_what_it_is_why_and_what_would_help(subject, words):
    """One reason after the other, and what does not count at the end."""
    reason = Reason(code="name.taken", fact="it is another's", remedy="use your own")
    refused = Refused(**subject, gate=Gate.INTAKE, policy=DIGEST, reasons=(reason,), notes=("left out 1",))

    assert str(refused).split("\n") == [
        f"{words} is refused at the intake gate:",
        "  name.taken: it is another's",
        "      → use your own",
        "  note: left out 1",
    ]
