"""Measure what one team's flood does to everybody else; write a section of docs/performance.md.

`python -m bench.flood [ARM…] [COUNT]` needs a running laptop, with an image in `dev/*` that development signed. Arms:

- `pushes`: the events of 1,000 pushes to one application in ten seconds, followed by a signed push;
- `applications`: the same to 100 applications;
- `referrers`: COUNT referrers (10,000) on one image, which is then signed and announced;
- `malformed`: 1,000 messages in the bridge's queue that are not pushes;
- `branches`: one team pushes COUNT branches (60) of one source repository.

Meanwhile, other applications push honest images, or their sources during `branches`, and runs of monitor, respond and
lifecycle are scheduled. The benchmark only reports; nothing depends on its result.
"""

from __future__ import annotations

import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from os import getloadavg
from pathlib import Path
from typing import Any

from bench.copies import EXAMPLE, copied
from bench.events import p95
from bench.flooding import Honest, Pusher, spread
from bench.revisions import revision
from bench.section import write_section
from cscm_laptop import prefect_server
from cscm_laptop.home import Home
from cscm_laptop.ports import request_json
from cscm_laptop.profile import load_profile
from supply_chain.errors import ComponentFailed
from supply_chain.reports.daily import NO_SLOT

TITLE = "## One team's flood"
LATE, SLOW = 30.0, 2.0
"""Goals for 95 of 100 cases: seconds that runs of others may be late, and that Prefect's API may take."""
PUSHES, SECONDS, JUNK, BRANCHES = 1000, 10.0, 10_000, 60
HONEST = (2.0, 5.0, 8.0, 15.0, 25.0, 40.0)
"""Seconds after the flood's start at which another application pushes an image."""
HONEST_SOURCES = (5.0, 35.0, 65.0)
"""The same for sources: another team's build has ended when the next one begins."""
EVERY = 10.0
"""Seconds between two runs of each of the others."""
PATIENCE = 420.0
OTHERS = ("monitor/every-5-minutes", "respond/on-drift", "lifecycle/nightly")
SIGNED_LAST = "signed-last"
WAITING = ("Queued", "Waiting")
"""Names of the states of runs that wait without a process, though not for their time."""
ARMS = ("pushes", "applications", "malformed", "referrers", "branches")
REFUSED = "examples/careless"
"""An application that is refused after its build, so that other teams deploy nothing."""


@contextmanager
def in_background(work: Callable[[threading.Event], None]) -> Iterator[None]:
    """Run `work` in a thread until the block ends, which sets its event; an error of `work` is then raised."""
    over = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(work, over)
        try:
            yield
        finally:
            over.set()
    done.result()


@dataclass
class Api:
    """Prefect's API, and the seconds that it took to answer each request of a prober."""

    port: int
    auth: str
    seconds: list[float] = field(default_factory=list)

    def ask(self, path: str, body: Any = None, method: str = "POST") -> Any:
        """Send a request as Prefect's client does: repeat it if the server asks for that."""
        for pause in (0.5, 1.0, 2.0, 4.0):
            try:
                return self.ask_once(path, body, method)
            except ComponentFailed:
                time.sleep(pause)
        return self.ask_once(path, body, method)

    def ask_once(self, path: str, body: Any = None, method: str = "POST") -> Any:
        """Send a request once."""
        return request_json(method, self.port, f"/api/{path}", body=body, auth=self.auth)

    @contextmanager
    def probed(self) -> Iterator[None]:
        """Request a deployment and the last runs in turn every 200 ms, while the block runs.

        A failed request counts as `PATIENCE` seconds.
        """
        questions: tuple[Callable[[], Any], ...] = (
            lambda: self.ask("deployments/name/monitor/every-5-minutes", method="GET"),
            lambda: self.ask("flow_runs/filter", {"limit": 20, "sort": "EXPECTED_START_TIME_DESC"}),
        )

        def probe(over: threading.Event) -> None:
            while not over.wait(0.2):
                begun = time.monotonic()
                try:
                    questions[len(self.seconds) % 2]()  # includes the pauses if the server reports that it is busy
                except ComponentFailed:
                    self.seconds.append(PATIENCE)
                else:
                    self.seconds.append(time.monotonic() - begun)

        with in_background(probe):
            yield

    def runs(self, since: datetime) -> list[dict[str, Any]]:
        """Return all runs that were created since then."""
        runs: list[dict[str, Any]] = []
        query = {"flow_runs": {"expected_start_time": {"after_": since.isoformat()}}}
        while page := self.ask("flow_runs/filter", {**query, "limit": 200, "offset": len(runs)}):
            runs += page
        return runs


