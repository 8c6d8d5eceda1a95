"""The downtime of an address, measured with interruptions of known length."""

import http.server
import threading
import time

from supply_chain.execution.downtime import DowntimeMeter


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


def measured(outage: float) -> DowntimeMeter:
    """Measure a server that is healthy except for `outage` seconds in the middle."""
    with Server(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        with DowntimeMeter("127.0.0.1", server.server_port, "/") as meter:
            time.sleep(0.2)
            server.well = outage == 0
            time.sleep(outage)
            server.well = True
            time.sleep(0.2)
        server.shutdown()
        thread.join()
    return meter


def test_downtime_meter_measures_interruption():
    """The gap has the length of the interruption, and failures are counted."""
    meter = measured(0.4)

    assert 0.35 < meter.gap < 1
    assert meter.failed > 5
    assert meter.requests > meter.failed


def test_downtime_meter_reports_no_gap_without_interruption():
    """The gap is then about the time between two requests, not the whole time."""
    meter = measured(0)

    assert meter.failed == 0
    assert meter.requests > 1 and meter.gap < 0.4


def test_downtime_meter_counts_interruption_that_does_not_end():
    """If nothing answers at all, the gap is the whole time."""
    with DowntimeMeter("127.0.0.1", 1, "/") as meter:
        time.sleep(0.3)

    assert meter.gap > 0.25
    assert meter.failed == meter.requests > 0
