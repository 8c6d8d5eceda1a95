"""The checks of a build and their results: the typed form of an in-toto test result."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Literal

from pydantic import Field

from supply_chain.evidence.reading import SignedValue, read_statements
from supply_chain.evidence.statement import TEST_RESULT, VerifiedStatement
from supply_chain.model.image import Interval, Model


class Check(StrEnum):
    """The checks of the `test` step."""

    TESTS = "tests"
    """The application's own tests, run in the image of its test stage without a network; a run of no tests is empty."""
    DOCKERFILE = "dockerfile"
    """hadolint on the Dockerfile: errors and warnings fail, other findings warn."""
    SOURCE = "source"
    """bandit on the Python files: medium and high findings fail, low ones warn. Files over 2 MiB, or unread after
    10 minutes, fail."""
    SECRETS = "secrets"  # pragma: allowlist secret
    """detect-secrets on every file of the build context: what looks like a secret fails."""
    DEPENDENCIES = "dependencies"
    """Known vulnerabilities of the source's declared dependencies; the declaration limits their number."""
    PROBE = "probe"
    """A start under the declared profile: the application becomes ready, listens on its declared ports only, runs as
    its user, writes only where it may, shows no secrets and ends on SIGTERM."""
    CONTENT = "content"
    """The image's layers, without running it: platform and size are as declared, no file gives more rights, there
    are no secrets, and engines agree on its files. bandit reads code from outside the context."""
    COMMAND = "command"
    """A base's check command, run in its image under its runtime profile: it ends with status 0."""


@dataclass(frozen=True)
class About:
    """The kinds of applications to which a check applies, and what to do if it fails."""

    kinds: tuple[Literal["service", "base"], ...]
    remedy: str
    in_engine: bool = False
    """Whether the check needs the image in the engine."""


TESTED = "tested"
"""The detail of the check `tests` with the number of tests that ran and what shows it."""
TESTS_UNPROVEN = "tests.report-missing"
"""The code for a test run without proof that it tested anything."""

EVERY: tuple[Literal["service", "base"], ...] = ("service", "base")
CHECKS: Mapping[Check, About] = {
    Check.TESTS: About(("service",), "make the application's tests pass", in_engine=True),
    Check.DOCKERFILE: About(EVERY, "correct these lines; https://github.com/hadolint/hadolint/wiki explains each rule"),
    Check.SOURCE: About(EVERY, "change the code, or end the line with `# nosec` and the reason"),
    Check.SECRETS: About(
        EVERY,
        "remove the secret from the context, and revoke it",  # pragma: allowlist secret
    ),
    Check.DEPENDENCIES: About(EVERY, "upgrade the dependency to a fixed version"),
    Check.PROBE: About(
        ("service",), "correct the application, or its `probe` and `runtime` in supply-chain.yaml", in_engine=True
    ),
    Check.CONTENT: About(
        EVERY,
        "correct what each line names, for example with `RUN --mount=type=secret` or `chmod a-s`, or declare it",
        in_engine=True,
    ),
    Check.COMMAND: About(("base",), "make the check command succeed in the image", in_engine=True),
}
"""Every check with its properties."""


def list_required_checks(kind: Literal["service", "base"]) -> tuple[Check, ...]:
    """Return the checks that an application of this kind requires."""
    return tuple(check for check, about in CHECKS.items() if kind in about.kinds)


def list_required_engine_checks(kind: Literal["service", "base"]) -> tuple[Check, ...]:
    """Return those of the required checks that need the image in the engine."""
    return tuple(check for check in list_required_checks(kind) if CHECKS[check].in_engine)


class Outcome(StrEnum):
    """The three results of in-toto's test-result predicate v0.1."""

    PASSED = "PASSED"
    WARNED = "WARNED"
    FAILED = "FAILED"


class CheckResult(Model):
    """The result of one check, with a sentence for each finding."""

    check: Check
    passed: tuple[str, ...] = ()
    warned: tuple[str, ...] = ()
    failed: tuple[str, ...] = ()
    details: dict[str, Any] = Field(default_factory=dict, description="measurements")
    tools: dict[str, str] = Field(default_factory=dict, description="tool → version")
    interval: Interval

    @property
    def outcome(self) -> Outcome:
        """Return FAILED if anything failed, WARNED for warnings or a check that examined nothing, otherwise PASSED."""
        if self.failed:
            return Outcome.FAILED
        return Outcome.WARNED if self.warned or not self.passed else Outcome.PASSED

    @property
    def empty(self) -> bool:
        """Return whether the check examined nothing, which proves nothing."""
        return not (self.failed or self.warned or self.passed)

    @property
    def shows_tests(self) -> bool:
        """Return whether a test runner's own report, or one in a machine-readable format, shows that tests ran."""
        tested = self.details.get(TESTED)
        return (
            self.check is Check.TESTS
            and isinstance(tested, dict)
            and tested.get("proven") is True
            and not self.empty
            and not self.failed
        )

    def predicate(self) -> Mapping[str, Any]:
        """Return the in-toto test-result predicate v0.1, with the typed form under `cscm`."""
        return {
            "result": self.outcome.value,
            "configuration": [
                {"name": name, "annotations": {"version": version}} for name, version in self.tools.items()
            ],
            "passedTests": list(self.passed),
            "warnedTests": list(self.warned),
            "failedTests": list(self.failed),
            "cscm": self.model_dump(mode="json"),
        }


def find_newest_results(evidence: Iterable[VerifiedStatement]) -> dict[Check, SignedValue[CheckResult]]:
    """Return the newest result of every check; raise `EvidenceInvalid` for one that cannot be read.

    Of two results with the same time, the failed one counts.
    """
    results = read_statements(evidence, TEST_RESULT, lambda predicate: CheckResult.model_validate(predicate["cscm"]))
    in_order = sorted(results, key=lambda each: (each.at, each.value.outcome is Outcome.FAILED))
    return {each.value.check: each for each in in_order}


def find_reusable_result(
    check: Check, evidence: Iterable[VerifiedStatement], tools: Mapping[str, str]
) -> SignedValue[CheckResult] | None:
    """Return the newest result of a check if it can stand for a new run, otherwise None.

    It can if these tools made it, it looked at something and did not fail. A failed or empty check is run again each
    time.
    """
    newest = find_newest_results(evidence).get(check)
    if newest is None or newest.value.outcome is Outcome.FAILED or newest.value.empty:
        return None
    return newest if newest.value.tools == dict(tools) else None
