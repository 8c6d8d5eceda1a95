"""Manifests and configurations of images that a build takes in: what an engine reads, and what it must not request.

Engines read JSON as Go does: names in any case, of equal ones the last.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from supply_chain.adapters.registry.client import ACCEPT
from supply_chain.errors import DockerfileRefused
from supply_chain.model.image import DIGEST, Digest
from supply_chain.strict_json import read_strict_json, require_unique_names

MANIFESTS = frozenset(ACCEPT.split(", "))
COMPATIBLE = {"amd64": ("amd64", "x86", "386", "i386"), "arm64": ("arm", "aarch64")}
"""How names of architectures begin whose programs run on another one; an engine takes those images, too."""

LayersByManifest = dict[Digest, tuple[Digest, ...]]
"""Manifests of an image, each with its layers as it lists them."""

MOST_MANIFESTS = 64
"""Maximum manifests of an image; an index for all platforms has 20."""


@dataclass(frozen=True)
class Manifest:
    """What an engine reads after a manifest."""

    manifests: tuple[Digest, ...]
    """Those that it may read next."""
    layers: tuple[Digest, ...]
    """Its layers, as it lists them."""


def read_manifests(read: Callable[[Digest], str], address: str, platform: str | None) -> LayersByManifest:
    """Return the layers of each manifest of an image for a platform, or without one for all.

    `read` returns a manifest of the image at `address`, which has a digest. Raises `DockerfileRefused` if an engine
    would request a part of the image at other addresses than its registry's: it does so in the host's network.
    """
    digest = address.rpartition("@")[2]
    waiting, digests = [digest], {digest}
    layers: dict[Digest, tuple[Digest, ...]] = {}
    while waiting:
        digest = waiting.pop()
        text = read(digest)
        try:
            manifest = read_manifest(text, platform)
        except ValueError as error:
            raise _refuse(address, str(error)) from error
        layers[digest] = manifest.layers
        new = set(manifest.manifests) - digests
        digests |= new
        waiting += new
        if len(digests) > MOST_MANIFESTS:
            raise _refuse(address, f"it has more than {MOST_MANIFESTS} manifests")
    return layers


def _refuse(address: str, why: str) -> DockerfileRefused:
    return DockerfileRefused(
        f"The image {address} may not be taken in: {why}.\nUse a curated base, or declare another image."
    )


def read_manifest(text: str, platform: str | None) -> Manifest:
    """Read a manifest for a platform; without one, for any platform.

    Raises `ValueError` if a descriptor has `urls`, which an engine requests before the registry (OCI image 1.1,
    "Content Descriptors"), or if it is not certain what an engine reads.
    """
    try:
        document = json.loads(text, object_pairs_hook=_fold)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    if not isinstance(document, dict):
        raise ValueError("it is not a JSON object")  # noqa: TRY004
    for part in (document.get("config"), *_list(document, "layers")):
        if isinstance(part, dict) and part.get("mediatype") in MANIFESTS:
            raise ValueError("it has a manifest as a layer or as its configuration")
    layers = [each.get("digest") for each in _list(document, "layers") if isinstance(each, dict)]
    return Manifest(tuple(_find_digests(_list(document, "manifests"), platform)), tuple(map(str, layers)))


def _fold(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    folded = {name.casefold(): value for name, value in pairs}
    if len(folded) != len(pairs):
        raise ValueError("an object has a name twice")
    if folded.get("urls"):
        raise ValueError("a part of it is to be fetched from another address (`urls`)")
    return folded


def check_config(text: str, address: str) -> None:
    """Raise `DockerfileRefused` if programs may read an image's configuration, a JSON object, differently.

    Of equal names Go uses all values, one after the other, and another program the last one. It ignores the case of the
    names that BuildKit reads. Those of labels are compared as they are.
    """
    try:
        config = _fold_names(read_strict_json(text)).get("config")
        if isinstance(config, dict):
            _fold_names(config)
    except ValueError as error:
        raise _refuse(address, f"its configuration cannot be read: {error}") from error


def _fold_names(document: dict[str, Any]) -> dict[str, Any]:
    return require_unique_names([(name.casefold(), value) for name, value in document.items()])


def _list(document: dict[str, Any], name: str) -> list[Any]:
    values = document.get(name) or []
    if not isinstance(values, list):
        raise ValueError(f"its {name} are not a list")  # noqa: TRY004
    return values


def _find_digests(manifests: list[Any], platform: str | None) -> Iterator[Digest]:
    for each in manifests:
        digest = each.get("digest") if isinstance(each, dict) else None
        if not isinstance(digest, str) or not re.fullmatch(DIGEST, digest):
            raise ValueError("a manifest in it has no SHA-256 digest")
        if platform is None or _may_match(each.get("platform"), platform):
            yield digest


def _may_match(described: Any, platform: str) -> bool:
    """Return whether an engine may take a manifest that is described so; without a description it looks into it."""
    if not isinstance(described, dict):
        return True
    system, architecture = platform.split("/")[:2]
    named_system, named = (str(described.get(key) or "").lower() for key in ("os", "architecture"))
    return named_system in ("", system) and (not named or named.startswith(COMPATIBLE[architecture]))
