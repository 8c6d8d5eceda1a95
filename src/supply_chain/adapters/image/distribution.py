"""Examination of an image: its declared distribution, and the package managers that have records in it."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Iterator

from supply_chain.adapters.image.database_paths import OWN, list_scanned, match_scanned
from supply_chain.adapters.image.file_content import HEAD, ContentStore, FileContent
from supply_chain.adapters.image.filesystem import Filesystem, Kind, Node, escape_path
from supply_chain.adapters.image.package_records import InstalledFiles
from supply_chain.adapters.image.privileged_files import list_privileged
from supply_chain.adapters.image.python_sources import find_unread_bytecode
from supply_chain.evidence.examination import (
    COMPILED_PYTHON,
    Archive,
    Contradiction,
    Database,
    Examination,
    Identity,
)

Files = Filesystem[FileContent]

MOST_LISTED = 1000
"""Maximum archives and databases that an examination lists, of each."""
OS_RELEASE = ("/etc/os-release", "/usr/lib/os-release")
"""Paths of os-release, in the order in which they are tried (os-release(5))."""
DEBIAN_VERSION = "/etc/debian_version"
PLACES = {
    "/var/db/pkg/": (re.compile(r"(?:[^/]+/)*(?:PF|CONTENTS)"), "portage"),
    "/conda-meta/": (re.compile(r"[^/]+\.json"), "conda"),
    "/Cellar/": (re.compile(r"[^/]+/[^/]+/INSTALL_RECEIPT\.json"), "Homebrew"),
}
"""Directory of records that their content does not show → pattern of their paths in it, and the package manager."""
ABOVE = {
    "dpkg": re.compile(r"(.*)/status\.d/[^/]+", re.DOTALL),
    "pacman": re.compile(r"(.*)/local/[^/]+/desc", re.DOTALL),
    "portage": re.compile(r"(.*/pkg)/[^/]+/[^/]+/CONTENTS", re.DOTALL),
    "Homebrew": re.compile(r"(.*/Cellar)/.*", re.DOTALL),
}
"""Package manager with a file or directory for each package → its directory of records, in the path of a file."""
FAMILIES = {
    "dpkg": ("debian", "ubuntu", "raspbian", "echo"),
    "rpm": ("rhel", "fedora", "centos", "suse", "opensuse", "opensuse-leap", "opensuse-tumbleweed", "amzn", "ol",
            "rocky", "almalinux", "azurelinux", "mariner", "photon", "sles", "sle-micro", "mageia", "openeuler",
            "oracle", "scientific", "scientific linux"),
    "apk": ("alpine", "Alpine Linux", "wolfi", "chainguard", "postmarketos", "minimos", "secureos", "clnstrt",
            "cleanstart"),
    "pacman": ("arch",),
    "portage": ("gentoo",),
}  # fmt: skip
"""Package manager → `ID`, `ID_LIKE` or `NAME` of the distributions that use it."""
UNKNOWN = {"suse", "opensuse", "opensuse-tumbleweed", "sle-micro", "mageia", "openeuler", "oracle"}
"""Distributions that grype does not know (its distro/type.go): it takes the next name of an os-release."""
GRYPE_NAMES = {"busybox", "windows"}.union(*FAMILIES.values()) - UNKNOWN
"""Names by which grype selects the vulnerabilities of a distribution."""
UBUNTU_BASE = re.compile(r"[a-z]+/sid\s*")
"""Content of /etc/debian_version in Ubuntu: the Debian release that it was made from. Debian's own is a number."""
JAVA = (".jar", ".war", ".ear", ".par", ".sar", ".nar", ".jpi", ".hpi", ".kar", ".far", ".lpkg")
"""File name extensions of the archives that syft opens."""


def examine(
    files: Files,
    keeper: ContentStore,
    read_installed: Callable[[], InstalledFiles],
    checkpoint: Callable[[], object] = lambda: None,
) -> Examination:
    """Return the facts about these files that an SBOM does not contain.

    `read_installed` returns what packages installed; it is called if it is needed. `checkpoint` is called for each file
    that may hold records of packages, and may raise.
    Raise `ValueError` for more privileged files than an examination lists: no ordinary image comes near.
    """
    release = _os_release(files, keeper)
    own, databases = _find_databases(files, _find_judged(release), checkpoint)
    archives = [*_find_archives(files), *_find_bytecode(files, keeper, read_installed)]
    return Examination(
        distribution=_identify(release),
        contradictions=tuple(_find_contradictions(files, keeper, release, own)),
        databases=tuple(databases[:MOST_LISTED]),
        archives=tuple(archives[:MOST_LISTED]),
        unlisted=max(0, len(databases) - MOST_LISTED) + max(0, len(archives) - MOST_LISTED),
        privileged_files=list_privileged(files),
        conflicts=tuple(files.conflicts),
    )


