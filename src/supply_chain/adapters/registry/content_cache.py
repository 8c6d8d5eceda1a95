"""Caches registry content in files, so that the evidence of all images is downloaded once and not every night.

The files are not trusted: a reader compares the content with its digest, as it does with a registry's answer.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from supply_chain.adapters.files.private_files import PrivateFiles

LARGEST = 64 * 1024
"""Maximum bytes of cached content: enough for manifests and most evidence, not for SBOMs."""
UNUSED = 7 * 24 * 3600.0
"""Seconds after which content that nobody read is removed."""


@dataclass(frozen=True)
class ContentCache:
    """Content below a directory, by the paths at which a registry answers it."""

    directory: Path

    def get(self, path: str) -> tuple[bytes, str] | None:
        """Return the cached content and media type; None if there is none."""
        cached = self._files.read(*_cache_key(path))
        if cached is None:
            return None
        media_type, _, content = cached.partition(b"\n")
        return content, media_type.decode(errors="replace")

    def put(self, path: str, content: bytes, media_type: str) -> None:
        """Cache the content, if it is small."""
        if len(content) <= LARGEST:
            self._files.write(*_cache_key(path), media_type.encode() + b"\n" + content)

    def forget_unused(self) -> None:
        """Remove what nobody read for a week: it belongs to images that are gone."""
        self._files.forget_unused(UNUSED)

    @property
    def _files(self) -> PrivateFiles:
        return PrivateFiles(self.directory)


def _cache_key(path: str) -> tuple[str, str]:
    name = hashlib.sha256(path.encode()).hexdigest()
    return name[:2], name[2:]
