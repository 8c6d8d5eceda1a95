"""Declarations and Dockerfiles that ask for more than their own: there are no such words, and names have holders."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from supply_chain.image import ImageRef
from tests.real.command import cscm

from .conftest import Adversary, Application

pytestmark = pytest.mark.real

GOOD = """\
kind: service
name: hostile
owner: tests
test: {command: [/subject, status-0]}
probe: {port: 8080, path: /healthz}
"""
DECLARATIONS = {
    "runs a command when it is read": GOOD + 'owner: !!python/object/apply:os.system ["touch MARKER"]\n',
    "runs a command beside its tests": GOOD + "hooks: {before: touch MARKER}\n",
    "runs its tests in a shell": GOOD.replace("[/subject, status-0]", '"touch MARKER"'),
    "mounts the host": GOOD + "runtime: {volumes: ['/:/host']}\n",
    "is privileged": GOOD + "runtime: {privileged: true}\n",
    "runs as root": GOOD + "runtime: {uid: 0}\n",
    "asks for a capability": GOOD + "runtime: {capabilities: [SYS_ADMIN]}\n",
    "shares the host's network": GOOD + "runtime: {network: host}\n",
    "writes outside of its own": GOOD + "runtime: {writable: [/../etc]}\n",
    "builds from above": GOOD + "build: {context: ..}\n",
    "builds from the host's files": GOOD + "build: {dockerfile: /etc/passwd}\n",
    "names another's environment document": GOOD + "environments: [../../etc/passwd]\n",
    "brings configuration along": GOOD + "environment: {GREETING: mine}\n",
    "is called as a path": GOOD.replace("hostile", "../curated/base/python"),
    "is called as an escape": GOOD.replace("hostile", '"host\\e[2Jile"'),
}
DOCKERFILE = "FROM scratch AS test\nCOPY subject /\n{}\nFROM scratch\nCOPY subject /\n"
DOCKERFILES = {
    "brings a frontend along": ("# syntax=evil/frontend\n" + DOCKERFILE, "declaration.invalid"),
    "names its base by a variable": ("ARG BASE=scratch\nFROM $BASE AS test\nCOPY subject /\n", "base.missing"),
    "has no sandbox": (DOCKERFILE.format('RUN --security=insecure ["/subject", "status-0"]'), "build.failed"),
    "shares the host's network": (DOCKERFILE.format('RUN --network=host ["/subject", "status-0"]'), "build.failed"),
    "copies from above": (DOCKERFILE.format("COPY ../../../../etc/shadow /"), "build.failed"),
    "mounts from the host": (
        DOCKERFILE.format('RUN --mount=type=bind,source=/etc/shadow,target=/x ["/subject", "status-0"]'),
        "build.failed",
    ),
}


def test_a_declaration_can_ask_for_nothing_but_its_own(
    application: Application, adversary: Adversary, tmp_path: Path
) -> None:
    """Commands, mounts, rights, other files and other environments: the command ends before anything is begun."""
    marker, before = tmp_path / "marker", adversary.everything()
    sources = [
        application("hostile", {"supply-chain.yaml": text.replace("MARKER", str(marker))})
        for text in DECLARATIONS.values()
    ]
    linked = application("hostile")
    (linked / "supply-chain.yaml").unlink()
    (linked / "supply-chain.yaml").symlink_to("/etc/passwd")

    with ThreadPoolExecutor(3) as pool:
        ran = list(pool.map(lambda source: cscm("chain", str(source)), [*sources, linked]))

    assert {why: each.code() for why, each in zip([*DECLARATIONS, "is a link"], ran, strict=True)} == dict.fromkeys(
        [*DECLARATIONS, "is a link"], "declaration.invalid"
    )
    assert not any("root:" in each.stderr or "\x1b" in each.stderr for each in ran)
    assert not marker.exists()
    assert adversary.everything() == before


def test_a_dockerfile_can_ask_for_nothing_but_its_context(
    bases: None, application: Application, adversary: Adversary
) -> None:
    """Another frontend, no sandbox, the host's network or files: nothing is offered."""
    before = adversary.everything()
    sources = [application(f"hostile-{n}", {"Dockerfile": text}) for n, (text, _) in enumerate(DOCKERFILES.values())]

    with ThreadPoolExecutor(3) as pool:
        ran = list(pool.map(lambda source: cscm("develop", str(source)), sources))

    assert {why: each.code() for why, each in zip(DOCKERFILES, ran, strict=True)} == {
        why: expected for why, (_, expected) in DOCKERFILES.items()
    }
    assert adversary.everything() == before


def test_anothers_configuration_comes_with_anothers_name_alone(
    curated: ImageRef, application: Application, adversary: Adversary
) -> None:
    """An environment configures by name, and a name has its holder: whoever else takes it is refused."""
    before = adversary.everything()["curated/prey"]

    ran = cscm("chain", str(application("prey", remote="git@example.com:hostile.git")), "--json")

    assert ran.reasons() == {"name.taken"}
    assert adversary.everything()["curated/prey"] == before
