"""A sandbox for the tests: a copy of the laptop's AWS behind a proxy, and a Prefect whose blocks point to it."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from cscm_laptop import prefect_server
from cscm_laptop.emulator_service import open_root_session
from cscm_laptop.home import Home
from cscm_laptop.laptop import LaptopState, load_state
from cscm_laptop.profile import Ports, Profile
from cscm_laptop.services import stop
from orchestration.project import HOME, PREFORK_SOCKET
from supply_chain.adapters.aws.ecr import Ecr
from supply_chain.adapters.aws.session import AwsSession
from supply_chain.adapters.registry.client import MANIFEST, Registry
from supply_chain.model.image import ImageRef
from supply_chain.model.tier import TierName
from tests.support.access import Prefect, session_of
from tests.support.command import ROOT, Ran, cscm
from tests.support.fault_proxy import Fault, FaultProxy, Relay
from tests.support.place import free_ports
from tests.support.waiting import until_ready

PLACE = "sandbox"
OWNER = "tests-of-the-sandbox"
GONE = "gone"
"""A base that is mapped to an image of another registry: the same registry under another name."""
ROOM = 48 * 1024 * 1024
"""Free bytes on the registry's disk."""
PRIVATE = ("unshare", "--mount") if os.geteuid() == 0 else ("unshare", "--mount", "--map-root-user")
"""The prefix of a command that gets its own mounts, which end with it."""
ON_A_SMALL_DISK = 'mount -t tmpfs -o size="$1" none "$2" && shift 2 && exec "$@"'
COPIED = 'mount -t tmpfs -o size="$1" none "$2" && cp -a "$3"/*.json "$3"/*.key "$3/blobs" "$2" && shift 3 && exec "$@"'
REGISTER = """
import sys
from cscm_laptop.blocks import register_laptop
from cscm_laptop.laptop import LaptopState
register_laptop(LaptopState.model_validate_json(sys.stdin.read()))
"""


@dataclass
class Sandbox:
    """The parts of the sandbox; `directory` contains all files."""

    directory: Path
    laptop: LaptopState
    proxy: FaultProxy
    relay: Relay
    emulator: subprocess.Popen[bytes]
    environment: dict[str, str]
    prefect: Prefect
    clients: dict[str, Any] = field(default_factory=dict)

    def cscm(self, *args: str, disk: str | None = None, environment: Mapping[str, str] | None = None) -> Ran:
        """Run the command; with `disk`, its temporary files have so many bytes."""
        under = [*PRIVATE, "sh", "-c", ON_A_SMALL_DISK, "sh", disk, str(self.temporary)] if disk else []
        return cscm(*args, environment={**self.environment, **(environment or {})}, timeout=300, under=under)

    @property
    def temporary(self) -> Path:
        return self.directory / "temporary"

    @property
    def tools(self) -> Path:
        return self.directory / "tools"

    @property
    def database(self) -> Path:
        return self.directory / "database"

    @property
    def document(self) -> Path:
        """The environment's document."""
        return self.directory / f"project/deployments/environments/{PLACE}.yaml"

    @property
    def registry_disk(self) -> Path:
        """The registry's blobs, as a path on this machine."""
        return Path(f"/proc/{self.emulator.pid}/root{self.directory / 'aws'}")

    def session(self, tier: TierName) -> AwsSession:
        """Return the session of a tier's role, behind the proxy."""
        return session_of(self.laptop, tier)

    def root(self, service: str) -> Any:
        """Return a client with the owner's rights, without the proxy."""
        if service not in self.clients:
            key = self.registry_disk / "root-key.json"
            session = open_root_session(key, self.laptop.region)
            self.clients[service] = session.client(service, endpoint_url=f"http://{self.proxy.target}")
        return self.clients[service]

    def manifests(self, repository: str) -> dict[str, dict[str, Any]]:
        """Return every manifest of a repository by digest."""
        ecr = self.root("ecr")
        try:
            pages = list(ecr.get_paginator("list_images").paginate(repositoryName=repository))
        except ecr.exceptions.RepositoryNotFoundException:
            return {}
        digests = {each["imageDigest"] for page in pages for each in page["imageIds"]}
        auth = Ecr(ecr, self.proxy.target).credentials()
        with httpx.Client(base_url=f"http://{self.proxy.target}/v2/{repository}/", auth=auth) as client:
            return {d: client.get(f"manifests/{d}").raise_for_status().json() for d in digests}

    def repository(self, name: str) -> None:
        """Create a repository if it does not exist."""
        ecr = self.root("ecr")
        with contextlib.suppress(ecr.exceptions.RepositoryAlreadyExistsException):
            ecr.create_repository(repositoryName=name)

    def tags(self, repository: str) -> set[str]:
        pages = self.root("ecr").get_paginator("list_images").paginate(repositoryName=repository)
        return {each["imageTag"] for page in pages for each in page["imageIds"] if "imageTag" in each}

    def released(self, repository: str, digest: str) -> bool:
        """Tell whether cosign's signature is attached to the image."""
        kind = "https://sigstore.dev/cosign/sign/v1"
        return any(
            (m.get("subject") or {}).get("digest") == digest and kind in m.get("annotations", {}).values()
            for m in self.manifests(repository).values()
        )

    def last_run(self) -> dict[str, Any]:
        """Return the latest flow run that is no subflow, from Prefect."""
        body = {"sort": "START_TIME_DESC", "limit": 1, "flow_runs": {"parent_task_run_id": {"is_null_": True}}}
        (run,) = self.prefect.ask("flow_runs/filter", body)
        return dict(run)


