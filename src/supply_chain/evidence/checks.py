"""What a check says of an image: the typed form of an in-toto test result."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any

from pydantic import Field

from supply_chain.evidence.reading import parsed
from supply_chain.evidence.statement import TEST_RESULT, Evidence
from supply_chain.image import Frozen, Interval


class Check(StrEnum):
    """The checks of the `test` step."""

    TESTS = "tests"
    """The application's own tests, in the image of its test stage and without a network; none tested is empty."""
    DOCKERFILE = "dockerfile"
    """hadolint on the Dockerfile: errors and warnings fail, the rest warns."""
    SOURCE = "source"
    """bandit on the Python files of the build context: medium and high findings fail, low ones warn."""
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


def newest_results(evidence: Sequence[Evidence]) -> dict[Check, tuple[CheckResult, Evidence]]:
    """The newest result of every check, by the time in its signed statement; `EvidenceInvalid`."""
    made = [
        (parsed(lambda e=e: CheckResult.model_validate(e.predicate["cscm"]), "test result"), e)  # type: ignore[misc]
        for e in evidence
        if e.predicate_type == TEST_RESULT
    ]
    return {result.check: (result, e) for result, e in sorted(made, key=lambda pair: pair[0].interval.finished)}


def passed_before(
    check: Check, evidence: Sequence[Evidence], tools: Mapping[str, str]
) -> tuple[CheckResult, Evidence] | None:
    """The newest result of a check, if these tools made it, it looked at something and did not fail.

    What failed or is empty is made again whenever somebody asks.
    """
    found = newest_results(evidence).get(check)
    if found is None or found[0].outcome is Outcome.FAILED or found[0].empty or found[0].tools != dict(tools):
        return None
    return found
