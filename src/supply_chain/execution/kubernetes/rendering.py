"""The objects of an application in a cluster, from its declaration and its environment. Pure."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from supply_chain.errors import SettingInvalid
from supply_chain.execution.configured import ConfiguredService
from supply_chain.execution.environment import KubernetesEnvironment, KubernetesPlacement
from supply_chain.execution.kubernetes.autoscaling import render_scaling
from supply_chain.execution.kubernetes.cluster import (
    AUTOSCALERS,
    CONFIG_MAPS,
    DEPLOYMENTS,
    DISRUPTION_BUDGETS,
    NETWORK_POLICIES,
    SERVICE_ACCOUNTS,
    SERVICES,
    Document,
    Kind,
)
from supply_chain.execution.kubernetes.placement import render_tolerations
from supply_chain.execution.nodes import NodeRequirement, compute_required_nodes
from supply_chain.model.container import (
    APPLICATION,
    CONFIGURATION,
    DIGEST,
    ENVIRONMENT,
    MANAGED,
    ROLE,
    RUN,
    Profile,
    make_slug,
)
from supply_chain.model.declaration import Classification, Runtime, Service
from supply_chain.model.image import ImageRef

CONTAINER = "application"
"""The name of the container in a pod."""
DRAIN = 5
"""Seconds for which a pod that ends still answers, so that every node has learned to send it nothing more."""
LONGEST_GRACE = 60 + DRAIN
"""The most seconds that a pod has to end: the longest `stop_timeout`, and this."""
SCHEDULING = 60
"""Seconds for placing a pod and pulling its image, beyond the probe's start timeout."""
CPU_REQUEST = 10
"""The part of its processors (one tenth) that the scheduler reserves for a pod."""
REVISIONS = 5
DENY_ALL = "cscm-deny-all"
DNS_PORT = 53
LONGEST = 50
"""Characters of a name, so that the names that Kubernetes derives from it fit."""
LABEL = re.compile(rf"[a-z](?:[a-z0-9-]{{0,{LONGEST - 2}}}[a-z0-9])?")


def make_object_name(application: str) -> str:
    """Return the name of an application's objects: a DNS label (RFC 1035) that is unique per application."""
    name = make_slug(application)
    if LABEL.fullmatch(name):
        return name
    plain = re.sub(r"[^a-z0-9]+", "-", application.lower()).strip("-")[: LONGEST - 11].rstrip("-")
    return f"app-{plain}-{hashlib.sha256(application.encode()).hexdigest()[:6]}"


@dataclass(frozen=True)
class Workload(ConfiguredService):
    """An application at a digest in an environment. `run_id` is set if its pods are replaced in any case."""

    declaration: Service
    ref: ImageRef
    environment: KubernetesEnvironment
    registry: str
    run_id: str = ""

    @property
    def name(self) -> str:
        """The name of its objects."""
        return make_object_name(self.declaration.name)

    @property
    def placement(self) -> KubernetesPlacement:
        """Its pods and configuration in the environment."""
        return self.environment.placement(self.declaration.name)

    @property
    def nodes(self) -> NodeRequirement:
        """What it requires of its nodes."""
        return compute_required_nodes(self.environment.nodes, self.declaration)

    @property
    def node_selector(self) -> dict[str, str]:
        """The labels of nodes on which its pods run."""
        system, _, architecture = self.declaration.build.platform.partition("/")
        return {**self.nodes.labels, "kubernetes.io/os": system, "kubernetes.io/arch": architecture}

    @property
    def least_pods(self) -> int | None:
        """The least number of its pods if an autoscaler changes it, otherwise None."""
        return self.placement.autoscaling.minimum if self.placement.autoscaling else None

    @property
    def pods(self) -> int:
        """The number of pods with which it begins."""
        return self.least_pods or self.placement.replicas

    @property
    def deadline(self) -> int:
        """Seconds within which each new pod has to become ready."""
        return self.declaration.probe.start_timeout + SCHEDULING

    @property
    def selector(self) -> dict[str, str]:
        """The labels by which its pods are found."""
        return {APPLICATION: self.name, ENVIRONMENT: self.environment.name, ROLE: "application"}

    @property
    def config_map(self) -> str:
        """The name of its settings, which is another one for other settings."""
        return f"{self.name}-{self.configuration.removeprefix('sha256:')[:10]}"


