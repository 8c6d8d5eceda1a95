"""The cluster of a laptop: a node that runs pods of the laptop's registry, and a host that is left as it was.

`scripts/test-real` runs these tests in a network namespace, because two kube-proxies cannot share one.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import pytest

from cscm_laptop.cluster.certificates import CONTEXT
from cscm_laptop.cluster.host import find_cgroups, list_processes
from cscm_laptop.cluster.lost import remove_lost_cluster
from cscm_laptop.cluster.place import Place
from cscm_laptop.cluster.pods import TASKS
from cscm_laptop.home import Home
from supply_chain.adapters.aws.accounts import POLICIES as IAM
from supply_chain.adapters.aws.accounts import Administrator, ensure_accounts
from tests.support.command import ROOT, copy_deployments
from tests.support.emulator import REGION, Emulator, crane, python, running
from tests.support.host import snapshot_host
from tests.support.place import free_ports

__all__ = ["crane", "python"]

pytestmark = [pytest.mark.real, pytest.mark.skipif(os.geteuid() != 0, reason="only root starts a node")]

COLD = 60.0
"""Seconds for a first start whose programs are there."""
WARM = 30.0
"""Seconds for a start with state, on a machine that runs other tests; it takes 10 where it has nothing else to do."""
MEMORY = 700
"""MiB for the whole cluster, with two pods."""
SETTINGS = """
ports: {{emulator: {emulator}, prefect: {prefect}}}
cluster: {{first_port: {first}, bridge: cscm-test, pods: 10.244.77.0/24, services: 10.245.77.0/24}}
"""
POD = {"restartPolicy": "Always", "automountServiceAccountToken": False, "terminationGracePeriodSeconds": 1}


@dataclass
class Cluster:
    """A project, its home, and the commands of its cluster."""

    project: Path
    home: Home
    registry: Emulator

    def cscm(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-c", "from cscm.main import main; main()", "cluster", *arguments],
            cwd=self.project,
            env={
                **os.environ,
                "CSCM_HOME": str(self.home.directory),
                "CSCM_PROJECT": str(self.project),
                "PYTHONPATH": f"{ROOT}/src:{ROOT}",
            },
            capture_output=True,
            text=True,
            timeout=900,
            check=False,
        )
        assert not check or done.returncode == 0, done.stdout + done.stderr
        return done

    def status(self) -> dict[str, Any]:
        return dict(json.loads(self.cscm("status", "--json", check=False).stdout))

    def pid(self, component: str) -> int:
        return int(next(each["pid"] for each in self.status()["components"] if each["name"] == component))

    def kubectl(self, *arguments: str, given: dict[str, Any] | None = None, check: bool = True) -> str:
        program = next(self.home.tools.glob("kube-*/kube"), None)
        kubectl = [program, "kubectl"] if program else [next(self.home.tools.glob("kubernetes-*/kubectl"))]
        done = subprocess.run(
            [*kubectl, "--kubeconfig", self.home.cluster / "keys/admin.kubeconfig", "--context", CONTEXT, *arguments],
            input=json.dumps(given) if given else None,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert not check or done.returncode == 0, done.stderr
        return done.stdout

    def run_pod(self, name: str, image: str) -> None:
        spec = {**POD, "containers": [{"name": "main", "image": image}]}
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}
        self.kubectl("apply", "-f", "-", given=pod)

    def push(self, repository: str) -> str:
        """Push the pause program as an image to the laptop's registry, and return its reference by digest."""
        program = next(self.home.tools.glob("pause-*/pause"))
        layer = self.project / "layer.tar"
        subprocess.run(["tar", "-C", program.parent, "-cf", layer, "pause"], check=True)
        password, name = self.registry.login(), f"{self.registry.host}/{repository}"
        self.registry.repository(repository)
        for arguments in (
            ("append", "--oci-empty-base", "-f", str(layer), "-t", f"{name}:1"),
            ("mutate", f"{name}:1", "--entrypoint", "/pause", "-t", f"{name}:1"),
        ):
            done = self.registry.run_crane(password, *arguments)
            assert done.returncode == 0, done.stderr
        return f"{name}@{self.registry.run_crane(password, 'digest', f'{name}:1').stdout.strip()}"

    def wait_for(self, pod: str, seconds: float = 60.0) -> None:
        self.kubectl("wait", "--for=condition=Ready", f"pod/{pod}", f"--timeout={seconds:.0f}s")


