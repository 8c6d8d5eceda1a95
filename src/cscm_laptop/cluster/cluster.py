"""Start, inspect, stop and remove the cluster of this machine."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import NoReturn

from cscm_laptop.cluster import documents
from cscm_laptop.cluster.api import ClusterApi, NodeState, require_ready
from cscm_laptop.cluster.certificates import ensure_keys
from cscm_laptop.cluster.components import Components
from cscm_laptop.cluster.host import note_boot, prepare_host, read_host, record_host, restore_host
from cscm_laptop.cluster.image import make_image
from cscm_laptop.cluster.namespaces import ensure_namespaces, list_namespaces
from cscm_laptop.cluster.place import KUBECONFIG, NODE, Place
from cscm_laptop.cluster.pods import end_pods, find_shims
from cscm_laptop.cluster.programs import FILE, ClusterPins, ensure_programs, find_kubectl
from cscm_laptop.home import Home
from cscm_laptop.profile import Profile
from cscm_laptop.services import Progress, Record, Service, read_record, stop
from cscm_laptop.tools.installer import read_architecture
from supply_chain.adapters.kubernetes.client import ClusterClient
from supply_chain.adapters.process.cancellation import run_concurrently
from supply_chain.adapters.process.command import run
from supply_chain.errors import SettingInvalid, ToolFailed
from supply_chain.execution.environment_documents import read_environments
from supply_chain.model.documents import read_document
from supply_chain.model.image import Model
from supply_chain.policy.loading import ENVIRONMENTS

NAMES = ("containerd", "etcd", "apiserver", "controllers", "scheduler", "kubelet", "proxy", "policies")
STOP_ORDER = ("policies", "kubelet", "proxy", "containerd", "scheduler", "controllers", "apiserver", "etcd")
READY = 60.0
"""Seconds that the node has to get ready once its components run."""
PAUSE = "localhost/cscm-pause"
LONGEST = 107
"""Bytes that the path of a Unix socket may have (unix(7))."""


class Component(Model):
    """State of one component. `memory` is its share of the machine's memory in MiB (PSS), shims included."""

    name: str
    running: bool
    pid: int | None = None
    since: datetime | None = None
    memory: int = 0


class ClusterStatus(Model):
    """State of the cluster of this machine."""

    components: tuple[Component, ...]
    node: NodeState
    memory: int
    kubeconfig: Path


def start_cluster(profile: Profile, home: Home, progress: Progress) -> Path:
    """Start the components that do not run, wait until the node takes pods, and return the kubeconfig.

    The namespaces of the environments in this cluster exist then. Raises `SettingInvalid` without root, and a
    `SupplyChainError` that names what failed otherwise.
    """
    _require_root()
    home.create()
    place = Place.of(home)
    with home.locked():
        pins = read_document(home.project / FILE, ClusterPins)
        programs = ensure_programs(home, pins, progress)
        make_directories(place)
        record_host(place, profile.cluster)
        if note_boot(place):
            end_pods(place)  # a restart of the machine ended them, but left their files
        ensure_keys(place, profile.cluster, datetime.now(UTC))
        changes = _write_documents(profile, home, place, pins)
        prepare_host(place, profile.cluster)
        _start(Components(place, profile.cluster, programs, changes), _pause(pins), progress)
    needed = list_namespaces(read_environments(home.project / ENVIRONMENTS))
    for name in ensure_namespaces(ClusterClient.of_context(place.kubeconfig, None), needed):
        progress(f"namespace {name}: made")
    return place.kubeconfig


def _require_root() -> None:
    if os.geteuid() != 0:
        raise SettingInvalid(
            "A node starts containers and sets up their network, which only root may do.\n"
            "Run this as root, or use an existing cluster by naming its kubeconfig and context in a cluster block."
        )


def make_directories(place: Place) -> None:
    """Make the cluster's directories, for this user only; raise `SettingInvalid` if their path is too long."""
    if len(os.fsencode(f"{place.socket}.ttrpc")) > LONGEST:
        raise SettingInvalid(
            f"{place.directory} is too long for the path of a socket.\nSet CSCM_HOME to a shorter path."
        )
    for directory in (place.directory, place.keys, place.settings, place.state, place.run, place.log):
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)


def _pause(pins: ClusterPins) -> str:
    return f"{PAUSE}:{getattr(pins.tools['pause'], 'version', 'latest')}"


def _write_documents(profile: Profile, home: Home, place: Place, pins: ClusterPins) -> dict[str, str]:
    """Write the configuration files; return what restarts each component if it changes."""
    provider = documents.render_provider_program(home.project / "src", home.laptop_state)
    written = documents.write_documents(place, profile.cluster, profile.registry, _pause(pins), provider)
    return {
        "containerd": written["containerd.toml"],
        "kubelet": written["kubelet.yaml"] + written["credentials.yaml"],
        "proxy": written["proxy.yaml"],
    }


