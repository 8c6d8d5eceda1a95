"""Tests of the cluster's keys, certificates and kubeconfigs."""

from __future__ import annotations

import base64
import json
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from cscm_laptop.cluster.certificates import AUTHORITY_LIFE, CLIENTS, LIFE, ensure_keys, plan_leaves
from cscm_laptop.cluster.place import Place
from cscm_laptop.cluster.settings import ClusterSettings

NOW = datetime(2026, 3, 1, tzinfo=UTC)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    found = Place(tmp_path / "cluster", "0a1b2c")
    ensure_keys(found, ClusterSettings(), NOW)
    return found


def certificate(place: Place, name: str) -> x509.Certificate:
    return x509.load_pem_x509_certificate((place.keys / f"{name}.crt").read_bytes())


def test_leaf_certificates_are_signed_by_their_authority(place: Place) -> None:
    authorities = {name: certificate(place, name) for name in ("ca", "etcd-ca")}

    for leaf in plan_leaves(ClusterSettings()):
        certificate(place, leaf.file).verify_directly_issued_by(authorities[leaf.authority])

    with pytest.raises(ValueError, match="does not match"):
        certificate(place, "admin").verify_directly_issued_by(authorities["etcd-ca"])


def test_only_owner_reads_keys_and_kubeconfigs(place: Place) -> None:
    modes = {file.name: file.stat().st_mode & 0o777 for file in place.keys.iterdir()}

    assert "admin.kubeconfig" in modes and set(modes.values()) == {0o600}


def test_kubeconfig_contains_all_it_needs(place: Place, tmp_path: Path) -> None:
    document = json.loads(place.kubeconfig.read_text())
    user = document["users"][0]["user"]
    pair = tmp_path / "pair.pem"
    pair.write_bytes(base64.b64decode(user["client-key-data"]) + base64.b64decode(user["client-certificate-data"]))

    ssl.create_default_context().load_cert_chain(pair)

    assert document["clusters"][0]["cluster"]["server"] == "https://10.244.99.1:6443"
    assert {f"{client}.kubeconfig" for client in CLIENTS} < {file.name for file in place.keys.iterdir()}


def test_certificates_stay_until_they_expire_soon(place: Place) -> None:
    before = certificate(place, "admin").serial_number, certificate(place, "ca").serial_number

    ensure_keys(place, ClusterSettings(), NOW + timedelta(days=300))
    unchanged = certificate(place, "admin").serial_number, certificate(place, "ca").serial_number
    ensure_keys(place, ClusterSettings(), NOW + LIFE - timedelta(days=10))

    assert unchanged == before
    assert certificate(place, "admin").serial_number != before[0]
    assert certificate(place, "ca").serial_number == before[1]
    assert certificate(place, "ca").not_valid_after_utc == NOW + AUTHORITY_LIFE


def test_server_certificate_is_remade_for_another_address(place: Place) -> None:
    before = certificate(place, "scheduler").serial_number

    ensure_keys(place, ClusterSettings.model_validate({"pods": "10.9.0.0/24"}), NOW)

    names = certificate(place, "apiserver").extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert "10.9.0.1" in map(str, names.get_values_for_type(x509.IPAddress))
    assert "10.9.0.1" in place.kubeconfig.read_text()
    assert certificate(place, "scheduler").serial_number == before


def test_certificate_without_its_key_is_remade(place: Place) -> None:
    """An `up` that was killed leaves a new key beside the old certificate."""
    (place.keys / "admin.key").write_bytes((place.keys / "proxy.key").read_bytes())

    ensure_keys(place, ClusterSettings(), NOW)

    context = ssl.create_default_context()
    context.load_cert_chain(place.keys / "admin.crt", place.keys / "admin.key")