@pytest.fixture(scope="module")
def registry(home: Home, python: Path, crane: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    """An emulator of its own, which stands for the laptop's."""
    with running(python, crane, tmp_path_factory.mktemp("registry")) as started:
        yield started


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of the project and of its home."""
    return tmp_path_factory.mktemp("node")


@pytest.fixture(scope="module")
def before(directory: Path) -> dict[str, list[str]]:
    """The host before the cluster."""
    return snapshot_host(directory)


@pytest.fixture(scope="module")
def cluster(home: Home, registry: Emulator, before: dict[str, list[str]], directory: Path) -> Iterator[Cluster]:
    """A cluster that was started once, in a home of its own with the tools of the real home."""
    project, own = directory / "project", Home(directory / "project", directory / "home")
    copy_deployments(project)
    for name in ("src", "pyproject.toml", "prefect.yaml"):
        (project / name).symlink_to(ROOT / name)
    first, prefect = free_ports(2)
    profile = SETTINGS.format(emulator=registry.port, prefect=prefect, first=first)
    (project / "deployments/profiles/laptop.yaml").write_text(profile)
    own.create()
    own.tools.rmdir()
    own.tools.symlink_to(home.tools)
    _write_state(registry, own)
    found = Cluster(project, own, registry)
    try:
        yield found
    finally:
        found.cscm("down", check=False)


def _write_state(registry: Emulator, home: Home) -> None:
    """Write of the laptop's state what the credential provider reads."""
    root = boto3.Session(*registry.root.values(), region_name=REGION)
    accounts = ensure_accounts(Administrator.of(root, f"http://{registry.host}"), ROOT / IAM, home.state / "keys.json")
    state = {"registry": registry.host, "region": REGION, "endpoint_url": f"http://{registry.host}"}
    identities = {name: each.model_dump() for name, each in accounts.identities.items()}
    home.laptop_state.write_text(json.dumps({**state, "identities": identities}))


def test_first_start_ends_with_a_ready_node(cluster: Cluster) -> None:
    started = time.monotonic()

    cluster.cscm("up")

    assert time.monotonic() - started < COLD
    status = cluster.status()
    assert status["node"]["ready"] and status["node"]["version"].startswith("v1.")
    assert all(each["running"] and each["pid"] for each in status["components"])
    assert Path(status["kubeconfig"]).stat().st_mode & 0o777 == 0o600


def test_pod_runs_curated_image_of_the_laptop_registry(cluster: Cluster) -> None:
    """The kubelet gets a token of the execution tier from our credential provider."""
    cluster.run_pod("curated", cluster.push("curated/pause"))

    cluster.wait_for("curated")

    assert cluster.status()["node"]["pods"] == 1


def test_pod_reaches_the_api_server_by_its_service(cluster: Cluster) -> None:
    """The address is kube-proxy's; without credentials, the answer is 401."""
    (process, *_) = list_processes(find_cgroups(Place.of(cluster.home).name))
    inside = ["nsenter", f"--net=/proc/{process}/ns/net"]

    done = subprocess.run(
        [*inside, "curl", "-sk", "-m", "5", "-w", "%{http_code}", "https://10.245.77.1/readyz"],
        capture_output=True,
        text=True,
        check=True,
    )

    assert done.stdout.endswith("401")


def test_network_policy_is_enforced(cluster: Cluster) -> None:
    """The pod reached the API server before."""
    (process, *_) = list_processes(find_cgroups(Place.of(cluster.home).name))
    policy = {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": "nothing"},
        "spec": {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]},
    }
    call = ["nsenter", f"--net=/proc/{process}/ns/net", "curl", "-sk", "-m", "2", "https://10.245.77.1/readyz"]

    cluster.kubectl("apply", "-f", "-", given=policy)

    end = time.monotonic() + 30
    while subprocess.run(call, check=False, capture_output=True).returncode == 0 and time.monotonic() < end:
        time.sleep(0.2)
    refused = subprocess.run(call, check=False, capture_output=True).returncode
    cluster.kubectl("delete", "networkpolicy/nothing")
    assert refused in (7, 28)  # curl: no connection, or no answer in time


