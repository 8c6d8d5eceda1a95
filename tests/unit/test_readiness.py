"""The readiness check of a running application."""

import http.server
import threading

import pytest

from supply_chain.readiness import trouble_at


@pytest.mark.parametrize(
    ("status", "message"), [(204, ""), (302, "/ is answered with 302"), (503, "/ is answered with 503")]
)
def test_only_success_status_is_ready(status, message):
    """2xx is ready; a redirect or an error is not."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_):
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        assert trouble_at("127.0.0.1", server.server_port, "/") == message
        thread.join()


def test_refused_connection_is_reported_as_reason(unused_port):
    """It does not raise an exception."""
    assert trouble_at("127.0.0.1", unused_port, "/").startswith(f"no answer from port {unused_port}")


@pytest.fixture
def unused_port() -> int:
    with http.server.HTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler) as server:
        return server.server_port
