"""The chain as a user runs it, and eyes that look at what it did from outside.

`make test` has started the laptop. Each application is run once for all tests, by the command.
"""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import docker
import httpx
import pytest

from supply_chain.adapters.aws import AwsSession
from supply_chain.adapters.ecr import Ecr
from supply_chain.adapters.tools import Pins, Toolbox
from supply_chain.laptop.aws import emulator_root
from supply_chain.laptop.emulator_service import root_key
from supply_chain.laptop.home import Home
from supply_chain.laptop.laptop import LaptopState, load_state
from supply_chain.laptop.prefect_server import auth_string
from supply_chain.tier import TierName

ROOT = Path(__file__).parents[3]
CSCM = Path(sys.executable).with_name("cscm")


@dataclass(frozen=True)
class Ran:
    """A command that ended: `result` is what it printed as JSON."""

    status: int
    result: Any
    stderr: str


def cscm(*args: str, environment: Mapping[str, str] | None = None, timeout: float = 600) -> Ran:
    """Run the command as a user does."""
    done = subprocess.run(
        [str(CSCM), *args], cwd=ROOT, capture_output=True, text=True, timeout=timeout,
        env={**os.environ, **(environment or {})}, check=False,
    )  # fmt: skip
    try:
        result = json.loads(done.stdout)
    except ValueError:
        result = done.stdout
    return Ran(done.returncode, result, done.stderr)


@pytest.fixture(scope="session")
def home() -> Home:
    return Home.find(start=ROOT)


@pytest.fixture(scope="session")
def laptop(home: Home) -> LaptopState:
    """The running laptop; `cscm up` has to have been run, as `make test` does."""
    return load_state(home)


@pytest.fixture(scope="session")
def bases(laptop: LaptopState) -> None:
    made = cscm("bases", "python", "python-build", "proxy", "go-build", timeout=900)
    assert made.status == 0, made.stderr


Chain = Callable[[str], Ran]


@pytest.fixture(scope="session")
def chain(bases: None) -> Chain:
    """Run an example's chain, once in a session."""
    ran: dict[str, Ran] = {}

    def run(name: str) -> Ran:
        if name not in ran:
            ran[name] = cscm("chain", f"examples/{name}", "--json")
        return ran[name]

    return run


@pytest.fixture(scope="session")
def root(home: Home, laptop: LaptopState) -> boto3.Session:
    """The account's owner."""
    return emulator_root(root_key(home), laptop.region)


@pytest.fixture(scope="session")
def ecr(root: boto3.Session, laptop: LaptopState) -> Any:
    """ECR, as its owner sees it."""
    return root.client("ecr", endpoint_url=laptop.endpoint_url)


@dataclass(frozen=True)
class Outsider:
    """Plain cosign and crane with one role's registry credentials, and no key but public ones."""

    laptop: LaptopState
    toolbox: Toolbox
    environment: dict[str, str]

    def run(self, tool: str, *args: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(self.toolbox.find(tool).path), *args], env=self.environment, capture_output=True, text=True,
            timeout=60, check=False,
        )  # fmt: skip

    def verify(self, *args: str, key: Path, image: str) -> subprocess.CompletedProcess[str]:
        common = ("--key", str(key), "--insecure-ignore-tlog", "--allow-insecure-registry")
        return self.run("cosign", *args, *common, f"{self.laptop.registry}/{image}")

    def manifest(self, image: str) -> dict[str, Any]:
        done = self.run("crane", "manifest", "--insecure", f"{self.laptop.registry}/{image}")
        assert done.returncode == 0, done.stderr
        value: dict[str, Any] = json.loads(done.stdout)
        return value


@pytest.fixture(scope="session")
def outsider(laptop: LaptopState, tmp_path_factory: pytest.TempPathFactory) -> Outsider:
    """Somebody with the execution role's eyes."""
    user, password = registry_login(laptop, TierName.EXECUTION)
    config = tmp_path_factory.mktemp("docker")
    auth = base64.b64encode(f"{user}:{password}".encode()).decode()
    (config / "config.json").write_text(json.dumps({"auths": {laptop.registry: {"auth": auth}}}))
    pins = Pins.load(ROOT / "deployments/tools.yaml")
    environment = {"PATH": os.environ["PATH"], "HOME": str(config), "DOCKER_CONFIG": str(config)}
    return Outsider(laptop, Toolbox(laptop.tools, pins), environment)


def registry_login(laptop: LaptopState, tier: TierName) -> tuple[str, str]:
    return Ecr(session_of(laptop, tier).client("ecr"), laptop.registry).credentials()


def session_of(laptop: LaptopState, tier: TierName) -> AwsSession:
    identity = laptop.identities[tier]
    return AwsSession(
        identity.access_key_id, identity.secret_access_key, identity.role_arn, laptop.region, laptop.endpoint_url
    )


@pytest.fixture(scope="session")
def keys(root: boto3.Session, laptop: LaptopState, tmp_path_factory: pytest.TempPathFactory) -> dict[TierName, Path]:
    """Each tier's public key as KMS gives it, in a file."""
    kms = root.client("kms", endpoint_url=laptop.endpoint_url)
    directory = tmp_path_factory.mktemp("keys")
    files = {}
    for tier in TierName:
        der = kms.get_public_key(KeyId=f"alias/cscm-{tier}")["PublicKey"]
        lines = base64.encodebytes(der).decode()
        files[tier] = directory / f"{tier}.pub"
        files[tier].write_text(f"-----BEGIN PUBLIC KEY-----\n{lines}-----END PUBLIC KEY-----\n")
    return files


@pytest.fixture(scope="session")
def engine() -> Iterator[docker.DockerClient]:
    client = docker.from_env()
    yield client
    client.close()


@pytest.fixture(scope="session")
def prefect(home: Home, laptop: LaptopState) -> Iterator[Callable[..., Any]]:
    """Prefect's own API: `prefect("flow_runs/filter", {...})`."""
    user, _, password = auth_string(home).partition(":")
    with httpx.Client(base_url=f"{laptop.prefect_api_url}/", auth=(user, password), timeout=30) as client:

        def ask(path: str, body: dict[str, Any] | None = None) -> Any:
            answer = client.post(path, json=body or {})
            assert answer.status_code < 300, answer.text
            return answer.json() if answer.content else None

        yield ask
