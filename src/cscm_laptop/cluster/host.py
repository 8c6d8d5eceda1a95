"""What a cluster changes on its host outside of its directory: record it before, and restore it afterwards.

Changed are: settings of the kernel (the kubelet), an interface and rules of iptables for pods, a table of nftables
(kube-proxy), a cgroup, and files at paths that the kubelet, containerd and CNI do not let anybody choose.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from pydantic import ValidationError

from cscm_laptop.cluster.place import Place
from cscm_laptop.cluster.settings import ClusterSettings
from cscm_laptop.firewall import BRIDGE, FirewallRule, remove_rules, run_iptables
from cscm_laptop.services import read_boot_id
from supply_chain.adapters.process.command import run
from supply_chain.errors import ComponentFailed, ToolFailed
from supply_chain.model.image import Model
from supply_chain.scratch import write_private

PROC_SYS = Path("/proc/sys")
CGROUPS = Path("/sys/fs/cgroup")
SYSCTLS = (
    "vm/overcommit_memory",
    "vm/panic_on_oom",
    "kernel/panic",
    "kernel/panic_on_oops",
    "kernel/keys/root_maxkeys",
    "kernel/keys/root_maxbytes",
    "net/ipv4/ip_forward",
    "net/ipv4/conf/all/route_localnet",
)
"""Settings that the kubelet, CNI and kube-proxy change (kubelet: pkg/kubelet/cm, `setupKernelTunables`)."""
OWN = (Path("/var/lib/kubelet"), Path("/var/log/containers"))
"""Directories that only a kubelet uses; one that did not exist is removed with its content."""
SHARED = tuple(map(Path, ("/var/lib/cni/results", "/var/lib/cni", "/run/containerd/s", "/run/containerd")))
"""Directories that others use too, the inner ones first; one that did not exist is removed if it is empty."""
CNI_RESULTS = Path("/var/lib/cni/results")
RECORDS = Path("/var/lib/cscm")
"""Directory with a copy of each cluster's record, for when its home is lost: `cluster-OWNER.json`."""
TABLES = ("ip", "ip6")
"""Families of nftables in which kube-proxy has a table."""
KUBE_PROXY = "kube-proxy"
ENFORCED = "KUBE-ROUTER-FORWARD"
"""Chain of iptables with what kube-router makes of NetworkPolicies."""
CHAINS = ("KUBE-ROUTER-", "KUBE-POD-FW-", "KUBE-NWPLCY-")
SETS = ("KUBE-SRC-", "KUBE-DST-", "kube-router-", "inet6:")
"""How the names of kube-router's chains and sets begin."""
FORWARDED = (
    FirewallRule(table="filter", chain="FORWARD", match=("-o", "BRIDGE"), why="traffic between pods", target="ACCEPT"),
)
"""Rules that let through traffic between pods, where the engine's own policy drops everything else."""


class HostRecord(Model):
    """The host as it was before the cluster changed it, and the settings with which the cluster changed it."""

    sysctls: dict[str, str]
    absent: tuple[Path, ...]
    settings: ClusterSettings
    boot: str
    """The boot (`services.boot_id`) in which the cluster last ran."""


class CopiedRecord(HostRecord):
    """A record outside of the home, with the cluster's directory in the home."""

    directory: Path


def record_host(place: Place, settings: ClusterSettings) -> None:
    """Record the host, unless a record exists whose changes were not restored yet.

    Raises `ComponentFailed` if another cluster's network is on this host, or if the cluster was started with other
    settings.
    """
    if earlier := read_host(place):
        if earlier.settings != settings:
            raise ComponentFailed(
                "The cluster's settings changed since it was started.\nRun `cscm cluster down` and `cscm cluster up`."
            )
        return
    if foreign := _find_foreign(settings.bridge):
        raise ComponentFailed(
            f"Another cluster or network is on this host: {foreign}.\n"
            "Stop it, or use its kubeconfig; or choose another cluster.bridge in the profile."
        )
    values = {name: (PROC_SYS / name).read_text().strip() for name in SYSCTLS if (PROC_SYS / name).exists()}
    absent = tuple(path for path in (*OWN, *SHARED) if not path.exists())
    _write(place, HostRecord(sysctls=values, absent=absent, settings=settings, boot=read_boot_id()))


