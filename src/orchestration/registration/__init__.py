"""Registers the project on a Prefect server, on a laptop or elsewhere: deployments, automations, queues and views."""

from orchestration.registration.abandoned_runs import ensure_abandoned
from orchestration.registration.api import PrefectApi
from orchestration.registration.automations import ensure_automations
from orchestration.registration.concurrency_limits import free_slots
from orchestration.registration.deployments import (
    deploy,
    list_registered_deployments,
    remove_undeclared_deployments,
)
from orchestration.registration.prefect_file import read_declared_deployments, read_declared_entrypoints
from orchestration.registration.views import ensure_views
from orchestration.registration.work_pools import ensure_process_pool
from orchestration.registration.work_queues import ensure_queues

__all__ = [
    "PrefectApi",
    "deploy",
    "ensure_abandoned",
    "ensure_automations",
    "ensure_process_pool",
    "ensure_queues",
    "ensure_views",
    "free_slots",
    "list_registered_deployments",
    "read_declared_deployments",
    "read_declared_entrypoints",
    "remove_undeclared_deployments",
]
