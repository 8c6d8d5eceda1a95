"""The check of an image's content, made without running the image."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated, Any

from pydantic import StringConstraints

from supply_chain.errors import CheckIncomplete
from supply_chain.evidence.checks import Check, CheckResult
from supply_chain.evidence.examination import COMPILED_PYTHON, Archive, Examination
from supply_chain.model.declaration import Base, Service
from supply_chain.model.image import Digest, Interval
from supply_chain.text import pluralize, truncate_lines

PackageIndexUrl = Annotated[str, StringConstraints(pattern=r"^https?://[^\s@]+$", max_length=500)]
"""Address of a package index of Python. Checks state it, so it contains no password."""
NpmRegistryUrl = PackageIndexUrl
"""Address of a registry of npm, without a password."""
NPM_REGISTRIES: tuple[NpmRegistryUrl, ...] = ("https://registry.npmjs.org/",)
"""Registries with which npm packages are compared, unless an operator names others."""
PYTHON_INDEXES: tuple[PackageIndexUrl, ...] = ("https://pypi.org/simple/",)
"""Package indexes with which Python packages are compared, unless an operator names others."""
DebianArchiveLine = Annotated[
    str, StringConstraints(pattern=r"^https?://[^\s@]+( [A-Za-z0-9][\w./+-]*){2,}$", max_length=500)
]
"""Address, suite and components of an archive of Debian packages, as after `deb` in sources.list(5)."""
DEBIAN_ARCHIVES: tuple[DebianArchiveLine, ...] = (
    "https://deb.debian.org/debian bookworm main",
    "https://deb.debian.org/debian bookworm-updates main",
    "https://deb.debian.org/debian-security bookworm-security main",
    "https://deb.debian.org/debian trixie main",
    "https://deb.debian.org/debian trixie-updates main",
    "https://deb.debian.org/debian-security trixie-security main",
)
"""Archives with which Debian packages are compared, unless an operator names others; of the releases of the bases."""
MOST_LISTED = 50
IN_CONFIGURATION = re.compile(r"configuration:(\d+): ")
"""How a finding in the image's configuration begins."""
UNREAD_REMEDY = "install it in a base, or review this line"
CONTENT_VERSION = "22"
"""Version of this check. Raise it when the check examines more, so that images that passed before are checked again."""


@dataclass(frozen=True, kw_only=True)
class PackageComparison:
    """What comparing an image's packages with what was published found."""

    false_claims: tuple[str, ...] = ()
    """`path:line: why` for each package that differs from every package index, archive and base."""
    uncompared: int = 0
    """Number of Python packages that were not compared with a package index, because there is none."""
    uncompared_debian: int = 0
    """Number of Debian packages that were not compared with an archive, because there is none."""
    unknown: tuple[str, ...] = ()
    """Name and version of each Debian package that the archives have in other versions only."""
    uncompared_apk: tuple[str, ...] = ()
    """Name and version of each package of apk that the image's curated base lacks."""
    uncompared_databases: tuple[str, ...] = ()
    """Package manager and path of each database of rpm, pacman or portage that is not the curated base's."""
    uncompared_npm: int = 0
    """Number of npm packages that were not compared with a registry, because there is none."""
    uncompared_files: Mapping[str, int] = field(default_factory=dict)
    """Kind of packages that are compared with nothing, such as `Java` → number of files that say which there are."""


@dataclass(frozen=True)
class Contents(PackageComparison):
    """The merged layers of an image, as a container of it sees them."""

    digest: Digest
    """Digest of the manifest."""
    platform: str
    """Platform in the image's configuration, such as `linux/amd64`."""
    size: int
    """Unpacked bytes of all layers. Files that a later layer hides count too: they are stored and transferred."""
    programs: int
    """Number of machine programs (ELF) in all layers. Scripts run on any machine that has their interpreter."""
    foreign: Mapping[str, str]
    """Path of a program for a machine other than the platform's → that machine."""
    secrets: tuple[str, ...] = ()
    """`path:line: kind` of each known form of a secret in any layer, except in files that the check `secrets` reads."""
    texts: Mapping[str, bytes] = field(default_factory=dict)
    """Path → content of small texts that no package installed and that the check `secrets` does not read so.

    `configuration` has the variables and labels, one a line.
    """
    settings: tuple[str, ...] = ()
    """Names of the variables and labels in the order of these lines; empty for a name that is not repeated."""
    unsearched: tuple[str, ...] = ()
    """Paths of such texts that are too large, each or together, to be searched for values named like a secret."""
    code_variables: tuple[str, ...] = ()
    """Variables of its containers with which every program, or every script, loads code that they name."""
    is_root: bool = False
    """Whether an engine runs the image as root, or may do so, unless it is given another user."""
    sources: Mapping[str, bytes] = field(default_factory=dict)
    """Path → content of small Python files that no package installed and that the check `source` does not read.

    `command-1` and so on are what its configuration, or the declared runtime, gives to programs as text.
    """
    unread: tuple[str, ...] = ()
    """Paths of such Python files that are too large or too many."""
    examination: Examination = field(default_factory=Examination)
    """Content that no scanner judges, files with more rights, and paths where engines would unpack others."""


