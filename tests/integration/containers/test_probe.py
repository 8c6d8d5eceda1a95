"""The readiness probe, the tests and the check of a base, on real containers."""

import io
import sys
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from supply_chain.adapters.docker.engine import DockerEngine
from supply_chain.adapters.process.command import Tool
from supply_chain.adapters.tools.secrets import SecretSearch
from supply_chain.development.probe import CheckSetup, check_command, probe, run_tests
from supply_chain.development.separation import BuildLimits, Room
from supply_chain.errors import Cancelled, ImageNotFound
from supply_chain.evidence.checks import Outcome
from supply_chain.model.container import RUN, Wait
from supply_chain.model.declaration import Base, Runtime
from tests.integration.containers.images import Declared, Image, now
from tests.support.layered import layered

pytestmark = pytest.mark.real

LIMITS = BuildLimits(memory=1024**3, processes=64, cpus=1, disk=1024**3, reserve=0)
ROOM = Room(LIMITS, lambda: "")
SEARCH = SecretSearch(Tool("detect-secrets", Path(sys.executable).with_name("detect-secrets"), "1"))


def make_setup(engine: DockerEngine, room: Room = ROOM, wait: Wait = time.sleep) -> CheckSetup:
    return CheckSetup(engine, "run-1", SEARCH, room, now, wait)


@pytest.fixture(autouse=True)
def nothing_left(engine: DockerEngine) -> Iterator[None]:
    """Checks that a test leaves no container or network, even if others use the engine."""

    def resources() -> tuple[set[str], set[str]]:
        return {c.id for c in engine.find({RUN: "run-1"})}, set(engine.networks({RUN: "run-1"}))

    before = resources()
    yield
    assert resources() == before


def test_probe_passes_a_correct_service_with_measurements(
    engine: DockerEngine, image: Image, service: Declared
) -> None:
    """The details have times, sockets, users and log lines."""
    result = probe(make_setup(engine), image(), service())

    assert result.failed == ()
    assert result.outcome is Outcome.PASSED
    assert 0 < result.details["start_seconds"] < 2
    assert result.details["exit_code"] == 0
    assert result.details["listening"] == [":: 8080"]
    assert result.details["uids"] == [10001]
    assert result.details["writes_outside"] == []
    assert result.details["stdout_lines"] == 1
    assert result.tools["engine"]


@pytest.mark.parametrize(
    ("fault", "sentence"),
    [
        ("ignores-sigterm", "It did not stop within 1 s of SIGTERM."),
        ("wrong-port", "It listens on :: 9090"),
        ("loopback", "It listens on 127.0.0.1 8080"),
        ("hang", "It was not ready within 2 s: no answer from port 8080"),
        ("slow", "It was not ready within 2 s: no answer from port 8080"),
        ("sick", "It was not ready within 2 s: / is answered with 500"),
        ("crash", "It ended before it was ready: it ended with status 3"),
        ("needs-root", "It ended before it was ready: it ended with status 1"),
        ("writes", "It writes to undeclared paths: /data/state. Declare them in runtime.writable."),
        ("writes-or-dies", "It starts only when its root filesystem is writable."),
        ("second-port", "It listens on undeclared ports: 7070. Declare them in runtime.ports."),
        ("eats-memory", "more than its 16 MiB of memory"),
        ("no-handler", "After SIGTERM it ended with status 2"),
        ("needs-setting", "It ended before it was ready: it ended with status 6"),
    ],
)
def test_probe_names_each_fault(
    engine: DockerEngine, image: Image, service: Declared, fault: str, sentence: str
) -> None:
    """Each fault fails with its own sentence."""
    result = probe(make_setup(engine), image(fault), service(memory="16MiB"))

    assert result.outcome is Outcome.FAILED
    assert any(sentence in failure for failure in result.failed), result.failed


