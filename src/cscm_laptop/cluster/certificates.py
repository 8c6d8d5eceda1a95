"""Keys and certificates of the cluster's components, and their kubeconfigs.

etcd has an authority of its own, so that no client of the API server is also a client of etcd. See Kubernetes' "PKI
certificates and requirements" for subjects and usages.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from cscm_laptop.cluster.place import NODE, Place
from cscm_laptop.cluster.settings import ClusterSettings
from cscm_laptop.ports import HOST
from supply_chain.scratch import write_private

AUTHORITY_LIFE = timedelta(days=3650)
LIFE = timedelta(days=365)
RENEWAL = timedelta(days=30)
"""A certificate that expires sooner is made again by the next `up`."""
CLUSTER, ETCD = "ca", "etcd-ca"
"""File names of the two authorities."""
CONTEXT = "cscm"
"""Name of the context in each kubeconfig."""


@dataclass(frozen=True)
class Leaf:
    """A certificate to make: its file name, subject and the authority that signs it.

    With `addresses`, it is for a server, else for a client.
    """

    file: str
    common_name: str
    organization: str = ""
    authority: str = CLUSTER
    addresses: tuple[str, ...] = ()

    @property
    def subject(self) -> x509.Name:
        """The certificate's subject."""
        parts = [(NameOID.ORGANIZATION_NAME, self.organization), (NameOID.COMMON_NAME, self.common_name)]
        return x509.Name([x509.NameAttribute(oid, value) for oid, value in parts if value])


def plan_leaves(settings: ClusterSettings) -> tuple[Leaf, ...]:
    """Return the certificates of the components; those with a kubeconfig are in `CLIENTS`."""
    node, service = settings.node_address, "kubernetes.default.svc"
    names = ("localhost", "kubernetes", "kubernetes.default", service, f"{service}.cluster.local")
    return (
        Leaf("apiserver", "kube-apiserver", addresses=(node, settings.api_address, HOST, *names)),
        Leaf("apiserver-kubelet", "kube-apiserver-kubelet-client", "system:masters"),
        Leaf("apiserver-etcd", "kube-apiserver-etcd-client", authority=ETCD),
        Leaf("etcd", "etcd", authority=ETCD, addresses=(HOST, "localhost")),
        Leaf("kubelet-server", NODE, addresses=(node, NODE)),
        Leaf("kubelet", f"system:node:{NODE}", "system:nodes"),
        Leaf("controllers", "system:kube-controller-manager"),
        Leaf("scheduler", "system:kube-scheduler"),
        Leaf("proxy", "system:kube-proxy"),
        Leaf("admin", "cscm-admin", "system:masters"),
    )


CLIENTS = ("kubelet", "controllers", "scheduler", "proxy", "admin")


def ensure_keys(place: Place, settings: ClusterSettings, now: datetime) -> None:
    """Make the keys, certificates and kubeconfigs that are missing, expire soon or do not fit the settings.

    Only this user can read the files.
    """
    for authority in (CLUSTER, ETCD):
        _ensure_authority(place.keys, authority, now)
    _ensure_token_key(place.keys)
    for leaf in plan_leaves(settings):
        if not _fits(place.keys / f"{leaf.file}.crt", leaf, now):
            _make_leaf(place.keys, leaf, now)
    server = f"https://{settings.node_address}:{settings.port('api')}"
    for client in CLIENTS:
        _write(place.keys / f"{client}.kubeconfig", render_kubeconfig(place.keys, client, server))


def render_kubeconfig(keys: Path, client: str, server: str) -> str:
    """Return a kubeconfig that contains the client's key and certificate and the authority's certificate."""
    user = {"client-certificate-data": _data(keys / f"{client}.crt"), "client-key-data": _data(keys / f"{client}.key")}
    cluster = {"server": server, "certificate-authority-data": _data(keys / f"{CLUSTER}.crt")}
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": CONTEXT, "cluster": cluster}],
        "users": [{"name": client, "user": user}],
        "contexts": [{"name": CONTEXT, "context": {"cluster": CONTEXT, "user": client}}],
        "current-context": CONTEXT,
    }
    return json.dumps(document, indent=2) + "\n"  # JSON is YAML


def _data(file: Path) -> str:
    return base64.b64encode(file.read_bytes()).decode("ascii")


def _write(file: Path, content: str | bytes) -> None:
    data = content.encode() if isinstance(content, str) else content
    if not file.exists() or file.read_bytes() != data:
        write_private(file, data)


def _ensure_authority(keys: Path, name: str, now: datetime) -> None:
    if (keys / f"{name}.crt").exists():
        return
    key = _new_key(keys / f"{name}.key")
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"cscm-{name}")])
    builder = _begin(subject, subject, key.public_key(), now, AUTHORITY_LIFE).add_extension(
        x509.BasicConstraints(ca=True, path_length=0), critical=True
    )
    builder = builder.add_extension(_usage(authority=True), critical=True)
    _write(keys / f"{name}.crt", builder.sign(key, SHA256()).public_bytes(Encoding.PEM))


def _ensure_token_key(keys: Path) -> None:
    """Make the key that signs the tokens of service accounts."""
    if not (keys / "tokens.pub").exists():
        public = _new_key(keys / "tokens.key").public_key()
        _write(keys / "tokens.pub", public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))


def _fits(file: Path, leaf: Leaf, now: datetime) -> bool:
    """Return whether a certificate is there, lasts long enough and is for the leaf's subject and addresses."""
    if not file.exists():
        return False
    certificate = x509.load_pem_x509_certificate(file.read_bytes())
    if certificate.public_key() != _load_key(file.with_suffix(".key")).public_key():
        return False  # an earlier `up` was killed between the key and its certificate
    if certificate.not_valid_after_utc < now + RENEWAL or certificate.subject != leaf.subject:
        return False
    if not leaf.addresses:
        return True
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return names == _alternative_names(leaf.addresses)


def _make_leaf(keys: Path, leaf: Leaf, now: datetime) -> None:
    issuer = x509.load_pem_x509_certificate((keys / f"{leaf.authority}.crt").read_bytes())
    signer = _load_key(keys / f"{leaf.authority}.key")
    key = _new_key(keys / f"{leaf.file}.key")
    usages = [ExtendedKeyUsageOID.SERVER_AUTH if leaf.addresses else ExtendedKeyUsageOID.CLIENT_AUTH]
    if leaf.authority == ETCD and leaf.addresses:
        usages.append(ExtendedKeyUsageOID.CLIENT_AUTH)  # etcd is also a client of itself
    builder = _begin(leaf.subject, issuer.subject, key.public_key(), now, LIFE)
    if leaf.addresses:
        builder = builder.add_extension(_alternative_names(leaf.addresses), critical=False)
    builder = (
        builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(authority=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
    )
    _write(keys / f"{leaf.file}.crt", builder.sign(signer, SHA256()).public_bytes(Encoding.PEM))


def _begin(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, now: datetime, life: timedelta
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + life)
    )


def _usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        key_encipherment=False,
        key_cert_sign=authority,
        crl_sign=authority,
        content_commitment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _alternative_names(addresses: Sequence[str]) -> x509.SubjectAlternativeName:
    return x509.SubjectAlternativeName([_alternative_name(each) for each in addresses])


def _alternative_name(address: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(address))
    except ValueError:
        return x509.DNSName(address)


def _load_key(file: Path) -> ec.EllipticCurvePrivateKey:
    key = load_pem_private_key(file.read_bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    return key


def _new_key(file: Path) -> ec.EllipticCurvePrivateKey:
    key = ec.generate_private_key(ec.SECP256R1())
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
    write_private(file, pem)
    return key
