"""Break-glass as evidence: exactly what the person signed counts, until a later denial."""

from __future__ import annotations

from contextlib import nullcontext
from datetime import datetime, timedelta
from typing import Any

import pytest
from pydantic import ValidationError

from supply_chain.errors import EvidenceInvalid
from supply_chain.evidence.approval import Approval, find_last_denial
from supply_chain.evidence.break_glass import MOST_OVERRIDES, BreakGlass, date_denial, date_use, list_break_glass_uses
from supply_chain.evidence.clock import read_signed_time
from supply_chain.evidence.envelope import parse_keys
from supply_chain.evidence.statement import APPROVAL, BREAK_GLASS, VerifiedStatement, make_image_statement
from supply_chain.model.image import ImageRef, Model
from supply_chain.model.tier import TierName
from tests.support.builders import DIGEST, NOON, OTHER
from tests.support.signer import EcdsaSigner

ANN, BOB = EcdsaSigner(), EcdsaSigner()
WHERE = ImageRef(repository="curated/hello", digest=DIGEST)


def use(hour: int = 0, **changes: Any) -> BreakGlass:
    at = NOON + timedelta(hours=hour)
    values = {
        "environment": "production", "digest": DIGEST, "by": "ann", "reason": "outage", "at": at,
        "expires": NOON + timedelta(hours=8),
    }  # fmt: skip
    return BreakGlass.model_validate(values | changes)


def signed(given: BreakGlass, signer: EcdsaSigner = ANN, image: ImageRef = WHERE) -> BreakGlass:
    return given.model_copy(update={"signature": signer.sign(given.statement(image)).decode()})


def denial(hour: int, decision: str = "denied", **changes: Any) -> Approval:
    values = {
        "environment": "production", "digest": DIGEST, "decision": decision, "by": "bob", "reason": "no",
        "decided": NOON + timedelta(hours=hour),
    }  # fmt: skip
    return Approval.model_validate(values | changes)


def evidence(*statements: BreakGlass | Approval) -> list[VerifiedStatement]:
    kinds: dict[type[Model], str] = {BreakGlass: BREAK_GLASS, Approval: APPROVAL}
    return [
        VerifiedStatement(
            digest=DIGEST, repository="evidence/execution/hello", signer=TierName.EXECUTION,
            statement=make_image_statement(WHERE, kinds[type(each)], each.predicate()),
        )
        for each in statements
    ]  # fmt: skip


def test_signature_is_of_exactly_this_break_glass() -> None:
    """A longer time, another reason or another environment is not what the person signed."""
    (ann,), (bob,) = parse_keys(ANN.public, "ann"), parse_keys(BOB.public, "bob")
    good = signed(use())

    assert good.is_signed_by(ann, WHERE) and not good.is_signed_by(bob, WHERE)
    assert not use().is_signed_by(ann, WHERE), "not signed"
    later: datetime = NOON + timedelta(hours=9)
    for changes in (
        {"environment": "staging"},
        {"reason": "x"},
        {"at": later},
        {"expires": later},
        {"overrides": ("a.b",)},
    ):
        assert not good.model_copy(update=changes).is_signed_by(ann, WHERE), changes
    assert not good.is_signed_by(ann, WHERE.with_digest(OTHER))
    assert not good.is_signed_by(ann, ImageRef(repository="curated/other", digest=DIGEST))
    assert good.is_signed_by(ann, WHERE.with_repository("evidence/execution/hello")), "the same application"


def test_approval_is_no_signature_of_a_break_glass() -> None:
    """Nobody who approves an image agrees to let it run while it is refused."""
    (ann,) = parse_keys(ANN.public, "ann")
    approval = ANN.sign(denial(0, "approved").statement(WHERE)).decode()
    opened = ANN.sign(use().statement(WHERE)).decode()

    assert not use().model_copy(update={"signature": approval}).is_signed_by(ann, WHERE)
    assert not denial(0, "approved").model_copy(update={"signature": opened}).is_signed_by(ann, WHERE)


