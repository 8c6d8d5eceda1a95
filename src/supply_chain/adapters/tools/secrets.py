"""Finds secrets in texts, with detect-secrets and by known forms (`secret_forms`); never repeats a secret itself."""

from __future__ import annotations

import hashlib
import re
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path

from pydantic import BaseModel, ValidationError

from supply_chain.adapters.files.free_space import find_shortage
from supply_chain.adapters.files.selection import PORTION, describe_files, list_files, split_arguments
from supply_chain.adapters.image.secret_forms import decode_texts, find_binary_keys, find_secret_patterns
from supply_chain.adapters.process.command import Tool
from supply_chain.adapters.tools.secret_readings import read_otherwise
from supply_chain.errors import CheckIncomplete
from supply_chain.evidence.checks import Check, CheckResult
from supply_chain.model.image import Interval
from supply_chain.scratch import make_scratch_directory
from supply_chain.text import pluralize

TIMEOUT = 300.0
LONGEST = 1800.0
"""Seconds after which no further batch of files is read."""
MEMORY = 2 * 1024**3
"""Maximum bytes of memory that each process of detect-secrets may use."""
CORES = "2"
"""Processes in which detect-secrets reads files, in addition to the one that starts them. Its default is one per core.
"""
LARGEST = 5 * 1024 * 1024
"""Maximum bytes of a file that is read: detect-secrets takes some seconds for each MiB."""
BATCH = 32 * 1024 * 1024
"""Bytes of copies after which they are scanned and removed. The last copy may exceed it."""

SECRETS_VERSION = "12"
"""Version of this search. Raise it when more is searched, so that files that were checked before are checked again."""

EVERY_FILE = [
    f"--disable-filter=detect_secrets.filters.heuristic.{name}" for name in ("is_lock_file", "is_swagger_file")
]
ENDINGS = {
    ".c", ".cf", ".cfg", ".cls", ".cnf", ".conf", ".cpp", ".cs", ".example", ".eyaml", ".go", ".ini", ".java", ".js",
    ".m", ".php", ".properties", ".py", ".pyi", ".swift", ".tf", ".toml", ".yaml", ".yml",
}  # fmt: skip
"""File name endings by which detect-secrets knows how a password is written (its util/filetype.py). It silently skips
files with some other endings (`.png`, `.css`, `.lock`) when it is given several files, whatever its options. Each copy
that it reads therefore has one of these endings or an unknown one.
"""
QUOTED = {
    ".adoc", ".cc", ".cjs", ".css", ".cxx", ".dart", ".erl", ".ex", ".exs", ".gradle", ".graphql", ".groovy", ".h",
    ".hh", ".hpp", ".htm", ".html", ".ipynb", ".json", ".jsonl", ".jsx", ".kt", ".kts", ".less", ".lua", ".md", ".mjs",
    ".mm", ".pl", ".pm", ".proto", ".pyw", ".r", ".rb", ".rs", ".rst", ".scala", ".scss", ".sql", ".svelte", ".svg",
    ".ts", ".tsx", ".vue", ".xml",
}  # fmt: skip
"""Other file name endings of code and prose, where `password: string` is no password: a value has to be in quotes."""
SCRIPT = re.compile(rb"#!.*\b(bun|deno|lua|node|perl|php|python|ruby)")
"""First line of a script in a language in which a text has to be in quotes."""
NO_COMMENTS = "--disable-filter=detect_secrets.filters.allowlist.is_line_allowlisted"
NO_GUESSES = [f"--disable-plugin={name}HighEntropyString" for name in ("Base64", "Hex")]

TEXT, PRINTED = ".txt", ".conf"
"""Endings of copies. In the second a password need not be in quotes, as in a log, a shell script or a `.env`."""

DIGESTS = re.compile(
    r"(^|/)([^/]*\.(lock|sum)|[^/]*[.-]lock\.(json|yaml)|npm-shrinkwrap\.json|Package\.resolved|Cartfile\.resolved)$"
)
"""Files full of digests, which look like secrets because of their entropy."""
PRAGMA = re.compile(r"pragma: ?(allow|white)list")
DECLARED = re.compile(r"pragma: ?(allow|white)list[ -]secret")
DECLARED_NEXT = re.compile(r"^\W*pragma: ?allowlist[ -]nextline[ -]secret")
"""Detect-secrets' own comments (its filters/allowlist.py), about the same line and about the next line."""

