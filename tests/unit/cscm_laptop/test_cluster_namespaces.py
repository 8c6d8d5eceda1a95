"""The namespaces of this machine's cluster: those of its environments, made once and then left alone."""

from cscm_laptop.cluster.namespaces import ACCOUNT, LABELS, ensure_namespaces, list_namespaces
from supply_chain.execution.environment import DockerEnvironment, KubernetesEnvironment
from supply_chain.execution.kubernetes.cluster import NAMESPACES, SERVICE_ACCOUNTS
from tests.support.memory_cluster import MemoryCluster


def environment(name: str, cluster: str) -> KubernetesEnvironment:
    return KubernetesEnvironment(name=name, target="kubernetes", cluster=cluster, namespace=f"{name}-apps")


def test_list_namespaces_returns_those_of_laptop_cluster() -> None:
    """Others run elsewhere."""
    found = [environment("here", "laptop"), environment("there", "shop"), DockerEnvironment(name="docker")]

    assert list_namespaces(found) == ("here-apps",)


def test_missing_namespace_is_made_with_pod_security() -> None:
    """Without it, a pod without the chain's profile could reach the node."""
    cluster = MemoryCluster()

    assert ensure_namespaces(cluster, ["apps"], lambda _: None) == ("apps",)
    made = cluster.read(NAMESPACES, "apps")
    assert made is not None and made["metadata"]["labels"] == LABELS


def test_new_namespace_takes_pods() -> None:
    """A busy controller makes the service account of pods later."""
    cluster, waits = MemoryCluster(), list[float]()

    def wait(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 3:
            metadata = {"name": ACCOUNT, "namespace": "apps"}
            cluster.apply(SERVICE_ACCOUNTS, {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata})

    ensure_namespaces(cluster, ["apps"], wait)

    assert len(waits) == 3


def test_existing_namespace_is_unchanged() -> None:
    """Somebody may have chosen other labels."""
    cluster = MemoryCluster()
    cluster.apply(NAMESPACES, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "apps"}})
    before = cluster.read(NAMESPACES, "apps")

    assert ensure_namespaces(cluster, ["apps"]) == ()
    assert cluster.read(NAMESPACES, "apps") == before
