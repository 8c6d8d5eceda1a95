"""The files of a kustomization or a chart: read once, and what may be rendered.

Only what is in these files is rendered, and nothing of it is a program: no plugins, no functions, nothing remote.
"""

from __future__ import annotations

import posixpath
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal, Protocol

from pydantic import AfterValidator, ConfigDict
from pydantic.alias_generators import to_camel

from supply_chain.errors import DeclarationInvalid, ToolMissing
from supply_chain.execution.kubernetes.chart_schemas import check_schemas
from supply_chain.model.documents import LIMIT, decode_document, parse_document, read_content
from supply_chain.model.image import Model

KUSTOMIZATION, CHART = "kustomization.yaml", "Chart.yaml"
"""The files that make a directory a kustomization or a chart."""
MOST_FILES, MOST_BYTES = 500, 4 * 1024 * 1024
"""Maximum number of files of a kustomization or a chart, and of their bytes together."""


@dataclass(frozen=True)
class Release:
    """What a chart is rendered as: its release's name and namespace, and a file of values; empty for none."""

    name: str
    namespace: str
    values: str


class Renderer(Protocol):
    """Renders manifests from files alone, without a network and without other programs.

    `files` are contents by their paths, and `place` is the directory of the kustomization or chart in them. Raises
    `ManifestsRefused`, with what the renderer says, if it does not render them within its limits.
    """

    def build_kustomization(self, files: Mapping[str, bytes], place: str) -> bytes:
        """Return the manifests of a kustomization as a stream of YAML documents; the end of a long one is left out."""

    def template_chart(self, files: Mapping[str, bytes], place: str, release: Release) -> bytes:
        """Return the manifests of a chart, also its hooks, as a stream of YAML documents; as `build_kustomization`.

        Values that do not fit its schema are an error, with the place in the values.
        """


class PlainOnly:
    """A `Renderer` that renders nothing; plain manifests need none."""

    def build_kustomization(self, files: Mapping[str, bytes], place: str) -> bytes:
        """Raise `ToolMissing`."""
        raise ToolMissing(f"Nothing here renders {place}.\nWrite plain manifests, or give the target a renderer.")

    def template_chart(self, files: Mapping[str, bytes], place: str, release: Release) -> bytes:
        """Raise `ToolMissing`."""
        return self.build_kustomization(files, place)


def _check_path(value: str) -> str:
    if not value or not value.isprintable() or any(each in value for each in ":@\\?") or value.startswith("/"):
        raise ValueError("has to be a relative path; nothing remote is read")
    return value


def _check_source(value: str) -> str:
    _check_path(value.rpartition("=")[2])
    return value


RelativePath = Annotated[str, AfterValidator(_check_path)]
FileSource = Annotated[str, AfterValidator(_check_source)]
"""The path of a file, which KEY= may precede."""


class _Part(Model):
    model_config = ConfigDict(alias_generator=to_camel)


class Patch(_Part):
    """A patch, or the path of one."""

    path: RelativePath | None = None
    patch: str | None = None
    target: Any = None
    options: Any = None


class ConfigMapSource(_Part):
    """A ConfigMap to make."""

    name: str
    namespace: str | None = None
    behavior: str | None = None
    files: tuple[FileSource, ...] = ()
    envs: tuple[RelativePath, ...] = ()
    literals: tuple[str, ...] = ()
    options: Any = None


class Replacement(_Part):
    """A replacement, or the path of one."""

    path: RelativePath | None = None
    source: Any = None
    targets: Any = None


class Kustomization(_Part):
    """What a kustomization may declare: nothing that runs a program or names what is elsewhere."""

    api_version: Literal["kustomize.config.k8s.io/v1beta1", "kustomize.config.k8s.io/v1alpha1"] | None = None
    kind: Literal["Kustomization", "Component"] | None = None
    metadata: Any = None
    resources: tuple[RelativePath, ...] = ()
    components: tuple[RelativePath, ...] = ()
    namespace: str | None = None
    name_prefix: str | None = None
    name_suffix: str | None = None
    labels: Any = None
    common_labels: Any = None
    images: Any = None
    replicas: Any = None
    patches: tuple[Patch, ...] = ()
    replacements: tuple[Replacement, ...] = ()
    config_map_generator: tuple[ConfigMapSource, ...] = ()
    generator_options: Any = None


def read_kustomization(root: Path, place: str) -> Mapping[str, bytes]:
    """Return the files of a kustomization and of all that it is built on, by their paths below `root`.

    Raises `DeclarationInvalid` for links, for too many or too large files, for what a kustomization here may not
    declare, and if it is built on what is not below `root`.
    """
    files = _Files(root)
    waiting, visited = [place], set[str]()
    while waiting:
        current = waiting.pop()
        if current not in visited:
            visited.add(current)
            files.add_directory(current)
            waiting += _find_bases(root, current, files.contents)
    return files.contents


def read_chart(root: Path, place: str, values: str | None) -> Mapping[str, bytes]:
    """Return the files of a chart and its file of values, by their paths below `root`.

    Raises `DeclarationInvalid` for links, for too many or too large files, and for a schema of values that refers to
    what is elsewhere.
    """
    files = _Files(root)
    files.add_directory(place)
    check_schemas(files.contents)
    if values:
        files.add_file(values)
    return files.contents


def _find_bases(root: Path, place: str, files: Mapping[str, bytes]) -> list[str]:
    """Return the directories on which a kustomization is built; raise `DeclarationInvalid`."""
    name = f"{place}/{KUSTOMIZATION}"
    if name not in files:
        raise DeclarationInvalid(f"{root / place} has no {KUSTOMIZATION}.\nWrite one, or name its files.")
    declared = parse_document(decode_document(files[name], str(root / name)), Kustomization, str(root / name))
    named = {each: posixpath.normpath(f"{place}/{each}") for each in (*declared.resources, *declared.components)}
    for each, path in named.items():
        outside = path.partition("/")[0] in (".", "..")
        if path not in files and (outside or not (root / path).is_dir()):
            raise DeclarationInvalid(
                f"{root / name}: {each} is neither a file of this directory nor a directory below {root}.\n"
                "Copy what it is built on there; nothing remote is read."
            )
    return [path for path in named.values() if path not in files]


@dataclass(frozen=True)
class _Files:
    """Regular files by their paths below a directory, as they were when they were read."""

    root: Path
    contents: dict[str, bytes] = field(default_factory=dict)

    def add_directory(self, place: str) -> None:
        """Read the files of a directory and of the directories in it."""
        self._check_links(place)
        for path in sorted((self.root / place).iterdir()):
            name = f"{place}/{path.name}"
            if path.is_dir():
                self.add_directory(name)
            else:
                self.add_file(name)

    def add_file(self, name: str) -> None:
        """Read a file."""
        self._check_links(name)
        content = self.contents[name] = read_content(self.root / name)
        if (
            len(content) > LIMIT
            or len(self.contents) > MOST_FILES
            or sum(map(len, self.contents.values())) > MOST_BYTES
        ):
            raise DeclarationInvalid(
                f"{self.root / name} is too large, or one file too many: at most {MOST_FILES} of {LIMIT // 1024} KiB, "
                f"and {MOST_BYTES // 1024**2} MiB together.\nRemove what is not rendered."
            )

    def _check_links(self, name: str) -> None:
        """Raise `DeclarationInvalid` if a part of the path is a link, which may lead to a file of the host."""
        for part in (PurePosixPath(name), *PurePosixPath(name).parents[:-1]):
            if (self.root / part).is_symlink():
                raise DeclarationInvalid(f"{self.root / part} is a link.\nCopy the file itself there.")