def check_supported(workload: Workload) -> None:
    """Raise `SettingInvalid` if a cluster cannot run the application as it is declared."""
    declaration, where = workload.declaration, workload.environment.name
    if declaration.classification is Classification.CONFIDENTIAL:
        raise SettingInvalid(
            f"{declaration.name} is confidential, and {where} is in a cluster, whose nodes pull images in plain: the "
            "grant on its key would protect nothing.\nDeploy it to an environment with `target: docker`."
        )
    if declaration.runtime.init:
        raise SettingInvalid(
            f"{declaration.name} declares `runtime.init`, and {where} is in a cluster, whose pods have no init "
            "process.\nMake the program end on SIGTERM and remove `init`, or put an init process into its image."
        )


def render(workload: Workload) -> tuple[tuple[Kind, Document], ...]:
    """Return the objects of an application, in the order in which they are applied.

    Raises `SettingInvalid` if the application has no place in the environment, or if a cluster cannot run it.
    """
    workload.environment.placement(workload.declaration.name)
    check_supported(workload)
    return (
        (SERVICE_ACCOUNTS, _service_account(workload)),
        (CONFIG_MAPS, _config_map(workload)),
        (NETWORK_POLICIES, _deny_all(workload)),
        (NETWORK_POLICIES, _network_policy(workload)),
        (SERVICES, _service(workload)),
        (DISRUPTION_BUDGETS, _disruption_budget(workload)),
        (DEPLOYMENTS, _deployment(workload)),
        *_autoscaler(workload),
    )


def _object(kind: Kind, name: str, workload: Workload, labels: Mapping[str, str], **content: Any) -> Document:
    return {
        "apiVersion": kind.api_version,
        "kind": kind.name,
        "metadata": {
            "name": name,
            "namespace": workload.environment.namespace,
            "labels": {MANAGED: "true", **labels},
        },
        **content,
    }


def _service_account(workload: Workload) -> Document:
    """Return the identity of the pods, which has no token for the cluster's API."""
    return _object(
        SERVICE_ACCOUNTS, workload.name, workload, workload.selector, automountServiceAccountToken=False
    )  # fmt: skip


def _config_map(workload: Workload) -> Document:
    return _object(
        CONFIG_MAPS, workload.config_map, workload, workload.selector, data=workload.settings, immutable=True
    )  # fmt: skip