MOST_OF_FILE, MOST_PLACES = 1000, 10_000
"""Maximum places of secrets that are listed, of one file and in total."""


class Places(dict[tuple[str, int], set[str]]):
    """File and line → the kinds of secrets that were found there, up to `MOST_OF_FILE` and `MOST_PLACES`."""

    def __init__(self) -> None:
        super().__init__()
        self.unlisted = 0
        """Number of findings at further places."""
        self._files = Counter[str]()

    def add(self, file: str, line: int, kinds: Iterable[str]) -> None:
        """Add kinds of secrets at a place."""
        if (file, line) not in self:
            if self._files[file] >= MOST_OF_FILE or len(self) >= MOST_PLACES:
                self.unlisted += 1
                return
            self._files[file] += 1
            self[file, line] = set()
        self[file, line].update(kinds)

    def merge(self, more: Places, originals: Mapping[str, str] | None = None) -> None:
        """Add all places of others; `originals` are the files that the files of `more` are copies of."""
        self.unlisted += more.unlisted
        for (file, line), kinds in more.items():
            self.add(originals[file] if originals is not None else file, line, kinds)

    def sentences(self, excluded: Collection[tuple[str, int]] = ()) -> tuple[str, ...]:
        """Return a sentence for each place except the excluded ones, and one about those that are not listed."""
        listed = (
            f"{file}:{line}: {', '.join(_distinct(kinds))}"
            for (file, line), kinds in sorted(self.items())
            if (file, line) not in excluded
        )
        return (*listed, *((f"{pluralize(self.unlisted, 'further finding')} not listed",) if self.unlisted else ()))


class _Finding(BaseModel):
    type: str
    line_number: int


class _Report(BaseModel):
    results: dict[str, list[_Finding]]


def find_secrets(
    tool: Tool, context: Path, now: Callable[[], datetime], others: Mapping[str, Path] | None = None
) -> CheckResult:
    """Search every file of a build context: everything that looks like a secret fails.

    `others` are files outside the context that say how to build, by their paths relative to it. A finding that a
    comment declares harmless (`pragma: allowlist secret`) warns, and so do files that were not read. Findings are never
    sent anywhere to be verified. Raises `CheckIncomplete` if detect-secrets gives no answer.
    """
    started = now()
    with make_scratch_directory("secrets") as work:
        files = {**(others or {}), **{file: context / file for file in list_files(context)}}
        texts, binary, large = list[str](), list[str](), list[str]()
        places, declared = Places(), Places()

        def read_files() -> Iterator[tuple[str, bytes]]:
            for file, path in files.items():
                content = _content(path)
                text = content is not None and bool(decode_texts(content))
                (large if content is None else texts if text else binary).append(file)
                if content is not None:
                    for line, kind in find_binary_keys(content) if text else ():
                        places.add(file, line, [kind])
                    yield file, content

        for copies in _write_batches(work, read_files()):
            places.merge(_search_copies(tool, work, copies))
            excused = dict[str, str]()
            for copy, file in copies.items():
                text = (work / copy).read_text(encoding="utf-8")
                if PRAGMA.search(text):
                    excused[copy] = file
                _add_known_forms(file, text, places, declared)
            declared.merge(_search_copies(tool, work, excused, NO_COMMENTS))
    locks = [file for file in texts if DIGESTS.search(file)]
    passed = (f"detect-secrets read {pluralize(len(texts), 'file')}",) if texts else ()
    return CheckResult(
        check=Check.SECRETS,
        passed=(*passed, *describe_files("lock file", "of these read for known forms of secrets only", locks)),
        warned=(
            *(f"{each}, which a comment declares to be none" for each in declared.sentences(places)),
            *describe_files("binary file", "not read", binary),
            *describe_files("file", f"larger than {LARGEST // 1024 // 1024} MiB not read", large),
            *(() if texts else ("The build context holds no text.",)),
        ),
        failed=places.sentences(),
        details={"files": len(files), "binary": binary[:100], "large": large[:100]},
        tools=list_secret_tools(tool),
        interval=Interval(started=started, finished=now()),
    )