@pytest.mark.parametrize(
    ("fault", "sentence"),
    [("forks", "It was not ready within 2 s"), ("logs-secrets", "looks like a secret: AWS Access Key")],
)
def test_probe_ends_a_fork_bomb_and_finds_a_printed_secret(
    engine: DockerEngine, image: Image, service: Declared, fault: str, sentence: str
) -> None:
    """Both have the usual memory, so that it is not what ends them."""
    result = probe(make_setup(engine), image(fault), service())

    assert any(sentence in failure for failure in result.failed), result.failed


@pytest.mark.parametrize(
    ("fault", "declared"),
    [
        ("second-port", {"ports": [7070]}),
        ("needs-setting", {"environment": {"SETTING": "here"}}),
        ("no-handler", {"init": True}),
    ],
)
def test_probe_accepts_declared_ports_variables_and_init(
    engine: DockerEngine, image: Image, service: Declared, fault: str, declared: dict[str, Any]
) -> None:
    """These would fail if they were not declared."""
    result = probe(make_setup(engine), image(fault), service(**declared))

    assert (result.failed, result.warned) == ((), ())


def test_probe_warns_of_declared_port_without_listener(engine: DockerEngine, image: Image, service: Declared) -> None:
    """Another application may rely on the port."""
    result = probe(make_setup(engine), image(), service(ports=[7070]))

    assert result.warned == ("It does not listen on the declared ports: 7070.",)


def test_tests_receive_the_declared_variables(engine: DockerEngine, image: Image, service: Declared) -> None:
    """Tests run like the application."""
    declaration = service(environment={"SETTING": "here"})
    declaration = declaration.model_copy(
        update={"test": declaration.test.model_copy(update={"command": ("/subject", "needs-setting", "status-0")})}
    )

    assert run_tests(make_setup(engine), image(), declaration).failed == ()


def test_tests_have_their_declared_memory(engine: DockerEngine, image: Image, service: Declared) -> None:
    """A test run often needs more memory than the application."""
    declaration = service(memory="16MiB")
    test = {"command": ("/subject", "eats-memory"), "memory": 24 * 1024**2}
    declaration = declaration.model_copy(update={"test": declaration.test.model_copy(update=test)})

    (failure,) = run_tests(make_setup(engine), image(), declaration).failed

    assert "more than its 24 MiB of memory" in failure


def test_tests_have_at_most_the_memory_of_a_build(engine: DockerEngine, image: Image, service: Declared) -> None:
    """The limit includes the two containers of the probe, because the host serves others too."""
    test = {"command": ("/subject", "eats-memory"), "memory": 4000 * 1024**3}
    declaration = service()
    declaration = declaration.model_copy(update={"test": declaration.test.model_copy(update=test)})
    scarce = Room(LIMITS.model_copy(update={"memory": 192 * 1024**2}), lambda: "")

    (failure,) = run_tests(make_setup(engine, scarce), image(), declaration).failed

    assert "more than its 64 MiB of memory" in failure


def test_probe_accepts_writes_to_a_declared_path(engine: DockerEngine, image: Image, service: Declared) -> None:
    """A path in `runtime.writable` may be written to."""
    result = probe(make_setup(engine), image("writes"), service(writable=["/data"]))

    assert result.failed == ()


def test_probe_refuses_an_undeclared_volume(engine: DockerEngine, image: Image, service: Declared) -> None:
    """VOLUME would give the application a disk that is not declared."""
    result = probe(make_setup(engine), image(volumes=("/data",)), service())

    assert any("declares volumes" in failure and "/data" in failure for failure in result.failed)


def test_probe_warns_of_logs_on_standard_error_only(engine: DockerEngine, image: Image, service: Declared) -> None:
    """It is no reason to refuse the image."""
    result = probe(make_setup(engine), image("quiet"), service())

    assert result.outcome is Outcome.WARNED
    assert result.warned == ("It logs to standard error only; nothing comes on standard output.",)


