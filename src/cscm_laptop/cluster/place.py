"""Where the cluster's files are: one directory in the laptop's home."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cscm_laptop.home import Home

NODE = "laptop"
KUBECONFIG = "keys/admin.kubeconfig"
"""Path of the administrator's kubeconfig in the cluster's directory."""


@dataclass(frozen=True)
class Place:
    """The cluster's directory, and the owner by which what it makes on the host differs from what others make."""

    directory: Path
    owner: str

    @classmethod
    def of(cls, home: Home) -> Place:
        """Return the place of a home's cluster."""
        return cls(home.cluster, home.owner)

    @property
    def name(self) -> str:
        """Name of the pods' network and of their cgroup."""
        return f"cscm-{self.owner}"

    @property
    def keys(self) -> Path:
        """Directory of keys, certificates and kubeconfigs."""
        return self.directory / "keys"

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig."""
        return self.directory / KUBECONFIG

    @property
    def settings(self) -> Path:
        """Directory of the components' configuration files."""
        return self.directory / "settings"

    @property
    def state(self) -> Path:
        """Directory of what survives `down`: etcd's data, images, the kubelet's files."""
        return self.directory / "state"

    @property
    def run(self) -> Path:
        """Directory of what ends with the node: pid files, sockets, namespaces of pods."""
        return self.directory / "run"

    @property
    def log(self) -> Path:
        """Directory of the logs, one for each component, and of the pods' logs."""
        return self.directory / "log"

    @property
    def socket(self) -> Path:
        """Socket of the node's containerd."""
        return self.run / "containerd.sock"

    @property
    def host_record(self) -> Path:
        """File with what the host was like before `up` changed it; it exists until `down` has restored that."""
        return self.directory / "host.json"