def _add_known_forms(file: str, text: str, places: Places, declared: Places) -> None:
    """Add every known form of a secret; detect-secrets misses some by how a line is written, or has no rule for it."""
    lines = ["", *text.replace("\0", "").split("\n")]
    for line, kind in find_secret_patterns(text.encode(), most=None):
        excused = DECLARED.search(lines[line]) or DECLARED_NEXT.search(lines[line - 1])
        (declared if excused else places).add(file, line, [kind])


def _distinct(kinds: Iterable[str]) -> tuple[str, ...]:
    """Return each kind once, in detect-secrets' spelling, which starts words with capital letters."""
    return tuple(sorted({kind.casefold(): kind for kind in sorted(kinds, reverse=True)}.values()))


def list_secret_tools(tool: Tool) -> dict[str, str]:
    """Return the tools that the check depends on, with their versions."""
    return {tool.name: tool.version, "secrets": SECRETS_VERSION}


def _choose_suffixes(path: str, *, script: bool) -> tuple[str, ...]:
    """Return the endings of the copies of a file that detect-secrets reads, in a build context or in an image.

    A file of an unknown type is read as settings, where a value need not be in quotes, and as a text, where
    detect-secrets itself recognises an INI file without a header.
    """
    name = Path(path)
    if name.suffix == ".env" or name.name.startswith(".env"):
        return (PRINTED,)
    if name.suffix in ENDINGS:
        return (name.suffix,)
    return (TEXT,) if script or name.suffix.lower() in QUOTED else (PRINTED, TEXT)


def _is_script(content: bytes) -> bool:
    return bool(SCRIPT.match(content))


@dataclass(frozen=True)
class SearchedFiles:
    """The files of a build context that `find_secrets` reads, by their content. They are read at the first call."""

    context: Path

    @cached_property
    def _copies(self) -> dict[str, tuple[bool, set[str]]]:
        """SHA-256 → whether the file is a script, and the endings of its copies."""
        copies = dict[str, tuple[bool, set[str]]]()
        for path in list_files(self.context):
            content = _content(self.context / path)
            if content is not None and decode_texts(content):
                script = _is_script(content)
                _, endings = copies.setdefault(hashlib.sha256(content).hexdigest(), (script, set()))
                endings.update(_choose_suffixes(path, script=script))
        return copies

    def __call__(self, sha256: str, path: str | None) -> bool:
        """Return whether a file with this checksum is read; with `path`, whether it is read as it would be there."""
        script, endings = self._copies.get(sha256, (False, set[str]()))
        return bool(endings) and (path is None or endings.issuperset(_choose_suffixes(path, script=script)))


def _content(file: Path) -> bytes | None:
    """Return the content of a file; None if it is larger than `LARGEST`."""
    with file.open("rb") as opened:
        content = opened.read(LARGEST + 1)
    return content if len(content) <= LARGEST else None


def _list_readings(content: bytes) -> Iterator[str]:
    """Yield every text that a file can be decoded to, and its other reading; equal ones once."""
    texts = decode_texts(content)
    yield from dict.fromkeys((*texts, *filter(None, map(read_otherwise, texts))))


def _write_batches(work: Path, files: Iterable[tuple[str, bytes]]) -> Iterator[dict[str, str]]:
    """Write every text reading of the files in UTF-8, which detect-secrets reads, and yield copy → file in batches.

    The copies of a batch are removed before those of the next are written. Raises `CheckIncomplete` after `LONGEST`, or
    if the reserve of free space would be used.
    """
    copies, size, end = dict[str, str](), 0, time.monotonic() + LONGEST
    for number, (file, content) in enumerate(files):
        for reading, text in enumerate(_list_readings(content)):
            for ending in _choose_suffixes(file, script=_is_script(content)):
                if size >= BATCH or len(copies) == PORTION:
                    yield copies
                    for copy in copies:
                        (work / copy).unlink()
                    copies, size = {}, 0
                if time.monotonic() > end:
                    raise CheckIncomplete(
                        f"The search for secrets was ended after {LONGEST / 60:.0f} min.\n"
                        "Remove files that are not built, or name them in the ignore file."
                    )
                if shortage := find_shortage(work):
                    raise CheckIncomplete(f"The search for secrets was ended: {shortage}")
                copy = f"{number}-{reading}{ending}"
                size += (work / copy).write_bytes(text.encode())
                copies[copy] = file
    if copies:
        yield copies