@dataclass
class Result:
    """Result of one arm."""

    arm: str
    flood: str
    late: dict[str, list[float]] = field(default_factory=dict)
    own: list[float] = field(default_factory=list)
    """How many seconds late the promotion of the flooded image or application began."""
    api: list[float] = field(default_factory=list)
    decided: int = 0
    expected: int = 0
    done: float | None = None
    load: float = 0.0


@dataclass
class Harness:
    """A running laptop, and the flood of one arm on it."""

    api: Api
    pusher: Pusher
    provenance: dict[str, Any]
    honest: list[Honest] = field(default_factory=list)
    scheduled: dict[str, list[str]] = field(default_factory=dict)
    sources: Path | None = None
    """A clone of the project, from which other teams push, if the flood is of source pushes."""
    pushed: dict[str, datetime] = field(default_factory=dict)
    """Branch → when another team pushed it."""

    @classmethod
    def here(cls) -> Harness:
        """Return a benchmark on the laptop of this project."""
        home = Home.find()
        profile = load_profile(home.project)
        pusher = Pusher(home)
        return cls(Api(profile.ports.prefect, prefect_server.ensure_auth_string(home)), pusher, pusher.a_provenance())

    def schedule_others(self) -> None:
        """Schedule one run of each deployment that has to start on time."""
        image = "curated/hello@sha256:" + "0" * 64
        for name in OTHERS:
            deployment = self.api.ask(f"deployments/name/{name}", method="GET")
            parameters = {"image": image, "event": "bench.flood"} if name.startswith("respond") else {}
            if name.startswith("lifecycle") and name in self.scheduled:  # another run would wait for this one to end
                continue
            run = self.api.ask(f"deployments/{deployment['id']}/create_flow_run", {"parameters": parameters})
            self.scheduled.setdefault(name, []).append(run["id"])

    def meanwhile(self, over: threading.Event) -> None:
        """Make honest pushes at their times, and schedule the others' runs, until `over` is set."""
        begun, next_run = time.monotonic(), 0.0
        pushes = list(HONEST_SOURCES if self.sources else HONEST)
        while not over.wait(0.1):
            passed = time.monotonic() - begun
            if pushes and passed >= pushes[0]:
                pushes.pop(0)
                if self.sources:
                    self.push_source(self.sources, len(pushes))
                else:
                    self.honest.append(self.pusher.honest(f"honest-{len(pushes)}", self.provenance))
            if passed >= next_run and passed < HONEST[-1] + 5:
                self.schedule_others()
                next_run += EVERY

    def push_source(self, sources: Path, number: int) -> None:
        """Announce another team's push of an application that the gates refuse after its build."""
        ref = f"refs/heads/honest-{self.pusher.word}-{number}"
        self.pushed[ref] = datetime.now(UTC)
        self.pusher.push_source(sources / REFUSED, revision(sources), ref, f"honest-{number}")

    def arm(self, name: str, flood: Callable[[], str], patience: float) -> Result:
        """Flood, wait until everything is done, and return the measurements."""
        since, begun = datetime.now(UTC), time.monotonic()
        result = Result(name, "", load=getloadavg()[0])
        with self.api.probed(), in_background(self.meanwhile):
            result.flood = flood()
            while time.monotonic() - begun < HONEST[-1] + 10 or not self.is_done(since):
                if time.monotonic() - begun > patience:
                    break
                time.sleep(1)
            else:
                result.done = time.monotonic() - begun
        self.collect(result, since)
        return result

    def is_done(self, since: datetime) -> bool:
        """Return whether the bridge carried all messages, and no run waits or runs, except for a person."""
        began = {"expected_start_time": {"after_": since.isoformat()}}
        due = {"next_scheduled_start_time": {"before_": datetime.now(UTC).isoformat()}}
        open_runs = (
            {"state": {"name": {"any_": WAITING}}},
            {"state": {"type": {"any_": ["SCHEDULED"]}}, **due},
            {"state": {"type": {"any_": ["PENDING", "RUNNING", "CANCELLING"]}}},  # last: runs do not go back
        )
        return not self.pusher.waiting() and not any(
            self.api.ask("flow_runs/count", {"flow_runs": {**began, **each}}) for each in open_runs
        )

    def collect(self, result: Result, since: datetime) -> None:
        """Collect how late the runs of others began, and what was decided."""
        result.api = self.api.seconds
        everything = self.api.runs(since)
        runs = [run for run in everything if run["start_time"]]
        names = {flow["id"]: flow["name"] for flow in self.api.ask("flows/filter", {"limit": 200})}
        at = {run["id"]: _late(run["expected_start_time"], run["start_time"]) for run in runs}
        collided = {run["id"] for run in everything if _collided(run)}
        result.late = {
            name: [at.get(run, PATIENCE) for run in made if run not in collided]
            for name, made in self.scheduled.items()
        }  # fmt: skip
        curated = {
            run["parameters"]["image"]: run["start_time"] for run in reversed(runs) if names[run["flow_id"]] == "curate"
        }
        began = [(each, curated.get(str(each.image))) for each in self.honest]
        result.decided, result.expected = sum(bool(start) for _, start in began), len(began)
        for each, start in began:
            late = _late(each.pushed.isoformat(), start) if start else PATIENCE
            if each.flooded:
                result.own.append(late)
            else:
                result.late.setdefault("another application's promotion", []).append(late)
        began_at = {run["parameters"].get("ref"): run["start_time"] for run in runs}
        for ref, at_time in self.pushed.items():
            start = began_at.get(ref)
            late = _late(at_time.isoformat(), start) if start else PATIENCE
            result.late.setdefault("another team's push", []).append(late)
            result.decided, result.expected = result.decided + bool(start), result.expected + 1

    # The floods. Each is prepared first, and returns a function that floods while everything is measured.

    def pushes(self, applications: int) -> Callable[[], str]:
        """Push in advance, and announce all pushes in ten seconds, because the registry is not measured.

        An emulator on the same processors takes a minute for so many pushes; ECR has its own processors.
        """
        since = datetime.now(UTC)
        repositories = [self.pusher.repository(f"noise-{number}") for number in range(applications)]
        refs = [self.pusher.push(repositories[number % applications], f"t{number}") for number in range(PUSHES)]
        while not self.is_done(since):
            time.sleep(1)

        def flood() -> str:
            took = self.pusher.announce(refs, SECONDS)
            last = self.pusher.push(repositories[-1], SIGNED_LAST)
            self.pusher.sign(last, self.provenance)
            self.honest.append(Honest(last, datetime.now(UTC), flooded=True))
            return f"the events of {PUSHES} pushes to {applications} application(s) in {took:.0f} s"

        return flood

    def malformed(self) -> Callable[[], str]:
        """Prepare a flood of messages that are not JSON."""
        queue = self.pusher.bridge.queue()
        bodies = (f"flood-{self.pusher.word} no json", f'{{"flood-{self.pusher.word}": [[[[')

        def flood() -> str:
            with spread(lambda n: queue.send(bodies[n % 2] + "x" * (n % 7) * 1000), PUSHES, SECONDS) as wait:
                return f"{PUSHES} malformed messages in {wait():.0f} s"

        return flood

    def referrers(self, count: int) -> Callable[[], str]:
        """Attach junk referrers to an image in advance; the flood signs and announces it."""
        ref = self.pusher.push(self.pusher.repository("littered"), "littered")
        with spread(lambda number: self.pusher.junk(ref, number), count, 0.0) as wait:
            wait()

        def flood() -> str:
            self.pusher.sign(ref, self.provenance)
            self.pusher.push(ref.repository, "littered-signed")  # a new image, so that ECR sends an event
            self.honest.append(Honest(ref, datetime.now(UTC), flooded=True))
            return f"{count} junk referrers on one image"

        return flood

    def branches(self, sources: Path, count: int) -> Callable[[], str]:
        """Prepare pushes of branches of a clone of the project."""
        self.sources = sources

        def flood() -> str:
            begun = time.monotonic()
            for number in range(count):
                ref = f"refs/heads/flood-{self.pusher.word}-{number}"
                self.pusher.push_source(sources / EXAMPLE, revision(sources), ref, "flood")
            return f"pushes of {count} branches by one team in {time.monotonic() - begun:.0f} s"

        return flood


