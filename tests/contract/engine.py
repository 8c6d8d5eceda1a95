"""The contract of the port `Engine`, for the engine in memory and the real one.

The tests need only a program that runs until it is terminated.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import Barrier
from time import sleep
from typing import Any

import pytest

from supply_chain.errors import CheckIncomplete, ContainerGone, EngineFailed, ImageNotFound, PortBusy, SettingInvalid
from supply_chain.model.container import OWNER, ContainerSpec, Engine, Profile, Published, Volume
from supply_chain.model.image import Digest
from supply_chain.readiness import wait_until_ended

HARDENED = Profile(user="10001:10001", memory=64 * 1024**2, pids=16, cpu=0.5, writable=("/tmp", "/var/cache/app"))
ABSENT = "sha256:" + "0" * 64
MARK = "cscm.test"
"""The label by which the fixture that provides the engine removes the test's remains."""


@dataclass(frozen=True)
class Harness:
    """An engine, and the helpers that a test needs; `mark` is unique and is part of every name."""

    engine: Engine
    owned: Callable[[str], Engine]
    image: Callable[..., Digest]
    mark: str
    port: int

    @property
    def labels(self) -> dict[str, str]:
        return {MARK: self.mark}

    def create(self, name: str = "one", engine: Engine | None = None, **changes: Any) -> str:
        """Create a container with a hardened profile, named after the mark."""
        values = {"labels": self.labels, "profile": HARDENED, **changes}
        image = changes.get("image") or self.image()
        spec = ContainerSpec(**{**values, "image": image, "name": f"{self.mark}-{name}"})
        return (engine or self.engine).create(spec)


