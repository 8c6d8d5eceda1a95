"""The hosts that Ingresses claim: each belongs to one application of a cluster, whatever the paths."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from supply_chain.errors import ClusterRefused, ManifestsRefused
from supply_chain.execution.kubernetes.cluster import INGRESSES, Cluster, Document
from supply_chain.model.container import APPLICATION, ENVIRONMENT, MANAGED
from supply_chain.text import sanitize_text, summarize_error, truncate_lines

WILDCARD = "*."
MOST_LISTED = 20


def check_hosts(cluster: Cluster, name: str, namespace: str, documents: Iterable[Document]) -> None:
    """Raise `ManifestsRefused` if Ingresses among the documents of an application claim what others claim.

    All Ingresses of the cluster are read, which needs a permission in the whole cluster: raise `ClusterRefused` without
    it.
    """
    own = [each for each in documents if each["kind"] == INGRESSES.name]
    if not own:
        return
    try:
        others = [each for each in cluster.scan(INGRESSES) if not _is_of(each, name, namespace)]
    except ClusterRefused as error:
        raise ClusterRefused(
            f"Whether other applications have the hosts of {name} cannot be read: {summarize_error(error)}\n"
            "Bind cscm-deployer-hosts for the whole cluster (deployments/kubernetes/rbac/deployer.yaml)."
        ) from error
    if conflicts := list(dict.fromkeys(find_conflicts(own, others))):
        raise ManifestsRefused(
            f"The Ingresses of {name} claim hosts of others:\n- "
            + "\n- ".join(truncate_lines(MOST_LISTED, conflicts))
            + "\nWhat runs stays as it was. Choose other hosts, or remove the other Ingresses first."
        )


def find_conflicts(own: Sequence[Document], others: Sequence[Document]) -> Iterator[str]:
    """Yield which hosts of Ingresses overlap with those of others, and whose those are. Pure."""
    for other in others:
        for claimed in list_hosts(other):
            for host in (host for each in own for host in list_hosts(each) if overlap(host, claimed)):
                yield sanitize_text(f"{host} overlaps with {claimed} of {_describe(other)}")


def list_hosts(ingress: Document) -> Iterator[str]:
    """Yield the hosts of an Ingress: of its rules, and those whose certificates it brings."""
    spec = ingress.get("spec") or {}
    for each in spec.get("rules") or ():
        yield from filter(None, [each.get("host")])
    for each in spec.get("tls") or ():
        yield from each.get("hosts") or ()


def overlap(one: str, other: str) -> bool:
    """Return whether two hosts have requests in common; controllers differ in how many labels a wildcard stands for."""
    return one == other or _covers(one, other) or _covers(other, one)


def _covers(wildcard: str, host: str) -> bool:
    return wildcard.startswith(WILDCARD) and host.endswith(wildcard[1:])


def _is_of(ingress: Document, name: str, namespace: str) -> bool:
    metadata = ingress["metadata"]
    labels = metadata.get("labels") or {}
    return bool(
        metadata["namespace"] == namespace and labels.get(MANAGED) == "true" and labels.get(APPLICATION) == name
    )


def _describe(ingress: Document) -> str:
    """Return whose an Ingress is: an application of an environment, as far as its labels say it."""
    metadata = ingress["metadata"]
    labels, where = metadata.get("labels") or {}, f"the Ingress {metadata['namespace']}/{metadata['name']}"
    if labels.get(MANAGED) != "true":
        return f"{where}, which nobody deployed by the chain"
    return f"{labels.get(APPLICATION)} in {labels.get(ENVIRONMENT)} ({where})"
