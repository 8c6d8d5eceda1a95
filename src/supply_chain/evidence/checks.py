"""What a check says of an image: the typed form of an in-toto test result."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Literal

from pydantic import Field

from supply_chain.evidence.reading import Said, said
from supply_chain.evidence.statement import TEST_RESULT, Evidence
from supply_chain.model.image import Frozen, Interval


class Check(StrEnum):
    """The checks of the `test` step."""

    TESTS = "tests"
    """The application's own tests, in the image of its test stage and without a network; none tested is empty."""
    DOCKERFILE = "dockerfile"
    """hadolint on the Dockerfile: errors and warnings fail, the rest warns."""
    SOURCE = "source"
    """bandit on the Python files: medium and high findings fail, and files over 2 MiB, unread; low ones warn."""
    SECRETS = "secrets"  # pragma: allowlist secret
    """detect-secrets on every file of the build context: what looks like a secret fails."""
    DEPENDENCIES = "dependencies"
    """Known vulnerabilities of what the source declares; the declaration says how many are accepted."""
    PROBE = "probe"
    """A start under the declared profile: ready, one port, its user, no writes, no secrets shown, ends on SIGTERM."""
    CONTENT = "content"
    """The image's layers, not run: its platform and size as declared, no file that gives more rights."""
    COMMAND = "command"
    """A base's check command, in its image and under its runtime profile: it ends with status 0."""


@dataclass(frozen=True)
class About:
    """Which kinds of applications a check is made of, and what to do where it fails."""

    kinds: tuple[Literal["service", "base"], ...]
    remedy: str
    in_engine: bool = False
    """Whether it needs the image in the engine."""


TESTED = "tested"
"""The detail of the check `tests` that says by what it was seen that tests ran, and how many."""
NOT_SHOWN = "tests.not-shown"
"""The code of a test run that nothing shows to have tested anything."""

EVERY: tuple[Literal["service", "base"], ...] = ("service", "base")
CHECKS: Mapping[Check, About] = {
    Check.TESTS: About(("service",), "make the application's tests pass", in_engine=True),
    Check.DOCKERFILE: About(EVERY, "change the Dockerfile as the linter asks"),
    Check.SOURCE: About(EVERY, "change the code, or end the line with `# nosec` and the reason"),
    Check.SECRETS: About(
        EVERY,
        "remove the secret from the context, and treat it as known to others",  # pragma: allowlist secret
    ),
    Check.DEPENDENCIES: About(EVERY, "raise the dependency to a fixed version"),
    Check.PROBE: About(
        ("service",), "make the application behave so under its declared runtime profile", in_engine=True
    ),
    Check.CONTENT: About(
        EVERY,
        "change what each line names: leave no secret in any layer (`RUN --mount=type=secret`), build for the declared "
        "platform and no other, smaller, with `chmod a-s` on such files; or declare what it is",
        in_engine=True,
    ),
    Check.COMMAND: About(("base",), "make the check command succeed in the image", in_engine=True),
}
"""Every check: what it is made of."""


def required(kind: Literal["service", "base"]) -> tuple[Check, ...]:
    """The checks that have to be made of an application of this kind."""
    return tuple(check for check, about in CHECKS.items() if kind in about.kinds)


def required_in_engine(kind: Literal["service", "base"]) -> tuple[Check, ...]:
    """Those of them that need the image in the engine."""
    return tuple(check for check in required(kind) if CHECKS[check].in_engine)


class Outcome(StrEnum):
    """The three results of in-toto's test-result predicate v0.1."""

    PASSED = "PASSED"
    WARNED = "WARNED"
    FAILED = "FAILED"


class CheckResult(Frozen):
    """One check that was made. `failed` and `warned` are sentences, one per finding."""

    check: Check
    passed: tuple[str, ...] = ()
    warned: tuple[str, ...] = ()
    failed: tuple[str, ...] = ()
    details: dict[str, Any] = Field(default_factory=dict, description="measurements; JSON values only")
    tools: dict[str, str] = Field(default_factory=dict, description="tool → version")
    interval: Interval

    @property
    def outcome(self) -> Outcome:
        """Failed if anything failed. A check that looked at nothing has not passed: it warns."""
        if self.failed:
            return Outcome.FAILED
        return Outcome.WARNED if self.warned or not self.passed else Outcome.PASSED

    @property
    def empty(self) -> bool:
        """Whether it looked at nothing, which proves nothing."""
        return not (self.failed or self.warned or self.passed)

    @property
    def shows_tests(self) -> bool:
        """Whether a runner's own report, or one in a machine's format, tells of tests that ran."""
        tested = self.details.get(TESTED)
        return (
            self.check is Check.TESTS
            and isinstance(tested, dict)
            and tested.get("shown") is True
            and not self.empty
            and not self.failed
        )

    def predicate(self) -> Mapping[str, Any]:
        """The in-toto test-result predicate v0.1, with the typed form under `details`."""
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


def newest_results(evidence: Iterable[Evidence]) -> dict[Check, Said[CheckResult]]:
    """The newest result of every check, and of two of one instant the one that failed; `EvidenceInvalid`."""
    made = said(evidence, TEST_RESULT, lambda predicate: CheckResult.model_validate(predicate["cscm"]))
    in_order = sorted(made, key=lambda each: (each.at, each.value.outcome is Outcome.FAILED))
    return {each.value.check: each for each in in_order}


def passed_before(check: Check, evidence: Iterable[Evidence], tools: Mapping[str, str]) -> Said[CheckResult] | None:
    """The newest result of a check, if these tools made it, it looked at something and did not fail.

    What failed or is empty is made again whenever somebody asks.
    """
    found = newest_results(evidence).get(check)
    if found is None or found.value.outcome is Outcome.FAILED or found.value.empty:
        return None
    return found if found.value.tools == dict(tools) else None
