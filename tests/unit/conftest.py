"""Shared parts of the unit tests: builders of model values, and test doubles that record their input.

The test double of the signing tool really signs (ECDSA over DSSE's pre-authentication encoding), so that
a test fails if a signature is not verified.
"""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import fcntl
import gzip
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cached_property
from pathlib import Path
from types import SimpleNamespace
from typing import IO, Any

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import settings

from supply_chain.adapters.process.command import Tool
from supply_chain.development.snapshot import Entry, Mode, Snapshot, blob_id
from supply_chain.evidence.examination import Examination
from supply_chain.evidence.provenance import provenance
from supply_chain.evidence.statement import PAYLOAD, Statement
from supply_chain.evidence.store import EvidenceStore
from supply_chain.model.image import Digest, ImageRef
from supply_chain.model.manifest import FILE
from supply_chain.model.tier import TierName
from tests.support.builders import DIGEST, NOON, OTHER, base, built, check, finding, manifest, report, source
from tests.support.memory_ecr import MemoryEcr
from tests.support.memory_registry import MemoryRegistry

SEARCH = int(os.environ.get("CSCM_FUZZ_FACTOR", "0"))
"""Factor for the number of random examples; 0 means the written number with the same examples in each run."""


def tries(examples: int) -> settings:
    """Return settings with a number of examples that found all known faults; `make test-fuzz` tries more."""
    # no deadline, because the duration depends on other work of the machine
    return settings(max_examples=examples * max(SEARCH, 1), derandomize=not SEARCH, deadline=None)


settings.register_profile("project", tries(100))
settings.load_profile("project")


def digest_of(content: bytes) -> Digest:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def pae(payload_type: str, payload: bytes) -> bytes:
    """Return the pre-authentication encoding of DSSE v1, "PAE(type, body)"."""
    return b"DSSEv1 %d %s %d %s" % (len(payload_type), payload_type.encode(), len(payload), payload)


@dataclass
class EcdsaSigner:
    """Signs as cosign does, with its own key."""

    private: ec.EllipticCurvePrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))

    @cached_property
    def public(self) -> str:
        form = serialization.PublicFormat.SubjectPublicKeyInfo
        return self.private.public_key().public_bytes(serialization.Encoding.PEM, form).decode()

    @cached_property
    def hint(self) -> str:
        form = serialization.PublicFormat.SubjectPublicKeyInfo
        der = self.private.public_key().public_bytes(serialization.Encoding.DER, form)
        return base64.b64encode(hashlib.sha256(der).digest()).decode()

    def sign(self, statement: Statement) -> bytes:
        return self.sign_bytes(statement.bytes())

    def sign_bytes(self, payload: bytes, payload_type: str = PAYLOAD, hint: str | None = None) -> bytes:
        """Return a bundle with any payload; the store must handle what a tier signs by mistake."""
        signature = self.private.sign(pae(payload_type, payload), ec.ECDSA(hashes.SHA256()))
        return json.dumps(
            {
                "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
                "verificationMaterial": {"publicKey": {"hint": hint or self.hint}},
                "dsseEnvelope": {
                    "payloadType": payload_type,
                    "payload": base64.b64encode(payload).decode(),
                    "signatures": [{"sig": base64.b64encode(signature).decode()}],
                },
            }
        ).encode()


