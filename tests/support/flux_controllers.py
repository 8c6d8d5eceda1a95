"""Flux beside a real cluster: its source-controller and kustomize-controller, as processes of the tests.

`scripts/test-programs` builds them, and puts the definitions of their kinds next to them.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import httpx
import yaml

from cscm_laptop.home import Home
from supply_chain.adapters.kubernetes.client import ALL_NAMESPACES, ClusterClient
from supply_chain.execution.delivery.flux import GIT_REPOSITORIES, KUSTOMIZATIONS
from supply_chain.execution.kubernetes.cluster import Document
from tests.support.definitions import SOON, define, find_left, remove_definitions, wait_until_removed
from tests.support.place import free_port
from tests.support.waiting import eventually


@contextmanager
def flux_controllers(home: Home, admin: ClusterClient, kubeconfig: Path, directory: Path) -> Iterator[None]:
    """Run Flux for a cluster while the block runs; its logs and artifacts are in the directory."""
    programs = home.tools / "flux"
    definitions = [yaml.load(path.read_bytes(), yaml.CSafeLoader) for path in sorted(programs.glob("crds/*.yaml"))]
    assert definitions, "Flux is needed: run scripts/test-programs"
    _remove_left(admin, definitions)
    storage = f"127.0.0.1:{free_port()}"
    stored = (f"--storage-path={directory}", f"--storage-addr={storage}", f"--storage-adv-addr={storage}")
    try:
        define(admin, definitions)
        with ExitStack() as stack:
            for name, options in (("source-controller", stored), ("kustomize-controller", ())):
                stack.enter_context(_running(programs / name, options, kubeconfig, directory))
            yield
            remove_definitions(admin, definitions)  # while they run: they have to let go of their objects
            wait_until_removed(admin, definitions)
    finally:
        remove_definitions(admin, definitions)


def _remove_left(admin: ClusterClient, definitions: list[Document]) -> None:
    """Remove what a killed session left, of which nobody lets go; never a Flux that is not of the tests."""
    left = find_left(admin, definitions, "Flux")
    remove_definitions(admin, left)
    names = {each["metadata"]["name"] for each in left}
    for kind in (GIT_REPOSITORIES, KUSTOMIZATIONS):
        if f"{kind.plural}.{kind.api_version.partition('/')[0]}" in names:
            for each in admin.list(kind, ALL_NAMESPACES):
                metadata = each["metadata"]
                admin.patch(kind, metadata["name"], {"metadata": {"finalizers": None}}, metadata["namespace"])
    wait_until_removed(admin, left)


@contextmanager
def _running(program: Path, options: tuple[str, ...], kubeconfig: Path, directory: Path) -> Iterator[None]:
    """Run a controller, which has to be ready before the block and to run until its end."""
    health, path = f"127.0.0.1:{free_port()}", directory / f"{program.name}.log"
    addresses = [f"--health-addr={health}", f"--metrics-addr=127.0.0.1:{free_port()}", "--events-addr="]
    environment = {**os.environ, "KUBECONFIG": str(kubeconfig), "RUNTIME_NAMESPACE": "default"}
    command = ["setpriv", "--pdeathsig", "TERM", str(program), *options, *addresses]  # it ends with a killed session
    with path.open("wb") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)

    def is_ready() -> bool:
        assert process.poll() is None, path.read_text()[-4000:]
        with suppress(httpx.TransportError):
            return httpx.get(f"http://{health}/readyz", trust_env=False).status_code == 200
        return False

    try:
        eventually(is_ready, SOON, path.read_text)
        yield
        assert process.poll() is None, path.read_text()[-4000:]
    finally:
        process.terminate()
        process.wait(60)
