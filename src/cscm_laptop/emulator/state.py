"""Serialise the state of each of the emulator's services to disk, and restore it.

ministack's own persistence is off: it saves only at a clean stop, ignores errors, omits the STS sessions, and writes
all layers again each time. Its `get_state` and `load_persisted_state` are used for services where they are complete.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from cscm_laptop.emulator import upstream
from cscm_laptop.emulator.blobs import Blobs
from cscm_laptop.emulator.durable import Part, sweep
from cscm_laptop.emulator.exclusions import excluded
from supply_chain.errors import ComponentFailed

SERVICES = ("ecr", "eventbridge", "iam", "kms", "sqs", "sts")
"""The services whose state is durable, by the names of ministack's modules."""

ATTEMPTS = 5


def restore(directory: Path, blobs: Blobs) -> dict[str, Part]:
    """Load the state on disk into memory, and return the parts that save it from now on.

    Raises `ComponentFailed` if something cannot be read, because an empty start would overwrite it.
    """
    sweep(directory)
    blobs.sweep()
    restorers: Mapping[str, Callable[[Any], None]] = {"ecr": partial(_restore_ecr, blobs), "sts": _restore_sts}
    for service in SERVICES:
        payload = read(directory / f"{service}.json", service)
        if payload is not None:
            restorers.get(service, upstream.service_module(service).load_persisted_state)(payload)
    if (directory / "ecr.json").exists():
        blobs.keep_only(set(_digests()))
    snapshots: Mapping[str, Callable[[], Any]] = {"ecr": partial(_ecr, blobs), "sts": _sts}
    return {
        service: Part(
            directory / f"{service}.json",
            partial(encoded, service, snapshots.get(service, upstream.service_module(service).get_state)),
        )
        for service in SERVICES
    }


def read(path: Path, service: str) -> Any:
    """Return a service's saved state, or None if there is none; raise `ComponentFailed` if it cannot be read."""
    try:
        wrapped = json.loads(path.read_bytes(), object_hook=upstream.decode_object)
        version, payload = wrapped["format"], wrapped["payload"]
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise ComponentFailed(
            f"The emulator's state in {path} cannot be read: {error!r}\n"
            "Restore that file from a copy, or remove the emulator's state to start without it."
        ) from error
    if version > upstream.state_format(service):
        raise ComponentFailed(
            f"The emulator's state in {path} was written by a newer ministack (format {version}).\n"
            "Use that version again, or remove the emulator's state to start without it."
        )
    return payload


def encoded(service: str, snapshot: Callable[[], Any]) -> bytes:
    """Return a service's snapshot as bytes; call this on the event loop (see `durable.Part`).

    Raises `ComponentFailed` if the state keeps changing meanwhile.
    """
    for _ in range(ATTEMPTS):
        try:
            wrapped = {"format": upstream.state_format(service), "payload": snapshot()}
            return json.dumps(wrapped, default=upstream.encode_value).encode()
        except RuntimeError:  # one of ministack's own threads (replays, schedules) changed a dictionary meanwhile
            continue
    raise ComponentFailed(f"The emulator's {service} state changes too fast to be saved.\nTry again.")


def _sts() -> Any:
    """Return the sessions that expire; the others are root's key, which is saved in its own file."""
    return {"sessions": upstream.expiring_sessions()}


def _restore_sts(payload: Any) -> None:
    upstream.restore_sessions(payload["sessions"])


def _ecr(blobs: Blobs) -> Any:
    """Return the registry's state without content: manifests become files, and layers are only named."""
    _tidy()
    images = {
        scope: [_without_manifest(record, blobs) for record in records]
        for scope, records in upstream.images.all_items()
    }
    return {
        "repositories": upstream.repositories,
        "images": upstream.AccountRegionScopedDict.from_dict(images),
        "lifecycle_policies": upstream.lifecycle_policies,
        "repo_policies": upstream.repository_policies,
        "layers": upstream.layers,
        "pull_time_exclusions": excluded,
    }


def _restore_ecr(blobs: Blobs, payload: Any) -> None:
    upstream.repositories.update(payload["repositories"])
    upstream.lifecycle_policies.update(payload["lifecycle_policies"])
    upstream.repository_policies.update(payload["repo_policies"])
    upstream.layers.update(payload["layers"])
    excluded.update(payload.get("pull_time_exclusions", {}))
    for scope, records in payload["images"].all_items():
        upstream.images.set_scoped(*scope, [_with_manifest(record, blobs) for record in records])
    _tidy()


def _tidy() -> None:
    """Make the registry serve exactly the images that the API lists; ministack's deletions and PutImage do not."""
    for store in (upstream.layers, upstream.manifests):
        for scope, _ in store.all_items():
            if not upstream.repositories.contains_scoped(*scope):
                store.pop_scoped(*scope)
    for scope, records in upstream.images.all_items():
        manifests = upstream.manifests.get_scoped(*scope, {})
        listed = {r["imageDigest"]: manifests.get(r["imageDigest"]) or r["imageManifest"].encode() for r in records}
        upstream.manifests.set_scoped(*scope, listed)


def _without_manifest(record: dict[str, Any], blobs: Blobs) -> dict[str, Any]:
    stored = _stored(blobs, record["imageManifest"])
    if stored != record["imageDigest"]:
        return record  # PutImage was given another digest than the manifest's own
    return {key: value for key, value in record.items() if key != "imageManifest"}


def _with_manifest(record: dict[str, Any], blobs: Blobs) -> dict[str, Any]:
    if "imageManifest" in record:
        return record
    digest = record["imageDigest"]
    try:
        text = blobs.path(digest).read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise ComponentFailed(
            f"The manifest {digest} of {record['repositoryName']} is missing from the emulator's state.\n"
            "Restore it from a copy, or remove the emulator's state to start without it."
        ) from error
    return {**record, "imageManifest": text}


@lru_cache(maxsize=100_000)
def _stored(blobs: Blobs, manifest: str) -> str:
    """Store a manifest as a file and return its digest."""
    return blobs.add(manifest.encode())


def _digests() -> Iterator[str]:
    for each in (*upstream.layers.all_values(), *upstream.manifests.all_values()):
        yield from each
