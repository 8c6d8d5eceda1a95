"""The signing service on loopback, as cosign asks it: Fulcio's API for certificates and Rekor's for entries."""

from __future__ import annotations

import base64
import contextlib
import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_public_key
from cryptography.x509 import load_pem_x509_certificate

from tests.support.signing_service import ISSUER, SigningService, b64, dsse_entry


def id_token(subject: str, issuer: str = ISSUER) -> str:
    """Return what an OpenID Connect provider gives a person who has logged in; the service believes it."""
    claims = {"iss": issuer, "sub": subject, "email": subject, "email_verified": True, "aud": "sigstore",
              "exp": int(datetime.now(UTC).timestamp()) + 600}  # fmt: skip
    parts = (json.dumps({"alg": "ES256"}).encode(), json.dumps(claims).encode(), b"signature" * 7)
    return ".".join(base64.urlsafe_b64encode(each).decode().rstrip("=") for each in parts)


def _claims(token: str) -> dict[str, str]:
    middle = token.split(".")[1]
    claims: dict[str, str] = json.loads(base64.urlsafe_b64decode(middle + "=" * (-len(middle) % 4)))
    return claims


def certify(service: SigningService, token: str, asked: dict[str, Any]) -> dict[str, Any]:
    """Return a certificate of the key in a request, for the identity in a token (Fulcio, /api/v2/signingCert)."""
    public = load_pem_public_key(asked["publicKeyRequest"]["publicKey"]["content"].encode())
    assert isinstance(public, ec.EllipticCurvePublicKey)
    claims = _claims(token)
    issued = service.issue(public, claims["email"], claims["iss"])
    chain = [each.public_bytes(Encoding.PEM).decode() for each in (issued, service.authority)]
    return {"signedCertificateEmbeddedSct": {"chain": {"certificates": chain}}}


def enter(service: SigningService, asked: dict[str, Any]) -> dict[str, Any]:
    """Return the entry about an envelope (Rekor, /api/v1/log/entries)."""
    proposed = asked["spec"]["proposedContent"]
    envelope = json.loads(proposed["envelope"])
    certificate = load_pem_x509_certificate(base64.b64decode(proposed["verifiers"][0]))
    signature = base64.b64decode(envelope["signatures"][0]["sig"])
    payload = base64.b64decode(envelope["payload"])
    body = dsse_entry(proposed["envelope"].encode(), payload, signature, certificate)
    made = service.record(body, datetime.now(UTC))
    proof = made["inclusionProof"]
    return {
        "a" * 64: {
            "body": b64(body),
            "integratedTime": int(made["integratedTime"]),
            "logID": service.entries.id.hex(),
            "logIndex": 1,
            "verification": {
                "signedEntryTimestamp": made["inclusionPromise"]["signedEntryTimestamp"],
                "inclusionProof": {
                    "checkpoint": proof["checkpoint"]["envelope"], "logIndex": 1, "treeSize": 2,
                    "rootHash": base64.b64decode(proof["rootHash"]).hex(),
                    "hashes": [base64.b64decode(each).hex() for each in proof["hashes"]],
                },
            },
        }
    }  # fmt: skip


@contextlib.contextmanager
def serve(service: SigningService) -> Iterator[str]:
    """Yield the address at which the service answers."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            token = self.headers.get("Authorization", "").removeprefix("Bearer ")
            certificate = self.path == "/api/v2/signingCert"
            found = certify(service, token, asked) if certificate else enter(service, asked)
            answer = json.dumps(found).encode()
            self.send_response(200 if certificate else 201)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(answer)))
            self.send_header("ETag", next(iter(found)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def write_service(directory: Path, service: SigningService, address: str) -> None:
    """Write the files with which people sign and gates verify."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "trusted_root.json").write_bytes(service.trusted_root())
    each = {"url": address, "majorApiVersion": 1, "validFor": {"start": "2020-01-01T00:00:00Z"}, "operator": "example"}
    config = {
        "mediaType": "application/vnd.dev.sigstore.signingconfig.v0.2+json",
        "caUrls": [each],
        "rekorTlogUrls": [each],
        "rekorTlogConfig": {"selector": "ANY"},
        "tsaConfig": {},
    }
    (directory / "signing_config.json").write_text(json.dumps(config))
