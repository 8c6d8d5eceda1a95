"""Policies on the laptop: a change on disk decides nothing until somebody who may has signed it with cosign."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from cscm_laptop.home import Home
from supply_chain.policy.activation import LISTING
from supply_chain.policy.loading import DIRECTORY
from supply_chain.policy.signed_documents import signature_file
from tests.support.command import ROOT, cscm
from tests.support.signed_people import owner_key

pytestmark = pytest.mark.real


@pytest.fixture
def changed(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A policy of the project with another version, and no signature."""
    monkeypatch.setenv("COSIGN_PASSWORD", "")
    file, bundle = ROOT / DIRECTORY / "release.yaml", signature_file(ROOT / DIRECTORY / LISTING)
    before = file.read_bytes()
    assert not bundle.exists()
    file.write_bytes(before.replace(b"version: 1\n", b"version: 2\n"))
    yield file
    file.write_bytes(before)
    bundle.unlink(missing_ok=True)


def doctor_line() -> tuple[bool, str]:
    """Return what `cscm doctor` says about the policies."""
    (line,) = (each for each in cscm("doctor", "--json").result if each["name"] == "policies")
    return line["ok"], line["found"]


def test_changed_policy_decides_only_once_signed(bases: None, home: Home, changed: Path) -> None:
    """Without the signature no gate judges, and the state is named wherever somebody looks."""
    built = cscm("build", "examples/hello", "--json")
    assert built.status == 0, built.stderr
    image = f"{built.result['ref']['repository']}@{built.result['ref']['digest']}"

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

    changed.write_bytes(changed.read_bytes().replace(b"version: 2\n", b"version: 3\n"))
    assert "signed other content" in cscm("curate", image, "--json").stderr