def _collided(run: dict[str, Any]) -> bool:
    """Return whether Prefect cancelled a run because the run before it had not ended; others count as late."""
    return (run["state_name"], (run["state"] or {}).get("message")) == NO_SLOT


def _late(expected: str, at: str) -> float:
    return (datetime.fromisoformat(at) - datetime.fromisoformat(expected)).total_seconds()


def measure(arm: str, count: int | None) -> Result:
    """Measure one arm, and remove what it left."""
    harness = Harness.here()
    patience = PATIENCE
    with ExitStack() as stack:
        stack.callback(harness.pusher.remove)
        if arm == "branches":
            flood = harness.branches(stack.enter_context(copied()), count or BRANCHES)
            patience += 15.0 * (count or BRANCHES)
        elif arm == "referrers":
            flood = harness.referrers(count or JUNK)
        elif arm == "malformed":
            flood = harness.malformed()
        else:
            flood = harness.pushes(100 if arm == "applications" else 1)
        return harness.arm(arm, flood, patience)


def section(results: Sequence[Result]) -> str:
    """Return the benchmark's section of the page."""
    lines = [
        TITLE, "",
        f"`python -m bench.flood`, {datetime.now(UTC):%Y-%m-%d}; load before each arm "
        f"{', '.join(f'{each.load:.1f}' for each in results)}. In seconds, median/p95. *Late*: from schedule, "
        "signature or push to the start of the run.", "",
        "flood | others late | Prefect's API | honest pushes decided | done after",
        "---|---|---|---|---",
    ]  # fmt: skip
    for each in results:
        lateness = "<br>".join(
            f"{name} {statistics.median(late):.1f}/{p95(late):.1f}{_missed(p95(late), LATE)}"
            for name, late in each.late.items() if late
        )  # fmt: skip
        api = f"{statistics.median(each.api):.2f}/{p95(each.api):.2f}{_missed(p95(each.api), SLOW)}"
        done = f"{each.done:.0f}" if each.done is not None else f"**not within {PATIENCE:.0f}**"
        lateness += "".join(f"<br>(the flooded application {late:.0f})" for late in each.own)
        lines.append(f"{each.flood} | {lateness} | {api} | {each.decided} of {each.expected} | {done}")
    lines += ["", f"Goals: at most {LATE:.0f} s late and {SLOW:.0f} s for the API, 95 of 100 times; nothing is lost."]
    return "\n".join(lines) + "\n"


def _missed(value: float, goal: float) -> str:
    return "" if value <= goal else " **missed**"


def main(words: Sequence[str]) -> None:
    """Measure, print and write the section; a number among the words is the COUNT of an arm."""
    count = next((int(word) for word in words if word.isdigit()), None)
    arms = [word for word in words if not word.isdigit()]
    results = []
    for arm in arms or ARMS:
        results.append(measure(arm, count))
        print(section(results[-1:]), flush=True)
    if not arms:
        write_section("flood", section(results))


if __name__ == "__main__":
    main(sys.argv[1:])
