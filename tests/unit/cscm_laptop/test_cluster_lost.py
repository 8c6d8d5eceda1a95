"""The cluster of a lost home: what of it is found without the home, and what is left alone."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from cscm_laptop.cluster import host, lost
from cscm_laptop.cluster.host import read_copy, record_host, restore_host
from cscm_laptop.cluster.lost import find_components, list_listening_sockets, remove_lost_cluster
from cscm_laptop.cluster.place import Place
from cscm_laptop.cluster.settings import ClusterSettings

OWNER = "0a1b2c"


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    """Return the place of a cluster whose record was written."""
    monkeypatch.setattr(host, "RECORDS", tmp_path / "records")
    monkeypatch.setattr(host, "PROC_SYS", tmp_path / "sys")
    monkeypatch.setattr(host, "_find_foreign", lambda bridge: "")
    (tmp_path / "sys/kernel").mkdir(parents=True)
    (tmp_path / "sys/kernel/panic").write_text("1\n")
    found = Place(tmp_path / "home/cluster", OWNER)
    found.directory.mkdir(parents=True)
    record_host(found, ClusterSettings(bridge="cscm-of-a-test"))  # no test may touch a real one
    return found


@pytest.fixture
def done(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return a list of what is done to the host, which stays as it is."""
    found: list[str] = []
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(lost, "end_pods", lambda place: found.append(f"pods of {place.name}"))
    monkeypatch.setattr(lost, "restore_host", lambda _, record: found.append(f"restored {record.sysctls}"))
    return found


def test_lost_cluster_is_removed_by_the_copy_of_its_record(place: Place, done: list[str]) -> None:
    """The home is gone, but for a directory in which something was mounted."""
    place.host_record.unlink()
    (place.run / "mounted").mkdir(parents=True)

    remove_lost_cluster(OWNER, print)

    assert done == ["pods of cscm-0a1b2c", "restored {'kernel/panic': '1'}"] and not place.directory.exists()


def test_settings_are_not_restored_after_restart(
    place: Place, done: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The restart restored them, and somebody may have changed them since."""
    place.host_record.unlink()
    monkeypatch.setattr(lost, "read_boot_id", lambda: "another")

    remove_lost_cluster(OWNER, print)

    assert done[1] == "restored {}"


@pytest.mark.parametrize(("owner", "user", "exists"), [(OWNER, 0, True), (OWNER, 1000, False), ("other", 0, False)])
def test_remove_lost_cluster_keeps_cluster_in_use_or_of_others(
    place: Place, done: list[str], monkeypatch: pytest.MonkeyPatch, owner: str, user: int, exists: bool
) -> None:
    """Its home exists, or only root could remove it, or it is another's."""
    monkeypatch.setattr(os, "geteuid", lambda: user)
    if not exists:
        place.host_record.unlink()

    remove_lost_cluster(owner, print)

    assert done == [] and read_copy(OWNER) is not None


def test_restored_host_has_no_copy(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """A home that `down` left is never taken for lost."""
    for name in ("_remove_policies", "_listed_tables"):
        monkeypatch.setattr(host, name, lambda: ())
    monkeypatch.setattr(host, "remove_rules", lambda *_: None)
    monkeypatch.setattr(host, "remove_results", lambda _: None)
    monkeypatch.setattr(host, "OWN", (Path("/nowhere"), Path("/nowhere")))
    record = read_copy(OWNER)
    assert record is not None

    restore_host(place, record.model_copy(update={"absent": ()}))

    assert read_copy(OWNER) is None and not host.RECORDS.exists()


def test_components_are_found_by_program_and_directory(tmp_path: Path) -> None:
    """An editor of one of its files is not a component, nor is the component of another cluster."""
    (tmp_path / "containerd").symlink_to(sys.executable)
    directory = tmp_path / "home/cluster"
    waiting = "import sys; print(flush=True); sys.stdin.read()"
    commands: list[list[str | Path]] = [
        [tmp_path / "containerd", "-c", waiting, "--config", directory / "settings/containerd.toml"],
        [tmp_path / "containerd", "-c", waiting, "--config", tmp_path / "home/cluster-of-another/containerd.toml"],
        [sys.executable, "-c", waiting, directory / "settings/containerd.toml"],
    ]
    running = [subprocess.Popen(each, stdin=subprocess.PIPE, stdout=subprocess.PIPE) for each in commands]
    try:
        for each in running:
            assert each.stdout and each.stdout.readline()

        assert find_components(directory) == [running[0].pid]
    finally:
        for each in running:
            each.communicate()


def test_listening_sockets_returns_bound_sockets_only(tmp_path: Path) -> None:
    """containerd puts them into a directory that all of a machine share."""
    listener, client = (socket.socket(socket.AF_UNIX) for _ in range(2))
    with listener, client:
        listener.bind(str(tmp_path / "s"))
        listener.listen()
        client.connect(str(tmp_path / "s"))

        assert list_listening_sockets(os.getpid()) == [tmp_path / "s"]
