"""What one look of `monitor` at a large namespace takes. Writes a part of docs/performance.md.

    python -m bench.monitoring KUBECONFIG [--deployments 200] [--pods 10] [--looks 3] [--dry]

The Deployments are rendered as by a deployment, but name a scheduler that does not exist. So the cluster makes
ReplicaSets and pods as objects, and no node runs them. Their status is written as a kubelet would write it. Each look
is a process of its own. Records are not read from a registry, and verdicts are not read.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

from lightkube.resources.core_v1 import PodStatus
from lightkube.types import PatchType
from pydantic import TypeAdapter

from bench.section import write_section
from supply_chain.adapters.kubernetes.client import ClusterClient
from supply_chain.concurrency import map_concurrently
from supply_chain.execution.deployment import Expected, KubernetesPlace
from supply_chain.execution.environment import KubernetesEnvironment, KubernetesPlacement
from supply_chain.execution.kubernetes.cluster import DEPLOYMENTS, NAMESPACES, PODS, Document
from supply_chain.execution.kubernetes.rendering import CONTAINER, Workload, render
from supply_chain.execution.kubernetes.target import KubernetesTarget
from supply_chain.model.declaration import Probe, Service, Test
from supply_chain.model.image import ImageRef, digest_of
from tests.support.admission import wait_until

EXPECTED = TypeAdapter(tuple[Expected, ...])
LONGEST = 1800.0
"""Seconds within which the cluster has made all pods."""


def environment_of(namespace: str, deployments: int, pods: int) -> KubernetesEnvironment:
    """Return an environment with so many applications, each of so many pods."""
    placements = {f"application-{number}": KubernetesPlacement(replicas=pods) for number in range(deployments)}
    return KubernetesEnvironment(
        name="bench", target="kubernetes", cluster="c", namespace=namespace, applications=placements
    )


def deploy(admin: ClusterClient, environment: KubernetesEnvironment, name: str) -> Expected:
    """Apply the objects of an application; return what should run."""
    declaration = Service(
        kind="service", name=name, owner="bench", test=Test(command=("/true",)), probe=Probe(port=8080),
    )  # fmt: skip
    ref = ImageRef(repository=f"curated/{name}", digest=digest_of(name.encode()))
    workload = Workload(declaration, ref, environment, "registry.test")
    documents = [_without_scheduler(document) for _, document in render(workload)]
    for (kind, _), document in zip(render(workload), documents, strict=True):
        made = admin.apply(kind, document)
    return Expected(
        environment=environment.name, application=name, digest=ref.digest, container=made["metadata"]["uid"],
        name=workload.name, probe=declaration.probe, settings=workload.settings, profile=workload.profile,
        configuration=workload.configuration,
        place=KubernetesPlace(cluster="c", namespace=environment.namespace, documents=tuple(map(dict, documents))),
    )  # fmt: skip


def _without_scheduler(document: Document) -> Document:
    if document["kind"] != DEPLOYMENTS.name:
        return document
    copy: dict[str, Any] = json.loads(json.dumps(document))
    copy["spec"]["template"]["spec"]["schedulerName"] = "none"
    return copy


def make_ready(admin: ClusterClient, pod: Document) -> None:
    """Write the status of a pod as the kubelet does of one that is ready."""
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    conditions = ("PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled")
    image = pod["spec"]["containers"][0]["image"]
    status = {
        "name": CONTAINER, "ready": True, "started": True, "restartCount": 0, "image": image, "imageID": image,
        "containerID": f"containerd://{uuid4().hex}{uuid4().hex}", "state": {"running": {"startedAt": now}},
    }  # fmt: skip
    written = {
        "phase": "Running", "startTime": now, "containerStatuses": [status],
        "conditions": [{"type": each, "status": "True", "lastTransitionTime": now} for each in conditions],
    }  # fmt: skip
    metadata = pod["metadata"]
    admin.client.patch(
        PodStatus, metadata["name"], {"status": written}, namespace=metadata["namespace"], patch_type=PatchType.MERGE
    )  # fmt: skip


@contextmanager
def prepared(
    admin: ClusterClient, deployments: int, pods: int
) -> Iterator[tuple[KubernetesEnvironment, list[Expected]]]:
    """Yield an environment with all of its deployments; remove its namespace afterwards."""
    environment = environment_of(f"watch-bench-{uuid4().hex[:8]}", deployments, pods)
    namespace = environment.namespace
    admin.apply(NAMESPACES, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})
    try:
        expected = [*map_concurrently(partial(deploy, admin, environment), [*environment.applications], 8)]
        wait_until(lambda: len(admin.list_at(PODS, namespace).objects) == deployments * pods, LONGEST)
        first, *others = admin.list_at(PODS, namespace).objects
        make_ready(admin, first)  # alone: msgspec may crash if several threads decode a type for the first time
        map_concurrently(partial(make_ready, admin), others, 8)
        yield environment, expected
    finally:
        admin.delete(NAMESPACES, namespace)


def look(kubeconfig: Path, given: Path) -> dict[str, Any]:
    """Look once; return the seconds, the peak of memory, and what was found."""
    content = json.loads(given.read_bytes())
    environment = KubernetesEnvironment.model_validate(content["environment"])
    expected = EXPECTED.validate_python(content["expected"])
    before = time.process_time()
    target = KubernetesTarget(
        environment, lambda: ClusterClient.of_context(kubeconfig, None), "registry.test", lambda: datetime.now(UTC),
        time.sleep,
    )  # fmt: skip
    begun = time.monotonic()
    observed = target.monitor(expected)
    seconds, busy = time.monotonic() - begun, time.process_time() - before
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    codes = sorted({each.code for observation in observed for each in observation.deviations})
    results = {"observed": len(observed), "codes": codes}
    return {"seconds": round(seconds, 2), "cpu": round(busy, 2), "megabytes": peak, **results}


def measure(kubeconfig: Path, deployments: int, pods: int, looks: int) -> list[dict[str, Any]]:
    """Return what each look took."""
    with (
        prepared(ClusterClient.of_context(kubeconfig, None), deployments, pods) as (environment, expected),
        tempfile.TemporaryDirectory() as directory,
    ):
        given = Path(directory) / "given.json"
        expected_json = EXPECTED.dump_python(tuple(expected), mode="json")
        given.write_text(json.dumps({"environment": environment.model_dump(mode="json"), "expected": expected_json}))
        command = [sys.executable, "-m", "bench.monitoring", str(kubeconfig), "--given", str(given)]
        runs = (subprocess.run(command, check=True, capture_output=True, timeout=600) for _ in range(looks))
        return [json.loads(each.stdout) for each in runs]


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("kubeconfig", type=Path)
    parser.add_argument("--deployments", type=int, default=200)
    parser.add_argument("--pods", type=int, default=10)
    parser.add_argument("--looks", type=int, default=3)
    parser.add_argument("--given", type=Path, help="look once at what this file has")
    parser.add_argument("--dry", action="store_true", help="write nothing")
    options = parser.parse_args()
    if options.given:
        print(json.dumps(look(options.kubeconfig, options.given)))
        return
    looks = measure(options.kubeconfig, options.deployments, options.pods, options.looks)
    seconds, memory = (statistics.median(each[key] for each in looks) for key in ("seconds", "megabytes"))
    lines = [
        "## Monitor of a cluster",
        "",
        f"`python -m bench.monitoring`: one look at {options.deployments} Deployments with "
        f"{options.deployments * options.pods} pods, of {options.looks}: {seconds:.1f} s (goal: 10), "
        f"{statistics.median(each['cpu'] for each in looks):.1f} s of them on a processor; {memory:.0f} MB at most "
        f"(goal: 200); {os.cpu_count()} processors, load {os.getloadavg()[1]:.0f}.",
    ]
    print("\n".join([*map(json.dumps, looks), *lines]))
    if not options.dry:
        write_section("monitoring", "\n".join(lines))


if __name__ == "__main__":
    main()
