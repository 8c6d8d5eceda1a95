"""The components of the cluster as background services: their programs, arguments and how to find out if they work."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from cscm_laptop.cluster.api import ClusterApi
from cscm_laptop.cluster.certificates import CLUSTER, ETCD
from cscm_laptop.cluster.host import enforces_policies
from cscm_laptop.cluster.place import NODE, Place
from cscm_laptop.cluster.settings import ClusterSettings
from cscm_laptop.firewall import PLACES
from cscm_laptop.ports import HOST, answers, is_listening, is_served
from cscm_laptop.services import Service

SETTING = "cluster.first_port in the profile (deployments/profiles/laptop.yaml)"
CONTROLLERS = (
    "clusterrole-aggregation-controller",
    "cronjob-controller",
    "daemonset-controller",
    "deployment-controller",
    "disruption-controller",
    "endpointslice-controller",
    "garbage-collector-controller",
    "horizontal-pod-autoscaler-controller",
    "job-controller",
    "namespace-controller",
    "node-lifecycle-controller",
    "pod-garbage-collector-controller",
    "replicaset-controller",
    "resourcequota-controller",
    "root-ca-certificate-publisher-controller",
    "service-cidr-controller",
    "serviceaccount-controller",
    "statefulset-controller",
    "taint-eviction-controller",
    "ttl-after-finished-controller",
    "validatingadmissionpolicy-status-controller",
)
"""The controllers that run. The others are for clouds, volumes and more than one node."""
NO_PROXY = dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"), "")
"""The components only talk to each other; containerd alone may need a proxy, for other registries."""


@dataclass(frozen=True)
class Programs:
    """The programs of the cluster; `kubernetes` has the beginning of the command line of each program of Kubernetes."""

    kubernetes: Mapping[str, tuple[str, ...]]
    containerd: Path
    ctr: Path
    pause: Path
    router: Path


@dataclass(frozen=True)
class Components:
    """Makes the service of each component. `changes` is a text for each component that restarts it if it changes."""

    place: Place
    settings: ClusterSettings
    programs: Programs
    changes: Mapping[str, str]

    @property
    def api(self) -> ClusterApi:
        """The API server."""
        return ClusterApi(self.place.keys, self.settings.node_address, self.settings.port("api"))

    def containerd(self) -> Service:
        """Return the node's own containerd, which shares nothing with the container engine's."""
        return self._service(
            "containerd",
            (str(self.programs.containerd), "--config", str(self.place.settings / "containerd.toml")),
            ready=lambda: is_served(self.place.socket),
            environment={"PATH": search_path()},
        )

    def etcd(self) -> Service:
        """Return etcd; both of its ports demand a certificate of etcd's authority, because it holds every secret."""
        keys, port, peer = self.place.keys, self.settings.port("etcd"), self.settings.port("etcd-peer")
        client_url, peer_url = f"https://{HOST}:{port}", f"https://{HOST}:{peer}"
        files = {"cert-file": keys / "etcd.crt", "key-file": keys / "etcd.key", "trusted-ca-file": keys / f"{ETCD}.crt"}
        options = {
            "name": NODE,
            "data-dir": self.place.state / "etcd",
            "listen-client-urls": client_url,
            "advertise-client-urls": client_url,
            "listen-peer-urls": peer_url,
            "initial-advertise-peer-urls": peer_url,
            "initial-cluster": f"{NODE}={peer_url}",
            "client-cert-auth": "true",
            "peer-client-cert-auth": "true",
            **files,
            **{f"peer-{name}": file for name, file in files.items()},
            "quota-backend-bytes": 2 * 1024**3,
            "log-level": "warn",
        }
        return self._kubernetes("etcd", "etcd", options, port=port, ready=lambda: is_listening(port))

    def apiserver(self) -> Service:
        """Return the API server; pods reach it at the node's address, and nobody is anonymous."""
        keys, settings = self.place.keys, self.settings
        options = {
            "etcd-servers": f"https://{HOST}:{settings.port('etcd')}",
            "etcd-cafile": keys / f"{ETCD}.crt",
            "etcd-certfile": keys / "apiserver-etcd.crt",
            "etcd-keyfile": keys / "apiserver-etcd.key",
            "bind-address": settings.node_address,
            "advertise-address": settings.node_address,
            "secure-port": settings.port("api"),
            "tls-cert-file": keys / "apiserver.crt",
            "tls-private-key-file": keys / "apiserver.key",
            "client-ca-file": keys / f"{CLUSTER}.crt",
            "kubelet-certificate-authority": keys / f"{CLUSTER}.crt",
            "kubelet-client-certificate": keys / "apiserver-kubelet.crt",
            "kubelet-client-key": keys / "apiserver-kubelet.key",
            "kubelet-preferred-address-types": "InternalIP",
            "service-account-issuer": "https://kubernetes.default.svc",
            "service-account-key-file": keys / "tokens.pub",
            "service-account-signing-key-file": keys / "tokens.key",
            "service-cluster-ip-range": settings.services,
            "service-node-port-range": settings.node_ports,
            "authorization-mode": "Node,RBAC",
            "enable-admission-plugins": "NodeRestriction",
            "anonymous-auth": "false",
            "allow-privileged": "false",
            "profiling": "false",
        }
        return self._kubernetes("apiserver", "kube-apiserver", options, ready=self.api.is_ready)

    def controllers(self) -> Service:
        """Return the controller manager. A name that it does not know would stop it."""
        keys, port = self.place.keys, self.settings.port("controllers")
        options = {
            **self._control("controllers", port),
            "service-account-private-key-file": keys / "tokens.key",
            "root-ca-file": keys / f"{CLUSTER}.crt",
            "use-service-account-credentials": "true",
            "controllers": ",".join(CONTROLLERS),
        }
        return self._kubernetes(
            "controllers", "kube-controller-manager", options, port=port, ready=lambda: is_listening(port)
        )

    def scheduler(self) -> Service:
        """Return the scheduler."""
        port = self.settings.port("scheduler")
        options = self._control("scheduler", port)
        return self._kubernetes("scheduler", "kube-scheduler", options, port=port, ready=lambda: is_listening(port))

    def kubelet(self) -> Service:
        """Return the node's kubelet, with our credential provider for the laptop's registry."""
        settings, port = self.place.settings, self.settings.port("kubelet-health")
        options = {
            "config": settings / "kubelet.yaml",
            "kubeconfig": self.place.keys / "kubelet.kubeconfig",
            "root-dir": self.place.state / "kubelet",
            "cert-dir": self.place.keys,
            "hostname-override": NODE,
            "node-ip": self.settings.node_address,
            "image-credential-provider-config": settings / "credentials.yaml",
            "image-credential-provider-bin-dir": settings / "providers",
        }
        return self._kubernetes("kubelet", "kubelet", options, port=port, ready=lambda: answers(port, "/healthz"))

    def proxy(self) -> Service:
        """Return kube-proxy."""
        port = self.settings.port("proxy-health")
        options = {"config": self.place.settings / "proxy.yaml"}
        return self._kubernetes("proxy", "kube-proxy", options, port=port, ready=lambda: answers(port, "/healthz"))

    def policies(self) -> Service:
        """Return the part of kube-router that enforces NetworkPolicies; the node has to be registered."""
        options = {
            "run-firewall": "true",
            "run-router": "false",
            "run-service-proxy": "false",
            "run-loadbalancer": "false",
            "kubeconfig": self.place.kubeconfig,
            "hostname-override": NODE,
            "service-cluster-ip-range": self.settings.services,
            "service-node-port-range": self.settings.node_ports,
            "health-port": 0,
            "metrics-port": 0,
        }
        argv = (str(self.programs.router), *_arguments(options))
        environment = {**NO_PROXY, "PATH": search_path()}
        return self._service("policies", argv, ready=enforces_policies, environment=environment)

    def all(self) -> tuple[Service, ...]:
        """Return all services, in the order in which they need each other."""
        control = (self.etcd(), self.apiserver(), self.controllers(), self.scheduler())
        return (self.containerd(), *control, self.kubelet(), self.proxy(), self.policies())

    def _control(self, client: str, port: int) -> dict[str, object]:
        return {
            "kubeconfig": self.place.keys / f"{client}.kubeconfig",
            "bind-address": HOST,
            "secure-port": port,
            "leader-elect": "false",
            "profiling": "false",
        }

    def _kubernetes(
        self,
        name: str,
        program: str,
        options: Mapping[str, object],
        *,
        port: int | None = None,
        ready: Callable[[], bool],
    ) -> Service:
        argv = (*self.programs.kubernetes[program], *_arguments(options))
        return self._service(name, argv, ready=ready, port=port, environment={**NO_PROXY, "PATH": search_path()})

    def _service(
        self,
        name: str,
        argv: tuple[str, ...],
        *,
        ready: Callable[[], bool],
        environment: Mapping[str, str],
        port: int | None = None,
    ) -> Service:
        return Service(
            name=name,
            argv=argv,
            log=self.place.log / f"{name}.log",
            pid_file=self.place.run / f"{name}.json",
            ready=ready,
            environment=environment,
            cwd=self.place.directory,
            port=port,
            setting=SETTING,
            changes=self.changes.get(name, ""),
        )


def _arguments(options: Mapping[str, object]) -> list[str]:
    return [f"--{option}={value}" for option, value in options.items()]


def search_path() -> str:
    """Return PATH with the directories in which an administrator finds runc, nft and ip."""
    return os.pathsep.join([os.environ.get("PATH", os.defpath), *PLACES])
