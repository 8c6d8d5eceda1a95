"""The watch on an address, tested with interruptions of known length."""

import http.server
import threading
import time

from supply_chain.execution.watch import Watch


class Server(http.server.ThreadingHTTPServer):
    well = True


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        assert isinstance(self.server, Server)
        self.send_response(200 if self.server.well else 503)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


def watched(outage: float) -> Watch:
    """Watch a server that is healthy except for `outage` seconds in the middle."""
    with Server(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        with Watch("127.0.0.1", server.server_port, "/") as watch:
            time.sleep(0.2)
            server.well = outage == 0
            time.sleep(outage)
            server.well = True
            time.sleep(0.2)
        server.shutdown()
        thread.join()
    return watch


def test_watch_measures_interruption():
    """The gap has the length of the interruption, and failures are counted."""
    watch = watched(0.4)

    assert 0.35 < watch.gap < 1
    assert watch.failed > 5
    assert watch.requests > watch.failed


def test_watch_reports_no_gap_without_interruption():
    """The gap is then about the time between two requests, not the whole time."""
    watch = watched(0)

    assert watch.failed == 0
    assert watch.requests > 1 and watch.gap < 0.4


def test_watch_counts_interruption_that_does_not_end():
    """If nothing answers at all, the gap is the whole time."""
    with Watch("127.0.0.1", 1, "/") as watch:
        time.sleep(0.3)

    assert watch.gap > 0.25
    assert watch.failed == watch.requests > 0
