"""Get the programs of the cluster: Kubernetes from its release or built from its modules, the rest as its pins say."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Annotated

import httpx
from pydantic import Field, StringConstraints

from cscm_laptop.cluster.components import Programs
from cscm_laptop.cluster.documents import PLUGINS
from cscm_laptop.home import Home
from cscm_laptop.services import Progress
from cscm_laptop.tools import download
from cscm_laptop.tools.install import install_apt_packages
from cscm_laptop.tools.installer import Installer, read_architecture
from supply_chain.adapters.tools.pins import Pins, Version
from supply_chain.adapters.tools.toolbox import Toolbox
from supply_chain.errors import ToolMissing
from supply_chain.model.image import Model

FILE = Path("deployments/cluster.yaml")
KUBECTL = "kubectl"
SERVERS = ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy", KUBECTL)
"""The programs of a release of Kubernetes that the cluster needs, and kubectl for its user."""
ETCD = "etcd"
NEEDED = ("bridge", "host-local", "loopback")
"""The CNI plugins that the cluster uses."""
PACKAGE = "containernetworking-plugins"
BUILT = "kube"

Url = Annotated[str, StringConstraints(pattern=r"^https?://[^\s]+[^/\s]$")]


class KubernetesRelease(Model):
    """Where the release of Kubernetes and that of etcd are, and their versions."""

    version: Version
    releases: Url = "https://dl.k8s.io"
    etcd: Version
    etcd_releases: Url = "https://github.com/etcd-io/etcd/releases/download"

    @property
    def name(self) -> str:
        """Name of the directory of the programs."""
        return f"kubernetes-{self.version}-etcd-{self.etcd}-release"


class ClusterPins(Pins):
    """The pin file of the cluster, `deployments/cluster.yaml`."""

    kubernetes: KubernetesRelease = Field(description="the official release, which is preferred to a build")


def ensure_programs(home: Home, pins: ClusterPins, progress: Progress) -> Programs:
    """Get the programs that are missing and return all.

    Raises `ToolMissing` or `ToolFailed` if a program cannot be obtained, and `DownloadFailed` on a wrong checksum.
    """
    home.tools.mkdir(parents=True, exist_ok=True)
    if missing := _missing_plugins():
        progress(f"CNI plugins that are missing: {', '.join(missing)}")
        install_apt_packages([PACKAGE], progress)
    others = {name: pin for name, pin in pins.tools.items() if name != BUILT}
    tools = Installer(home.tools, pins.model_copy(update={"tools": others})).ensure(progress)
    kubernetes = find_kubernetes(home, pins, progress)
    return Programs(
        kubernetes, tools["containerd"].path, tools["ctr"].path, tools["pause"].path, tools["kube-router"].path
    )


def _missing_plugins() -> list[str]:
    return [name for name in NEEDED if not (PLUGINS / name).exists()]


def find_missing(home: Home, pins: ClusterPins) -> tuple[str, ...]:
    """Return the names of the programs and CNI plugins that are missing or of another version."""
    wrong = {each.name for each in Toolbox(home.tools, pins).report() if not each.ok}
    if (home.tools / pins.kubernetes.name).is_dir():  # the release, which takes the place of a build
        wrong.discard(BUILT)
    return (*sorted(wrong), *_missing_plugins())


def find_kubernetes(home: Home, pins: ClusterPins, progress: Progress) -> dict[str, tuple[str, ...]]:
    """Return the beginning of the command line of each program: of the release if it can be reached, else built."""
    place = home.tools / pins.kubernetes.name
    builder = Installer(home.tools, pins.model_copy(update={"tools": {BUILT: pins.tools[BUILT]}}))
    if not place.is_dir():
        try:
            return _built(str(builder.find(BUILT).path))
        except ToolMissing:
            pass
        try:
            with download.make_client() as http:
                fetch_release(pins.kubernetes, place, http, progress)
        except download.Unavailable as error:
            progress(f"kubernetes: no release available ({error}); building it from source instead")
            progress("kubernetes: building it takes about 8 minutes on two cores, once for each version")
            return _built(str(builder.ensure(progress)[BUILT].path))
    return {name: (str(place / name),) for name in (*SERVERS, ETCD)}


def find_kubectl(home: Home, pins: ClusterPins) -> tuple[str, ...]:
    """Return the beginning of kubectl's command line; raise `ToolMissing` if the cluster was never started."""
    release = home.tools / pins.kubernetes.name / KUBECTL
    if release.exists():
        return (str(release),)
    try:
        return (str(Toolbox(home.tools, pins).find(BUILT).path), KUBECTL)
    except ToolMissing as error:
        raise ToolMissing("kubectl is not on this machine yet.\nRun `cscm cluster up`, which gets it.") from error


def _built(program: str) -> dict[str, tuple[str, ...]]:
    return {name: (program, name) for name in (*SERVERS, ETCD)}


def fetch_release(release: KubernetesRelease, place: Path, http: httpx.Client, progress: Progress) -> None:
    """Download all programs of a release, each checked against its checksum, and move them to `place` together.

    Raises `Unavailable` if the release cannot be reached, and `DownloadFailed` on a wrong checksum. A later call
    continues an interrupted download.
    """
    parts = place.with_name(f".{place.name}.part")
    base = f"{release.releases}/v{release.version}/bin/linux/{read_architecture()}"
    for name in SERVERS:
        if not (parts / name).exists():
            progress(f"kubernetes: downloading {base}/{name}")
            listed = _checksum(download.fetch_text(http, f"{base}/{name}.sha256"), f"{base}/{name}.sha256")
            parts.mkdir(parents=True, exist_ok=True)
            download.fetch_file(http, f"{base}/{name}", parts / name, listed, progress)
    if not (parts / ETCD).exists():
        _fetch_etcd(release, parts, http, progress)
    for name in (*SERVERS, ETCD):
        (parts / name).chmod(0o755)
        download.sync(parts / name)
    shutil.rmtree(place, ignore_errors=True)
    parts.rename(place)


def _fetch_etcd(release: KubernetesRelease, parts: Path, http: httpx.Client, progress: Progress) -> None:
    base = f"{release.etcd_releases}/v{release.etcd}"
    archive = f"etcd-v{release.etcd}-linux-{read_architecture()}.tar.gz"
    progress(f"kubernetes: downloading {base}/{archive}")
    listed = download.find_checksum(archive, download.fetch_text(http, f"{base}/SHA256SUMS"))
    download.fetch_file(http, f"{base}/{archive}", parts / archive, listed, progress)
    download.unpack(parts / archive, ETCD, parts / f"{ETCD}.new")
    (parts / f"{ETCD}.new").rename(parts / ETCD)
    (parts / archive).unlink()


def _checksum(text: str, url: str) -> str:
    """Return the checksum in a file that has nothing else, or also the name of the program."""
    digest = text.split(maxsplit=1)[0].lower() if text.split() else ""
    if not re.fullmatch(r"[0-9a-f]{64}", digest):
        raise download.Unavailable(f"{url} has no SHA-256")
    return digest
