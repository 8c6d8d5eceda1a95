"""A namespace of a cluster as the target of an environment."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path

from supply_chain.concurrency import map_concurrently
from supply_chain.errors import ClusterRefused, SupplyChainError
from supply_chain.execution.deployment import Deployment, Expected, KubernetesPlace, read_kubernetes_place
from supply_chain.execution.environment import KubernetesEnvironment
from supply_chain.execution.isolation.record import IsolationRecord
from supply_chain.execution.kubernetes.autoscaling import find_least_pods
from supply_chain.execution.kubernetes.brought import Objects, adopt, read_brought, remove_left
from supply_chain.execution.kubernetes.cluster import (
    CONFIG_MAPS,
    DEPLOYMENTS,
    NODES,
    PODS,
    REPLICA_SETS,
    ROLE_BINDINGS,
    Cluster,
    Document,
)
from supply_chain.execution.kubernetes.comparison import (
    compare_pods,
    find_late_ends,
    find_object_changes,
    find_overdue,
    find_troubles,
)
from supply_chain.execution.kubernetes.declaration import find_undeclared_settings
from supply_chain.execution.kubernetes.foreign import Foreign, list_pod_digests
from supply_chain.execution.kubernetes.isolator import find_isolated
from supply_chain.execution.kubernetes.manifest_files import PlainOnly, Renderer
from supply_chain.execution.kubernetes.namespace import OBSERVED, NamespaceState, ObjectKey, read_namespace
from supply_chain.execution.kubernetes.placement import NodeLabels, find_misplaced, read_labels
from supply_chain.execution.kubernetes.rendering import Workload, make_object_name, render
from supply_chain.execution.kubernetes.rollout import (
    Rollout,
    find_replica_set,
    is_complete,
    is_ending,
    is_ready,
    list_container_statuses,
    read_owner_uid,
    read_pod_annotations,
)
from supply_chain.execution.kubernetes.troubles import find_evictions, find_node_troubles, parse_time
from supply_chain.execution.kubernetes.watching import NamespaceWatch, find_affected
from supply_chain.execution.observation import Deviation, Observation, make_moved
from supply_chain.execution.target import Request
from supply_chain.model.container import APPLICATION, DIGEST, MANAGED, QUARANTINE, ROLE, RUN, Wait
from supply_chain.model.image import Digest, ImageRef
from supply_chain.model.tier import name_curated_repository
from supply_chain.policy.outcome import find_used_break_glass

log = logging.getLogger("supply_chain.kubernetes")


@dataclass(frozen=True)
class KubernetesTarget:
    """An environment in a namespace, as `Target` describes."""

    environment: KubernetesEnvironment
    connect: Callable[[], Cluster]
    """Returns the cluster; raises `SettingInvalid` if its credentials cannot be used."""
    registry: str
    """The registry's host, from which the nodes pull."""
    now: Callable[[], datetime]
    wait: Wait
    manifests: Path = Path("deployments")
    """The directory below which the environment's `manifests` are."""
    renderer: Renderer = field(default_factory=PlainOnly)
    """Renders those that are a kustomization or a chart."""
    list_isolations: Callable[[str], Sequence[IsolationRecord]] = lambda _: ()
    """Application → the last signed record of each of its isolations here."""
    is_same: Callable[[ImageRef, Digest], bool] = lambda ref, digest: ref.digest == digest
    """Returns whether a digest in the repository of an image is of the same content, as `has_same_content`."""

    def deploy(
        self,
        request: Request,
        *,
        before_start: Callable[[], object],
        may_serve: Callable[[], object],
        recorded: Callable[[Deployment], Deployment],
    ) -> Deployment:
        """Run the admitted image, as `Target` describes.

        Raises `SettingInvalid` for what a cluster cannot run, `ManifestsRefused`, and the errors of `Rollout.run`.
        """
        workload = Workload(request.declaration, request.ref, self.environment, self.registry)
        brought = read_brought(self.manifests, workload, self.renderer)

        def plan(run_id: str) -> tuple[Workload, Objects]:
            planned = replace(workload, run_id=run_id)
            return planned, adopt(planned, render(planned), brought)

        plan("")
        before_start()
        cluster = self.connect()
        serving = Rollout(cluster, workload, self.wait).read_deployment()
        marks = read_pod_annotations(serving)
        replaces = serving is not None and marks.get(DIGEST) != request.ref.digest
        workload, objects = plan(request.run_id if replaces or request.force else marks.get(RUN, ""))
        if serving and not replaces and not request.force and is_complete(serving, workload.least_pods):
            unchanged = self.record(request, workload, objects, cluster, serving)
            state = read_namespace(cluster, self.environment.namespace)
            pods = _current_pods(unchanged, state)
            if any(compare_pods(unchanged, serving, pods, self._find_same(unchanged, pods))):  # to apply replaces none
                workload, objects = plan(request.run_id)
            elif not find_object_changes(cluster, unchanged, state):
                return recorded(unchanged)
        started = time.monotonic()
        running = Rollout(cluster, workload, self.wait).run(objects, may_serve)
        self._remove_left(cluster, workload, objects)
        deployment = self.record(request, workload, objects, cluster, running)
        how = {
            "changed": True,
            "previous": workload.name if serving else None,
            "previous_digest": marks.get(DIGEST),
            "ready_seconds": round(time.monotonic() - started, 3),
        }
        return recorded(deployment.model_copy(update=how))

    def monitor(self, expected: Sequence[Expected], application: str | None = None) -> tuple[Observation, ...]:
        """Return what runs, as `Target` describes."""
        cluster = self.connect()
        state = read_namespace(cluster, self.environment.namespace, OBSERVED)
        return (
            *self._observe_all(cluster, state, expected),
            *self._find_foreign(cluster, expected, state, application),
        )

    def observe(self, expected: Sequence[Expected]) -> tuple[Observation, ...]:
        """Return how these deployments are, as `Target` describes."""
        cluster = self.connect()
        return self._observe_all(cluster, read_namespace(cluster, self.environment.namespace), expected)

    def watch(self) -> NamespaceWatch:
        """Return the watch of the namespace, as a block."""
        return NamespaceWatch(self.connect(), self.environment.namespace)

    def judge_changes(
        self, expected: Sequence[Expected], changed: Collection[ObjectKey], state: NamespaceState
    ) -> tuple[Observation, ...]:
        """Return an observation of each deployment to which something of `changed` belongs, and of what is foreign."""
        affected = find_affected([each for each in expected if self._is_here(each)], changed, state)
        cluster = self.connect()
        return (*self._observe_all(cluster, state, affected), *self._find_foreign(cluster, expected, state))

    def remove_unneeded(self, ref: ImageRef) -> None:
        """Remove the settings of earlier revisions that no ReplicaSet refers to, as `Target` describes."""
        name, namespace = make_object_name(ref.application), self.environment.namespace
        try:
            cluster, labels = self.connect(), {MANAGED: "true", APPLICATION: name}
            settings = cluster.list(CONFIG_MAPS, namespace, {**labels, ROLE: "application"})
            used = {used for each in cluster.list(REPLICA_SETS, namespace, labels) for used in _config_maps(each)}
            for each in settings:
                if each["metadata"]["name"] not in used:
                    cluster.delete(CONFIG_MAPS, each["metadata"]["name"], namespace)
        except SupplyChainError as error:
            log.warning("settings of earlier deployments of %s stay in %s: %s", name, namespace, error)

    def undo_unrecorded(self, ref: ImageRef) -> None:
        """Do nothing, as `Target` describes."""

    def _remove_left(self, cluster: Cluster, workload: Workload, objects: Objects) -> None:
        """Remove what was brought along earlier; what stays is a deviation, and no reason to fail what serves."""
        namespace = self.environment.namespace
        try:
            remove_left(cluster, workload.name, namespace, [document for _, document in objects])
        except SupplyChainError as error:
            log.warning("earlier objects of %s stay in %s: %s", workload.name, namespace, error)

    def record(
        self,
        request: Request,
        workload: Workload,
        objects: Objects,
        cluster: Cluster,
        running: Document,
    ) -> Deployment:
        """Return the deployment that runs, as one that changed nothing."""
        replica_set = find_replica_set(cluster, running)
        owner = replica_set["metadata"] if replica_set else running["metadata"]
        return Deployment(
            environment=self.environment.name,
            application=request.declaration.name,
            digest=request.ref.digest,
            container=owner["uid"],
            name=workload.name,
            place=KubernetesPlace(
                cluster=self.environment.cluster,
                namespace=self.environment.namespace,
                documents=tuple(dict(document) for _, document in objects),
            ),
            probe=request.declaration.probe,
            settings=workload.settings,
            profile=workload.profile,
            configuration=workload.configuration,
            break_glass=find_used_break_glass(request.admitted.results),
            changed=False,
            started_at=parse_time(owner.get("creationTimestamp")) or self.now(),
        )

    def _observe_all(
        self, cluster: Cluster, state: NamespaceState, expected: Sequence[Expected]
    ) -> tuple[Observation, ...]:
        evictions = find_evictions(state, self.now())
        nodes = _read_nodes(cluster, state)
        labels = read_labels(cluster) if self.environment.nodes else {}

        def observe(each: Expected) -> Observation:
            pods = _current_pods(each, state)
            more = (
                *evictions.get(each.name, ()),
                *find_node_troubles(pods, nodes),
                *_find_misplaced(each, state, pods, labels),
            )
            return self._observe(cluster, each, state, more)

        return map_concurrently(observe, expected)

    def _find_foreign(
        self, cluster: Cluster, expected: Sequence[Expected], state: NamespaceState, application: str | None = None
    ) -> Iterator[Observation]:
        names = {(pod["metadata"].get("labels") or {}).get(QUARANTINE) for pod in state.all(PODS)}
        isolated = [each for each in self.environment.applications if make_object_name(each) in names]
        records = [record for each in isolated for record in self.list_isolations(each)]
        identity = cluster.read_identity() if [*state.all(ROLE_BINDINGS)] else ""
        return Foreign(self.environment, expected, state, self.now(), application, records, identity).find()

    def _find_same(self, expected: Expected, pods: Sequence[Document]) -> frozenset[Digest]:
        """Return the expected digest, and those under which nodes run the same content."""
        ref = ImageRef(repository=name_curated_repository(expected.application), digest=expected.digest)
        others = (each for each in list_pod_digests(pods) if each != expected.digest)
        return frozenset({expected.digest, *(each for each in others if self.is_same(ref, each))})

    def _is_here(self, expected: Expected) -> bool:
        """Return whether a deployment is where its environment is now."""
        place, here = expected.place, (self.environment.cluster, self.environment.namespace)
        return isinstance(place, KubernetesPlace) and (place.cluster, place.namespace) == here

    def _observe(
        self, cluster: Cluster, expected: Expected, state: NamespaceState, more: Sequence[Deviation]
    ) -> Observation:
        if not self._is_here(expected):
            return make_moved(expected, self.now())
        deployment = state.deployment(expected)
        pods, ending = _current_pods(expected, state), list(filter(is_ending, state.list_owned_pods(expected)))
        compared = [*pods, *find_overdue(ending, self.now())]
        same = self._find_same(expected, compared)
        isolated = find_isolated(expected, state.applied, self.list_isolations)
        deviations = (
            (isolated,)
            if isolated
            else (
                *find_object_changes(cluster, expected, state),
                *find_undeclared_settings(expected, state),
                *compare_pods(expected, deployment, compared, same),
                *find_late_ends(expected, deployment, ending),
                *find_troubles(expected, deployment, pods),
                *more,
            )
        )
        ready = sum(map(is_ready, pods))
        least = find_least_pods(read_kubernetes_place(expected).documents)
        complete = deployment is not None and is_complete(deployment, least) and ready > 0  # no pods are complete too
        return Observation(
            at=self.now(),
            environment=expected.environment,
            application=expected.application,
            name=expected.name,
            workload=expected.workload,
            container=expected.container,
            address=expected.url,
            expected_digest=expected.digest,
            running=_running_digest(expected, pods, same),
            status="missing" if deployment is None else "running" if complete else f"{ready} pods ready",
            healthy=complete,
            restarts=_count_restarts(pods),
            started_at=_started_at(expected, state),
            deviations=tuple(dict.fromkeys(deviations)),
        )


