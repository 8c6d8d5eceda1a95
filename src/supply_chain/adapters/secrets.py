"""detect-secrets: what should not be in a build context. A secret itself is never repeated."""

from __future__ import annotations

import codecs
import contextlib
import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path

from pydantic import BaseModel, ValidationError

from supply_chain.adapters.command import Tool
from supply_chain.adapters.files import files_below, portions, told
from supply_chain.errors import CheckNotMade
from supply_chain.evidence.checks import Check, CheckResult
from supply_chain.image import Interval
from supply_chain.scratch import scratch
from supply_chain.shown import counted

TIMEOUT = 300.0
LARGEST = 5 * 1024 * 1024
"""Bytes a file may have to be read: detect-secrets takes some seconds for each MiB."""

EVERY_FILE = [
    f"--disable-filter=detect_secrets.filters.heuristic.{name}"
    for name in ("is_non_text_file", "is_lock_file", "is_swagger_file")
]
"""detect-secrets leaves files out by their names, without a word."""
NO_COMMENTS = "--disable-filter=detect_secrets.filters.allowlist.is_line_allowlisted"
NO_GUESSES = [f"--disable-plugin={name}HighEntropyString" for name in ("Base64", "Hex")]

PRINTED = "output.conf"
"""In files of this kind a password need not stand in quotes, as it does not in a log."""

DIGESTS = re.compile(
    r"(^|/)([^/]*\.(lock|sum)|[^/]*[.-]lock\.(json|yaml)|npm-shrinkwrap\.json|Package\.resolved|Cartfile\.resolved)$"
)
"""Files full of digests, which look like secrets by their entropy."""
PRAGMA = re.compile(r"pragma: ?(allow|white)list")


class _Finding(BaseModel):
    type: str
    line_number: int


class _Report(BaseModel):
    results: dict[str, list[_Finding]]


class _Kind(StrEnum):
    """What can be made of a file."""

    TEXT = "text"
    BINARY = "binary"
    LARGE = "large"


def find_secrets(tool: Tool, context: Path, now: Callable[[], datetime]) -> CheckResult:
    """Look through every file of a build context: what looks like a secret fails.

    What a comment declares to be none (`pragma: allowlist secret`) warns, and so do files that were not
    read. Nothing is sent anywhere to be tried. Raises `CheckNotMade` when detect-secrets gives no answer.
    """
    started = now()
    with scratch("secrets") as work:
        kinds = {file: _copy(context / file, work / file) for file in files_below(context)}
        texts, binary, large = ([file for file, kind in kinds.items() if kind is each] for each in _Kind)
        found = _found(tool, work, texts)
        excused = [file for file in texts if PRAGMA.search((work / file).read_text(encoding="utf-8"))]
        declared = [each for each in _found(tool, work, excused, NO_COMMENTS) if each not in found]
    locks = [file for file in texts if DIGESTS.search(file)]
    read = (f"detect-secrets read {counted(len(texts), 'file')}",) if texts else ()
    return CheckResult(
        check=Check.SECRETS,
        passed=(*read, *told("lock file", "of these read for known forms of secrets only", locks)),
        warned=(
            *(f"{each}, which a comment declares to be none" for each in declared),
            *told("binary file", "not read", binary),
            *told("file", f"larger than {LARGEST // 1024 // 1024} MiB not read", large),
            *(() if texts else ("The build context holds no text.",)),
        ),
        failed=tuple(found),
        details={"files": len(kinds), "binary": binary[:100], "large": large[:100]},
        tools={tool.name: tool.version},
        interval=Interval(started=started, finished=now()),
    )


def searched_checksums(context: Path) -> frozenset[str]:
    """The SHA-256, in hexadecimal digits, of the files of a build context that `find_secrets` reads."""
    read = (_read(context / file) for file in files_below(context))
    return frozenset(hashlib.sha256(content).hexdigest() for kind, content in read if kind is _Kind.TEXT)


def _read(file: Path) -> tuple[_Kind, bytes]:
    """What can be made of a file, by its content; of a large one, its beginning."""
    with file.open("rb") as opened:
        content = opened.read(LARGEST + 1)
    if len(content) > LARGEST:
        return _Kind.LARGE, content
    return (_Kind.BINARY if _decoded(content) is None else _Kind.TEXT), content


