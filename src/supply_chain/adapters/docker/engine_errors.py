"""Translation of the Docker SDK's errors into errors of this project."""

from __future__ import annotations

import contextlib
import re
import struct
from collections.abc import Iterator

from docker.errors import APIError, DockerException, NotFound
from docker.errors import ImageNotFound as NoSuchImage
from requests.exceptions import RequestException
from urllib3.exceptions import HTTPError

from supply_chain.adapters.process import tool_errors
from supply_chain.errors import (
    AccessDenied,
    ContainerGone,
    DiskFull,
    EngineFailed,
    EngineUnavailable,
    ImageGone,
    ImageNotFound,
    PortBusy,
    ProgramNotStarted,
    RegistryUnavailable,
    SupplyChainError,
)

BUSY = ("address already in use", "port is already allocated")
LOST = re.compile(r"parent snapshot \S+ does not exist")
"""Error about a layer that two images share: it was removed with one image while the other was loaded or pulled."""


@contextlib.contextmanager
def translate_errors(doing: str) -> Iterator[None]:
    """Translate errors of the SDK, and of the library with which it reads streams, into errors of this project."""
    try:
        yield
    except (DockerException, RequestException, HTTPError, struct.error) as error:
        raise translate_error(error, doing) from error


def translate_error(error: Exception, doing: str) -> SupplyChainError:
    """Return the error of this project for an error of the SDK."""
    message = str(getattr(error, "explanation", None) or error)
    what = f"The engine could not {doing}: {message}"
    # the rest of the message comes from the image
    if "unable to start container process" in message or "no command specified" in message.lower():
        return ProgramNotStarted(f"{what}\nCorrect the image's entrypoint, or the command that was given.")
    if tool_errors.is_disk_full(message):
        return DiskFull(f"{what}\nMake room in the engine's directory (`docker system df`), and run the step again.")
    if isinstance(error, APIError):
        return _engine_error(error, message.lower(), what)
    if isinstance(error, RequestException | HTTPError | struct.error) or type(error) is DockerException:
        return EngineUnavailable(f"{what}\nCheck that it runs (`cscm doctor`) and that this user may use its socket.")
    return EngineFailed(f"{what}\nThe engine's own log says more.")


def _engine_error(error: APIError, low: str, what: str) -> SupplyChainError:
    is_missing = isinstance(error, NoSuchImage) or "no such image" in low
    if LOST.search(low) or (is_missing and what.startswith("The engine could not create")):
        return ImageGone(f"{what}\nSomebody removed it, or another image with its layers; start the step again.")
    if is_missing:
        return ImageNotFound(f"{what}\nPull or build it first.")
    if isinstance(error, NotFound) and "no such container" in low:
        return ContainerGone(f"{what}\nSomebody removed it; start the step again.")
    if any(word in low for word in BUSY):
        return PortBusy(f"{what}\nEnd what listens there, or choose another port.")
    pulling = what.startswith("The engine could not pull")
    return (_registry_error(low, what) if pulling else None) or EngineFailed(f"{what}\nThe engine's own log says more.")


def _registry_error(low: str, what: str) -> SupplyChainError | None:
    if tool_errors.is_denied(low):
        return AccessDenied(f"{what}\nThe role that is used may not read that repository.")
    if tool_errors.is_not_found(low):
        return ImageNotFound(f"{what}\nThe registry has no such image there.")
    if tool_errors.is_transient(low):
        return RegistryUnavailable(f"{what}\nCheck that the registry runs, then try again.")
    return None
