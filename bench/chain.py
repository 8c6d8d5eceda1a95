"""The chain against the same tools called by a plain script, interleaved; writes docs/performance.md.

    python -m bench.chain [--rounds 5] [--at-once 10] [--large 1024]

Cold: `cscm chain` on a revision of which nothing is proven, from the flow's first line to its final state,
and bench/chain.sh on another such revision; each commits a change of its own to one file of the example, in a
copy of the project, so that neither finds in the build cache what the other made. Unchanged: `cscm chain` on
what was just proven. Memory is the peak of a command in a process of its own, with images of 1 MiB and of so
many MiB more than their base. Needs the laptop's supply chain (`cscm up`).
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import platform
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import httpx

from cscm.session import use_prefect

use_prefect()  # before Prefect is imported, because it then reads its settings

# ruff: noqa: E402
from bench.copies import EXAMPLE, PROJECT, copied
from bench.section import write_page
from blocks import Tier
from blocks.development_ports import DevelopmentPorts
from supply_chain.adapters.git.snapshot import take_snapshot
from supply_chain.adapters.vulndb import make_grype_environment
from supply_chain.development.dockerfile import list_image_references
from supply_chain.model.declaration import Service, read_declaration
from supply_chain.model.tier import TierName

HEAD = ("--revision", "HEAD")
STEP = re.compile(r"^\S+: (?P<name>.+?) \((?P<seconds>[\d.]+) s\)")
SAME = {
    "name": "",
    "build": "build",
    "test": "test",
    "offer": "offer",
    "intake gate": "",
    "store": "store",
    "encrypt": "encrypt",
    "scan": "scan",
    "release gate": "verdict",
    "sign": "sign",
    "deploy gate": "",
    "deploy": "deploy",
    "monitor": "record",
}
"""Step of the script for each step of the chain.

In the script, `encrypt` and the verdicts are one signed statement each.
"""


@dataclass(frozen=True)
class Run:
    """One run: seconds of the whole process, of the flow alone and of each step, and the peak memory in MiB."""

    process: float
    flow: float
    steps: dict[str, float]
    memory: float = 0.0


def chain(path: Path, *options: str) -> Run:
    """Run `cscm chain` once."""
    return _run([str(Path(sys.executable).with_name("cscm")), "chain", str(path), *options])


def chain_alone(path: Path, *options: str) -> Run:
    """Run `cscm chain` once in a process of its own, whose memory is measured."""
    return _run([sys.executable, "-m", "cscm.main", "chain", str(path), *options])


def _run(command: list[str]) -> Run:
    started, peak = time.monotonic(), 0.0
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        while process.poll() is None:
            peak = max(peak, _memory(process.pid))
            time.sleep(0.05)
        result, log = process.communicate()
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}:\n{log}{result}")
    steps = {m["name"]: float(m["seconds"]) for m in map(STEP.match, log.splitlines()) if m}
    return Run(time.monotonic() - started, _flow_seconds(), steps, peak)


def _memory(pid: int) -> float:
    """Return a process's peak resident memory so far, in MiB."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    return 0.0


def _flow_seconds() -> float:
    """Return how many seconds the last chain ran, from its first line to its final state, as Prefect recorded it."""
    url, auth = os.environ["PREFECT_API_URL"], os.environ["PREFECT_API_AUTH_STRING"]
    query = {
        "sort": "END_TIME_DESC",
        "limit": 1,
        "flows": {"name": {"any_": ["chain"]}},
        "flow_runs": {"state": {"type": {"any_": ["COMPLETED"]}}},
    }
    user, _, password = auth.partition(":")
    (run,) = httpx.post(f"{url}/flow_runs/filter", json=query, auth=(user, password)).raise_for_status().json()
    return float(run["total_run_time"])


def script(environment: dict[str, str]) -> Run:
    """Run bench/chain.sh once."""
    started = time.monotonic()
    done = subprocess.run(
        ["bash", str(PROJECT / "bench/chain.sh")], env=environment, check=False, stdout=subprocess.PIPE, text=True
    )
    seconds = time.monotonic() - started
    if done.returncode:
        raise SystemExit(f"the script ended with status {done.returncode} after these steps:\n{done.stdout}")
    return Run(seconds, seconds, {name: float(took) for name, took in map(str.split, done.stdout.splitlines())})


def commit(copy: Path) -> None:
    """Commit a new revision in which one file of the example differs."""
    with (copy / EXAMPLE / "hello/__init__.py").open("a") as file:
        file.write(f"# {time.time_ns()}\n")
    author = ["-c", "user.name=bench", "-c", "user.email=bench@example.org"]
    subprocess.run(["git", "-C", str(copy), *author, "commit", "-q", "-a", "-m", "bench"], check=True)


async def _blocks() -> tuple[dict[TierName, Tier], DevelopmentPorts]:
    return {name: await Tier.aload(name) for name in TierName}, await DevelopmentPorts.aload()


