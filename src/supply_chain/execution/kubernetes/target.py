"""A namespace of a cluster as the target of an environment."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from supply_chain.errors import SupplyChainError
from supply_chain.execution.deployment import Deployment, Expected, KubernetesPlace
from supply_chain.execution.environment import KubernetesEnvironment
from supply_chain.execution.kubernetes.autoscaling import least_pods
from supply_chain.execution.kubernetes.brought import adopt, read_manifests, remove_left
from supply_chain.execution.kubernetes.cluster import CONFIG_MAPS, REPLICA_SETS, Cluster, Document, Kind
from supply_chain.execution.kubernetes.comparison import (
    NamespaceState,
    compare_deployment,
    count_restarts,
    find_object_changes,
    parse_time,
    read_namespace,
)
from supply_chain.execution.kubernetes.isolator import find_isolated, find_quarantine
from supply_chain.execution.kubernetes.rendering import Workload, object_name, render
from supply_chain.execution.kubernetes.rollout import (
    Rollout,
    container_statuses,
    find_replica_set,
    is_complete,
    is_ending,
    is_ready,
)
from supply_chain.execution.observation import Deviation, Observation, make_moved
from supply_chain.execution.target import Request
from supply_chain.model.container import APPLICATION, DIGEST, MANAGED, ROLE, Wait
from supply_chain.model.image import Digest, ImageRef, short
from supply_chain.policy.outcome import break_glass_of

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
        workload = Workload(request.manifest, request.ref, self.environment, self.registry)
        where = workload.placement.manifests
        brought = read_manifests(self.manifests / where) if where else ()
        objects = adopt(workload, render(workload), brought)
        before_start()
        rollout = Rollout(self.connect(), workload, self.wait)
        serving = rollout.read_deployment()
        if serving and not request.force and is_complete(serving, workload.least_pods):
            unchanged = self.record(request, workload, objects, rollout.cluster, serving)
            if not self._find_changes(rollout.cluster, unchanged):
                return recorded(unchanged)
        if request.force:
            workload = Workload(request.manifest, request.ref, self.environment, self.registry, request.run_id)
            objects = adopt(workload, render(workload), brought)
            rollout = Rollout(rollout.cluster, workload, self.wait)
        started = time.monotonic()
        running = rollout.run(objects, may_serve)
        self._remove_left(rollout.cluster, workload, objects)
        deployment = self.record(request, workload, objects, rollout.cluster, running)
        how = {
            "changed": True,
            "previous": workload.name if serving else None,
            "previous_digest": _digest_of(serving),
            "ready_seconds": round(time.monotonic() - started, 3),
        }
        return recorded(deployment.model_copy(update=how))

    def monitor(self, expected: Sequence[Expected], application: str | None = None) -> tuple[Observation, ...]:
        """Return what runs, as `Target` describes."""
        cluster = self.connect()
        state = read_namespace(cluster, self.environment.namespace)
        observed = tuple(self._observe(cluster, each, state) for each in expected)
        ours = {pod["metadata"]["uid"] for each in expected for pod in state.pods_of(each)}
        label = object_name(application) if application else None
        foreign = (
            pod
            for pod in state.pods
            if pod["metadata"]["uid"] not in ours
            and label in (None, (pod["metadata"].get("labels") or {}).get(APPLICATION))
        )
        return (*observed, *map(self._observe_foreign, foreign))

    def observe(self, expected: Sequence[Expected]) -> tuple[Observation, ...]:
        """Return how these deployments are, as `Target` describes."""
        cluster = self.connect()
        state = read_namespace(cluster, self.environment.namespace)
        return tuple(self._observe(cluster, each, state) for each in expected)

    def remove_unneeded(self, ref: ImageRef) -> None:
        """Remove the settings of earlier revisions that no ReplicaSet refers to, as `Target` describes."""
        name, namespace = object_name(ref.application), self.environment.namespace
        try:
            cluster, labels = self.connect(), {MANAGED: "true", APPLICATION: name}
            settings = cluster.list(CONFIG_MAPS, namespace, {**labels, ROLE: "application"})
            used = {used for each in cluster.list(REPLICA_SETS, namespace, labels) for used in _config_maps(each)}
            for each in settings:
                if each["metadata"]["name"] not in used:
                    cluster.delete(CONFIG_MAPS, each["metadata"]["name"], namespace)
        except SupplyChainError as error:
            log.warning("settings of earlier deployments of %s stay in %s: %s", name, namespace, error)

    def _remove_left(self, cluster: Cluster, workload: Workload, objects: Sequence[tuple[Kind, Document]]) -> None:
        """Remove what was brought along earlier; what stays is a deviation, and no reason to fail what serves."""
        namespace = self.environment.namespace
        try:
            remove_left(cluster, workload.name, namespace, [document for _, document in objects])
        except SupplyChainError as error:
            log.warning("earlier objects of %s stay in %s: %s", workload.name, namespace, error)

    def _find_changes(self, cluster: Cluster, expected: Expected) -> tuple[Deviation, ...]:
        state = read_namespace(cluster, self.environment.namespace)
        return self._observe(cluster, expected, state).deviations

    def record(
        self,
        request: Request,
        workload: Workload,
        objects: Sequence[tuple[Kind, Document]],
        cluster: Cluster,
        running: Document,
    ) -> Deployment:
        """Return the deployment that runs, as one that changed nothing."""
        replica_set = find_replica_set(cluster, running)
        made = replica_set["metadata"] if replica_set else running["metadata"]
        return Deployment(
            environment=self.environment.name,
            application=request.manifest.name,
            digest=request.ref.digest,
            container=made["uid"],
            name=workload.name,
            place=KubernetesPlace(
                cluster=self.environment.cluster,
                namespace=self.environment.namespace,
                documents=tuple(dict(document) for _, document in objects),
            ),
            probe=request.manifest.probe,
            settings=workload.settings,
            profile=workload.profile,
            configuration=workload.configuration,
            break_glass=break_glass_of(request.admitted.results),
            changed=False,
            started_at=parse_time(made.get("creationTimestamp")) or self.now(),
        )

    def _observe(self, cluster: Cluster, expected: Expected, state: NamespaceState) -> Observation:
        place, here = expected.place, (self.environment.cluster, self.environment.namespace)
        if not isinstance(place, KubernetesPlace) or (place.cluster, place.namespace) != here:
            return make_moved(expected, self.now())
        deployment = state.deployment(expected)
        pods = [pod for pod in state.pods_of(expected) if not is_ending(pod)]  # the earlier ones drain for a while
        isolated = find_isolated(expected.application, state.objects)
        changes = (isolated,) if isolated else find_object_changes(cluster, expected, state)
        ready = sum(map(is_ready, pods))
        least = least_pods(place.documents)
        complete = deployment is not None and is_complete(deployment, least) and ready > 0  # no pods are complete too
        return Observation(
            at=self.now(),
            environment=expected.environment,
            application=expected.application,
            name=expected.name,
            workload=expected.workload,
            container=expected.container,
            address=expected.url,
            wanted=expected.digest,
            running=_running_digest(expected, pods),
            status="missing" if deployment is None else "running" if complete else f"{ready} pods ready",
            healthy=complete,
            restarts=count_restarts(pods),
            started_at=_started_at(expected, state),
            deviations=changes if isolated else (*changes, *compare_deployment(expected, deployment, pods)),
        )

    def _observe_foreign(self, pod: Document) -> Observation:
        name, phase = pod["metadata"]["name"], pod.get("status", {}).get("phase", "Unknown")
        digests = _digests([pod])
        images = ", ".join(sorted(map(short, digests))) or "no image yet"
        return Observation(
            at=self.now(),
            environment=self.environment.name,
            application="",
            name=name,
            workload=f"Pod/{name} in {self.environment.place}",
            container=pod["metadata"]["uid"],
            running=digests[0] if len(digests) == 1 else "",
            status=phase.lower(),
            deviations=(
                find_quarantine(pod)
                or Deviation(
                    code="drift.foreign",
                    fact=f"nobody deployed {name} to {self.environment.name}; it is {phase}, from {images}",
                    remedy="Find out who created it, and delete it: only the chain deploys here.",
                ),
            ),
        )


def _digest_of(deployment: Document | None) -> Digest | None:
    """Return the digest that a Deployment's pods are annotated with; None without one."""
    template = ((deployment or {}).get("spec", {}).get("template", {}).get("metadata") or {}).get("annotations") or {}
    digest: Digest | None = template.get(DIGEST)
    return digest


def _digests(pods: Sequence[Document]) -> list[Digest]:
    """Return the digests of the images that containers of these pods run, each once."""
    found = (each.get("imageID", "").rpartition("@")[2] for pod in pods for each in container_statuses(pod))
    return list(dict.fromkeys(filter(None, found)))


def _running_digest(expected: Expected, pods: Sequence[Document]) -> str:
    """Return the digest that the pods run: the expected one only if no container runs another."""
    others = [digest for digest in _digests(pods) if digest != expected.digest]
    return others[0] if others else expected.digest if any(map(is_ready, pods)) else ""


def _started_at(expected: Expected, state: NamespaceState) -> datetime | None:
    """Return when the ReplicaSet of the deployment was made; None if it is gone."""
    made = (each["metadata"] for each in state.replica_sets if each["metadata"]["uid"] == expected.container)
    return next((parse_time(each.get("creationTimestamp")) for each in made), None)


def _config_maps(replica_set: Document) -> list[str]:
    sources = (
        source
        for container in replica_set["spec"]["template"]["spec"]["containers"]
        for source in container.get("envFrom") or ()
    )
    return [source["configMapRef"]["name"] for source in sources if "configMapRef" in source]
