"""People on the laptop: they sign waivers and approvals with cosign, and every gate honours what they may decide."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
import yaml

from cscm_laptop.home import Home
from supply_chain.adapters.tools import Toolbox
from supply_chain.policy.signed_documents import locate_signature
from supply_chain.policy.waivers import DIRECTORY
from tests.support.access import application_url
from tests.support.application import Application
from tests.support.command import ROOT, cscm
from tests.support.place import placed
from tests.support.signed_people import CVE, make_key, signed_people, write_old_django

pytestmark = pytest.mark.real

URGENT = "urgent"
"""An application, and the environment in which somebody breaks the glass for it."""


@dataclass(frozen=True)
class People:
    """Ann's key, and the waiver that she signs."""

    key: Path
    waiver: Path


@pytest.fixture
def people(home: Home, toolbox: Toolbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[People]:
    """A people document that its owner signed, in which Ann may accept vulnerabilities, and an unsigned waiver."""
    monkeypatch.setenv("COSIGN_PASSWORD", "")
    key, end, waiver = tmp_path / "ann", datetime.now(UTC) + timedelta(days=30), ROOT / DIRECTORY / "old-django.yaml"
    ann = {
        "keys": [make_key(toolbox, key)], "approve": ["production"],
        "waive": {"vulnerabilities": "critical", "days": 31},
        "break_glass": {"environments": [URGENT], "hours": 2}, "block": True,
    }  # fmt: skip
    assert not waiver.parent.exists()
    waiver.parent.mkdir()
    waiver.write_text(
        yaml.safe_dump(
            {
                "vulnerabilities": [CVE], "applications": ["waived"], "reason": "no JSONField", "ticket": "SEC-1",
                "requester": "bob", "expires": end,
            }
        )
    )  # fmt: skip
    with signed_people(home, {"expires": end, "people": {"ann": ann}}):
        yield People(key.with_suffix(".key"), waiver)
    shutil.rmtree(waiver.parent)


@pytest.fixture
def application(tmp_path: Path) -> Path:
    """A service with an old Django that no list of dependencies mentions."""
    return write_old_django(tmp_path / "waived")


def test_gates_honour_signed_waiver_until_it_is_withdrawn(bases: None, application: Path, people: People) -> None:
    """Its file alone has no effect; its verdict names it and ends with it."""
    refused = cscm("chain", str(application), "--environment", "staging", "--json")
    assert refused.reasons() == {"scan.critical"}, refused.stderr
    image = f"dev/waived@{refused.result['image']['digest']}"

    (unsigned,) = cscm("waivers", "--json").result
    assert unsigned["waiver"]["why"] == "nobody signed it"
    assert cscm("curate", image, "--json").reasons() == {"scan.critical"}

    assert cscm("waive", str(people.waiver), "--key", str(people.key)).status == 0
    admitted = cscm("curate", image, "--json")
    assert admitted.status == 0, admitted.stderr
    released = str(admitted.result["ref"]["repository"]) + "@" + admitted.result["ref"]["digest"]
    for gate in ((), ("--environment", "staging")):
        explained = cscm("policy", "explain", released, *gate).stdout
        assert "ok*   scan.critical" in explained and "waived by old-django, signed by ann" in explained
    assert cscm("inventory").status == 0
    (active,) = cscm("waivers", "--json").result
    assert (active["waiver"]["state"], [each["repository"] for each in active["images"]]) == (
        "active", ["curated/waived"],
    )  # fmt: skip

    decide = ("approve", released, "--environment", "production", "--reason", "tested", "--key", str(people.key))
    assert cscm(*decide, "--by", "bob").code() == "declaration.invalid"
    assert "image.approvers = 0 elements" in cscm("policy", "explain", released, "--environment", "production").stdout
    assert cscm(*decide, "--by", "ann").status == 0
    assert "image.approvers = 1 element," in cscm("policy", "explain", released, "--environment", "production").stdout

    locate_signature(people.waiver).unlink()
    again = cscm("deploy", released, "--environment", "staging", "--json")
    assert again.reasons() == {"scan.critical", "verdict.release.waived"}, again.stderr


@pytest.fixture
def urgent(bases: None, program: Path, tmp_path: Path) -> Iterator[str]:
    """A released image, which an environment refuses without an approval."""
    application = Application(URGENT, tmp_path / URGENT)
    application.write(program, URGENT)
    application.next_revision()
    with placed(URGENT, [URGENT], {"approval": "required"}):
        built = cscm("build", str(application.path), "--json")
        assert built.status == 0, built.stderr
        curated = cscm("curate", f"dev/{URGENT}@{built.result['ref']['digest']}", "--json")
        assert curated.status == 0, curated.stderr
        yield f"curated/{URGENT}@{curated.result['ref']['digest']}"


def deviations() -> dict[str, str]:
    """Return what `cscm monitor` reports there: code and fact of each deviation."""
    observed = cscm("monitor", "--environment", URGENT, "--json").result
    return {each["code"]: each["fact"] for of in observed for each in of["deviations"]}


def test_break_glass_deploys_refused_image_until_denial(urgent: str, people: People) -> None:
    """A denial ends it, and the image runs on as refused; once the gate admits it, a deployment closes it."""
    refused = cscm("deploy", urgent, "--environment", URGENT, "--json")
    assert refused.reasons() == {"approval.missing"}, refused.stderr

    end = datetime.now(UTC) + timedelta(hours=1)
    words = ("break-glass", urgent, "--environment", URGENT, "--reason", "an outage", "--key", str(people.key))
    until = ("--expires", f"{end:%Y-%m-%dT%H:%MZ}")
    assert cscm(*words, *until, "--by", "bob").code() == "declaration.invalid"
    long = ("--expires", f"{end + timedelta(hours=2):%Y-%m-%dT%H:%MZ}")
    assert "for 2 hours" in cscm(*words, *long, "--by", "ann").error

    opened = cscm(*words, *until, "--by", "ann", "--json")
    assert opened.status == 0, opened.stderr
    assert httpx.get(f"{application_url(opened.result)}/healthz", timeout=10).is_success
    assert opened.result["break_glass"]["by"] == "ann"
    explained = cscm("policy", "explain", urgent, "--environment", URGENT).stdout
    assert "ok!   approval.missing" in explained and "overridden by break-glass by ann until" in explained
    assert "break-glass for urgent by ann until" in cscm("explain", urgent).stdout
    assert deviations() == {}

    decide = ("approve", urgent, "--environment", URGENT, "--by", "ann", "--reason", "it is over")
    assert cscm(*decide, "--deny").status == 0
    assert set(deviations()) == {"drift.refused"} and "(approval.denied)" in deviations()["drift.refused"]

    assert cscm(*decide).status == 0
    closed = cscm("deploy", urgent, "--environment", URGENT, "--json")
    assert closed.status == 0 and closed.result["break_glass"] is None, closed.stderr
    assert deviations() == {}


def test_gate_names_person_who_signed_block(bases: None, program: Path, tmp_path: Path, people: People) -> None:
    """The gate says so: it does not call the name typed."""
    application = Application("barred", tmp_path / "barred")
    application.write(program, "staging")
    application.next_revision()
    built = cscm("build", str(application.path), "--json")
    assert built.status == 0, built.stderr
    image = f"{built.result['ref']['repository']}@{built.result['ref']['digest']}"
    signed = (image, "--reason", "a test", "--key", str(people.key))
    assert cscm("block", *signed, "--by", "bob").code() == "declaration.invalid"
    assert cscm("block", *signed, "--by", "ann").status == 0

    refused = cscm("curate", image, "--json")
    assert "image.blocked" in refused.reasons(), refused.stderr
    (fact,) = [each["fact"] for each in refused.result["reasons"] if each["code"] == "image.blocked"]
    assert "by ann on " in fact and "unverified name" not in fact
    lifted = cscm("unblock", *signed, "--by", "ann")
    assert lifted.status == 0, lifted.stderr