@contextlib.contextmanager
def prepared(copy: Path) -> Iterator[dict[str, str]]:
    """Yield the script's environment without its context: credentials of each tier, tools and repositories."""
    tiers, development = asyncio.run(_blocks())
    workbench = development.workbench
    declaration = read_declaration(copy / EXAMPLE)
    assert isinstance(declaration, Service)
    for owner, repository in ((TierName.DEVELOPMENT, "dev/bench"), (TierName.CURATION, "curated/bench")):
        tiers[owner].ecr.ensure_repository(repository, immutable=False, key=None)
    with contextlib.ExitStack() as stack:
        work = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="cscm-bench-")))
        (work / "curation.pub").write_text(tiers[TierName.CURATION].trusted_keys[TierName.CURATION])
        content = (copy / EXAMPLE / "Dockerfile").read_bytes()
        targets = ("", declaration.test.stage)
        reading = workbench.dockerfile_reader.read(content, targets, declaration.build.platform, {}, "bench", {})
        resolved = {name: development.bases.resolve(name) for name in list_image_references(reading.targets.values())}
        tools = [
            workbench.tool(name).path.parent for name in ("grype", "syft", "cosign", "crane", "hadolint", "buildx")
        ]
        environment = {
            **os.environ,
            "REGISTRY": tiers[TierName.DEVELOPMENT].registry,
            "BASES": " ".join(f"--build-context={each.name}=docker-image://{at}" for at, each in resolved.values()),
            "TOOLS": ":".join(map(str, dict.fromkeys([*tools, workbench.docker.path.parent]))),
            "PUBLIC": str(work / "curation.pub"),
            "CA": workbench.ca_bundle or "",
            "PORT": str(declaration.probe.port),
            "PROBE": declaration.probe.path,
            "TESTS": " ".join(declaration.test.command),
            **make_grype_environment(Path(workbench.database)),
        }
        for name, tier in tiers.items():
            config = stack.enter_context(tier.ecr.docker_config())
            environment[f"{name.upper()}_DOCKER"] = str(config)
            environment[f"{name.upper()}_KEY"] = tier.signing_key
            environment[f"{name.upper()}_AWS"] = " ".join(f"{k}={v}" for k, v in tier.session.environment().items())
        development.host.engine()  # raises an error if the engine does not answer
        yield environment


def at_once(number: int) -> tuple[float, list[dict[str, float]]]:
    """Take `number` applications through development and curation in parallel.

    Return the seconds for all of them, and the seconds of each one's steps.
    """
    with tempfile.TemporaryDirectory(prefix="cscm-bench-") as name:
        paths = [_application(Path(name) / f"bench-{n}") for n in range(number)]
        started = time.monotonic()
        cscm = str(Path(sys.executable).with_name("cscm"))
        running = [
            subprocess.Popen(
                [cscm, "chain", str(path), "--force"], stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
            for path in paths
        ]
        logs = [process.communicate()[1] for process in running]
        seconds = time.monotonic() - started
    if any(process.returncode for process in running):
        raise SystemExit("a chain did not end well:\n" + "\n".join(logs))
    return seconds, [{m["name"]: float(m["seconds"]) for m in map(STEP.match, t.splitlines()) if m} for t in logs]


def sized(mib: int) -> Run:
    """Take a base image with a file of `mib` MiB, which cannot be compressed, through the chain."""
    with tempfile.TemporaryDirectory(prefix="cscm-bench-") as name:
        path = _application(Path(name) / "bench-large")
        with (path / "note").open("wb") as file:
            for _ in range(mib):
                file.write(os.urandom(1024**2))
        return chain_alone(path, "--force")


def _application(directory: Path) -> Path:
    """Make the source of a small base image with its own name and repository; it takes every step except deploy."""
    directory.mkdir()
    (directory / "Dockerfile").write_text("FROM curated/base/python\nCOPY note /note\nUSER 10001:10001\n")
    (directory / "note").write_text(directory.name)
    (directory / "supply-chain.yaml").write_text(
        f"kind: base\nname: {directory.name}\nowner: bench\ncheck: [/usr/bin/python3, --version]\n"
        "build: {max_size: 8GiB}\n"
    )
    git = ["git", "-c", "user.name=bench", "-c", "user.email=bench@example.org", "-C", str(directory)]
    for arguments in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "bench"]):
        subprocess.run([*git, *arguments], check=True)
    return directory


def measured(rounds: int) -> tuple[list[Run], list[Run], list[Run]]:
    """Run cold chain, script and unchanged chain alternately in every round; the first round is a warm-up."""
    cold, plain, again = list[Run](), list[Run](), list[Run]()
    matcher = asyncio.run(_blocks())[1].workbench.find_excluded
    with copied() as copy, prepared(copy) as environment:
        for n in range(rounds + 1):
            commit(copy)
            first, second = chain(copy / EXAMPLE, *HEAD), chain(copy / EXAMPLE, *HEAD)
            commit(copy)
            with take_snapshot(copy / EXAMPLE, "HEAD", matcher) as snapshot:
                place = {"CONTEXT": str(snapshot.context), "EPOCH": str(snapshot.source.committed)}
                runs = first, script({**environment, **place}), second
            print(f"round {n}: chain {runs[0].flow:.2f} s, script {runs[1].flow:.2f} s, unchanged {runs[2].flow:.2f} s")
            if n:
                for arm, run in zip((cold, plain, again), runs, strict=True):
                    arm.append(run)
    return cold, plain, again


