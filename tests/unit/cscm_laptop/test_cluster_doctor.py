"""What `cscm doctor` says about the cluster of this machine, and when it says nothing."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import yaml

from cscm_laptop.checks import Check
from cscm_laptop.cluster import doctor
from cscm_laptop.cluster.api import NodeState
from cscm_laptop.cluster.cluster import ClusterStatus, Component
from cscm_laptop.cluster.place import Place
from cscm_laptop.home import Home
from cscm_laptop.profile import Profile
from supply_chain.adapters.kubernetes.client import ClusterClient
from supply_chain.errors import ClusterUnavailable
from supply_chain.execution.kubernetes.cluster import NAMESPACES
from tests.support.command import copy_deployments
from tests.support.memory_cluster import MemoryCluster


@pytest.fixture
def home(tmp_path: Path) -> Home:
    copy_deployments(tmp_path / "project")
    found = Home(tmp_path / "project", tmp_path / "home")
    found.create()
    return found


@pytest.fixture
def node(home: Home, monkeypatch: pytest.MonkeyPatch) -> MemoryCluster:
    """Return a cluster that runs, with an environment in the namespace `apps`."""
    environment = {"name": "shop", "target": "kubernetes", "cluster": "laptop", "namespace": "apps"}
    (home.project / "deployments/environments/shop.yaml").write_text(yaml.safe_dump(environment))
    found = MemoryCluster()
    for name in ("default", "apps"):
        found.apply(NAMESPACES, {"metadata": {"name": name}})
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(doctor, "find_missing", lambda *_: ())
    monkeypatch.setattr(doctor, "find_kubeconfig", lambda _: home.cluster / "admin.kubeconfig")
    monkeypatch.setattr(ClusterClient, "of_context", lambda *_: found)
    monkeypatch.setattr(doctor, "read_cluster_status", lambda *_: status(home))
    return found


def status(home: Home, stopped: str = "", why: str = "") -> ClusterStatus:
    components = tuple(Component(name=name, running=name != stopped) for name in ("etcd", "kubelet"))
    node = NodeState(name="laptop", ready=not why, why=why, version="v1.37.2")
    return ClusterStatus(components=components, node=node, memory=1, kubeconfig=home.cluster)


def examine(home: Home) -> dict[str, Check]:
    return {each.name.removeprefix("cluster "): each for each in doctor.examine_cluster(Profile(), home)}


def test_doctor_omits_cluster_if_none_is_configured(home: Home) -> None:
    assert examine(home) == {}


def test_started_cluster_is_checked_without_environment(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(doctor, "find_missing", lambda *_: ("kube",))
    home.cluster.mkdir()
    Place.of(home).host_record.touch()

    found = examine(home)

    assert [(name, each.ok) for name, each in found.items()] == [("programs", False), ("components", True)]
    assert found["programs"].actual == "missing: kube" and "root" in found["components"].remedy


def test_doctor_reports_working_cluster_as_ok(home: Home, node: MemoryCluster) -> None:
    found = examine(home)

    assert list(found) == ["programs", "components", "node", "kubeconfig"]
    assert all(each.ok for each in found.values()) and found["node"].actual == "ready, v1.37.2"


def test_doctor_names_each_failed_part_of_cluster(
    home: Home, node: MemoryCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each check has its own remedy."""
    monkeypatch.setattr(doctor, "read_cluster_status", lambda *_: status(home, "kubelet", "it stopped posting"))
    node.delete(NAMESPACES, "apps")

    found = examine(home)

    assert {name: each.actual for name, each in found.items() if not each.ok} == {
        "components": "stopped: kubelet", "node": "not ready: it stopped posting", "kubeconfig": "no namespace apps",
    }  # fmt: skip


def test_refused_credentials_are_a_failed_check(home: Home, node: MemoryCluster) -> None:
    node.failing["read Namespace"] = ClusterUnavailable("it does not answer\ntry again")

    assert examine(home)["kubeconfig"].actual == "it does not answer try again"


def test_missing_kubeconfig_is_a_failed_check(home: Home, node: MemoryCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "find_kubeconfig", lambda _: None)

    assert examine(home)["kubeconfig"].actual == "none"


def test_unreadable_environment_is_a_failed_check(home: Home) -> None:
    (home.project / "deployments/environments/staging.yaml").write_text("name: [")

    (found,) = examine(home).values()

    assert not found.ok and "staging.yaml" in found.actual