def _write(place: Place, record: HostRecord) -> None:
    """Write a record, and its copy outside of the home first."""
    copied = CopiedRecord(**record.model_dump(), directory=place.directory)
    RECORDS.mkdir(mode=0o700, exist_ok=True)
    write_private(_copy_of(place.owner), copied.model_dump_json(indent=2))
    write_private(place.host_record, record.model_dump_json(indent=2))


def _copy_of(owner: str) -> Path:
    return RECORDS / f"cluster-{owner}.json"


def read_copy(owner: str) -> CopiedRecord | None:
    """Return the copy of the record of an owner's cluster; None if nothing is to be restored, or if it is damaged."""
    try:
        return CopiedRecord.model_validate_json(_copy_of(owner).read_bytes())
    except (OSError, ValidationError):
        return None


def note_boot(place: Place) -> bool:
    """Note in the record that the cluster runs in this boot; return whether it last ran in another one.

    What was recorded stays true: a restart of the machine leaves files.
    """
    record = read_host(place)
    if record is None or record.boot == read_boot_id():
        return False
    _write(place, record.model_copy(update={"boot": read_boot_id()}))
    return True


def read_host(place: Place) -> HostRecord | None:
    """Return the record of the host; None if nothing is to be restored. Raises `ComponentFailed` if it is damaged."""
    try:
        return HostRecord.model_validate_json(place.host_record.read_bytes())
    except FileNotFoundError:
        return None
    except ValidationError as error:
        raise ComponentFailed(
            f"{place.host_record}, which says what the host was like, is damaged.\n"
            "Restart the machine, which restores all but files, and remove this file."
        ) from error


def _find_foreign(bridge: str) -> str:
    if _has_interface(bridge):
        return f"the interface {bridge}"
    tables = _listed_tables()
    return next((f"the nftables table {family} {KUBE_PROXY}" for family in TABLES if family in tables), "")


def enforces_policies() -> bool:
    """Return whether NetworkPolicies are enforced."""
    return f":{ENFORCED} " in _run("iptables-save", "--table", "filter")


def _remove_policies() -> None:
    """Remove the rules, chains and sets of kube-router, whose own way to do it fails without its service proxy."""
    if script := plan_removal(_run("iptables-save", "--table", "filter")):
        with tempfile.NamedTemporaryFile("w", suffix=".rules") as file:
            file.write(script)
            file.flush()
            _run("iptables-restore", "--noflush", "--wait", "10", file.name)
    for name in _run("ipset", "list", "-name").split():
        if name.startswith(SETS):
            _run("ipset", "destroy", name)


def plan_removal(saved: str) -> str:
    """Return what iptables-restore(8) needs to remove kube-router's chains of a saved table; empty without any."""
    lines = saved.splitlines()
    names = [line.split()[0].removeprefix(":") for line in lines if line.startswith(":")]
    chains = [name for name in names if name.startswith(CHAINS)]
    if not chains:
        return ""
    rules = [line for line in lines if line.startswith("-A ") and line.split()[1] not in chains]
    jumps = [line.replace("-A", "-D", 1) for line in rules if line.rpartition(" -j ")[2] in chains]
    emptied = [f":{chain} - [0:0]" for chain in chains]
    return "\n".join(["*filter", *emptied, *jumps, *(f"-X {chain}" for chain in chains), "COMMIT", ""])


def _has_interface(name: str) -> bool:
    return name in {interface for _, interface in socket.if_nameindex()}


def _listed_tables() -> tuple[str, ...]:
    done = _run("nft", "list", "tables")
    return tuple(family for family in TABLES if f"table {family} {KUBE_PROXY}" in done.splitlines())


def prepare_host(place: Place, settings: ClusterSettings) -> None:
    """Make the pods' interface, firewall rules and cgroup; what exists stays as it is."""
    if not _has_interface(settings.bridge):
        _run("ip", "link", "add", settings.bridge, "type", "bridge")
    _run("ip", "address", "replace", f"{settings.node_address}/{settings.pods.prefixlen}", "dev", settings.bridge)
    _run("ip", "link", "set", settings.bridge, "up")
    for rule in FORWARDED:
        if not run_iptables("-C", rule, place.owner, settings.bridge):
            run_iptables("-I", rule, place.owner, settings.bridge)
    for group in _group_parents():
        _delegate(group)
        (group / place.name).mkdir(exist_ok=True)


def _delegate(root: Path) -> None:
    """Let the groups below a root of version 2 have every controller, which the kubelet demands of its own."""
    controllers = root / "cgroup.controllers"
    for name in controllers.read_text().split() if controllers.is_file() else ():
        (root / "cgroup.subtree_control").write_text(f"+{name}")