def check_content(
    read: Callable[[], Contents | None],
    digest: Digest,
    declaration: Service | Base,
    tools: Mapping[str, str],
    now: Callable[[], datetime],
    search: Callable[[Mapping[str, bytes]], tuple[str, ...]] = lambda _: (),
    scan: Callable[[Mapping[str, bytes]], tuple[str, ...]] = lambda _: (),
) -> CheckResult:
    """Compare the content that `read` returns with the declaration.

    `read` returns None for an image that has more bytes than it may have; such an image is not read further. `search`
    searches texts for secrets and returns `path:line: kind` of each. `scan` searches Python files for dangerous code
    and returns a sentence for each finding. Raises `CheckIncomplete` if the content is not of `digest`.
    """
    started, contents = now(), read()
    if contents and contents.digest != digest:
        raise CheckIncomplete(
            f"The engine returned the image {contents.digest} instead of {digest}.\n"
            "Build it again with `cscm build --force`."
        )
    passed, failed = (
        _compare_declared(contents, declaration)
        if contents
        else ([], [explain_excess_size(declaration.build.max_size)])
    )
    warned: list[str] = []
    details: dict[str, Any] = {}
    if contents:
        secrets = [
            _name_setting(each, contents.settings) for each in sorted({*contents.secrets, *search(contents.texts)})
        ]
        failed += [f"{each}, in a part of the image that the check secrets did not read" for each in secrets]
        failed += [
            f"{each}, in a file of the image that the check source did not read" for each in scan(contents.sources)
        ]
        failed += [
            f"{path}:1: Python code that is not checked, because it is too large or too much; {UNREAD_REMEDY}"
            for path in contents.unread
        ]
        failed += contents.false_claims
        warned += _warn_uncompared(contents)
        warned += _warn_unsearched(contents.unsearched)
        warned += [
            f"{name} is set in the image's configuration or the declared runtime: programs load the code that it "
            "names; remove it if not needed"
            for name in contents.code_variables
        ]
        warned += _warn_unjudged(contents.examination, declaration)
        details = {"platform": contents.platform, "bytes": contents.size, "programs": contents.programs}
        details["examination"] = contents.examination.model_dump(mode="json")
    return CheckResult(
        check=Check.CONTENT,
        passed=tuple(passed),
        warned=tuple(warned),
        failed=tuple(failed),
        details={**details, "max_bytes": declaration.build.max_size},
        tools=dict(tools),
        interval=Interval(started=started, finished=now()),
    )


def _name_setting(finding: str, names: Sequence[str]) -> str:
    """Return a finding with the name of the variable or label if it is in the configuration."""
    match = IN_CONFIGURATION.match(finding)
    if not match:
        return finding
    number = int(match[1])
    if number > len(names):
        return f"{finding} in a field besides variables and labels, such as the history or the command"
    return f"{finding} in {names[number - 1]}" if names[number - 1] else finding