@contextlib.contextmanager
def sandbox(directory: Path) -> Iterator[Sandbox]:
    """Start all parts of the sandbox; they end with the block."""
    home = Home.find(start=ROOT)
    project = _project(directory, home)
    for name in ("aws", "temporary", "home"):
        (directory / name).mkdir()
    for_emulator, for_prefect = free_ports(2)
    own, profile = Home(project, directory / "home"), Profile(ports=Ports(emulator=for_emulator, prefect=for_prefect))
    with contextlib.ExitStack() as stack:
        server = prefect_server.make_server_service(own, profile)
        own.create()
        record, _ = server.ensure(lambda line: None)
        stack.callback(stop, record)
        emulator = _emulator(directory, home, profile.ports.emulator)
        stack.callback(emulator.wait)
        stack.callback(emulator.kill)
        proxy = FaultProxy(f"127.0.0.1:{profile.ports.emulator}")
        stack.callback(proxy.stop)
        relay = Relay(directory / "engine.sock")
        stack.callback(relay.close)
        environment = {
            **prefect_server.make_prefect_environment(own, profile),
            HOME: str(own.directory),
            "TMPDIR": str(directory / "temporary"),
        }
        state = _state(load_state(home), directory, proxy, relay)
        register = [sys.executable, "-c", REGISTER]
        subprocess.run(
            register, input=state.model_dump_json(), text=True, cwd=ROOT, env={**os.environ, **environment}, check=True
        )
        prefect = Prefect.of(own, prefect_server.make_api_url(profile))
        commands = subprocess.Popen(
            [sys.executable, "-m", "orchestration.prefork_server", str(own.directory / PREFORK_SOCKET)],
            cwd=ROOT, env={**os.environ, **environment},
        )  # fmt: skip
        stack.callback(commands.wait)
        stack.callback(commands.terminate)
        yield Sandbox(directory, state, proxy, relay, emulator, environment, prefect)


def _project(directory: Path, home: Home) -> Path:
    """Create the files that the workbench reads, with tools and database that tests may break."""
    project = directory / "project"
    shutil.copytree(ROOT / "deployments", project / "deployments")
    shutil.copytree(home.tools, directory / "tools", copy_function=os.symlink)
    shutil.copytree(home.database, directory / "database", symlinks=True)
    return project


def _emulator(directory: Path, home: Home, port: int) -> subprocess.Popen[bytes]:
    state = directory / "aws"
    used = sum(each.stat().st_size for each in (home.state / "aws").rglob("*") if each.is_file())
    command = [
        *PRIVATE, "sh", "-c", COPIED, "sh", str(used + ROOM), str(state), str(home.state / "aws"),
        str(home.emulator / "bin/python"), "-m", "cscm_laptop.emulator",
        "--port", str(port), "--state", str(state),
    ]  # fmt: skip
    with (directory / "emulator.log").open("wb") as log:
        process = subprocess.Popen(command, env={"PYTHONPATH": str(ROOT / "src"), "PATH": os.environ["PATH"]},
                                   stdout=log, stderr=log)  # fmt: skip
    until_ready(process, f"127.0.0.1:{port}", directory / "emulator.log")
    return process


def _state(laptop: LaptopState, directory: Path, proxy: FaultProxy, relay: Relay) -> LaptopState:
    return laptop.model_copy(
        update={
            "endpoint_url": f"http://{proxy.host}",
            "registry": proxy.host,
            "project": directory / "project",
            "tools": directory / "tools",
            "database_directory": directory / "database",
            "engine": laptop.engine.model_copy(update={"url": relay.url}),
            "owner": OWNER,
            "bases": {GONE: f"{proxy.host.replace('127.0.0.1', 'localhost')}/upstream/base@sha256:{'a' * 64}"},
        }
    )


def subject_of(sandbox: Sandbox, registry: Registry, repository: str) -> ImageRef:
    """Push an image without layers to a repository of its own."""
    sandbox.repository(repository)
    config = registry.push_blob(repository, b"{}")
    empty = {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": config, "size": 2}
    manifest = json.dumps({"schemaVersion": 2, "mediaType": MANIFEST, "config": empty, "layers": []})
    return ImageRef(repository=repository, digest=registry.push_manifest(repository, manifest.encode(), MANIFEST))


NAME = "weathered"


def place(port: int) -> str:
    """Return the environment's document."""
    return f"name: {PLACE}\ndescription: Where the sandbox is broken.\napplications:\n  {NAME}:\n    port: {port}\n"


PASSING = (
    Fault(r"HEAD /v2/dev/\w+/blobs/", status=429, headers={"Retry-After": "1"}, times=1, agent="python-httpx"),
    Fault(r"HEAD /v2/.*/manifests/", status=503, times=1, agent="python-httpx"),
    Fault(r"(PATCH|PUT) /v2/dev/\w+/blobs/uploads/", times=1),
    Fault(r"PUT /v2/dev/\w+/manifests/sha256", status=401, times=1),
    Fault(r"POST DescribeRepositories", status=400, body=b'{"__type": "ExpiredTokenException"}', times=1),
    Fault(r"POST Sign$", status=400, body=b'{"__type": "ThrottlingException", "message": "slowly"}', times=1),
)
"""Faults that pass if the client waits or repeats the request."""


@dataclass(frozen=True)
class Troubled:
    """A run during which many requests fail once."""

    ran: Ran
    ref: ImageRef
