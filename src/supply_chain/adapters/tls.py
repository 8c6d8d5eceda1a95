"""TLS of HTTP clients whose connections several threads open at once."""

from __future__ import annotations

import ssl
from collections.abc import Sequence


def share(context: ssl.SSLContext) -> ssl.SSLContext:
    """Let threads share a context of an HTTP client: set its protocol, HTTP/1.1, once and for all.

    httpcore sets the protocol again for each connection. That frees what a handshake in another thread reads
    (SSL_CTX_set_alpn_protos(3)), and the server answers such a handshake with "decode error".
    """

    def keep(protocols: Sequence[str]) -> None:
        assert list(protocols) == ["http/1.1"]

    context.set_alpn_protocols(["http/1.1"])
    context.set_alpn_protocols = keep  # type: ignore[method-assign, assignment]
    return context