@dataclass
class World:
    """A registry, a key for every tier, and the evidence store of each tier."""

    registry: MemoryRegistry = field(default_factory=MemoryRegistry)
    signers: dict[TierName, EcdsaSigner] = field(default_factory=lambda: {tier: EcdsaSigner() for tier in TierName})
    now: datetime = NOON + timedelta(days=3650)
    """The time of the clock; it is late, so that evidence is of the future only if a test wants that."""

    @property
    def ecr(self) -> MemoryEcr:
        """The administration of the registry."""
        return MemoryEcr(self.registry)

    def store(self, tier: TierName) -> EvidenceStore:
        trusted = {name: signer.public for name, signer in self.signers.items()}
        return EvidenceStore(tier, self.registry, self.signers[tier], trusted, lambda: self.now)


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def snapshot(directory: Path, **changes: Any) -> Snapshot:
    """Return a snapshot of a small application in `directory`, with its manifest, Dockerfile and `files`."""
    files = {FILE: "the declaration", "Dockerfile": "FROM scratch\n", **changes.pop("files", {})}
    declared = changes.pop("manifest", manifest())
    entries = {
        path: Entry(path, Mode.FILE, len(text), digest_of(_bytes(text)), blob_id(_bytes(text)))
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


@dataclass
class Program:
    """A program in place of a tool: it records its calls and behaves as the test says."""

    directory: Path
    name: str

    def does(self, script: str = "", *, stdout: str | bytes = "", stderr: str = "", status: int = 0) -> Tool:
        """Set the behavior of the program and return it as a tool; `script` is sh and may set another exit status."""
        (self.directory / "stdout").write_bytes(stdout.encode() if isinstance(stdout, str) else stdout)
        (self.directory / "stderr").write_text(stderr)
        path = self.directory / self.name
        path.write_text(
            f"#!/bin/sh\nhere={self.directory}\n"
            'n=$(ls "$here" | grep -c "^argv"); printf "%s\\0" "$@" > "$here/argv.$n"; env -0 > "$here/env.$n"\n'
            f'{script}\ncat "$here/stdout"; cat "$here/stderr" >&2; exit {status}\n'
        )
        path.chmod(0o755)
        return Tool(self.name, path, "1.2.3")

    @property
    def calls(self) -> list[list[str]]:
        """The arguments of every call."""
        return [(self.directory / f"argv.{n}").read_text().split("\0")[:-1] for n in range(self._count)]

    @property
    def environments(self) -> list[dict[str, str]]:
        """The environment of every call."""
        texts = [(self.directory / f"env.{n}").read_text() for n in range(self._count)]
        return [dict(line.split("=", 1) for line in text.split("\0") if "=" in line) for text in texts]

    @property
    def _count(self) -> int:
        return len(list(self.directory.glob("argv.*")))


@pytest.fixture
def program(tmp_path: Path) -> Callable[[str], Program]:
    """Return a function that creates a program by name."""

    def named(name: str) -> Program:
        directory = tmp_path / f"program-{name}"
        directory.mkdir()
        return Program(directory, name)

    return named


@pytest.fixture
def docker_config(tmp_path: Path) -> Callable[[], AbstractContextManager[Path]]:
    """Return a context manager for a directory with registry credentials, which is removed afterwards."""

    @contextlib.contextmanager
    def config() -> Iterator[Path]:
        path = tmp_path / "docker-config"
        path.mkdir()
        try:
            yield path
        finally:
            path.rmdir()

    return config


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory of this test run that all pytest workers share."""
    base = tmp_path_factory.getbasetemp()
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


@pytest.fixture(scope="session", autouse=True)
def at_work(shared: Path) -> Iterator[IO[str]]:
    """A file that each worker locks from its first to its last test; the last worker can lock it exclusively."""
    with (shared / "at-work").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        yield file


@pytest.fixture(scope="session")
def prefect_server(shared: Path, at_work: IO[str]) -> Iterator[str]:
    """The address of Prefect's test server, which the first worker that needs it starts and finally ends."""
    from prefect.events.worker import EventsWorker  # noqa: PLC0415 - most tests need none of it
    from prefect.settings import get_current_settings, temporary_settings  # noqa: PLC0415
    from prefect.testing.utilities import prefect_test_harness  # noqa: PLC0415

    with (shared / "prefect").open("a+") as file, contextlib.ExitStack() as started:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        address = file.read()
        if not address:
            started.enter_context(temporary_settings(quiet(shared / "prefect-server")))
            started.enter_context(prefect_test_harness(server_startup_timeout=120))
            started.callback(fcntl.flock, at_work, fcntl.LOCK_EX)
            address = str(get_current_settings().api.url)
            print(address, end="", file=file, flush=True)
        fcntl.flock(file, fcntl.LOCK_UN)
        yield address
        EventsWorker.drain_all()  # while the server still runs


def quiet(home: Path) -> dict[Any, Any]:
    """Return Prefect's settings for a separate machine without logging to the API and analytics."""
    from prefect.settings import (  # noqa: PLC0415
        PREFECT_HOME,
        PREFECT_LOGGING_TO_API_ENABLED,
        PREFECT_SERVER_ANALYTICS_ENABLED,
    )

    return {PREFECT_HOME: home, PREFECT_LOGGING_TO_API_ENABLED: False, PREFECT_SERVER_ANALYTICS_ENABLED: False}


@pytest.fixture
def machine(prefect_server: str, tmp_path: Path) -> Iterator[Callable[[str], AbstractContextManager[Any]]]:
    """Make the test a client of Prefect's server, and return a function that switches to another machine."""
    from prefect.settings import PREFECT_API_URL, temporary_settings  # noqa: PLC0415

    def named(name: str) -> AbstractContextManager[Any]:
        return temporary_settings({**quiet(tmp_path / name), PREFECT_API_URL: prefect_server})

    with named("this"):
        yield named


@pytest.fixture
def world() -> World:
    """A registry and the keys of all tiers."""
    return World()


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
        manifest=manifest,
        provenance=lambda **changes: provenance(built(**changes.pop("built", {})), manifest(**changes)).predicate(),
        report=report,
        sbom=sbom_reference,
        signer=EcdsaSigner,
        source=source,
        noon=NOON,
        digest=DIGEST,
        other=OTHER,
    )
