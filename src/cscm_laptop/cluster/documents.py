"""The configuration files of the node: containerd, CNI, kubelet, kube-proxy, and how images are pulled.

JSON is also YAML, so that the documents of Kubernetes are written as JSON. See the references "KubeletConfiguration",
"KubeProxyConfiguration" and "CredentialProviderConfig" of Kubernetes, and containerd's docs/cri/config.md.
"""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import Any

from cscm_laptop.cluster.certificates import CLUSTER
from cscm_laptop.cluster.place import NODE, Place
from cscm_laptop.cluster.settings import ClusterSettings
from cscm_laptop.ports import HOST
from supply_chain.scratch import write_private

PLUGINS = Path("/usr/lib/cni")
"""Where Debian's containernetworking-plugins are."""
PROVIDER = "cscm-ecr"
"""Name of the credential provider and of its executable."""
CACHE = "6h"
"""How long the kubelet uses a token of ECR, which is valid for 12 hours."""
PODS = 60
"""Most pods of the node."""
RESERVED = "2Gi"
"""Memory that pods do not get, because the rest of the laptop needs it."""


def render_containerd_config(place: Place, pause: str) -> str:
    """Return containerd's settings (TOML); all its files are in the cluster's directory.

    `pause` is the image of each pod's first process. The node must work where nobody may lower a process's
    `oom_score_adj` (without CAP_SYS_RESOURCE), and with cgroups that systemd does not manage.
    """
    unused = ("btrfs", "zfs", "devmapper", "aufs")
    disabled = [f"io.containerd.snapshotter.v1.{name}" for name in unused]
    disabled += ["io.containerd.internal.v1.tracing", "io.containerd.tracing.processor.v1.otlp"]
    return f"""\
version = 2
root = {_toml(place.state / "containerd")}
state = {_toml(place.run / "containerd")}
disabled_plugins = {json.dumps(disabled)}

[grpc]
address = {_toml(place.socket)}

[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = {_toml(pause)}
restrict_oom_score_adj = true
netns_mounts_under_state_dir = true
stream_server_address = "{HOST}"
max_container_log_line_size = 65536

[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = {_toml(PLUGINS)}
conf_dir = {_toml(place.settings / "cni")}

[plugins."io.containerd.grpc.v1.cri".containerd]
snapshotter = "overlayfs"
default_runtime_name = "runc"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
Root = {_toml(place.run / "runc")}
SystemdCgroup = false

[plugins."io.containerd.grpc.v1.cri".registry]
config_path = {_toml(place.settings / "registries")}
"""


def _toml(value: Path | str) -> str:
    return json.dumps(str(value), ensure_ascii=False)  # a JSON string is a TOML string


def render_registry_config(registry: str) -> str:
    """Return how containerd pulls from the laptop's registry: by plain HTTP, and never by way of another server."""
    url = f"http://{registry}"
    return f'server = "{url}"\n\n[host."{url}"]\ncapabilities = ["pull", "resolve"]\n'


def make_cni_config(place: Place, settings: ClusterSettings) -> dict[str, Any]:
    """Return the pods' network: a bridge on which the node has the first address.

    What the firewall lets through is not here but in `host.FORWARDED`, so that it can be removed exactly.
    """
    ranges = [[{"subnet": str(settings.pods), "gateway": settings.node_address}]]
    bridge = {
        "type": "bridge",
        "bridge": settings.bridge,
        "isGateway": True,
        "ipMasq": False,
        "hairpinMode": True,
        "ipam": {
            "type": "host-local",
            "dataDir": str(place.run / "addresses"),
            "ranges": ranges,
            "routes": [{"dst": "0.0.0.0/0"}],
        },
    }
    return {"cniVersion": "1.0.0", "name": place.name, "plugins": [bridge]}


