"""Kyverno's admission controller beside a real cluster: a process of the tests, with an API that it alone serves.

`scripts/test-programs` builds it. Only the definition of the kind under test has a schema: with all of them, an API
server needs twice its memory.
"""

from __future__ import annotations

import base64
import json
import os
import signal
import ssl
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import yaml

from cscm_laptop.home import Home
from supply_chain.adapters.kubernetes.client import ClusterClient
from supply_chain.execution.enforcement.installation import CONFIGURATIONS, DEFINITIONS, KINDS
from supply_chain.execution.enforcement.policies import ADMISSION
from supply_chain.execution.enforcement.verification import CRD, POLICY_KIND
from supply_chain.execution.kubernetes.cluster import CONFIG_MAPS, NAMESPACES, Document, Kind
from tests.support.admission import wait_until
from tests.support.place import free_port

SECRETS = Kind("v1", "Secret", "secrets")
LEASES = Kind("coordination.k8s.io/v1", "Lease", "leases")
MUTATING = Kind(ADMISSION, "MutatingWebhookConfiguration", "mutatingwebhookconfigurations", namespaced=False)
OURS = "cscm.test"
"""The label of the definitions that the tests made."""
READY = 60.0
"""Seconds for the start of Kyverno on a busy machine."""


@dataclass
class Kyverno:
    """A running Kyverno, with a namespace of its own."""

    admin: ClusterClient
    namespace: str
    port: int
    command: list[str]
    environment: dict[str, str]
    log: Path
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command, env=self.environment, stdout=log, stderr=log, start_new_session=True
            )
        wait_until(self._serves, READY)

    def end(self, number: signal.Signals = signal.SIGKILL) -> None:
        assert self.process
        os.kill(self.process.pid, number)
        self.process.wait(30)

    def _serves(self) -> bool:
        assert self.process and self.process.poll() is None, self.log.read_text()[-4000:]
        if self.admin.read(CONFIGURATIONS, "kyverno-policy-validating-webhook-cfg") is None:
            return False
        try:
            return bool(ssl.get_server_certificate(("127.0.0.1", self.port), timeout=5))
        except OSError:  # it learns of its certificate a second later
            return False

    def wait_for(self, policy: str) -> None:
        """Wait until Kyverno has a policy and a webhook for it."""
        wait_until(lambda: self.is_ready(policy), READY)

    def is_ready(self, policy: str) -> bool:
        found = self.admin.read(KINDS[POLICY_KIND], policy) or {}
        webhooks = self.admin.read(CONFIGURATIONS, "kyverno-resource-validating-webhook-cfg") or {}
        return bool(found.get("status", {}).get("conditionStatus", {}).get("ready")) and any(
            each["clientConfig"].get("url", "").endswith(f"/{policy}") for each in webhooks.get("webhooks", ())
        )

    def add_login(self, name: str, host: str, password: str) -> None:
        """Make or replace a Secret with credentials for a registry in Kyverno's namespace."""
        self.admin.delete(SECRETS, name, self.namespace)
        self.admin.create(SECRETS, login(name, self.namespace, host, password))


def login(name: str, namespace: str, host: str, password: str) -> Document:
    """Return a Secret with credentials for a registry."""
    auths = {"auths": {host: {"auth": base64.b64encode(f"AWS:{password}".encode()).decode()}}}
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "namespace": namespace},
        "type": "kubernetes.io/dockerconfigjson",
        "data": {".dockerconfigjson": base64.b64encode(json.dumps(auths).encode()).decode()},
    }


@contextmanager
def running_kyverno(home: Home, admin: ClusterClient, kubeconfig: Path, directory: Path) -> Iterator[Kyverno]:
    """Yield a running Kyverno; remove it, its definitions and its webhooks afterwards."""
    place = next(iter(sorted(home.tools.glob("kyverno-*"))), None)
    assert place, "Kyverno is needed: run scripts/test-programs"
    namespace, port = f"kyverno-{uuid4().hex[:8]}", free_port()
    definitions = [_trimmed(path) for path in sorted((place / "crds").glob("*.yaml"))]
    _remove_left(admin, definitions)
    try:
        for each in definitions:
            admin.create(DEFINITIONS, each)
        wait_until(lambda: all(_is_established(admin, each["metadata"]["name"]) for each in definitions), READY)
        admin.create(NAMESPACES, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})
        for name in ("kyverno", "kyverno-metrics"):
            metadata = {"name": name, "namespace": namespace}
            admin.create(CONFIG_MAPS, {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {}})
        started = Kyverno(
            admin, namespace, port, _command(place / "kyverno", kubeconfig, namespace, port),
            _environment(namespace, directory), directory / "kyverno.log",
        )  # fmt: skip
        started.start()
        yield started
        started.end()
    finally:
        remove(admin, definitions, namespace)


