"""`python -m cscm_laptop.emulator --host HOST --port PORT --state DIR`: the emulator, in this process."""

from __future__ import annotations

import argparse
import asyncio
import fcntl
import logging
import os
import sys
from pathlib import Path
from typing import IO, Any

from hypercorn.asyncio import serve
from hypercorn.config import Config

from supply_chain.errors import ComponentFailed, PortBusy, SupplyChainError

FOREIGN = ("AWS_", "MINISTACK_", "EDGE_PORT", "USE_SSL")
"""Prefixes of variables that would reconfigure ministack."""


def main() -> int:
    """Serve until SIGTERM or SIGINT; return 0, or 1 if the emulator cannot start."""
    arguments = parsed()
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    try:
        with locked(arguments.state):
            configure(arguments.host, arguments.port, arguments.region, arguments.state)
            asyncio.run(run(arguments.host, arguments.port, arguments.state))
    except SupplyChainError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def parsed() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(prog="cscm_laptop.emulator", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=4566)
    parser.add_argument("--region", default="us-east-1")
    parser.add_argument("--state", type=Path, required=True, help="the directory of the state")
    return parser.parse_args()


def locked(state: Path) -> IO[bytes]:
    """Lock the state directory until the returned file is closed; raise `ComponentFailed` if it is locked already."""
    state.mkdir(mode=0o700, parents=True, exist_ok=True)
    file = (state / "lock").open("ab")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        file.close()
        raise ComponentFailed(
            f"Another emulator works on {state}.\nUse that one, stop it first, or give this one a state of its own."
        ) from error
    return file


def configure(host: str, port: int, region: str, state: Path) -> None:
    """Set ministack's settings in the environment; it reads them when it is imported."""
    for name in [name for name in os.environ if name.startswith(FOREIGN)]:
        del os.environ[name]
    os.environ |= {
        "AUTH": "true",
        "BIND_HOST": host,
        "GATEWAY_PORT": str(port),
        "MINISTACK_REGION": region,
        "IOT_MTLS_ENABLED": "0",
        "SFTP_ENABLED": "0",
        "PERSIST_STATE": "0",  # `durable` saves the state instead
        "STATE_DIR": str(state / "unused"),
        "DOCKER_HOST": f"unix://{state}/no-engine.sock",  # else it removes containers of the real engine
        "LOG_LEVEL": "WARNING",
    }


async def run(host: str, port: int, state: Path) -> None:
    """Load the state and serve it until stopped; raise `PortBusy` if the port is taken."""
    app, catalogue = assembled(state)
    config = Config()
    config.bind = [f"{host}:{port}"]
    config.keep_alive_timeout = 120  # longer than clients keep idle connections, which they expect to work
    config.loglevel = "WARNING"
    catalogue.resume()
    try:
        await serve(app, config)
    except OSError as error:
        raise PortBusy(
            f"The emulator cannot listen on {host}:{port}: {error.strerror}.\n"
            "Stop what listens there, or choose another port in the profile (deployments/profiles/laptop.yaml)."
        ) from error
    await catalogue.close()


def assembled(state: Path) -> tuple[Any, Any]:
    """Return the application over the state in the directory, and its catalogue of images.

    Call `configure` first, because this imports ministack. Raises `ComponentFailed` if it has another version.
    """
    from cscm_laptop.emulator import upstream  # noqa: PLC0415
    from cscm_laptop.emulator.authorise import Gate, issue_tokens  # noqa: PLC0415
    from cscm_laptop.emulator.blobs import Blobs  # noqa: PLC0415
    from cscm_laptop.emulator.callers import crown, root_key  # noqa: PLC0415
    from cscm_laptop.emulator.catalogue import Catalogue  # noqa: PLC0415
    from cscm_laptop.emulator.front import Front  # noqa: PLC0415
    from cscm_laptop.emulator.operations import install  # noqa: PLC0415
    from cscm_laptop.emulator.registry import Registry  # noqa: PLC0415
    from cscm_laptop.emulator.state import restore  # noqa: PLC0415
    from cscm_laptop.emulator.tokens import Tokens  # noqa: PLC0415

    if not upstream.has_keys():
        raise ComponentFailed(
            "The emulator's environment lacks `cryptography`, so it has no keys.\n"
            "Remove the environment, and run `cscm up`."
        )
    blobs = Blobs(state)
    parts = restore(state, blobs)
    crown(*root_key(state / "root-key.json"))
    tokens = Tokens.stored_in(state / "registry-token.key")
    issue_tokens(tokens)
    catalogue = Catalogue(parts)
    install(catalogue)
    return Front(parts, Registry(upstream.app, blobs, Gate(tokens), parts["ecr"], catalogue)), catalogue


if __name__ == "__main__":
    sys.exit(main())