def _compare_declared(contents: Contents, declaration: Service | Base) -> tuple[list[str], list[str]]:
    declared, foreign, conflicts = declaration.build.platform, contents.foreign, contents.examination.conflicts
    rights = {each.path: each.rights for each in contents.examination.privileged_files}
    expectations = (
        (
            contents.platform == declared,
            f"is of {declared}, as declared",
            f"It is of {contents.platform}, and {declared} is declared.",
        ),
        (
            not foreign,
            "holds no program for another machine" if contents.programs else "",
            f"{pluralize(len(foreign), 'program')} in it cannot run on {declared}: {_format_files(foreign)}.",
        ),
        (
            contents.size <= declaration.build.max_size,
            f"has {_mib(contents.size)} unpacked, of {_mib(declaration.build.max_size)} declared",
            explain_excess_size(declaration.build.max_size),
        ),
        (
            not rights,
            "holds no file that gives more rights than its user's",
            f"{pluralize(len(rights), 'file')} in it can give more rights than its user's: {_format_files(rights)}.",
        ),
        (
            isinstance(declaration, Base) or not contents.is_root,
            "",
            "Whoever starts it without the declared user runs it as root: end the Dockerfile with `USER 10001:10001`.",
        ),
        (
            not conflicts,
            "",
            "Its layers give different files in different engines: "
            + "; ".join(truncate_lines(MOST_LISTED, conflicts))
            + ".",
        ),
    )
    passed = [good for holds, good, _ in expectations if holds and good]
    return passed, [bad for holds, _, bad in expectations if not holds]


def _warn_uncompared(contents: Contents) -> list[str]:
    """Return a warning for each kind of packages that were not compared with what was published."""
    uncompared = (
        (contents.uncompared, "Python", "python_indexes"),
        (contents.uncompared_npm, "npm", "npm_registries"),
        (contents.uncompared_debian, "Debian", "debian_archives"),
    )
    warned = [
        f"The versions of {pluralize(number, f'{kind} package')} in it are compared with nothing: an operator can name "
        f"{setting} in the workbench block"
        for number, kind, setting in uncompared
        if number
    ]
    if contents.unknown:
        packages = pluralize(len(contents.unknown), "Debian package")
        named = ", ".join(truncate_lines(MOST_LISTED, contents.unknown))
        warned.append(f"{packages} in it of versions that debian_archives lack, read as the application's: {named}")
    if contents.uncompared_apk:
        packages = pluralize(len(contents.uncompared_apk), "apk package")
        named = ", ".join(truncate_lines(MOST_LISTED, contents.uncompared_apk))
        warned.append(
            f"{packages} in it that no curated base of it has, read as the application's; install in a base: {named}"
        )
    warned += [
        f"The records of {each} in it are not a curated base's, and are compared with nothing"
        for each in contents.uncompared_databases
    ]
    if contents.uncompared_files:
        counted = ", ".join(
            f"{kind} ({pluralize(number, 'file')})" for kind, number in contents.uncompared_files.items()
        )
        warned.append(f"Versions of packages in it are compared with nothing, for {counted}")
    return warned


def _warn_unsearched(paths: tuple[str, ...]) -> list[str]:
    if not paths:
        return []
    what = f"{pluralize(len(paths), 'text')} in it too large to be searched for what is called a password or token"
    return [f"{what}: {', '.join(truncate_lines(MOST_LISTED, paths))}"]


def _warn_unjudged(examination: Examination, declaration: Service | Base) -> list[str]:
    """Return a warning for each item that no scanner judges.

    The release gate refuses these items unless the owner accepts them or a base that the image is built on has them
    too.
    """
    left = examination.exclude_accepted(declaration.limits.unjudged)
    warnings = (
        *(f"{each.path}: {each.fact}, and os-release names {examination.distribution}" for each in left.contradictions),
        *(f"{each.path}: a second package database, {each.manager}'s" for each in left.databases),
        *(f"{each.path}: {_describe(each)}" for each in left.archives),
    )
    more = len(warnings) - MOST_LISTED + examination.unlisted
    return [*warnings[:MOST_LISTED], *([f"{more} more that no scanner judges"] if more > 0 else [])]


def _describe(archive: Archive) -> str:
    if archive.format == COMPILED_PYTHON:
        remedy = "set PYTHONDONTWRITEBYTECODE=1 in the build, remove it, or use a base with it"
        return f"{COMPILED_PYTHON} that no package installed; {remedy}"
    return f"an archive ({archive.format}), in which no scanner looks"


def _format_files(files: Mapping[str, str]) -> str:
    return ", ".join(truncate_lines(MOST_LISTED, [f"{path} ({why})" for path, why in sorted(files.items())]))


def explain_excess_size(most: int) -> str:
    """Return the message for an unpacked image that is larger than declared; `most` is the declared size in bytes."""
    return f"Unpacked, it has more than the {_mib(most)} that are declared (build.max_size)."


def _mib(size: int) -> str:
    return f"{size / 1024**2:.1f} MiB"
