"""Selection of an image's Python files that neither a package installed nor the check `source` read."""

from __future__ import annotations

import ast
import codecs
import posixpath
import re
import shlex
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice

from supply_chain.adapters.image.configuration import Start
from supply_chain.adapters.image.file_content import ContentStore, FileContent
from supply_chain.adapters.image.filesystem import Filesystem, Kind, escape_path
from supply_chain.adapters.image.package_records import PACKAGES, InstalledFiles
from supply_chain.development.python_command import Program, is_interpreter, parse_arguments

Files = Filesystem[FileContent]
IsRead = Callable[[str], bool]
"""Returns whether the check `source` reads a file of this SHA-256."""

SYSTEM = re.compile(r"/(usr/)?(s?bin|lib(32|64|x32)?|libexec|share|games)/|/var/lib/")
"""Where a distribution's packages install Python files."""
MOUNTED = re.compile(r"/(proc|sys)/")
"""Where a container has other files than its image."""
BYTECODE = re.compile(r"(.*?/)(?:__pycache__/)?([^/]+?)(?:\.(?:cpython|pypy)[\w-]*)?(?:\.opt-\w+)?\.py[co]", re.DOTALL)
"""Path of compiled Python: its source's directory and name (PEP 3147)."""
UNCHECKED = b"\x01\0\0\0"
"""Flags of a compiled file that Python does not compare with its source (PEP 552)."""
SITE_CUSTOMIZATION = bytes.fromhex("43d81125d92376b1a69d53a71126a041cc9a18d8080e92dea0a2ae23be138b1e")
"""SHA-256 of Debian's sitecustomize.py, which is a configuration file: the records of dpkg do not list it."""
MODULE = re.compile(r"\.pyw?$", re.IGNORECASE)
"""End of the name of a file that Python imports or runs."""
LARGEST_MODULE = 2 * 1024 * 1024
"""Maximum bytes of a file with the name of one that Python reads, to store its content."""
STARTUP_FILE = re.compile(r"\.pth$", re.IGNORECASE)
STARTUP_VARIABLE = "PYTHONSTARTUP"
"""The variable with the script that an interactive interpreter runs first."""
STARTUP = re.compile(rb"(?:^|[\x0b\x0c\x1c-\x1e]|\xc2\x85|\xe2\x80[\xa8\xa9])(?:\xef\xbb\xbf)?(import[ \t])")
"""Beginning of a line of a `.pth` file that Python runs at each start ("site"); the other lines are paths. Python 3.13
ends a line also at these separators."""
COMPILED = re.compile(r"\.py[co]$")
"""End of the path of a script that is judged as compiled Python."""
SHEBANG = re.compile(rb"#!.*(python|pypy|env\b.*\$)")
"""First line of a program that Python runs, or `env` runs what a variable names."""
QUOTING = re.compile(rb"[\"'\\]")
"""What `env -S` removes from the words that it splits."""
IMPORT = re.compile(r"\bimport\b")
ENCODING = re.compile(rb"[ \t\f]*+#[^\r\n]*?coding[:=][ \t]*+(?P<name>[-_.a-zA-Z0-9]++)")
"""The encoding of a text of Python, in its first line (PEP 263)."""
NO_CODE = re.compile(rb"[ \t\f]*+(?:#[^\r\n]*+)?(?:\r\n?|\n)")
"""A first line after which the second one can have the encoding."""
USUAL_ENCODING = re.compile(r"(utf-8|latin-1|iso-8859-1|iso-latin-1)(-.*)?")
"""Encodings to whose names Python lets anything be added, as editors do."""
LINE_END = re.compile(rb"\r\n?|\n")
AFTER_ZERO = re.compile(r"\0[^\r\n]*+")
"""What Python ignores of a line."""
SLOW_ENCODINGS = ("idna", "punycode")
"""Encodings of Python whose decoders take time that grows with the square of a text."""
MOST_ARGUMENTS = 100
"""Maximum words after a Python interpreter among which its script is looked for."""
LONGEST_WORD = 64 * 1024
"""Maximum characters of a word that is split as a shell does: the time grows with their square."""
MOST_DIRECTORIES = 100
"""Maximum directories that a command changes to, of those in which its files are looked for."""
LARGEST_TEXT = 256 * 1024
"""Maximum bytes of a text that is parsed to find out whether it is Python."""
SPACE = r"(?:[ \t\f]|\\(?:\r\n?|\n))*+"
DOTTED = re.compile(r"(?:\." + SPACE + r"[A-Za-z_\x80-\U0010ffff][\w\x80-\U0010ffff]*+" + SPACE + r")++")
"""The parts of a dotted name after the first one, also over several lines. Each match begins where the last one ended.
"""
MOST_PARTS = 100
"""Maximum parts of a dotted name that is parsed: the parser's memory grows with the square of their number."""
IMPORTS = (ast.Import, ast.ImportFrom)
ACTS = (*IMPORTS, ast.Call, ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
"""Nodes of Python without which a text does nothing, but for a changed attribute; decorators are called too."""
INVALID_ESCAPE = re.compile(r"\\([^\n\r'\"\\NUux])|\\[\s\S]")
"""A backslash, and what follows it; the group is a character that a string can have alone."""
MOST_SOURCES, MOST_BYTES = 2000, 8 * 1024 * 1024
"""Maximum files that are read, and their maximum bytes."""


@dataclass(frozen=True)
class PythonSources:
    """Python files of an image to read, by path, and the paths of those that cannot be read."""

    files: dict[str, bytes] = field(default_factory=dict)
    left: tuple[str, ...] = ()
    """Not stored because of their size, or more than `MOST_SOURCES` or `MOST_BYTES` together."""


def is_python_program(start: bytes) -> bool:
    """Return whether a file that begins so is a program that Python runs, or may be one."""
    return bool(SHEBANG.match(QUOTING.sub(b"", start[:1000])))


def select_startup_lines(content: bytes) -> bytes:
    """Return the lines of a `.pth` file that Python runs, with an empty line in place of each other."""
    lines = ((STARTUP.search(line), line) for line in content.splitlines(keepends=True))
    return b"".join(line[match.start(1) :] if match else b"\n" for match, line in lines)


def is_python_text(content: bytes) -> bool:
    """Return whether a text of at most `LARGEST_TEXT` bytes is Python that imports something.

    Its encoding is the one that it states, and comments may have other bytes. A text in one of `SLOW_ENCODINGS`, and
    one with a name of more than `MOST_PARTS` parts, counts as Python, and is not parsed.
    """
    texts = _decode(content)
    return texts is None or any(IMPORT.search(text) and _has_nodes(text, IMPORTS) for text in texts)


def acts(content: bytes) -> bool:
    """Return whether a text is Python that does something when it runs, unlike JSON, which is Python too.

    Otherwise as `is_python_text`.
    """
    texts = _decode(content)
    return texts is None or any(_has_nodes(text, ACTS) for text in texts)


def _decode(content: bytes) -> Iterable[str] | None:
    """Return a text as Python decodes it, empty if Python cannot or if it is too large; None: that takes too long.

    Python decodes a file's first lines, up to the one that states the encoding, as they are, and other texts as a
    whole. It ignores what follows a zero byte in a line of a file.
    """
    if len(content) > LARGEST_TEXT:
        return ()
    content = content.removeprefix(codecs.BOM_UTF8)
    name, end = _read_encoding(content)
    try:
        encoding = codecs.lookup(name).name
        if encoding in SLOW_ENCODINGS:
            return None
        head, rest = content[:end].decode("latin-1"), content[end:].decode(encoding, "replace")
        decoded = (content.decode(encoding, "replace"), head + rest)
    except (ValueError, LookupError):
        return ()
    return dict.fromkeys(AFTER_ZERO.sub("", text) for text in decoded)


def _has_nodes(text: str, kinds: tuple[type[ast.AST], ...]) -> bool:
    """Return whether a text is Python with one of these nodes, or takes too much to find out."""
    if any(match.group().count(".") >= MOST_PARTS for match in DOTTED.finditer(text)):
        return True
    try:
        tree = ast.parse(INVALID_ESCAPE.sub(lambda escape: escape[1] or escape[0], text))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return any(isinstance(node, kinds) or (kinds is ACTS and _changes_attribute(node)) for node in ast.walk(tree))


def _changes_attribute(node: ast.AST) -> bool:
    return isinstance(node, ast.Attribute) and not isinstance(node.ctx, ast.Load)


def _read_encoding(content: bytes) -> tuple[str, int]:
    """Return the encoding that a text of Python states, as Python takes it, else UTF-8; and where its line ends."""
    first = NO_CODE.match(content)
    stated = ENCODING.match(content) or (ENCODING.match(content, first.end()) if first else None)
    if stated is None:
        return "utf-8", 0
    name, line_end = stated["name"].decode(), LINE_END.search(content, stated.end())
    usual = USUAL_ENCODING.fullmatch(name.lower().replace("_", "-"))
    return (usual[1] if usual else name), (line_end.end() if line_end else len(content))


@dataclass(frozen=True)
class StartedPython:
    """Python that a container starts."""

    scripts: frozenset[str] = frozenset()
    """Paths of files, without links."""
    code: tuple[str, ...] = ()
    """What programs get as text: after `-c`, or as any word or variable that `is_python_text` accepts."""

    def list_code(self) -> dict[str, bytes]:
        """Return `command-1` and so on → each text."""
        return {f"command-{number}": text.encode("utf-8", "replace") for number, text in enumerate(self.code, start=1)}


def find_started(files: Files, keeper: ContentStore, start: Start, checkpoint: Callable[[], object]) -> StartedPython:
    """Return the Python that a container starts.

    Reads commands and the values of variables, also as text for a shell. A file that `is_python_text` accepts counts
    for any program, as an interpreter may have another name. In a command with an interpreter, each file counts that
    `acts` accepts. `checkpoint` is called for each word and directory, and may raise.
    """
    scripts, code, judged = set[str](), dict[str, None](), dict[tuple[bytes, bool], bool]()
    startup = {value for name, value in start.variables if name == STARTUP_VARIABLE}

    def is_python(content: FileContent, *, by_python: bool) -> bool:
        key = (content.sha256, by_python)
        if key not in judged:
            judged[key] = (acts if by_python else is_python_text)(keeper.read(content) or b"")
        return judged[key]

    for command in (*start.commands, *([value] for _, value in start.variables)):
        texts = [command, *([*_split_shell(word)] for word in command)]
        words = [part for word in command for part in _split_shell(word)]
        programs = [each for text in texts for each in _list_programs(files, text)]
        code.update({program.code: None for program in programs if program.code})
        named = {program.script for program in (*programs, *_list_programs(files, words))} - {""}
        assigned = [word.partition("=")[2] for word in words if "=" in word]
        directories = dict.fromkeys(_list_directories(start.directory, words))
        for word in dict.fromkeys((*named, *command, *words, *assigned)):
            if is_python_text(word.encode("utf-8", "replace")):
                code[word] = None
            is_named = word in named or word in startup
            for directory in directories:
                checkpoint()
                resolved = files.resolve(posixpath.join(directory, word), mounted=True)
                content = resolved[1].content if resolved else None
                if resolved and content and (is_named or is_python(content, by_python=bool(programs))):
                    scripts.add(resolved[0])
    return StartedPython(frozenset(scripts), tuple(code))


def _list_directories(first: str, words: Sequence[str]) -> Iterator[str]:
    """Yield where the commands of a text for a shell may run: after each `cd`, from the first directory or the last."""
    yield (last := first)
    changes = (at for at, word in enumerate(words) if word == "cd")
    for at in islice(changes, MOST_DIRECTORIES):
        target = next((each for each in words[at + 1 : at + MOST_ARGUMENTS] if not each.startswith("-")), "")
        paths = [posixpath.join(each, target) for each in (first, last)]
        if not any(map(_is_unread, paths)):  # no system has such a path
            last = paths[1]
            yield from paths


def _list_programs(files: Files, words: Sequence[str]) -> Iterator[Program]:
    """Yield what each Python interpreter among the words of a command runs."""
    for at, word in enumerate(words):
        if _is_interpreter(files, word):
            yield parse_arguments(words[at + 1 : at + MOST_ARGUMENTS])


def has_unread_command(start: Start) -> bool:
    """Return whether a command or variable is too long for `find_started`, or changes directories too often."""
    commands = (*start.commands, *([value] for _, value in start.variables))
    return any(map(_is_unread, chain(*commands))) or any(
        [part for word in command for part in _split_shell(word)].count("cd") > MOST_DIRECTORIES for command in commands
    )


def _is_unread(word: str) -> bool:
    return len(word) > LONGEST_WORD


def _split_shell(word: str) -> list[str]:
    """Return the words of a text for a shell; any other word alone."""
    if _is_unread(word) or not re.search(r"\s", word):
        return [word]
    try:
        lexer = shlex.shlex(word, posix=True, punctuation_chars=True)
        lexer.whitespace_split = True
        return list(lexer)
    except ValueError:
        return word.split()


def _is_interpreter(files: Files, word: str) -> bool:
    resolved = files.resolve(word, mounted=True) if word.startswith("/") else None
    return is_interpreter(word) or (resolved is not None and is_interpreter(resolved[0]))


def find_python_sources(
    files: Files,
    keeper: ContentStore,
    installed: InstalledFiles,
    is_read: IsRead,
    checkpoint: Callable[[], object],
    scripts: Collection[str] = (),
) -> PythonSources:
    """Return the image's Python files that `is_read` does not know and that no package installed.

    A package's record lists the files that it installed. Where it cannot be read, a distribution's directories count as
    installed. A link gives a file its name too. A file with another name is found if its content is stored, and is a
    script or a text that `is_python_text` accepts. `scripts` are paths of files that Python runs, whatever they
    look like, unless they are compiled. Of a `.pth` file only the lines that Python runs count. `checkpoint` is called
    for each file, and may raise.
    """
    sources, left, room, judged = dict[str, bytes](), list[str](), MOST_BYTES, set[tuple[bytes, bool]]()
    for path, real, content in _named_files(files):
        checkpoint()
        runs = path in scripts and not (content.archive or COMPILED.search(path))
        startup = bool(STARTUP_FILE.search(path)) and not runs
        if (content.sha256, startup) in judged or installed.lists(real, content, keeper):
            continue
        if not runs and _is_in_place(real, installed):
            continue
        stored = keeper.read(content)
        if startup and stored is not None:
            stored = select_startup_lines(stored)
        is_python = runs or MODULE.search(path) or _looks_like_python(path, stored, startup=startup)
        if not is_python or is_read(content.sha256.hex()):
            continue
        judged.add((content.sha256, startup))
        name = escape_path(path)
        if stored is None or name in sources or len(sources) == MOST_SOURCES or len(stored) > room:
            left.append(name)
        else:
            sources[name] = stored
            room -= len(stored)
    return PythonSources(sources, tuple(sorted(left)))


def _looks_like_python(path: str, content: bytes | None, *, startup: bool) -> bool:
    if startup:
        return bool(content.strip()) if content is not None else bool(PACKAGES.match(path))
    return content is not None and (is_python_program(content) or is_python_text(content))


def _named_files(files: Files) -> Iterator[tuple[str, str, FileContent]]:
    """Yield every regular file with its path and with each link that leads to it; and its path without links."""
    for path, node in files.walk():
        if node.kind is Kind.LINK and any(each.search(path) for each in (MODULE, STARTUP_FILE, COMPILED)):
            target = files.resolve(path, mounted=True)
            if target is not None and target[1].content is not None:
                yield path, target[0], target[1].content
        elif node.content is not None:
            yield path, path, node.content


def _is_in_place(path: str, installed: InstalledFiles) -> bool:
    """Return whether a file is where only packages or interpreters have Python, as far as their records say."""
    if installed.libraries.contain(path):
        return True
    return bool(MOUNTED.match(path) or (SYSTEM.match(path) and not installed.is_complete))


def find_unread_bytecode(
    files: Files, keeper: ContentStore, read_installed: Callable[[], InstalledFiles]
) -> Iterator[tuple[str, FileContent]]:
    """Yield the compiled Python files that no package installed, and that no unchanged source of a package is next to.

    Python runs a compiled file in place of its source. Installers and interpreters make them from a package's source,
    and no record has their digest: such a file is not compared with its source. One that Python itself never compares
    with its source is yielded in any case.
    """
    compiled = [(path, content) for path, _, content in _named_files(files) if BYTECODE.fullmatch(path)]
    if not compiled:
        return
    installed = read_installed()
    for path, content in compiled:
        if not installed.lists(path, content, keeper) and (
            (keeper.read(content) or b"")[4:8] == UNCHECKED or not _is_from_package(path, files, keeper, installed)
        ):
            yield path, content


def _is_from_package(path: str, files: Files, keeper: ContentStore, installed: InstalledFiles) -> bool:
    """Return whether the source next to a compiled file is unchanged from a package, or of a standard library."""
    match = BYTECODE.fullmatch(path)
    source = files.resolve(f"{match[1]}{match[2]}.py", mounted=True) if match else None
    if source is None or source[1].content is None:
        return False
    real, content = source[0], source[1].content
    return (
        content.sha256 == SITE_CUSTOMIZATION or installed.lists(real, content, keeper) or _is_in_place(real, installed)
    )
