"""Namespaces of a real cluster in which the admission policies are enforced, for tests and measurements."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

from supply_chain.adapters.kubernetes.client import ClusterClient
from supply_chain.adapters.kubernetes.parameters import ClusterParameters
from supply_chain.errors import ClusterRefused
from supply_chain.execution.enforcement.admitted import AdmittedImages
from supply_chain.execution.enforcement.installation import KINDS, install, read_objects
from supply_chain.execution.enforcement.policies import SYSTEM, EnforcedNamespace, Mode, Policies, make_parameters_name
from supply_chain.execution.kubernetes.cluster import CONFIG_MAPS, PODS, SERVICE_ACCOUNTS, Document, Kind

ROLES = Path(__file__).parents[2] / "deployments/kubernetes/rbac"
REPOSITORIES = "registry.test:5000/curated/"
SOON = 60.0
"""Seconds in which an API server begins to enforce a new policy."""


class Enforced:
    """A namespace with enforcement, in a real cluster."""

    def __init__(self, admin: ClusterClient, policies: Policies, name: str, mode: Mode = Mode.DENY) -> None:
        self.admin, self.policies = admin, policies
        self.place = EnforcedNamespace(name, name, mode, parameters=make_parameters_name(name))
        self.parameters = ClusterParameters(lambda: admin)

    @property
    def objects(self) -> tuple[Document, ...]:
        return self.policies.list_namespace_objects(self.place)

    def admit(self, *images: str, collector: str = "") -> None:
        """Admit exactly these images, and a collector."""
        admitted = AdmittedImages(environment=self.place.environment, repositories=REPOSITORIES, images={})
        wanted = admitted.model_copy(update={"images": _by_application(images)}).with_collector(collector)
        found = self.parameters.read(self.place.parameters)
        assert self.parameters.write(self.place.parameters, wanted, found[1] if found else "")

    def refusal(self, kind: Kind, document: Document, client: ClusterClient | None = None) -> str:
        """Return why the API server refuses an object; empty if it admits it."""
        return refusal(client or self.admin, self.place.namespace, kind, document)

    def refusal_of(self, image: str) -> str:
        """Return why the API server refuses a pod with an image; empty if it admits it."""
        return self.refusal(PODS, pod(image))


def refusal(client: ClusterClient, namespace: str, kind: Kind, document: Document) -> str:
    """Return why the API server refuses an object in a namespace; empty if it admits it."""
    metadata = {**document["metadata"], "namespace": namespace}
    try:
        client.create(kind, {**document, "metadata": metadata}, dry_run=True)
    except ClusterRefused as error:
        return str(error)
    return ""


def _by_application(images: Iterable[str]) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {}
    for image in images:
        repository, _, digest = image.removeprefix(REPOSITORIES).partition("@")
        found.setdefault(repository, {})[digest] = ""
    return found


def pod(image: str, **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": f"pod-{uuid4().hex[:8]}"},
        "spec": {"containers": [{"name": "app", "image": image}], "schedulingGates": [{"name": "test/never"}], **spec},
    }


def wait_until(holds: Callable[[], object], seconds: float = SOON) -> float:
    """Wait until something holds, and return the seconds."""
    began = time.monotonic()
    while not holds():
        assert time.monotonic() - began < seconds, "it does not hold in time"
        time.sleep(0.02)
    return time.monotonic() - began


def is_enforced(enforced: Enforced, image: str) -> bool:
    """Return whether a namespace admits an image and refuses a tag."""
    return not enforced.refusal_of(image) and bool(enforced.refusal_of("other:latest"))


@contextmanager
def install_policies(admin: ClusterClient) -> Iterator[Policies]:
    """Yield policies with names of their own and without a binding to a namespace; remove them afterwards."""
    made = Policies(f"test-{uuid4().hex[:8]}")
    install((*read_objects(ROLES), *made.list_cluster_objects()), admin)
    try:
        yield made
    finally:
        for document in made.list_cluster_objects():
            admin.delete(KINDS[document["kind"]], document["metadata"]["name"])


@contextmanager
def enforce(admin: ClusterClient, policies: Policies, mode: Mode = Mode.DENY) -> Iterator[Enforced]:
    """Yield a new namespace with enforcement and without parameters; remove it afterwards."""
    enforced = Enforced(admin, policies, f"enforced-{uuid4().hex[:8]}", mode)
    install(enforced.objects, admin)
    try:
        wait_until(lambda: admin.read(SERVICE_ACCOUNTS, "default", enforced.place.namespace))
        yield enforced
    finally:
        for document in reversed(enforced.objects):
            admin.delete(KINDS[document["kind"]], document["metadata"]["name"])
        admin.delete(CONFIG_MAPS, enforced.place.parameters, SYSTEM)
