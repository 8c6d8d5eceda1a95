"""The inventory after a chain run: answers of the commands, and its rebuild from registry and hosts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.command import Chain, cscm
from tests.support.waiting import eventually


@pytest.fixture(scope="module")
def read_entry(chain: Chain) -> Callable[[], dict[str, Any]]:
    """A function that returns the inventory's entry of the deployed image."""
    digest = chain("hello").result["digest"]

    def look() -> dict[str, Any]:
        images = cscm("images", "hello", "--json").result
        return next((image for image in images if image["ref"]["digest"] == digest), {})

    return look


def test_chain_run_updates_the_inventory_by_events(read_entry: Callable[[], dict[str, Any]]) -> None:
    """No command has to refresh the inventory."""
    eventually(lambda: [r["environment"] for r in read_entry().get("running", ())] == ["staging"], describe=read_entry)
    image = read_entry()

    assert image["owner"] == "greetings" and image["signed"] and image["stored"]["size"] > 1_000_000
    assert {j["gate"]: j["passed"] for j in image["judgements"]} == {
        "intake": True, "release": True, "deploy": True,
    }  # fmt: skip
    eventually(lambda: read_entry()["running"][0]["healthy"] is True, describe=read_entry)


def test_where_finds_image_by_package_base_and_digest(chain: Chain, read_entry: Callable[[], dict[str, Any]]) -> None:
    """Running images come first; a package is found without its version."""
    digest = chain("hello").result["digest"]
    assert cscm("inventory").status == 0
    for question in ("zlib1g", "base/python", digest, digest[7:19]):
        found = cscm("where", question, "--json").result
        assert digest in [place["image"]["digest"] for place in found], question
        assert found[0]["running"]
    assert cscm("where", "CVE-1999-0001", "--json").result == []
    assert cscm("where", "two words").code() == "declaration.invalid"


def test_explain_shows_the_history_and_base_of_an_image(chain: Chain) -> None:
    """The answer lists each event, and the base that the image was built on."""
    digest = chain("hello").result["digest"]
    output = cscm("explain", digest[7:19]).stdout

    for text in (
        "built ",
        "admitted at the intake gate ",
        "signed ",
        "admitted at the deploy gate ",
        "deployed to staging",
    ):
        assert text in output, text
    assert "base/python" in output.partition("Built on")[2]
    assert cscm("explain", "0" * 64).code() == "image.not-found"


def test_policy_explain_shows_the_rules_of_each_gate(chain: Chain) -> None:
    """It judges by the same evidence and policies as the gate, and says what each rule read."""
    digest = chain("hello").result["digest"]
    release = cscm("policy", "explain", digest[7:19])
    deploy = cscm("policy", "explain", digest[7:19], "--environment", "staging")

    assert "ok    scan.missing  (curated 1)" in release.stdout, release.stderr
    assert "signature.missing" not in release.stdout
    assert "ok    signature.missing  (deploy 1)" in deploy.stdout, deploy.stderr
    assert "image.signed = True" in deploy.stdout and "\nNO " not in deploy.stdout
    assert cscm("policy", "explain", digest[7:19], "--environment", "nowhere").code() == "setting.invalid"


OURS = """
name: ours
version: 1
description: Refuses one application.
gates: [release, deploy]
rules:
- id: ours.application
  title: Refuse the application hello.
  expression: image.application != 'hello'
  message: it is hello
  remedy: take another
  tests:
  - {name: another, facts: {application: shop}, passes: true}
  - {name: hello, facts: {application: hello}, passes: false}
"""


def test_policy_preview_names_the_deployed_image(chain: Chain, tmp_path: Path) -> None:
    """The facts are read by the reconciliation; nothing is signed, so that the image stays admitted."""
    digest = chain("hello").result["digest"]
    (tmp_path / "ours.yaml").write_text(OURS)
    assert cscm("inventory").status == 0

    found = cscm("policy", "preview", str(tmp_path), "--json").result

    own = [each for each in found["changes"] if each["subject"]["image"]["digest"] == digest]
    assert [(e["subject"]["gate"], e["subject"]["environment"], e["effect"]) for e in own] == [
        ("release", "", "admitted → refused"), ("deploy", "staging", "admitted → refused"),
    ]  # fmt: skip
    assert not [each for each in found["not_judged"] if each["subject"]["image"]["digest"] == digest]
    assert cscm("policy", "preview", str(tmp_path)).stdout.startswith("Proposed: ours 1 (new), at the release gate")
    assert "NO " not in cscm("policy", "explain", digest[7:19], "--environment", "staging").stdout


def test_rebuilt_inventory_equals_the_lost_one(read_entry: Callable[[], dict[str, Any]]) -> None:
    """The inventory contains only data from the registry, the evidence and the hosts."""
    before = read_entry()
    assert cscm("inventory", "--rebuild").status == 0
    after = read_entry()

    for image in (before, after):
        for each in image["running"]:
            each.pop("observed_at")
        image["stored"].pop("pulled_at")
    assert after == before
