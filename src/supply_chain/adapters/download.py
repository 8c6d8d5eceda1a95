"""Downloads from package indexes and archives, within limits of size and time."""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from tempfile import gettempdir
from typing import IO

import httpx

from supply_chain.adapters.files.free_space import require_space
from supply_chain.adapters.process.cancellation import get_current_cancellation, sleep
from supply_chain.adapters.tls import share
from supply_chain.errors import PackageIndexFailed, PackageIndexUnavailable

MISSING = (404, 410, 416)
"""Statuses of an answer without what was asked for; 416 is about a part of a file (RFC 9110)."""
LONGEST = 600.0
"""Maximum seconds of a download."""
LARGEST_FILE = 2 * 1024**3
PAUSES = (0.5, 2.0)
"""Seconds before each further attempt."""


@dataclass(frozen=True)
class Downloader:
    """Client of package indexes or archives, which repeats a request where that can help.

    `packages` are what is compared with their files, such as `Python packages`, and `setting` is the workbench's field
    with their addresses; both are for messages.
    """

    packages: str
    setting: str
    ca_bundle: Path | None = None
    transport: httpx.BaseTransport | None = field(default=None, compare=False)
    wait: Callable[[float], object] = field(default=sleep, compare=False)

    def fetch(self, url: str, headers: Mapping[str, str], target: IO[bytes], most: int) -> httpx.Response | None:
        """Write an answer's body to its place in `target`, and return the answer.

        Returns None if the server does not have what is asked for. Raises `PackageIndexUnavailable` if it does not
        answer, and `PackageIndexFailed` if its answer cannot be used or has more than `most` bytes.
        """
        why = ""
        for pause in (*PAUSES, None):
            target.seek(0)
            target.truncate()
            try:
                with self._client.stream("GET", url, headers=dict(headers)) as answer:
                    if answer.status_code in MISSING:
                        return None
                    if url.startswith("https:") and answer.url.scheme != "https":
                        raise self.make_answer_error(url, f"it leads to {answer.url.scheme}, without TLS")
                    if answer.is_success:
                        self._write_body(answer, target, url, most)
                        target.flush()
                        return answer
                    why = f"it answers {answer.status_code}"
                    if answer.status_code < 500 and answer.status_code != 429:
                        raise self.make_answer_error(url, why)
            except httpx.InvalidURL as error:
                raise self.make_answer_error(url, str(error)) from error
            except httpx.HTTPError as error:
                why = str(error) or type(error).__name__
            if pause is not None:
                self.wait(pause)
        raise PackageIndexUnavailable(self._message(url, why, "that this machine reaches them"))

    def make_answer_error(self, url: str, why: str) -> PackageIndexFailed:
        """Return the error for an answer that cannot be used."""
        return PackageIndexFailed(self._message(url, why, "who runs it"))

    def _message(self, url: str, why: str, ask: str) -> str:
        return (
            f"{url} cannot be read: {why}\n"
            f"The {self.packages} of an image are compared with it. Check `{self.setting}` in the workbench's block, "
            f"and {ask}."
        )

    @cached_property
    def _client(self) -> httpx.Client:
        if self.transport is not None:
            return httpx.Client(transport=self.transport, follow_redirects=True)
        context = share(ssl.create_default_context(cafile=self.ca_bundle))
        return httpx.Client(verify=context, follow_redirects=True, timeout=30.0)

    def _write_body(self, answer: httpx.Response, target: IO[bytes], url: str, most: int) -> None:
        """Write the body of an answer to its place in `target`; raise `PackageIndexFailed` beyond `most` bytes."""
        scope, until = get_current_cancellation(), time.monotonic() + LONGEST
        target.seek(self._parse_range(answer) if answer.status_code == 206 else 0)
        size = 0
        for chunk in answer.iter_bytes():
            size += len(chunk)
            if size > most:
                raise self.make_answer_error(url, f"it has more than {most} bytes")
            if time.monotonic() > until:
                raise self.make_answer_error(url, f"it takes more than {LONGEST:.0f} seconds")
            if scope.cancelled:
                scope.wait(0)
            require_space(Path(gettempdir()), f"{url} is not downloaded")
            target.write(chunk)

    def _parse_range(self, answer: httpx.Response) -> int:
        """Return the first byte of a partial answer (RFC 9110, "Content-Range")."""
        unit, _, given = answer.headers.get("content-range", "").partition(" ")
        start = given.partition("-")[0]
        if unit != "bytes" or not start.isdecimal() or int(start) > LARGEST_FILE:
            raise self.make_answer_error(str(answer.url), "it answers with a part, and does not say which")
        return int(start)
