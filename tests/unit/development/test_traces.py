"""What a development run leaves in the engine is removed, and nothing else."""

from types import SimpleNamespace

from supply_chain.container import APPLICATION, ROLE, RUN
from supply_chain.development.traces import clear
from supply_chain.errors import EngineFailed

PUSHED = "registry:1/dev/hello"


class Engine:
    """Containers, networks and images by name; an image in `used` cannot be removed."""

    def __init__(self, containers=(), networks=(), images=(), used=()):
        self.containers, self.networks_there = dict(containers), dict(networks)
        self.images, self.used = set(images), set(used)

    def find(self, labels):
        found = ((name, has) for name, has in self.containers.items() if labels.items() <= has.items())
        return tuple(SimpleNamespace(id=name, labels=has) for name, has in found)

    def networks(self, labels):
        return tuple(name for name, has in self.networks_there.items() if labels.items() <= has.items())

    def names(self, repository):
        return {"sha256:1": tuple(sorted(name for name in self.images if name.startswith(repository)))}

    def remove(self, container):
        del self.containers[container]

    def remove_network(self, network):
        del self.networks_there[network]

    def forget(self, name):
        if name in self.used:
            raise EngineFailed("a container is of it\nRemove that first.")
        self.images.discard(name)


def made(role, run="run-1", application="hello"):
    return {APPLICATION: application, RUN: run, ROLE: role}


def test_containers_networks_and_images_of_the_run_are_removed():
    """Whatever check was under way, and the image's name in the registry that it was pushed to."""
    engine = Engine(
        {"probe": made("probe"), "tests": made("tests"), "check": made("check")},
        {"cscm-probe": made("probe")},
        {"cscm.local/hello:run-1", "cscm.local/hello:run-1-tests", f"{PUSHED}:abc-1"},
    )

    clear(engine, "hello", "run-1", PUSHED)

    assert not (engine.containers or engine.networks_there or engine.images)


def test_what_another_run_or_application_made_or_what_serves_is_left():
    """Another run may be under way, and a deployment is no trace."""
    containers = {
        "other": made("probe", run="run-2"),
        "serves": made("application"),
        "app": made("probe", application="x"),
    }
    images = {"cscm.local/hello:run-2", f"{PUSHED}@sha256:1", "registry:1/dev/hello2:abc"}
    engine = Engine(containers, {"network": made("probe", run="run-2")}, images)

    clear(engine, "hello", "run-1", PUSHED)

    assert engine.containers == containers and engine.images == images and engine.networks_there


def test_an_image_that_somebody_runs_stays_and_the_rest_goes():
    """It is theirs to remove."""
    images = {"cscm.local/hello:run-1", "cscm.local/hello:run-1-tests"}
    engine = Engine(images=images, used={"cscm.local/hello:run-1"})

    clear(engine, "hello", "run-1", PUSHED)

    assert engine.images == {"cscm.local/hello:run-1"}
