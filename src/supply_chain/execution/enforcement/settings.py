"""How an environment sets the enforcement by its cluster."""

from __future__ import annotations

from pydantic import Field

from supply_chain.execution.enforcement.policies import Mode
from supply_chain.execution.kubernetes.names import Label
from supply_chain.model.image import Model


class KyvernoSettings(Model):
    """How Kyverno, which the cluster has, verifies the verdicts of the deploy gate."""

    max_days: int = Field(default=30, ge=2, le=365, description="days for which a verdict counts")
    secret: Label | None = Field(
        default=None,
        description="the Secret in its namespace for the registry; null: the AWS role of its pod",
    )


class EnforcementSettings(Model):
    """How the cluster enforces what the deploy gate admits."""

    mode: Mode = Field(description="what happens to a pod with another image")
    tolerated_refusals: tuple[str, ...] = Field(
        default=("scan.old", "verdict.ended"),
        description="refusals that leave a deployed image admitted; verdict.ended: its admission expired",
    )
    kyverno: KyvernoSettings | None = Field(
        default=None,
        description="how Kyverno also verifies verdicts; `lapsing` then has no effect; null: it does not",
    )
