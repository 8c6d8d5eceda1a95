"""Prefect's test server, and separate machines as its clients."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import IO, Any

import pytest


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory of this test run that all pytest workers share."""
    base = tmp_path_factory.getbasetemp()
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


@pytest.fixture(scope="session")
def at_work(shared: Path) -> Iterator[IO[str]]:
    """A file that each worker locks once it needs the server, until it ends; then another can lock it exclusively."""
    with (shared / "at-work").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        yield file


@pytest.fixture(scope="session")
def prefect_server(shared: Path, at_work: IO[str]) -> Iterator[str]:
    """The address of Prefect's test server, which the first worker that needs it starts and finally ends."""
    from prefect.events.worker import EventsWorker  # noqa: PLC0415 - most tests need none of it
    from prefect.settings import get_current_settings, temporary_settings  # noqa: PLC0415
    from prefect.testing.utilities import prefect_test_harness  # noqa: PLC0415

    with (shared / "prefect").open("a+") as file, contextlib.ExitStack() as started:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        address = file.read()
        if not address:
            started.enter_context(temporary_settings(quiet(shared / "prefect-server")))
            started.enter_context(prefect_test_harness(server_startup_timeout=600))
            started.callback(os.truncate, file.name, 0)  # a worker that needs one now starts another
            started.callback(fcntl.flock, at_work, fcntl.LOCK_EX)
            address = str(get_current_settings().api.url)
            print(address, end="", file=file, flush=True)
        fcntl.flock(file, fcntl.LOCK_UN)
        yield address
        EventsWorker.drain_all()  # while the server still runs


def quiet(home: Path) -> dict[Any, Any]:
    """Return Prefect's settings for a separate machine without logging to the API and analytics."""
    from prefect.settings import (  # noqa: PLC0415
        PREFECT_HOME,
        PREFECT_LOGGING_TO_API_ENABLED,
        PREFECT_SERVER_ANALYTICS_ENABLED,
    )

    return {PREFECT_HOME: home, PREFECT_LOGGING_TO_API_ENABLED: False, PREFECT_SERVER_ANALYTICS_ENABLED: False}


@pytest.fixture
def machine(prefect_server: str, tmp_path: Path) -> Iterator[Callable[[str], AbstractContextManager[Any]]]:
    """Make the test a client of Prefect's server, and return a function that switches to another machine."""
    from prefect.settings import PREFECT_API_URL, temporary_settings  # noqa: PLC0415

    def named(name: str) -> AbstractContextManager[Any]:
        return temporary_settings({**quiet(tmp_path / name), PREFECT_API_URL: prefect_server})

    with named("this"):
        yield named
