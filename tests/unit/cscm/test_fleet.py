"""The inventory in the terminal: its texts come from outside."""

import json
from datetime import UTC, datetime
from types import SimpleNamespace

from click.testing import CliRunner

from cscm import fleet
from cscm.main import main
from tests.support.snapshots import image, stored

NASTY = "web\u009b2J\u202e\x1b[2J"


def test_images_json_is_ascii_and_has_no_control_characters(monkeypatch):
    """The JSON still has the same values."""
    existing = image(1, owner=NASTY)
    inventory = SimpleNamespace(
        images=lambda application: iter((existing,)),
        list_removed=lambda application: (),
        find_last_reconciliation=lambda: None,
    )
    monkeypatch.setattr(fleet, "_inventory", lambda: inventory)

    printed = CliRunner().invoke(main, ["images", "--json"]).output
    (found,) = json.loads(printed)

    assert printed.isascii() and printed.replace("\n", "").isprintable()
    assert found["owner"] == NASTY
    assert found["stored"]["digest"] == stored(1).digest


def test_where_reports_age_and_gaps_of_inventory(monkeypatch):
    """An empty result is good news only if everything was looked at."""
    inventory = SimpleNamespace(
        find_affected=lambda name: (),
        find_last_reconciliation=lambda: None,
        count_unscanned=lambda: 2,
        count_by_starter=lambda: 0,
    )
    monkeypatch.setattr(fleet, "_inventory", lambda: inventory)

    never = CliRunner().invoke(main, ["where", "CVE-2026-1234"])
    inventory.find_last_reconciliation, inventory.count_unscanned = (
        lambda: datetime(2026, 11, 24, 12, tzinfo=UTC),
        lambda: 0,
    )
    after = CliRunner().invoke(main, ["where", "CVE-2026-1234", "--json"])

    assert "in 0 curated images, 0 of them running\nNobody has looked at what runs" in never.stderr
    assert "not counted: 2 images not scanned" in never.stderr
    assert "as of 2026-11-24 12:00 UTC" in after.stderr and "not counted" not in after.stderr
    assert json.loads(after.stdout) == []


def test_images_reports_age_and_every_image(monkeypatch):
    """It lists unreadable images, images without SBOM, and first the running ones that left the registry."""
    existing, gone = image(1, unreadable="it is damaged"), image(2, missing=True)
    inventory = SimpleNamespace(
        images=lambda application: iter((existing,)), list_removed=lambda application: (gone,),
        find_last_reconciliation=lambda: datetime(2026, 11, 24, 12, tzinfo=UTC), applications=lambda: ("hello",),
    )  # fmt: skip
    monkeypatch.setattr(fleet, "_inventory", lambda: inventory)

    listed = CliRunner().invoke(main, ["images", "hello"])
    misspelt = CliRunner().invoke(main, ["images", "helo"])
    assert misspelt.exit_code == 1 and "'helo'" in misspelt.stderr

    assert listed.stderr == "as of 2026-11-24 12:00 UTC and the events since\n"
    first, second = listed.stdout.splitlines()[1:]
    assert "gone from the registry" in first and "unreadable: it is damaged" in second
