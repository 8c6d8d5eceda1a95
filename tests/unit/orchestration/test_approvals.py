"""The form of an approval says what an answer is worth."""

from typing import Any

import pytest

from orchestration import approvals
from orchestration.approvals import request_approval
from supply_chain.model.image import ImageRef
from supply_chain.promotion.planned_promotion import PlannedPromotion

REF = ImageRef(repository="curated/hello", digest="sha256:" + "a" * 64)


@pytest.mark.parametrize(("signers", "says"), [(0, False), (2, True)])
async def test_form_says_if_only_signed_approvals_count(monkeypatch, signers, says):
    """There, an answer is no approval."""
    asked: list[Any] = []

    async def suspend(wait_for_input: Any, **_: Any) -> None:
        asked.append(wait_for_input)

    monkeypatch.setattr(approvals, "asuspend_flow_run", suspend)
    await request_approval(
        PlannedPromotion(image=REF, to="production", after="staging", awaits_approval=True, signers=signers)
    )

    (form,) = asked
    assert ("needs 2: `cscm approve --key`" in form._description) is says
    assert "May it go to **production**?" in form._description
