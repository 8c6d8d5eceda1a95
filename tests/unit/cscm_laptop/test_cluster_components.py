"""Tests of the components' command lines, settings and configuration files."""

from __future__ import annotations

import json
import os
import tomllib
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from cscm_laptop.cluster import documents
from cscm_laptop.cluster.components import Components, Programs
from cscm_laptop.cluster.place import Place
from cscm_laptop.cluster.settings import PARTS, ClusterSettings
from cscm_laptop.services import Service

SERVERS = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy")


def components(directory: Path, **settings: Any) -> Components:
    kubernetes = {name: ("/tools/kube", name) for name in SERVERS}
    programs = Programs(
        kubernetes, Path("/usr/bin/containerd"), Path("/usr/bin/ctr"), Path("/tools/pause"), Path("/tools/router")
    )
    return Components(
        Place(directory, "0a1b2c"), ClusterSettings.model_validate(settings), programs, {"kubelet": "its settings"}
    )


def options(service: Service) -> dict[str, str]:
    return dict(word.removeprefix("--").split("=", 1) for word in service.argv if word.startswith("--"))


def test_components_start_in_order_of_their_needs(tmp_path: Path) -> None:
    names = [service.name for service in components(tmp_path).all()]

    assert names == ["containerd", "etcd", "apiserver", "controllers", "scheduler", "kubelet", "proxy", "policies"]


def test_etcd_demands_certificates_of_its_own_authority(tmp_path: Path) -> None:
    """It holds every secret, and other users of the machine reach its ports."""
    found = options(components(tmp_path).etcd())

    assert found["client-cert-auth"] == found["peer-client-cert-auth"] == "true"
    assert {found["trusted-ca-file"], found["peer-trusted-ca-file"]} == {f"{tmp_path}/keys/etcd-ca.crt"}
    assert found["listen-client-urls"] == "https://127.0.0.1:6444"


def test_apiserver_authorizes_everybody_by_name(tmp_path: Path) -> None:
    found = options(components(tmp_path).apiserver())

    assert (found["anonymous-auth"], found["authorization-mode"]) == ("false", "Node,RBAC")
    assert found["bind-address"] == "10.244.99.1" and found["client-ca-file"] == f"{tmp_path}/keys/ca.crt"


def test_ports_and_addresses_of_two_clusters_are_apart(tmp_path: Path) -> None:
    one, other = components(tmp_path), components(tmp_path, first_port=7000, pods="10.9.0.0/24")

    ports = [{each.settings.port(part) for part in PARTS} for each in (one, other)]

    assert len(ports[0] | ports[1]) == 2 * len(PARTS)
    assert options(other.apiserver())["secure-port"] == "7000"
    assert options(other.kubelet())["node-ip"] == "10.9.0.1"


def test_component_restarts_if_its_settings_change(tmp_path: Path) -> None:
    one = components(tmp_path)
    other = Components(one.place, one.settings, one.programs, {"kubelet": "other settings"})

    assert one.kubelet().fingerprint != other.kubelet().fingerprint
    assert one.scheduler().fingerprint == other.scheduler().fingerprint


def test_component_does_not_restart_for_another_shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user adds the project's commands to the PATH, and starts the cluster again."""
    one = components(tmp_path)
    before = [one.containerd().fingerprint, one.proxy().fingerprint, one.policies().fingerprint]

    monkeypatch.setenv("PATH", f"/elsewhere:{os.environ['PATH']}")

    assert before == [one.containerd().fingerprint, one.proxy().fingerprint, one.policies().fingerprint]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"pods": "10.245.0.0/24"}, "do not overlap"),
        ({"pods": "10.1.0.0/28"}, "at least 254 addresses"),
        ({"bridge": "a-name-that-is-too-long"}, "bridge"),
        ({"first_port": 80}, "first_port"),
        ({"first_port": 65530}, "first_port"),
    ],
)
def test_unusable_settings_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        ClusterSettings.model_validate(change)


def test_files_of_containerd_are_in_the_cluster_directory(tmp_path: Path) -> None:
    found = tomllib.loads(documents.render_containerd_config(Place(tmp_path, "0a1b2c"), "localhost/cscm-pause:1.0.0"))

    cri = found["plugins"]["io.containerd.grpc.v1.cri"]
    paths = (found["root"], found["state"], found["grpc"]["address"], cri["cni"]["conf_dir"])
    assert all(path.startswith(f"{tmp_path}/") for path in paths)
    assert cri["containerd"]["runtimes"]["runc"]["options"]["Root"] == f"{tmp_path}/run/runc"
    assert cri["netns_mounts_under_state_dir"] is True


def test_all_configuration_files_are_written(tmp_path: Path) -> None:
    place = Place(tmp_path, "0a1b2c")

    documents.write_documents(place, ClusterSettings(), "127.0.0.1:4566", "localhost/cscm-pause:1.0.0", "#!/bin/sh\n")

    kubelet = json.loads((place.settings / "kubelet.yaml").read_text())
    assert kubelet["cgroupRoot"] == "/cscm-0a1b2c"
    assert kubelet["authentication"]["anonymous"] == {"enabled": False}
    provider = json.loads((place.settings / "credentials.yaml").read_text())["providers"][0]
    assert (place.settings / "providers" / provider["name"]).stat().st_mode & 0o777 == 0o700
    registry = tomllib.loads((place.settings / "registries/127.0.0.1:4566/hosts.toml").read_text())
    assert registry["host"] == {"http://127.0.0.1:4566": {"capabilities": ["pull", "resolve"]}}
    assert json.loads((place.settings / "cni/10-cscm.conflist").read_text())["name"] == "cscm-0a1b2c"


def test_unchanged_configuration_file_is_not_written_again(tmp_path: Path) -> None:
    """kube-proxy ends when its file is written."""
    place, registry = Place(tmp_path, "0a1b2c"), "127.0.0.1:4566"
    documents.write_documents(place, ClusterSettings(), registry, "localhost/cscm-pause:1.0.0", "#!/bin/sh\n")
    before = {file: file.stat().st_ino for file in place.settings.rglob("*.yaml")}

    documents.write_documents(place, ClusterSettings(), registry, "localhost/cscm-pause:1.0.1", "#!/bin/sh\n")

    assert {file: file.stat().st_ino for file in place.settings.rglob("*.yaml")} == before
    assert "1.0.1" in (place.settings / "containerd.toml").read_text()


def test_provider_program_quotes_paths() -> None:
    script = documents.render_provider_program(Path("/a b/src"), Path("/a b/state.json"))

    assert script.startswith("#!/bin/sh\nPYTHONPATH='/a b/src' exec ") and script.endswith(" '/a b/state.json'\n")
