"""A namespace of a real cluster as a target: images on its node, and the documented role that deploys."""

from __future__ import annotations

import io
import subprocess
import tarfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from uuid import uuid4

from supply_chain.adapters.kubernetes.client import ClusterClient
from supply_chain.execution.enforcement.installation import KINDS, read_objects
from supply_chain.execution.environment import KubernetesEnvironment, KubernetesPlacement
from supply_chain.execution.kubernetes.cluster import FIELD_MANAGER, NAMESPACES, PODS, SERVICE_ACCOUNTS, Cluster
from supply_chain.execution.kubernetes.rollout import is_ending, is_ready
from supply_chain.execution.kubernetes.target import KubernetesTarget
from supply_chain.model.image import Digest
from supply_chain.model.manifest import Probe, Service, Test
from tests.contract.target import Harness
from tests.support.command import ROOT
from tests.support.layered import layered

REGISTRY = "registry.test"
NAME = f"{REGISTRY}/curated/hello"
DEPLOYER = "cscm-deployer"
CTR = ("ctr", "-n", "k8s.io")
MANIFEST = Service(
    kind="service", name="hello", owner="tests", test=Test(command=("/subject", "status-0")),
    probe=Probe(port=8080, start_timeout=20, stop_timeout=1),
)  # fmt: skip
Import = Callable[..., Digest]


@contextmanager
def import_images(program: Path, directory: Path) -> Iterator[Import]:
    """Yield a function that imports an image of the program into the node, with faults, and returns its digest."""
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as tar:
        entry = tarfile.TarInfo("subject")
        entry.mode, entry.size = 0o755, program.stat().st_size
        tar.addfile(entry, io.BytesIO(program.read_bytes()))
    made: list[str] = []

    def make(*faults: str) -> Digest:
        path = directory / f"{uuid4().hex}.tar"
        config: dict[str, object] = {"Entrypoint": ["/subject"], "Cmd": list(faults), "Labels": {"test": uuid4().hex}}
        digest = layered(path, [layer.getvalue()], config)
        run_ctr("images", "import", "--base-name", NAME, "--digests", str(path))
        path.unlink()
        made.append(f"{NAME}@{digest}")
        return digest

    try:
        yield make
    finally:
        if made:
            run_ctr("images", "rm", *made)


def run_ctr(*arguments: str) -> str:
    """Run a command of the node's containerd, and return its output."""
    return subprocess.run([*CTR, *arguments], check=True, timeout=60, capture_output=True, text=True).stdout


@contextmanager
def deployable_namespace(cluster: ClusterClient, prefix: str) -> Iterator[str]:
    """Yield a new namespace with Pod Security `restricted`, in which a service account has the documented role."""
    name = f"{prefix}-{uuid4().hex[:8]}"
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    cluster.apply(NAMESPACES, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})
    try:
        metadata = {"name": DEPLOYER, "namespace": name}
        cluster.apply(SERVICE_ACCOUNTS, {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata})
        roles = {each["metadata"]["name"]: each for each in read_objects(ROOT / "deployments/kubernetes/rbac")}
        cluster.apply(KINDS["Role"], {**roles[DEPLOYER], "kind": "Role", "metadata": metadata})
        cluster.apply(KINDS["RoleBinding"], {
            "apiVersion": KINDS["RoleBinding"].api_version, "kind": "RoleBinding", "metadata": metadata,
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": DEPLOYER},
            "subjects": [{"kind": "ServiceAccount", **metadata}],
        })  # fmt: skip
        yield name
    finally:
        cluster.delete(NAMESPACES, name)


@dataclass
class Place(Harness):
    """An environment in a namespace of a cluster."""

    cluster: ClusterClient = field(kw_only=True)
    """With an administrator's permissions."""
    namespace: str = field(kw_only=True)

    @classmethod
    def of(cls, cluster: ClusterClient, namespace: str, image: Import, **placement: object) -> Place:
        """Return the environment of a namespace, to which the documented role signs in."""

        def running() -> set[Digest]:
            alive = [pod for pod in cluster.list(PODS, namespace) if not is_ending(pod)]
            return {pod["spec"]["containers"][0]["image"].rpartition("@")[2] for pod in alive}

        deployer = cache(lambda: cluster.for_service_account(namespace, DEPLOYER, FIELD_MANAGER, 3600))
        target = target_in(namespace, deployer, **placement)
        return cls(target, MANIFEST, image, "", running, lambda digest: digest, cluster=cluster, namespace=namespace)

    @property
    def serving(self) -> set[Digest]:
        """The digests of the pods that are ready and do not end."""
        ready = [pod for pod in self.cluster.list(PODS, self.namespace) if is_ready(pod) and not is_ending(pod)]
        return {pod["spec"]["containers"][0]["image"].rpartition("@")[2] for pod in ready}


def target_in(namespace: str, connect: Callable[[], Cluster], **placement: object) -> KubernetesTarget:
    """Return an environment in a namespace."""
    environment = KubernetesEnvironment(
        name="staging", target="kubernetes", cluster="c", namespace=namespace,
        applications={"hello": KubernetesPlacement.model_validate(placement)},
    )  # fmt: skip
    return KubernetesTarget(environment, connect, REGISTRY, lambda: datetime.now(UTC), time.sleep)
