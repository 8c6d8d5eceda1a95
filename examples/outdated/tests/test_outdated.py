"""What people may rely on."""

import threading
import unittest
from http.server import ThreadingHTTPServer
from urllib.request import urlopen

from outdated.__main__ import Page


class Pages(unittest.TestCase):
    def test_says_that_it_is_ready(self) -> None:
        """The probe asks this path."""
        with ThreadingHTTPServer(("127.0.0.1", 0), Page) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            with urlopen(f"http://127.0.0.1:{server.server_port}/healthz") as answer:  # nosec B310
                body = answer.read()
            server.shutdown()

        self.assertEqual(body, b"ok\n")
