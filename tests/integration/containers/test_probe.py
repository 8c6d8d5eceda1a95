"""The readiness probe and its relatives, on real containers."""

import io
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from supply_chain.adapters.docker.engine import DockerEngine
from supply_chain.adapters.process.command import Tool
from supply_chain.adapters.tools.secrets import SecretSearch
from supply_chain.development.probe import check_command, probe, run_tests
from supply_chain.development.separation import BuildLimits, Room
from supply_chain.errors import Cancelled, ImageNotFound
from supply_chain.evidence.checks import Outcome
from supply_chain.model.container import RUN
from supply_chain.model.manifest import Base, Runtime

from .conftest import Declared, Image, now
from .layered import layered

pytestmark = pytest.mark.real

LIMITS = BuildLimits(memory=1024**3, processes=64, cpus=1, disk=1024**3, reserve=0)
ROOM = Room(LIMITS, lambda: "")
SEARCH = SecretSearch(Tool("detect-secrets", Path(sys.executable).with_name("detect-secrets"), "1"))


@pytest.fixture(autouse=True)
def nothing_left(engine: DockerEngine) -> Iterator[None]:
    """Whatever happened, the engine has afterwards what it had before, whatever others do on it meanwhile."""

    def there() -> tuple[set[str], set[str]]:
        return {c.id for c in engine.find({RUN: "run-1"})}, set(engine.networks({RUN: "run-1"}))

    before = there()
    yield
    assert there() == before


def test_a_good_service_passes(engine: DockerEngine, image: Image, service: Declared) -> None:
    """A service that does what it declares passes, with its measurements in the details."""
    result = probe(engine, image(), service(), now, "run-1", SEARCH, ROOM)

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
        ("crash", "It was not ready before it was over: it ended with status 3"),
        ("needs-root", "It was not ready before it was over: it ended with status 1"),
        ("writes", "It writes where nobody declared it to: /data/state."),
        ("writes-or-dies", "It starts only when its root filesystem is writable."),
        ("second-port", "It listens on ports nobody declared (runtime.ports): 7070."),
        ("eats-memory", "more than its 16 MiB of memory"),
        ("no-handler", "After SIGTERM it ended with status 2"),
        ("needs-setting", "It was not ready before it was over: it ended with status 6"),
    ],
)
def test_a_fault_is_named(engine: DockerEngine, image: Image, service: Declared, fault: str, sentence: str) -> None:
    """Each way to misbehave fails the probe with the sentence that names it."""
    result = probe(engine, image(fault), service(memory="16MiB"), now, "run-1", SEARCH, ROOM)

    assert result.outcome is Outcome.FAILED
    assert any(sentence in said for said in result.failed), result.failed


@pytest.mark.parametrize(
    ("fault", "declared"),
    [
        ("second-port", {"ports": [7070]}),
        ("needs-setting", {"environment": {"SETTING": "here"}}),
        ("no-handler", {"init": True}),
    ],
)
def test_what_is_declared_is_no_failure(
    engine: DockerEngine, image: Image, service: Declared, fault: str, declared: dict[str, Any]
) -> None:
    """A further port, a variable it cannot do without, a signal that its program leaves to the engine's init."""
    result = probe(engine, image(fault), service(**declared), now, "run-1", SEARCH, ROOM)

    assert (result.failed, result.warned) == ((), ())


def test_a_port_that_is_declared_in_vain_is_told(engine: DockerEngine, image: Image, service: Declared) -> None:
    """Somebody else may count on it."""
    result = probe(engine, image(), service(ports=[7070]), now, "run-1", SEARCH, ROOM)

    assert result.warned == ("It declares ports and does not listen there: 7070.",)


def test_tests_see_the_declared_variables(engine: DockerEngine, image: Image, service: Declared) -> None:
    """As the application itself does wherever it runs."""
    manifest = service(environment={"SETTING": "here"})
    manifest = manifest.model_copy(
        update={"test": manifest.test.model_copy(update={"command": ("/subject", "needs-setting", "status-0")})}
    )

    assert run_tests(engine, image(), manifest, now, "run-1", SEARCH, ROOM).failed == ()


def test_tests_have_the_memory_that_they_declare(engine: DockerEngine, image: Image, service: Declared) -> None:
    """A test run often holds more than the application, which need not be given as much for that."""
    manifest = service(memory="16MiB")
    test = {"command": ("/subject", "eats-memory"), "memory": 24 * 1024**2}
    manifest = manifest.model_copy(update={"test": manifest.test.model_copy(update=test)})

    (said,) = run_tests(engine, image(), manifest, now, "run-1", SEARCH, ROOM).failed

    assert "more than its 24 MiB of memory" in said


def test_tests_have_no_more_memory_than_a_build(engine: DockerEngine, image: Image, service: Declared) -> None:
    """With the two containers of the probe, whatever they declare; the host has others to serve."""
    test = {"command": ("/subject", "eats-memory"), "memory": 4000 * 1024**3}
    manifest = service()
    manifest = manifest.model_copy(update={"test": manifest.test.model_copy(update=test)})
    scarce = Room(LIMITS.model_copy(update={"memory": 192 * 1024**2}), lambda: "")

    (said,) = run_tests(engine, image(), manifest, now, "run-1", SEARCH, scarce).failed

    assert "more than its 64 MiB of memory" in said


