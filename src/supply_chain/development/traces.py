"""Traces: what a development run makes in the engine, and what is not to outlive it."""

from __future__ import annotations

import contextlib

from supply_chain.development.build import local_name, test_name
from supply_chain.errors import EngineFailed
from supply_chain.model.container import APPLICATION, ROLE, RUN, Engine

CHECKS = ("probe", "check", "tests")
"""The roles of the containers and networks that checks make."""


def clear(engine: Engine, application: str, run: str, pushed_to: str) -> None:
    """Remove what the run made, by all the names there are for it; what is gone is fine.

    `pushed_to` is development's repository for the application, with its registry's host: an image has
    a name there while it is pushed. Its layers and the build cache stay. Raises as the engine does.
    """
    made = {APPLICATION: application, RUN: run}
    for container in engine.find(made):
        if container.labels.get(ROLE) in CHECKS:
            engine.remove(container.id)
    for network in engine.networks(made):
        engine.remove_network(network)
    local = local_name(application, run)
    for name in (local, test_name(local), *_names(engine, pushed_to)):
        forget_image(engine, name)


def forget_image(engine: Engine, name: str) -> None:
    """Take a name from an image; with its last one the image is gone. One that somebody runs stays."""
    with contextlib.suppress(EngineFailed):  # somebody runs it, under this name alone
        engine.forget(name)


def _names(engine: Engine, repository: str) -> tuple[str, ...]:
    known = engine.names(repository).values()
    return tuple(name for names in known for name in names if name.startswith(f"{repository}:"))
