"""An admission webhook of somebody else: a server with TLS that refuses everything it is asked about."""

from __future__ import annotations

import base64
import ipaddress
import json
import ssl
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from supply_chain.adapters.kubernetes.client import ClusterClient
from supply_chain.errors import ClusterRefused, ClusterUnavailable
from supply_chain.execution.kubernetes.cluster import Kind
from tests.support.waiting import eventually

WEBHOOKS = Kind(
    "admissionregistration.k8s.io/v1", "ValidatingWebhookConfiguration", "validatingwebhookconfigurations",
    namespaced=False,
)  # fmt: skip
HOST = "127.0.0.1"
MESSAGE = "ask the platform team"


class _Refuse(BaseHTTPRequestHandler):
    """Answers each review with a refusal."""

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing."""

    def do_POST(self) -> None:
        review = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        response = {"uid": review["request"]["uid"], "allowed": False, "status": {"code": 403, "message": MESSAGE}}
        content = json.dumps({**review, "request": None, "response": response}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


@contextmanager
def refused(
    cluster: ClusterClient,
    namespace: str,
    kind: Kind,
    example: Mapping[str, Any],
    directory: Path,
    answers: bool = True,
) -> Iterator[None]:
    """Let a webhook refuse every new or changed object of a kind in a namespace, such as the example.

    If it does not answer, the API server itself fails each request.
    """

    def is_followed() -> bool:
        try:
            cluster.create(kind, example, dry_run=True)
        except (ClusterRefused, ClusterUnavailable) as error:
            return "policy.example.com" in str(error)
        return False

    certificate = _certificate(directory)
    server = ThreadingHTTPServer((HOST, 0), _Refuse)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    name = f"webhook-of-{namespace}"
    port = server.server_address[1]
    cluster.apply(WEBHOOKS, _configuration(name, namespace, kind, f"https://{HOST}:{port}/", _authority(certificate)))
    try:
        if not answers:
            server.shutdown()
            server.server_close()
        eventually(is_followed)
        yield
    finally:
        cluster.delete(WEBHOOKS, name)
        server.shutdown()
        server.server_close()


def _configuration(name: str, namespace: str, kind: Kind, url: str, authority: bytes) -> Mapping[str, Any]:
    group, _, version = kind.api_version.rpartition("/")
    rule = {
        "apiGroups": [group], "apiVersions": [version], "resources": [kind.plural], "operations": ["CREATE", "UPDATE"],
    }  # fmt: skip
    webhook = {
        "name": "policy.example.com",
        "clientConfig": {"url": url, "caBundle": base64.b64encode(authority).decode()},
        "rules": [rule],
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
        "sideEffects": "None",
        "admissionReviewVersions": ["v1"],
        "failurePolicy": "Fail",
        "timeoutSeconds": 5,
    }
    return {
        "apiVersion": WEBHOOKS.api_version, "kind": WEBHOOKS.name, "metadata": {"name": name}, "webhooks": [webhook],
    }  # fmt: skip


def _authority(file: Path) -> bytes:
    """Return the certificate of a file without its key."""
    content = file.read_bytes()
    return content[content.index(b"-----BEGIN CERTIFICATE") :]


def _certificate(directory: Path) -> Path:
    """Write a key and a certificate for the host, which is its own authority."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "webhook")])
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(HOST))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = directory / "webhook.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(private + made.public_bytes(serialization.Encoding.PEM))
    return path
