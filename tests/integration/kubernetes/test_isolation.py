"""Isolation in a real cluster: traffic that is really tried, by the documented roles."""

from __future__ import annotations

import io
import json
import subprocess
import tarfile
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path

import pytest

from supply_chain.adapters.kubernetes.client import ClusterClient
from supply_chain.errors import ClusterRefused
from supply_chain.execution.enforcement.admitted import AdmittedImages
from supply_chain.execution.environment import KubernetesEnvironment, KubernetesPlacement
from supply_chain.execution.isolation.settings import CollectorSettings, RecoveryMode, ResponseSettings
from supply_chain.execution.kubernetes.cluster import (
    FIELD_MANAGER,
    NETWORK_POLICIES,
    PODS,
    Document,
)
from supply_chain.execution.kubernetes.isolator import KubernetesIsolator
from supply_chain.execution.kubernetes.rollout import is_ending, is_ready
from supply_chain.execution.kubernetes.target import KubernetesTarget
from supply_chain.model.container import QUARANTINE
from supply_chain.model.declaration import Runtime, Service
from supply_chain.model.image import Digest, digest_of
from tests.contract.target import Harness
from tests.support.admission import enforce, install_policies, wait_until
from tests.support.cluster_images import NAME, REGISTRY, Import, imported_python
from tests.support.cluster_roles import DEPLOYER, bind_role, make_account, restricted_namespace
from tests.support.isolation import Isolation
from tests.support.node import DECLARATION, SECURE, find_digest
from tests.support.present import present
from tests.support.waiting import eventually
from tests.support.world import World

pytestmark = pytest.mark.real

ISOLATOR = "cscm-isolator"
ROLES = {DEPLOYER: (DEPLOYER,), ISOLATOR: (DEPLOYER, ISOLATOR)}
"""Service account → the documented roles that it has."""
SOON = 60.0
"""Seconds in which pods are ready, and policies of the network have an effect, on a busy machine."""


@pytest.fixture(scope="module")
def namespace(cluster: ClusterClient) -> Iterator[str]:
    """A namespace in which a service account may deploy, and another one also isolate."""
    with restricted_namespace(cluster, "isolate") as name:
        for account, roles in ROLES.items():
            make_account(cluster, account, name)
            for role in roles:
                bind_role(cluster, role, account, name, name=f"{account}-{role}")
        yield name


def isolation_in(
    cluster: ClusterClient,
    namespace: str,
    image: Import,
    account: str,
    collector: str = "",
    declaration: Service = DECLARATION,
) -> Isolation:
    """Return an environment in a namespace, in which a service account deploys and isolates."""
    settings = CollectorSettings(image=collector.removeprefix(f"{REGISTRY}/")) if collector else None
    environment = KubernetesEnvironment(
        name="staging", target="kubernetes", cluster="c", namespace=namespace,
        applications={"hello": KubernetesPlacement(replicas=2)}, response=ResponseSettings(collector=settings),
        ignored_objects=(
            "NetworkPolicy/peer", *(f"RoleBinding/{name}-{role}" for name in ROLES for role in ROLES[name]),
        ),
    )  # fmt: skip
    connect = cache(lambda: cluster.for_service_account(namespace, account, FIELD_MANAGER, 3600))

    def now() -> datetime:
        return datetime.now(UTC)

    def running() -> set[Digest]:
        return {find_digest(pod) for pod in running_pods(cluster, namespace)}

    target = KubernetesTarget(environment, connect, REGISTRY, now, time.sleep)
    harness = Harness(target, declaration, image, "", running, lambda digest: digest)
    world = World(now=now() + timedelta(days=1))
    isolator = KubernetesIsolator(environment, connect, now, time.sleep, f"{REGISTRY}/{{}}".format)
    made = Isolation(harness, isolator, world, now)
    harness.target = replace(target, list_isolations=made.list_isolations)
    return made


def running_pods(cluster: ClusterClient, namespace: str) -> list[Document]:
    return [pod for pod in cluster.list(PODS, namespace) if not is_ending(pod)]


@cache
def process_of(container: str) -> str:
    """Return the process id of a container."""
    tasks = subprocess.run(["ctr", "-n", "k8s.io", "tasks", "ls"], check=True, capture_output=True, text=True).stdout
    return next(line.split()[1] for line in tasks.splitlines() if line.startswith(container))


def reaches(client: Document, server: Document) -> bool:
    """Return whether one pod reaches the other; it is tried in the network namespace of the first."""
    process = process_of(client["status"]["containerStatuses"][0]["containerID"].removeprefix("containerd://"))
    address = f"http://{server['status']['podIP']}:8080/"
    inside = ["nsenter", f"--net=/proc/{process}/ns/net", "curl", "-s", "-m", "1", address]
    return subprocess.run(inside, check=False, capture_output=True, timeout=30).returncode == 0


@pytest.fixture
def peer(cluster: ClusterClient, namespace: str, image: Import) -> Document:
    """A pod that may reach every pod of the namespace and answers all of them, as far as their own policies allow."""
    metadata = {"name": "peer", "namespace": namespace, "labels": {"app": "peer"}}
    selector = {"podSelector": {"matchLabels": {"app": "peer"}}, "policyTypes": ["Ingress", "Egress"]}
    cluster.apply(
        NETWORK_POLICIES,
        {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "NetworkPolicy",
            "metadata": metadata,
            "spec": {**selector, "ingress": [{}], "egress": [{}]},
        },
    )
    container = {"name": "peer", "image": f"{NAME}@{image()}", "imagePullPolicy": "Never", "securityContext": SECURE}
    cluster.apply(PODS, {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {"containers": [container]}})
    eventually(lambda: any(map(is_ready, cluster.list(PODS, namespace, {"app": "peer"}))), SOON)
    return cluster.list(PODS, namespace, {"app": "peer"})[0]


