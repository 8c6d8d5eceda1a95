"""Run the service: logs to stdout, ends with status 0 on SIGTERM."""

from __future__ import annotations

import logging
import os
import signal
import sys

import uvicorn

from hello.service import make_service


def main() -> None:
    """Serve until asked to stop."""
    logging.basicConfig(stream=sys.stdout, level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    # uvicorn finishes the requests under way, then hands the signal on to whoever handled it before.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    uvicorn.run(
        make_service(os.environ.get("GREETING", "Hello")),
        host=os.environ.get("HOST", "127.0.0.1"),
        port=int(os.environ.get("PORT", "8080")),
        log_config=None,
        timeout_graceful_shutdown=3,
    )


if __name__ == "__main__":
    main()
