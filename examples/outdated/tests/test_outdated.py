"""What people may rely on."""

import http.client
import threading
import unittest
from http.server import ThreadingHTTPServer

from outdated.__main__ import Page


class Pages(unittest.TestCase):
    def test_readiness_path_returns_ok(self) -> None:
        """The probe asks this path."""
        with ThreadingHTTPServer(("127.0.0.1", 0), Page) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            connection = http.client.HTTPConnection("127.0.0.1", server.server_port)
            connection.request("GET", "/healthz")
            body = connection.getresponse().read()
            server.shutdown()

        self.assertEqual(body, b"ok\n")
