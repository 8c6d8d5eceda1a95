"""Tests of how the cluster gets its programs: from the release on a local server, or from a build."""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from cscm_laptop.cluster import programs
from cscm_laptop.cluster.programs import FILE, SERVERS, ClusterPins, KubernetesRelease, fetch_release
from cscm_laptop.home import Home
from cscm_laptop.tools import download
from cscm_laptop.tools.installer import read_architecture
from supply_chain.adapters.tools.pins import SourcePin
from supply_chain.adapters.tools.sources import compute_source_digest, read_source_files
from supply_chain.errors import DownloadFailed, ToolMissing
from supply_chain.model.documents import read_document
from tests.support.command import ROOT
from tests.support.release_server import Releases


@pytest.fixture
def pins() -> ClusterPins:
    return read_document(ROOT / FILE, ClusterPins)


def fail(line: str) -> None:
    raise AssertionError(f"nothing has to be fetched or built, but: {line}")


ETCD = "etcd-v3.7.0-linux-{}.tar.gz"


@pytest.fixture
def release(releases: Releases, monkeypatch: pytest.MonkeyPatch) -> KubernetesRelease:
    """Publish a release of Kubernetes and one of etcd."""
    monkeypatch.setattr(download, "PAUSE", 0.0)
    for name in SERVERS:
        content = name.encode() * 1000
        path = f"/v1.37.2/bin/linux/{read_architecture()}/{name}"
        releases.files[path] = content
        releases.files[f"{path}.sha256"] = hashlib.sha256(content).hexdigest().encode()
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w:gz") as tar:
        entry = tarfile.TarInfo("etcd-v3.7.0/etcd")
        entry.size = 4
        tar.addfile(entry, io.BytesIO(b"etcd"))
    name = ETCD.format(read_architecture())
    releases.files[f"/etcd/v3.7.0/{name}"] = archive.getvalue()
    listed = f"{hashlib.sha256(archive.getvalue()).hexdigest()}  {name}\n"
    releases.files["/etcd/v3.7.0/SHA256SUMS"] = listed.encode()
    return KubernetesRelease(
        version="1.37.2", releases=releases.url, etcd="3.7.0", etcd_releases=f"{releases.url}/etcd"
    )


@pytest.fixture
def fetch(release: KubernetesRelease, tmp_path: Path) -> Callable[[], Path]:
    """Return a function that fetches the release and returns the directory of its programs."""

    def fetched() -> Path:
        with download.make_client() as http:
            fetch_release(release, tmp_path / "programs", http, lambda line: None)
        return tmp_path / "programs"

    return fetched


def test_release_is_complete_and_executable(fetch: Callable[[], Path]) -> None:
    place = fetch()

    assert {file.name: file.stat().st_mode & 0o777 for file in place.iterdir()} == dict.fromkeys(
        (*SERVERS, "etcd"), 0o755
    )
    assert (place / "etcd").read_bytes() == b"etcd"


def test_program_with_wrong_checksum_leaves_nothing(
    fetch: Callable[[], Path], releases: Releases, tmp_path: Path
) -> None:
    path = f"/v1.37.2/bin/linux/{read_architecture()}/kubelet"
    releases.files[path] += b"tampered"

    with pytest.raises(DownloadFailed, match=r"kubelet has the SHA-256"):
        fetch()

    assert "kubelet" not in {file.name for file in tmp_path.rglob("*")} and not (tmp_path / "programs").exists()


def test_interrupted_release_is_continued(fetch: Callable[[], Path], releases: Releases) -> None:
    path = f"/v1.37.2/bin/linux/{read_architecture()}/kubectl"
    missing = releases.files.pop(path)
    with pytest.raises(download.Unavailable, match="404"):
        fetch()
    releases.files[path] = missing
    releases.asked.clear()

    fetch()

    asked = [path for path, _ in releases.asked]
    assert asked[:2] == [f"{path}.sha256", path] and not any("kube-apiserver" in each for each in asked)


@pytest.mark.parametrize("content", [b"", b"<html>not found</html>"])
def test_checksum_file_without_checksum_is_no_release(
    fetch: Callable[[], Path], releases: Releases, content: bytes
) -> None:
    releases.files[f"/v1.37.2/bin/linux/{read_architecture()}/kubelet.sha256"] = content

    with pytest.raises(download.Unavailable, match="no SHA-256"):
        fetch()


def test_release_in_place_is_used_without_network(tmp_path: Path, pins: ClusterPins) -> None:
    home = Home(tmp_path, tmp_path)
    place = home.tools / pins.kubernetes.name
    place.mkdir(parents=True)

    found = programs.find_kubernetes(home, pins, fail)

    assert found["kubelet"] == (str(place / "kubelet"),)
    (place / "kubectl").touch()
    assert programs.find_kubectl(home, pins) == (str(place / "kubectl"),)


def test_build_in_place_is_used_without_network(
    tmp_path: Path, pins: ClusterPins, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = Home(tmp_path, tmp_path)
    pin = pins.tools["kube"]
    assert isinstance(pin, SourcePin)
    place = home.tools / f"kube-{pin.version}-{compute_source_digest(pin)[:12]}"
    place.mkdir(parents=True)
    (place / "kube").write_text(f"#!/bin/sh\necho Kubernetes v{pin.version}\n")
    (place / "kube").chmod(0o755)

    found = programs.find_kubernetes(home, pins, fail)

    assert found["etcd"] == (str(place / "kube"), "etcd")
    assert programs.find_kubectl(home, pins) == (str(place / "kube"), "kubectl")


def test_kubectl_comes_with_the_cluster(tmp_path: Path, pins: ClusterPins) -> None:
    with pytest.raises(ToolMissing, match="cscm cluster up"):
        programs.find_kubectl(Home(tmp_path, tmp_path), pins)


def test_pinned_kubernetes_version_equals_version_in_go_mod(pins: ClusterPins) -> None:
    """The release and the build have to be the same Kubernetes and the same etcd."""
    pin = pins.tools["kube"]
    assert isinstance(pin, SourcePin)
    required = read_source_files(pin)["go.mod"].decode()

    assert pin.version == pins.kubernetes.version
    assert f"k8s.io/kubernetes v{pin.version}\n" in required
    assert f"go.etcd.io/etcd/server/v3 v{pins.kubernetes.etcd}\n" in required
