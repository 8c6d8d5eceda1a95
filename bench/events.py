"""Measure the time from an event to the first line of the flow that it starts; write a section of docs/performance.md.

`python -m bench.events [ROUNDS]` needs a running laptop, with an image in `dev/*` that has a verdict. Each round
sends one message as ECR does, and waits for the run of `promote/on-push` that it starts, which finds the verdict and
ends. Every third round has no prefork server, so that both ways are measured on the same machine.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from bench.section import write_section
from cscm_laptop import prefect_server
from cscm_laptop.home import Home
from cscm_laptop.laptop import LaptopState, load_state
from cscm_laptop.ports import request_json
from cscm_laptop.profile import load_profile
from orchestration.project import PREFORK_SOCKET
from supply_chain.adapters.aws.ecr import Ecr
from supply_chain.adapters.aws.session import AwsSession
from supply_chain.model.image import ImageRef
from supply_chain.model.tier import TierName
from supply_chain.promotion.pushes import KIND, SOURCE

TITLE = "## From an event to the first line"
GOAL = 2.0
"""Seconds for 95 of 100 rounds with the prefork server."""
LONGEST = 60.0
SETTLE = 3.0
"""Seconds between two rounds, in which Prefect records what the last one left."""


@dataclass(frozen=True)
class Round:
    """Seconds from the message in the queue until Prefect created a run, and until the first line of the run."""

    made: float
    first_line: float


@dataclass(frozen=True)
class Harness:
    """A running laptop."""

    home: Home
    port: int
    auth: str
    laptop: LaptopState

    @classmethod
    def here(cls) -> Harness:
        """Return the laptop of this project."""
        home = Home.find()
        port = load_profile(home.project).ports.prefect
        return cls(home, port, prefect_server.ensure_auth_string(home), load_state(home))

    def judged(self) -> ImageRef:
        """Return the newest image of an application that is also released, so that a push of it changes nothing."""
        who = self.laptop.identities[TierName.CURATION]
        session = AwsSession(
            who.access_key_id, who.secret_access_key, who.role_arn, self.laptop.region, self.laptop.endpoint_url
        )
        ecr = Ecr(session.client("ecr"), self.laptop.registry)
        for repository in ecr.repositories("dev/"):
            released = {ref.digest for ref in ecr.list_newest_first(f"curated/{repository.removeprefix('dev/')}")}
            for newest in ecr.list_newest_first(repository)[:1]:
                if newest.digest in released:
                    return newest
        sys.exit("No offered image is released. Run `cscm chain examples/hello` first.")

    def send(self, image: ImageRef) -> datetime:
        """Put the event that ECR sends for a push into the bridge's queue."""
        who, now = self.laptop.bridge, datetime.now(UTC)
        session = AwsSession(
            who.access_key_id, who.secret_access_key, who.role_arn, self.laptop.region, self.laptop.endpoint_url
        )
        detail = {
            "result": "SUCCESS", "action-type": "PUSH", "repository-name": image.repository,
            "image-digest": image.digest, "image-tag": "bench",
        }  # fmt: skip
        event = {"id": str(uuid4()), "source": SOURCE, "detail-type": KIND, "time": now.isoformat(), "detail": detail}
        client = session.client("sqs")
        client.list_queues  # noqa: B018 - connect before the clock starts
        sent = datetime.now(UTC)
        client.send_message(QueueUrl=who.queue, MessageBody=json.dumps(event))
        return sent

    def ask(self, path: str, body: dict[str, Any]) -> Any:
        """Return the answer of Prefect's API to a POST."""
        return request_json("POST", self.port, f"/api/{path}", body=body, auth=self.auth)

    def round(self, image: ImageRef) -> Round:
        """Send one message, and wait until the run that it starts ends."""
        time.sleep(SETTLE)
        sent = self.send(image)
        started = {
            "flow_runs": {"expected_start_time": {"after_": sent.isoformat()}},
            "flows": {"name": {"any_": ["promote"]}},
        }
        end = time.monotonic() + LONGEST
        while time.monotonic() < end:
            for run in self.ask("flow_runs/filter", started):
                if run["start_time"] and run["state_type"] in ("COMPLETED", "FAILED", "CRASHED"):
                    assert run["state_name"] == "Unneeded", run["state_name"]
                    return Round(_after(sent, run["created"]), _after(sent, run["start_time"]))
            time.sleep(0.3)
        raise TimeoutError("no run was started")

    @contextmanager
    def cold(self) -> Iterator[None]:
        """Hide the prefork server while the block runs."""
        socket = self.home.directory / PREFORK_SOCKET
        away = socket.with_suffix(".away")
        socket.rename(away)
        try:
            yield
        finally:
            away.rename(socket)


def _after(sent: datetime, at: str) -> float:
    return (datetime.fromisoformat(at) - sent).total_seconds()


def p95(values: list[float]) -> float:
    """Return the value that 95 of 100 do not exceed; the largest of fewer than 20 values."""
    return sorted(values)[min(len(values) - 1, int(0.95 * len(values)))]


def section(forked: list[Round], cold: list[Round], load: float) -> str:
    """Return the benchmark's section of the page."""
    lines = [
        TITLE, "",
        f"`python -m bench.events`, {datetime.now(UTC):%Y-%m-%d}: {len(forked)} rounds with the prefork server and "
        f"{len(cold)} without, interleaved; load before {load:.1f}. The worker polls every 0.5 s "
        "(`PREFECT_WORKER_QUERY_SECONDS`).", "",
        "from the message in the queue to … | median, s | p95, s | goal",
        "---|---|---|---",
    ]  # fmt: skip
    for name, values, goal in (
        ("a run in Prefect", [r.made for r in (*forked, *cold)], ""),
        (
            "its first line, with the prefork server",
            [r.first_line for r in forked],
            _held(p95([r.first_line for r in forked])),
        ),
        ("its first line, without", [r.first_line for r in cold], ""),
    ):
        lines.append(f"{name} | {statistics.median(values):.2f} | {p95(values):.2f} | {goal}".rstrip())
    return "\n".join(lines) + "\n"


def _held(value: float) -> str:
    return f"≤ {GOAL:.0f} s: {'met' if value <= GOAL else 'missed'}"


def main(rounds: int) -> None:
    """Measure, and write the section."""
    harness, load = Harness.here(), os.getloadavg()[0]
    image = harness.judged()
    harness.round(image)
    forked, cold = [], []
    for number in range(rounds):
        forked += [harness.round(image) for _ in range(2)]
        with harness.cold():
            cold.append(harness.round(image))
        print(f"{number + 1}/{rounds}: {forked[-2:]} {cold[-1]}", flush=True)
    write_section("events", section(forked, cold, load))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 10)
