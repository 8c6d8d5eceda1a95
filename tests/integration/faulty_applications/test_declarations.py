"""Invalid `supply-chain.yaml` files: the error names the line, and nothing is started.

Declarations that ask for foreign resources are tested in `tests/integration/adversary`.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import docker
import pytest
import yaml

from cscm_laptop.home import Home
from supply_chain.adapters.docker.engine import list_images
from supply_chain.model.declaration import FILE
from tests.support.command import Ran, cscm
from tests.support.eyes import Eyes

from .cases import DECLARATION

pytestmark = pytest.mark.real

NAME = "faulty-declared"
GOOD = yaml.safe_dump({"name": NAME, **DECLARATION}, sort_keys=False)
LINES = GOOD.splitlines()


def line(start: str) -> int:
    """Return the line number in the valid declaration whose text begins so."""
    return next(number for number, text in enumerate(LINES, 1) if text.strip().startswith(start))


def bomb() -> str:
    """Return ten lines that YAML expands to a gigabyte."""
    levels = [f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 10)}]" for n in range(1, 10)]
    return "\n".join(["l0: &l0 [x, x, x, x, x, x, x, x, x, x]", *levels])


Write = Callable[[Path], object]


def text(content: str | bytes) -> Write:
    return lambda path: path.write_bytes(content.encode() if isinstance(content, str) else content)


def changed(old: str, new: str) -> Write:
    assert old in GOOD
    return text(GOOD.replace(old, new, 1))


@dataclass(frozen=True)
class Wrong:
    """An invalid file and the text that the error has to contain."""

    what: str
    write: Write
    says: str


PORT = line("port:")
WRONG = (
    Wrong("missing", lambda _: None, "does not exist"),
    Wrong("empty", text(""), "is empty"),
    Wrong("a comment", text("# later\n"), "is empty"),
    Wrong("unknown key", changed("owner:", "onwer:"), f"{FILE}:3:1: service.onwer: "),
    Wrong(
        "a key of another document", text(GOOD + "environment: {A: b}\n"), f":{len(LINES) + 1}:1: service.environment: "
    ),
    Wrong("unknown key inside", changed("port:", "prot:"), f"{FILE}:{PORT}:3: service.probe.prot: "),
    Wrong("wrong type", changed("port: 8080", "port: many"), f"{FILE}:{PORT}:3: service.probe.port: "),
    Wrong("wrong type of all", text("- kind: service\n"), f"{FILE}:1:1: "),
    Wrong("words", text("It is a service.\n"), f"{FILE}:1:1: "),
    Wrong("no YAML", changed("port: 8080", "port: [8080"), f"{FILE}:{PORT + 1}:"),
    Wrong("a tab", changed("  port: 8080", "\tport: 8080"), f"{FILE}:{PORT}:1: "),
    Wrong("a key twice", text(GOOD + "kind: base\n"), f"{FILE}:{len(LINES) + 1}:1: 'kind' twice"),
    Wrong("two documents", text(GOOD + "---\n" + GOOD), f"{FILE}:{len(LINES) + 1}:1: "),
    Wrong("10 MB", text("#" * 10**7), "has more than 256 KiB"),
    Wrong("many values", text("a: [" + "1," * 100_000 + "]"), "more than 20000 values"),
    Wrong("nested", text("[" * 500), "nested too deeply"),
    Wrong("nested even deeper", text("[" * 100_000), f"{FILE}:1:1001: exceeded maximum nesting depth"),
    Wrong("aliases that multiply", text(bomb()), f"{FILE}:2:10: aliases are not allowed"),
    Wrong("an alias of itself", text("name: &a [*a]\n"), "aliases are not allowed"),
    Wrong("a tag", changed("owner: tests", "owner: !!str tests"), "tags are not allowed"),
    Wrong("a number without end", changed("8080", "1" * 9999), f"{FILE}:{PORT}:9: no such value"),
    Wrong("no text", text(bytes(range(256))), "UTF-8"),
    Wrong("terminal escapes", changed("owner: tests", 'owner: "\\e[31mred"'), f"{FILE}:{line('owner:')}:1: "),
    Wrong("a name with escapes", changed(NAME, '"rubbish\\e[2J"'), f"{FILE}:1:1: service.name: "),
    Wrong("no name", changed(f"name: {NAME}\n", ""), f"{FILE}:1:1: service.name: Field required"),
    Wrong("no kind", changed("kind: service\n", ""), "kind"),
    Wrong("a name with a tag", changed(NAME, f"{NAME}:latest"), f"{FILE}:1:1: service.name: "),
    Wrong("a name with a registry", changed(NAME, f"example.com:5000/{NAME}"), f"{FILE}:1:1: service.name: "),
    Wrong("a name that climbs", changed(NAME, f"../{NAME}"), f"{FILE}:1:1: service.name: "),
    Wrong("a name in capitals", changed(NAME, NAME.upper()), f"{FILE}:1:1: service.name: "),
    Wrong("a pipe", os.mkfifo, "is not a file"),
    Wrong("a directory", Path.mkdir, "is not a file"),
    Wrong("a port of the system's", changed("8080", "80"), f"{FILE}:{PORT}:3: service.probe.port: "),
    Wrong("a port beyond all", changed("8080", "65536"), f"{FILE}:{PORT}:3: service.probe.port: "),
    Wrong("no port", changed("8080", "0"), f"{FILE}:{PORT}:3: service.probe.port: "),
    Wrong("a timeout without end", text(GOOD + "build: {timeout: 1000000}\n"), "build.timeout: "),
)


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Ran]:
    """The result of `cscm chain` for each file, two at a time."""

    def ask(wrong: Wrong) -> Ran:
        directory = tmp_path_factory.mktemp("declared") / NAME
        directory.mkdir()
        (directory / "Dockerfile").write_text("FROM scratch\n")
        wrong.write(directory / FILE)
        return cscm("chain", str(directory), timeout=60)

    with ThreadPoolExecutor(2) as pool:
        return dict(zip((wrong.what for wrong in WRONG), pool.map(ask, WRONG), strict=True))


@pytest.mark.parametrize("wrong", WRONG, ids=lambda wrong: wrong.what)
def test_invalid_declaration_is_reported_with_its_line(answers: dict[str, Ran], wrong: Wrong) -> None:
    """The message has a code, fewer than 30 lines and no stack trace."""
    answer = answers[wrong.what]
    output = answer.stdout + answer.stderr

    assert answer.status == 1, output
    assert wrong.says in output
    assert output.startswith("error: ") and output.endswith(" [declaration.invalid]\n")
    assert len(output.splitlines()) < 30 and "Traceback" not in output and "\x1b" not in output


def test_prefect_run_of_invalid_declaration_fails_with_the_same_message(home: Home, tmp_path: Path) -> None:
    """Who typed the path into the form reads in the run what is wrong."""
    directory, eyes = tmp_path / "faulty-typed", Eyes(home, tmp_path, tmp_path, "faulty")
    directory.mkdir()
    changed("port: 8080", "port: many")(directory / FILE)

    run = eyes.prefect.ended(eyes.prefect.start("chain/on-demand", path=str(directory)))

    assert (run["state_name"], run["name"]) == ("Failed", "chain faulty-typed")
    assert f"{FILE}:{PORT}:3: service.probe.port: " in run["state"]["message"]
    assert "[declaration.invalid]" in run["state"]["message"]
    assert eyes.containers(NAME) == []


def test_invalid_declaration_starts_no_run_and_creates_no_resource(
    answers: dict[str, Ran], home: Home, tmp_path: Path
) -> None:
    """There is no run, no repository, no image and no container."""
    eyes = Eyes(home, tmp_path, tmp_path, "faulty")
    runs = eyes.prefect.ask("flow_runs/filter", {"flow_runs": {"name": {"like_": NAME}}})
    repositories = [
        each["repositoryName"] for each in eyes.ecr().describe_repositories(maxResults=1000)["repositories"]
    ]
    client = docker.from_env()
    images = [tag for image in list_images(client.api) for tag in image["RepoTags"] or ()]
    client.close()

    assert answers and runs == []
    assert [name for name in (*repositories, *images) if NAME in name] == []
    assert eyes.containers(NAME) == []