def remove(admin: ClusterClient, definitions: Sequence[Document], namespace: str) -> None:
    """Remove everything of Kyverno from a cluster; its webhooks first, because nobody answers them any more."""
    for kind in (CONFIGURATIONS, MUTATING):
        for each in admin.list(kind):
            if each["metadata"]["name"].startswith("kyverno-"):
                admin.delete(kind, each["metadata"]["name"])
    for each in definitions:
        admin.delete(DEFINITIONS, each["metadata"]["name"])
    if namespace:
        admin.delete(NAMESPACES, namespace)


def _remove_left(admin: ClusterClient, definitions: Sequence[Document]) -> None:
    """Remove what a killed session left; end the test in a cluster with a Kyverno that is not of the tests."""
    left = [found for each in definitions if (found := admin.read(DEFINITIONS, each["metadata"]["name"]))]
    assert all(OURS in each["metadata"].get("labels", {}) for each in left), "the cluster has a Kyverno of its own"
    if left:
        remove(admin, left, "")
        wait_until(lambda: not any(admin.read(DEFINITIONS, each["metadata"]["name"]) for each in left), READY)


def _command(program: Path, kubeconfig: Path, namespace: str, port: int) -> list[str]:
    accounts = f"system:serviceaccount:{namespace}:kyverno"
    return [
        str(program),
        f"--kubeconfig={kubeconfig}",
        f"--serverIP=127.0.0.1:{port}",
        "--webhookServerHost=127.0.0.1",
        f"--webhookServerPort={port}",
        f"--backgroundServiceAccountName={accounts}-background-controller",
        f"--reportsServiceAccountName={accounts}-reports-controller",
        "--caSecretName=kyverno-ca",
        "--tlsSecretName=kyverno-tls",
        "--tlsKeyAlgorithm=ECDSA",
        "--enableTuf=false",
        "--disableMetrics=true",
        "--controllerRuntimeMetricsAddress=0",
        "--admissionReports=false",
        "--enablePolicyException=true",
        "--exceptionNamespace=*",
    ]


def _environment(namespace: str, directory: Path) -> dict[str, str]:
    return {
        "KYVERNO_NAMESPACE": namespace,
        "KYVERNO_SERVICEACCOUNT_NAME": "kyverno-admission-controller",
        "KYVERNO_DEPLOYMENT": "none",
        "KYVERNO_POD_NAME": "none",
        "INIT_CONFIG": "kyverno",
        "METRICS_CONFIG": "kyverno-metrics",
        "HOME": str(directory),
        "DOCKER_CONFIG": str(directory),
        "TUF_ROOT": str(directory / "tuf"),
        "NO_PROXY": "127.0.0.1",
        "GOGC": "50",
    }


def _is_established(admin: ClusterClient, name: str) -> bool:
    found = admin.read(DEFINITIONS, name) or {}
    conditions = found.get("status", {}).get("conditions", ())
    return any(each["type"] == "Established" and each["status"] == "True" for each in conditions)


def _trimmed(path: Path) -> dict[str, Any]:
    """Return a definition without descriptions, and without a schema unless it is of the kind under test."""
    document: dict[str, Any] = yaml.load(path.read_bytes(), yaml.CSafeLoader)
    document["metadata"]["labels"] = {OURS: ""}
    for version in document["spec"]["versions"]:
        schema = version["schema"]["openAPIV3Schema"]
        version.pop("selectableFields", None)  # which need a schema
        version["schema"]["openAPIV3Schema"] = (
            _without_descriptions(schema)
            if document["metadata"]["name"] == CRD
            else {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
        )
    return document


def _without_descriptions(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_without_descriptions(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        key: _without_descriptions(each)
        for key, each in schema.items()
        if key != "description" or not isinstance(each, str)
    }
