"""How fast the rescan is, compared with a plain loop of grype on the same SBOMs. Writes parts of docs/performance.md.

    python -m bench.rescan [--images 1000] [--rounds 3] [--dry]

Without rounds it measures the memory alone.

Arms are interleaved in every round, with the same grype, database, flags and number of processes. *tuned* is the
loop with what the rescan sets of grype's memory and processors, which the plain loop leaves as it is:

- *loop*: `xargs -P` over files, one grype each, its report into a file;
- *night*: the rescan on a machine that kept nothing, with a database that it has not seen: it reads each image's
  evidence from a registry and verifies it, reads the SBOM of record from there, matches it, keeps the report, and
  compares it with what is signed.

After each night the *second night* is measured, in which nothing changed; before all, the *very first*, which signs
a report and a verdict for each image, with a key in this process. The registry is an emulator on this machine, which
takes its share of the same processors. *matching* is the rescan's matching alone, of the same files.
"""

from __future__ import annotations

import argparse
import gc
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, datetime
from multiprocessing import get_context
from pathlib import Path
from typing import cast

from bench.fleet import Fleet, derived, emulated
from bench.section import write_section
from blocks.workbench import CHEAPER
from cscm_laptop.home import Home
from cscm_laptop.vulndb import ensure_database
from orchestration.clock import read_clock
from supply_chain.adapters.process.command import Tool
from supply_chain.adapters.tools import Pins, Toolbox
from supply_chain.adapters.tools.grype import Grype
from supply_chain.adapters.vulndb import pin_database
from supply_chain.adapters.vulndb.report_cache import ReportCache
from supply_chain.fleet.exposure import Unjudged
from supply_chain.fleet.image import FleetImage
from supply_chain.fleet.rescan import RescanPorts, rescan, split_into_chunks
from supply_chain.fleet.tally import Tally
from supply_chain.model.image import digest_of
from supply_chain.vulnerability.matching import MatchRequest, count_processors, match
from supply_chain.vulnerability.scanner import Sbom

PROJECT = Path(__file__).parents[1]
PINS = Pins.load(PROJECT / "deployments/tools.yaml")
EACH = 50
"""Number of images of an application."""
GOAL = 0.95
WIDE = count_processors() + 1
"""Scans in parallel, in both arms; one more than the processors is fastest in both."""
PARTS = 8


@dataclass
class Measured:
    """Seconds of each arm in each round."""

    loop: list[float] = field(default_factory=list)
    tuned: list[float] = field(default_factory=list)
    matching: list[float] = field(default_factory=list)
    night: list[float] = field(default_factory=list)
    second: list[float] = field(default_factory=list)
    first: list[float] = field(default_factory=list)
    memory: dict[int, float] = field(default_factory=dict)
    """Peak memory of the process in MiB while it rescans, by the number of images; it should not grow with them."""


def real(syft: Tool, work: Path) -> list[bytes]:
    """Return SBOMs that each cover an eighth of this machine's Debian and this environment's Python packages."""
    installed = next(path for path in map(Path, sys.path) if path.name == "site-packages")
    contents = []
    stanzas = Path("/var/lib/dpkg/status").read_text().split("\n\n")
    for part in range(PARTS):
        root = work / f"root-{part}"
        (root / "etc").mkdir(parents=True)
        (root / "var/lib/dpkg").mkdir(parents=True)
        shutil.copy2("/etc/os-release", root / "etc/os-release")
        (root / "var/lib/dpkg/status").write_text("\n\n".join(stanzas[part::PARTS]) + "\n")
        for each in sorted(installed.glob("*.dist-info"))[part::PARTS]:
            (root / each.name).mkdir()
            for name in ("METADATA", "RECORD"):
                if (each / name).exists():
                    shutil.copy2(each / name, root / each.name / name)
        output = work / f"real-{part}.json"
        syft.run("scan", f"dir:{root}", f"--output=syft-json={output}", timeout=600, quiet=True)
        contents.append(output.read_bytes())
    return contents


def timed(work: Callable[[], object]) -> float:
    """Return the seconds that the work takes."""
    started = time.monotonic()
    work()
    return time.monotonic() - started


