"""The contract of the port `Engine`, for the engine in memory and the real one.

The tests need only a program that runs until it is terminated.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from time import sleep
from typing import Any

import pytest

from supply_chain.errors import CheckNotMade, ContainerGone, EngineFailed, ImageNotFound, PortBusy, SettingInvalid
from supply_chain.model.container import OWNER, ContainerSpec, Engine, Profile, Published, Volume
from supply_chain.model.image import Digest
from supply_chain.readiness import wait_until_ended

HARDENED = Profile(user="10001:10001", memory=64 * 1024**2, pids=16, cpu=0.5, writable=("/tmp", "/var/cache/app"))
ABSENT = "sha256:" + "0" * 64
MARK = "cscm.test"
"""The label by which the fixture that provides the engine removes the test's remains."""


@dataclass(frozen=True)
class Bench:
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
    """The tests. A subclass has a fixture `bench`, whose `image` returns an image that has exactly the given names."""

    def test_engine_reports_its_version(self, bench: Bench) -> None:
        """Evidence names the tool that produced it."""
        assert bench.engine.versions()["engine"]

    def test_engine_raises_image_not_found_for_unknown_image(self, bench: Bench) -> None:
        """This holds for an unknown digest and for an unknown name."""
        for reference in (ABSENT, f"nobody/{bench.mark}:tag"):
            with pytest.raises(ImageNotFound):
                bench.engine.image(reference)

    def test_image_is_found_by_digest_and_by_name(self, bench: Bench) -> None:
        """Both references return the same image."""
        name = f"cscm.local/{bench.mark}:a"
        digest = bench.image(name)

        assert bench.engine.image(digest) == bench.engine.image(name)
        assert bench.engine.image(name).digest == digest

    def test_saved_image_loads_with_the_same_digest(self, bench: Bench, tmp_path: Path) -> None:
        """A digest identifies the content."""
        digest, archive = bench.image(), tmp_path / "image.tar"

        assert bench.engine.save(digest, archive, 1024**3)
        assert bench.engine.load(archive).digest == digest

    def test_save_reports_failure_for_image_above_size_limit(self, bench: Bench, tmp_path: Path) -> None:
        """The incomplete file is no archive."""
        assert not bench.engine.save(bench.image(), tmp_path / "image.tar", 1)
        with pytest.raises(ImageNotFound):
            bench.engine.save(ABSENT, tmp_path / "image.tar", 1)

    def test_names_lists_all_names_of_images_in_the_repository(self, bench: Bench) -> None:
        """A repository whose name only has the same prefix is not included."""
        repository = f"cscm.local/{bench.mark}"
        names = (f"{repository}-x:a", f"{repository}:a", f"{repository}:b")
        digest = bench.image(*names)
        bench.image(f"{repository}-x:b")

        ((found, its),) = bench.engine.names(repository).items()

        assert (found, set(its)) == (digest, set(names))
        assert bench.engine.names(f"{repository}-y") == {}

    def test_image_is_removed_with_its_last_name(self, bench: Bench) -> None:
        """Removing a name that does not exist succeeds."""
        names = tuple(f"cscm.local/{bench.mark}:{tag}" for tag in "ab")
        digest = bench.image(*names)

        bench.engine.forget(names[0])
        bench.engine.forget(names[0])
        assert bench.engine.image(digest).digest == digest
        bench.engine.forget(names[1])
        bench.engine.forget(names[1])

        with pytest.raises(ImageNotFound):
            bench.engine.image(digest)

    def test_forget_refuses_image_of_existing_container(self, bench: Bench) -> None:
        """The error names the container, even if it does not run."""
        name = f"cscm.local/{bench.mark}:a"
        container = bench.create(image=bench.image(name))

        with pytest.raises(EngineFailed, match=container[:12]):
            bench.engine.forget(name)
        assert bench.engine.names(f"cscm.local/{bench.mark}")
        bench.engine.remove(container)
        bench.engine.forget(name)

        assert not bench.engine.names(f"cscm.local/{bench.mark}")

    def test_inspect_returns_the_specification_of_the_container(self, bench: Bench) -> None:
        """The values can be compared; variables and labels are merged with those of the image."""
        profile = HARDENED.model_copy(update={"capabilities": ("CHOWN", "NET_BIND_SERVICE")})
        digest, command = bench.image(), ("/subject", "hang", "more")
        image = bench.engine.image(digest)

        container = bench.create(image=digest, profile=profile, environment={"A": "1"}, command=command)

        found = bench.engine.inspect(container)
        assert (found.id, found.name, found.image) == (container, f"{bench.mark}-one", digest)
        assert (found.profile, found.command) == (profile, command)
        assert found.labels == {**image.labels, **bench.labels}
        assert found.environment == {**image.environment, "A": "1"}
        assert (found.status, found.running, found.over, found.restart) == ("created", False, False, False)
        assert bench.engine.inspect(found.name) == found

    def test_container_without_command_runs_the_command_of_its_image(self, bench: Bench) -> None:
        """The command consists of the image's entrypoint and command."""
        digest = bench.image()

        found = bench.engine.inspect(bench.create(image=digest))

        assert found.command == bench.engine.image(digest).command

    def test_create_refuses_missing_image_and_taken_name(self, bench: Bench) -> None:
        """An image may be removed while a container of it is about to start."""
        bench.create()

        for name, image in (("two", ABSENT), ("one", bench.image())):
            with pytest.raises(EngineFailed):
                bench.create(name, image=image)

    def test_find_returns_containers_that_have_all_labels(self, bench: Bench) -> None:
        """Stopped containers are included."""
        one = bench.create("one", labels={**bench.labels, "a": "1", "b": "1"})
        two = bench.create("two", labels={**bench.labels, "a": "1", "b": "2"})
        bench.engine.start(two)

        found = [
            {c.id for c in bench.engine.find({**bench.labels, **labels})}
            for labels in ({}, {"a": "1"}, {"b": "2"}, {"a": "1", "b": "1"}, {"a": "2"}, {"c": "1"})
        ]

        assert found == [{one, two}, {one, two}, {two}, {one}, set(), set()]
        assert {one, two} <= {c.id for c in bench.engine.containers()}

    def test_host_accesses_of_hardened_container_are_empty(self, bench: Bench) -> None:
        """Containers of all owners are reported."""
        other = bench.owned("another")
        ids = {bench.create("own"), bench.create("other", other)}

        found = [each for each in bench.engine.host_accesses() if each.container in ids]

        assert {each.name for each in found} == {f"{bench.mark}-own", f"{bench.mark}-other"}
        reached = found[0].model_dump(exclude={"container", "name", "image", "status"}, exclude_defaults=True)
        assert reached == {}

    def test_history_continues_from_the_last_event(self, bench: Bench) -> None:
        """A history that begins at an unknown event is reported as incomplete."""
        first = bench.engine.history(0)
        again = bench.engine.history(first.last)

        assert first.complete and again.complete
        assert again.last >= first.last and len(again.actions) <= len(first.actions)
        assert not bench.engine.history(1).complete

    def test_owner_cannot_find_or_take_resources_of_another_owner(self, bench: Bench) -> None:
        """Two supply chains share one engine; resources without an owner belong to all.

        An empty network of another owner can be taken over.
        """
        everybody, mine, other = bench.engine, bench.owned(f"{bench.mark}-a"), bench.owned(f"{bench.mark}-b")
        labels, network = bench.labels, bench.mark
        mine.create_network(network, labels, internal=True)
        mine.create_volume(network, labels)
        own, nobodys = bench.create("own", mine, network=network), bench.create("nobodys", network=network)

        assert mine.inspect(own).labels[OWNER] == f"{bench.mark}-a"
        assert [{c.id for c in each.find(labels)} for each in (everybody, mine, other)] == [
            {own, nobodys}, {own, nobodys}, {nobodys},
        ]  # fmt: skip
        assert {own, nobodys} <= {c.id for c in other.containers()}  # their images must not be removed
        assert [len(each.on_network(network)) for each in (everybody, mine, other)] == [2, 2, 0]
        assert [each.networks(labels) for each in (everybody, mine, other)] == [(network,), (network,), ()]
        assert [each.volumes(labels) for each in (everybody, mine, other)] == [(network,), (network,), ()]
        mine.create_network(network, labels, internal=True)
        everybody.create_network(network, labels, internal=True)
        with pytest.raises(SettingInvalid, match=f"{network} belongs to another supply chain"):
            other.create_network(network, labels, internal=True)
        for container in (own, nobodys):
            bench.engine.remove(container)
        other.create_network(network, labels, internal=True)
        assert [each.networks(labels) for each in (mine, other)] == [(), (network,)]

    def test_container_runs_until_it_is_stopped(self, bench: Bench) -> None:
        """Stopping a stopped container and removing a missing one succeed."""
        container = bench.create()
        bench.engine.start(container)
        running = bench.engine.inspect(container)
        bench.engine.stop(container, 1)
        stopped = bench.engine.inspect(container)
        bench.engine.stop(container, 1)
        bench.engine.signal(container, "SIGTERM")

        assert running.running and running.pid and running.started_at and not running.over
        assert (stopped.status, stopped.running, stopped.over, stopped.pid) == ("exited", False, True, 0)
        assert bench.engine.inspect(container) == stopped
        bench.engine.remove(container)
        bench.engine.remove(container)
        with pytest.raises(ContainerGone):
            bench.engine.inspect(container)

    def test_sigkill_ends_running_container(self, bench: Bench) -> None:
        """A container that was never started ignores signals."""
        container = bench.create()
        bench.engine.signal(container, "SIGKILL")
        assert bench.engine.inspect(container).status == "created"
        bench.engine.start(container)

        bench.engine.signal(container, "SIGKILL")

        ended = wait_until_ended(bench.engine, container, 10, sleep)
        assert (ended.over, ended.exit_code) == (True, 137)

    def test_remove_removes_running_container(self, bench: Bench) -> None:
        """The name is free afterwards."""
        container = bench.create()
        bench.engine.start(container)

        bench.engine.remove(f"{bench.mark}-one")

        assert bench.engine.find(bench.labels) == ()
        assert bench.create() != container

    @pytest.mark.parametrize("running", [False, True])
    def test_restart_always_sets_the_restart_policy(self, bench: Bench, running: bool) -> None:
        """It can be set at creation or later."""
        container, other = bench.create(), bench.create("two", restart=True)
        if running:
            bench.engine.start(container)

        bench.engine.restart_always(container)

        assert [bench.engine.inspect(each).restart for each in (container, other)] == [True, True]

    def test_port_belongs_to_one_container_at_a_time(self, bench: Bench) -> None:
        """The port is taken at the start and free after the container is removed."""
        published = (Published(address="127.0.0.1", port=bench.port, container_port=8080),)
        bench.engine.create_network(bench.mark, bench.labels, internal=False)
        one, two = (bench.create(name, network=bench.mark, published=published) for name in ("one", "two"))
        bench.engine.start(one)

        with pytest.raises(PortBusy):
            bench.engine.start(two)
        bench.engine.remove(one)
        bench.engine.start(two)

        assert bench.engine.inspect(two).running
        assert bench.engine.inspect(two).published == published

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
        self, bench: Bench, call: Callable[..., object]
    ) -> None:
        """All calls use the same error."""
        bench.engine.create_network(bench.mark, bench.labels, internal=True)

        with pytest.raises(ContainerGone):
            call(bench.engine, f"{bench.mark}-gone", bench.mark)

    def test_stopped_container_has_no_logs_changes_or_inspection(self, bench: Bench) -> None:
        """ "No processes seen" must not read as "no processes"."""
        container = bench.create()

        assert (bench.engine.logs(container).tail(), bench.engine.changes(container)) == ("", ())
        for look in (bench.engine.processes, bench.engine.listeners):
            with pytest.raises(CheckNotMade):
                look(container)

    def test_networks_are_created_once_and_found_by_labels(self, bench: Bench) -> None:
        """Creating an existing network and removing a missing one succeed."""
        one, two = f"{bench.mark}-one", f"{bench.mark}-two"
        for name, kind in ((one, "1"), (one, "1"), (two, "2")):
            bench.engine.create_network(name, {**bench.labels, "kind": kind}, internal=True)

        assert set(bench.engine.networks(bench.labels)) == {one, two}
        assert bench.engine.networks({**bench.labels, "kind": "2"}) == (two,)
        for name in (one, one, two):
            bench.engine.remove_network(name)
        assert bench.engine.networks(bench.labels) == ()

    def test_container_is_attached_to_and_detached_from_networks(self, bench: Bench) -> None:
        """A network that does not exist has no containers."""
        first, second = f"{bench.mark}-first", f"{bench.mark}-second"
        for name in (first, second):
            bench.engine.create_network(name, bench.labels, internal=True)
        container, other = bench.create(network=first), bench.create("two")
        for each in (container, other):
            bench.engine.start(each)

        bench.engine.attach(second, container)
        assert set(bench.engine.inspect(container).networks) == {first, second}
        bench.engine.detach(first, container)

        assert set(bench.engine.inspect(container).networks) == {second}
        found = [[c.id for c in bench.engine.on_network(n)] for n in (first, second, f"{bench.mark}-none")]
        assert found == [[], [container], []]

    def test_volumes_are_created_once_and_found_by_labels(self, bench: Bench) -> None:
        """Creating an existing volume and removing a missing one succeed."""
        one, two = f"{bench.mark}-one", f"{bench.mark}-two"
        for name, kind in ((one, "1"), (one, "1"), (two, "2")):
            bench.engine.create_volume(name, {**bench.labels, "kind": kind})

        assert set(bench.engine.volumes(bench.labels)) == {one, two}
        assert bench.engine.volumes({**bench.labels, "kind": "2"}) == (two,)
        for name in (one, one, two):
            bench.engine.remove_volume(name)
        assert bench.engine.volumes(bench.labels) == ()

    def test_file_in_volume_outlives_its_container_but_not_the_volume(self, bench: Bench) -> None:
        """It is read and written in running and stopped containers; files outside of volumes are refused."""
        bench.engine.create_volume(bench.mark, bench.labels)
        volumes = (Volume(name=bench.mark, path="/config"),)
        container = bench.create(volumes=volumes)
        bench.engine.write(container, "/config/a.cfg", b"one")
        bench.engine.start(container)
        started = bench.engine.read(container, "/config/a.cfg")
        bench.engine.write(container, "/config/a.cfg", b"two\n")

        for call in (
            lambda: bench.engine.read(container, "/config/b.cfg"),
            lambda: bench.engine.write(container, "/a.cfg", b""),
        ):
            with pytest.raises(EngineFailed):
                call()
        assert bench.engine.inspect(container).profile.mounts == ("/config",)
        bench.engine.remove(container)
        after = bench.engine.read(bench.create("two", volumes=volumes), "/config/a.cfg")
        bench.engine.remove(f"{bench.mark}-two")
        bench.engine.remove_volume(bench.mark)
        bench.engine.create_volume(bench.mark, bench.labels)
        anew = bench.create("three", volumes=volumes)

        assert (started, after) == (b"one", b"two\n")
        with pytest.raises(EngineFailed):
            bench.engine.read(anew, "/config/a.cfg")
