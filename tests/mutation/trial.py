"""A mutant on trial: the unit tests in a process of its own, in which one module is the mutant.

The process is forked from this one, which has imported other people's packages and none of ours,
so that a trial takes a second and no file is changed.
"""

from __future__ import annotations

import gc
import importlib
import multiprocessing
import os
import resource
import signal
import sys
import time
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from multiprocessing.connection import wait
from multiprocessing.context import ForkProcess
from pathlib import Path
from types import CodeType

import coverage
import pytest

from tests.mutation.mutants import Mutant

OTHERS = ("boto3", "cel", "cel_expr_python.cel", "cryptography.hazmat.primitives.asymmetric.ec", "docker",
          "google.protobuf.descriptor_pool", "hypothesis", "plumbum", "prefect.events", "prefect_aws",
          "prefect_docker", "yaml")  # fmt: skip
"""What the tests import besides the project."""
BUSY = 120
"""Seconds of computing after which a mutant goes round in circles; the tests need a tenth of it, however busy the
machine is."""
TIMEOUT = 900
"""Seconds after which a mutant waits for what does not come."""
MEMORY = 4 * 1024**3
"""Bytes of address space; a mutant that collects without end is over soon."""

FORK = multiprocessing.get_context("fork")


@dataclass(frozen=True)
class Trial:
    """A mutant and the tests that have to notice it, in turn; without a mutant, the tests have to pass."""

    mutant: Mutant | None
    tests: tuple[str, ...]
    first: tuple[str, ...] = ()
    """Tests, by their ids or files, that run before all others: those that execute what the mutant changes."""
    record: Path | None = None
    """A file to which is written which test executes which line."""


class _Loader(SourceFileLoader):
    def __init__(self, fullname: str, path: str, text: str) -> None:
        super().__init__(fullname, path)
        self.text = text

    def get_code(self, fullname: str) -> CodeType:
        return compile(self.text, self.path, "exec", dont_inherit=True)


class _Finder(PathFinder):
    """Finds the mutant in place of its module."""

    def __init__(self, path: Path, text: str) -> None:
        self.path, self.text = str(path), text

    def find_spec(self, fullname, path=None, target=None) -> ModuleSpec | None:  # type: ignore[no-untyped-def, override]
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is None or spec.origin != self.path:
            return None
        spec.loader = _Loader(fullname, self.path, self.text)
        return spec


def outcomes(root: Path, trials: Iterable[Trial], jobs: int) -> Iterator[tuple[Trial, bool]]:
    """Each trial as it ends, and whether all of its tests passed; `jobs` at a time."""
    for name in OTHERS:
        importlib.import_module(name)
    gc.freeze()
    waiting, running = iter(trials), dict[int, tuple[ForkProcess, Trial, float]]()
    while True:
        while len(running) < jobs and (trial := next(waiting, None)):
            process = FORK.Process(target=_run, args=(root, trial))
            process.start()
            running[process.sentinel] = (process, trial, time.monotonic())
        if not running:
            return
        for sentinel in wait(list(running), timeout=1):
            assert isinstance(sentinel, int)
            process, trial, _ = running.pop(sentinel)
            process.join()
            yield trial, process.exitcode == 0
        for process, _, started in running.values():
            if time.monotonic() - started > TIMEOUT and process.pid:
                os.killpg(process.pid, signal.SIGKILL)


def _run(root: Path, trial: Trial) -> None:
    os.setsid()
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CPU, (BUSY, BUSY))
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(nowhere, stream)
    os.chdir(root)
    sys.path[:0] = [str(root / "src"), str(root)]
    if trial.mutant:
        sys.meta_path.insert(0, _Finder(root / trial.mutant.name.file, trial.mutant.text))
    if trial.record:
        os._exit(_recorded(root, trial.tests, trial.record))
    files = dict.fromkeys(each.partition("::")[0] for each in trial.first)
    os._exit((_tested(files, _Only(trial.first)) if files else 0) or _tested(trial.tests))


def _tested(tests: Iterable[str], *plugins: object) -> int:
    """The first status that is not 0; what is asked first should notice most."""
    quick = ("-q", "-x", "-p", "no:cacheprovider", "--hypothesis-seed=0")
    return next((status for each in tests if (status := int(pytest.main([*quick, each], plugins)))), 0)


class _Only:
    """Runs single tests and files."""

    def __init__(self, tests: Iterable[str]) -> None:
        self.tests = set(tests)

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items[:] = [item for item in items if self.tests & {item.nodeid, item.nodeid.partition("::")[0]}]


class _Contexts:
    """Tells the measurement which test runs."""

    def __init__(self, measured: coverage.Coverage) -> None:
        self.measured = measured

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        self.measured.switch_context(item.nodeid)
        return (yield)


def _recorded(root: Path, tests: Sequence[str], record: Path) -> int:
    measured = coverage.Coverage(data_file=record, include=[f"{root}/src/*", f"{root}/tasks/*"], config_file=False)
    measured.start()
    status = _tested(tests, _Contexts(measured))
    measured.stop()
    measured.save()
    return status


def executed(record: Path, file: Path) -> dict[int, list[str]]:
    """Which tests execute each line of a file, by their ids; of a line that an import executes, none."""
    data = coverage.CoverageData(record)
    data.read()
    lines = data.contexts_by_lineno(str(file))
    return {line: [] if "" in tests else sorted(tests) for line, tests in lines.items()}
