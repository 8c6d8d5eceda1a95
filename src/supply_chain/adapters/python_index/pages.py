"""The pages of a package index, which list a project's files (PyPA, "Simple repository API")."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from html.parser import HTMLParser
from urllib.parse import unquote, urldefrag, urljoin, urlsplit

from packaging.tags import Tag
from packaging.utils import InvalidSdistFilename, InvalidWheelFilename, parse_sdist_filename, parse_wheel_filename
from packaging.version import InvalidVersion, Version

from supply_chain.adapters.image.python_packages import InstalledPackage

JSON = "application/vnd.pypi.simple.v1+json"
ACCEPT = f"{JSON}, application/vnd.pypi.simple.v1+html;q=0.2, text/html;q=0.1"
FOREIGN = re.compile(r"win|macosx|android|ios")
"""Platforms on which no container of Linux runs."""


@dataclass(frozen=True)
class IndexFile:
    """A file that an index lists."""

    name: str
    url: str
    sha256: str = ""
    """Hexadecimal; empty if the index does not state it."""


@dataclass(frozen=True)
class Distributions:
    """The files of one version of a project."""

    wheels: tuple[IndexFile, ...] = ()
    """Those for the tags of the installed package come first, those for other systems than Linux last."""
    sources: tuple[IndexFile, ...] = ()


def parse_page(content: bytes, media_type: str, url: str) -> list[IndexFile]:
    """Return the files on a project's page; raise `ValueError` if it is not valid."""
    if media_type.partition(";")[0].strip() == JSON:
        try:
            files = json.loads(content)["files"]
            return [
                IndexFile(each["filename"], urljoin(url, each["url"]), each.get("hashes", {}).get("sha256", ""))
                for each in files
            ]
        except (KeyError, TypeError, AttributeError, RecursionError) as error:
            raise ValueError(f"{type(error).__name__}: {error}") from error
    links = _Links()
    links.feed(content.decode("utf-8", "replace"))
    return [_file_of_link(urljoin(url, link)) for link in links.urls]


class _Links(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.urls: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.urls += [value for name, value in attrs if tag == "a" and name == "href" and value]


def _file_of_link(url: str) -> IndexFile:
    address, fragment = urldefrag(url)
    algorithm, _, digest = fragment.partition("=")
    name = unquote(urlsplit(address).path).rpartition("/")[2]
    return IndexFile(name, address, digest if algorithm == "sha256" else "")


def select_version(files: Iterable[IndexFile], package: InstalledPackage) -> Distributions:
    """Return the files of the version that a package claims to be."""
    wheels, sources = list[tuple[int, IndexFile]](), list[IndexFile]()
    try:
        version = Version(package.version)
    except InvalidVersion:
        return Distributions()
    for file in files:
        listed, tags = _parse_name(file.name)
        if listed != version:
            continue
        if tags is None:
            sources.append(file)
        else:
            wheels.append((_rank(tags, package), file))
    wheels.sort(key=lambda each: each[0])
    return Distributions(tuple(file for _, file in wheels), tuple(sources))


def _parse_name(name: str) -> tuple[Version | None, frozenset[Tag] | None]:
    """Return version and tags of a wheel, or the version of a source distribution and None."""
    try:
        if name.endswith(".whl"):
            _, version, _, tags = parse_wheel_filename(name)
            return version, tags
        return parse_sdist_filename(name)[1], None
    except (InvalidWheelFilename, InvalidSdistFilename, InvalidVersion):
        return None, None


def _rank(tags: frozenset[Tag], package: InstalledPackage) -> int:
    if package.tags & {str(tag) for tag in tags}:
        return 0
    return 2 if all(FOREIGN.match(tag.platform) for tag in tags) else 1