def loop(grype: Tool, environment: dict[str, str], files: Sequence[Path], out: Path) -> None:
    """Run the plain loop; raise `SystemExit` if one of its scans fails."""
    out.mkdir(parents=True)
    settings = out / "none.yaml"
    settings.touch()
    script = f'exec "{grype.path}" "sbom:$1" --config "{settings}" --output json > "{out}/$(basename "$1")" 2>/dev/null'
    done = subprocess.run(
        ["xargs", "-0", "-n1", f"-P{WIDE}", "sh", "-c", script, "sh"],
        input=b"\0".join(os.fsencode(file) for file in files),
        env={**os.environ, **environment},
        check=False,
    )
    if done.returncode or len(list(out.glob("*.json"))) != len(files):
        raise SystemExit("the loop did not scan everything")


def night(images: Sequence[FleetImage], ports: RescanPorts) -> Tally:
    """Rescan all images and tally them as a run does; raise `SystemExit` if one has no verdict."""
    tally = Tally(len(images), "grype", ports.scanner.identify()[1], read_clock())
    for chunk in split_into_chunks(images):
        for result in rescan(chunk, replace(ports, on_result=tally.add)):
            if isinstance(result, Unjudged):
                raise SystemExit(f"{result.ref}: {result.message}")
    return tally


def called_otherwise(scanner: Grype, number: int) -> Grype:
    """Return the scanner under a new configuration name.

    The caches have nothing for it, as for a new database that has the same findings.
    """
    kind = type("Grype", (Grype,), {"configuration": f"night {number}"})
    return cast(Grype, kind(**{each.name: getattr(scanner, each.name) for each in fields(scanner)}))


def matched(files: Sequence[Path], scanner: Grype, results: Path) -> None:
    """Run the matching alone."""

    def read(file: Path) -> Sbom:
        return Sbom(file.read_bytes(), 1, "syft")

    requests = [MatchRequest(f"sha256:{file.stem}", lambda file=file: read(file)) for file in files]  # type: ignore[misc]
    match(requests, scanner, ReportCache(results))


def sboms(work: Path, count: int) -> list[Path]:
    """Write SBOMs derived from real ones to files named by their digests."""
    home = Home.find()
    files = []
    for sbom in derived(real(Toolbox(home.tools, PINS).find("syft"), work), count):
        files.append(work / f"{digest_of(sbom).removeprefix('sha256:')}.json")
        files[-1].write_bytes(sbom)
    return files


def measured(count: int, rounds: int) -> tuple[Measured, int]:
    """Run the arms; return their measurements, and the mean size of an SBOM in bytes."""
    home, arms = Home.find(), Measured()
    grype = Toolbox(home.tools, PINS).find("grype")
    with tempfile.TemporaryDirectory(prefix="cscm-bench-") as name:
        work = Path(name)
        ensure_database(grype, work / "database", starter_only=True)
        (work / "sboms").mkdir()
        (work / "registry").mkdir()
        with ProcessPoolExecutor(1, get_context("spawn")) as other:  # its memory is not measured
            files = other.submit(sboms, work / "sboms", count).result()
        size = sum(file.stat().st_size for file in files) // count
        with emulated(home.emulator / "bin/python", work / "registry") as fleet:
            images: list[FleetImage] = []
            for start in range(0, count, EACH):
                contents = [file.read_bytes() for file in files[start : start + EACH]]
                images += fleet.add(f"app-{start // EACH}", contents)
                del contents
            print(f"{len(images)} images, {size / 1024:.0f} KiB of SBOM each")
            _rounds(rounds, arms, grype, work, fleet, images, files)
    return arms, size


