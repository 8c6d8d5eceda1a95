"""Registers the project on a Prefect server, on a laptop or elsewhere: deployments, automations, queues and views."""

from orchestration.registration.abandoned_runs import ensure_abandoned
from orchestration.registration.api import PrefectApi
from orchestration.registration.automations import ensure_automations
from orchestration.registration.concurrency_limits import free_slots
from orchestration.registration.deployments import (
    declared_deployments,
    deploy,
    entrypoints,
    forget_undeclared,
    registered_deployments,
)
from orchestration.registration.views import ensure_views
from orchestration.registration.work_pools import ensure_process_pool
from orchestration.registration.work_queues import ensure_queues

__all__ = [
    "PrefectApi",
    "declared_deployments",
    "deploy",
    "ensure_abandoned",
    "ensure_automations",
    "ensure_process_pool",
    "ensure_queues",
    "ensure_views",
    "entrypoints",
    "forget_undeclared",
    "free_slots",
    "registered_deployments",
]
