"""OPA, which judges the same facts by the same rules in Rego, to compare the gates with.

The Go module of Conforma's `ec` cannot be installed (it replaces a module), so its engine stands in for it.
"""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx
from pydantic_core import to_json

from cscm_laptop.home import Home
from cscm_laptop.tools.installer import Installer
from supply_chain.adapters.process.command import Tool
from supply_chain.adapters.tools import Pins
from supply_chain.vulnerability.findings import Severity

HERE = Path(__file__).parent
RULES = HERE / "rego"
CODE = re.compile(r'result\((?:sprintf\()?"([^"]+)"')
PATIENCE = 30.0
"""Seconds in which the server has to answer."""


@dataclass(frozen=True)
class Answer:
    """What OPA says about an image."""

    codes: Sequence[str]
    """The codes of all refusals and warnings, sorted."""
    milliseconds: float
    """From the facts in JSON to the answer."""
    evaluating: float
    """The milliseconds of it in which the rules are evaluated."""


def install_opa() -> Tool:
    """Return OPA in the pinned version; the first time, Go builds it."""
    pins = Pins.load(HERE / "tools.yaml")
    return Installer(Home.find().directory / "bench", pins).ensure(print)["opa"]


def list_codes() -> frozenset[str]:
    """Return the codes of the rules in Rego."""
    parts = (*(each.value for each in Severity), "intake", "release")
    codes = CODE.findall((RULES / "deploy.rego").read_text())
    return frozenset(code.replace("%s", part) for code in codes for part in parts)


def facts_as_json(image: Mapping[str, Any], now: datetime) -> bytes:
    """Return the facts of an image as OPA reads them."""
    return to_json({"image": image, "now": now})


@dataclass(frozen=True)
class Server:
    """OPA with its policies loaded."""

    client: httpx.Client

    def judge(self, facts: bytes) -> Answer:
        """Return the answer to the facts of an image."""
        request = b'{"input": ' + facts + b"}"
        answer = (
            self.client.post("/v1/data/cscm/deploy/verdict?metrics=true", content=request).raise_for_status().json()
        )
        metrics, results = answer["metrics"], answer["result"]
        codes = sorted(each["code"] for each in (*results["deny"], *results["warn"]))
        handled, evaluated = (metrics[f"timer_{each}_ns"] / 1e6 for each in ("server_handler", "rego_query_eval"))
        return Answer(codes, handled, evaluated)


@contextmanager
def serve(opa: Tool) -> Iterator[Server]:
    """Run OPA as a server on a socket of this process."""
    with TemporaryDirectory() as work:
        socket = Path(work) / "opa"
        command = [str(opa.path), "run", "--server", f"--addr=unix://{socket}", "--log-level=error", str(RULES)]
        with subprocess.Popen(command) as process:
            try:
                _await(socket, process)
                transport = httpx.HTTPTransport(uds=str(socket))
                with httpx.Client(transport=transport, base_url="http://opa", timeout=PATIENCE) as client:
                    yield Server(client)
            finally:
                process.terminate()


def _await(socket: Path, process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + PATIENCE
    while not socket.exists():
        if process.poll() is not None or time.monotonic() > end:
            raise SystemExit("OPA does not start")
        time.sleep(0.05)


def judge_in_process(opa: Tool, facts: Path) -> None:
    """Judge the facts in a file, as a command line does for each image."""
    arguments = ["eval", f"--data={RULES}", f"--input={facts}", "--format=discard", "data.cscm.deploy.verdict"]
    subprocess.run([str(opa.path), *arguments], check=True, stdout=subprocess.DEVNULL)
