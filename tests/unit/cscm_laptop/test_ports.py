"""Who listens where, and plain HTTP to it."""

import http.server
import os
import socket
import threading

import pytest

from cscm_laptop.ports import answers, asked, is_listening, listener, request
from supply_chain.errors import PartFailed


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if self.headers.get("authorization") != "Basic Y3NjbTpzZWNyZXQ=":  # cscm:secret
            self.send_error(401)
            return
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b'{"ok": true}')

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    made = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=made.serve_forever, args=(0.01,), daemon=True).start()
    yield made.server_address[1]
    made.shutdown()
    made.server_close()


@pytest.fixture
def free():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_a_listener_is_found_and_named(server, free):
    """By its pid, so that a person can look at it."""
    assert is_listening(server)
    assert f"(pid {os.getpid()})" in listener(server)
    assert not is_listening(free)
    assert listener(free) is None


def test_a_request_carries_the_login_and_no_proxy(server, monkeypatch):
    """Loopback is never reached through the proxy of the environment."""
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")

    assert request("GET", server, "/", auth="cscm:secret") == (200, {"ok": True})
    assert answers(server, "/", auth="cscm:secret")
    assert not answers(server, "/")


def test_a_refusal_and_silence_are_errors_with_a_remedy(server, free):
    """Neither is taken for an empty answer."""
    with pytest.raises(PartFailed, match="status 401"):
        asked("GET", server, "/")
    with pytest.raises(PartFailed, match="cscm status"):
        asked("GET", free, "/")