def _copy(source: Path, target: Path) -> _Kind:
    """Write a text to be looked through, in the one encoding that detect-secrets reads."""
    kind, content = _read(source)
    text = _decoded(content) if kind is _Kind.TEXT else None
    if text is not None:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8", newline="")
    return kind


def _decoded(content: bytes) -> str | None:
    """The text that a file holds, in whatever encoding; None where a zero byte says that it is none."""
    marked = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    with contextlib.suppress(UnicodeDecodeError):
        return content.decode("utf-16" if marked else "utf-8-sig")
    return None if b"\0" in content else content.decode("latin-1")


def _found(tool: Tool, work: Path, files: Sequence[str], *options: str) -> list[str]:
    """A sentence for each place; a digest is not taken for a secret where it has to be one."""
    locks = [file for file in files if DIGESTS.search(file)]
    others = [file for file in files if not DIGESTS.search(file)]
    asked = [*((part, options) for part in portions(others)), *((p, (*options, *NO_GUESSES)) for p in portions(locks))]
    return [sentence for part, chosen in asked for sentence in sentences(_scan(tool, work, part, *chosen))]


@dataclass(frozen=True)
class SecretSearch:
    """For known forms of secrets in what programs print, where much looks random; see `development.probe.Search`."""

    tool: Tool

    @property
    def tools(self) -> Mapping[str, str]:
        return {self.tool.name: self.tool.version}

    def kinds(self, text: str) -> tuple[str, ...]:
        if not text.strip():
            return ()
        with scratch("secrets") as work:
            (work / PRINTED).write_text(text, encoding="utf-8", errors="replace")
            report = _scan(self.tool, work, [f"./{PRINTED}"], NO_COMMENTS, *NO_GUESSES)
        return tuple(sorted({kind for kinds in _places(report).values() for kind in kinds}))

    def in_files(self, files: Mapping[str, bytes]) -> tuple[str, ...]:
        """`path:line: kinds` of what looks like a secret in these files, by known forms and by what it is called."""
        if not files:
            return ()
        with scratch("secrets") as work:
            names = {}
            for number, (path, content) in enumerate(files.items()):
                if (text := _decoded(content)) is not None:
                    ending = re.search(r"\.[A-Za-z0-9]{1,10}$", path)
                    name = f"{number}{ending[0] if ending else PRINTED[-5:]}"
                    (work / name).write_text(text, encoding="utf-8", newline="")
                    names[name] = path
            found = [
                (names[name], line, kinds)
                for part in portions(list(names))
                for (name, line), kinds in _places(_scan(self.tool, work, part, *NO_GUESSES)).items()
            ]
        return tuple(f"{path}:{line}: {', '.join(sorted(kinds))}" for path, line, kinds in sorted(found, key=str))


def _scan(tool: Tool, work: Path, files: Sequence[str], *options: str) -> str:
    arguments = ("scan", "--no-verify", "--all-files", *EVERY_FILE, *options, *files)
    done = tool.run(*arguments, cwd=work, timeout=TIMEOUT, check=False)
    if done.status != 0:
        raise CheckNotMade(
            f"detect-secrets ended with status {done.status}: {done.stderr[-1000:].strip()}\n"
            "Check it with `cscm doctor`, and look at its output in the log."
        )
    return done.stdout


def sentences(report: str) -> tuple[str, ...]:
    """One sentence for each place that a report names, with all that was seen there."""
    return tuple(
        f"{name}:{line}: {', '.join(sorted(kinds))}" for (name, line), kinds in sorted(_places(report).items())
    )


def _places(report: str) -> dict[tuple[str, int], set[str]]:
    """File and line → the kinds of secrets that were seen there; `CheckNotMade` where that cannot be read."""
    try:
        results = _Report.model_validate_json(report).results
    except ValidationError as error:
        raise CheckNotMade(
            f"detect-secrets' report cannot be read: {error.errors()[0]['msg']}\nCheck its version with `cscm doctor`."
        ) from error
    places: dict[tuple[str, int], set[str]] = {}
    for name, findings in results.items():
        for finding in findings:
            places.setdefault((name.removeprefix("./"), finding.line_number), set()).add(finding.type)
    return places