def read_distribution(files: Files, keeper: ContentStore) -> Identity | None:
    """Return the distribution whose vulnerabilities are looked for in an image; None if its os-release names none."""
    release = _os_release(files, keeper)
    return _identify({**release, "ID": _find_judged(release)})


def is_text_database(path: str) -> bool:
    """Return whether syft reads a file with this path as records of dpkg or apk."""
    return not match_scanned(path).isdisjoint(("dpkg", "apk"))


def _identify(release: dict[str, str]) -> Identity | None:
    if not release.get("ID"):
        return None
    version, codename = release.get("VERSION_ID", ""), release.get("VERSION_CODENAME", "")
    return Identity(id=release["ID"], version=version, codename=codename)


def _text(files: Files, keeper: ContentStore, path: str) -> str | None:
    """Return a small text by its path, with links followed; None if there is none."""
    file = files.resolve(path)
    if file is None or file[1].content is None:
        return None
    content = keeper.read(file[1].content)
    return None if content is None else content.decode("utf-8", "replace")


def _os_release(files: Files, keeper: ContentStore) -> dict[str, str]:
    """Return the assignments of the first os-release that exists; empty if there is none."""
    for path in OS_RELEASE:
        if (text := _text(files, keeper, path)) is not None:
            return parse_assignments(text)
    return {}


def parse_assignments(text: str) -> dict[str, str]:
    """Return the variables that a shell-like text assigns (os-release(5)); the last assignment of a name counts.

    Lines, names and values are separated as syft does: only a newline ends a line, and spaces may surround a name.
    """
    values = {}
    for line in text.split("\n"):
        name, equals, value = line.partition("=")
        name = name.strip(" ")
        if equals and re.fullmatch(r"[A-Z0-9_]+", name):
            value = value.strip(" ")
            quoted = len(value) > 1 and value[0] == value[-1] and value[0] in "\"'"
            values[name] = re.sub(r"\\(.)", r"\1", value[1:-1]) if quoted else value
    return values


def _find_contradictions(
    files: Files, keeper: ContentStore, release: dict[str, str], managers: tuple[str, ...]
) -> Iterator[Contradiction]:
    """Yield the files that indicate another distribution than os-release does."""
    name, version = release.get("ID", ""), release.get("VERSION_ID", "")
    judged = _find_judged(release)
    family = {name, judged}
    for path in OS_RELEASE:
        if files.resolve(path) is None and files.resolve(path, follow=False) is not None:
            yield Contradiction(path=path, fact="it is a link that leads nowhere")
        file = files.resolve(path)
        if file is not None and file[1].size > HEAD:
            yield Contradiction(path=path, fact=f"it has {file[1].size} bytes, and is not read")
        other = _text(files, keeper, path)
        if other is not None and _name_and_version(parse_assignments(other)) != (name, version):
            yield Contradiction(
                path=path, fact=f"it names {_format_distribution(*_name_and_version(parse_assignments(other)))}"
            )
    for path, names, stated in _release_files(files, keeper):
        if not family & set(names):
            yield Contradiction(path=path, fact=f"it is of {' or '.join(names)}")
        elif name in names and stated and version and not _same_version(stated, version):
            yield Contradiction(path=path, fact=f"it names the version {stated}")
    if judged == "ubuntu" and "dpkg" in managers:
        based_on = _text(files, keeper, DEBIAN_VERSION)
        if based_on is None or not UBUNTU_BASE.fullmatch(based_on):
            yield Contradiction(path=DEBIAN_VERSION, fact="it is missing, or is not Ubuntu's")
    for manager in managers:
        if judged and judged not in FAMILIES[manager]:
            yield Contradiction(path=OWN[manager][0], fact=f"it holds {manager}'s records")


def _find_judged(release: dict[str, str]) -> str:
    """Return the distribution whose vulnerabilities grype looks for: the first name that it knows, or a similar one.

    `ID_LIKE` and `NAME` count only if grype does not know `ID`.
    """
    names = (release.get("ID", ""), *release.get("ID_LIKE", "").split(), release.get("NAME", ""))
    return min(names, key=lambda each: (each not in GRYPE_NAMES, each not in UNKNOWN))


def _name_and_version(release: dict[str, str]) -> tuple[str, str]:
    return release.get("ID", ""), release.get("VERSION_ID", "")


def _format_distribution(name: str, version: str) -> str:
    return escape_path(f"{name} {version}".strip())[:80] or "no distribution"


