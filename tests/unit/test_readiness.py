"""The readiness check of a running application."""

import http.server
import threading
from types import SimpleNamespace
from typing import Any

import pytest

from supply_chain import readiness
from supply_chain.model.declaration import Probe
from supply_chain.readiness import check, probe_readiness
from tests.support.memory_engine import MemoryEngine


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
        assert probe_readiness("127.0.0.1", server.server_port, "/") == message
        thread.join()


def test_refused_connection_is_reported_as_reason(unused_port):
    """It does not raise an exception."""
    assert probe_readiness("127.0.0.1", unused_port, "/").startswith(f"no answer from port {unused_port}")


@pytest.mark.parametrize(
    ("states", "trouble", "runs"),
    [
        (["exited"], "it ended with status 3", False),
        (["running", "exited"], "it ended with status 3", False),
        (["running", "running"], "no answer from port", True),
    ],
    ids=str,
)
def test_container_that_ends_during_the_request_is_reported_as_ended(unused_port, states, trouble, runs):
    """Nobody answers at its address any more, and its end is the reason."""
    made = MemoryEngine().container("web").model_copy(update={"networks": {"n": "127.0.0.1"}, "exit_code": 3})
    looks = iter([made.model_copy(update={"status": status}) for status in states])
    engine: Any = SimpleNamespace(inspect=lambda _: next(looks))

    found, still = check(engine, made.id, "n", Probe(port=unused_port))

    assert found.startswith(trouble) and still is runs
    assert next(looks, None) is None, "each look counts"


@pytest.mark.parametrize(
    ("states", "trouble", "waits"),
    [(["paused", "running", "exited"], "it ended with status 3", 1), (["paused"] * 9, "it is paused", 2)],
    ids=["resumed", "paused"],
)
def test_paused_container_has_not_ended(monkeypatch, states, trouble, waits):
    """Somebody may let it go on, until its time to start is over."""
    made = MemoryEngine().container("web").model_copy(update={"networks": {"n": "127.0.0.1"}, "exit_code": 3})
    looks = iter([made.model_copy(update={"status": status}) for status in states])
    engine: Any = SimpleNamespace(inspect=lambda _: next(looks))
    clock, waited = iter(range(99)), list[float]()
    monkeypatch.setattr(readiness, "probe_readiness", lambda *_: "no answer")
    monkeypatch.setattr(readiness, "time", SimpleNamespace(monotonic=lambda: next(clock)))

    answer = readiness.wait_until_ready(engine, made.id, "n", Probe(port=8080, start_timeout=2), waited.append)

    assert (answer.ready, answer.says, len(waited)) == (False, trouble, waits)


def test_container_without_an_address_is_not_ready():
    """Its network gives it one soon."""
    engine = MemoryEngine()
    made = engine.container("web")
    engine.start(made.id)

    assert check(engine, made.id, "n", Probe(port=8080)) == ("it has no address on n", True)


@pytest.fixture
def unused_port() -> int:
    with http.server.HTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler) as server:
        return server.server_port