def make_kubelet_config(place: Place, settings: ClusterSettings) -> dict[str, Any]:
    """Return the kubelet's settings.

    It manages no rules of iptables, evicts late because the disk is shared, and puts pods into a cgroup of our own.
    """
    authentication = {
        "anonymous": {"enabled": False},
        "webhook": {"enabled": True},
        "x509": {"clientCAFile": str(place.keys / f"{CLUSTER}.crt")},
    }
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": settings.node_address,
        "port": settings.port("kubelet"),
        "healthzBindAddress": HOST,
        "healthzPort": settings.port("kubelet-health"),
        "authentication": authentication,
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": str(place.keys / "kubelet-server.crt"),
        "tlsPrivateKeyFile": str(place.keys / "kubelet-server.key"),
        "containerRuntimeEndpoint": f"unix://{place.socket}",
        "failCgroupV1": False,
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{place.name}",
        "failSwapOn": False,
        "oomScoreAdj": 0,
        "makeIPTablesUtilChains": False,
        "clusterDNS": [],
        "clusterDomain": "cluster.local",
        "maxPods": PODS,
        "podPidsLimit": 512,
        "systemReserved": {"memory": RESERVED},
        "evictionHard": {"memory.available": "200Mi", "nodefs.available": "3%", "imagefs.available": "3%"},
        "imageGCHighThresholdPercent": 100,
        "serializeImagePulls": False,
        "nodeStatusUpdateFrequency": "5s",
        "podLogsDir": str(place.log / "pods"),
        "volumePluginDir": str(place.state / "volume-plugins"),
    }


def make_proxy_config(place: Place, settings: ClusterSettings) -> dict[str, Any]:
    """Return the settings of kube-proxy: its rules are a table of nftables, apart from those of the engine."""
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "nftables",
        "clientConnection": {"kubeconfig": str(place.keys / "proxy.kubeconfig")},
        "clusterCIDR": str(settings.pods),
        "bindAddress": HOST,
        "healthzBindAddress": f"{HOST}:{settings.port('proxy-health')}",
        "metricsBindAddress": f"{HOST}:{settings.port('proxy-metrics')}",
        "nodePortAddresses": [str(settings.pods)],
        "hostnameOverride": NODE,
        "conntrack": {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
        "nftables": {"syncPeriod": "30s", "minSyncPeriod": "100ms"},
    }


def make_provider_config(registry: str) -> dict[str, Any]:
    """Return for which images the kubelet asks our credential provider."""
    provider = {
        "name": PROVIDER,
        "apiVersion": "credentialprovider.kubelet.k8s.io/v1",
        "matchImages": [registry],
        "defaultCacheDuration": CACHE,
    }
    return {
        "apiVersion": "kubelet.config.k8s.io/v1",
        "kind": "CredentialProviderConfig",
        "providers": [provider],
    }


def render_provider_program(sources: Path, state: Path) -> str:
    """Return the executable that the kubelet calls for credentials; `state` is the file of the laptop's state."""
    command = [sys.executable, "-m", "cscm_laptop.cluster.ecr_credentials", str(state)]
    return f"#!/bin/sh\nPYTHONPATH={shlex.quote(str(sources))} exec {shlex.join(command)}\n"


def write_documents(
    place: Place, settings: ClusterSettings, registry: str, pause: str, provider: str
) -> dict[str, str]:
    """Write the configuration files that changed; return the contents of all by path.

    `provider` is the credential provider. kube-proxy ends when its file is written, even with the same content.
    """
    documents = {
        "containerd.toml": render_containerd_config(place, pause),
        "cni/10-cscm.conflist": _json(make_cni_config(place, settings)),
        "kubelet.yaml": _json(make_kubelet_config(place, settings)),
        "proxy.yaml": _json(make_proxy_config(place, settings)),
        "credentials.yaml": _json(make_provider_config(registry)),
        f"registries/{registry}/hosts.toml": render_registry_config(registry),
        f"providers/{PROVIDER}": provider,
    }
    for name, content in documents.items():
        file = place.settings / name
        if not file.exists() or file.read_text(encoding="utf-8") != content:
            write_private(file, content)
    (place.settings / "providers" / PROVIDER).chmod(0o700)
    return documents


def _json(document: dict[str, Any]) -> str:
    return json.dumps(document, indent=2) + "\n"