def test_uses_are_those_of_image_and_environment_since_the_last_denial() -> None:
    """Attaching an earlier one again does not bring it back."""

    def read(*statements: BreakGlass | Approval) -> tuple[BreakGlass, ...]:
        return list_break_glass_uses(evidence(*statements), "production", DIGEST)

    first, second = use(), use(2)
    assert read() == read(use(environment="staging"), use(digest=OTHER)) == ()
    assert read(second, first) == (first, second)
    assert read(first, denial(1), second, first) == (second,)
    assert read(first, denial(0)) == (), "a denial at the same time counts"
    others = (denial(3, "approved"), denial(3, environment="staging"), denial(3, digest=OTHER))
    assert read(first, *others) == (first,)


@pytest.mark.parametrize("behind", [0, 2])
def test_break_glass_after_denial_counts_if_clock_is_behind(behind: int) -> None:
    before = [denial(1), denial(5, environment="staging")]
    dated = date_use(use(1 - behind), evidence(*before))

    assert list_break_glass_uses(evidence(*before, dated), "production", DIGEST) == (dated,)
    assert date_use(use(2), evidence(*before)) == use(2)
    assert date_use(use(), evidence(denial(1, "approved"))) == use()


@pytest.mark.parametrize("behind", [0, 2])
def test_denial_ends_earlier_break_glass_if_clock_is_behind(behind: int) -> None:
    before = [use(1), use(5, environment="staging")]
    dated = date_denial(denial(1 - behind), evidence(*before))

    assert list_break_glass_uses(evidence(*before, dated), "production", DIGEST) == ()
    assert date_denial(denial(2), evidence(*before)) == denial(2)
    assert date_denial(denial(0, "approved"), evidence(*before)) == denial(0, "approved")


def test_unreadable_use_or_decision_is_an_error() -> None:
    """It may be the denial that ends a use."""
    for kind in (BREAK_GLASS, APPROVAL):
        statement = make_image_statement(WHERE, kind, {"at": NOON.isoformat(), "decided": NOON.isoformat()})
        broken = evidence(use())[0].model_copy(update={"statement": statement})
        with pytest.raises(EvidenceInvalid):
            list_break_glass_uses([broken], "production", DIGEST)


def test_last_denial_is_the_newest_of_image_and_environment() -> None:
    """Approvals are none."""
    decisions = evidence(denial(2), denial(1), denial(3, "approved"), denial(4, environment="staging"))

    assert find_last_denial(decisions, "production", DIGEST) == NOON + timedelta(hours=2)
    assert find_last_denial(evidence(denial(3, "approved")), "production", DIGEST) is None


def test_break_glass_is_short_text_with_its_end() -> None:
    """Operators read it in the history of the image; its time is found without knowing its form."""
    assert str(use()) == "break-glass for production by ann until 2026-11-24 20:00 UTC: outage"
    assert read_signed_time(evidence(use(1))[0].statement) == NOON + timedelta(hours=1)


@pytest.mark.parametrize(("length", "valid"), [(2 * 1024 * 1024, True), (2 * 1024 * 1024 + 1, False)])
def test_signature_of_break_glass_has_room_for_all_that_it_names(length: int, valid: bool) -> None:
    """It contains each finding, but nobody fills the memory with it."""
    with nullcontext() if valid else pytest.raises(ValidationError, match="signature"):
        use(signature="x" * length)


def test_break_glass_with_most_overrides_is_read_back() -> None:
    """Otherwise no gate could decide about the image any more."""
    named = tuple(
        f"scan.critical: GHSA-aaaa-bbbb-{number:04} in {'x' * 100} 1.2.3-4" for number in range(MOST_OVERRIDES)
    )

    assert BreakGlass.model_validate(signed(use(overrides=named)).predicate()).overrides == named
    assert len(named) == 5000
