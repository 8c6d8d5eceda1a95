"""The data of the daily report: details of events, dead letters, and what people decided."""

import shutil
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest

from blocks import Bridge, Inventory, Workbench
from orchestration.clock import read_clock
from supply_chain.errors import SettingInvalid
from tasks import daily_report
from tests.support.command import ROOT
from tests.support.people import Office, copy_shipped, raise_version


def workbench(project: Path, owner: str = "") -> Workbench:
    return Workbench(project=str(project), tools="/nowhere", database="/nowhere", people_owner=owner)


def dead(monkeypatch, number):
    """Set up a bridge with a number of dead letters, or no bridge for None."""

    async def load(name):
        if number is None:
            raise SettingInvalid(f"Prefect has no block {name}.\nMake it.")
        return SimpleNamespace(dead_letters=lambda: SimpleNamespace(count=lambda: number))

    monkeypatch.setattr(Bridge, "aload", load)


@pytest.mark.parametrize("number", [3, 0, None])
async def test_dead_letters_are_counted_if_there_is_a_bridge(monkeypatch, number):
    """Without a bridge, the number is unknown, which is not zero."""
    dead(monkeypatch, number)

    assert await daily_report._dead_letters() == number


@pytest.mark.parametrize(("payload", "detail"), [
    ({"by": "ann", "reason": "a key", "unchanged": "", "running": ["staging"], "origin": "tier"}, "ann, a key"),
    ({"gate": "release", "reasons": [{"code": "scan.high"}, {"code": "scan.high"}]}, "release, scan.high"),
    ({"from": "passed", "to": "refused", "reasons": [{"code": "scan.kev"}], "owner": "x"}, "passed, refused, scan.kev"),
    ({"environment": "production", "decision": "denied", "by": "Ada", "reason": "no"}, "production, denied, Ada, no"),
    ({"environment": "staging", "reasons": ["scan.high", {"fact": "x"}]}, "staging"),
    ({"environment": "e", "by": "ann", "until": "2026-11-24T20:00", "reason": "x"}, "e, ann, 2026-11-24T20:00, x"),
    ({}, ""),
])  # fmt: skip
def test_detail_of_event_lists_selected_values(payload, detail):
    """Each code appears once, and other parts of the payload are left out."""
    assert daily_report._detail(payload) == detail


def test_report_says_why_the_policies_are_not_active(tmp_path):
    """Those of the repository are; after a change, nobody has signed them."""
    copy_shipped(tmp_path)
    assert daily_report._read_policies(workbench(tmp_path))[0] == ""

    raise_version(tmp_path / "deployments/policies/release.yaml")
    why, policies = daily_report._read_policies(workbench(tmp_path))
    assert why.startswith("no gate decides: ") and why.endswith("nobody signed it") and policies is not None
    (tmp_path / "deployments/names.yaml").unlink()
    why, policies = daily_report._read_policies(workbench(tmp_path))
    assert "names.yaml does not exist" in why and policies is not None


def test_report_reads_policies_although_an_environment_is_invalid(tmp_path):
    """The rules that begin soon and the waivers are reported all the same."""
    copy_shipped(tmp_path)
    (tmp_path / "deployments/environments/broken.yaml").write_text("soak: soon")

    why, policies = daily_report._read_policies(workbench(tmp_path))

    assert "broken.yaml" in why and policies is not None


def test_invalid_policies_do_not_end_the_report(tmp_path):
    """It is the page on which an operator reads that they are invalid."""
    copy_shipped(tmp_path)
    (tmp_path / "deployments/policies/release.yaml").write_text("name: [")

    why, policies = daily_report._read_policies(workbench(tmp_path))

    assert policies is None
    assert "nobody signed it; " in why and "release.yaml" in why


async def test_report_names_waivers_that_need_attention(monkeypatch, tmp_path):
    """They are those of the project, with the images that rest on them."""
    shutil.copytree(ROOT / "deployments/policies", tmp_path / "deployments/policies")
    office = Office(tmp_path)
    office.write_people(at=read_clock(), days=366)
    office.waive("idle", at=read_clock(), expires=read_clock() + timedelta(days=30))
    asked = []

    async def load(name: str) -> SimpleNamespace:
        asked.append(name)
        return SimpleNamespace(open=lambda: SimpleNamespace(images=lambda _: iter(())))

    monkeypatch.setattr(Inventory, "aload", load)

    found = await daily_report._find_uses(workbench(tmp_path, office.owner.public).unsigned_policies())

    assert asked == ["inventory"]
    assert [(each.waiver.name, each.waiver.state, each.images) for each in found] == [("idle", "active", ())]
