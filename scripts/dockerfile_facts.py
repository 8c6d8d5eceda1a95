"""Make tests/assets/dockerfiles.json: facts about Dockerfiles of public repositories, without their text.

    python -m scripts.dockerfile_facts READER DIRECTORY…

READER is the program that `cscm up` builds. Each DIRECTORY is a git repository named OWNER+NAME, or is in one. The
facts of a Dockerfile are its path, the SHA-256 of its bytes, and its structure as BuildKit's parser sees it. A file
that BuildKit cannot parse (a template) is left out.
"""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from supply_chain.adapters.docker.dockerfile import BuildKitReader
from supply_chain.adapters.process.command import Tool
from supply_chain.development.dockerfile import Instruction, Reading

NAME = re.compile(r"(^|/)(Dockerfile([._-][\w.-]+)?|[\w-]+\.Dockerfile)$", re.IGNORECASE)
TARGET = Path("tests/assets/dockerfiles.json")
MOST = 45
"""Maximum number of Dockerfiles of one repository."""
COPYING = ("ADD", "COPY")
ADDRESS = re.compile(r"=.*(?:://|\s|\n).*", re.DOTALL)
"""A default value that is an address or a sentence; it is replaced, because it is not structure."""


def main(reader: str, *directories: str) -> None:
    """Write the facts of all repositories."""
    tool = BuildKitReader(Tool("dockerfile-reader", Path(reader), "1.0.0"))
    recorded: set[str] = set()
    records = []
    for directory in directories:
        records += list(of_repository(Path(directory), tool, recorded))
    TARGET.write_text(json.dumps(records, separators=(",", ":")).replace('},{"repo"', '},\n{"repo"') + "\n")
    print(f"{len(records)} Dockerfiles of {len({each['repo'] for each in records})} repositories")


def of_repository(directory: Path, reader: BuildKitReader, recorded: set[str]) -> Iterator[dict[str, Any]]:
    """Yield the facts of at most `MOST` Dockerfiles of a repository, spread over it."""
    name = next(part for part in reversed(directory.parts) if "+" in part).replace("+", "/")
    commit = git(directory, "rev-parse", "HEAD").decode().strip()
    listed = git(directory, "ls-tree", "-r", "-z", "--name-only", "HEAD").decode("utf-8", "replace").split("\0")
    paths = [path for path in listed if NAME.search(path)]
    step = max(1, len(paths) // MOST)
    number = 0
    for path in [*paths[::step], *paths]:
        content = git(directory, "show", f"HEAD:{path}")
        digest = hashlib.sha256(content).hexdigest()
        if number == MOST or digest in recorded or not content.strip() or len(content) > 256 * 1024:
            continue
        reading = reader.read(content, (), "linux/amd64", {}, "facts", {})
        if reading.error or len(reading.instructions) > 150:
            continue
        recorded.add(digest)
        number += 1
        yield {"repo": name, "path": path, "commit": commit, "sha256": digest, **facts(reading)}


def git(directory: Path, *args: str) -> bytes:
    """Return the output of a git command."""
    words = ["git", "-C", str(directory), *args]
    return subprocess.run(words, capture_output=True, check=False).stdout


def facts(reading: Reading) -> dict[str, Any]:
    """Return the structure of a Dockerfile."""
    return {
        "directives": {each.name: each.value for each in reading.directives},
        "stages": [[each.name, each.base, each.platform] for each in reading.stages],
        "instructions": [list(fact(each)) for each in reading.instructions],
    }


def fact(instruction: Instruction) -> Iterator[Any]:
    """Yield name, lines, flags that name other objects, form, and inputs, depending on the kind of instruction."""
    yield instruction.name
    yield instruction.lines
    yield [flag for flag in instruction.flags if flag.startswith(("--from=", "--mount=", "--network=", "--platform="))]
    yield "json" if instruction.json_form else "heredoc" if instruction.heredocs else "shell"
    if instruction.name in COPYING:
        yield [kind(word) for word in instruction.words[:-1]]
    elif instruction.name in ("ARG", "FROM"):
        yield [ADDRESS.sub("=x", word) for word in instruction.words]


def kind(word: str) -> str:
    """Return the kind of a source of ADD or COPY: git, url or file."""
    if word.startswith(("http://", "https://")):
        return "git" if word.endswith(".git") or ".git#" in word else "url"
    return "git" if word.startswith("git@") or word.startswith("git://") else "file"


if __name__ == "__main__":
    main(*sys.argv[1:])
