"""What was observed of a deployment, and how it differs from its record."""

from __future__ import annotations

from datetime import datetime

from pydantic import Field

from supply_chain.execution.deployment import Expected
from supply_chain.model.image import Model


class Deviation(Model):
    """One difference between what runs and what should run."""

    code: str
    fact: str
    remedy: str


class Observation(Model):
    """The state of a container that should run, or that nobody deployed."""

    at: datetime
    environment: str = Field(description="empty: outside of all environments")
    host: str = Field(default="", description="for a container of no environment")
    application: str = Field(description="empty: not deployed")
    name: str
    workload: str = Field(default="", description="in a cluster, its kind and name with cluster and namespace")
    container: str = Field(description="its id")
    address: str = ""
    expected_digest: str = Field(default="", description="the digest that should run")
    running: str = Field(default="", description="the digest that runs; empty: none")
    status: str = "missing"
    healthy: bool = False
    restarts: int = 0
    exit_code: int | None = Field(default=None, description="of an ended container")
    started_at: datetime | None = None
    deviations: tuple[Deviation, ...] = ()

    @property
    def what(self) -> str:
        """What runs, for people: the name of a container, or the workload in a cluster."""
        return self.workload or self.name


def make_unsigned(environment: str, why: str, at: datetime) -> Observation:
    """Return the observation of an environment that is not active: nobody signed its document as it is."""
    unsigned = Deviation(
        code="drift.unsigned",
        fact=f"{environment} is not active: {why}",
        remedy="Find out who changed it, and restore it or sign it: `cscm policy sign --key REF`.",
    )
    return _make_document_observation(environment, "not active", unsigned, at)


def make_invalid(environment: str, why: str, at: datetime) -> Observation:
    """Return the observation of an environment whose document is invalid."""
    invalid = Deviation(
        code="drift.invalid",
        fact=f"{environment} is invalid: {why}",
        remedy="Correct it. Until then, nothing is deployed there, and what cannot be read is not observed.",
    )
    return _make_document_observation(environment, "invalid", invalid, at)


def _make_document_observation(environment: str, status: str, deviation: Deviation, at: datetime) -> Observation:
    return Observation(
        at=at,
        environment=environment,
        application="",
        name=f"deployments/environments/{environment}.yaml",
        container="",
        status=status,
        deviations=(deviation,),
    )


def make_unobserved(expected: Expected, at: datetime) -> Observation:
    """Return the observation of a deployment that nobody looked at."""
    return Observation(
        at=at,
        environment=expected.environment,
        application=expected.application,
        name=expected.name,
        workload=expected.workload,
        container=expected.container,
        address=expected.url,
        expected_digest=expected.digest,
        status="unknown",
    )


def make_moved(expected: Expected, at: datetime) -> Observation:
    """Return the observation of a deployment to another place than its environment has now, where nobody looks."""
    moved = Deviation(
        code="drift.moved",
        fact=f"{expected.name} was deployed to {expected.place}, and {expected.environment} is elsewhere now",
        remedy="Deploy the application again, and remove it there: nobody watches it.",
    )
    return make_unobserved(expected, at).model_copy(update={"deviations": (moved,)})
