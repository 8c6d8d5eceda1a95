"""Sends HTTP requests to a registry, repeats them where that can help, and returns answers or raises errors."""

from __future__ import annotations

import logging
import ssl
import time
from collections.abc import Callable, Container, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from functools import cache, cached_property

import httpx

from supply_chain.adapters.process.cancellation import sleep
from supply_chain.adapters.tls import share
from supply_chain.errors import AccessDenied, ImageNotFound, RegistryFailed, RegistryUnavailable
from supply_chain.text import sanitize_text

MOST = 1024 * 1024
"""Maximum bytes of an answer, unless the caller gives another limit."""
CHUNK = 1024 * 1024
TRIES = 4
"""Maximum number of attempts when a registry asks to come back later or a connection breaks."""
READING = ("GET", "HEAD")
BROKEN = (httpx.ReadError, httpx.WriteError, httpx.RemoteProtocolError)
"""Errors of a broken connection. Either the registry closed it while it was idle, or httpx's pool closed it right after
a thread had received it: the pool checks for idle connections and closes them without a lock (httpcore 1.0).
"""
LONGEST_WAIT = 30.0
"""Maximum seconds that a registry may ask to wait; if it asks for more, the request fails."""
EXPIRED = "authorization token has expired"
"""ECR's message, with status 403, for a token that has expired."""
log = logging.getLogger("supply_chain.registry")


@cache
def _authorities() -> ssl.SSLContext:
    """Return the trusted certificate authorities, read once: reading them takes longer than a request."""
    return share(httpx.create_ssl_context())


@dataclass(frozen=True)
class RegistryHttp:
    """HTTP access to a registry with one role's credentials.

    `credentials` returns user and password. `renew` is called when they have expired, so that the next ones are new.
    `wait` waits for a number of seconds.
    """

    host: str
    credentials: Callable[[], tuple[str, str]]
    insecure: bool = False
    timeout: float = 30.0
    transport: httpx.BaseTransport | None = field(default=None, compare=False)
    renew: Callable[[], object] = field(default=lambda: None, compare=False)
    wait: Callable[[float], object] = field(default=sleep, compare=False)

    @cached_property
    def _client(self) -> httpx.Client:
        return httpx.Client(
            base_url=f"{'http' if self.insecure else 'https'}://{self.host}/v2/",
            timeout=self.timeout,
            transport=self.transport or httpx.HTTPTransport(verify=_authorities(), retries=2),
            follow_redirects=True,
        )

    def call(
        self,
        method: str,
        path: str,
        *,
        accept: str | None = None,
        content: bytes | None = None,
        media_type: str | None = None,
        missing: str | None = None,
        most: int = MOST,
    ) -> Answer:
        """Return the answer to a request, with a body of at most `most` bytes.

        A 404 is returned too if its body contains `missing`; any other failure raises an error. GET and HEAD are
        repeated when the connection breaks.
        """
        headers = {key: value for key, value in {"Accept": accept, "Content-Type": media_type}.items() if value}
        for attempt in range(TRIES):
            try:
                with self._request(method, path, headers, content) as (answer, message):
                    if answer.status_code < 300:
                        return Answer(answer, b"" if method == "HEAD" else _read_body(answer, most, path))
            except RegistryUnavailable as error:
                if method not in READING or attempt + 1 == TRIES or not isinstance(error.__cause__, BROKEN):
                    raise
                log.info("%s %s is asked for again: %s", method, path, sanitize_text(str(error.__cause__)))
            else:
                break
        if answer.status_code == 404 and missing is not None and missing in message:
            return Answer(answer, message.encode())
        raise _status_error(answer, message, f"{method} {path}")

    @contextmanager
    def _request(
        self, method: str, path: str, headers: Mapping[str, str] | None = None, content: bytes | None = None
    ) -> Iterator[tuple[httpx.Response, str]]:
        """Yield an answer whose body is not read yet and not compressed, and the beginning of a failure's body.

        A registry that asks to come back later is asked again after the time it names: at most `TRIES` times, and
        `LONGEST_WAIT` seconds each. If the token has expired, a new one is requested once.
        """
        headers = {"Accept-Encoding": "identity", **(headers or {})}
        renewed = False
        try:
            with ExitStack() as stack:
                for attempt in range(TRIES):
                    response = self._client.stream(
                        method, path, headers=headers, content=content, auth=self.credentials()
                    )
                    answer = stack.enter_context(response)
                    message = _beginning(answer) if answer.status_code >= 300 else ""
                    expired = not renewed and (answer.status_code == 401 or EXPIRED in message.lower())
                    seconds = 0.0 if expired else _retry_delay(answer, method, attempt)
                    if seconds is None or attempt + 1 == TRIES:
                        break
                    stack.close()
                    self._wait_before_retry(f"{method} {path}", answer.status_code, message, seconds)
                    if expired:
                        self.renew()
                        renewed = True
                yield answer, message
        except httpx.HTTPError as error:
            raise _unavailable_error(self.host, error) from error

    def _wait_before_retry(self, what: str, status: int, message: str, seconds: float) -> None:
        log.info(
            "the registry answered %d (%s): %s; retried in %.1f s", status, what, sanitize_text(message[:200]), seconds
        )
        if seconds:
            self.wait(seconds)

    def chunks(self, path: str, what: str) -> Iterator[bytes]:
        """Yield the content at a path in pieces; it may have any size. `what` names it in an error."""
        with self._request("GET", path) as (answer, message):
            if answer.status_code != 200:
                raise _status_error(answer, message, what)
            yield from answer.iter_bytes(CHUNK)

    def find_next_page(self, answer: Answer, visited: Container[str]) -> str | None:
        """Return the address of the next page; raise `RegistryFailed` if it is at another host or was read already."""
        link = answer.response.links.get("next", {}).get("url")
        if not link:
            return None
        address = answer.response.url.join(link)
        base = self._client.base_url
        if (address.scheme, address.netloc) != (base.scheme, base.netloc) or str(address) in visited:
            raise RegistryFailed(
                f"{self.host} names {address} as its next page.\n"
                "A list that leads to another host or in a circle is not read."
            )
        return str(address)


