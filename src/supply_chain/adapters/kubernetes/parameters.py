"""The images that namespaces admit, as ConfigMaps that only the publisher's service account writes."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from supply_chain.adapters.kubernetes.client import ClusterClient
from supply_chain.errors import ClusterConflict
from supply_chain.execution.enforcement.admitted import AdmittedImages
from supply_chain.execution.enforcement.policies import PUBLISHER, SYSTEM
from supply_chain.execution.kubernetes.cluster import CONFIG_MAPS

MANAGER = "cscm-publisher"
VALID, RENEWED = 600, 300
"""Seconds for which a token is valid, and after which another one is used."""


@dataclass
class ClusterParameters:
    """The parameters of a cluster. What `connect` returns may read them, and get tokens of the publisher."""

    connect: Callable[[], ClusterClient]
    _publisher: tuple[float, ClusterClient] | None = field(default=None, init=False)

    def read(self, name: str) -> tuple[AdmittedImages, str] | None:
        """Return the parameters with a name and their version; None if there are none."""
        config_map = self.connect().read(CONFIG_MAPS, name, SYSTEM)
        if config_map is None:
            return None
        try:
            admitted = AdmittedImages.of_data(config_map.get("data", {}))
        except ValueError:  # somebody else wrote them: they admit nothing that counts, and are replaced
            admitted = AdmittedImages(environment="", repositories="", images={})
        return admitted, config_map["metadata"]["resourceVersion"]

    def write(self, name: str, admitted: AdmittedImages, version: str) -> bool:
        """Write the parameters with a name as the publisher; return False if they have another version."""
        metadata = {"name": name, "namespace": SYSTEM}
        metadata |= {"resourceVersion": version} if version else {}
        document = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": admitted.data}
        write = self._as_publisher().replace if version else self._as_publisher().create
        try:
            write(CONFIG_MAPS, document)
        except ClusterConflict:
            return False
        return True

    def _as_publisher(self) -> ClusterClient:
        now = time.monotonic()
        if self._publisher is None or now - self._publisher[0] > RENEWED:
            self._publisher = now, self.connect().for_service_account(SYSTEM, PUBLISHER, MANAGER, VALID)
        return self._publisher[1]
