"""Namespaces of a real cluster in which the admission policies are enforced, for tests and measurements."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

from supply_chain.adapters.kubernetes.client import ClusterClient
from supply_chain.adapters.kubernetes.parameters import ADMITTED_IMAGES, ClusterParameters
from supply_chain.errors import ClusterRefused
from supply_chain.execution.enforcement.admitted import AdmittedImages
from supply_chain.execution.enforcement.installation import KINDS, install, read_objects
from supply_chain.execution.enforcement.policies import EnforcedNamespace, Mode, Policies
from supply_chain.execution.kubernetes.cluster import PODS, SERVICE_ACCOUNTS, Document, Kind

ROLES = Path(__file__).parents[2] / "deployments/kubernetes/rbac"
SOON = 15.0
"""Seconds in which an API server begins to enforce a new policy."""


class Enforced:
    """A namespace with enforcement, in a real cluster."""

    def __init__(self, admin: ClusterClient, policies: Policies, name: str, mode: Mode = Mode.DENY) -> None:
        self.admin, self.policies = admin, policies
        self.place = EnforcedNamespace(name, name, mode)
        self.parameters = ClusterParameters(lambda: admin)

    @property
    def objects(self) -> tuple[Document, ...]:
        return self.policies.of_namespace(self.place)

    def admit(self, *images: str) -> None:
        """Admit exactly these images."""
        admitted: dict[str, dict[str, str]] = {}
        for image in images:
            repository, _, digest = image.partition("@")
            admitted.setdefault(repository, {})[digest] = ""
        found = self.parameters.read(self.place.namespace)
        wanted = AdmittedImages(environment=self.place.environment, images=admitted)
        assert self.parameters.write(self.place.namespace, wanted, found[1] if found else "")

    def refusal(self, kind: Kind, document: Document, client: ClusterClient | None = None) -> str:
        """Return why the API server refuses an object; empty if it admits it."""
        metadata = {**document["metadata"], "namespace": self.place.namespace}
        try:
            (client or self.admin).create(kind, {**document, "metadata": metadata}, dry_run=True)
        except ClusterRefused as error:
            return str(error)
        return ""

    def refusal_of(self, image: str) -> str:
        """Return why the API server refuses a pod with an image; empty if it admits it."""
        return self.refusal(PODS, pod(image))


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


@contextmanager
def install_policies(admin: ClusterClient) -> Iterator[Policies]:
    """Yield policies with names of their own and without a binding to a namespace; remove them afterwards."""
    made = Policies(f"test-{uuid4().hex[:8]}")
    install((*read_objects(ROLES), *made.of_cluster()), admin)
    wait_until(lambda: is_offered(admin))
    try:
        yield made
    finally:
        for document in made.of_cluster()[1:]:
            admin.delete(KINDS[document["kind"]], document["metadata"]["name"])


def is_offered(admin: ClusterClient) -> bool:
    """Return whether the API server knows the kind of the parameters."""
    try:
        admin.list(ADMITTED_IMAGES, "default")
    except ClusterRefused:
        return False
    return True


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
            metadata = document["metadata"]
            admin.delete(KINDS[document["kind"]], metadata["name"], metadata.get("namespace", ""))