def _deny_all(workload: Workload) -> Document:
    """Return the policy without which a pod of the namespace that no other policy selects could reach everything."""
    labels = {ENVIRONMENT: workload.environment.name}
    spec = {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    return _object(NETWORK_POLICIES, DENY_ALL, workload, labels, spec=spec)


def _network_policy(workload: Workload) -> Document:
    """Return what the pods may reach, and who reaches them: the environment, as on a container host, and DNS."""
    probe = {"port": workload.declaration.probe.port, "protocol": "TCP"}
    ports = [probe, *({"port": port, "protocol": "TCP"} for port in workload.declaration.runtime.ports)]
    ingress: list[dict[str, Any]] = [{"from": [{"podSelector": {}}], "ports": ports}]
    if workload.placement.reached_from:
        ingress.append({"from": [_namespace(name) for name in workload.placement.reached_from], "ports": [probe]})
    dns = {**_namespace("kube-system"), "podSelector": {"matchLabels": {"k8s-app": "kube-dns"}}}
    lookups = [{"port": DNS_PORT, "protocol": protocol} for protocol in ("UDP", "TCP")]
    spec = {
        "podSelector": {"matchLabels": workload.selector},
        "policyTypes": ["Ingress", "Egress"],
        "ingress": ingress,
        "egress": [{"to": [{"podSelector": {}}]}, {"to": [dns], "ports": lookups}],
    }
    return _object(NETWORK_POLICIES, workload.name, workload, workload.selector, spec=spec)


def _namespace(name: str) -> dict[str, Any]:
    return {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": name}}}


def _service(workload: Workload) -> Document:
    numbers = (workload.declaration.probe.port, *workload.declaration.runtime.ports)
    ports = [{"name": f"p{port}", "port": port, "targetPort": port, "protocol": "TCP"} for port in numbers]
    spec = {"selector": workload.selector, "ports": ports, "type": "ClusterIP"}
    return _object(SERVICES, workload.name, workload, workload.selector, spec=spec)


def _disruption_budget(workload: Workload) -> Document:
    spec = {
        "maxUnavailable": 1,
        "selector": {"matchLabels": workload.selector},
        "unhealthyPodEvictionPolicy": "AlwaysAllow",
    }
    return _object(DISRUPTION_BUDGETS, workload.name, workload, workload.selector, spec=spec)


def _autoscaler(workload: Workload) -> list[tuple[Kind, Document]]:
    if (autoscaling := workload.placement.autoscaling) is None:
        return []
    spec = render_scaling(autoscaling, workload.name, workload.profile.cpu)
    return [(AUTOSCALERS, _object(AUTOSCALERS, workload.name, workload, workload.selector, spec=spec))]


def _deployment(workload: Workload) -> Document:
    """Return the Deployment; an autoscaler sets the number of its pods, if there is one."""
    annotations = {APPLICATION: workload.declaration.name, DIGEST: workload.ref.digest,
                   CONFIGURATION: workload.configuration}  # fmt: skip
    if workload.run_id:
        annotations[RUN] = workload.run_id
    spec = {
        **({} if workload.placement.autoscaling else {"replicas": workload.placement.replicas}),
        "selector": {"matchLabels": workload.selector},
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": "25%"}},
        "minReadySeconds": 1,
        "progressDeadlineSeconds": workload.deadline,
        "revisionHistoryLimit": REVISIONS,
        "template": {
            "metadata": {"labels": {MANAGED: "true", **workload.selector}, "annotations": annotations},
            "spec": _pod(workload),
        },
    }
    return _object(DEPLOYMENTS, workload.name, workload, workload.selector, spec=spec)


def _pod(workload: Workload) -> dict[str, Any]:
    """Return the pod, within Pod Security `restricted` unless the declaration adds capabilities that this forbids."""
    spread = [
        {
            "maxSkew": 1,
            "topologyKey": key,
            "whenUnsatisfiable": "ScheduleAnyway",
            "labelSelector": {"matchLabels": workload.selector},
        }
        for key in ("kubernetes.io/hostname", "topology.kubernetes.io/zone")
    ]
    return {
        "serviceAccountName": workload.name,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "nodeSelector": workload.node_selector,
        "tolerations": render_tolerations(workload.nodes),
        "topologySpreadConstraints": spread,
        "terminationGracePeriodSeconds": workload.declaration.probe.stop_timeout + DRAIN,
        "securityContext": render_pod_security(workload.declaration.runtime),
        "containers": [_container(workload)],
        "volumes": [{"name": name, "emptyDir": {"medium": "Memory"}} for name, _ in _writable(workload)],
    }


def render_pod_security(runtime: Runtime) -> dict[str, Any]:
    """Return the security context of a pod."""
    return {
        "runAsNonRoot": True,
        "runAsUser": runtime.uid,
        "runAsGroup": runtime.uid,
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def render_container_security(runtime: Runtime) -> dict[str, Any]:
    """Return the security context of a container."""
    added = {"add": sorted(runtime.capabilities)} if runtime.capabilities else {}
    return {
        "allowPrivilegeEscalation": False,
        "privileged": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"], **added},
    }


def _container(workload: Workload) -> dict[str, Any]:
    runtime, probe = workload.declaration.runtime, workload.declaration.probe
    request = {"path": probe.path, "port": probe.port, "scheme": "HTTP"}
    secrets = [
        {"name": name, "valueFrom": {"secretKeyRef": {"name": value.secret, "key": value.key}}}
        for name, value in sorted(workload.placement.secrets.items())
    ]
    return {
        "name": CONTAINER,
        "image": f"{workload.registry}/{workload.ref.repository}@{workload.ref.digest}",
        "imagePullPolicy": "IfNotPresent",
        "envFrom": [{"configMapRef": {"name": workload.config_map}}],
        "env": secrets,
        "ports": [{"containerPort": port, "protocol": "TCP"} for port in (probe.port, *runtime.ports)],
        "startupProbe": {
            "httpGet": request, "periodSeconds": 1, "timeoutSeconds": 2, "failureThreshold": probe.start_timeout,
        },
        "readinessProbe": {"httpGet": request, "periodSeconds": 2, "timeoutSeconds": 2, "failureThreshold": 2},
        "lifecycle": {"preStop": {"sleep": {"seconds": DRAIN}}},
        "resources": _resources(workload.profile),
        "securityContext": render_container_security(runtime),
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [{"name": name, "mountPath": path} for name, path in _writable(workload)],
    }  # fmt: skip


def _resources(profile: Profile) -> dict[str, Any]:
    """Return limits and requests; the number of processes is a setting of the node, not of a pod."""
    millis = round(profile.cpu * 1000)
    return {
        "limits": {"cpu": f"{millis}m", "memory": str(profile.memory)},
        "requests": {"cpu": f"{max(1, millis // CPU_REQUEST)}m", "memory": str(profile.memory)},
    }


def _writable(workload: Workload) -> list[tuple[str, str]]:
    return [(f"writable-{number}", path) for number, path in enumerate(workload.profile.writable)]
