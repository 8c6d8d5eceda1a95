"""Compare this revision's chain with another's, interleaved; write its section of docs/performance.md.

    python -m bench.revisions DIRECTORY [--rounds 5]

DIRECTORY is a clone of the other revision with a laptop of its own that is up, on ports of its own
(`deployments/profiles/laptop.yaml` and the environments). Cold and unchanged chains as in `bench.chain`: the flow, from
its first line to its final state, and the whole command. Each begins when no run is active on its laptop: what events
of an earlier chain started belongs to neither.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from bench.section import write_section

TITLE = "## Against an earlier revision"
HERE = Path(__file__).parents[1]
GOAL = 1.05
ONE_ROUND = """
import json, os, time
import httpx
from bench.chain import EXAMPLE, HEAD, chain, commit, copied
url, auth = os.environ["PREFECT_API_URL"], tuple(os.environ["PREFECT_API_AUTH_STRING"].split(":", 1))
RUNNING = {"flow_runs": {"state": {"type": {"any_": ["RUNNING"]}}}}
def chain_alone(path):
    idle = 0
    while idle < 4:
        running = httpx.post(f"{url}/flow_runs/count", json=RUNNING, auth=auth).raise_for_status().json()
        idle = 0 if running else idle + 1
        time.sleep(0.5)
    return chain(path, *HEAD)
with copied() as copy:
    commit(copy)
    cold, unchanged = (chain_alone(copy / EXAMPLE) for _ in range(2))
    seconds = {"cold": cold.flow, "unchanged": unchanged.flow}
    seconds |= {"cold_command": cold.process, "unchanged_command": unchanged.process}
    print(json.dumps({**seconds, "steps": cold.steps}))
"""


@dataclass(frozen=True)
class Round:
    """Seconds of a cold and an unchanged chain, and of each step of the cold one."""

    cold: float
    unchanged: float
    cold_command: float
    unchanged_command: float
    steps: dict[str, float]


def one_round(tree: Path) -> Round:
    """Run a cold and an unchanged chain of a tree."""
    done = subprocess.run(
        [tree / ".cscm/venv/bin/python", "-c", ONE_ROUND], cwd=tree, stdout=subprocess.PIPE, text=True, check=True
    )
    return Round(**json.loads(done.stdout.splitlines()[-1]))


def revision(tree: Path) -> str:
    """Return the hash of the commit that is checked out."""
    command = ["git", "-C", str(tree), "rev-parse", "HEAD"]
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout.strip()


def section(rounds: list[list[Round]], names: list[str]) -> list[str]:
    """Return the section's lines; each of `rounds` contains that of the earlier revision and of this one."""
    lines = [
        TITLE,
        "",
        f"`python -m bench.revisions`, {datetime.now(UTC):%Y-%m-%d}: {names[0]} and {names[1]}, "
        f"{len(rounds)} rounds, arms interleaved, medians; begun without active runs.",
        "",
        "chain | before, s | after, s | ratio, round by round | goal",
        "---|---|---|---|---",
    ]
    for name in ("cold", "unchanged", "cold_command", "unchanged_command"):
        seconds = [[float(getattr(each, name)) for each in both] for both in rounds]
        ratio = statistics.median(after / before for before, after in seconds)
        goal = f"≤ {GOAL}: {'met' if ratio <= GOAL else 'missed'}"
        lines.append(" | ".join([name.replace("_", " "), *_medians(seconds), f"{ratio:.2f}", goal]).rstrip())
    return lines


def _medians(seconds: list[list[float]]) -> list[str]:
    return [f"{statistics.median(arm):.2f}" for arm in zip(*seconds, strict=True)]


def main() -> None:
    """Measure, print, and write the section."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    trees = (options.directory.resolve(), HERE)
    rounds = []
    for number in range(options.rounds + 1):  # the first round is a warm-up
        seconds = {tree: one_round(tree) for tree in (trees if number % 2 else reversed(trees))}
        print(f"round {number}: before and after: {[seconds[tree] for tree in trees]}", flush=True)
        rounds.append([seconds[tree] for tree in trees])
    text = "\n".join(section(rounds[1:], [revision(tree)[:8] for tree in trees]))
    write_section("revisions", text)
    print(text)


if __name__ == "__main__":
    main()