def test_a_declared_write_is_no_failure(engine: DockerEngine, image: Image, service: Declared) -> None:
    """A path that is declared writable may be written to."""
    result = probe(engine, image("writes"), service(writable=["/data"]), now, "run-1", SEARCH, ROOM)

    assert result.failed == ()


def test_a_volume_of_the_image_has_to_be_declared(engine: DockerEngine, image: Image, service: Declared) -> None:
    """VOLUME would give the application a disk that nobody declared."""
    result = probe(engine, image(volumes=("/data",)), service(), now, "run-1", SEARCH, ROOM)

    assert any("declares volumes" in said and "/data" in said for said in result.failed)


def test_logging_to_standard_error_only_is_a_warning(engine: DockerEngine, image: Image, service: Declared) -> None:
    """What comes on standard error only is seen, and is no reason to refuse."""
    result = probe(engine, image("quiet"), service(), now, "run-1", SEARCH, ROOM)

    assert result.outcome is Outcome.WARNED
    assert result.warned == ("It logs to standard error only; nothing comes on standard output.",)


def test_a_cancelled_probe_leaves_nothing(engine: DockerEngine, image: Image, service: Declared) -> None:
    """A run that is cancelled while it waits removes its containers and networks."""

    def wait(seconds: float) -> None:
        raise Cancelled("The run was cancelled while it waited.")

    with pytest.raises(Cancelled):
        probe(engine, image("hang"), service(), now, "run-1", SEARCH, ROOM, wait=wait)


def test_an_image_that_is_not_there_is_no_failed_check(engine: DockerEngine, service: Declared) -> None:
    """Without the image there is no answer, which is an error and not a failure."""
    with pytest.raises(ImageNotFound):
        probe(engine, "sha256:" + "0" * 64, service(), now, "run-1", SEARCH, ROOM)


@pytest.mark.parametrize(("fault", "failed"), [("status-0", False), ("crash", True)])
def test_tests_pass_by_their_status(
    engine: DockerEngine, image: Image, service: Declared, fault: str, failed: bool
) -> None:
    """The tests' exit status decides, and their output is kept."""
    declared = service()
    declared = declared.model_copy(update={"test": declared.test.model_copy(update={"command": ("/subject", fault)})})

    result = run_tests(engine, image(), declared, now, "run-1", SEARCH, ROOM)

    assert bool(result.failed) is failed
    assert result.details["status"] == (3 if failed else 0)
    assert ("configuration missing: cannot go on" in result.details["output"]) is failed


def test_report_that_the_image_brought_shows_nothing(
    engine: DockerEngine, service: Declared, rootfs: bytes, tmp_path: Path
) -> None:
    """It is in the image before its container starts."""
    buffer, content = io.BytesIO(), b"<testsuite><testcase/></testsuite>"
    with tarfile.open(fileobj=buffer, mode="w") as layer:
        entry = tarfile.TarInfo("report.xml")
        entry.mode, entry.size = 0o644, len(content)
        layer.addfile(entry, io.BytesIO(content))
    digest = layered(tmp_path / "image.tar", [rootfs, buffer.getvalue()], {"Entrypoint": ["/subject"]})
    engine.load(tmp_path / "image.tar")
    test = service().test.model_copy(update={"command": ("/subject", "status-0"), "report": "/report.xml"})
    try:
        result = run_tests(engine, digest, service().model_copy(update={"test": test}), now, "run-1", SEARCH, ROOM)
    finally:
        engine._client.images.remove(digest, force=True)

    assert result.shows_tests is False
    assert "brought before the run" in result.failed[0]


def test_tests_that_do_not_end_have_failed(engine: DockerEngine, image: Image, service: Declared) -> None:
    """A test run that takes longer than declared is ended and failed."""
    declared = service()
    test = declared.test.model_copy(update={"command": ("/subject", "hang"), "timeout": 1})

    result = run_tests(engine, image(), declared.model_copy(update={"test": test}), now, "run-1", SEARCH, ROOM)

    assert result.failed == ("`/subject hang` failed: it did not end within 1 s and was stopped.",)


@pytest.mark.parametrize(
    ("command", "fact"),
    [
        (("/subject", "status-0"), None),
        (("/subject", "crash"), "it ended with status 3. It last said: configuration missing: cannot go on"),
        (
            ("/subject", "writes-or-dies"),
            "it ended with status 4. It last said: could not save: open /data/state: read-only file system",
        ),
    ],
)
def test_a_base_is_checked_by_its_command(
    engine: DockerEngine, image: Image, command: tuple[str, ...], fact: str | None
) -> None:
    """A base's command runs hardened, and only status 0 is a pass."""
    base = Base(kind="base", name="base/subject", owner="tests", check=command, runtime=Runtime())

    result = check_command(engine, image(), base, now, "run-1", SEARCH, ROOM)

    assert result.failed == (() if fact is None else (f"`{' '.join(command)}` failed: {fact}",))


def test_a_command_that_is_not_in_the_image_fails(engine: DockerEngine, image: Image) -> None:
    """A missing program is the image's fault, not the engine's."""
    base = Base(kind="base", name="base/subject", owner="tests", check=("/nowhere",), runtime=Runtime())

    result = check_command(engine, image(), base, now, "run-1", SEARCH, ROOM)

    assert result.outcome is Outcome.FAILED
