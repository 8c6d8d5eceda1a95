"""Faults of the machine: missing bases, a stopped engine, a taken port, a full disk."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from supply_chain.adapters.registry.client import Registry
from supply_chain.errors import RegistryUnavailable
from supply_chain.model.image import ImageRef
from supply_chain.model.tier import TierName
from tests.integration.unreliable_services.sandbox import NAME, place, subject_of
from tests.support.application import Application
from tests.support.fault_proxy import Fault

from .sandbox import GONE, Sandbox

pytestmark = [pytest.mark.real, pytest.mark.usefixtures("serving")]


def other(application: Application, directory: Path, base: str) -> Path:
    """Return a copy of the application that is built on a base."""
    path = directory / NAME
    shutil.copytree(application.path, path, ignore=shutil.ignore_patterns(".git"))
    dockerfile = path / "Dockerfile"
    dockerfile.write_text(dockerfile.read_text().replace("FROM scratch\n", f"FROM {base}\n"))
    return path


def test_deleted_upstream_base_is_missing(sandbox: Sandbox, application: Application, tmp_path: Path) -> None:
    """The run ends before anything is built on it."""
    with sandbox.proxy.broken(Fault("/v2/upstream/", status=404, body=b'{"errors":[{"code":"MANIFEST_UNKNOWN"}]}')):
        ran = sandbox.cscm("chain", str(other(application, tmp_path, f"curated/base/{GONE}")))

    assert ran.status == 1
    assert "[base.missing]" in ran.error and "/upstream/base@sha256:aaa" in ran.error, ran.error


def test_upstream_base_with_changed_content_is_refused(
    sandbox: Sandbox, application: Application, tmp_path: Path
) -> None:
    """Its content does not match the requested digest."""
    manifest = b'{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{},"layers":[]}'
    kind = {"Content-Type": "application/vnd.oci.image.manifest.v1+json", "Docker-Content-Digest": "sha256:" + "a" * 64}
    with sandbox.proxy.broken(Fault("/v2/upstream/", status=200, headers=kind, body=manifest)):
        ran = sandbox.cscm("chain", str(other(application, tmp_path, f"curated/base/{GONE}")))

    assert ran.status == 1
    assert "[base.missing]" in ran.error and "does not match requested digest" in ran.error, ran.error


@pytest.mark.parametrize("after", [0.0, 2.0], ids=["as it begins", "while it runs"])
def test_engine_that_stops_during_a_build_fails_the_run(
    sandbox: Sandbox, application: Application, tmp_path: Path, after: float
) -> None:
    """The error names the engine and not the Dockerfile, and the previous deployment serves on."""
    path = other(application, tmp_path, "scratch")
    dockerfile = path / "Dockerfile"
    dockerfile.write_text(
        dockerfile.read_text().replace("EXPOSE", 'RUN ["/subject"]\nEXPOSE')
    )  # the program does not end
    with sandbox.relay.stops_at(b"/grpc", after):
        ran = sandbox.cscm("chain", str(path))

    assert ran.status == 1
    assert "[engine.unavailable]" in ran.error and "cscm doctor" in ran.error, ran.error
    assert "build" in ran.stderr and "as the engine stopped answering" in ran.stderr, ran.stderr
    assert sandbox.last_run()["state_type"] == "FAILED"
    assert not [t for t in sandbox.tags(f"dev/{NAME}") if t.startswith("none")]


def test_taken_port_keeps_the_previous_deployment(sandbox: Sandbox, application: Application, first: ImageRef) -> None:
    """It answers at its own address."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        sandbox.document.write_text(place(port))
        try:
            ran = sandbox.cscm("deploy", str(first), "--environment", "sandbox")
        finally:
            sandbox.document.write_text(place(application.port))

    assert ran.status == 1
    assert "[port.busy]" in ran.error and str(port) in ran.error, ran.error
    assert sandbox.last_run()["state_type"] == "FAILED"
    assert httpx.get(application.url).status_code == 200


def test_full_temporary_disk_stops_curation(sandbox: Sandbox, candidate: ImageRef) -> None:
    """Nothing is released, and the error says to make room."""
    ran = sandbox.cscm("curate", str(candidate), disk="64k")

    assert ran.status == 1
    assert "[disk.full]" in ran.error and "Make room" in ran.error, ran.error
    assert sandbox.last_run()["state_type"] == "FAILED"
    assert not sandbox.released(f"curated/{candidate.application}", candidate.digest)


def test_registry_with_a_full_disk_stores_no_partial_referrer(
    sandbox: Sandbox, registry: Callable[[TierName], Registry]
) -> None:
    """It counts as an outage, and the same push succeeds once there is room."""
    ours = registry(TierName.DEVELOPMENT)
    subject = subject_of(sandbox, ours, "dev/full")
    content, filler = b"x" * 3_000_000, sandbox.registry_disk / "filler"
    try:
        with filler.open("wb", buffering=0) as file, pytest.raises(OSError, match="No space left"):
            while True:
                file.write(b"0" * 65536)
        with pytest.raises(RegistryUnavailable):
            ours.attach(subject, "application/vnd.example", content, {})
    finally:
        filler.unlink()

    assert ours.referrers(subject) == ()
    ours.attach(subject, "application/vnd.example", content, {})
    assert len(ours.referrers(subject)) == 1
