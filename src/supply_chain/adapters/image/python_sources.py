"""Selection of an image's Python files that neither a package installed nor the check `source` read."""

from __future__ import annotations

import ast
import base64
import binascii
import csv
import io
import posixpath
import re
import shlex
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from supply_chain.adapters.image.file_content import ContentStore, FileContent
from supply_chain.adapters.image.filesystem import Filesystem, Kind, escape_path
from supply_chain.development.python_command import is_interpreter, parse_arguments

Files = Filesystem[FileContent]
IsRead = Callable[[str], bool]
"""Returns whether the check `source` reads a file of this SHA-256."""

INSTALLED = re.compile(
    r"/(usr/)?s?bin/|/usr/local/s?bin/|/(usr/|usr/local/)?(lib(32|64|x32)?|libexec|share)/|/var/(lib|cache)/|/proc/|/sys/"
    r"|.*/(site-packages|dist-packages|node_modules)/"
)
"""Where packages install Python files."""
PACKAGES = re.compile(r"(?!/(usr/)?(lib(32|64|x32)?|share)/).*/(site|dist)-packages/")
"""Where pip and similar tools install packages, but no distribution does: a package's record lists the files."""
JUDGED_ELSEWHERE = re.compile(r"/(site-packages|dist-packages|node_modules)/|\.py[co]$")
"""Paths of scripts that are judged as packages or as compiled Python."""
RECORD = ".dist-info/RECORD"
"""End of the path of a package's record ("Recording installed projects")."""
LARGEST_RECORD, MOST_RECORDS = 4 * 1024 * 1024, 64 * 1024 * 1024
"""Maximum bytes of a record, and of all records, that are read."""
BYTECODE = re.compile(r"(.*?/)(?:__pycache__/)?([^/]+?)(?:\.(?:cpython|pypy)[\w-]*)?(?:\.opt-\w+)?\.py[co]")
"""Path of compiled Python: its source's directory and name (PEP 3147)."""
MODULE = re.compile(r"\.pyw?$", re.IGNORECASE)
"""End of the name of a file that Python imports or runs."""
SHEBANG = re.compile(rb"#!.*(python|pypy|env\b.*\$)")
"""First line of a program that Python runs, or `env` runs what a variable names."""
QUOTING = re.compile(rb"[\"'\\]")
"""What `env -S` removes from the words that it splits."""
IMPORT = re.compile(rb"\bimport\b")
MOST_ARGUMENTS = 100
"""Maximum words after a Python interpreter among which its script is looked for."""
LARGEST_TEXT = 256 * 1024
"""Maximum bytes of a text that is parsed to find out whether it is Python."""
INVALID_ESCAPE = re.compile(r"\\([^\n\r'\"\\])|\\[\s\S]")
"""A backslash, and what follows it; the group is a character that a string can have alone."""
MOST_SOURCES, MOST_BYTES = 2000, 8 * 1024 * 1024
"""Maximum files that are read, and their maximum bytes."""


@dataclass(frozen=True)
class PythonSources:
    """Python files of an image to read, by path, and the paths of those that cannot be read."""

    files: dict[str, bytes] = field(default_factory=dict)
    left: tuple[str, ...] = ()
    """Larger than `file_content.HEAD`, or more than `MOST_SOURCES` or `MOST_BYTES` together."""


def is_python_program(start: bytes) -> bool:
    """Return whether a file that begins so is a program that Python runs, or may be one."""
    return bool(SHEBANG.match(QUOTING.sub(b"", start[:1000])))


def may_be_python_text(name: str) -> bool:
    """Return whether a file's name, without an ending, says nothing about its content."""
    return not posixpath.splitext(posixpath.basename(name))[1]


def is_python_text(content: bytes) -> bool:
    """Return whether a text of at most `LARGEST_TEXT` bytes is Python that imports something."""
    if len(content) > LARGEST_TEXT or not IMPORT.search(content):
        return False
    try:
        text = INVALID_ESCAPE.sub(lambda escape: escape[1] or escape[0], content.decode("utf-8-sig"))
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return any(isinstance(node, ast.Import | ast.ImportFrom) for node in ast.walk(tree))


def find_scripts(files: Files, config: Mapping[str, Any]) -> frozenset[str]:
    """Return the paths of the files that an image's configuration starts with a Python interpreter.

    Reads entry point, command and health check (OCI image 1.1, "Image Configuration"; Docker), also as text for a
    shell.
    """
    own = config.get("config") or {}
    health = (own.get("Healthcheck") or {}).get("Test") or ()
    directory, scripts = own.get("WorkingDir") or "/", set[str]()
    for command in ((*(own.get("Entrypoint") or ()), *(own.get("Cmd") or ())), health):
        words = [part for word in command for part in _split_shell(word)]
        for at, word in enumerate(words):
            script = parse_arguments(words[at + 1 : at + MOST_ARGUMENTS])[1] if _is_interpreter(files, word) else ""
            resolved = files.resolve(posixpath.join("/", directory, script)) if script else None
            if resolved is not None and resolved[1].content is not None:
                scripts.add(resolved[0])
    return frozenset(scripts)


