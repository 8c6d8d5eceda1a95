"""`cscm check` with the real tools, without a registry or a Prefect server, and with an engine only for an image."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4
from xml.etree import ElementTree

import docker
import pytest

from cscm_laptop.engine import read_engine_url
from cscm_laptop.home import Home
from tests.support.application import Application, git
from tests.support.command import ROOT

pytestmark = pytest.mark.real

UNREACHABLE = {"PREFECT_API_URL": "http://127.0.0.1:9/api", "DOCKER_HOST": "tcp://127.0.0.1:9"}
KEY = "AKIA" + "IOSFODNN7EXAMPLF"
VULNERABLE = "jinja2==2.10 \\\n    --hash=sha256:" + "0" * 64 + "\n"


@dataclass(frozen=True)
class Checked:
    """How a check ended, and what it printed."""

    status: int
    output: str
    errors: str

    @property
    def found(self) -> list[tuple[str, str, int]]:
        """Code, file and line of every error."""
        diagnostics: list[dict[str, Any]] = json.loads(self.output)["diagnostics"]
        return [(each["code"], each["file"], each["line"]) for each in diagnostics if each["level"] == "error"]


Check = Callable[..., Checked]


@pytest.fixture
def application(tmp_path: Path) -> Path:
    """A committed copy of an example."""
    path = Path(shutil.copytree(ROOT / "examples/hello", tmp_path / "hello"))
    git(path, "init", "--quiet")
    git(path, "add", ".")
    git(path, "commit", "--quiet", "--message", "x")
    return path


@pytest.fixture
def check(home: Home, application: Path) -> Check:
    """A function that runs the command in the application's directory, with these arguments."""

    def run(*arguments: str, **environment: str) -> Checked:
        settings = {**os.environ, "CSCM_HOME": str(home.directory), **UNREACHABLE, **environment}
        done = subprocess.run(
            [sys.executable, "-m", "cscm.main", "check", *arguments],
            cwd=application, env=settings, capture_output=True, text=True, check=False, timeout=300,
        )  # fmt: skip
        return Checked(done.returncode, done.stdout, done.stderr)

    return run


def test_example_is_not_refused(check: Check, tmp_path: Path) -> None:
    """What its build signs is what was checked here. The file has each rule; those that need a build are skipped."""
    file = tmp_path / "check.xml"

    done = check(".", "--format", "junit", "--output", str(file))

    assert done.status == 0, done.output + done.errors
    expected = {"tests": "43", "failures": "0", "errors": "0", "skipped": "18"}
    assert ElementTree.parse(file).getroot().attrib == expected
    assert "hello: nothing to refuse (25 of 43 rules judged)" in done.output
    assert (
        "not read: curated/base/python-build, curated/base/python (" in done.output and "uncommitted" not in done.output
    )


def test_every_kind_of_finding_has_its_file_and_line(check: Check, application: Path) -> None:
    """One call finds them all: nothing has to be built in between."""
    (application / "hello/config.py").write_text(f'region = "eu"\naws_access_key_id = "{KEY}"\n')
    (application / "hello/shell.py").write_text("import subprocess\n\nsubprocess.call(input(), shell=True)\n")
    dockerfile, locked = application / "Dockerfile", application / "requirements.txt"
    dockerfile.write_text(dockerfile.read_text().replace("COPY hello", "RUN cd /tmp && ls\nCOPY hello", 1))
    locked.write_text(f"{locked.read_text()}{VULNERABLE}")
    declaration = application / "supply-chain.yaml"
    declaration.write_text(declaration.read_text().replace("unknown: 60", "unknown: 0"))

    done = check(".", "--json")

    assert done.status == 3, done.output + done.errors
    line = 1 + dockerfile.read_text().splitlines().index("RUN cd /tmp && ls")
    assert {("dockerfile.failed", "Dockerfile", line), ("source.failed", "hello/shell.py", 3)} <= set(done.found)
    assert ("secrets.failed", "hello/config.py", 2) in done.found
    package = 1 + locked.read_text().splitlines().index(VULNERABLE.splitlines()[0])
    notes = [each for each in json.loads(done.output)["diagnostics"] if "jinja2 2.10" in each["fact"]]
    assert notes and {(each["file"], each["line"]) for each in notes} == {("requirements.txt", package)}


@pytest.mark.parametrize(
    ("before", "after", "code"),
    [
        ("FROM curated/base/python\n", "FROM python:3\n", "dockerfile.refused"),
        ("COPY hello", "ADD http://files.test/a.tgz /a\nCOPY hello", "dockerfile.refused"),
        ("COPY hello", "COPY --from=alpine:3 /a /a\nCOPY hello", "dockerfile.refused"),
        ("WORKDIR /app", "RUN --network=host ls\nWORKDIR /app", "dockerfile.refused"),
        ("WORKDIR /app", "WORKDIRR /app", "build.failed"),
    ],
)
def test_dockerfile_error_is_reported_at_its_line(
    check: Check, application: Path, before: str, after: str, code: str
) -> None:
    """BuildKit's own converter reads it, as in a build."""
    dockerfile = application / "Dockerfile"
    text = dockerfile.read_text()
    dockerfile.write_text(text.replace(before, after, 1))
    line = 1 + text[: text.index(before)].count("\n")

    done = check(".", "--json")

    assert done.status == 3, done.output + done.errors
    assert (code, "Dockerfile", line) in done.found


