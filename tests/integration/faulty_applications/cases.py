"""Failure modes of applications: each case is a good application with one fault, and the expected result."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

DOCKERFILE = """\
FROM scratch AS test
COPY subject name /
USER 10001:10001

FROM scratch
COPY subject name revision /
USER 10001:10001
EXPOSE 8080
ENTRYPOINT ["/subject"]
"""
START = 'ENTRYPOINT ["/subject"]'
STAGE = "FROM scratch AS test\nCOPY subject name /\n"
LAST = "COPY subject name revision /\n"
PYTHON = "FROM curated/base/python\nUSER 0:0\n"
FORGETS = """RUN ["python3", "-c", "import glob, os; [os.remove(each) for each in \\
glob.glob('/var/lib/dpkg/status.d/*') if not (each.endswith('.md5sums') or 'python' in each)]"]\n"""
DECLARATION: dict[str, Any] = {
    "kind": "service",
    "owner": "tests",
    "test": {"command": ["/subject", "status-0"], "timeout": 5},
    "probe": {"port": 8080, "path": "/healthz", "start_timeout": 20, "stop_timeout": 1},
    "environments": ["faulty"],
    # vulnerabilities of Go's standard library are not what these applications test
    "limits": {"critical": None, "high": None, "medium": None, "unknown": None},
}


class End(StrEnum):
    """The final state of a chain, as Prefect names it."""

    FAILED = "Failed"
    REFUSED = "Refused"
    ALLOWED = "Completed"


STATUS = {End.FAILED: 1, End.REFUSED: 3, End.ALLOWED: 0}


@dataclass(frozen=True)
class Case:
    """A fault in a good application, and the expected state, codes and message of its chain."""

    name: str
    end: End
    codes: frozenset[str] = frozenset()
    says: str = ""
    starts: tuple[str, ...] = ()
    """The faults with which its program starts."""
    change: tuple[tuple[str, str], ...] = ()
    """Replacements in its Dockerfile: pairs of old and new text."""
    dockerfile: bytes | None = b""
    """The whole Dockerfile; None if there is no Dockerfile."""
    declares: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    program: str = "program"
    """The name of its program."""
    stored: bool = False
    """Whether the release gate refuses it: the image is then in curated/, without a signature."""

    def __str__(self) -> str:
        return self.name

    def text(self) -> bytes | None:
        """Return the Dockerfile, or None."""
        if self.dockerfile != b"":
            return self.dockerfile
        text = DOCKERFILE
        starts = "".join(f', "{fault}"' for fault in self.starts)
        for old, new in ((START, START.replace("]", f"{starts}]")), *self.change):
            assert old in text, old
            text = text.replace(old, new)
        return text.encode()

    def declaration(self) -> dict[str, Any]:
        inner = {key: {**DECLARATION.get(key, {}), **value} for key, value in self.declares.items()}
        return {**DECLARATION, **inner, "name": self.application}

    @property
    def application(self) -> str:
        return f"faulty/{self.name}"


def failed(name: str, code: str, says: str, **case: Any) -> Case:
    return Case(name, End.FAILED, frozenset({code}), says, **case)


def refused(name: str, codes: str, says: str, **case: Any) -> Case:
    return Case(name, End.REFUSED, frozenset(codes.split()), says, **case)


def allowed(name: str, *starts: str, **case: Any) -> Case:
    return Case(name, End.ALLOWED, starts=starts, **case)


def stage(old: str, new: str) -> dict[str, Any]:
    return {"change": ((old, new),)}


def tests(*command: str) -> dict[str, Any]:
    return {"declares": {"test": {"command": list(command)}}}


SOON: dict[str, Any] = {"declares": {"probe": {"start_timeout": 2}}}
"""For applications that never become ready."""

CASES = (
    # The slowest cases come first.
    allowed("build-prints-128-mib", **stage(STAGE, f'{STAGE}RUN ["/subject", "floods"]\n')),
    failed(
        "build-hangs", "tool.timed-out", "did not end within 10 s",
        change=((STAGE, f'{STAGE}RUN ["/subject", "hang", "build-hangs"]\n'),),
        declares={"build": {"timeout": 10}},
    ),
    refused(
        "no-package-database", "sbom.incomplete", "of the base: ",
        change=((f"FROM scratch\n{LAST}", f"{PYTHON}{FORGETS}{LAST}"),), stored=True,
    ),
    allowed("orphans", "orphans"),
    # Dockerfiles
    failed("no-dockerfile", "declaration.invalid", "build.dockerfile", dockerfile=None),
    failed("no-such-instruction", "build.failed", "FORM", dockerfile=b"FORM scratch AS test\n"),
    failed("no-such-base", "base.missing", "curated/base/none", **stage("FROM scratch\n", "FROM curated/base/none\n")),
    failed("no-test-stage", "declaration.invalid", "has no stage test", **stage(" AS test", "")),
    # The tests and the application: the other faults are those of `tests/integration/containers/test_probe.py`
    refused("test-tests-nothing", "tests.empty", "examined nothing", **tests("/subject", "tests-nothing")),
    refused("never-listens", "probe.failed", "no answer from port 8080", starts=("hang",), **SOON),
    # The image
    refused("setuid", "content.failed", "/subject (setuid)", **stage(LAST, f"COPY --chmod=4755 {LAST[5:]}")),
    refused("of-another-machine", "content.failed probe.failed tests.failed", "/subject (AArch64)", program="arm"),
    failed("too-large", "build.limit", "more than the 2.0 MiB", declares={"build": {"max_size": "2MiB"}}),
)  # fmt: skip

GOOD = allowed("good")
WHILE_SERVING: tuple[tuple[Case, list[int]], ...] = (
    (failed("a-step-fails", "build.failed", "exit code: 3", **stage(LAST, f'{LAST}RUN ["/subject", "crash"]\n')), []),
    (refused("test-fails", "tests.failed", "it ended with status 3", **tests("/subject", "crash")), []),
    (refused("no-package-at-all", "sbom.empty", "the SBOM lists no package", program="nameless", stored=True), [0]),
    (failed("ill-in-place", "deployment.failed", "it ended with status 6", starts=("ill-in-place",)), [1]),
)  # fmt: skip
"""Faults in the build, at the intake gate, at the release gate and in the deployment, with their signatures.

The last one passes every gate and fails only where it is deployed.
"""