def median(values: Iterator[float] | list[float]) -> float:
    """Return the median of the values."""
    return statistics.median(values)


def page(
    load: float,
    cold: list[Run],
    plain: list[Run],
    again: list[Run],
    many: tuple[float, list[dict[str, float]]],
    sized: list[tuple[int, Run]],
) -> str:
    """Return docs/performance.md.

    `load` is the machine's load before the first run, `sized` sizes of images in MiB, and their runs.
    """
    return "\n".join([*_head(load, len(cold)), *_goals(cold, plain, again, sized), *_many(*many)]) + "\n"


def _head(load: float, rounds: int) -> list[str]:
    return [
        "# Performance",
        "",
        "Written by `python -m bench.chain`. Compare ratios: seconds are this machine's.",
        "",
        f"- Machine: {os.cpu_count()} cores, {_ram():.0f} GiB, {platform.system()} {platform.machine()}; "
        f"load before {load:.1f}",
        f"- Date: {datetime.now(UTC):%Y-%m-%d}; {rounds} rounds, arms interleaved, medians",
        "",
    ]


def _goals(cold: list[Run], plain: list[Run], again: list[Run], sized: list[tuple[int, Run]]) -> list[str]:
    """Return the table of goals and whether each is met."""
    flow, tools = median([r.flow for r in cold]), median([r.flow for r in plain])
    ratio = median([c.flow / p.flow for c, p in zip(cold, plain, strict=True)])
    bound, unchanged = tools * 1.05 + 1.5, median([r.flow for r in again])
    around = median([r.process - r.flow for r in again])
    return [
        "| | measured | goal",
        "|---|---|---",
        f"cold chain, first line to final state, s | {flow:.2f} | "
        f"{_held(flow, bound, f'{bound:.2f} (script × 1.05 + 1.5)')}",
        f"the same commands by a plain script, s | {tools:.2f} |",
        f"ratio, round by round | {ratio:.2f} |",
        f"unchanged run, s | {unchanged:.2f} | {_held(unchanged, 3)}",
        f"process around the flow (start, imports, end), s | {around:.2f} |",
        *(
            _memory_row(f"peak memory for an image with {mib} MiB of random data, MiB", run.memory)
            for mib, run in sized
        ),
        "",
    ]


def _steps(cold: list[Run], plain: list[Run], again: list[Run]) -> list[str]:
    """Return the table of steps, and of the time between the steps."""
    rows = []
    for name, other in SAME.items():
        mine, unchanged = (median([r.steps.get(name, 0.0) for r in runs]) for runs in (cold, again))
        its = median([r.steps.get(other, 0.0) for r in plain]) if other else 0.0
        rows.append(f"{name} | {mine:.1f} | {its:.1f} | {mine - its:+.1f} | {unchanged:.1f}")
    rest, idle = (median([r.flow - sum(r.steps.values()) for r in runs]) for runs in (cold, again))
    return [
        "step | chain | script | difference | unchanged",
        "---|---|---|---|---",
        *rows,
        f"between the steps | {rest:.1f} | | {rest:+.1f} | {idle:.1f}",
        "",
        "The script reads no evidence and has no gates; in place of `monitor` it stops the previous container.",
        "",
    ]


def _many(seconds: float, each: list[dict[str, float]]) -> list[str]:
    """Return the throughput."""
    return [
        f"## {len(each)} chains at once",
        "",
        f"{len(each)} small bases through development and curation: {seconds:.1f} s, "
        f"{len(each) / seconds * 60:.1f} a minute.",
    ]


def _held(value: float, goal: float, limit: str = "") -> str:
    return f"≤ {limit or goal}: {'met' if value <= goal else 'missed'}"


def _memory_row(what: str, mib: float) -> str:
    return f"{what} | {mib:.0f} | {_held(mib, 300)}"


def _ram() -> float:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1024**3


def main() -> None:
    """Measure, print, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--at-once", type=int, default=10)
    parser.add_argument("--large", type=int, default=1024, metavar="MIB")
    options = parser.parse_args()
    if not shutil.which("bc"):
        raise SystemExit("bc is not on PATH; the script counts with it. Install it: apt-get install bc")
    load = os.getloadavg()[0]
    runs = measured(options.rounds)
    text = page(load, *runs, at_once(options.at_once), [(mib, sized(mib)) for mib in (1, options.large)])
    write_page(text)
    print(text, *_steps(*runs), sep="\n")


if __name__ == "__main__":
    main()