def test_isolated_pods_have_no_traffic_and_the_earlier_image_serves(
    cluster: ClusterClient, namespace: str, image: Import, peer: Document
) -> None:
    """They go on running; the record opens with the key, and has the time from the event to the isolation."""
    isolation = isolation_in(cluster, namespace, image, ISOLATOR)
    first = isolation.harness.deploy(image())
    second = isolation.harness.deploy(image())
    bad = [pod for pod in running_pods(cluster, namespace) if find_digest(pod) == second.digest]
    pairs = [pair for pod in bad for pair in ((peer, pod), (pod, peer))]
    eventually(lambda: all(reaches(*pair) for pair in pairs), SOON)

    case = isolation.case().model_copy(update={"since": isolation.now()})
    case = isolation.isolator.quarantine(case)
    assert case.isolated
    eventually(lambda: not any(reaches(*pair) for pair in pairs), SOON)
    record = isolation.run(case=case)

    assert 0 < record.seconds < 30
    # A step that is repeated also isolates the pods that started in place of the first and did not end yet.
    isolated = {pod["metadata"]["uid"] for pod in bad}
    assert {each.uid for each in record.pods} >= isolated
    assert all(each.node and each.containers["application"] for each in record.pods if each.uid in isolated)
    quarantined = cluster.list(PODS, namespace, {QUARANTINE: "hello"})
    phases = [pod["status"]["phase"] for pod in quarantined if pod["metadata"]["uid"] in isolated]
    assert phases == ["Running"] * 2
    assert not any(reaches(*pair) for pair in pairs) and record.allowing_policies == ()
    assert record.recovery and record.recovery.digest == first.digest
    with tarfile.open(fileobj=io.BytesIO(isolation.opened(record))) as archive:
        names = set(archive.getnames())
        log = archive.extractfile(f"pods/{bad[0]['metadata']['name']}/application.log")
        assert log and b"listening" in log.read()
    assert {"deployment.json", "events.json", "network-policies.json", "replica-sets.json"} <= names
    good = [pod for pod in running_pods(cluster, namespace) if find_digest(pod) == first.digest]
    assert len(good) == 2
    eventually(lambda: all(reaches(peer, pod) for pod in good), SOON)
    codes = sorted(code for _, found in isolation.harness.codes(isolation.harness.recorded[-1]) for code in found)
    assert codes == ["drift.foreign", *["drift.quarantined"] * max(2, len(codes) - 1)]


def test_role_that_deploys_does_not_isolate(cluster: ClusterClient, namespace: str, image: Import) -> None:
    """Changing pods is a permission of its own."""
    isolation = isolation_in(cluster, namespace, image, DEPLOYER)
    isolation.harness.deploy(image())

    with pytest.raises(ClusterRefused, match="forbidden"):
        isolation.run()


@pytest.fixture
def python(tmp_path: Path) -> Iterator[str]:
    """The reference of an image with Python."""
    with imported_python(tmp_path) as made:
        yield made


def test_processes_and_changed_files_are_collected_under_enforcement(
    cluster: ClusterClient, image: Import, python: str
) -> None:
    """By the documented role, in a namespace that admits the application's image and the collector, and no other."""
    digest = image("writes")
    declaration = DECLARATION.model_copy(update={"runtime": Runtime(writable=("/data",))})
    with install_policies(cluster) as policies, enforce(cluster, policies) as enforced:
        namespace = enforced.place.namespace
        make_account(cluster, ISOLATOR, namespace)
        for role in ROLES[ISOLATOR]:
            bind_role(cluster, role, ISOLATOR, namespace, name=f"{ISOLATOR}-{role}")
        admitted = AdmittedImages(
            environment="staging", repositories=f"{REGISTRY}/curated/", images={"hello": {digest: ""}}
        )
        enforced.parameters.write(enforced.place.parameters, admitted.with_collector(python), "")
        wait_until(lambda: not enforced.refusal_of(f"{NAME}@{digest}") and enforced.refusal_of(python))
        isolation = isolation_in(cluster, namespace, image, ISOLATOR, python, declaration)
        isolation.harness.deploy(digest)
        pods = [pod["metadata"]["name"] for pod in running_pods(cluster, namespace)]

        record = isolation.run(RecoveryMode.SCALE_TO_ZERO)

        # In place of the pods in quarantine others may start, which end.
        assert {each.why for each in record.uncollected} <= {"it is ending", "it does not run"} and len(pods) == 2
        assert {each.name for each in record.pods} >= set(pods)
        with tarfile.open(fileobj=io.BytesIO(isolation.opened(record))) as archive:
            found = {each.name: present(archive.extractfile(each)).read() for each in archive}
    for pod in pods:
        path = f"pods/{pod}/application"
        processes = {each["pid"]: each for each in json.loads(found[f"{path}/processes.json"])}
        assert processes[1]["command"] == ["/subject", "writes"] and processes[1]["program"] == "/subject"
        changed = {each["path"]: each for each in json.loads(found[f"{path}/changed-files.json"])["files"]}
        assert (changed["/data/state"]["digest"], changed["/data/state"]["mode"]) == (digest_of(b"x"), "-rw-------")
        assert found[f"{path}/files/{digest_of(b'x').removeprefix('sha256:')}"] == b"x"
        assert "/subject" not in changed
