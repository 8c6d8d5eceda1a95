"""Tests of TLS contexts that threads share."""

import ssl

import pytest

from supply_chain.adapters.tls import share


def test_shared_context_is_not_changed_by_later_connections(monkeypatch):
    """httpcore sets the protocol for each connection, while another thread reads it."""
    changed = []
    monkeypatch.setattr(ssl.SSLContext, "set_alpn_protocols", lambda _, protocols: changed.append(protocols))

    context = share(ssl.create_default_context())
    context.set_alpn_protocols(["http/1.1"])

    assert changed == [["http/1.1"]]


def test_other_protocol_is_not_dropped_silently():
    """A client of HTTP/2 would be told another protocol than it asked for."""
    with pytest.raises(AssertionError):
        share(ssl.create_default_context()).set_alpn_protocols(["http/1.1", "h2"])
