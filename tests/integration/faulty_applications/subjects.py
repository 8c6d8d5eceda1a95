"""Faulty applications, and how their chains end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml
from botocore.exceptions import ClientError

from tests.integration.faulty_applications.cases import Case
from tests.support.application import Application
from tests.support.command import Ran, cscm
from tests.support.eyes import SIGNATURE, Eyes

PLACE = "faulty"
SERVING = "faulty/serving"
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
        ran = cscm("chain", str(self.app.path), "--json", environment=self.app.environment)
        return Ended(self, revision, begun, ran)


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


Make = Callable[[str], Subject]


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
