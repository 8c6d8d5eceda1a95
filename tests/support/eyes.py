"""Eyes that look from outside at what a run left: registry, engine, Prefect, processes, temporary files."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import docker
import httpx
from docker.models.containers import Container

from cscm_laptop.emulator_service import locate_root_key, open_root_session
from cscm_laptop.home import Home
from cscm_laptop.laptop import LaptopState, load_state
from supply_chain.adapters.docker.engine import list_images
from supply_chain.concurrency import map_concurrently
from supply_chain.evidence.store import PREDICATE
from supply_chain.model.container import APPLICATION, ENVIRONMENT, MANAGED, ROLE
from supply_chain.model.tier import TierName
from tests.support.access import Outsider, Prefect
from tests.support.command import cscm
from tests.support.waiting import PLAIN, eventually

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
            self.check_content(repository)
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
        eventually(lambda: not self.keys_in_memory(), 10, self.keys_in_memory)
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
            return httpx.get(url, timeout=5, verify=PLAIN).status_code == 200
        except httpx.HTTPError:
            return False

    # The registry

    def ecr(self) -> Any:
        root = open_root_session(locate_root_key(self.home), self.laptop.region)
        return root.client("ecr", endpoint_url=self.laptop.endpoint_url)

    def tagged(self, repository: str) -> dict[str, str]:
        """Tag → digest."""
        pages = self.ecr().get_paginator("list_images").paginate(repositoryName=repository)
        return {i["imageTag"]: i["imageDigest"] for page in pages for i in page["imageIds"] if "imageTag" in i}

    def check_content(self, repository: str) -> None:
        """Every manifest of the repository can be read, and all that it names is there."""
        pages = self.ecr().get_paginator("list_images").paginate(repositoryName=repository)
        digests = {each["imageDigest"] for page in pages for each in page["imageIds"]}
        with self._outsider().registry(repository) as client:
            for digest in digests:
                manifest = client.get(f"manifests/{digest}").raise_for_status().json()
                for part in (manifest["config"], *manifest["layers"]):
                    answer = client.head(f"blobs/{part['digest']}").raise_for_status()
                    assert int(answer.headers["Content-Length"]) == part["size"], (digest, part)

    def attached(self, repository: str, digest: str) -> Counter[str]:
        """How many statements of each type are attached to an image."""
        with self._outsider().registry(repository) as client:
            found = client.get(f"referrers/{digest}").raise_for_status().json()["manifests"]
        return Counter(each.get("annotations", {}).get(PREDICATE, each["artifactType"]) for each in found)

    def verifies(self, image: str) -> None:
        """Plain cosign, with public keys alone, finds signature and statements."""
        outsider, keys = self._outsider(), {tier: self._key(tier) for tier in TierName}
        wanted: list[tuple[tuple[str, ...], TierName]] = [
            (("verify", "--annotations", "admitted-by=curation"), TierName.CURATION),
            *((("verify-attestation", "--type", kind), tier) for kind, tier in STATEMENTS.items()),
        ]
        done = map_concurrently(lambda each: outsider.verify(*each[0], key=keys[each[1]], image=image), wanted)
        for (words, _), each in zip(wanted, done, strict=True):
            assert each.returncode == 0, f"{words}: {each.stderr}"

    def valid(self, image: str) -> None:
        """Every byte of the image is what its digest says."""
        done = self._outsider().run("crane", "validate", "--insecure", "--remote", f"{self.laptop.registry}/{image}")
        assert done.returncode == 0, done.stderr

    def _outsider(self) -> Outsider:
        return Outsider.of(self.laptop, TierName.CURATION, self.keys)

    def _key(self, tier: TierName) -> Path:
        path = self.keys / f"{tier}.pub"
        path.write_text(self.laptop.identities[tier].public_key)
        return path

    # The engine

    def containers(self, application: str, **labels: str) -> list[Container]:
        wanted = {MANAGED: "true", APPLICATION: application, **labels}
        with contextlib.closing(docker.from_env()) as client:
            return containers(client, **wanted)

    def running(self, application: str) -> Container:
        """The one container of the application in its environment, behind its one reverse proxy."""
        places = {
            role: self.containers(application, **{ROLE: role, ENVIRONMENT: self.environment})
            for role in ("application", "reverse-proxy")
        }
        assert [len(found) for found in places.values()] == [1, 1], places
        assert len(self.containers(application)) == 2, "more than an application and its reverse proxy"
        return places["application"][0]

    def left_in_the_engine(self, application: str) -> list[str]:
        """What only a run that is under way may have there."""
        with contextlib.closing(docker.from_env()) as client:
            label = {"label": f"{APPLICATION}={application}"}
            volumes = [v.name for v in client.volumes.list(filters=label)]
            networks = [n.name for n in client.networks.list(filters={"label": f"{APPLICATION}={application}"})]
            reverse_proxies = [c.name for c in self.containers(application, **{ROLE: "reverse-proxy"})]
            tags = [tag for image in list_images(client.api) for tag in image["RepoTags"] or ()]
        return [
            *networks,
            *(v for v in volumes if v not in reverse_proxies),
            *(tag for tag in tags if f"cscm.local/{application}:" in tag or f"/dev/{application}:" in tag),
        ]

    # Prefect

    @property
    def prefect(self) -> Prefect:
        return Prefect.of(self.home, self.laptop.prefect_api_url)

    def begun(self, application: str, since: float) -> bool:
        """Whether a run of its first tier is under way that was created after `since`."""
        runs = self.prefect.ask("flow_runs/filter", {"flow_runs": {"name": {"like_": f"build {application}"}}})
        return any(run["state_type"] == "RUNNING" and _epoch(run["created"]) > since for run in runs)

    def slots(self) -> dict[str, int]:
        """The limits of which slots are taken."""
        return self.prefect.slots()

    def observed(self, application: str) -> dict[str, Any]:
        """What the monitor says of the application."""
        ran = cscm("monitor", "--environment", self.environment, "--json", timeout=120)
        assert ran.status == 0, ran.stderr
        (observation,) = [each for each in ran.result if each["application"] == application]
        return dict(observation)

    # This machine

    def temporary(self) -> list[str]:
        """What the runs that are looked at left in temporary directories."""
        return [str(path) for path in self.scratch.rglob("*")]

    def keys_in_memory(self) -> list[str]:
        """Private keys of runs; another session's may be there for a moment."""
        return [str(path) for path in SHARED_MEMORY.glob("cscm-*")]

    def processes(self) -> list[str]:
        """Command lines of what the runs that are looked at started and that still runs."""
        return processes(lambda _, environment: f"TMPDIR={self.scratch}".encode() in environment.split(b"\0"))

    def nothing_runs_on(self) -> None:
        eventually(lambda: not self.processes(), 10, self.processes)


def _epoch(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def containers(engine: docker.DockerClient, **labels: str) -> list[Container]:
    """All containers, running or not, with these labels."""
    wanted = [f"{key}={value}" for key, value in labels.items()]
    return engine.containers.list(all=True, filters={"label": wanted}, ignore_removed=True)


def processes(wanted: Callable[[bytes, bytes], bool]) -> list[str]:
    """Command lines of the processes that are wanted, by their command line and environment as the kernel has them."""
    found = []
    for directory in Path("/proc").glob("[0-9]*"):
        command, environment = (_read(directory / name) for name in ("cmdline", "environ"))
        if command and wanted(command, environment):
            found.append(command.replace(b"\0", b" ").decode(errors="replace"))
    return found


def _read(file: Path) -> bytes:
    """What the kernel says; nothing of a process that has just ended, nor of another user's environment."""
    try:
        return file.read_bytes()
    except OSError:
        return b""