class EngineContract:
    """The tests. A subclass has a fixture `harness`, whose `image` returns an image with exactly the given names."""

    def test_engine_reports_its_version(self, harness: Harness) -> None:
        """Evidence names the tool that produced it."""
        assert harness.engine.versions()["engine"]

    def test_engine_raises_image_not_found_for_unknown_image(self, harness: Harness) -> None:
        """This holds for an unknown digest and for an unknown name."""
        for reference in (ABSENT, f"nobody/{harness.mark}:tag"):
            with pytest.raises(ImageNotFound):
                harness.engine.image(reference)

    def test_image_is_found_by_digest_and_by_name(self, harness: Harness) -> None:
        """Both references return the same image."""
        name = f"cscm.local/{harness.mark}:a"
        digest = harness.image(name)

        assert harness.engine.image(digest) == harness.engine.image(name)
        assert harness.engine.image(name).digest == digest

    def test_saved_image_loads_with_the_same_digest(self, harness: Harness, tmp_path: Path) -> None:
        """A digest identifies the content."""
        digest, archive = harness.image(), tmp_path / "image.tar"

        assert harness.engine.save(digest, archive, 1024**3)
        assert harness.engine.load(archive).digest == digest

    def test_save_reports_failure_for_image_above_size_limit(self, harness: Harness, tmp_path: Path) -> None:
        """The incomplete file is no archive."""
        assert not harness.engine.save(harness.image(), tmp_path / "image.tar", 1)
        with pytest.raises(ImageNotFound):
            harness.engine.save(ABSENT, tmp_path / "image.tar", 1)

    def test_names_lists_all_names_of_images_in_the_repository(self, harness: Harness) -> None:
        """A repository whose name only has the same prefix is not included."""
        repository = f"cscm.local/{harness.mark}"
        names = (f"{repository}-x:a", f"{repository}:a", f"{repository}:b")
        digest = harness.image(*names)
        harness.image(f"{repository}-x:b")

        ((found, its),) = harness.engine.names(repository).items()

        assert (found, set(its)) == (digest, set(names))
        assert harness.engine.names(f"{repository}-y") == {}

    def test_image_is_removed_with_its_last_name(self, harness: Harness) -> None:
        """Removing a name that does not exist succeeds."""
        names = tuple(f"cscm.local/{harness.mark}:{tag}" for tag in "ab")
        digest = harness.image(*names)

        harness.engine.forget(names[0])
        harness.engine.forget(names[0])
        assert harness.engine.image(digest).digest == digest
        harness.engine.forget(names[1])
        harness.engine.forget(names[1])

        with pytest.raises(ImageNotFound):
            harness.engine.image(digest)

    def test_forget_refuses_image_of_existing_container(self, harness: Harness) -> None:
        """The error names the container, even if it does not run."""
        name = f"cscm.local/{harness.mark}:a"
        container = harness.create(image=harness.image(name))

        with pytest.raises(EngineFailed, match=container[:12]):
            harness.engine.forget(name)
        assert harness.engine.names(f"cscm.local/{harness.mark}")
        harness.engine.remove(container)
        harness.engine.forget(name)

        assert not harness.engine.names(f"cscm.local/{harness.mark}")

    def test_inspect_returns_the_specification_of_the_container(self, harness: Harness) -> None:
        """The values can be compared; variables and labels are merged with those of the image."""
        profile = HARDENED.model_copy(update={"capabilities": ("CHOWN", "NET_BIND_SERVICE")})
        digest, command = harness.image(), ("/subject", "hang", "more")
        image = harness.engine.image(digest)

        container = harness.create(image=digest, profile=profile, environment={"A": "1"}, command=command)

        found = harness.engine.inspect(container)
        assert (found.id, found.name, found.image) == (container, f"{harness.mark}-one", digest)
        assert (found.profile, found.command) == (profile, command)
        assert found.labels == {**image.labels, **harness.labels}
        assert found.environment == {**image.environment, "A": "1"}
        assert (found.status, found.running, found.over, found.restart) == ("created", False, False, False)
        assert harness.engine.inspect(found.name) == found

    def test_container_without_command_runs_the_command_of_its_image(self, harness: Harness) -> None:
        """The command consists of the image's entrypoint and command."""
        digest = harness.image()

        found = harness.engine.inspect(harness.create(image=digest))

        assert found.command == harness.engine.image(digest).command

    def test_create_refuses_missing_image_and_taken_name(self, harness: Harness) -> None:
        """An image may be removed while a container of it is about to start."""
        harness.create()

        for name, image in (("two", ABSENT), ("one", harness.image())):
            with pytest.raises(EngineFailed):
                harness.create(name, image=image)

    def test_find_returns_containers_that_have_all_labels(self, harness: Harness) -> None:
        """Stopped containers are included."""
        one = harness.create("one", labels={**harness.labels, "a": "1", "b": "1"})
        two = harness.create("two", labels={**harness.labels, "a": "1", "b": "2"})
        harness.engine.start(two)

        found = [
            {c.id for c in harness.engine.find({**harness.labels, **labels})}
            for labels in ({}, {"a": "1"}, {"b": "2"}, {"a": "1", "b": "1"}, {"a": "2"}, {"c": "1"})
        ]

        assert found == [{one, two}, {one, two}, {two}, {one}, set(), set()]
        assert {one, two} <= {c.id for c in harness.engine.containers()}

    def test_host_accesses_of_hardened_container_are_empty(self, harness: Harness) -> None:
        """Containers of all owners are reported."""
        other = harness.owned("another")
        ids = {harness.create("own"), harness.create("other", other)}

        found = [each for each in harness.engine.list_host_accesses() if each.container in ids]

        assert {each.name for each in found} == {f"{harness.mark}-own", f"{harness.mark}-other"}
        reached = found[0].model_dump(exclude={"container", "name", "image", "status"}, exclude_defaults=True)
        assert reached == {}

    def test_history_continues_from_the_last_event(self, harness: Harness) -> None:
        """A history that begins at an unknown event is reported as incomplete."""
        first = harness.engine.history(0)
        again = harness.engine.history(first.last)

        assert first.complete and again.complete
        assert again.last >= first.last and len(again.actions) <= len(first.actions)
        assert not harness.engine.history(1).complete

    def test_owner_cannot_find_or_take_resources_of_another_owner(self, harness: Harness) -> None:
        """Two supply chains share one engine; resources without an owner, or with an empty one, belong to all.

        An empty network of another owner can be taken over.
        """
        everybody, mine, other = harness.engine, harness.owned(f"{harness.mark}-a"), harness.owned(f"{harness.mark}-b")
        labels, network = harness.labels, harness.mark
        mine.create_network(network, labels, internal=True)
        mine.create_volume(network, labels)
        own = harness.create("own", mine, network=network)
        nobodys = harness.create("nobodys", network=network, labels={**labels, OWNER: ""})

        assert mine.inspect(own).labels[OWNER] == f"{harness.mark}-a"
        assert [{c.id for c in each.find(labels)} for each in (everybody, mine, other)] == [
            {own, nobodys}, {own, nobodys}, {nobodys},
        ]  # fmt: skip
        assert {own, nobodys} <= {c.id for c in other.containers()}  # their images must not be removed
        assert [len(each.list_network_containers(network)) for each in (everybody, mine, other)] == [2, 2, 0]
        assert [each.networks(labels) for each in (everybody, mine, other)] == [(network,), (network,), ()]
        assert [each.volumes(labels) for each in (everybody, mine, other)] == [(network,), (network,), ()]
        mine.create_network(network, labels, internal=True)
        everybody.create_network(network, labels, internal=True)
        with pytest.raises(SettingInvalid, match=f"{network} belongs to another supply chain"):
            other.create_network(network, labels, internal=True)
        for container in (own, nobodys):
            harness.engine.remove(container)
        other.create_network(network, labels, internal=True)
        assert [each.networks(labels) for each in (mine, other)] == [(), (network,)]

    def test_container_runs_until_it_is_stopped(self, harness: Harness) -> None:
        """Stopping a stopped container and removing a missing one succeed."""
        container = harness.create()
        harness.engine.start(container)
        running = harness.engine.inspect(container)
        harness.engine.stop(container, 1)
        stopped = harness.engine.inspect(container)
        harness.engine.stop(container, 1)
        harness.engine.signal(container, "SIGTERM")

        assert running.running and running.pid and running.started_at and not running.over
        assert (stopped.status, stopped.running, stopped.over, stopped.pid) == ("exited", False, True, 0)
        assert harness.engine.inspect(container) == stopped
        harness.engine.remove(container)
        harness.engine.remove(container)
        with pytest.raises(ContainerGone):
            harness.engine.inspect(container)

    def test_sigkill_ends_running_container(self, harness: Harness) -> None:
        """A container that was never started ignores signals."""
        container = harness.create()
        harness.engine.signal(container, "SIGKILL")
        assert harness.engine.inspect(container).status == "created"
        harness.engine.start(container)

        harness.engine.signal(container, "SIGKILL")

        ended = wait_until_ended(harness.engine, container, 10, sleep)
        assert (ended.over, ended.exit_code) == (True, 137)

    def test_remove_removes_running_container(self, harness: Harness) -> None:
        """The name is free afterwards."""
        container = harness.create()
        harness.engine.start(container)

        harness.engine.remove(f"{harness.mark}-one")

        assert harness.engine.find(harness.labels) == ()
        assert harness.create() != container

    @pytest.mark.parametrize("running", [False, True])
    def test_restart_always_sets_the_restart_policy(self, harness: Harness, running: bool) -> None:
        """It can be set at creation or later."""
        container, other = harness.create(), harness.create("two", restart=True)
        if running:
            harness.engine.start(container)

        harness.engine.restart_always(container)

        assert [harness.engine.inspect(each).restart for each in (container, other)] == [True, True]

    def test_port_belongs_to_one_container_at_a_time(self, harness: Harness) -> None:
        """The port is taken at the start and free after the container is removed."""
        published = (Published(address="127.0.0.1", port=harness.port, container_port=8080),)
        harness.engine.create_network(harness.mark, harness.labels, internal=False)
        one, two = (harness.create(name, network=harness.mark, published=published) for name in ("one", "two"))
        harness.engine.start(one)

        with pytest.raises(PortBusy):
            harness.engine.start(two)
        harness.engine.remove(one)
        harness.engine.start(two)

        assert harness.engine.inspect(two).running
        assert harness.engine.inspect(two).published == published

    @pytest.mark.parametrize(
        "call",
        [
            lambda engine, gone, _: engine.inspect(gone),
            lambda engine, gone, _: engine.start(gone),
            lambda engine, gone, _: engine.signal(gone, "SIGTERM"),
            lambda engine, gone, _: engine.stop(gone, 1),
            lambda engine, gone, _: engine.restart_always(gone),
            lambda engine, gone, _: engine.logs(gone),
            lambda engine, gone, _: engine.changes(gone),
            lambda engine, gone, _: engine.listeners(gone),
            lambda engine, gone, _: engine.write(gone, "/config/a", b""),
            lambda engine, gone, _: engine.read(gone, "/config/a"),
            lambda engine, gone, network: engine.attach(network, gone),
            lambda engine, gone, network: engine.detach(network, gone),
        ],
        ids=["inspect", "start", "signal", "stop", "restart", "logs", "changes", "listeners", "write", "read",
             "attach", "detach"],
    )  # fmt: skip
    def test_every_call_on_missing_container_raises_container_gone(
        self, harness: Harness, call: Callable[..., object]
    ) -> None:
        """All calls use the same error."""
        harness.engine.create_network(harness.mark, harness.labels, internal=True)

        with pytest.raises(ContainerGone):
            call(harness.engine, f"{harness.mark}-gone", harness.mark)

    def test_stopped_container_has_no_logs_changes_or_inspection(self, harness: Harness) -> None:
        """ "No processes seen" must not read as "no processes"."""
        container = harness.create()

        assert (harness.engine.logs(container).tail(), harness.engine.changes(container)) == ("", ())
        for look in (harness.engine.processes, harness.engine.listeners):
            with pytest.raises(CheckIncomplete):
                look(container)

    def test_networks_are_created_once_and_found_by_labels(self, harness: Harness) -> None:
        """Creating an existing network and removing a missing one succeed."""
        one, two = f"{harness.mark}-one", f"{harness.mark}-two"
        for name, kind in ((one, "1"), (one, "1"), (two, "2")):
            harness.engine.create_network(name, {**harness.labels, "kind": kind}, internal=True)

        assert set(harness.engine.networks(harness.labels)) == {one, two}
        assert harness.engine.networks({**harness.labels, "kind": "2"}) == (two,)
        for name in (one, one, two):
            harness.engine.remove_network(name)
        assert harness.engine.networks(harness.labels) == ()

    def test_network_that_several_deployments_create_exists_once(self, harness: Harness) -> None:
        """The first two deployments to an environment may come at the same time."""
        names, together = [f"{harness.mark}-{number}" for number in range(3)], Barrier(4)

        def create(_: int) -> None:
            for name in names:
                together.wait(timeout=30)
                harness.engine.create_network(name, harness.labels, internal=True)

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(create, range(4)))

        assert sorted(harness.engine.networks(harness.labels)) == names

    def test_container_is_attached_to_and_detached_from_networks(self, harness: Harness) -> None:
        """A network that does not exist has no containers."""
        first, second = f"{harness.mark}-first", f"{harness.mark}-second"
        for name in (first, second):
            harness.engine.create_network(name, harness.labels, internal=True)
        container, other = harness.create(network=first), harness.create("two")
        for each in (container, other):
            harness.engine.start(each)

        harness.engine.attach(second, container)
        assert set(harness.engine.inspect(container).networks) == {first, second}
        harness.engine.detach(first, container)

        assert set(harness.engine.inspect(container).networks) == {second}
        found = [
            [c.id for c in harness.engine.list_network_containers(n)] for n in (first, second, f"{harness.mark}-none")
        ]
        assert found == [[], [container], []]

    def test_volumes_are_created_once_and_found_by_labels(self, harness: Harness) -> None:
        """Creating an existing volume and removing a missing one succeed."""
        one, two = f"{harness.mark}-one", f"{harness.mark}-two"
        for name, kind in ((one, "1"), (one, "1"), (two, "2")):
            harness.engine.create_volume(name, {**harness.labels, "kind": kind})

        assert set(harness.engine.volumes(harness.labels)) == {one, two}
        assert harness.engine.volumes({**harness.labels, "kind": "2"}) == (two,)
        for name in (one, one, two):
            harness.engine.remove_volume(name)
        assert harness.engine.volumes(harness.labels) == ()

    def test_file_in_volume_outlives_its_container_but_not_the_volume(self, harness: Harness) -> None:
        """It is read and written in running and stopped containers; files outside of volumes are refused."""
        harness.engine.create_volume(harness.mark, harness.labels)
        volumes = (Volume(name=harness.mark, path="/config"),)
        container = harness.create(volumes=volumes)
        harness.engine.write(container, "/config/a.cfg", b"one")
        harness.engine.start(container)
        started = harness.engine.read(container, "/config/a.cfg")
        harness.engine.write(container, "/config/a.cfg", b"two\n")

        for call in (
            lambda: harness.engine.read(container, "/config/b.cfg"),
            lambda: harness.engine.write(container, "/a.cfg", b""),
        ):
            with pytest.raises(EngineFailed):
                call()
        assert harness.engine.inspect(container).profile.mounts == ("/config",)
        harness.engine.remove(container)
        after = harness.engine.read(harness.create("two", volumes=volumes), "/config/a.cfg")
        harness.engine.remove(f"{harness.mark}-two")
        harness.engine.remove_volume(harness.mark)
        harness.engine.create_volume(harness.mark, harness.labels)
        anew = harness.create("three", volumes=volumes)

        assert (started, after) == (b"one", b"two\n")
        with pytest.raises(EngineFailed):
            harness.engine.read(anew, "/config/a.cfg")
