"""VEX documents that are attached to an image on the laptop: an issuer's clears a finding, and nobody's does not."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from cscm_laptop.home import Home
from cscm_laptop.laptop import LaptopState
from supply_chain.adapters.registry.client import Registry
from supply_chain.adapters.registry.http import RegistryHttp
from supply_chain.adapters.tools import Toolbox
from supply_chain.adapters.tools.cosign import sign_statement
from supply_chain.evidence.attached_statement import OPENVEX
from supply_chain.evidence.statement import BUNDLE, make_image_statement
from supply_chain.evidence.store import PREDICATE
from supply_chain.model.image import ImageRef
from supply_chain.model.tier import TierName
from tests.support.access import Outsider, ecr_of
from tests.support.command import cscm
from tests.support.signed_people import CVE, make_key, signed_people, write_old_django

pytestmark = pytest.mark.real


@dataclass(frozen=True)
class Keys:
    """The private keys of an issuer and of somebody whom nobody trusts; the public ones are next to them."""

    issuer: Path
    stranger: Path


@pytest.fixture
def keys_of_issuers(home: Home, toolbox: Toolbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Keys]:
    """A people document that its owner signed, with one issuer."""
    monkeypatch.setenv("COSIGN_PASSWORD", "")
    psirt, _ = (make_key(toolbox, tmp_path / name) for name in ("psirt", "stranger"))
    content = {
        "expires": datetime.now(UTC) + timedelta(days=30), "people": {},
        "vex": {"justifications": ["vulnerable_code_not_in_execute_path"], "issuers": {"psirt": {"keys": [psirt]}}},
    }  # fmt: skip
    with signed_people(home, content):
        yield Keys(tmp_path / "psirt.key", tmp_path / "stranger.key")


@pytest.fixture
def application(tmp_path: Path) -> Path:
    """A service with an old Django that no list of dependencies mentions."""
    return write_old_django(tmp_path / "stated")


def test_attached_document_of_an_issuer_clears_a_finding(
    bases: None,
    application: Path,
    keys_of_issuers: Keys,
    laptop: LaptopState,
    toolbox: Toolbox,
    outsider: Outsider,
    tmp_path: Path,
) -> None:
    """Customers verify it with the issuer's key alone; one that nobody trusts is named and changes nothing."""
    refused = cscm("chain", str(application), "--environment", "staging", "--json")
    assert refused.reasons() == {"scan.critical"}, refused.stderr
    offered = ImageRef.parse(f"dev/stated@{refused.result['image']['digest']}")
    curated = offered.with_repository("curated/stated")
    file = tmp_path / "stated.json"
    stated = cscm(
        "vex", "create", str(curated), "--vulnerability", CVE, "--status", "not_affected",
        "--justification", "vulnerable_code_not_in_execute_path", "--author", "psirt", "--output", str(file),
    )  # fmt: skip
    assert stated.status == 0, stated.stderr

    assert cscm("inventory").status == 0
    previewed = cscm("policy", "preview", str(file), "--json").result
    assert previewed["decisions"] == [
        "VEX document stated.json with 1 statement, as if psirt had signed it (deployments/vex/stated.json)"
    ]
    effects = {each["subject"]["image"]["repository"]: each["effect"] for each in previewed["changes"]}
    assert effects[curated.repository] == "refused → admitted"

    cosign = toolbox.find("cosign").with_environment(COSIGN_PASSWORD="", HOME=str(tmp_path))
    content = json.loads(file.read_text())
    bundle = sign_statement(cosign, str(keys_of_issuers.stranger), make_image_statement(curated, OPENVEX, content))
    registry = Registry(RegistryHttp(laptop.registry, ecr_of(laptop, TierName.CURATION).credentials, insecure=True))
    registry.attach(curated, BUNDLE, bundle, {PREDICATE: OPENVEX})
    again = cscm("curate", str(offered), "--json")
    assert again.reasons() == {"scan.critical"}, again.stderr
    explained = cscm("policy", "explain", str(curated), "--json").stdout
    assert "no issuer signed it" in explained

    by_stranger = cscm("vex", "attach", str(curated), str(file), "--key", str(keys_of_issuers.stranger))
    assert by_stranger.code() == "declaration.invalid"
    attach = ("vex", "attach", str(curated), str(file), "--key", str(keys_of_issuers.issuer), "--json")
    assert cscm(*attach).result["by"] == "psirt"
    admitted = cscm("curate", str(offered), "--json")
    assert admitted.status == 0, admitted.stderr

    public = keys_of_issuers.issuer.with_suffix(".pub")
    done = outsider.verify("verify-attestation", "--type", "openvex", key=public, image=str(curated))
    assert done.returncode == 0, done.stderr
    payload = json.loads(base64.b64decode(json.loads(done.stdout.splitlines()[0])["payload"]))
    assert payload["predicate"] == content
