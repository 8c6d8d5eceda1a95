"""Programs that syft found and that a package claims to own: which of them an SBOM leaves out."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

from supply_chain.adapters.image.packaged_files import PackagedFiles

OVERLAP = "ownership-by-file-overlap"
"""Syft's relation from a package to another package whose files it claims to own."""
BINARY = "binary"
PROGRAMS = ("binary-signature", "elf-binary-package-note-json-payload", "java-jvm-installation")
"""Kinds of metadata of packages that syft recognised by a program's content."""
MANAGERS = {"alpm": "pacman", "apk": "apk", "deb": "dpkg", "portage": "portage", "rpm": "rpm"}
"""Type of a distribution's package → its package manager. Nix is left out: nothing shows what its packages own."""
ADDED = re.compile(r"\A[0-9]+:|[-+~_].*", re.DOTALL)
"""What distributions and builds add to a version: an epoch, such as `1:`, and an end, such as `-1~deb12u2` or `_p9-r0`.
"""


def leave_out_owned(document: dict[str, Any], packaged: PackagedFiles) -> bool:
    """Remove from an SBOM each program that a distribution's package owns; return whether there are any.

    Syft itself would leave out every program that a package claims to own; also one that a Java runtime or a component
    of Bitnami claims, which anybody can write. Raises `KeyError` or `TypeError` if this is no SBOM of syft's.
    """
    owned = set(_find_owned(document, packaged))
    if owned:
        relations = document["artifactRelationships"]
        document["artifacts"] = [each for each in document["artifacts"] if each["id"] not in owned]
        document["artifactRelationships"] = [
            each for each in relations if owned.isdisjoint((each["parent"], each["child"]))
        ]
    return bool(owned)


def _find_owned(document: Mapping[str, Any], packaged: PackagedFiles) -> Iterator[str]:
    artifacts = {each["id"]: each for each in document["artifacts"]}
    owners = defaultdict[tuple[str, str], list[tuple[str, str]]](list)
    for each in document.get("artifactRelationships") or ():
        owner, program = (artifacts.get(each[end]) if each["type"] == OVERLAP else None for end in ("parent", "child"))
        if owner and program and owner["type"] in MANAGERS and _is_program(program):
            packages = owners[each["child"], MANAGERS[owner["type"]]]
            if _read_version(owner) == _read_version(program):
                packages.append((owner["name"], owner["version"]))
    for (program_id, manager), packages in owners.items():
        paths = (location["path"] for location in artifacts[program_id]["locations"])
        if packaged.are_of(manager, packages, paths):
            yield program_id


def _read_version(artifact: Mapping[str, Any]) -> str:
    return ADDED.sub("", artifact["version"])


def _is_program(artifact: Mapping[str, Any]) -> bool:
    return artifact["type"] == BINARY or artifact.get("metadataType") in PROGRAMS