@dataclass(frozen=True)
class Answer:
    """A registry's answer with its complete body."""

    response: httpx.Response
    content: bytes

    @property
    def status(self) -> int:
        """The HTTP status code."""
        return self.response.status_code

    @property
    def headers(self) -> httpx.Headers:
        """The HTTP headers."""
        return self.response.headers


class BodyTooLarge(RegistryFailed):
    """The registry sends a body that is larger than the limit."""


class LargeBodyAnnounced(BodyTooLarge):
    """The registry announces a body that is larger than the limit, so what it stores is that large."""


def _read_body(answer: httpx.Response, most: int, path: str) -> bytes:
    """Return the body; stop reading and raise an error if it has more than `most` bytes."""
    announced = answer.headers.get("Content-Length", "")
    if announced.isdigit() and int(announced) > most:
        raise LargeBodyAnnounced(f"{path} has {announced} bytes, and at most {most} are read.\nFind out who pushed it.")
    content = bytearray()
    for chunk in answer.iter_bytes(CHUNK):
        content += chunk
        if len(content) > most:
            raise BodyTooLarge(
                f"The registry sends more than {most} bytes for {path}.\nLook at the registry, and at what is between."
            )
    return bytes(content)


def _retry_delay(answer: httpx.Response, method: str, attempt: int) -> float | None:
    """Return the seconds until the same request may be repeated; None if that is useless or takes too long.

    A request that failed may still have taken effect, so after a 5xx only GET and HEAD are repeated here. Other
    requests are repeated with their step.
    """
    if answer.status_code != 429 and (answer.status_code < 500 or method not in READING):
        return None
    seconds = _retry_after(answer)
    if seconds is None:
        return 0.5 * 2.0**attempt
    return seconds if seconds <= LONGEST_WAIT else None


def _retry_after(answer: httpx.Response) -> float | None:
    """Return the seconds that an answer asks to wait (RFC 9110, "Retry-After": a number of seconds or a date)."""
    value = answer.headers.get("Retry-After", "").strip()
    if value.isascii() and value.isdigit():
        return float(value)
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, OverflowError):
        return None


def _beginning(answer: httpx.Response) -> str:
    """Return up to 500 characters from the beginning of a failure's body."""
    content = next(answer.iter_bytes(CHUNK), b"")
    return content.decode("utf-8", "replace")[:500]


def _unavailable_error(host: str, error: Exception) -> RegistryUnavailable:
    return RegistryUnavailable(
        f"The registry {host} did not answer: {error}\nCheck its address in the tier's block, and the network (on a "
        "laptop, `cscm status`); the step is retried."
    )


def _status_error(answer: httpx.Response, message: str, what: str) -> RegistryFailed | AccessDenied | ImageNotFound:
    if answer.status_code in (401, 403):
        return AccessDenied(
            f"The registry does not let this tier's role do this ({what}): {message}\n"
            "Each tier may read and write only what its policy in deployments/iam allows."
        )
    if answer.status_code == 404:
        return ImageNotFound(
            f"The registry has no such thing ({what}): {message}\n"
            "Check the reference, and the registry's address in the tier's block."
        )
    if answer.status_code == 429 or answer.status_code >= 500:
        later = _retry_after(answer)
        retry_after = f" and asks to come back in {later:.0f} s" if later else ""
        return RegistryUnavailable(
            f"The registry answered {answer.status_code}{retry_after} ({what}): {message}\nThe step is retried."
        )
    return RegistryFailed(f"The registry answered {answer.status_code} ({what}): {message}\nNothing was changed.")
