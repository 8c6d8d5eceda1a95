"""Removal of what a development run creates in the engine."""

from __future__ import annotations

import contextlib

from supply_chain.development.build import make_local_name, test_name
from supply_chain.errors import EngineFailed
from supply_chain.model.container import APPLICATION, ROLE, RUN, Engine

CHECK_ROLES = ("probe", "check", "tests")
"""Roles of the containers and networks that checks create."""


def clear(engine: Engine, application: str, run: str, pushed_to: str) -> None:
    """Remove the containers, networks and image names that a run created; ignore those that are already gone.

    `pushed_to` is development's repository for the application, with the registry's host: an image has a name there
    while it is pushed. The layers and the build cache stay. Raises the engine's errors.
    """
    own_labels = {APPLICATION: application, RUN: run}
    for container in engine.find(own_labels):
        if container.labels.get(ROLE) in CHECK_ROLES:
            engine.remove(container.id)
    for network in engine.networks(own_labels):
        engine.remove_network(network)
    local = make_local_name(application, run)
    for name in (local, test_name(local), *_names(engine, pushed_to)):
        forget_image(engine, name)


def forget_image(engine: Engine, name: str) -> None:
    """Remove a name from an image, and the image with its last name; an image that a container uses stays."""
    with contextlib.suppress(EngineFailed):  # a container uses the image, and it has no other name
        engine.forget(name)


def _names(engine: Engine, repository: str) -> tuple[str, ...]:
    images = engine.names(repository).values()
    return tuple(name for names in images for name in names if name.startswith(f"{repository}:"))
