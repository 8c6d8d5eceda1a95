"""Runs the chain of each case once for all tests, several at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from botocore.exceptions import ClientError

from cscm_laptop.home import Home
from tests.support.application import Application, compiled, git
from tests.support.command import Ran
from tests.support.eyes import SIGNATURE, Eyes
from tests.support.place import placed

from .cases import CASES, GOOD, WHILE_SERVING, Case, End

PLACE = "faulty"
SERVING = "faulty/serving"
AT_ONCE = 3
INFORMATION = b"\xff Go buildinf:"
"""The marker of a Go program's list of modules (Go's debug/buildinfo)."""


@dataclass(frozen=True)
class Subject:
    """An application in a repository of its own, and a client to observe its runs."""

    app: Application
    eyes: Eyes
    programs: dict[str, Path]

    def become(self, case: Case) -> None:
        """Write the files of the case."""
        path = self.app.path
        declaration = {**case.declaration(), "name": self.app.name}
        (path / "supply-chain.yaml").write_text(yaml.safe_dump(declaration))
        (path / "name").write_text(
            self.app.name
        )  # makes each layer unique, because the engine may remove layers of other applications
        (path / "subject").write_bytes(self.programs[case.program].read_bytes())
        (path / "subject").chmod(0o755)
        (path / "Dockerfile").unlink(missing_ok=True)
        if (text := case.text()) is not None:
            (path / "Dockerfile").write_bytes(text)

    def ended(self) -> Ended:
        """Run the chain of the next revision to its end."""
        revision, begun = self.app.next_revision(), datetime.now(UTC)
        return Ended(self, revision, begun, self.app.chain().end())


@dataclass(frozen=True)
class Ended:
    """A chain that has ended."""

    subject: Subject
    revision: str
    begun: datetime
    ran: Ran

    @property
    def status(self) -> int:
        return self.ran.status

    @property
    def result(self) -> Any:
        return self.ran.result

    @property
    def words(self) -> str:
        return f"{self.ran.stderr}\n{self.ran.stdout}"

    def codes(self) -> frozenset[str]:
        """Return the codes in the command's output."""
        if self.status == 1:
            return frozenset({self.ran.code()})
        return frozenset(self.ran.reasons() if self.status == 3 else ())

    def states(self) -> list[str]:
        """Return the states of this directory's runs since the chain began."""
        path = self.subject.app.path
        since = {"expected_start_time": {"after_": self.begun.isoformat()}}
        wanted = {"flow_runs": {"name": {"any_": [f"chain {path.name}"]}, **since}, "limit": 200}
        found = self.subject.eyes.prefect.ask("flow_runs/filter", wanted)
        return [run["state_name"] for run in found if run["parameters"]["path"] == str(path)]

    def offered(self) -> list[str]:
        """Return the digests of this revision that development offered."""
        return self._digests("dev")

    def signatures(self) -> list[int]:
        """Return the number of signatures of each image of this revision in curated/."""
        repository = f"curated/{self.subject.app.name}"
        return [self.subject.eyes.attached(repository, digest)[SIGNATURE] for digest in self._digests("curated")]

    def _digests(self, tier: str) -> list[str]:
        try:
            tags = self.subject.eyes.tagged(f"{tier}/{self.subject.app.name}")
        except ClientError as error:
            if error.response["Error"]["Code"] != "RepositoryNotFoundException":
                raise
            return []
        return sorted({digest for tag, digest in tags.items() if tag.startswith(self.revision[:7])})

    def left(self) -> dict[str, list[str]]:
        """Return resources that only a running chain may have: in the engine, in Prefect and on this machine."""
        eyes, name = self.subject.eyes, self.subject.app.name
        left = {
            "in the engine": eyes.left_in_the_engine(name),
            "concurrency slots": [limit for limit in eyes.slots() if limit.endswith(f" {name.replace('/', ':')}")],
            "temporary files": [str(path) for path in eyes.scratch.rglob("*")],
            "processes": eyes.processes(),
        }
        return {what: found for what, found in left.items() if found}


@pytest.fixture(scope="session")
def programs(program: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The program, the program for another machine, and the program without its list of modules."""
    directory = tmp_path_factory.mktemp("programs")
    arm, nameless = directory / "arm", directory / "nameless"
    compiled(arm, "arm64")
    content = program.read_bytes()
    assert INFORMATION in content
    nameless.write_bytes(content.replace(INFORMATION, bytes(len(INFORMATION))))
    return {"program": program, "arm": arm, "nameless": nameless}


@pytest.fixture(scope="session")
def ports() -> Iterator[dict[str, int]]:
    names = [case.application for case in CASES if case.end is End.ALLOWED]
    with placed(PLACE, [SERVING, *names], GREETING="hello") as found:
        yield found


Make = Callable[[str], Subject]


@pytest.fixture(scope="session")
def make(
    bases: None,
    home: Home,
    ports: dict[str, int],
    programs: dict[str, Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> Make:
    """A function that creates an empty application with this name."""

    def of(name: str) -> Subject:
        path = tmp_path_factory.mktemp("source") / name.rpartition("/")[2]
        path.mkdir()
        git(path, "init", "--quiet")
        eyes = Eyes(home, tmp_path_factory.mktemp("scratch"), tmp_path_factory.mktemp("keys"), PLACE)
        return Subject(Application(name, path, ports.get(name, 0), {"TMPDIR": str(eyes.scratch)}), eyes, programs)

    return of


@pytest.fixture(scope="session")
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(AT_ONCE) as started:
        yield started
        started.shutdown(cancel_futures=True)


def selected(request: pytest.FixtureRequest, argument: str) -> list[Any]:
    """Return the parameters of this session's tests."""
    items = [item for item in request.session.items if isinstance(item, pytest.Function)]
    return [item.callspec.params[argument] for item in items if argument in _parameters(item)]


def _parameters(item: pytest.Function) -> dict[str, Any]:
    return item.callspec.params if hasattr(item, "callspec") else {}


@dataclass(frozen=True)
class Served:
    """A chain of an application that runs, and what was observed right after it."""

    ran: Ended
    states: list[str]
    signatures: list[int]
    left: dict[str, list[str]]
    running: str
    """The container of the application."""
    answers: bool


@pytest.fixture(scope="session")
def served(make: Make, pool: ThreadPoolExecutor) -> Future[tuple[Served, ...]]:
    """The chains of one application: a good revision, those with the faults of `WHILE_SERVING`, and a good one."""

    def run(case: Case) -> Served:
        subject.become(case)
        ran, eyes = subject.ended(), subject.eyes
        container = eyes.running(SERVING)
        assert container.status == "running"
        answers = eyes.answers(subject.app.url)
        return Served(ran, ran.states(), ran.signatures(), ran.left(), str(container.id), answers)

    subject = make(SERVING)
    cases = (GOOD, *(case for case, _ in WHILE_SERVING), GOOD)
    return pool.submit(lambda: tuple(map(run, cases)))


@pytest.fixture(scope="session")
def runs(request: pytest.FixtureRequest, make: Make, pool: ThreadPoolExecutor) -> dict[str, Future[Ended]]:
    """The chain of each case that this session tests, by name."""
    if any("served" in item.fixturenames for item in request.session.items if isinstance(item, pytest.Function)):
        request.getfixturevalue("served")  # it takes longest, so it starts first

    def run(subject: Subject, case: Case) -> Ended:
        subject.become(case)
        return subject.ended()

    cases: dict[str, Case] = {case.name: case for case in selected(request, "case")}
    return {name: pool.submit(run, make(case.application), case) for name, case in cases.items()}
