"""The ways in that the tests have: a tier's role, Prefect's API, and plain tools with what anybody may have."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from cscm_laptop.home import Home
from cscm_laptop.laptop import LaptopState
from cscm_laptop.prefect_server import ensure_auth_string
from supply_chain.adapters.aws.ecr import Ecr
from supply_chain.adapters.aws.session import AwsSession
from supply_chain.adapters.tools import Pins, Toolbox
from supply_chain.adapters.tools.cosign import Cosign
from supply_chain.model.tier import TierName
from tests.support.command import ROOT
from tests.support.waiting import PLAIN, eventually

OTHERS = 10
"""Largest number of runs of ours that scheduled ones may cancel."""


def toolbox_in(directory: Path) -> Toolbox:
    """The pinned tools that are there."""
    return Toolbox(directory, Pins.load(ROOT / "deployments/tools.yaml"))


def session_of(laptop: LaptopState, tier: TierName) -> AwsSession:
    """A tier's own role."""
    who = laptop.identities[tier]
    return AwsSession(who.access_key_id, who.secret_access_key, who.role_arn, laptop.region, laptop.endpoint_url)


def ecr_of(laptop: LaptopState, tier: TierName) -> Ecr:
    """ECR as a tier's role sees it."""
    return Ecr(session_of(laptop, tier).client("ecr"), laptop.registry)


def cosign_of(laptop: LaptopState, tier: TierName) -> Cosign:
    """The real cosign with a tier's real key."""
    key = f"awskms:///{laptop.identities[tier].signing_alias}"
    config, environment = ecr_of(laptop, tier).docker_config, session_of(laptop, tier).environment
    return Cosign(toolbox_in(laptop.tools).find("cosign"), key, laptop.registry, config, True, environment)


def application_url(deployment: dict[str, Any]) -> str:
    """The address of a deployment as `cscm chain --json` prints it, without a path."""
    return f"http://{deployment['place']['address']}:{deployment['place']['port']}"


def nowhere() -> AbstractContextManager[Path]:
    """For a tool that asks no registry: a Docker configuration that is not there."""
    return nullcontext(Path("/nonexistent"))


@dataclass(frozen=True)
class Prefect:
    """Prefect's own API, as whoever may log in to it sees it."""

    url: str
    auth: tuple[str, str]

    @classmethod
    def of(cls, home: Home, url: str) -> Prefect:
        user, _, password = ensure_auth_string(home).partition(":")
        return cls(url, (user, password))

    def ask(self, path: str, body: dict[str, Any] | None = None) -> Any:
        """What is answered to `ask("flow_runs/filter", {...})`."""
        return self._answer(lambda client: client.post(f"{self.url}/{path}", json=body or {}))

    def slots(self) -> dict[str, int]:
        """The concurrency limits of which slots are taken, with their number."""
        limits: list[dict[str, Any]] = []
        while page := self.ask("v2/concurrency_limits/filter", {"limit": 200, "offset": len(limits)}):
            limits += page
        return {limit["name"]: limit["active_slots"] for limit in limits if limit["active_slots"]}

    def get(self, path: str) -> Any:
        return self._answer(lambda client: client.get(f"{self.url}/{path}"))

    def delete(self, path: str) -> None:
        """Remove what is there."""
        self._answer(lambda client: client.delete(f"{self.url}/{path}"))

    def start(self, deployment: str, **parameters: object) -> str:
        """Start a run of `flow/deployment`, as its button in the UI does; the run's id."""
        made = self.get(f"deployments/name/{deployment}")
        body = {"parameters": parameters, "state": {"type": "SCHEDULED"}}
        return str(self.ask(f"deployments/{made['id']}/create_flow_run", body)["id"])

    def ended(self, run: str, seconds: float = 180) -> dict[str, Any]:
        """Wait until a run is over; the run."""

        def over() -> dict[str, Any] | None:
            found: dict[str, Any] = self.get(f"flow_runs/{run}")
            return found if found["state_type"] in ("COMPLETED", "FAILED", "CRASHED", "CANCELLED") else None

        found: dict[str, Any] = eventually(over, seconds, lambda: self.get(f"flow_runs/{run}")["state"])
        return found

    def completed(self, deployment: str, **parameters: object) -> dict[str, Any]:
        """Run a deployment that its schedule may run meanwhile, which cancels ours; the run that completed."""
        for _ in range(OTHERS):
            run = self.ended(self.start(deployment, **parameters))
            if run["state_type"] != "CANCELLED":
                break
            time.sleep(5)
        assert run["state_type"] == "COMPLETED", run["state"]
        return run

    def send(self, request: Callable[[httpx.Client], httpx.Response]) -> httpx.Response:
        """Send a request, again while the server's database is locked, as Prefect's client does."""
        with httpx.Client(auth=self.auth, timeout=30, transport=httpx.HTTPTransport(PLAIN, retries=3)) as client:
            for _ in range(10):
                answer = request(client)
                if answer.status_code != 503:
                    break
                time.sleep(0.5)
        return answer

    def _answer(self, request: Callable[[httpx.Client], httpx.Response]) -> Any:
        answer = self.send(request)
        assert answer.status_code < 300, answer.text
        return answer.json() if answer.content else None


@dataclass(frozen=True)
class Outsider:
    """Plain cosign and crane with one role's registry credentials, and no key but public ones."""

    laptop: LaptopState
    login: tuple[str, str]
    directory: Path
    """All that they have, and may write to."""

    @classmethod
    def of(cls, laptop: LaptopState, tier: TierName, directory: Path) -> Outsider:
        """Somebody with this tier's eyes."""
        login = ecr_of(laptop, tier).credentials()
        auth = base64.b64encode(":".join(login).encode()).decode()
        (directory / "config.json").write_text(json.dumps({"auths": {laptop.registry: {"auth": auth}}}))
        return cls(laptop, login, directory)

    def run(self, tool: str, *args: str) -> subprocess.CompletedProcess[str]:
        own = {name: str(self.directory) for name in ("HOME", "DOCKER_CONFIG", "TMPDIR")}
        return subprocess.run(
            [str(toolbox_in(self.laptop.tools).find(tool).path), *args], env={"PATH": os.environ["PATH"], **own},
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip

    def verify(self, *args: str, key: Path, image: str) -> subprocess.CompletedProcess[str]:
        common = ("--key", str(key), "--insecure-ignore-tlog", "--allow-insecure-registry")
        return self.run("cosign", *args, *common, f"{self.laptop.registry}/{image}")

    def manifest(self, image: str) -> dict[str, Any]:
        done = self.run("crane", "manifest", "--insecure", f"{self.laptop.registry}/{image}")
        assert done.returncode == 0, done.stderr
        value: dict[str, Any] = json.loads(done.stdout)
        return value

    def registry(self, repository: str) -> httpx.Client:
        """A client of the registry's HTTP API, below a repository."""
        return httpx.Client(
            base_url=f"http://{self.laptop.registry}/v2/{repository}/", auth=self.login, timeout=30, verify=PLAIN
        )
