"""Listeners on ports, and plain HTTP requests to them."""

import http.server
import os
import socket
import threading

import pytest

from cscm_laptop.ports import answers, find_listener, is_listening, request, request_json
from supply_chain.errors import ComponentFailed
from tests.support.present import present


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


def test_listener_is_found_with_its_pid(server, free):
    """The PID lets a person inspect the process."""
    assert is_listening(server)
    assert f"(pid {os.getpid()})" in present(find_listener(server))
    assert not is_listening(free)
    assert find_listener(free) is None


def test_request_sends_login_and_uses_no_proxy(server, monkeypatch):
    """Loopback is never reached through the proxy of the environment."""
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")

    assert request("GET", server, "/", auth="cscm:secret") == (200, {"ok": True})
    assert answers(server, "/", auth="cscm:secret")
    assert not answers(server, "/")


def test_refused_or_unanswered_request_is_error_with_remedy(server, free):
    """Neither counts as an empty response."""
    with pytest.raises(ComponentFailed, match="status 401"):
        request_json("GET", server, "/")
    with pytest.raises(ComponentFailed, match="cscm status"):
        request_json("GET", free, "/")
