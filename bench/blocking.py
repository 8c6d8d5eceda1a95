"""How long after `cscm block` a cluster refuses the image. Writes a part of docs/performance.md.

    python -m bench.blocking IMAGE ENVIRONMENT KUBECONFIG [--rounds 20] [--dry]

Needs a running laptop. ENVIRONMENT is in the cluster, which enforces its verdicts, and IMAGE (curated/…@sha256:…) was
deployed there. Each round blocks the image, creates pods with it as dry runs until one is refused, unblocks it,
deploys it again, and waits until no flow runs: the events of one round would be in the way of the next.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench.section import write_section
from cscm_laptop.home import Home
from cscm_laptop.laptop import load_state
from orchestration.registration.deployments import TAG
from supply_chain.adapters.kubernetes.client import ClusterClient
from supply_chain.errors import ClusterRefused
from supply_chain.execution.kubernetes.cluster import PODS
from tests.support.access import Prefect
from tests.support.admission import pod, refusal, wait_until

CSCM = Path(sys.executable).with_name("cscm")
GOAL = 5.0
PATIENCE = 120.0
PAUSE = 0.1
WORDS = ("--by", "bench", "--reason", "measurement")


def cscm(*words: str) -> Any:
    """Run a command, and return its result; raise `CalledProcessError` if it fails."""
    ran = subprocess.run([CSCM, *words, "--json"], stdout=subprocess.PIPE, check=True)
    return json.loads(ran.stdout)


def find_place(image: str, environment: str) -> tuple[str, str]:
    """Return the namespace of an environment, and the image as its pods name it."""
    place = cscm("deploy", image, "--environment", environment)["place"]
    (deployment,) = (each for each in place["documents"] if each["kind"] == "Deployment")
    return place["namespace"], deployment["spec"]["template"]["spec"]["containers"][0]["image"]


def is_refused(client: ClusterClient, namespace: str, image: str) -> bool:
    """Return whether the API server refuses a pod with the image because of its verdict.

    Wait a moment first: questions without a pause would take a processor from what is measured.
    """
    time.sleep(PAUSE)
    why = refusal(client, namespace, PODS, pod(image))
    if why and "not admitted" not in why:
        raise ClusterRefused(why)
    return bool(why)


def has_work(prefect: Prefect) -> bool:
    """Return whether a flow runs or is due, other than `monitor`, which watches the cluster for minutes."""
    now = datetime.now(UTC).isoformat()
    due = {"state": {"type": {"any_": ["SCHEDULED"]}}, "expected_start_time": {"before_": now}}
    started = {"state": {"type": {"any_": ["PENDING", "RUNNING"]}}}
    own = {"tags": {"all_": [TAG]}}
    runs = (run for each in (due, started) for run in prefect.ask("flow_runs/filter", {"flow_runs": each | own}))
    return any(run["name"] != "monitor" for run in runs)


def one_round(image: str, environment: str, refused: Callable[[], bool]) -> tuple[float, float]:
    """Return the seconds to the first refused pod, from the start of `cscm block` and from its end."""
    begun, ends = time.monotonic(), list[float]()
    with subprocess.Popen([CSCM, "block", image, *WORDS], stdout=subprocess.DEVNULL) as block:

        def refused_now() -> bool:
            if not ends and block.poll() is not None:
                ends.append(time.monotonic())
            return refused()

        wait_until(lambda: refused_now() and bool(ends), PATIENCE)
        until = time.monotonic()
        if block.returncode != 0:
            raise subprocess.CalledProcessError(block.returncode, block.args)
    cscm("unblock", image, *WORDS)
    deploy: list[str | Path] = [CSCM, "deploy", image, "--environment", environment]
    wait_until(lambda: subprocess.run(deploy, check=False).returncode == 0, PATIENCE)
    wait_until(lambda: not refused(), PATIENCE)
    return until - begun, until - ends[0]


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("image")
    parser.add_argument("environment")
    parser.add_argument("kubeconfig", type=Path)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--dry", action="store_true", help="write nothing")
    options = parser.parse_args()
    namespace, named = find_place(options.image, options.environment)
    client = ClusterClient.of_context(options.kubeconfig, None)
    home = Home.find()
    prefect = Prefect.of(home, load_state(home).prefect_api_url)
    load = os.getloadavg()[0]

    def refused() -> bool:
        return is_refused(client, namespace, named)

    rounds = []
    for _ in range(options.rounds):
        wait_until(lambda: not has_work(prefect), PATIENCE)
        rounds.append(one_round(options.image, options.environment, refused))
    from_start, from_end = ([each[index] for each in rounds] for index in (0, 1))
    p95 = statistics.quantiles(from_start, n=20, method="inclusive")[-1]
    lines = [
        "## From a block to the first refused pod",
        "",
        f"`python -m bench.blocking`, {options.rounds} rounds; {os.cpu_count()} processors, load before {load:.1f}.",
        "",
        f"From the start of `cscm block`: median {statistics.median(from_start):.1f} s, p95 {p95:.1f} s "
        f"(goal: {GOAL:.0f} s, {'met' if p95 <= GOAL else 'missed'}). "
        f"From its end: median {statistics.median(from_end):.1f} s.",
    ]
    print("\n".join(lines))
    if not options.dry:
        write_section("blocking", "\n".join(lines))


if __name__ == "__main__":
    main()