def restore_host(place: Place, record: HostRecord) -> None:
    """Take away what the cluster made on the host and restore the recorded settings; nothing of it may run any more."""
    _remove_policies()
    remove_rules(place.owner, record.settings.bridge, FORWARDED)
    if _has_interface(record.settings.bridge):
        _run("ip", "link", "delete", record.settings.bridge)
    for family in _listed_tables():
        _run("nft", "delete", "table", family, KUBE_PROXY)
    for group in find_cgroups(place.name):
        for inner, _, _ in os.walk(group, topdown=False):
            with contextlib.suppress(OSError):
                Path(inner).rmdir()
    remove_results(place.name)
    _remove_links(OWN[1], place.directory)
    for path in record.absent:
        if path in OWN:
            shutil.rmtree(path, ignore_errors=True)
        else:
            with contextlib.suppress(OSError):
                path.rmdir()
    restore_settings(record)
    place.host_record.unlink(missing_ok=True)
    _copy_of(place.owner).unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # of another cluster, or there is none
        RECORDS.rmdir()


def restore_settings(record: HostRecord) -> None:
    """Give each setting of the kernel that changed its recorded value."""
    for name, value in record.sysctls.items():
        if (PROC_SYS / name).read_text().strip() != value and not _is_engines(name):
            (PROC_SYS / name).write_text(value)


def _is_engines(sysctl: str) -> bool:
    """Return whether a container engine, which may have been started since, needs the setting as it is."""
    return sysctl == "net/ipv4/ip_forward" and _has_interface(BRIDGE)


def _remove_links(directory: Path, place: Path) -> None:
    """Remove the links that the kubelet made to the logs of our pods."""
    for link in directory.glob("*.log"):
        if link.is_symlink() and place in link.readlink().parents:
            link.unlink()


def remove_results(network: str, results: Path = CNI_RESULTS) -> None:
    """Remove CNI's notes about our pods: `NETWORK-ID-eth0` and `cni-loopback-ID-lo`."""
    for file in results.glob(f"{network}-*-eth0"):
        pod = file.name.removeprefix(f"{network}-").removesuffix("-eth0")
        (results / f"cni-loopback-{pod}-lo").unlink(missing_ok=True)
        file.unlink(missing_ok=True)


def _group_parents(root: Path = CGROUPS) -> Iterator[Path]:
    """Yield the root of each hierarchy of cgroups: the only one of version 2, or all where version 1 is in use."""
    if (root / "cgroup.controllers").is_file():
        yield root
        return
    yield from (path for path in root.iterdir() if (path / "cgroup.procs").exists())


def find_cgroups(name: str, root: Path = CGROUPS) -> list[Path]:
    """Return the cgroups of that name, one for each hierarchy that has one."""
    return [path / name for path in _group_parents(root) if (path / name).is_dir()]


def list_processes(groups: list[Path]) -> set[int]:
    """Return the ids of the processes in these cgroups and in those below them."""
    processes: set[int] = set()
    for group in groups:
        for file in group.rglob("cgroup.procs"):
            with contextlib.suppress(OSError):  # the group was removed meanwhile
                processes |= {int(line) for line in file.read_text().split()}
    return processes - {0}


def end_processes(groups: list[Path], grace: float, patience: float = 10.0) -> None:
    """End the processes in these cgroups: SIGTERM, then after `grace` seconds SIGKILL.

    `patience` is how many seconds the kernel may take to end a killed process.
    """
    for number, seconds in ((signal.SIGTERM, grace), (signal.SIGKILL, patience)):
        for pid in list_processes(groups):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        end = time.monotonic() + seconds
        while list_processes(groups) and time.monotonic() < end:
            time.sleep(0.05)


def unmount_below(directory: Path) -> None:
    """Unmount everything that is mounted below a directory, the innermost first."""
    lines = Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines()
    points = [line.split()[1].encode().decode("unicode_escape") for line in lines]
    for point in sorted((each for each in points if each.startswith(f"{directory}/")), reverse=True):
        _run("umount", "--lazy", point)


def _run(*argv: str) -> str:
    done = run(argv, name=argv[0], timeout=30, quiet=True)
    if done.status != 0:
        raise ToolFailed(f"{' '.join(argv)} ended with status {done.status}: {done.stderr[-500:].strip()}")
    return done.stdout
