"""Files and lines of what a check, a rule or an error says about a snapshot."""

from __future__ import annotations

import json
import os
import posixpath
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from supply_chain.development.dockerfile import Instruction, Reading, normalize_reference
from supply_chain.development.snapshot import Snapshot, normalize
from supply_chain.development.test import MOST_SENTENCES
from supply_chain.evidence.checks import Check, CheckResult
from supply_chain.model.declaration import FILE
from supply_chain.vulnerability.findings import Report
from supply_chain.vulnerability.scanner import Sbom

AT_LINE = re.compile(r"(?P<file>.+?):(?P<line>[1-9]\d*): ")
"""How the checks `secrets` and `source` begin a sentence about a line."""
AT_DOCKERFILE_LINE = re.compile(r"line (?P<line>[1-9]\d*): ")
"""How the check `dockerfile` begins a sentence."""
IN_LINE = re.compile(r" in line ([1-9]\d*)")
"""How an error names a line of the Dockerfile."""
AT_DECLARATION_LINE = re.compile(rf"{re.escape(FILE)}:([1-9]\d*):\d+: ")
"""How an error begins that is about a line of the declaration."""
LARGEST = 16 * 1024**2
"""Maximum bytes of a file that is searched for the line of a dependency."""


class Location(NamedTuple):
    """A file, relative to the application's directory, and a line of it; None: not known."""

    file: str | None
    line: int | None


NOWHERE = Location(None, None)


def find_mistake_location(text: str, directory: Path, *, in_declaration: bool) -> Location:
    """Return the location of a mistake in the declaration or the source, which a text begins with."""
    if match := AT_DECLARATION_LINE.match(text):
        return Location(FILE, int(match[1]))
    if in_declaration:
        return Location(FILE, None)
    name = text.partition(" ")[0]
    return Location(name if os.path.lexists(directory / name) else None, None)


def find_dockerfile_location(fact: str, snapshot: Snapshot, reading: Reading | None) -> Location:
    """Return the location of an error about the Dockerfile: the line that it names, or that of the instruction."""
    named = IN_LINE.search(fact)
    line = int(named[1]) if named else _find_instruction(fact, reading)
    return Location(normalize(snapshot.declaration.build.dockerfile), line)


def _find_instruction(fact: str, reading: Reading | None) -> int | None:
    """Return the line of the first instruction of which the fact repeats an image, a URL or a flag."""
    instructions = reading.instructions if reading else ()
    return next((each.line for each in instructions if any(text in fact for text in _list_names(each))), None)


def _list_names(instruction: Instruction) -> Iterator[str]:
    """Yield the parts of an instruction by which an error names it."""
    match instruction.name:
        case "FROM":
            yield from map(normalize_reference, instruction.words[:1])
        case "ADD":
            yield from (word for word in instruction.words if "://" in word)
        case "COPY":
            yield from (normalize_reference(f.partition("=")[2]) for f in instruction.flags if f.startswith("--from="))
        case "RUN":
            yield from instruction.flags


def find_fact_location(fact: str, locations: Mapping[str, Location]) -> Location:
    """Return the location of the first sentence of a check that a fact repeats."""
    return locations.get(fact) or next((at for sentence, at in locations.items() if sentence in fact), NOWHERE)


def find_locations(
    checks: Sequence[CheckResult], report: Report, sbom: Sbom | None, snapshot: Snapshot
) -> Iterator[tuple[str, Location]]:
    """Yield each sentence of a check whose location is known, with the location.

    `sbom` has the files in which the packages of the report's findings are declared.
    """
    for each in checks:
        for sentence in (*each.failed, *each.warned):
            at = _location_of(each.check, sentence, snapshot)
            if at.file is not None:
                yield sentence, at
    files = _files_of_packages(sbom)
    for finding in report.findings[:MOST_SENTENCES]:
        file = _file_in(snapshot, files.get((finding.package, finding.version), ""))
        if file is not None:
            yield str(finding), Location(file, _find_package(finding.package, finding.version, file, snapshot))


def _location_of(check: Check, sentence: str, snapshot: Snapshot) -> Location:
    if check is Check.DOCKERFILE:
        match = AT_DOCKERFILE_LINE.match(sentence)
        return Location(normalize(snapshot.declaration.build.dockerfile), int(match["line"]) if match else None)
    if match := AT_LINE.match(sentence):
        file = _file_in(snapshot, match["file"])
        return Location(file, int(match["line"]) if file else None)
    return Location(_file_in(snapshot, sentence.partition(": ")[0]), None)


def _file_in(snapshot: Snapshot, name: str) -> str | None:
    """Return the path of a file by its name in the build context; None if the snapshot has no such file."""
    path = posixpath.normpath(posixpath.join(normalize(snapshot.declaration.build.context), name.lstrip("/")))
    return path if path in snapshot.entries else None


def _files_of_packages(sbom: Sbom | None) -> dict[tuple[str, str], str]:
    """Return name and version of each package → the first file that declares it."""
    artifacts = json.loads(sbom.content)["artifacts"] if sbom else ()
    return {
        (each["name"], each["version"]): each["locations"][0]["path"]
        for each in reversed(artifacts)
        if each.get("version") and each.get("locations")
    }


def _find_package(name: str, version: str, file: str, snapshot: Snapshot) -> int | None:
    """Return the line in which a file names a package, with the version after it or in the next line."""
    path = snapshot.context / posixpath.relpath(file, normalize(snapshot.declaration.build.context) or ".")
    if not path.is_file() or path.stat().st_size > LARGEST:
        return None
    named = re.compile(rf"(?<![\w.-]){re.escape(name)}(?![\w.-])", re.IGNORECASE)
    versioned = re.compile(rf"(?<![\w.]){re.escape(version)}(?![\w.])")
    lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
    for number, (line, following) in enumerate(zip(lines, [*lines[1:], ""], strict=True), 1):
        match = named.search(line)
        if match and (versioned.search(line, match.end()) or versioned.search(following)):
            return number
    return None