def test_cancelled_probe_leaves_no_container_or_network(engine: DockerEngine, image: Image, service: Declared) -> None:
    """The fixture checks the engine afterwards."""

    def wait(seconds: float) -> None:
        raise Cancelled("The run was cancelled while it waited.")

    with pytest.raises(Cancelled):
        probe(make_setup(engine, wait=wait), image("hang"), service())


def test_probe_of_missing_image_raises_image_not_found(engine: DockerEngine, service: Declared) -> None:
    """A missing image is an error and not a failed check."""
    with pytest.raises(ImageNotFound):
        probe(make_setup(engine), "sha256:" + "0" * 64, service())


@pytest.mark.parametrize(("fault", "failed"), [("status-0", False), ("crash", True)])
def test_tests_pass_by_their_exit_status(
    engine: DockerEngine, image: Image, service: Declared, fault: str, failed: bool
) -> None:
    """The output is kept."""
    declared = service()
    declared = declared.model_copy(update={"test": declared.test.model_copy(update={"command": ("/subject", fault)})})

    result = run_tests(make_setup(engine), image(), declared)

    assert bool(result.failed) is failed
    assert result.details["status"] == (3 if failed else 0)
    assert ("configuration missing: cannot go on" in result.details["output"]) is failed


def test_test_report_in_the_image_is_refused(
    engine: DockerEngine, service: Declared, rootfs: bytes, tmp_path: Path
) -> None:
    """The report existed before the tests ran, so it proves nothing."""
    buffer, content = io.BytesIO(), b"<testsuite><testcase/></testsuite>"
    with tarfile.open(fileobj=buffer, mode="w") as layer:
        entry = tarfile.TarInfo("report.xml")
        entry.mode, entry.size = 0o644, len(content)
        layer.addfile(entry, io.BytesIO(content))
    digest = layered(tmp_path / "image.tar", [rootfs, buffer.getvalue()], {"Entrypoint": ["/subject"]})
    engine.load(tmp_path / "image.tar")
    test = service().test.model_copy(update={"command": ("/subject", "status-0"), "report": "/report.xml"})
    try:
        result = run_tests(make_setup(engine), digest, service().model_copy(update={"test": test}))
    finally:
        engine._client.images.remove(digest, force=True)

    assert result.shows_tests is False
    assert "brought before the run" in result.failed[0]


def test_tests_above_their_timeout_fail(engine: DockerEngine, image: Image, service: Declared) -> None:
    """The run is stopped."""
    declared = service()
    test = declared.test.model_copy(update={"command": ("/subject", "hang"), "timeout": 1})

    result = run_tests(make_setup(engine), image(), declared.model_copy(update={"test": test}))

    assert result.failed == ("`/subject hang` failed: it did not end within 1 s and was stopped.",)


@pytest.mark.parametrize(
    ("command", "fact"),
    [
        (("/subject", "status-0"), None),
        (("/subject", "crash"), "it ended with status 3. Its last output: configuration missing: cannot go on"),
        (
            ("/subject", "writes-or-dies"),
            "it ended with status 4. Its last output: could not save: open /data/state: read-only file system",
        ),
    ],
)
def test_base_is_checked_by_its_command(
    engine: DockerEngine, image: Image, command: tuple[str, ...], fact: str | None
) -> None:
    """The command runs hardened, and only status 0 passes."""
    base = Base(kind="base", name="base/subject", owner="tests", check=command, runtime=Runtime())

    result = check_command(make_setup(engine), image(), base)

    assert result.failed == (() if fact is None else (f"`{' '.join(command)}` failed: {fact}",))


def test_missing_check_command_fails_the_check(engine: DockerEngine, image: Image) -> None:
    """It is an error of the image, not of the engine."""
    base = Base(kind="base", name="base/subject", owner="tests", check=("/nowhere",), runtime=Runtime())

    result = check_command(make_setup(engine), image(), base)

    assert result.outcome is Outcome.FAILED