def test_kubelet_cannot_pull_image_outside_curated(cluster: Cluster) -> None:
    cluster.run_pod("uncurated", cluster.push("dev/pause"))

    end = time.monotonic() + 30
    reason = ""
    while reason not in ("ErrImagePull", "ImagePullBackOff") and time.monotonic() < end:
        reason = cluster.kubectl(
            "get", "pod/uncurated", "-o", "jsonpath={.status.containerStatuses[0].state.waiting.reason}"
        )
        time.sleep(0.5)
    assert reason in ("ErrImagePull", "ImagePullBackOff")
    cluster.kubectl("delete", "pod/uncurated", "--grace-period=0", "--force")


def test_memory_of_cluster_stays_below_its_limit(cluster: Cluster) -> None:
    assert 0 < cluster.status()["memory"] <= MEMORY


def test_etcd_refuses_the_administrator_of_the_cluster(cluster: Cluster) -> None:
    """Its authority is another one."""
    keys = cluster.home.cluster / "keys"
    port = next(word for word in _arguments(cluster.pid("etcd")) if word.startswith("--listen-client-urls="))
    url = f"{port.partition('=')[2]}/health"
    curl = ["curl", "--silent", "--fail", "--max-time", "5", "--cacert", str(keys / "etcd-ca.crt"), url]

    admin = subprocess.run([*curl, "--cert", keys / "admin.crt", "--key", keys / "admin.key"], check=False)
    own = subprocess.run([*curl, "--cert", keys / "etcd.crt", "--key", keys / "etcd.key"], check=False)

    assert admin.returncode != 0 and own.returncode == 0


def _arguments(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/cmdline").read_text().split("\0")


def test_up_restarts_killed_component_without_restarting_kubelet(cluster: Cluster) -> None:
    kubelet = cluster.pid("kubelet")
    os.kill(cluster.pid("apiserver"), signal.SIGKILL)
    while cluster.status()["components"][2]["running"]:
        time.sleep(0.1)

    started = time.monotonic()
    cluster.cscm("up")

    assert time.monotonic() - started < WARM
    assert cluster.pid("kubelet") == kubelet and cluster.status()["node"]["ready"]


def test_down_restores_host_and_ends_shims(cluster: Cluster, before: dict[str, list[str]], directory: Path) -> None:
    addresses = (cluster.home.cluster / "run" / TASKS).glob("*/address")
    sockets = [Path(file.read_text().strip().removeprefix("unix://")) for file in addresses]

    cluster.cscm("down")

    assert snapshot_host(directory) == before
    assert sockets and not any(socket.exists() for socket in sockets)
    assert not cluster.status()["node"]["ready"]


def test_down_twice_does_nothing(cluster: Cluster, before: dict[str, list[str]], directory: Path) -> None:
    cluster.cscm("down")

    assert snapshot_host(directory) == before


def test_start_with_state_takes_seconds_and_restores_pods(cluster: Cluster) -> None:
    started = time.monotonic()

    cluster.cscm("up")

    assert time.monotonic() - started < WARM
    cluster.wait_for("curated")


def test_down_after_crash_restores_host(cluster: Cluster, before: dict[str, list[str]], directory: Path) -> None:
    """Every component was killed, pods and shims run on."""
    for each in cluster.status()["components"]:
        os.kill(each["pid"], signal.SIGKILL)

    cluster.cscm("down")

    assert snapshot_host(directory) == before


def test_cluster_of_lost_home_is_removed(cluster: Cluster, before: dict[str, list[str]], directory: Path) -> None:
    """Somebody removed the directory while everything ran; what was recorded is outside of it."""
    cluster.cscm("up")
    cluster.wait_for("curated")
    owner = cluster.home.owner
    remove_lost_cluster(owner, print)
    assert cluster.status()["node"]["ready"], "a home that exists is not lost"
    subprocess.run(["rm", "-rf", cluster.home.directory], check=False, capture_output=True)  # mounts stay

    remove_lost_cluster(owner, print)

    assert snapshot_host(directory) == before and not cluster.home.cluster.exists()
