"""Tests of what the cluster records of its host and takes away from it."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from cscm_laptop.cluster import host
from cscm_laptop.cluster.host import (
    FORWARDED,
    end_processes,
    find_cgroups,
    list_processes,
    note_boot,
    plan_removal,
    read_host,
    record_host,
    remove_results,
    restore_settings,
)
from cscm_laptop.cluster.place import Place
from cscm_laptop.cluster.pods import find_shims
from cscm_laptop.cluster.settings import ClusterSettings
from supply_chain.errors import ComponentFailed


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    monkeypatch.setattr(host, "RECORDS", tmp_path / "records")
    (tmp_path / "cluster").mkdir()
    return Place(tmp_path / "cluster", "0a1b2c")


@pytest.fixture
def sysctls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a directory that stands in for /proc/sys, on a host without another cluster."""
    monkeypatch.setattr(host, "PROC_SYS", tmp_path / "sys")
    monkeypatch.setattr(host, "_find_foreign", lambda bridge: "")
    for name, value in (("vm/overcommit_memory", "0"), ("kernel/panic", "1"), ("net/ipv4/ip_forward", "0")):
        (tmp_path / "sys" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "sys" / name).write_text(f"{value}\n")
    return tmp_path / "sys"


def test_record_host_keeps_settings_before_first_change(place: Place, sysctls: Path) -> None:
    """An `up` after a crash finds a changed host, which is not what `down` has to restore."""
    record_host(place, ClusterSettings())
    (sysctls / "kernel/panic").write_text("10\n")
    record_host(place, ClusterSettings())

    record = read_host(place)

    assert record is not None and record.sysctls["kernel/panic"] == "1"


def test_changed_settings_are_restored(place: Place, sysctls: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "_has_interface", lambda name: False)
    record_host(place, ClusterSettings())
    for name in ("vm/overcommit_memory", "kernel/panic", "net/ipv4/ip_forward"):
        (sysctls / name).write_text("10\n")
    record = read_host(place)
    assert record is not None

    restore_settings(record)

    assert (sysctls / "vm/overcommit_memory").read_text() == "0"
    assert (sysctls / "kernel/panic").read_text() == "1"
    assert (sysctls / "net/ipv4/ip_forward").read_text() == "0"