def _release_files(files: Files, keeper: ContentStore) -> Iterator[tuple[str, tuple[str, ...], str]]:
    """Yield the distributions' own release files: path, matching values of `ID`, and the version if there is one."""
    for path, names in (
        (DEBIAN_VERSION, ("debian", "ubuntu", "raspbian")),
        ("/etc/alpine-release", ("alpine", "postmarketos")),
        ("/etc/arch-release", ("arch",)),
        ("/etc/gentoo-release", ("gentoo",)),
        ("/etc/SuSE-release", ("suse", "opensuse", "opensuse-leap", "sles")),
        ("/etc/fedora-release", ("fedora",)),
        ("/etc/centos-release", ("centos", "rocky", "almalinux")),
        ("/etc/redhat-release", FAMILIES["rpm"]),
    ):
        if (text := _text(files, keeper, path)) is not None:
            yield path, names, next(iter(re.findall(r"\d+(?:\.\d+)*", text)), "")
    if (text := _text(files, keeper, "/etc/lsb-release")) is not None:
        fields = parse_assignments(text)
        if name := fields.get("DISTRIB_ID", "").lower():
            yield "/etc/lsb-release", (name,), fields.get("DISTRIB_RELEASE", "")


def _same_version(installed: str, version: str) -> bool:
    """Return whether one version is a prefix of the other, such as 12 and 12.5."""
    one, other = installed.split("."), version.split(".")
    shorter = min(len(one), len(other))
    return one[:shorter] == other[:shorter]


def _find_databases(
    files: Files, judged: str, checkpoint: Callable[[], object]
) -> tuple[tuple[str, ...], list[Database]]:
    """Return the package managers with records where a distribution has its own, and the second databases.

    A second database is in another place, or of another package manager than that of the distribution `judged`, if it
    is known.
    """
    own: dict[str, str] = {}
    others: dict[str, Database] = {}
    for path, node, scanned in sorted(list_scanned(files, checkpoint), key=lambda each: (each[0], each[2])):
        manager, directory = _find_records(path, node, scanned)
        if not manager:
            continue
        place = _find_place(manager, directory)
        if place and own.setdefault(manager, place) == place:
            continue
        others.setdefault(directory, Database(path=escape_path(directory), manager=manager))
    managers = tuple(own)
    first = next((each for each in managers if judged in FAMILIES[each]), next(iter(managers), ""))
    for manager in managers:
        if manager != first or (judged in GRYPE_NAMES and judged not in FAMILIES[manager]):
            others.setdefault(own[manager], Database(path=own[manager], manager=manager))
    return managers, sorted(others.values(), key=lambda each: each.path)


def _find_place(manager: str, directory: str) -> str:
    """Return the directory of a distribution in which a directory of records is; empty if it is in none.

    Below apk's own there are no records, and none are compared there.
    """
    below = [each for each in OWN.get(manager, ()) if manager != "apk" and directory.startswith(f"{each}/")]
    return directory if directory in OWN.get(manager, ()) else next(iter(below), "")


def _find_records(path: str, node: Node[FileContent], scanned: str) -> tuple[str, str]:
    """Return the package manager whose records a file holds, and their directory; empty if none.

    `scanned` is the package manager as whose records syft reads the file.
    """
    if scanned == "nix":  # an empty file or directory in its store is a package too
        return scanned, posixpath.dirname(path)
    if node.kind is Kind.DIRECTORY:
        return ("guix", path) if path == "/gnu/store" and node.children else ("", "")
    manager = scanned if node.content and node.content.size else ""
    if not manager:
        for place, (pattern, name) in PLACES.items():
            above, separator, record = path.rpartition(place)
            if separator and pattern.fullmatch(record):
                return name, f"{above}{place}".rstrip("/")
        manager = node.content.database if node.content else ""
    above_record = ABOVE[manager].fullmatch(path) if manager in ABOVE else None
    return manager, (above_record[1] if above_record else posixpath.dirname(path)) or "/"


def _find_archives(files: Files) -> Iterator[Archive]:
    """Yield the archives that syft does not open, or in which it looks only for Java packages and others exist."""
    for path, node in sorted(files.walk(), key=lambda each: each[0]):
        content = node.content
        if content is None or not content.archive:
            continue
        if content.archive == "jar" and path.endswith(JAVA):
            continue
        yield Archive(path=escape_path(path), format=content.archive, sha256=content.sha256.hex())


def _find_bytecode(
    files: Files, keeper: ContentStore, read_installed: Callable[[], InstalledFiles]
) -> Iterator[Archive]:
    """Yield the compiled Python files that may differ from their source: no scanner reads code in them."""
    for path, content in find_unread_bytecode(files, keeper, read_installed):
        yield Archive(path=escape_path(path), format=COMPILED_PYTHON, sha256=content.sha256.hex())