def _split_shell(word: str) -> list[str]:
    """Return the words of a text for a shell; any other word alone."""
    if not re.search(r"\s", word):
        return [word]
    try:
        lexer = shlex.shlex(word, posix=True, punctuation_chars=True)
        lexer.whitespace_split = True
        return list(lexer)
    except ValueError:
        return word.split()


def _is_interpreter(files: Files, word: str) -> bool:
    resolved = files.resolve(word) if word.startswith("/") else None
    return is_interpreter(word) or (resolved is not None and is_interpreter(resolved[0]))


def find_python_sources(
    files: Files,
    keeper: ContentStore,
    is_read: IsRead,
    checkpoint: Callable[[], object],
    scripts: Collection[str] = (),
) -> PythonSources:
    """Return the image's Python files that `is_read` does not know and that are not where packages install their files.

    Also the files in a directory of packages that no package's record lists with this content. A link gives a file its
    name too. A file without the name of one is found if its content is stored, and is a script or a text that
    `is_python_text` accepts. `scripts` are paths of files that Python runs, whatever they look like, except in a
    directory of packages. `checkpoint` is called for each file, and may raise.
    """
    sources, left, room, digests = dict[str, bytes](), list[str](), MOST_BYTES, set[bytes]()
    records = read_records(files, keeper)
    for path, content in _named_files(files):
        checkpoint()
        runs = path in scripts and not (content.archive or JUDGED_ELSEWHERE.search(path))
        if (_is_installed(path, content, records) and not runs) or content.sha256 in digests:
            continue
        stored = keeper.read(content)
        is_python = runs or MODULE.search(path) or (stored is not None and _looks_like_python(path, stored))
        if not is_python or is_read(content.sha256.hex()):
            continue
        digests.add(content.sha256)
        name = escape_path(path)
        if stored is None or name in sources or len(sources) == MOST_SOURCES or len(stored) > room:
            left.append(name)
        else:
            sources[name] = stored
            room -= len(stored)
    return PythonSources(sources, tuple(sorted(left)))


def _looks_like_python(path: str, content: bytes) -> bool:
    return is_python_program(content) or (may_be_python_text(path) and is_python_text(content))


def _named_files(files: Files) -> Iterator[tuple[str, FileContent]]:
    """Yield every regular file with its path and with each link that leads to it."""
    for path, node in files.walk():
        if node.kind is Kind.LINK and MODULE.search(path):
            target = files.resolve(path)
            if target is not None and target[1].content is not None:
                yield path, target[1].content
        elif node.content is not None:
            yield path, node.content


def _is_installed(path: str, content: FileContent, records: Mapping[str, bytes]) -> bool:
    """Return whether a package installed a file, by its record if it is where packages have records."""
    return records.get(path) == content.sha256 if PACKAGES.match(path) else bool(INSTALLED.match(path))


def read_records(files: Files, keeper: ContentStore) -> dict[str, bytes]:
    """Return path → SHA-256 of the files that packages installed next to their records.

    A record that is too large, or beyond `MOST_RECORDS`, lists nothing.
    """
    records, room = dict[str, bytes](), MOST_RECORDS
    for path, node in files.walk():
        if path.endswith(RECORD) and PACKAGES.match(path) and node.content is not None:
            content = keeper.read(node.content)
            if content is not None and len(content) <= room:
                room -= len(content)
                records.update(parse_record(content, posixpath.dirname(posixpath.dirname(path))))
    return records


def parse_record(content: bytes, directory: str) -> dict[str, bytes]:
    """Return path → SHA-256 of the files below a directory of packages that a record in it lists."""
    listed = dict[str, bytes]()
    try:
        for row in csv.reader(io.StringIO(content.decode("utf-8", "surrogateescape"), newline="")):
            path = posixpath.normpath(posixpath.join(directory, row[0])) if len(row) == 3 else ""
            name, _, value = row[1].partition("=") if path else ("", "", "")
            if path.startswith(f"{directory}/") and name == "sha256":
                listed[path] = base64.urlsafe_b64decode(value + "=" * (-len(value) % 4))
    except (csv.Error, binascii.Error, ValueError):
        return {}
    return listed


def find_lone_bytecode(files: Files, keeper: ContentStore) -> Iterator[tuple[str, FileContent]]:
    """Yield the compiled Python files that have no source next to them and that no package installed."""
    lone = [
        (path, node.content)
        for path, node in files.walk()
        if node.content and (match := BYTECODE.fullmatch(path)) and files.resolve(f"{match[1]}{match[2]}.py") is None
    ]
    records = read_records(files, keeper) if lone else {}
    yield from ((path, content) for path, content in lone if records.get(path) != content.sha256)
