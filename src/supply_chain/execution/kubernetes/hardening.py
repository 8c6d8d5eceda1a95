"""How the pods of a manifest differ from the hardened profile of their application. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from pathlib import PurePosixPath
from typing import Any

from supply_chain.execution.kubernetes.differences import find_differences
from supply_chain.model.container import Profile, make_profile
from supply_chain.model.declaration import ContainerCommand, Runtime

POD_FIELDS = frozenset({
    "affinity", "automountServiceAccountToken", "containers", "enableServiceLinks", "initContainers", "nodeSelector",
    "restartPolicy", "securityContext", "serviceAccountName", "terminationGracePeriodSeconds", "tolerations",
    "topologySpreadConstraints", "volumes",
})  # fmt: skip
CONTAINER_FIELDS = frozenset({
    "args", "command", "env", "envFrom", "image", "imagePullPolicy", "lifecycle", "livenessProbe", "name", "ports",
    "readinessProbe", "resources", "securityContext", "startupProbe", "terminationMessagePolicy", "volumeMounts",
})  # fmt: skip
ANNOTATIONS = (
    "checksum/",
    "kubectl.kubernetes.io/default-container",
    "kubectl.kubernetes.io/restartedAt",
    "prometheus.io/",
)
"""How the annotations of pods begin that manifests may use."""
LABELS = ("app.kubernetes.io/", "helm.sh/chart")
"""The same for labels with a prefix. Others without a prefix of a domain are allowed too."""
OWN = "cscm."
"""How labels and annotations begin that only the chain sets."""
VOLUMES = ("configMap", "emptyDir", "secret")
"""The fields of pods and containers, and the kinds of volumes, that manifests may use."""
QUANTITY = re.compile(r"(\d+(?:\.\d+)?)(m|k|Ki|M|Mi|G|Gi|)")
UNITS = {
    "m": Decimal("0.001"), "": Decimal(1), "k": Decimal(10**3), "M": Decimal(10**6), "G": Decimal(10**9),
    "Ki": Decimal(2**10), "Mi": Decimal(2**20), "Gi": Decimal(2**30),
}  # fmt: skip


def find_violations(template: Mapping[str, Any], hardened: Mapping[str, Any], runtime: Runtime) -> Iterator[str]:
    """Yield how the pods of a template may do more than is declared.

    `hardened` is the specification of the pod that the chain itself would make. What is not known to be harmless is a
    violation.
    """
    pod = template.get("spec") or {}
    yield from _find_in_metadata(template.get("metadata") or {})
    yield from (f"{key} is not allowed" for key in sorted(pod.keys() - POD_FIELDS))
    if pod.get("automountServiceAccountToken"):
        yield "automountServiceAccountToken has to be false"
    if pod.get("serviceAccountName", hardened["serviceAccountName"]) != hardened["serviceAccountName"]:
        yield f"serviceAccountName has to be {hardened['serviceAccountName']}"
    yield from _compare("securityContext", hardened["securityContext"], pod.get("securityContext"))
    yield from _find_volumes(pod)
    containers = list(pod.get("containers") or ())
    (hardened_container,) = hardened["containers"]
    for each in (*containers, *(pod.get("initContainers") or ())):
        name = each.get("name", "a container without a name")
        yield from (f"{name}: {violation}" for violation in _find_in_container(each, hardened_container, runtime, pod))
    yield from _find_excess(containers, pod.get("initContainers") or (), make_profile(runtime))


def _find_in_metadata(metadata: Mapping[str, Any]) -> Iterator[str]:
    """Yield annotations and labels of pods with which others may give these more: networks, roles, containers."""
    for key in sorted(metadata.get("annotations") or ()):
        if not key.startswith(ANNOTATIONS):
            yield f"template.metadata.annotations: {key} is not allowed"
    for key in sorted(metadata.get("labels") or ()):
        if key.startswith(OWN) or ("/" in key and not key.startswith(LABELS)):
            yield f"template.metadata.labels: {key} is not allowed"


def _find_volumes(pod: Mapping[str, Any]) -> Iterator[str]:
    for each in pod.get("volumes") or ():
        if kinds := sorted(each.keys() - {"name", *VOLUMES}):
            yield f"volume {each.get('name')}: {', '.join(kinds)} is not allowed"


def _find_in_container(
    container: Mapping[str, Any], hardened: Mapping[str, Any], runtime: Runtime, pod: Mapping[str, Any]
) -> Iterator[str]:
    yield from (f"{key} is not allowed" for key in sorted(container.keys() - CONTAINER_FIELDS))
    security = {"privileged": False, **(container.get("securityContext") or {})}
    capabilities = dict(security.get("capabilities") or {})
    if added := sorted(set(capabilities.pop("add", None) or ()) - set(runtime.capabilities)):
        yield f"the capabilities {', '.join(added)} are not declared"
    expected = {**hardened["securityContext"], "capabilities": {"drop": ["ALL"]}}
    yield from _compare("securityContext", expected, {**security, "capabilities": capabilities})
    yield from (f"ports: {key} is not allowed" for key in ("hostIP", "hostPort") if _has(container.get("ports"), key))
    yield from _find_hosts(container)
    yield from _find_commands(container, runtime)
    yield from _find_mounts(container, runtime, pod)


def _find_commands(container: Mapping[str, Any], runtime: Runtime) -> Iterator[str]:
    """Yield the programs that are not declared: of the container, of its probes and of its hooks."""
    if any(container.get(key) for key in ("command", "args")) and not _is_declared(container, runtime):
        yield "command and args are not among the declared `runtime.commands`"
    for name, handler in _list_handlers(container):
        if handler.get("exec") is not None and not _is_declared(handler["exec"], runtime):
            yield f"{name}: exec is not among the declared `runtime.commands`"


def _is_declared(container: Mapping[str, Any], runtime: Runtime) -> bool:
    command = {key: tuple(container.get(key) or ()) for key in ContainerCommand.model_fields}
    return any(each.model_dump() == command for each in runtime.commands)


def _find_mounts(container: Mapping[str, Any], runtime: Runtime, pod: Mapping[str, Any]) -> Iterator[str]:
    """Yield the volumes that are mounted where nothing is declared: they would hide files of the admitted image."""
    writable = {each["name"] for each in pod.get("volumes") or () if "emptyDir" in each}
    for mount in container.get("volumeMounts") or ():
        path = str(mount.get("mountPath"))
        if mount.get("name") in writable:
            if path not in runtime.writable:
                yield f"{path} is not declared as writable"
        elif not any(_is_at(path, each) for each in runtime.configuration_paths):
            yield f"{path} is not at or below one of the declared `runtime.configuration_paths`"


def _is_at(path: str, declared: str) -> bool:
    return PurePosixPath(path).is_relative_to(declared) and ".." not in PurePosixPath(path).parts


def _find_hosts(container: Mapping[str, Any]) -> Iterator[str]:
    """Yield the probes that ask a host: the node would send requests there."""
    for name, handler in _list_handlers(container):
        if any("host" in (handler.get(kind) or {}) for kind in ("httpGet", "tcpSocket")):
            yield f"{name}: host is not allowed"


def _list_handlers(container: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield the probes and hooks of a container, each with its name."""
    probes = {key: container.get(key) for key in ("livenessProbe", "readinessProbe", "startupProbe")}
    yield from ((key, each) for key, each in (*probes.items(), *(container.get("lifecycle") or {}).items()) if each)


