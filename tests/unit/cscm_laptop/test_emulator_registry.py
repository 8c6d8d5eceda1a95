"""The registry of the emulator without a server: routes, tokens, manifests and referrers."""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from cscm_laptop.emulator.manifests import ManifestRefused, checked
from cscm_laptop.emulator.referrers import referrers
from cscm_laptop.emulator.routes import ACTIONS, Route, is_registry, parse
from cscm_laptop.emulator.tokens import Tokens, password

A, B = "sha256:" + "a" * 64, "sha256:" + "b" * 64
CALLER = {"Arn": "arn:aws:sts::000000000000:assumed-role/dev/x"}


@pytest.mark.parametrize(
    ("path", "route"),
    [
        ("/v2/", Route("ping")),
        ("/v2/_catalog", Route("catalog", "*")),
        ("/v2/dev/app/manifests/one", Route("manifest", "dev/app", "one")),
        (f"/v2/dev/app/blobs/{A}", Route("blob", "dev/app", A)),
        ("/v2/app/blobs/uploads/", Route("uploads", "app")),
        ("/v2/app/blobs/uploads", Route("uploads", "app")),
        ("/v2/app/blobs/uploads/1f", Route("upload", "app", "1f")),
        (f"/v2/app/referrers/{A}", Route("referrers", "app", A)),
        ("/v2/app/tags/list", Route("tags", "app")),
        ("/v2/manifests/one", None),
        ("/v2//manifests/one", None),
        ("/v2/app/blobs/x/manifests/one", None),
        ("/v2/app/manifests/", None),
        ("/v2/app/tags/manifests/x", None),
    ],
)
def test_registry_path_is_parsed_by_specification(path: str, route: Route | None) -> None:
    """A repository name may have slashes, and an ambiguous path is no route."""
    assert is_registry(path)
    assert parse(path) == route


@pytest.mark.parametrize("path", ["/v2/apis/1", "/v2/email/identities", "/v2/tags/arn:aws:x", "/", "/v1/app/tags/list"])
def test_paths_of_other_services_are_no_registry_paths(path: str) -> None:
    """API Gateway and SES also use `/v2/`."""
    assert not is_registry(path)


def test_registry_offers_only_endpoints_with_actions() -> None:
    """As in ECR, a blob cannot be deleted."""
    assert ("DELETE", "blob") not in ACTIONS
    assert all(group and all(a.startswith("ecr:") for a in group) for needs in ACTIONS.values() for group in needs)


def test_token_identifies_caller_until_it_expires(tmp_path: Path) -> None:
    """The key is stored, so a token stays valid after a restart."""
    token = Tokens.stored_in(tmp_path / "key").issue(CALLER, expires=100)

    again = Tokens.stored_in(tmp_path / "key")

    assert again.read(token, now=99) == CALLER
    assert again.read(token, now=100) is None


def test_forged_token_is_refused(tmp_path: Path) -> None:
    """It may have another key, another caller or invalid text."""
    tokens = Tokens.stored_in(tmp_path / "key")
    body, _, seal = tokens.issue(CALLER, expires=100).partition(".")
    forged = base64.urlsafe_b64encode(json.dumps({"caller": {"Arn": "root"}, "expires": 100}).encode()).decode()
    other = Tokens(b"other").issue(CALLER, expires=100)

    for token in (other, f"{forged}.{seal}", body, f"{body}.", "", ".", "\udcff.é"):
        assert tokens.read(token, now=0) is None


def test_token_is_password_of_user_aws() -> None:
    """Another user or scheme has no token."""

    def basic(text: str) -> str:
        return "Basic " + base64.b64encode(text.encode()).decode()

    assert password(basic("AWS:a:b")) == "a:b"
    assert [password(a) for a in (basic("me:a"), "Bearer x", "", "Basic ", "Basic ?", "Basic /w==")] == [""] * 6


def manifest(**content: Any) -> bytes:
    return json.dumps({"schemaVersion": 2, **content}).encode()


@pytest.mark.parametrize(
    ("reference", "body", "code"),
    [
        ("t", b"[]", "MANIFEST_INVALID"),
        ("t", b"\xff", "MANIFEST_INVALID"),
        pytest.param("t", b"[" * 100_000, "MANIFEST_INVALID", id="deep"),
        ("t", manifest(layers="x"), "MANIFEST_INVALID"),
        ("t", manifest(config="x"), "MANIFEST_INVALID"),
        ("t", manifest(config={"digest": "sha256:../x"}), "MANIFEST_INVALID"),
        ("t", manifest(config={"digest": B}), "MANIFEST_BLOB_UNKNOWN"),
        ("t", manifest(config={"digest": A}, layers=[{"digest": B}]), "MANIFEST_BLOB_UNKNOWN"),
        ("t", manifest(manifests=[{"digest": A}]), "MANIFEST_BLOB_UNKNOWN"),
        (A, manifest(), "DIGEST_INVALID"),
        ("sha512:00", manifest(), "DIGEST_INVALID"),
        (".t", manifest(), "TAG_INVALID"),
    ],
)
def test_incomplete_manifest_is_refused(reference: str, body: bytes, code: str) -> None:
    """The repository has blob A and no manifest, so a manifest that names more is refused."""
    with pytest.raises(ManifestRefused) as refused:
        checked(body, reference, lambda digest: digest == A, lambda _: False)

    assert refused.value.code == code


def test_complete_manifest_is_accepted() -> None:
    """A subject may be pushed later, and a layer may have URLs."""
    body = manifest(config={"digest": A}, layers=[{"digest": B, "urls": ["https://x"]}], subject={"digest": B})

    for reference in ("t", "sha256:" + hashlib.sha256(body).hexdigest()):
        assert checked(body, reference, lambda digest: digest == A, lambda _: False)["subject"] == {"digest": B}


def test_referrers_without_artifact_type_use_type_of_config() -> None:
    """See "Listing Referrers" in the OCI distribution specification; manifests without subject are not listed."""
    listed = [
        ("sha256:1", "m", json.dumps({"subject": {"digest": A}, "config": {"mediaType": "c"}})),
        ("sha256:2", "m", json.dumps({"subject": {"digest": B}, "artifactType": "a"})),
        ("sha256:3", "m", json.dumps({"config": "x"})),
        ("sha256:4", "m", "no JSON"),
        ("sha256:6", "m", '{"subject": {"digest": "' + A + '"}, "annotations": ' + "[" * 100_000),
        ("sha256:5", "i", json.dumps({"subject": {"digest": A}, "artifactType": "a", "annotations": {"k": "v"}})),
    ]

    body, headers = referrers(listed, A, [])
    filtered, named = referrers(listed, A, ["a"])

    found = json.loads(body)["manifests"]
    assert [(d["digest"], d["artifactType"], d.get("annotations")) for d in found] == [
        ("sha256:1", "c", None),
        ("sha256:5", "a", {"k": "v"}),
    ]
    assert "OCI-Filters-Applied" not in headers
    assert [d["digest"] for d in json.loads(filtered)["manifests"]] == ["sha256:5"]
    assert named["OCI-Filters-Applied"] == "artifactType"
