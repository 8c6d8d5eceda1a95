"""The watch of a namespace: listed once, and kept up to date by the changes since.

Memory holds what there is now, never the changes. A lost connection is resumed from the last version; if the cluster no
longer has the changes since then, the kind is listed again.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from supply_chain.errors import ClusterUnavailable
from supply_chain.execution.deployment import Expected, read_kubernetes_place
from supply_chain.execution.kubernetes.cluster import (
    AUTOSCALERS,
    DEPLOYMENTS,
    EVENTS,
    PODS,
    REPLICA_SETS,
    Cluster,
    Document,
    Kind,
    VersionGone,
    WatchEventType,
)
from supply_chain.execution.kubernetes.namespace import (
    METADATA_ONLY,
    OBSERVED,
    NamespaceState,
    ObjectKey,
    index_by_name,
)
from supply_chain.model.container import APPLICATION

ROUND = 30
"""Seconds after which a watch is resumed. So a connection that died silently is noticed, and an ended watch ends."""
PAUSE = 2.0
"""Seconds after which a cluster that does not answer is asked again."""


@dataclass
class KindWatch:
    """The objects of one kind in a namespace. `version` is empty until they are listed."""

    cluster: Cluster
    namespace: str
    kind: Kind
    objects: dict[str, Document] = field(default_factory=dict)
    version: str = ""

    def follow(self, seconds: int) -> Iterator[Collection[str]]:
        """List what there is unless that is known, then watch; yield the names of what changed, as it changes.

        End after so many seconds, or earlier; a further call continues. Raises `ClusterUnavailable` if the connection
        is lost, and `ClusterRefused`; a further call continues after these too.
        """
        only = self.kind in METADATA_ONLY
        if not self.version:
            yield self._list(only)
        try:
            for change in self.cluster.watch(self.kind, self.namespace, self.version, seconds, metadata_only=only):
                self.version = change.version
                if change.type is not WatchEventType.BOOKMARK:
                    name = change.document["metadata"]["name"]
                    if change.type is WatchEventType.DELETED:
                        self.objects.pop(name, None)
                    else:
                        self.objects[name] = change.document
                    yield [name]
        except VersionGone:
            self.version = ""

    def _list(self, metadata_only: bool) -> Collection[str]:
        listed = self.cluster.list_at(self.kind, self.namespace, metadata_only=metadata_only)
        before, self.objects, self.version = self.objects, index_by_name(listed.objects), listed.version
        return before.keys() | self.objects.keys()


class NamespaceWatch:
    """Keeps what there is in a namespace up to date while its block runs, in one thread for each kind."""

    def __init__(self, cluster: Cluster, namespace: str, kinds: Iterable[Kind] = OBSERVED) -> None:
        self._kinds = [KindWatch(cluster, namespace, kind) for kind in kinds]
        self._changed: set[ObjectKey] = set()
        self._failed: Exception | None = None
        self._news = threading.Condition()
        self._ended = threading.Event()

    def __enter__(self) -> Self:
        for each in self._kinds:
            name = f"watch {each.kind.plural} in {each.namespace}"
            threading.Thread(target=self._follow, args=[each], name=name, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()

    def wait(self, seconds: float) -> frozenset[ObjectKey]:
        """Wait for changes since the last call, at most so many seconds; return what changed.

        Nothing is returned before every kind was listed. Raises what ended a watch, as `ClusterRefused`.
        """
        with self._news:
            self._news.wait_for(lambda: self._failed or (self._changed and self._is_complete()), seconds)
            if self._failed:
                raise self._failed
            changed = frozenset(self._changed) if self._is_complete() else frozenset[ObjectKey]()
            self._changed -= changed
            return changed

    @property
    def state(self) -> NamespaceState:
        """What there is now."""
        with self._news:
            return NamespaceState({each.kind.name: dict(each.objects) for each in self._kinds})

    def _is_complete(self) -> bool:
        return all(each.version for each in self._kinds)

    def _follow(self, watch: KindWatch) -> None:
        while not self._ended.is_set():
            try:
                self._follow_once(watch)
            except ClusterUnavailable:
                self._ended.wait(PAUSE)
            except Exception as error:  # noqa: BLE001 - `wait` raises it; otherwise nobody would learn that it ended
                with self._news:
                    self._failed = error
                    self._news.notify_all()
                return

    def _follow_once(self, watch: KindWatch) -> None:
        names = watch.follow(ROUND)
        while not self._ended.is_set():
            changed = next(names, None)
            if changed is None:
                return
            with self._news:
                self._changed |= {(watch.kind.name, name) for name in changed}
                self._news.notify_all()


def find_affected(
    expected: Iterable[Expected], changed: Iterable[ObjectKey], state: NamespaceState
) -> tuple[Expected, ...]:
    """Return the deployments that changed objects belong to, also objects that are gone."""
    keys = set(changed)
    names = {_deployment_of(kind, name, state) for kind, name in keys}
    return tuple(
        each
        for each in expected
        if each.name in names
        or not keys.isdisjoint((d["kind"], d["metadata"]["name"]) for d in read_kubernetes_place(each).documents)
    )


def _deployment_of(kind: str, name: str, state: NamespaceState) -> str:
    """Return the name of the Deployment to which an object belongs, as far as it says so; empty for others."""
    if kind == EVENTS.name:
        about = (state.find(kind, name) or {}).get("involvedObject") or {}
        return _deployment_of(about.get("kind", ""), about.get("name", ""), state) if about else ""
    if kind == PODS.name:
        kind, name = REPLICA_SETS.name, name.rpartition("-")[0]
    if kind == REPLICA_SETS.name:
        return state.find_deployment_name(name) or name.rpartition("-")[0]
    if kind == DEPLOYMENTS.name:
        return name
    document = state.find(kind, name) or {}
    if kind == AUTOSCALERS.name and document:
        return str(document["spec"].get("scaleTargetRef", {}).get("name", ""))
    return str((document.get("metadata", {}).get("labels") or {}).get(APPLICATION, ""))
