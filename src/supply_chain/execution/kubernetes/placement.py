"""On which nodes of a cluster an application runs, and whether there is one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from supply_chain.errors import NoSuitableNode
from supply_chain.execution.kubernetes.cluster import NODES, Cluster, Document
from supply_chain.execution.nodes import NodeRequirement, Toleration
from supply_chain.text import truncate_lines

KEEPS_AWAY = ("NoSchedule", "NoExecute")
"""The effects of taints that keep new pods away from a node."""
UNSCHEDULABLE = "node.kubernetes.io/unschedulable"
"""The taint of a node on which nothing is to be scheduled."""
MOST_NODES = 10


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