def _peak(work: Callable[[], object]) -> float:
    """Return the peak memory of this process in MiB while it does the work (proc(5), "clear_refs")."""
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")
    work()
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def _rounds(
    rounds: int, arms: Measured, grype: Tool, work: Path, fleet: Fleet, images: list[FleetImage], files: list[Path]
) -> None:
    with pin_database(grype, work / "database") as pinned:
        scanner = Grype(
            grype,
            pinned.environment,
            pinned.database,
            pinned.knows,
            read_clock,
            CHEAPER,
            quiet=True,
            publications=pinned.publications,
        )
        ports = Fleet(fleet.host, fleet.directory, cache=work / "content-first").rescan_ports(
            scanner, work / "results-first"
        )
        tenth, rest = images[: len(images) // 10], images[len(images) // 10 :]
        arms.memory[len(tenth)] = _peak(lambda: night(tenth, ports))
        arms.memory[len(rest)] = _peak(lambda: arms.first.append(timed(lambda: night(rest, ports))))
        print(f"MiB, by images: {arms.memory}")
        for number in range(rounds + 1 if rounds else 0):
            out = work / f"out-{number}"
            new, results = called_otherwise(scanner, number), work / f"results-{number}"
            cache = work / f"content-{number}"

            def once() -> Tally:
                """Rescan with a new fleet object, which, like a new process, has only the content cache."""
                other = Fleet(fleet.host, fleet.directory, cache=cache)  # noqa: B023
                return night(images, other.rescan_ports(new, results))  # noqa: B023

            took = {
                "loop": timed(lambda: loop(grype, pinned.environment, files, out / "plain")),  # noqa: B023
                "tuned": timed(lambda: loop(grype, {**pinned.environment, **CHEAPER}, files, out / "tuned")),  # noqa: B023
                "matching": timed(lambda: matched(files, scanner, work / f"matched-{number}")),  # noqa: B023
                "night": timed(once),
                "second": timed(once),
            }
            print(f"round {number}: " + ", ".join(f"{arm} {seconds:.1f} s" for arm, seconds in took.items()))
            if number:  # the first round is a warm-up
                for arm, seconds in took.items():
                    getattr(arms, arm).append(seconds)


def section(count: int, arms: Measured, size: int) -> str:
    """Return the section of the page."""

    def rate(seconds: list[float]) -> str:
        return f"{count / statistics.median(seconds):.1f}"

    def ratio(arm: list[float]) -> float:
        return statistics.median([plain / mine for plain, mine in zip(arms.loop, arm, strict=True)])

    full, alone = ratio(arms.night), ratio(arms.matching)
    return "\n".join(
        [
            "## The nightly rescan",
            "",
            f"`python -m bench.rescan`, {datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} cores; the registry is an "
            f"emulator on the same machine. {count} images, no two with the same SBOM, {size / 1024:.0f} KiB each; "
            f"{len(arms.loop)} rounds, arms interleaved, medians; starter database.",
            "",
            "| | images/s | loop's time ÷ its own | goal",
            "|---|---|---|---",
            f"plain loop of grype, {WIDE} at a time | {rate(arms.loop)} | 1 |",
            f"the loop with the rescan's GOGC and GOMAXPROCS | {rate(arms.tuned)} | {ratio(arms.tuned):.2f} |",
            f"matching alone | {rate(arms.matching)} | {alone:.2f} | ≥ {GOAL}: {_met(alone)}",
            f"a night with a new database and an empty cache | {rate(arms.night)} | {full:.2f} | "
            f"≥ {GOAL}: {_met(full)}",
            f"the second night, nothing changed | {rate(arms.second)} | {ratio(arms.second):.2f} |",
            f"the first, which signs a report and a verdict for each | {(count - count // 10) / arms.first[0]:.1f} | |",
            "",
        ]
    )


def memory_section(arms: Measured, size: int) -> str:
    """Return the section about the memory."""
    return "\n".join(
        [
            "## The nightly rescan's memory",
            "",
            "The peak of the process, without grype, for images that were never scanned, each with an SBOM of its own "
            f"of {size / 1024:.0f} KiB.",
            "",
            "images | MiB",
            "---|---",
            *(f"{number} | {peak:.0f}" for number, peak in arms.memory.items()),
            "",
        ]
    )


def _met(ratio: float) -> str:
    return "met" if ratio >= GOAL else "missed"


def main() -> None:
    """Measure, print, and write the section."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--dry", action="store_true", help="print the section, and do not write it")
    options = parser.parse_args()
    arms, size = measured(options.images, options.rounds)
    texts = {"rescan": section(options.images, arms, size)} if options.rounds else {}
    for mark, text in {**texts, "rescan_memory": memory_section(arms, size)}.items():
        print(text)
        if not options.dry:
            write_section(mark, text)


if __name__ == "__main__":
    main()
