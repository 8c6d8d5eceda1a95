"""What a Prefect server is told of the project: its deployments, automations and views, on a laptop or elsewhere."""

from supply_chain.adapters.registration.abandoned import ensure_abandoned
from supply_chain.adapters.registration.asks import Asks
from supply_chain.adapters.registration.automations import ensure_automations
from supply_chain.adapters.registration.deployments import declared, deploy, entrypoints, forget_undeclared, registered
from supply_chain.adapters.registration.queues import ensure_queues
from supply_chain.adapters.registration.views import ensure_views

__all__ = [
    "Asks",
    "declared",
    "deploy",
    "ensure_abandoned",
    "ensure_automations",
    "ensure_queues",
    "ensure_views",
    "entrypoints",
    "forget_undeclared",
    "registered",
]
