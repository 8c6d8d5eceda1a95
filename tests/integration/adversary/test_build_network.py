"""What a build step can connect to: the engine's own network, as root, with listeners of the test."""

from __future__ import annotations

import contextlib
import re
import socket
import subprocess
import threading
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field

import docker
import pytest

from cscm_laptop import firewall
from supply_chain.adapters.tools import Toolbox
from tests.integration.adversary.steps import Steps, steps_in

pytestmark = pytest.mark.real

LINK_LOCAL = "169.254.77.1"
BRIDGE = "172.17.0.1"
FREE = 0
OWNER = "test"


@pytest.fixture(scope="module")
def steps(tmp_path_factory: pytest.TempPathFactory, toolbox: Toolbox) -> Iterator[Steps]:
    with steps_in(tmp_path_factory.mktemp("network"), toolbox) as made:
        yield made


@pytest.fixture(scope="module")
def word() -> str:
    """The word that the listeners send; a network that answers for every address does not know it."""
    return uuid.uuid4().hex


@dataclass
class Listeners:
    """Sockets on this host that send a word to every client."""

    word: str
    sockets: list[socket.socket] = field(default_factory=list)

    def at(self, address: str) -> int:
        """Listen at an address and return the port."""
        listener = socket.create_server((address, FREE))
        self.sockets.append(listener)
        threading.Thread(target=self._serve, args=(listener,), daemon=True).start()
        return int(listener.getsockname()[1])

    def _serve(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                with connection:
                    connection.sendall(self.word.encode())


@pytest.fixture
def listeners(word: str) -> Iterator[Listeners]:
    made = Listeners(word)
    yield made
    for each in made.sockets:
        with contextlib.suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)
        each.close()


@pytest.fixture
def link_local() -> Iterator[str]:
    """A link-local address of this host, like that of a cloud's agent."""
    place = ["ip", "addr", "{}", f"{LINK_LOCAL}/32", "dev", "lo", "scope", "link"]
    subprocess.run([each.format("add") for each in place], check=True)
    yield LINK_LOCAL
    subprocess.run([each.format("del") for each in place[:6]], check=True)


def unused_port() -> int:
    with socket.create_server(("127.0.0.1", FREE)) as found:
        return int(found.getsockname()[1])


@pytest.fixture
def container(steps: Steps, word: str) -> Iterator[tuple[str, int]]:
    """An application's container on its own network: its address there, and its published port on loopback."""
    client, name = docker.from_env(), f"steps-{uuid.uuid4().hex[:8]}"
    order = steps.order("", uuid.uuid4().hex)
    steps.builder().build(order)
    network = client.networks.create(name)
    running = client.containers.run(
        order.name, ["/step", "listen", ":8080", word], name=name, network=name, detach=True,
        ports={"8080/tcp": ("127.0.0.1", unused_port())},
    )  # fmt: skip
    try:
        running.reload()
        settings = running.attrs["NetworkSettings"]
        yield settings["Networks"][name]["IPAddress"], int(settings["Ports"]["8080/tcp"][0]["HostPort"])
    finally:
        running.remove(force=True)
        network.remove()
        client.close()


@pytest.fixture
def rules() -> Iterator[None]:
    """The rules as `cscm up` sets them; the rules of other supply chains are removed while the test runs."""
    listed = subprocess.run(["iptables-save"], check=True, capture_output=True, text=True).stdout
    others = [each for each in set(re.findall(r"cscm-([0-9a-z]+)", listed)) if not firewall.find_missing_rules(each)]
    try:
        for each in others:
            firewall.remove_rules(each)
        assert firewall.set_rules(OWNER) == []
        yield
    finally:
        firewall.remove_rules(OWNER)
        assert [each for each in others if firewall.set_rules(each)] == []


def dialled(steps: Steps, word: str, *addresses: str) -> set[str]:
    """Return the addresses at which a build step received the word."""
    words = ", ".join(f'"{each}"' for each in ("/step", "dial", "/said", word, *addresses))
    return set(steps.result(f"RUN [{words}]\n", uuid.uuid4().hex).split())


@contextlib.contextmanager
def networks_changing(client: docker.DockerClient) -> Iterator[None]:
    """Create and remove networks all the time; the engine sets rules for each."""
    stop, made = threading.Event(), list[str]()

    def change() -> None:
        while not stop.is_set():
            network = client.networks.create(f"test-{uuid.uuid4().hex}")
            network.remove()
            made.append(str(network.id))

    thread = threading.Thread(target=change)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
    assert len(made) > 1


def test_build_step_cannot_reach_loopback_link_local_or_applications(
    steps: Steps, word: str, rules: None, listeners: Listeners, link_local: str, container: tuple[str, int]
) -> None:
    """It reaches only what the host serves on all addresses, which also proves that the step dials."""
    loopback, local = listeners.at("127.0.0.1"), listeners.at(link_local)
    address, published = container
    everywhere = listeners.at("")

    heard = dialled(
        steps, word, f"127.0.0.1:{loopback}", f"{BRIDGE}:{loopback}", f"{link_local}:{local}", f"{address}:8080",
        f"127.0.0.1:{published}", f"{BRIDGE}:{published}", f"{BRIDGE}:{everywhere}",
    )  # fmt: skip

    assert heard == {f"{BRIDGE}:{everywhere}"}, (
        "what the host serves to everybody is no secret, and shows that it dials"
    )


def test_build_step_reaches_link_local_address_without_the_rule(
    steps: Steps, word: str, rules: None, listeners: Listeners, link_local: str
) -> None:
    """The firewall rule is what blocks the address, and `cscm doctor` checks for it."""
    local = listeners.at(link_local)
    (rule,) = [each for each in firewall.RULES if each.why == "link-local addresses"]
    assert firewall.run_iptables("-D", rule, OWNER)

    assert dialled(steps, word, f"{link_local}:{local}") == {f"{link_local}:{local}"}
    assert firewall.find_missing_rules(OWNER) == [rule]


@pytest.mark.parametrize("with_rule", [True, False])
def test_build_step_reaches_another_build_only_without_the_rule(
    steps: Steps, word: str, rules: None, with_rule: bool
) -> None:
    """The rule covers every container on the engine's default bridge, also while the engine changes its own rules."""
    client = docker.from_env()
    order = steps.order("", uuid.uuid4().hex)
    steps.builder().build(order)
    running = client.containers.run(order.name, ["/step", "listen", ":8080", word], detach=True)
    if not with_rule:
        (rule,) = [each for each in firewall.RULES if each.why == "other build steps"]
        assert firewall.run_iptables("-D", rule, OWNER)
    try:
        running.reload()
        address = running.attrs["NetworkSettings"]["Networks"]["bridge"]["IPAddress"]
        with networks_changing(client):
            assert bool(dialled(steps, word, *[f"{address}:8080"] * 300)) is not with_rule
    finally:
        running.remove(force=True)
        client.close()
