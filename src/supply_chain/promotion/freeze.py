"""The promotion freeze: promotions wait until it is lifted, while monitoring and rescans continue."""

from __future__ import annotations

from pydantic import AwareDatetime, Field

from supply_chain.evidence.personal_decision import Words
from supply_chain.model.image import Model
from supply_chain.text import render_time

VARIABLE = "promotions_frozen"
"""The Prefect variable that stores the freeze while it is in force."""


class PromotionFreeze(Model):
    """Who froze promotions, the reason, and since when."""

    by: Words = Field(description="the name that the person gave")
    reason: Words
    since: AwareDatetime

    def __str__(self) -> str:
        return f"promotions are frozen by {self.by} since {render_time(self.since)}: {self.reason}"
