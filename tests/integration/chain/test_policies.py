"""Policies on the laptop: a change on disk decides nothing until somebody who may has signed it with cosign."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from cscm_laptop.home import Home
from supply_chain.policy.loading import DIRECTORY
from tests.support.command import ROOT, Chain, cscm
from tests.support.people import raise_version
from tests.support.place import placed
from tests.support.signed_project import owner_key, sign_project, withdraw_signature

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def digest(chain: Chain) -> str:
    """The digest of the deployed example."""
    return str(chain("hello").result["digest"])


@pytest.fixture
def changed(home: Home, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A policy of the project with another version, and no signature."""
    monkeypatch.setenv("COSIGN_PASSWORD", "")
    file = ROOT / DIRECTORY / "release.yaml"
    before = file.read_bytes()
    withdraw_signature()
    raise_version(file)
    yield file
    file.write_bytes(before)
    sign_project(home)


def doctor_line() -> tuple[bool, str]:
    """Return what `cscm doctor` says about the policies."""
    (line,) = (each for each in cscm("doctor", "--json").result if each["name"] == "policies")
    return line["ok"], line["actual"]


def test_changed_policy_decides_only_once_signed(digest: str, home: Home, changed: Path) -> None:
    """Without the signature no gate judges, and the state is named wherever somebody looks."""
    image = f"dev/hello@{digest}"

    unsigned = cscm("curate", image, "--json")
    assert unsigned.code() == "policy.unsigned"
    assert "nobody signed it" in unsigned.stderr and "cscm policy sign --key REF" in unsigned.stderr
    assert cscm("policy", "explain", image).code() == "policy.unsigned"
    checked = cscm("policy", "check", "--json")
    assert (checked.status, checked.result["active"]) == (0, False)
    assert doctor_line()[0] is False

    signed = cscm("policy", "sign", "--key", owner_key(home))
    assert signed.status == 0, signed.stderr
    ok, found = doctor_line()
    assert ok and found.startswith("active: signed by the owner of deployments/people.yaml")
    assert cscm("policy", "check").stdout.splitlines()[-1] == found
    assert cscm("curate", image, "--json").status == 0

    raise_version(changed)
    assert "policies/release.yaml (changed)" in cscm("curate", image, "--json").stderr


def test_environment_decides_only_once_signed(digest: str, home: Home) -> None:
    """Nothing is deployed there before, and the other environments go on."""
    image = f"curated/hello@{digest}"
    with placed("unsigned", ["hello"]):
        withdraw_signature()

        refused = cscm("policy", "explain", image, "--environment", "unsigned")
        assert refused.code() == "policy.unsigned" and "environments/unsigned (added)" in refused.stderr
        assert "nothing is deployed to unsigned" in doctor_line()[1]
        assert cscm("policy", "explain", image, "--environment", "staging").status == 0

        sign_project(home)
        assert cscm("policy", "explain", image, "--environment", "unsigned").status in (0, 3)
