"""Parser of BuildKit's provenance in buildx's metadata file: SLSA v0.2 or v1, `mode=max`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import ValidationError

from supply_chain.development.dockerfile import Command, Mount, Operations, SourceOperation
from supply_chain.development.record import BuildRecord, RecordedMaterial
from supply_chain.errors import BuildMaterialsDiffer
from supply_chain.model.image import DIGEST

KEY = "buildx.build.provenance"
NETWORK = ("unset", "host", "none")
SECURITY = ("sandbox", "insecure")
MOUNT = ("bind", "secret", "ssh", "cache", "tmpfs")
"""Names of BuildKit's enumerations (solver/pb/ops.proto); the index is the number."""


def parse_record(metadata: Mapping[str, Any]) -> BuildRecord:
    """Return the build record in buildx's metadata; raise `BuildMaterialsDiffer` if there is no readable one."""
    try:
        return _parse(metadata[KEY])
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, ValidationError) as error:
        raise BuildMaterialsDiffer(
            f"BuildKit's record of the build cannot be read ({type(error).__name__}: {error}).\n"
            "The image is not used. Check that the engine is 26.1 or later (`cscm doctor`)."
        ) from error


def _parse(predicate: Mapping[str, Any]) -> BuildRecord:
    if "buildDefinition" in predicate:  # SLSA v1
        definition = predicate["buildDefinition"]
        request = definition["externalParameters"]["request"]
        materials = definition.get("resolvedDependencies") or ()
        steps = (definition["internalParameters"].get("buildConfig") or {}).get("llbDefinition") or ()
    else:  # SLSA v0.2
        request = predicate["invocation"]["parameters"]
        materials = predicate.get("materials") or ()
        steps = (predicate.get("buildConfig") or {}).get("llbDefinition") or ()
    return BuildRecord(
        frontend=request["frontend"],
        arguments=request.get("args") or {},
        materials=tuple(_parse_material(each) for each in materials),
        operations=_parse_operations([step["op"] for step in steps]),
    )


def _parse_material(material: Mapping[str, Any]) -> RecordedMaterial:
    value = f"sha256:{(material.get('digest') or {}).get('sha256', '')}"
    return RecordedMaterial(uri=material["uri"], digest=value if re.fullmatch(DIGEST, value) else None)


def _parse_operations(steps: list[Mapping[str, Any]]) -> Operations:
    sources, execs = [], []
    others: dict[str, int] = {}
    for step in steps:
        for kind, operation in (step.get("Op") or {}).items():
            if kind == "source":
                attributes = operation.get("attrs") or {}
                sources.append(SourceOperation(identifier=operation["identifier"], attributes=attributes))
            elif kind == "exec":
                execs.append(_parse_command(operation))
            else:
                others[kind] = others.get(kind, 0) + 1
    return Operations(sources=tuple(sources), execs=tuple(execs), others=others)


def _parse_command(operation: Mapping[str, Any]) -> Command:
    return Command(
        command=" ".join((operation.get("meta") or {}).get("args") or ())[:200],
        network=_name_of(operation.get("network", 0), NETWORK),
        security=_name_of(operation.get("security", 0), SECURITY),
        mounts=tuple(_parse_mounts(operation)),
        secrets=tuple(each["ID"] for each in operation.get("secretenv") or ()),
        devices=tuple(each["name"] for each in operation.get("cdiDevices") or ()),
    )


def _parse_mounts(operation: Mapping[str, Any]) -> Iterator[Mount]:
    for each in operation.get("mounts") or ():
        kind = _name_of(each.get("mountType", 0), MOUNT)
        options = each.get({"cache": "cacheOpt", "secret": "secretOpt", "ssh": "SSHOpt"}.get(kind, "")) or {}
        yield Mount(type=kind, target=each.get("dest", ""), id=options.get("ID", ""))


def _name_of(value: int | str, names: tuple[str, ...]) -> str:
    return value.lower() if isinstance(value, str) else names[value]
