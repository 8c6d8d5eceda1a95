"""Eyes that look from outside at what a run left: registry, engine, Prefect, processes, temporary files."""

from __future__ import annotations

import base64
import json
import subprocess
from collections import Counter
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import docker
import httpx

from supply_chain.adapters.aws import AwsSession
from supply_chain.adapters.ecr import Ecr
from supply_chain.adapters.tools import Pins, Toolbox
from supply_chain.container import APPLICATION, ENVIRONMENT, MANAGED, ROLE
from supply_chain.evidence.store import PREDICATE
from supply_chain.laptop.aws import emulator_root
from supply_chain.laptop.emulator_service import root_key
from supply_chain.laptop.home import Home
from supply_chain.laptop.laptop import LaptopState, load_state
from supply_chain.laptop.prefect_server import auth_string
from supply_chain.tier import TierName

from .strikes import CSCM, ROOT, eventually

PROVENANCE = "https://slsa.dev/provenance/v1"
SIGNATURE = "https://sigstore.dev/cosign/sign/v1"
STATEMENTS = {
    PROVENANCE: TierName.DEVELOPMENT,
    "https://in-toto.io/attestation/test-result/v0.1": TierName.DEVELOPMENT,
    "https://in-toto.io/attestation/vulns/v0.2": TierName.CURATION,
    "https://slsa.dev/verification_summary/v1": TierName.CURATION,
}
"""What has to lie beside a curated image, and who signs it."""
SHARED_MEMORY = Path("/dev/shm")


