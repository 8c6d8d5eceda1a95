"""Standard libraries of Python interpreters of which no list of files counts, as in Python's own images."""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass

from supply_chain.adapters.image.file_content import FileContent
from supply_chain.adapters.image.filesystem import Filesystem, Kind

Files = Filesystem[FileContent]

PLACES = dict.fromkeys(("/usr/local/lib", "/usr/local/lib32", "/usr/local/lib64"), "/usr/local/bin")
"""Where an interpreter that no package installed has its library → where the interpreter is."""
APK_PLACES = {"/usr/lib": "/usr/bin"}
"""The same of an interpreter that apk installed: the lists of its packages do not count."""
DPKG = "/var/lib/dpkg"
INTERPRETER = re.compile(r"(python|pypy)[23]\.\d{1,2}t?")
OTHER_VERSIONS = {
    "LICENSE", "__hello__", "__phello__", "_android_support", "_apple_support", "_ast_unparse", "_bootlocale",
    "_bootsubprocess", "_colorize", "_dummy_thread", "_ios_support", "_missing_stdlib_info", "_opcode_metadata",
    "_py_warnings", "_pydatetime", "_pylong", "_pyrepl", "_strptime", "aifc", "annotationlib", "asynchat",
    "asyncore", "binhex", "cgi", "cgitb", "chunk", "compression", "crypt", "distutils", "dummy_threading",
    "formatter", "idlelib", "imghdr", "imp", "lib-dynload", "lib2to3", "mailcap", "msilib", "nntplib", "pipes",
    "profiling", "smtpd", "sndhdr", "sunau", "symbol", "telnetlib", "test", "turtledemo", "uu", "xdrlib",
}  # fmt: skip
"""Top-level modules and directories of the standard libraries of Python 3.8 to 3.15, besides this interpreter's own."""
BUILD = ("_sysconfigdata_", "config-3")
"""Beginning of the names of what an interpreter's build adds."""
FEWEST = 100
"""Minimum top-level modules of a standard library; each version has about 200."""


@dataclass(frozen=True)
class StandardLibraries:
    """Directories of standard libraries."""

    directories: tuple[str, ...] = ()

    def contain(self, path: str) -> bool:
        """Return whether a file has the place of a module of a standard library."""
        for directory in self.directories:
            if path.startswith(directory):
                parts = path[len(directory) :].split("/")
                names = parts[1:] if parts[0] == "__pycache__" else parts
                return _is_standard(names[0])
        return False


def find_libraries(files: Files, *, has_apk: bool) -> StandardLibraries:
    """Return the standard libraries in /usr/local that have their interpreter and most of their modules.

    Also those in /usr if apk installs the image's packages (`has_apk`), and dpkg does not.
    """
    directories = list[str]()
    places = {**PLACES, **(APK_PLACES if has_apk and not files.resolve(DPKG) else {})}
    for place, programs in places.items():
        above = files.resolve(place)
        for name, library in above[1].children.items() if above and above[0] == place else ():
            interpreter = files.resolve(f"{programs}/{name}") if INTERPRETER.fullmatch(name) else None
            content = interpreter[1].content if interpreter else None
            complete = library.kind is Kind.DIRECTORY and sum(map(_is_standard, library.children)) >= FEWEST
            if content and content.machine and complete:
                directories.append(f"{place}/{name}/")
    return StandardLibraries(tuple(directories))


def _is_standard(name: str) -> bool:
    stem = name.partition(".")[0]
    return stem in sys.stdlib_module_names or stem in OTHER_VERSIONS or name.startswith(BUILD)