def test_forwarding_stays_for_an_engine(place: Place, sysctls: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine that was started after the cluster relies on it."""
    monkeypatch.setattr(host, "_has_interface", lambda name: name == "docker0")
    record_host(place, ClusterSettings())
    (sysctls / "net/ipv4/ip_forward").write_text("1\n")
    record = read_host(place)
    assert record is not None

    restore_settings(record)

    assert (sysctls / "net/ipv4/ip_forward").read_text() == "1\n"


def test_other_cluster_on_the_host_is_refused(place: Place, sysctls: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "_find_foreign", lambda bridge: "the nftables table ip kube-proxy")

    with pytest.raises(ComponentFailed, match="table ip kube-proxy"):
        record_host(place, ClusterSettings())

    assert not place.host_record.exists()


def test_changed_settings_need_a_stopped_cluster(place: Place, sysctls: Path) -> None:
    """Otherwise the bridge with the earlier name would stay."""
    record_host(place, ClusterSettings())

    with pytest.raises(ComponentFailed, match="cscm cluster down"):
        record_host(place, ClusterSettings(bridge="another"))


def test_restart_of_the_machine_is_noticed_once(place: Place, sysctls: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The pods that run after it are not ended by the next `up`."""
    record_host(place, ClusterSettings())
    before = note_boot(place)
    monkeypatch.setattr(host, "read_boot_id", lambda: "another")

    assert (before, note_boot(place), note_boot(place)) == (False, True, False)
    record = read_host(place)
    assert record is not None and record.sysctls["kernel/panic"] == "1"


def test_damaged_host_record_is_an_error(place: Place) -> None:
    place.host_record.write_text("{")

    with pytest.raises(ComponentFailed, match="is damaged"):
        read_host(place)


def test_remove_results_keeps_files_of_other_networks(tmp_path: Path) -> None:
    for name in ("cscm-0a1b2c-p1-eth0", "cni-loopback-p1-lo", "other-p2-eth0", "cni-loopback-p2-lo"):
        (tmp_path / name).touch()

    remove_results("cscm-0a1b2c", tmp_path)

    assert sorted(file.name for file in tmp_path.iterdir()) == ["cni-loopback-p2-lo", "other-p2-eth0"]


def test_list_processes_finds_own_groups_in_every_hierarchy(tmp_path: Path) -> None:
    for hierarchy in ("memory", "pids", "unified"):
        for group, pid in (("cscm-0a1b2c/kubepods/pod1", 12), ("cscm-0a1b2c", 13), ("docker", 14)):
            (tmp_path / hierarchy / group).mkdir(parents=True, exist_ok=True)
            (tmp_path / hierarchy / group / "cgroup.procs").write_text(f"{pid}\n")
        (tmp_path / hierarchy / "cgroup.procs").write_text("1\n")
    (tmp_path / "not-a-hierarchy").mkdir()

    groups = find_cgroups("cscm-0a1b2c", tmp_path)

    assert len(groups) == 3 and list_processes(groups) == {12, 13}


def test_process_that_ignores_sigterm_is_killed(tmp_path: Path) -> None:
    stubborn = "import signal,sys,time;signal.signal(15,signal.SIG_IGN);print(flush=True);time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", stubborn], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        (tmp_path / "cgroup.procs").write_text(f"{process.pid}\n")

        end_processes([tmp_path], grace=0.1, patience=0.1)

        assert process.wait(5) == -signal.SIGKILL


def test_find_shims_returns_only_shims_of_own_containerd(tmp_path: Path) -> None:
    socket = Path("/home/cluster/run/containerd.sock")
    for pid, words in {
        "11": ["/usr/bin/containerd-shim-runc-v2", "-address", str(socket)],
        "12": ["/usr/bin/containerd-shim-runc-v2", "-address", "/run/docker/containerd.sock"],
        "13": ["vim", str(socket)],
    }.items():
        (tmp_path / pid).mkdir()
        (tmp_path / pid / "cmdline").write_bytes("\0".join(words).encode())
    (tmp_path / "14").mkdir()

    assert find_shims(socket, tmp_path) == [11]


def test_only_traffic_between_pods_is_forwarded() -> None:
    """Pods do not get into the networks of the container engine."""
    assert [(rule.words("cscm-pods"), rule.target) for rule in FORWARDED] == [
        (["FORWARD", "-i", "cscm-pods", "-o", "cscm-pods"], "ACCEPT")
    ]


def test_chains_of_network_policies_are_removed_and_others_stay() -> None:
    saved = """\
# Generated by iptables-save
*filter
:FORWARD DROP [3:180]
:DOCKER-USER - [0:0]
:KUBE-ROUTER-FORWARD - [0:0]
:KUBE-POD-FW-A - [0:0]
-A FORWARD -m comment --comment "kube-router netpol - T" -j KUBE-ROUTER-FORWARD
-A FORWARD -j DOCKER-USER
-A KUBE-ROUTER-FORWARD -d 10.244.99.2/32 -j KUBE-POD-FW-A
COMMIT
"""

    assert plan_removal(saved).splitlines() == [
        "*filter",
        ":KUBE-ROUTER-FORWARD - [0:0]",
        ":KUBE-POD-FW-A - [0:0]",
        '-D FORWARD -m comment --comment "kube-router netpol - T" -j KUBE-ROUTER-FORWARD',
        "-X KUBE-ROUTER-FORWARD",
        "-X KUBE-POD-FW-A",
        "COMMIT",
    ]
    assert plan_removal("*filter\n:FORWARD DROP [3:180]\nCOMMIT\n") == ""
