"""How what git delivers lets an application do more than it declares. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from supply_chain.execution.deployment import Expected, read_kubernetes_place
from supply_chain.execution.kubernetes.cluster import SERVICE_ACCOUNTS, Document
from supply_chain.execution.kubernetes.hardening import find_violations
from supply_chain.execution.kubernetes.namespace import NamespaceState
from supply_chain.execution.kubernetes.rendering import LONGEST_GRACE, render_container_security, render_pod_security
from supply_chain.execution.observation import Deviation
from supply_chain.model.declaration import Runtime
from supply_chain.text import truncate_lines

OF_PODS = {"dnsPolicy": "ClusterFirst", "schedulerName": "default-scheduler"}
OF_CONTAINERS = {"terminationMessagePath": "/dev/termination-log"}
"""What an API server adds to pods and containers, and what manifests may not change."""
DEFAULT_ACCOUNT = "default"
MOST_LISTED = 10


def find_undeclared_settings(expected: Expected, state: NamespaceState) -> Iterator[Deviation]:
    """Yield a deviation if the Deployment that git delivers lets its pods do more than the record has as declared."""
    git, deployment = read_kubernetes_place(expected).git, state.deployment(expected)
    if git is None or git.runtime is None or deployment is None:
        return
    if violations := [*judge_deployment(deployment, state.all(SERVICE_ACCOUNTS), git.runtime)]:
        listed = "; ".join(truncate_lines(MOST_LISTED, violations))
        yield Deviation(
            code="drift.undeclared",
            fact=f"git delivers {expected.name} with more than it declares: {listed}",
            remedy="Correct the manifests in the repository, or what supply-chain.yaml declares.",
        )


def judge_deployment(deployment: Document, accounts: Iterable[Document], runtime: Runtime) -> Iterator[str]:
    """Yield how the pods of a Deployment, written or as the cluster has it, may do more than is declared.

    `accounts` are service accounts, of which one without a token needs no setting in the pod.
    """
    try:
        yield from _judge_pods(deployment["spec"]["template"], accounts, runtime)
    except (AttributeError, KeyError, TypeError) as error:
        yield f"a value does not have the form that Kubernetes' API describes: {error}"


def _judge_pods(template: Mapping[str, Any], accounts: Iterable[Document], runtime: Runtime) -> Iterator[str]:
    pod = template["spec"]
    name = pod.get("serviceAccountName") or DEFAULT_ACCOUNT
    hardened = {
        "serviceAccountName": name,
        "securityContext": render_pod_security(runtime),
        "containers": [{"securityContext": render_container_security(runtime)}],
    }
    added = {**OF_PODS, "serviceAccount": name}
    containers = {
        key: [_without(each, OF_CONTAINERS) for each in pod[key]]
        for key in ("initContainers", "containers")
        if pod.get(key)
    }
    yield from find_violations({**template, "spec": {**_without(pod, added), **containers}}, hardened, runtime)
    account = next((each for each in accounts if each["metadata"]["name"] == name), {})
    tokens = (pod.get("automountServiceAccountToken"), account.get("automountServiceAccountToken"))
    if tokens[0] is None and tokens[1] is not False:
        yield "automountServiceAccountToken has to be false"
    if pod.get("terminationGracePeriodSeconds", 0) > LONGEST_GRACE:
        yield f"terminationGracePeriodSeconds has to be at most {LONGEST_GRACE}"
    for each in pod.get("volumes") or ():
        if "emptyDir" in each and (each["emptyDir"] or {}).get("medium") != "Memory":
            yield f"volume {each.get('name')}: emptyDir has to be in memory (`medium: Memory`)"


def _without(values: Mapping[str, Any], added: Mapping[str, str]) -> dict[str, Any]:
    """Return the values without those that an API server adds by itself."""
    return {key: value for key, value in values.items() if added.get(key) != value}
