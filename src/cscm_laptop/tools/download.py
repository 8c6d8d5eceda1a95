"""Downloads and verifies files, and continues where an earlier attempt was interrupted."""

from __future__ import annotations

import hashlib
import os
import tarfile
import time
from collections.abc import Callable
from pathlib import Path

import httpx

from supply_chain.adapters.process.cancellation import get_current_cancellation, sleep
from supply_chain.errors import Cancelled, DownloadFailed

Progress = Callable[[str], None]

TIMEOUT = httpx.Timeout(30.0, connect=10.0)
ATTEMPTS = 3
PAUSE = 0.5
"""Seconds before the next attempt."""

REPORT_EVERY = 2.0
"""Seconds between two lines of progress."""


class Unavailable(Exception):
    """The file cannot be downloaded from this address: no network, or no such file."""


class _NotOurPart(httpx.ReadError):
    """The part that was downloaded earlier does not belong to the server's file. The part was deleted."""


def make_client() -> httpx.Client:
    """Return a client that follows redirects and times out when a server is silent."""
    return httpx.Client(follow_redirects=True, timeout=TIMEOUT)


def fetch_text(http: httpx.Client, url: str) -> str:
    """Download a small text; raise `Unavailable` if that fails."""
    try:
        response = http.get(url)
        response.raise_for_status()
    except httpx.HTTPError as error:
        raise Unavailable(f"{url}: {_why(error)}") from error
    return response.text


def find_checksum(name: str, checksums: str) -> str:
    """Return the SHA-256 of `name` in a checksum file (`<hex>  <name>` per line); raise `Unavailable` without one."""
    for line in checksums.splitlines():
        digest, _, file = line.strip().partition(" ")
        if file.strip().removeprefix("*") == name and len(digest) == 64:
            return digest.lower()
    raise Unavailable(f"the release's checksum file does not list {name}")


def fetch_file(http: httpx.Client, url: str, target: Path, sha256: str, progress: Progress) -> None:
    """Download the complete file to `target`, with the right checksum.

    An incomplete download stays in `<target>.part` for the next call. Raises `Unavailable` if nothing can be
    downloaded, and `DownloadFailed` if the connection breaks repeatedly or the checksum is wrong. A file with a wrong
    checksum is deleted.
    """
    part = target.with_name(target.name + ".part")
    for attempt in range(1, ATTEMPTS + 1):
        try:
            _download_part(http, url, part, progress)
            break
        except httpx.HTTPStatusError as error:
            raise Unavailable(f"{url}: {_why(error)}") from error
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.ProxyError) as error:
            raise Unavailable(f"{url}: {_why(error)}") from error
        except httpx.HTTPError as error:
            if not _size(part) and not isinstance(error, _NotOurPart):
                raise Unavailable(f"{url}: {_why(error)}") from error
            if attempt == ATTEMPTS:
                raise DownloadFailed(
                    f"{url} broke off after {_size(part)} bytes: {_why(error)}\nRun again; it continues from there."
                ) from error
            progress(f"broke off after {_size(part)} bytes, continuing")
            sleep(PAUSE)
    check(part, sha256, url)
    _validator_file(part).unlink(missing_ok=True)
    part.replace(target)


def check(file: Path, sha256: str, origin: str) -> None:
    """Compare a file with its checksum; delete a file that differs and raise `DownloadFailed`."""
    with file.open("rb") as content:
        actual = hashlib.file_digest(content, "sha256").hexdigest()
    if actual != sha256:
        file.unlink()
        _validator_file(file).unlink(missing_ok=True)
        raise make_checksum_error(origin, sha256, actual)


def make_checksum_error(origin: str, expected: str, actual: str) -> DownloadFailed:
    """Return the error for a file with a wrong checksum."""
    return DownloadFailed(
        f"{origin} has the SHA-256 {actual}, where {expected} was expected.\n"
        "It was damaged or tampered with. Run again; if it stays so, do not use it and tell its project."
    )


def unpack(archive: Path, member: str, target: Path) -> None:
    """Write the first regular file of that name in a tar.gz to `target`; raise `DownloadFailed` if there is none."""
    with tarfile.open(archive, "r:gz") as tar:
        for entry in tar:
            if entry.isfile() and Path(entry.name).name == member:
                content = tar.extractfile(entry)
                assert content is not None
                with target.open("wb") as file:
                    while block := content.read(1 << 20):
                        file.write(block)
                return
    raise DownloadFailed(f"{archive.name} holds no {member}.\nCorrect its entry in the pin file.")


def sync(path: Path) -> None:
    """Flush the content of a file or directory to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _download_part(http: httpx.Client, url: str, part: Path, progress: Progress) -> None:
    """Make one attempt: continue after the part if the server has the same file, else start again."""
    have, validator = _size(part), _validator_file(part)
    headers = {"Accept-Encoding": "identity"}
    if have and validator.exists():
        headers |= {"Range": f"bytes={have}-", "If-Range": validator.read_text(encoding="utf-8")}
    with http.stream("GET", url, headers=headers) as response:
        if response.status_code == 416:  # the part is at least as long as the file, so it is of another file
            part.unlink()
            raise _NotOurPart("the part does not belong to the file")
        response.raise_for_status()
        resumed = response.status_code == 206 and response.headers.get("Content-Range", "").startswith(f"bytes {have}-")
        if response.status_code == 206 and not resumed:
            part.unlink()
            raise _NotOurPart("the server sent another part than was asked for")
        _store_validator(response, validator)
        _write(response, part, have if resumed else 0, progress)


def _write(response: httpx.Response, part: Path, start: int, progress: Progress) -> None:
    length = int(response.headers["Content-Length"]) if "Content-Length" in response.headers else None
    total = start + length if length is not None else None
    scope, reported = get_current_cancellation(), time.monotonic()
    with part.open("ab" if start else "wb") as file:
        for block in response.iter_raw():
            file.write(block)
            if scope.cancelled:
                raise Cancelled("The download was ended because the run was cancelled.")
            if time.monotonic() - reported > REPORT_EVERY:
                reported = time.monotonic()
                progress(_format_progress(file.tell(), total))
        file.flush()
        os.fsync(file.fileno())
    if total is not None and _size(part) != total:
        raise httpx.ReadError(f"{_size(part)} bytes came of {total}")


def _store_validator(response: httpx.Response, validator: Path) -> None:
    """Store the validator of this version of the file, so that only the rest of this version is appended later.

    See RFC 9110, 13.1.5.
    """
    tag = response.headers.get("ETag", "")
    mark = tag if tag.startswith('"') else response.headers.get("Last-Modified", "")
    if mark:
        validator.write_text(mark, encoding="utf-8")
    else:
        validator.unlink(missing_ok=True)


def _validator_file(part: Path) -> Path:
    return part.with_name(part.name + ".validator")


def _size(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0


def _format_progress(have: int, total: int | None) -> str:
    if total:
        return f"{100 * have // total}% of {total / 1e6:.0f} MB"
    return f"{have / 1e6:.0f} MB"


def _why(error: httpx.HTTPError) -> str:
    if isinstance(error, httpx.HTTPStatusError):
        return f"the server answered {error.response.status_code}"
    return str(error) or type(error).__name__
