"""Fixtures of tests in memory: builders of model values, and a registry with the keys of all tiers."""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
import json
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from supply_chain.development.snapshot import Entry, Mode, Snapshot, compute_blob_id
from supply_chain.evidence.examination import Examination
from supply_chain.evidence.provenance import make_provenance
from supply_chain.model.declaration import FILE
from supply_chain.model.image import ImageRef
from tests.support.builders import DIGEST, NOON, OTHER, base, built, check, declaration, finding, report, source
from tests.support.memory_registry import MemoryRegistry
from tests.support.serial_executor import SerialExecutor
from tests.support.signer import EcdsaSigner, digest_of
from tests.support.world import World


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def snapshot(directory: Path, **changes: Any) -> Snapshot:
    """Return a snapshot of a small application in `directory`, with its declaration, Dockerfile and `files`."""
    files = {FILE: "the declaration", "Dockerfile": "FROM scratch\n", **changes.pop("files", {})}
    declared = changes.pop("declaration", declaration())
    entries = {
        path: Entry(path, Mode.FILE, len(text), digest_of(_bytes(text)), compute_blob_id(_bytes(text)))
        for path, text in files.items()
    }
    taken = Snapshot(
        directory, declared, changes.pop("source", source()), entries, {}, directory / "context", directory
    )
    for path, text in files.items():
        (taken.context / path).parent.mkdir(parents=True, exist_ok=True)
        (taken.context / path).write_bytes(_bytes(text))
    taken.dockerfile.parent.mkdir(exist_ok=True)
    taken.dockerfile.write_bytes(_bytes(files[declared.build.dockerfile]))
    return dataclasses.replace(taken, **changes)


def sbom_reference(
    registry: MemoryRegistry, subject: ImageRef, *packages: str, kind: str = "deb", at: datetime = NOON, **more: Any
) -> dict[str, Any]:
    """Attach an SBOM with these packages and the keys of `more`, and return the predicate that refers to it."""
    artifacts = [{"type": kind, "name": name.partition("@")[0], "purl": f"pkg:{kind}/{name}"} for name in packages]
    listed = json.dumps({"artifacts": artifacts, **more}).encode()
    referrer = registry.attach(subject, "application/vnd.syft+json", gzip.compress(listed, mtime=0), {})
    syft = {
        "name": "syft",
        "mediaType": "application/vnd.syft+json",
        "digest": {"sha256": hashlib.sha256(listed).hexdigest()},
        "annotations": {"referrer": referrer, "generator": "syft 1.2.3", "packages": len(packages)},
    }
    return {"references": [syft], "created": at.isoformat(), "examination": Examination().model_dump(mode="json")}


EXECUTOR = "supply_chain.concurrency.ThreadPoolExecutor"


@pytest.fixture
def without_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Run concurrent calls one after another."""
    monkeypatch.setattr(EXECUTOR, SerialExecutor)


@pytest.fixture
def world(without_threads: None) -> World:
    """A registry and the keys of all tiers. Concurrent calls run one after another, unless a test uses `threads`."""
    return World()


@pytest.fixture
def threads(without_threads: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run concurrent calls in threads, although the test uses `world`."""
    monkeypatch.setattr(EXECUTOR, ThreadPoolExecutor)


@pytest.fixture
def make() -> SimpleNamespace:
    """Builders that return valid values; keyword arguments change them."""
    return SimpleNamespace(
        base=base,
        snapshot=snapshot,
        built=built,
        check=check,
        digest_of=digest_of,
        finding=finding,
        declaration=declaration,
        provenance=lambda **changes: make_provenance(
            built(**changes.pop("built", {})), declaration(**changes)
        ).predicate(),
        report=report,
        sbom=sbom_reference,
        signer=EcdsaSigner,
        source=source,
        noon=NOON,
        digest=DIGEST,
        other=OTHER,
    )
