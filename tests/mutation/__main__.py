"""Change the gates one decision at a time, and see that a unit test notices each change.

    python -m tests.mutation [--jobs N] [--sample N [--seed S]] [--since REVISION] [FILE ...]

A sample has mutants of every module, as many of each as are its share. The same sources have the same sample, so that
its result can be repeated; each change to them draws another one. With `--since`, only lines are changed that differ
from that revision of git.

Exits 1 when a mutant survives that `reviewed.yaml` does not list, or lists one that does not survive.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from supply_chain.model.documents import read_document
from tests.mutation.mutants import Mutant, Name, changed_lines, drawn, mutants_of, seed_of
from tests.mutation.review import Review, objections
from tests.mutation.trial import Trial, executed, outcomes

ROOT = Path(__file__).parents[2]
ROOMS = {
    "src/supply_chain/policy": ("policy",),
    "src/supply_chain/evidence": ("evidence", "policy"),
    "src/supply_chain/vulnerability": ("vulnerability", "policy"),
    "src/supply_chain/vulnerability/vex": ("vulnerability/vex",),
}
"""Where gates and what they read are decided, and the directories of tests/unit that have to notice."""
Executing = Mapping[str, Mapping[int, Sequence[str]]]
"""Module → line → the tests that execute it."""
GATES = {"tasks/gates.py": ("tasks/test_gates.py",)}


def files() -> list[str]:
    """Every module that is mutated."""
    rooms = [path.relative_to(ROOT) for room in ROOMS for path in sorted((ROOT / room).glob("*.py"))]
    return [str(path) for path in rooms if path.name != "__init__.py"] + list(GATES)


def tests_of(file: str) -> tuple[str, ...]:
    """The tests that have to notice mutants of a module: those of its room, the same for all its modules."""
    return tuple(f"tests/unit/{each}" for each in GATES.get(file) or ROOMS[str(Path(file).parent)])


def main() -> int:
    """Try the mutants and say what is wrong."""
    options = _options()
    begun = time.monotonic()
    changed = changed_lines(_diff(options.since)) if options.since else None
    chosen = [file for file in options.files or files() if changed is None or file in changed]
    mutants = [mutant for file in chosen for mutant in mutants_of(ROOT, file)]
    tried = [each for each in mutants if changed is None or each.lines & changed[each.name.file]]
    if options.sample:
        seed = options.seed or seed_of(mutants)
        tried = drawn(tried, options.sample, seed)
        print(f"{len(tried)} of {len(mutants)} mutants, CSCM_SEED={seed}", flush=True)
    with TemporaryDirectory() as work:
        records = _passing(chosen, options.jobs, Path(work))
        executing = {file: executed(records[tests_of(file)], ROOT / file) for file in chosen}
    survived = _survivors(tried, executing, options.jobs)
    review = read_document(ROOT / "tests/mutation/reviewed.yaml", Review)
    everything = not (options.files or options.since)
    reviewed = [each for each in review.survivors if everything or each.file in chosen]
    present, names = ({mutant.name for mutant in each} for each in (mutants, tried))
    wrong = objections(reviewed, present, names, survived)
    for each in wrong:
        print(each)
    print(
        f"{len(tried)} mutants in {len(chosen)} modules: {len(tried) - len(survived)} noticed, "
        f"{len(survived)} survived, {len(reviewed)} reviewed; {len(wrong)} objections; "
        f"{time.monotonic() - begun:.0f} s"
    )
    return 1 if wrong else 0


def _passing(chosen: Sequence[str], jobs: int, work: Path) -> dict[tuple[str, ...], Path]:
    """For each set of tests, the record of what they execute. Tests that fail anyway notice nothing."""
    records = {tests: work / str(number) for number, tests in enumerate(dict.fromkeys(map(tests_of, chosen)))}
    trials = [Trial(None, tests, record=record) for tests, record in records.items()]
    passing = {trial.tests for trial, passed in outcomes(ROOT, trials, jobs) if passed}
    if failing := set(records) - passing:
        named = sorted({name for tests in failing for name in tests})
        sys.exit(f"Without any mutant some of these fail: {', '.join(named)}\nMend them first: `make test-unit`.")
    return records


def _survivors(mutants: Sequence[Mutant], executing: Executing, jobs: int) -> set[Name]:
    """A mutant survives if all tests pass; those that execute its line come first, for they notice most."""
    survived = set()
    trials = [Trial(mutant, tests_of(mutant.name.file), first_tests(mutant, executing)) for mutant in mutants]
    for number, (trial, passed) in enumerate(outcomes(ROOT, trials, jobs), start=1):
        if passed and trial.mutant:
            survived.add(trial.mutant.name)
        if number % 50 == 0:
            print(f"{number} of {len(trials)} tried, {len(survived)} survived", file=sys.stderr)
    return survived


def first_tests(mutant: Mutant, executing: Executing) -> tuple[str, ...]:
    """Return the tests that execute the mutant's lines, those of the module itself first.

    If an import executes them, return all tests of the module itself.
    """
    lines, path = executing[mutant.name.file], Path(mutant.name.file)
    own = f"tests/unit/{path.parent.name}/test_{path.stem}.py"
    found = dict.fromkeys(test for line in sorted(mutant.lines) for test in lines.get(line, ()))
    return tuple(sorted(found, key=lambda test: not test.startswith(own))) or ((own,) if (ROOT / own).exists() else ())


def _diff(revision: str) -> str:
    """Return what differs from a revision, uncommitted changes too, without lines around it."""
    command = ["git", "diff", "--unified=0", "--no-color", "--no-ext-diff", "--no-prefix", revision, "--", *files()]
    return subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="tests.mutation", description=__doc__)
    parser.add_argument("files", nargs="*", metavar="FILE", help="modules; by default all that a gate rests on")
    parser.add_argument("--sample", type=int, metavar="N", help="try about so many, drawn from all modules")
    seed = int(os.environ.get("CSCM_SEED") or 0)
    parser.add_argument("--seed", type=int, default=seed, metavar="S", help="of the sample; by default the sources'")
    parser.add_argument("--since", metavar="REVISION", help="change only lines that differ from this revision of git")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), metavar="N")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
