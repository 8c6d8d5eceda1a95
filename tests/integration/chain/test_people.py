"""People on the laptop: they sign waivers and approvals with cosign, and every gate honours what they may decide."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml

from cscm_laptop.home import Home
from supply_chain.adapters.tools import Toolbox
from supply_chain.policy.people import FILE
from supply_chain.policy.signed_documents import signature_file
from supply_chain.policy.waivers import DIRECTORY
from tests.support.command import ROOT, cscm

pytestmark = pytest.mark.real

CVE = "CVE-2024-42005"
"""Critical, in Django 4.2.0, and not known to be exploited."""
DECLARATION = """\
kind: service
name: waived
owner: examples
classification: internal
environments: [staging]
test: {command: [python3, -m, unittest, -v]}
probe: {port: 8080, path: /healthz}
limits: {critical: 0, high: null, medium: null, unknown: null}
"""


@dataclass(frozen=True)
class People:
    """Ann's key, and the waiver that she signs."""

    key: Path
    waiver: Path


@pytest.fixture
def people(home: Home, toolbox: Toolbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[People]:
    """A people document that its owner signed, in which Ann may accept vulnerabilities, and an unsigned waiver."""
    monkeypatch.setenv("COSIGN_PASSWORD", "")
    key = tmp_path / "ann"
    cosign = toolbox.find("cosign").with_environment(COSIGN_PASSWORD="")
    cosign.run("generate-key-pair", "--output-key-prefix", key, timeout=60)
    end = datetime.now(UTC) + timedelta(days=30)
    ann = {
        "keys": [key.with_suffix(".pub").read_text()], "approve": ["production"],
        "waive": {"vulnerabilities": "critical", "days": 31},
    }  # fmt: skip
    document, waiver = ROOT / FILE, ROOT / DIRECTORY / "django.yaml"
    assert not document.exists() and not waiver.parent.exists()
    waiver.parent.mkdir()
    document.write_text(yaml.safe_dump({"expires": end, "people": {"ann": ann}}))
    waiver.write_text(
        yaml.safe_dump(
            {
                "vulnerabilities": [CVE], "applications": ["waived"], "reason": "no JSONField", "ticket": "SEC-1",
                "requester": "bob", "expires": end,
            }
        )
    )  # fmt: skip
    signed = cscm("people", "sign", "--key", str(home.state / "people" / "owner.key"))
    assert signed.status == 0, signed.stderr
    yield People(key.with_suffix(".key"), waiver)
    shutil.rmtree(waiver.parent)
    for file in (document, signature_file(document)):
        file.unlink()


@pytest.fixture
def application(tmp_path: Path) -> Path:
    """A service with an old Django that no list of dependencies mentions."""
    made = Path(shutil.copytree(ROOT / "examples/outdated", tmp_path / "waived"))
    dockerfile = made / "Dockerfile"
    dockerfile.write_text(dockerfile.read_text().replace("apache-airflow==1.10.3 ", ""))
    (made / "supply-chain.yaml").write_text(DECLARATION)
    (made / "revision").write_text(os.urandom(8).hex())
    return made


def test_gates_honour_what_people_sign_until_it_is_withdrawn(bases: None, application: Path, people: People) -> None:
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
        assert "ok*   scan.critical" in explained and "waived by django, signed by ann" in explained
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

    signature_file(people.waiver).unlink()
    again = cscm("deploy", released, "--environment", "staging", "--json")
    assert again.reasons() == {"scan.critical", "verdict.release.waived"}, again.stderr
