"""Images, declarations and deployments of these tests."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from supply_chain.adapters.docker.engine import DockerEngine
from supply_chain.execution.deploy import Deployment, Order, deploy
from supply_chain.execution.environment import Environment
from supply_chain.execution.supply import Supply
from supply_chain.model.image import Digest, ImageRef
from supply_chain.model.manifest import Service
from supply_chain.policy.policies import DEPLOY
from tests.support.facts import admitted, deploy_facts


def now() -> datetime:
    return datetime.now(UTC)


def archive(path: Path, rootfs: bytes, config: dict[str, object]) -> str:
    """Write an OCI archive of one layer; return its manifest's digest."""
    blobs: dict[str, bytes] = {}

    def blob(content: bytes, media: str) -> dict[str, object]:
        digest = hashlib.sha256(content).hexdigest()
        blobs[digest] = content
        return {"mediaType": f"application/vnd.oci.image.{media}", "digest": f"sha256:{digest}", "size": len(content)}

    layer = blob(rootfs, "layer.v1.tar")
    described = {
        "architecture": "amd64",
        "os": "linux",
        "config": config,
        "rootfs": {"type": "layers", "diff_ids": [layer["digest"]]},
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": blob(json.dumps(described).encode(), "config.v1+json"),
        "layers": [layer],
    }
    top = blob(json.dumps(manifest).encode(), "manifest.v1+json")
    index = {"schemaVersion": 2, "manifests": [top]}
    files = {"oci-layout": b'{"imageLayoutVersion":"1.0.0"}', "index.json": json.dumps(index).encode()}
    files |= {f"blobs/sha256/{digest}": content for digest, content in blobs.items()}
    with tarfile.open(path, "w") as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return str(top["digest"])


Image = Callable[..., str]
Declared = Callable[..., Service]


class Loaded:
    """A supply for images that are already in the engine."""

    def supply(self, ref: ImageRef) -> Digest:
        return ref.digest


def order(image: Digest, environment: Environment, manifest: Service, proxy: str) -> Order:
    """Return the order to deploy an admitted image."""
    ref = ImageRef(repository="curated/subject", digest=image)
    verdict = admitted(deploy_facts(manifest, ref=ref), DEPLOY)
    return Order(admitted=verdict, manifest=manifest, environment=environment, proxy=proxy, run_id="run-1")


def carried_out(
    engine: DockerEngine, wanted: Order, supply: Supply | None = None, wait: Callable[[float], None] = time.sleep
) -> Deployment:
    """Deploy an order, without a second check by the gate and without a signature."""
    return deploy(
        engine, wanted, supply or Loaded(), now=now, wait=wait, may_serve=lambda: None, recorded=lambda done: done
    )
