"""What a registry holds under digests, in files: a fleet's evidence is read from it once, and not every night.

Nobody believes these files: whoever reads one compares it with its digest, as with what a registry answers.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from supply_chain.adapters.files.private_files import OwnFiles

LARGEST = 64 * 1024
"""Bytes of what is kept: manifests and most evidence, and no SBOM."""
UNUSED = 7 * 24 * 3600.0
"""Seconds after which is removed what nobody read."""


@dataclass(frozen=True)
class KeptContent:
    """Contents below a directory, by the paths at which a registry answers them."""

    directory: Path

    def get(self, path: str) -> tuple[bytes, str] | None:
        """Content and media type, as they were kept."""
        kept = self._files.read(*_where(path))
        if kept is None:
            return None
        media_type, _, content = kept.partition(b"\n")
        return content, media_type.decode(errors="replace")

    def keep(self, path: str, content: bytes, media_type: str) -> None:
        """Keep what is small."""
        if len(content) <= LARGEST:
            self._files.write(*_where(path), media_type.encode() + b"\n" + content)

    def forget_unused(self) -> None:
        """Remove what nobody asked for in a week: it is of images that are gone."""
        self._files.forget_unused(UNUSED)

    @property
    def _files(self) -> OwnFiles:
        return OwnFiles(self.directory)


def _where(path: str) -> tuple[str, str]:
    name = hashlib.sha256(path.encode()).hexdigest()
    return name[:2], name[2:]
