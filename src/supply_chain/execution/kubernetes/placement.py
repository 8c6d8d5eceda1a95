"""On which nodes of a cluster an application runs, and whether there is one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from supply_chain.errors import ClusterRefused, NoSuitableNode
from supply_chain.execution.kubernetes.cluster import NODES, Cluster, Document
from supply_chain.execution.nodes import NodeRequirement, Toleration
from supply_chain.execution.observation import Deviation
from supply_chain.text import summarize_error, truncate_lines

KEEPS_AWAY = ("NoSchedule", "NoExecute")
"""The effects of taints that keep new pods away from a node."""
UNSCHEDULABLE = "node.kubernetes.io/unschedulable"
"""The taint of a node on which nothing is to be scheduled."""
MOST_NODES = 10
NodeLabels = Mapping[str, Mapping[str, str]]
"""The name of a node → its labels."""


def render_tolerations(required: NodeRequirement) -> list[dict[str, str]]:
    """Return the tolerations of a pod."""
    return [
        {
            "key": each.key,
            "operator": "Exists" if each.value is None else "Equal",
            **({} if each.value is None else {"value": each.value}),
            **({"effect": each.effect} if each.effect else {}),
        }
        for each in required.tolerations
    ]


def check_nodes(cluster: Cluster, application: str, labels: Mapping[str, str], required: NodeRequirement) -> None:
    """Raise `NoSuitableNode` if no node with these labels qualifies for an application whose nodes are reserved.

    Nodes are listed only then, because this needs a permission in the whole cluster.
    """
    if required == NodeRequirement():
        return
    if reason := find_reason(cluster.list(NODES), labels, required.tolerations):
        raise NoSuitableNode(
            f"No node qualifies for {application}: {reason}.\n"
            "Nothing was changed. Label or uncordon a node, or correct `nodes` in the environment."
        )


def find_reason(nodes: Sequence[Document], labels: Mapping[str, str], tolerations: Sequence[Toleration]) -> str:
    """Return why no node qualifies; an empty text if one does. Pure."""
    if absent := [pair for pair in labels.items() if not any(_has(node, dict([pair])) for node in nodes)]:
        return f"none has {_text(dict(absent))}"
    labelled = [node for node in nodes if _has(node, labels)]
    if not labelled:
        return f"none has all of {_text(labels)}"
    obstacles = {node["metadata"]["name"]: [*_obstacles(node, tolerations)] for node in labelled}
    if not all(obstacles.values()):
        return ""
    lines = [f"{name} {' and '.join(of_node)}" for name, of_node in sorted(obstacles.items())]
    return f"of those with {_text(labels)}, {'; '.join(truncate_lines(MOST_NODES, lines))}"


def read_labels(cluster: Cluster) -> NodeLabels | ClusterRefused:
    """Return the labels of all nodes, or why the cluster does not say them."""
    try:
        listed = cluster.list_at(NODES, metadata_only=True).objects
    except ClusterRefused as error:
        return error
    return {each["metadata"]["name"]: each["metadata"].get("labels") or {} for each in listed}


def find_misplaced(
    deployment: Document, pods: Iterable[Document], nodes: NodeLabels | ClusterRefused
) -> Iterator[Deviation]:
    """Yield the pods on nodes that have not, or no longer, the labels that a Deployment selects. Pure.

    The scheduler looks at labels only before a pod starts, so that the pod stays when they change.
    """
    name, required = deployment["metadata"]["name"], deployment["spec"]["template"]["spec"].get("nodeSelector") or {}
    if isinstance(nodes, ClusterRefused):
        reason = summarize_error(nodes)
        yield Deviation(
            code="drift.not-compared",
            fact=f"it is unknown on which nodes {name} runs: {reason}",
            remedy="Bind the role cscm-deployer-nodes to the execution tier.",
        )
        return
    for pod in pods:
        where = pod["spec"].get("nodeName", "")
        missing = dict(required.items() - nodes.get(where, required).items())
        if missing:
            pod_name, labels = pod["metadata"]["name"], _text(missing)
            yield Deviation(
                code="drift.placement",
                fact=f"{pod_name} runs on node {where} without {labels}",
                remedy="Find out who changed the labels. Restore them, or delete the pod: it then runs elsewhere.",
            )


def _obstacles(node: Document, tolerations: Sequence[Toleration]) -> Iterator[str]:
    """Yield what keeps a pod away from a node."""
    spec = node.get("spec") or {}
    taints = [
        (each["key"], each.get("value", ""), each["effect"])
        for each in spec.get("taints") or ()
        if each["effect"] in KEEPS_AWAY and each["key"] != UNSCHEDULABLE
    ]
    for key, value, effect in taints:
        if not any(each.tolerates(key, value, effect) for each in tolerations):
            yield f"has the taint {key}{f'={value}' if value else ''}:{effect}, which is not tolerated"
    if spec.get("unschedulable") and not any(each.tolerates(UNSCHEDULABLE, "", "NoSchedule") for each in tolerations):
        yield "is unschedulable"


def _has(node: Document, labels: Mapping[str, str]) -> bool:
    return labels.items() <= (node["metadata"].get("labels") or {}).items()


def _text(labels: Mapping[str, str]) -> str:
    return ", ".join(f"{key}={value}" for key, value in sorted(labels.items()))