def _current_pods(expected: Expected, state: NamespaceState) -> list[Document]:
    """Return the pods that count: of earlier ReplicaSets, some drain for a while, and ended ones stay as objects."""

    def is_current(pod: Document) -> bool:
        ended = pod.get("status", {}).get("phase") in ("Failed", "Succeeded")
        return not is_ending(pod) and not (ended and read_owner_uid(pod) != expected.container)

    return [pod for pod in state.list_owned_pods(expected) if is_current(pod)]


def _read_nodes(cluster: Cluster, state: NamespaceState) -> dict[str, Document]:
    """Return the nodes of the pods that are not ready; none if the role may not read nodes."""
    names = {pod["spec"].get("nodeName", "") for pod in state.all(PODS) if not is_ready(pod)} - {""}
    try:
        return {name: node for name in sorted(names) if (node := cluster.read(NODES, name))}
    except ClusterRefused as error:
        log.warning("whether nodes are the reason why pods are not ready is unknown: %s", error)
        return {}


def _find_misplaced(
    expected: Expected, state: NamespaceState, pods: Sequence[Document], labels: NodeLabels | ClusterRefused
) -> Iterator[Deviation]:
    """Yield the pods on nodes without the labels that were applied, or that git delivered."""
    documents = expected.place.documents if isinstance(expected.place, KubernetesPlace) else ()
    applied = next((each for each in documents if each["kind"] == DEPLOYMENTS.name), state.deployment(expected))
    if applied is not None:
        yield from find_misplaced(applied, pods, labels)


def _running_digest(expected: Expected, pods: Sequence[Document], same: Collection[Digest]) -> str:
    """Return the digest that the pods run: the expected one only if no container runs another.

    `same` are the digests of the same content.
    """
    others = [digest for digest in list_pod_digests(pods) if digest not in same]
    return others[0] if others else expected.digest if any(map(is_ready, pods)) else ""


def _started_at(expected: Expected, state: NamespaceState) -> datetime | None:
    """Return when the ReplicaSet of the deployment was made; None if it is gone."""
    owners = (each["metadata"] for each in state.all(REPLICA_SETS) if each["metadata"]["uid"] == expected.container)
    return next((parse_time(each.get("creationTimestamp")) for each in owners), None)


def _count_restarts(pods: Sequence[Document]) -> int:
    return sum(each.get("restartCount", 0) for pod in pods for each in list_container_statuses(pod))


def _config_maps(replica_set: Document) -> list[str]:
    sources = (
        source
        for container in replica_set["spec"]["template"]["spec"]["containers"]
        for source in container.get("envFrom") or ()
    )
    return [source["configMapRef"]["name"] for source in sources if "configMapRef" in source]