def test_ignored_file_is_not_checked(check: Check, application: Path) -> None:
    """The snapshot is that of a build."""
    for name in ("secret.txt", "kept.txt"):
        (application / name).write_text(f"{KEY}\n")
    (application / ".dockerignore").write_text("*.txt\n!requirements*.txt\n!kept.txt\n")

    assert check(".", "--json").found == [("secrets.failed", "kept.txt", 1)]


def test_mistakes_of_the_declaration_are_annotated(check: Check, application: Path) -> None:
    """The file for code scanning has them, with the lines."""
    declaration = application / "supply-chain.yaml"
    declaration.write_text(declaration.read_text().replace("port: 8080", "port: 80"))

    done = check(".", "--format", "sarif", "--output", "check.sarif")

    assert done.status == 3 and "greater than or equal to 1024 [declaration.invalid]" in done.output
    (run,) = json.loads((application / "check.sarif").read_text())["runs"]
    (result,) = run["results"]
    (location,) = result["locations"]
    line = 1 + declaration.read_text().splitlines().index("  port: 80")
    assert location["physicalLocation"] == {
        "artifactLocation": {"uri": "supply-chain.yaml"},
        "region": {"startLine": line},
    }


def test_machine_without_tools_gets_an_error(check: Check, tmp_path: Path) -> None:
    """Nothing is checked with what happens to be there."""
    done = check(".", CSCM_HOME=str(tmp_path / "empty"))

    assert (done.status, done.output) == (1, "")
    assert "dockerfile-reader is not on this machine" in done.errors and "--install" in done.errors


@pytest.fixture
def subject(program: Path, tmp_path: Path) -> Application:
    """The small application of the tests."""
    made = Application("checked", tmp_path / "subject")
    made.write(program, "staging")
    made.next_revision()
    return made


@pytest.fixture
def build(engine: docker.DockerClient, subject: Application) -> Iterator[Callable[[], str]]:
    """A function that builds the subject as a developer does, and returns the image's name."""
    made: list[str] = []

    def build() -> str:
        made.append(f"cscm-test/checked:{uuid4().hex}")
        engine.images.build(path=str(subject.path), tag=made[-1], rm=True)
        return made[-1]

    yield build
    for name in made:
        engine.images.remove(name, force=True)


def judged(done: Checked) -> dict[str, str]:
    """Rule → result, of those that were judged."""
    return {each["id"]: each["result"] for each in json.loads(done.output)["rules"] if each["result"]}


def test_image_is_probed_and_scanned(check: Check, subject: Application, build: Callable[[], str]) -> None:
    """The rules about both are judged, with the image's name or its id."""
    name = build()

    alone = check(str(subject.path), "--json")
    done = check(str(subject.path), "--image", name, "--json", DOCKER_HOST=read_engine_url())

    assert (alone.status, done.status) == (0, 0), done.output + done.errors
    more = judged(done).keys() - judged(alone).keys()
    assert {"probe.missing", "probe.failed", "scan.known-exploited", "scan.critical"} <= more
    assert judged(done)["probe.failed"] == "passed" and json.loads(done.output)["image"] == name


def test_image_that_does_not_become_ready_is_refused(
    check: Check, subject: Application, build: Callable[[], str], engine: docker.DockerClient
) -> None:
    """The same result as in a build, and nothing is left in the engine."""
    dockerfile = subject.path / "Dockerfile"
    dockerfile.write_text(dockerfile.read_text().replace('["/subject"]', '["/subject", "crash"]'))
    subject.commit()
    name = build()
    before = {each.id for each in engine.containers.list(all=True, filters={"ancestor": name})}

    done = check(str(subject.path), "--image", engine.images.get(name).id, "--json", DOCKER_HOST=read_engine_url())

    assert done.status == 3, done.output + done.errors
    assert "probe.failed" in {code for code, _, _ in done.found}
    assert {each.id for each in engine.containers.list(all=True, filters={"ancestor": name})} == before == set()


@pytest.mark.parametrize(("url", "why"), [("", "no such image"), (UNREACHABLE["DOCKER_HOST"], "could not connect")])
def test_missing_image_or_engine_is_an_error(check: Check, url: str, why: str) -> None:
    """It is no answer about the image."""
    done = check(".", "--image", "cscm-test/none:1", DOCKER_HOST=url or read_engine_url())

    assert (done.status, done.output) == (1, "") and why in done.errors.lower()