def _find_excess(
    containers: Sequence[Mapping[str, Any]], initial: Sequence[Mapping[str, Any]], profile: Profile
) -> Iterator[str]:
    """Yield the limits that are missing or that are together more than declared."""
    for key, most in (("memory", Decimal(profile.memory)), ("cpu", Decimal(str(profile.cpu)))):
        limits = {each.get("name"): _quantity(each, key) for each in (*containers, *initial)}
        yield from (f"{name}: resources.limits.{key} is missing" for name, limit in limits.items() if limit is None)
        together = sum((limits[each.get("name")] or Decimal(0) for each in containers), Decimal(0))
        single = max((limits[each.get("name")] or Decimal(0) for each in initial), default=Decimal(0))
        if (used := max(together, single)) > most:
            yield f"resources.limits.{key} is {used:f}, and {most:f} is declared"


def _quantity(container: Mapping[str, Any], key: str) -> Decimal | None:
    """Return a limit of a container; None if it has none that is understood, or zero, which limits nothing."""
    text = str(((container.get("resources") or {}).get("limits") or {}).get(key, ""))
    match = QUANTITY.fullmatch(text)
    return (Decimal(match[1]) * UNITS[match[2]] or None) if match else None


def _compare(path: str, hardened: Mapping[str, Any], actual: Mapping[str, Any] | None) -> Iterator[str]:
    for each in find_differences(hardened, actual or {}, path, absent_is_empty=False):
        yield f"{each} differs from the hardened profile"


def _has(values: Sequence[Mapping[str, Any]] | None, key: str) -> bool:
    return any(key in each for each in values or ())
