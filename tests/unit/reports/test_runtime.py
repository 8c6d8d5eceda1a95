"""Reports about deployments."""

from __future__ import annotations

from datetime import timedelta

from supply_chain.evidence.break_glass import BreakGlass
from supply_chain.reports import break_glass_page
from tests.support.builders import NOON
from tests.support.facts import CURATED


def test_page_of_a_break_glass_names_some_of_what_it_overrides() -> None:
    """There may be thousands of findings, and the page is a notification."""
    overrides = tuple(f"scan.low: CVE-2026-{number:04}" for number in range(12))
    use = BreakGlass(
        environment="production", digest=CURATED.digest, by="ann", reason="outage", at=NOON,
        expires=NOON + timedelta(hours=1), overrides=overrides,
    )  # fmt: skip

    page = break_glass_page(use, CURATED).replace("\\", "")

    assert f"- overrides {'; '.join(overrides[:10])}; and 2 more, and no other reason\n" in page
    assert overrides[10] not in page
