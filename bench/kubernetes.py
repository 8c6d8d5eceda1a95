"""What admission by the cluster itself costs. Writes a part of docs/performance.md.

    python -m bench.kubernetes KUBECONFIG [--digests 10000] [--rounds 300] [--dry]

Arms are interleaved in every round, with the same pod as a dry run through one connection for each arm:

- *none*: a namespace in which nothing is enforced;
- *Pod Security*: a namespace with the labels for `restricted` only;
- *enforced*: a namespace with all generated policies, which admits so many digests;
- *one digest*: the same with one.

*Time to deny* is from the write that removes an image from the parameters to the first refused pod. Measure with an API
server on which no policy with ConfigMaps as parameters was removed before: it reads them for each request from then on.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from uuid import uuid4

from bench.section import write_section
from supply_chain.adapters.kubernetes.client import ClusterClient
from supply_chain.execution.enforcement.installation import KINDS
from supply_chain.execution.enforcement.policies import Mode, Policies, make_namespace_labels
from supply_chain.execution.kubernetes.cluster import PODS, SERVICE_ACCOUNTS
from supply_chain.model.image import digest_of
from tests.support.admission import Enforced, enforce, install_policies, is_enforced, pod, wait_until

REPOSITORY = "registry.test:5000/curated/application-{}"
APPLICATIONS = 100


def admitted_images(number: int) -> tuple[str, ...]:
    """Return so many images of `APPLICATIONS` applications."""
    return tuple(f"{REPOSITORY.format(each % APPLICATIONS)}@{digest_of(bytes(each))}" for each in range(number))


IMAGE = admitted_images(1)[0]
SECURE = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "readOnlyRootFilesystem": True,
    "runAsNonRoot": True,
    "seccompProfile": {"type": "RuntimeDefault"},
}


def create(client: ClusterClient, namespace: str) -> float:
    """Create a pod as a dry run, and return the milliseconds."""
    document = pod(IMAGE)
    document["metadata"]["namespace"] = namespace
    document["spec"]["containers"][0]["securityContext"] = SECURE
    begun = time.perf_counter()
    client.create(PODS, document, dry_run=True)
    return 1000 * (time.perf_counter() - begun)


@contextmanager
def plain_namespace(admin: ClusterClient, labels: dict[str, str]) -> Iterator[str]:
    """Yield a namespace without policies; remove it afterwards."""
    name = f"plain-{uuid4().hex[:8]}"
    metadata = {"name": name, "labels": labels}
    admin.create(KINDS["Namespace"], {"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})
    try:
        wait_until(lambda: admin.read(SERVICE_ACCOUNTS, "default", name))
        yield name
    finally:
        admin.delete(KINDS["Namespace"], name)


def measure_creation(
    connect: Callable[[], ClusterClient], policies: Policies, digests: int, rounds: int
) -> dict[str, list[float]]:
    """Return for each arm the milliseconds of each creation."""
    admin = connect()
    with ExitStack() as stack:
        many, one = (stack.enter_context(enforce(admin, policies)) for _ in range(2))
        many.admit(*admitted_images(digests))
        one.admit(IMAGE)
        for each in (many, one):
            wait_until(partial(is_enforced, each, IMAGE), 60)
        namespaces = {
            "none": stack.enter_context(plain_namespace(admin, {})),
            "Pod Security": stack.enter_context(plain_namespace(admin, make_namespace_labels(Mode.DENY))),
            "enforced, one digest": one.place.namespace,
            f"enforced, {digests} digests": many.place.namespace,
        }
        clients = {arm: connect() for arm in namespaces}
        times: dict[str, list[float]] = {arm: [] for arm in namespaces}
        for number in range(rounds + 20):
            for arm, namespace in namespaces.items():
                milliseconds = create(clients[arm], namespace)
                if number >= 20:
                    times[arm].append(milliseconds)
        return times


def measure_denial(admin: ClusterClient, policies: Policies, digests: int, rounds: int) -> list[float]:
    """Return the seconds from the removal of an image among so many to the first refused pod."""
    with enforce(admin, policies) as enforced:
        return [_deny(enforced, digests) for _ in range(rounds)]


def _deny(enforced: Enforced, digests: int) -> float:
    images = admitted_images(digests)
    enforced.admit(*images)
    wait_until(partial(is_enforced, enforced, IMAGE), 60)
    begun = time.monotonic()
    enforced.admit(*images[1:])
    wait_until(lambda: enforced.refusal_of(IMAGE))
    return time.monotonic() - begun


def _row(name: str, times: list[float], base: float) -> str:
    median, p95 = statistics.median(times), statistics.quantiles(times, n=20)[-1]
    return f"{name} | {median:.1f} | {p95:.1f} | {median - base:+.1f}"


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("kubeconfig", type=Path)
    parser.add_argument("--digests", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=300)
    parser.add_argument("--dry", action="store_true", help="write nothing")
    options = parser.parse_args()

    def connect() -> ClusterClient:
        return ClusterClient.of_context(options.kubeconfig, None)

    with install_policies(connect()) as policies:
        times = measure_creation(connect, policies, options.digests, options.rounds)
        denials = measure_denial(connect(), policies, options.digests, 20)
    base = statistics.median(times["none"])
    lines = [
        "## Admission by the cluster",
        "",
        f"`python -m bench.kubernetes`, {options.rounds} rounds: milliseconds of a pod's creation; "
        f"{os.cpu_count()} processors, load {os.getloadavg()[1]:.0f}.",
        "",
        "arm | median | p95 | more (goal: 5)",
        "---|---|---|---",
        *(_row(name, each, base) for name, each in times.items()),
        "",
        f"Removal of a digest to the first refused pod: {statistics.median(denials):.2f} s, p95 "
        f"{statistics.quantiles(denials, n=20)[-1]:.2f} s (goal: 5 s from `cscm block` on).",
    ]
    print("\n".join(lines))
    if not options.dry:
        write_section("kubernetes", "\n".join(lines))


if __name__ == "__main__":
    main()