def _start(components: Components, pause: str, progress: Progress) -> None:
    """Start the components, those at once that do not need each other."""
    api = components.api
    run_concurrently(
        lambda: _start_containerd(components, pause, progress),
        lambda: _ensure(components.etcd(), progress),
        lambda: _ensure(components.apiserver(), progress),
    )
    later = (components.controllers(), components.scheduler(), components.kubelet(), components.proxy())
    run_concurrently(*(partial(_ensure, service, progress) for service in later))
    end = time.monotonic() + READY
    while not ((node := api.node()).ready and api.has_default_account()) and time.monotonic() < end:
        time.sleep(0.1)
    require_ready(node)
    _ensure(components.policies(), progress)


def _start_containerd(components: Components, pause: str, progress: Progress) -> None:
    _ensure(components.containerd(), progress)
    ctr = (str(components.programs.ctr), "--address", str(components.place.socket), "--namespace", "k8s.io", "images")
    if pause in _run(*ctr, "list", "--quiet", f"name=={pause}").split():
        return
    with tempfile.NamedTemporaryFile(dir=components.place.run, suffix=".tar") as archive:
        archive.write(make_image(pause, "pause", components.programs.pause.read_bytes(), read_architecture()))
        archive.flush()
        _run(*ctr, "import", archive.name)


def _run(*argv: str) -> str:
    done = run(argv, name="ctr", timeout=60, quiet=True)
    if done.status != 0:
        raise ToolFailed(
            f"ctr {' '.join(argv[5:7])} ended with status {done.status}: {done.stderr[-1000:].strip()}\n"
            "Look at containerd.log in the cluster's log directory, then run `cscm cluster up` again."
        )
    return done.stdout


def _ensure(service: Service, progress: Progress) -> None:
    record, started = service.ensure(progress)
    if started:
        progress(f"{service.name}: ready (pid {record.pid})")


def stop_cluster(home: Home, progress: Progress) -> None:
    """Stop all components and pods, and leave the host as it was before `up`; the cluster's state stays."""
    place = Place.of(home)
    if not place.directory.is_dir():
        return
    with home.locked():
        stop_all(place, progress)


def stop_all(place: Place, progress: Progress) -> None:
    """Do what `stop_cluster` does; the caller holds the home's lock."""
    running = [name for name in STOP_ORDER if _record(place, name)]
    host = read_host(place)
    if (running or host) and os.geteuid() != 0:
        raise SettingInvalid("Only root may stop the cluster, which root started.\nRun this as root.")
    for name in running:
        if record := _record(place, name):
            progress(f"{name}: stopping (pid {record.pid})")
            stop(record, grace=20.0)
    for name in STOP_ORDER:
        (place.run / f"{name}.json").unlink(missing_ok=True)
    if host:
        progress("host: ending the pods and restoring what the cluster changed")
        end_pods(place)
        restore_host(place, host)


def remove(home: Home, progress: Progress) -> None:
    """Do what `stop_cluster` does, and remove the cluster's state; the programs stay."""
    stop_cluster(home, progress)
    shutil.rmtree(Place.of(home).directory, ignore_errors=True)


def find_kubeconfig(home: Home) -> Path | None:
    """Return the administrator's kubeconfig; None if no cluster was started in this home."""
    file = home.cluster / KUBECONFIG
    return file if file.exists() else None


def _record(place: Place, name: str) -> Record | None:
    record = read_record(place.run / f"{name}.json")
    return record if record and record.is_alive() else None


def run_kubectl(home: Home, arguments: Sequence[str]) -> NoReturn:
    """Become kubectl as the cluster's administrator; raise `ToolMissing` if the cluster was never started."""
    command = [*find_kubectl(home, read_document(home.project / FILE, ClusterPins)), *arguments]
    os.execve(command[0], command, {**os.environ, "KUBECONFIG": str(Place.of(home).kubeconfig)})  # noqa: S606 - the user's words


def read_cluster_status(profile: Profile, home: Home) -> ClusterStatus:
    """Return the state of each component and of the node."""
    place = Place.of(home)
    components = tuple(_component(place, name) for name in NAMES)
    api = ClusterApi(place.keys, profile.cluster.node_address, profile.cluster.port("api"))
    stopped = NodeState(name=NODE, ready=False, why="the cluster does not run; `cscm cluster up` starts it")
    node = api.node() if any(each.running for each in components) else stopped
    return ClusterStatus(
        components=components, node=node, memory=sum(each.memory for each in components), kubeconfig=place.kubeconfig
    )


def _component(place: Place, name: str) -> Component:
    record = _record(place, name)
    if record is None:
        return Component(name=name, running=False)
    pids = [record.pid, *(find_shims(place.socket) if name == "containerd" else ())]
    return Component(
        name=name, running=True, pid=record.pid, since=record.since, memory=sum(map(_memory, pids)) // 1024
    )


def _memory(pid: int) -> int:
    """Return the proportional set size of a process in KiB (proc(5), `smaps_rollup`); 0 if it ended."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("Pss:")), 0)