def _search_copies(tool: Tool, work: Path, copies: Mapping[str, str], *options: str) -> Places:
    """Return what detect-secrets finds in the copied files; in lock files, which hold digests, entropy is ignored."""
    locks = [copy for copy, file in copies.items() if DIGESTS.search(file)]
    others = [copy for copy, file in copies.items() if not DIGESTS.search(file)]
    calls = [
        *((part, options) for part in split_arguments(others)),
        *((p, (*options, *NO_GUESSES)) for p in split_arguments(locks)),
    ]
    return _read_places(tool, work, copies, calls)


def _read_places(
    tool: Tool, work: Path, copies: Mapping[str, str], calls: Iterable[tuple[Sequence[str], Sequence[str]]]
) -> Places:
    """Return what detect-secrets finds, by the original files; `calls` are copies and the options for them."""
    places = Places()
    for part, options in calls:
        places.merge(parse_places(_scan(tool, work, part, *options)), copies)
    return places


@dataclass(frozen=True)
class SecretSearch:
    """Searches program output and files for secrets, without guesses by entropy; see `development.probe.Search`.

    Much of a program's output looks random.
    """

    tool: Tool

    @property
    def tools(self) -> Mapping[str, str]:
        """The tools that a search depends on, with their versions."""
        return list_secret_tools(self.tool)

    def kinds(self, text: str) -> tuple[str, ...]:
        """Return the kinds of secrets that the text seems to contain; raise `CheckIncomplete`."""
        if not text.strip():
            return ()
        with make_scratch_directory("secrets") as work:
            (work / f"output{PRINTED}").write_text(text, encoding="utf-8", errors="replace")
            report = _scan(self.tool, work, [f"./output{PRINTED}"], NO_COMMENTS, *NO_GUESSES)
        reported = {kind for place_kinds in parse_places(report).values() for kind in place_kinds}
        return _distinct(reported | {kind for _, kind in find_secret_patterns(text.encode(errors="replace"))})

    def search_files(self, files: Mapping[str, bytes]) -> tuple[str, ...]:
        """Return `path:line: kinds` for everything in these files that looks like a secret, by form or by its name.

        Comments that declare a finding harmless are ignored, because nobody would report what they hide.
        """
        places = Places()
        with make_scratch_directory("secrets") as work:
            for copies in _write_batches(work, files.items()):
                calls = [(part, (NO_COMMENTS, *NO_GUESSES)) for part in split_arguments(list(copies))]
                places.merge(_read_places(self.tool, work, copies, calls))
        return places.sentences()


def _scan(tool: Tool, work: Path, files: Sequence[str], *options: str) -> str:
    arguments = ("--cores", CORES, "scan", "--no-verify", "--all-files", *EVERY_FILE, *options, *files)
    done = tool.run(*arguments, cwd=work, timeout=TIMEOUT, check=False, memory=MEMORY)
    if done.status != 0:
        raise CheckIncomplete(
            f"detect-secrets ended with status {done.status}: {done.stderr[-1000:].strip()}\n"
            "Check it with `cscm doctor`, and look at its output in the log."
        )
    return done.stdout


def parse_places(report: str) -> Places:
    """Return what detect-secrets reports; raise `CheckIncomplete` if the report cannot be read."""
    try:
        results = _Report.model_validate_json(report).results
    except ValidationError as error:
        raise CheckIncomplete(
            f"detect-secrets' report cannot be read: {error.errors()[0]['msg']}\nCheck its version with `cscm doctor`."
        ) from error
    places = Places()
    for name, findings in results.items():
        for finding in findings:
            places.add(name.removeprefix("./"), finding.line_number, [finding.type])
    return places
