"""What a roll by the chain takes next to `kubectl` with the same manifests. Writes a part of docs/performance.md.

    CONTAINERD_ADDRESS=SOCKET python -m bench.rolls KUBECONFIG [--rounds 10] [--dry]

On the node, as root, because images are imported into its containerd. The arms are interleaved, in turns as the first
one, each in a namespace of its own and with the documented role:

- *chain*: the target of the deploy step, from the request to the deployment; its verdict and record are not signed;
- *kubectl*: `kubectl apply` and then `kubectl rollout status`, of the objects that the chain applies.

Each round rolls two pods to another image of the same program, which the node has. The first roll of each arm is not
counted. kubectl is that of the laptop's cluster, or the one that `--kubectl` names. On a busy machine its two processes
start slowly, and the chain's runs already. So two starts are measured in each round, and the goal leaves them out.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from bench.section import write_section
from cscm_laptop.cluster.programs import FILE, ClusterPins, find_kubectl
from cscm_laptop.home import Home
from supply_chain.adapters.kubernetes.client import ClusterClient
from supply_chain.execution.deployment import Deployment, read_kubernetes_place
from supply_chain.execution.kubernetes.cluster import FIELD_MANAGER
from supply_chain.model.documents import read_document
from supply_chain.model.image import Digest
from tests.support.application import compiled
from tests.support.cluster_images import imported_images
from tests.support.cluster_roles import DEPLOYER, deployable_namespace
from tests.support.node import Place

RATIO, MORE = 1.15, 1.0
"""The goal: at most so many times the seconds of kubectl, and so many seconds more."""


@dataclass
class Kubectl:
    """kubectl in a namespace, with the token of its deployer."""

    command: Sequence[str]
    namespace: str
    kubeconfig: Path

    def roll(self, deployment: Deployment) -> float:
        """Apply the objects of a deployment in this namespace, wait until they run, and return the seconds."""
        documents = [
            {**each, "metadata": {**each["metadata"], "namespace": self.namespace}}
            for each in read_kubernetes_place(deployment).documents
        ]
        manifests = json.dumps({"apiVersion": "v1", "kind": "List", "items": documents})
        begun = time.monotonic()
        self._run("apply", "-f", "-", given=manifests)
        self._run("rollout", "status", f"deployment/{deployment.name}", "--timeout=120s")
        return time.monotonic() - begun

    def start(self) -> float:
        """Start two processes that do nothing, and return the seconds."""
        begun = time.monotonic()
        for _ in range(2):
            self._run("version", "--client")
        return time.monotonic() - begun

    def _run(self, *arguments: str, given: str = "") -> None:
        words = [*self.command, "--kubeconfig", str(self.kubeconfig), "-n", self.namespace, *arguments]
        subprocess.run(words, input=given, text=True, check=True, capture_output=True, timeout=180)


@dataclass
class Rolls:
    """The seconds of each roll, by arm."""

    chain: list[float] = field(default_factory=list)
    kubectl: list[float] = field(default_factory=list)
    starts: list[float] = field(default_factory=list)
    """Of the two processes of kubectl."""

    @property
    def text(self) -> str:
        """A table of medians, the ratio round by round, and the goal."""
        chain, kubectl, starts = map(statistics.median, (self.chain, self.kubectl, self.starts))
        rounds = zip(self.chain, self.kubectl, self.starts, strict=True)
        ratio = statistics.median(chain_round / (kubectl_round - start) for chain_round, kubectl_round, start in rounds)
        goal = RATIO * (kubectl - starts) + MORE
        return "\n".join([
            "## A roll next to kubectl",
            "",
            f"`python -m bench.rolls`, {len(self.chain)} rounds, arms interleaved, medians in seconds; "
            f"{os.cpu_count()} processors, load {os.getloadavg()[1]:.0f}. Without signing. Ratio (round by round) and "
            "goal leave out the starts.",
            "",
            "chain | kubectl | its two starts | ratio | goal",
            "---|---|---|---|---",
            f"{chain:.2f} | {kubectl:.2f} | {starts:.2f} | {ratio:.2f} | "
            f"≤ {goal:.2f}: {'met' if chain <= goal else 'missed'}",
        ])  # fmt: skip


def measure(place: Place, kubectl: Kubectl, rounds: int) -> Rolls:
    """Roll in turns by the chain and by kubectl."""
    rolls = Rolls()
    deployment = place.deploy(place.good())
    kubectl.roll(deployment)
    for number in range(rounds):
        digest = place.good()
        if number % 2:
            rolls.kubectl.append(kubectl.roll(with_digest(deployment, digest)))
        begun = time.monotonic()
        deployment = place.deploy(digest)
        rolls.chain.append(time.monotonic() - begun)
        if not number % 2:
            rolls.kubectl.append(kubectl.roll(deployment))
        rolls.starts.append(kubectl.start())
        print(*(f"{each[-1]:.2f}" for each in (rolls.chain, rolls.kubectl, rolls.starts)), flush=True)
    return rolls


def with_digest(deployment: Deployment, digest: Digest) -> Deployment:
    """Return a deployment whose objects have another digest."""
    return Deployment.model_validate_json(deployment.model_dump_json().replace(deployment.digest, digest))


def laptop_kubectl() -> tuple[str, ...]:
    """Return the words with which kubectl of the laptop's cluster begins."""
    home = Home.find()
    return find_kubectl(home, read_document(home.project / FILE, ClusterPins))


def kubectl_in(
    cluster: ClusterClient, namespace: str, command: Sequence[str], kubeconfig: Path, directory: Path
) -> Kubectl:
    """Return kubectl in a namespace, as its deployer."""
    signed_in = cluster.for_service_account(namespace, DEPLOYER, FIELD_MANAGER, 3600).client.config.user
    assert signed_in
    given = yaml.safe_load(kubeconfig.read_text())
    contexts = {each["name"]: each["context"] for each in given["contexts"]}
    name = contexts[given["current-context"]]["cluster"]
    user = {"name": DEPLOYER, "user": {"token": signed_in.token}}
    context = {"name": DEPLOYER, "context": {"cluster": name, "user": DEPLOYER}}
    path = directory / "kubeconfig"
    path.write_text(json.dumps({**given, "users": [user], "contexts": [context], "current-context": DEPLOYER}))
    return Kubectl(command, namespace, path)


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("kubeconfig", type=Path)
    parser.add_argument("--kubectl", help="the words with which kubectl begins")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--dry", action="store_true", help="write nothing")
    options = parser.parse_args()

    cluster = ClusterClient.of_context(options.kubeconfig, None)
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        compiled(directory / "subject", "amd64")
        image = stack.enter_context(imported_images(directory / "subject", directory))
        chain, other = (stack.enter_context(deployable_namespace(cluster, "bench")) for _ in range(2))
        command = options.kubectl.split() if options.kubectl else laptop_kubectl()
        kubectl = kubectl_in(cluster, other, command, options.kubeconfig, directory)
        rolls = measure(Place.of(cluster, chain, image, replicas=2), kubectl, options.rounds)
    print(rolls.text)
    if not options.dry:
        write_section("rolls", rolls.text)


if __name__ == "__main__":
    main()
