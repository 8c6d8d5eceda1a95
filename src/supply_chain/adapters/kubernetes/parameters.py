"""The images that namespaces admit, as a custom resource that only the publisher's service account writes."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from pydantic import ValidationError

from supply_chain.adapters.kubernetes.client import ClusterClient
from supply_chain.errors import ClusterConflict
from supply_chain.execution.enforcement.admitted import AdmittedImages
from supply_chain.execution.enforcement.policies import GROUP, KIND, PARAMETERS, PLURAL, PUBLISHER, SYSTEM
from supply_chain.execution.kubernetes.cluster import Kind

ADMITTED_IMAGES = Kind(f"{GROUP}/v1", KIND, PLURAL)
MANAGER = "cscm-publisher"
VALID, RENEWED = 600, 300
"""Seconds for which a token is valid, and after which another one is used."""


@dataclass
class ClusterParameters:
    """The parameters of a cluster. What `connect` returns may read them, and get tokens of the publisher."""

    connect: Callable[[], ClusterClient]
    _publisher: tuple[float, ClusterClient] | None = field(default=None, init=False)

    def read(self, namespace: str) -> tuple[AdmittedImages, str] | None:
        """Return the parameters of a namespace and their version; None if there are none that can be read."""
        found = self.connect().read(ADMITTED_IMAGES, PARAMETERS, namespace)
        if found is None:
            return None
        try:
            admitted = AdmittedImages.model_validate(found.get("spec"))
        except ValidationError:  # somebody else wrote them: they admit nothing that counts, and are replaced
            admitted = AdmittedImages(environment="", images={})
        return admitted, found["metadata"]["resourceVersion"]

    def write(self, namespace: str, admitted: AdmittedImages, version: str) -> bool:
        """Write the parameters of a namespace as the publisher; return False if they have another version."""
        metadata = {"name": PARAMETERS, "namespace": namespace} | ({"resourceVersion": version} if version else {})
        document = {
            "apiVersion": ADMITTED_IMAGES.api_version,
            "kind": KIND,
            "metadata": metadata,
            "spec": admitted.model_dump(),
        }
        write = self._as_publisher().replace if version else self._as_publisher().create
        try:
            write(ADMITTED_IMAGES, document)
        except ClusterConflict:
            return False
        return True

    def _as_publisher(self) -> ClusterClient:
        now = time.monotonic()
        if self._publisher is None or now - self._publisher[0] > RENEWED:
            self._publisher = now, self.connect().for_service_account(SYSTEM, PUBLISHER, MANAGER, VALID)
        return self._publisher[1]
