"""What Pod Security refuses of workloads that are there.

The API server itself says it about the template of a pod, which starts nothing: it warns of what violates `restricted`
in a namespace with enforcement of any mode. Of a workload, only what Pod Security judges is tried.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from supply_chain.errors import ClusterRefused
from supply_chain.execution.enforcement.policies import CONTAINER_DEFAULTS, POD_DEFAULTS
from supply_chain.execution.kubernetes.cluster import CONTAINERS, POD_TEMPLATES, Document, Kind
from supply_chain.execution.kubernetes.workloads import read_pod
from supply_chain.text import summarize_error

NAME = "cscm-trial-security"
NO_IMAGE = "none"
"""An image for trials in a namespace that admits none."""
VIOLATES = "would violate PodSecurity"
"""How the API server (1.37) warns."""
OF_PODS = ("hostIPC", "hostNetwork", "hostPID", "hostUsers", "os")
OF_CONTAINERS = ("lifecycle", "livenessProbe", "name", "ports", "readinessProbe", "restartPolicy", "startupProbe")


class WarningCluster(Protocol):
    """An API server that warns, as `AdmissionCluster` describes."""

    def list_warnings(self, kind: Kind, document: Document) -> Sequence[str]:
        """Return the warnings with which the API server would make an object; it stores nothing."""


def make_trial(kind: str, workload: Document, image: str, namespace: str) -> Document:
    """Return a template of the pods of a workload as they get the hardened profile, with one image for all containers.

    Pods of one controller have the same. Ephemeral containers, which a template cannot have, are among the others.
    """
    pod = read_pod(kind, workload)
    spec = {key: pod[key] for key in OF_PODS if key in pod}
    spec["securityContext"] = {**POD_DEFAULTS, **(pod.get("securityContext") or {})}
    spec["volumes"] = [_make_volume(number, each, image) for number, each in enumerate(pod.get("volumes") or ())]
    containers, initial, ephemeral = (
        [_make_container(each, image) for each in pod.get(key) or ()] for key in CONTAINERS
    )
    spec |= {"containers": [*containers, *ephemeral], "initContainers": initial}
    return {
        "apiVersion": POD_TEMPLATES.api_version,
        "kind": POD_TEMPLATES.name,
        "metadata": {"name": NAME, "namespace": namespace},
        "template": {"spec": spec},
    }


def _make_container(container: Mapping[str, Any], image: str) -> Document:
    security = {**CONTAINER_DEFAULTS, **(container.get("securityContext") or {})}
    judged = {key: container[key] for key in OF_CONTAINERS if key in container}
    return {**judged, "image": image, "securityContext": security}


def _make_volume(number: int, volume: Mapping[str, Any], image: str) -> Document:
    """Return a volume with a name that does not depend on the pod."""
    own = {"image": {**volume["image"], "reference": image}} if "image" in volume else {}
    return {**volume, **own, "name": f"v{number}"}


def try_template(cluster: WarningCluster, trial: Document) -> str:
    """Return why the API server would not run the pods of a template; empty if it would."""
    try:
        warnings = cluster.list_warnings(POD_TEMPLATES, trial)
    except ClusterRefused as error:
        return summarize_error(error)
    return "; ".join(each for each in warnings if VIOLATES in each)
