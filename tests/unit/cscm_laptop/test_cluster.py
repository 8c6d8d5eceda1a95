"""Tests of `cscm cluster` without a node: who may start it, what it refuses, and what it prints."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from click.testing import CliRunner

from cscm.main import main
from cscm_laptop.cluster import cluster
from cscm_laptop.cluster.place import Place
from cscm_laptop.cluster.programs import FILE, ClusterPins
from cscm_laptop.home import Home
from cscm_laptop.profile import Profile
from supply_chain.errors import SettingInvalid
from supply_chain.model.documents import read_document
from tests.support.command import ROOT


@pytest.fixture
def home(tmp_path: Path) -> Home:
    found = Home(tmp_path, tmp_path / "home")
    found.create()
    return found


def fail(line: str) -> None:
    raise AssertionError(f"nothing is to be done, but: {line}")


def test_only_root_starts_a_node(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)

    with pytest.raises(SettingInvalid, match="only root may do"):
        cluster.start_cluster(Profile(), home, fail)

    assert not home.cluster.exists()


def test_only_root_stops_a_node(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise the host would stay changed, and nobody would know."""
    place = Place.of(home)
    place.directory.mkdir()
    place.host_record.write_text('{"sysctls": {}, "absent": [], "settings": {}, "boot": "1"}')
    monkeypatch.setattr(os, "geteuid", lambda: 1000)

    with pytest.raises(SettingInvalid, match="Only root may stop"):
        cluster.remove(home, fail)

    assert place.host_record.exists()


def test_home_too_deep_for_a_socket_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingInvalid, match="shorter path"):
        cluster.make_directories(Place(tmp_path / ("long" * 30), "0a1b2c"))


def test_down_and_remove_without_cluster_do_nothing(home: Home) -> None:
    cluster.stop_cluster(home, fail)
    cluster.remove(home, fail)

    assert home.is_ours()


def test_stopped_cluster_is_not_ready(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    (home.project / "deployments/profiles").mkdir(parents=True)
    (home.project / "deployments/profiles/laptop.yaml").write_text("{}")
    monkeypatch.setattr(Home, "find", lambda: home)

    result = CliRunner().invoke(main, ["cluster", "status"])

    assert result.exit_code == 1
    lines = result.output.splitlines()
    assert [line.split()[0] for line in lines[:8]] == list(cluster.NAMES)
    assert all(line.split()[1:] == ["stopped"] for line in lines[:8])
    assert lines[8].startswith("node         not ready: the cluster does not run; `cscm cluster up`")


def test_kubectl_gets_all_arguments_and_the_clusters_kubeconfig(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    def become(program: str, words: list[str], environment: dict[str, str]) -> None:
        ran.append((program, words, environment["KUBECONFIG"], environment["PATH"]))

    ran: list[tuple[str, list[str], str, str]] = []
    release = home.tools / read_document(ROOT / FILE, ClusterPins).kubernetes.name
    release.mkdir(parents=True)
    (release / "kubectl").touch()
    monkeypatch.setattr(Home, "find", lambda: Home(ROOT, home.directory))
    monkeypatch.setattr(os, "execve", become)

    CliRunner().invoke(main, ["cluster", "kubectl", "-n", "apps", "get", "pods", "--help"], catch_exceptions=False)

    program = str(release / "kubectl")
    words = [program, "-n", "apps", "get", "pods", "--help"]
    assert ran == [(program, words, str(Place.of(home).kubeconfig), os.environ["PATH"])]
