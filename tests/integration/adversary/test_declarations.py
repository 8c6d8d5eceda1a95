"""Declarations and Dockerfiles that ask for more than their own: such words do not exist, and names have owners.

Malformed declarations are tested in `tests/integration/faulty_applications`.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from supply_chain.model.image import ImageRef
from tests.integration.adversary.attacked import Adversary, Make
from tests.support.command import cscm

pytestmark = pytest.mark.real

GOOD = """\
kind: service
name: hostile
owner: tests
test: {command: [/subject, status-0]}
probe: {port: 8080, path: /healthz}
"""
DECLARATIONS = {
    "runs a command when it is read": (
        GOOD.replace("owner: tests", 'owner: !!python/object/apply:os.system ["touch MARKER"]'),
        "tags are not allowed",
    ),
    "runs a command beside its tests": (GOOD + "hooks: {before: touch MARKER}\n", "service.hooks: "),
    "runs its tests in a shell": (GOOD.replace("[/subject, status-0]", '"touch MARKER"'), "service.test.command: "),
    "mounts the host": (GOOD + "runtime: {volumes: ['/:/host']}\n", "service.runtime.volumes: "),
    "is privileged": (GOOD + "runtime: {privileged: true}\n", "service.runtime.privileged: "),
    "runs as root": (GOOD + "runtime: {uid: 0}\n", "service.runtime.uid: "),
    "asks for a capability": (GOOD + "runtime: {capabilities: [SYS_ADMIN]}\n", "service.runtime.capabilities"),
    "shares the host's network": (GOOD + "runtime: {network: host}\n", "service.runtime.network: "),
    "writes outside of its own": (GOOD + "runtime: {writable: [/../etc]}\n", "service.runtime.writable"),
    "builds from above": (GOOD + "build: {context: ../..}\n", "build.context: "),
    "builds from the host's files": (GOOD + "build: {context: /etc}\n", "build.context: "),
    "has a Dockerfile above": (GOOD + "build: {dockerfile: ../Dockerfile}\n", "build.dockerfile: "),
    "has a Dockerfile of the host's": (GOOD + "build: {dockerfile: /etc/passwd}\n", "build.dockerfile: "),
    "names another's environment document": (GOOD + "environments: [../../etc/passwd]\n", "service.environments"),
}
"""The declaration that asks for it, and the part of the error message that refuses it."""
LINK = "leaves the application's directory"
DOCKERFILE = "FROM scratch AS test\nCOPY subject /\n{}\nFROM scratch\nCOPY subject /\n"
DOCKERFILES = {
    "brings a frontend along": ("# syntax=evil/frontend\n" + DOCKERFILE, "dockerfile.refused"),
    "names an image by a variable": ("ARG BASE=evil/a\nFROM $BASE:1 AS test\nCOPY subject /\n", "dockerfile.refused"),
    "adds what the host has": (DOCKERFILE.format("ADD http://127.0.0.1:4200/api/health /"), "dockerfile.refused"),
    "has no sandbox": (DOCKERFILE.format('RUN --security=insecure ["/subject", "status-0"]'), "build.failed"),
    "shares the host's network": (
        DOCKERFILE.format('RUN --network=host ["/subject", "status-0"]'),
        "dockerfile.refused",
    ),
    "copies from above": (DOCKERFILE.format("COPY ../../../../etc/shadow /"), "build.failed"),
    "mounts from the host": (
        DOCKERFILE.format('RUN --mount=type=bind,source=/etc/shadow,target=/x ["/subject", "status-0"]'),
        "build.failed",
    ),
}


def test_declaration_that_asks_for_foreign_resources_is_invalid(
    application: Make, adversary: Adversary, tmp_path: Path
) -> None:
    """The command stops before it runs, builds or writes anything."""
    marker, before = tmp_path / "marker", adversary.everything()
    sources = [
        application("hostile", {"supply-chain.yaml": text.replace("MARKER", str(marker))})
        for text, _ in DECLARATIONS.values()
    ]
    linked = application("hostile")
    (linked / "supply-chain.yaml").unlink()
    (linked / "supply-chain.yaml").symlink_to("/etc/passwd")

    with ThreadPoolExecutor(3) as pool:
        ran = list(pool.map(lambda source: cscm("chain", str(source)), [*sources, linked]))

    says = {why: message for why, (_, message) in DECLARATIONS.items()} | {"is a link": LINK}
    results = dict(zip(says, ran, strict=True))
    assert {why: each.code() for why, each in results.items()} == dict.fromkeys(says, "declaration.invalid")
    assert {why: each.stderr for why, each in results.items() if says[why] not in each.stderr} == {}
    assert not any(word in each.stderr for each in ran for word in ("root:", "\x1b", "Traceback"))
    assert not marker.exists()
    assert adversary.everything() == before


def test_dockerfile_that_asks_for_more_than_its_context_is_refused(
    bases: None, application: Make, adversary: Adversary
) -> None:
    """A foreign frontend, a missing sandbox and the host's network or files all lead to no offered image."""
    before = adversary.everything()
    sources = [application(f"hostile-{n}", {"Dockerfile": text}) for n, (text, _) in enumerate(DOCKERFILES.values())]

    with ThreadPoolExecutor(3) as pool:
        ran = list(pool.map(lambda source: cscm("build", str(source)), sources))

    assert {why: each.code() for why, each in zip(DOCKERFILES, ran, strict=True)} == {
        why: expected for why, (_, expected) in DOCKERFILES.items()
    }
    assert adversary.everything() == before


def test_declaration_with_name_of_another_source_is_refused(
    curated: ImageRef, application: Make, adversary: Adversary
) -> None:
    """An environment configures by name, so only the owner of a name gets its configuration."""
    before = adversary.everything()["curated/prey"]

    ran = cscm("chain", str(application("prey", remote="git@example.com:hostile.git")), "--json")

    assert ran.reasons() == {"name.taken"}
    assert adversary.everything()["curated/prey"] == before