@dataclass(frozen=True)
class Eyes:
    """`scratch` is the temporary directory of the runs that are looked at."""

    home: Home
    scratch: Path
    keys: Path
    environment: str

    @property
    def laptop(self) -> LaptopState:
        return load_state(self.home)

    def all_is_well(self, name: str, url: str, revision: str, deployment: dict[str, Any]) -> None:
        """What is published is whole and verifies, what runs is what was recorded, and nothing else is there."""
        digest = deployment["digest"]
        for repository in (f"dev/{name}", f"curated/{name}"):
            tags = {tag: to for tag, to in self.tagged(repository).items() if tag.startswith(revision[:7])}
            assert tags == {f"{revision[:7]}-{digest.removeprefix('sha256:')[:12]}": digest}
            self.whole(repository)
            self.valid(f"{repository}@{digest}")
        self.verifies(f"curated/{name}@{digest}")
        attached = self.attached(f"curated/{name}", digest)
        assert (attached[SIGNATURE], attached[PROVENANCE]) == (1, 1), attached
        container = self.running(name)
        found = container.status, container.id, container.attrs["Image"]
        assert found == ("running", deployment["container"], digest)
        assert self.answers(url)
        observed = self.observed(name)
        assert (observed["container"], observed["deviations"]) == (container.id, []), observed
        self.nothing_is_left(name)

    def nothing_is_left(self, name: str) -> None:
        """No trace of a run in the engine, in Prefect or on this machine."""
        left = {
            "in the engine": self.left_in_the_engine(name),
            "concurrency slots": [limit for limit in self.slots() if limit.endswith(f" {name}")],
            "temporary files": self.temporary(),
            "processes": self.processes(),
        }
        assert not any(left.values()), left

    # What serves

    def answers(self, url: str) -> bool:
        try:
            return httpx.get(url, timeout=5).status_code == 200
        except httpx.HTTPError:
            return False

    # The registry

    def ecr(self) -> Any:
        root = emulator_root(root_key(self.home), self.laptop.region)
        return root.client("ecr", endpoint_url=self.laptop.endpoint_url)

    def tagged(self, repository: str) -> dict[str, str]:
        """Tag → digest."""
        pages = self.ecr().get_paginator("list_images").paginate(repositoryName=repository)
        return {i["imageTag"]: i["imageDigest"] for page in pages for i in page["imageIds"] if "imageTag" in i}

    def whole(self, repository: str) -> None:
        """Every manifest of the repository can be read, and all that it names is there."""
        pages = self.ecr().get_paginator("list_images").paginate(repositoryName=repository)
        digests = {each["imageDigest"] for page in pages for each in page["imageIds"]}
        with self._registry(repository) as client:
            for digest in digests:
                manifest = client.get(f"manifests/{digest}").raise_for_status().json()
                for part in (manifest["config"], *manifest["layers"]):
                    answer = client.head(f"blobs/{part['digest']}").raise_for_status()
                    assert int(answer.headers["Content-Length"]) == part["size"], (digest, part)

    def attached(self, repository: str, digest: str) -> Counter[str]:
        """How many statements of each type are attached to an image."""
        with self._registry(repository) as client:
            found = client.get(f"referrers/{digest}").raise_for_status().json()["manifests"]
        return Counter(each.get("annotations", {}).get(PREDICATE, each["artifactType"]) for each in found)

    def verifies(self, image: str) -> None:
        """Plain cosign, with public keys alone, finds signature and statements."""
        done = self._cosign("verify", "--annotations", "admitted-by=curation", key=TierName.CURATION, image=image)
        assert done.returncode == 0, done.stderr
        for kind, tier in STATEMENTS.items():
            done = self._cosign("verify-attestation", "--type", kind, key=tier, image=image)
            assert done.returncode == 0, f"{kind}: {done.stderr}"

    def valid(self, image: str) -> None:
        """Every byte of the image is what its digest says."""
        done = self._run("crane", "validate", "--insecure", "--remote", f"{self.laptop.registry}/{image}")
        assert done.returncode == 0, done.stderr

    def _registry(self, repository: str) -> httpx.Client:
        return httpx.Client(base_url=f"http://{self.laptop.registry}/v2/{repository}/", auth=self._login(), timeout=30)

    def _login(self) -> tuple[str, str]:
        who = self.laptop.identities[TierName.CURATION]
        session = AwsSession(
            who.access_key_id, who.secret_access_key, who.role_arn, self.laptop.region, self.laptop.endpoint_url
        )
        return Ecr(session.client("ecr"), self.laptop.registry).credentials()

    def _cosign(self, *args: str, key: TierName, image: str) -> subprocess.CompletedProcess[str]:
        (self.keys / f"{key}.pub").write_text(self.laptop.identities[key].public_key)
        common = ("--key", str(self.keys / f"{key}.pub"), "--insecure-ignore-tlog", "--allow-insecure-registry")
        return self._run("cosign", *args, *common, f"{self.laptop.registry}/{image}")

    def _run(self, tool: str, *args: str) -> subprocess.CompletedProcess[str]:
        auth = base64.b64encode(":".join(self._login()).encode()).decode()
        (self.keys / "config.json").write_text(json.dumps({"auths": {self.laptop.registry: {"auth": auth}}}))
        path = Toolbox(self.laptop.tools, Pins.load(ROOT / "deployments/tools.yaml")).find(tool).path
        environment = {"HOME": str(self.keys), "DOCKER_CONFIG": str(self.keys), "TMPDIR": str(self.keys)}
        return subprocess.run(
            [str(path), *args], env=environment, capture_output=True, text=True, timeout=60, check=False
        )

    # The engine

    def containers(self, application: str, **labels: str) -> list[Any]:
        wanted = {MANAGED: "true", APPLICATION: application, **labels}
        client = docker.from_env()
        try:
            filters = {"label": [f"{key}={value}" for key, value in wanted.items()]}
            return client.containers.list(all=True, filters=filters, ignore_removed=True)
        finally:
            client.close()

    def running(self, application: str) -> Any:
        """The one container of the application in its environment, behind its one front."""
        places = {
            role: self.containers(application, **{ROLE: role, ENVIRONMENT: self.environment})
            for role in ("application", "front")
        }
        assert [len(found) for found in places.values()] == [1, 1], places
        assert len(self.containers(application)) == 2, "more than an application and its front"
        return places["application"][0]

    def left_in_the_engine(self, application: str) -> list[str]:
        """What only a run that is under way may have there."""
        client = docker.from_env()
        try:
            label = {"label": f"{APPLICATION}={application}"}
            volumes = [v.name for v in client.volumes.list(filters=label)]
            fronts = [c.name for c in self.containers(application, **{ROLE: "front"})]
            tags = [tag for image in client.api.images() for tag in image["RepoTags"] or ()]
            return [
                *(n.name for n in client.networks.list(filters=label)),
                *(v for v in volumes if v not in fronts),
                *(tag for tag in tags if f"cscm.local/{application}:" in tag or f"/dev/{application}:" in tag),
            ]
        finally:
            client.close()

    # Prefect

    def prefect(self, path: str, body: dict[str, Any] | None = None) -> Any:
        user, _, password = auth_string(self.home).partition(":")
        transport = httpx.HTTPTransport(retries=3)
        with httpx.Client(auth=(user, password), timeout=30, transport=transport) as client:
            answer = client.post(f"{self.laptop.prefect_api_url}/{path}", json=body or {})
            assert answer.status_code < 300, answer.text
            return answer.json() if answer.content else None

    def begun(self, application: str, since: float) -> bool:
        """Whether a run of its first tier is under way that was created after `since`."""
        runs = self.prefect("flow_runs/filter", {"flow_runs": {"name": {"like_": f"develop {application}"}}})
        return any(run["state_type"] == "RUNNING" and _epoch(run["created"]) > since for run in runs)

    def slots(self) -> dict[str, int]:
        """The limits of which slots are taken."""
        limits = self.prefect("v2/concurrency_limits/filter", {"limit": 200})
        return {limit["name"]: limit["active_slots"] for limit in limits if limit["active_slots"]}

    def observed(self, application: str) -> dict[str, Any]:
        """What the monitor says of the application."""
        done = subprocess.run(
            [str(CSCM), "monitor", "--environment", self.environment, "--json"],
            cwd=ROOT, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        (said,) = [each for each in json.loads(done.stdout) if each["application"] == application]
        return dict(said)

    # This machine

    def temporary(self) -> list[str]:
        """What the runs that are looked at left in temporary directories."""
        return [str(p) for p in (*self.scratch.rglob("*"), *SHARED_MEMORY.glob("cscm-*"))]

    def processes(self) -> list[str]:
        """Command lines of what the runs that are looked at started and that still runs."""
        mark = f"TMPDIR={self.scratch}".encode()
        found = []
        for directory in Path("/proc").glob("[0-9]*"):
            try:
                if mark in (directory / "environ").read_bytes().split(b"\0"):
                    found.append((directory / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace"))
            except OSError:
                continue
        return [each for each in found if each]

    def nothing_runs_on(self) -> None:
        eventually(lambda: not self.processes(), 10, self.processes)


def _epoch(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()
