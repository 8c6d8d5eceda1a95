"""Serialise the state of each of the emulator's services to disk, and restore it.

ministack's own persistence is off: it saves only at a clean stop, ignores errors, omits the STS sessions, and writes
all layers again each time. Its `get_state` and `load_persisted_state` are used for services where they are complete.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from ministack.core import persistence

from cscm_laptop.emulator.blobs import Blobs
from cscm_laptop.emulator.durable import Part, sweep
from cscm_laptop.emulator.exclusions import excluded
from supply_chain.errors import PartFailed

SERVICES = ("ecr", "eventbridge", "iam", "kms", "sqs", "sts")
"""The services whose state is durable, by the names of ministack's modules."""

ATTEMPTS = 5


def module(service: str) -> Any:
    """Return ministack's module of a service."""
    return importlib.import_module(f"ministack.services.{service}")


def restore(directory: Path, blobs: Blobs) -> dict[str, Part]:
    """Load the state on disk into memory, and return the parts that save it from now on.

    Raises `PartFailed` if something cannot be read, because an empty start would overwrite it.
    """
    sweep(directory)
    blobs.sweep()
    restorers: Mapping[str, Callable[[Any], None]] = {"ecr": partial(_restore_ecr, blobs), "sts": _restore_sts}
    for service in SERVICES:
        payload = read(directory / f"{service}.json", service)
        if payload is not None:
            restorers.get(service, module(service).load_persisted_state)(payload)
    if (directory / "ecr.json").exists():
        blobs.keep_only(set(_digests()))
    snapshots: Mapping[str, Callable[[], Any]] = {"ecr": partial(_ecr, blobs), "sts": _sts}
    return {
        service: Part(
            directory / f"{service}.json", partial(encoded, service, snapshots.get(service, module(service).get_state))
        )
        for service in SERVICES
    }


def read(path: Path, service: str) -> Any:
    """Return a service's saved state, or None if there is none; raise `PartFailed` if it cannot be read."""
    try:
        wrapped = json.loads(path.read_bytes(), object_hook=persistence._json_object_hook)
        version, payload = wrapped["format"], wrapped["payload"]
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise PartFailed(
            f"The emulator's state in {path} cannot be read: {error!r}\n"
            "Restore that file from a copy, or remove the emulator's state to start without it."
        ) from error
    if version > persistence._state_format_version(service):
        raise PartFailed(
            f"The emulator's state in {path} was written by a newer ministack (format {version}).\n"
            "Use that version again, or remove the emulator's state to start without it."
        )
    return payload


def encoded(service: str, snapshot: Callable[[], Any]) -> bytes:
    """Return a service's snapshot as bytes; call this on the event loop (see `durable.Part`).

    Raises `PartFailed` if the state keeps changing meanwhile.
    """
    for _ in range(ATTEMPTS):
        try:
            wrapped = {"format": persistence._state_format_version(service), "payload": snapshot()}
            return json.dumps(wrapped, default=persistence._json_default).encode()
        except RuntimeError:  # one of ministack's own threads (replays, schedules) changed a dictionary meanwhile
            continue
    raise PartFailed(f"The emulator's {service} state changes too fast to be saved.\nTry again.")


def _sts() -> Any:
    """Return the sessions that expire; the others are root's key, which is saved in its own file."""
    sts = module("sts")
    sts._evict_expired_sessions()
    return {"sessions": {key: session for key, session in sts._sessions.items() if "Expiration" in session}}


def _restore_sts(payload: Any) -> None:
    module("sts")._sessions.update(payload["sessions"])


def _ecr(blobs: Blobs) -> Any:
    """Return the registry's state without content: manifests become files, and layers are only named."""
    ecr = module("ecr")
    _tidy(ecr)
    images = type(ecr._images)()
    for scope, records in ecr._images._data.items():
        images._data[scope] = [_without_manifest(record, blobs) for record in records]
    return {
        "repositories": ecr._repositories,
        "images": images,
        "lifecycle_policies": ecr._lifecycle_policies,
        "repo_policies": ecr._repo_policies,
        "layers": ecr._layer_blobs,
        "pull_time_exclusions": excluded,
    }


def _restore_ecr(blobs: Blobs, payload: Any) -> None:
    ecr = module("ecr")
    ecr._repositories.update(payload["repositories"])
    ecr._lifecycle_policies.update(payload["lifecycle_policies"])
    ecr._repo_policies.update(payload["repo_policies"])
    ecr._layer_blobs.update(payload["layers"])
    excluded.update(payload.get("pull_time_exclusions", {}))
    for scope, records in payload["images"]._data.items():
        ecr._images._data[scope] = [_with_manifest(record, blobs) for record in records]
    _tidy(ecr)


def _tidy(ecr: Any) -> None:
    """Make the registry serve exactly the images that the API lists; ministack's deletions and PutImage do not."""
    for store in (ecr._layer_blobs, ecr._manifest_blobs):
        for scope in [scope for scope in store._data if scope not in ecr._repositories._data]:
            del store._data[scope]
    for scope, records in ecr._images._data.items():
        known = ecr._manifest_blobs._data.get(scope, {})
        kept = {r["imageDigest"]: known.get(r["imageDigest"]) or r["imageManifest"].encode() for r in records}
        ecr._manifest_blobs._data[scope] = kept


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
        raise PartFailed(
            f"The manifest {digest} of {record['repositoryName']} is missing from the emulator's state.\n"
            "Restore it from a copy, or remove the emulator's state to start without it."
        ) from error
    return {**record, "imageManifest": text}


@lru_cache(maxsize=100_000)
def _stored(blobs: Blobs, manifest: str) -> str:
    """Store a manifest as a file and return its digest."""
    return blobs.add(manifest.encode())


def _digests() -> Iterator[str]:
    ecr = module("ecr")
    for layers in ecr._layer_blobs._data.values():
        yield from layers
    for manifests in ecr._manifest_blobs._data.values():
        yield from manifests
