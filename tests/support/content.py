"""Small images, artifacts and indexes that a registry accepts as valid (OCI image specification 1.1)."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
EMPTY = "application/vnd.oci.empty.v1+json"


@dataclass(frozen=True)
class Content:
    """A manifest and the blobs that it references."""

    media_type: str
    manifest: bytes
    blobs: tuple[bytes, ...] = ()

    @property
    def digest(self) -> str:
        return sha(self.manifest)

    @property
    def id(self) -> dict[str, str]:
        return {"imageDigest": self.digest}

    @classmethod
    def image(cls, seed: str, text: str = "") -> Self:
        """Return an image of one layer with one file, whose path is the seed."""
        return cls.of_files({seed: text.encode()})

    @classmethod
    def of_files(cls, files: Mapping[str, bytes]) -> Self:
        """Return an image of one layer with these files."""
        tar = io.BytesIO()
        with tarfile.open(fileobj=tar, mode="w") as archive:
            for path, content in files.items():
                entry = tarfile.TarInfo(path)
                entry.size = len(content)
                archive.addfile(entry, io.BytesIO(content))
        layer = gzip.compress(tar.getvalue(), mtime=0)
        config = encoded(
            {
                "architecture": "amd64",
                "os": "linux",
                "config": {},
                "rootfs": {"type": "layers", "diff_ids": [sha(tar.getvalue())]},
            }
        )
        return cls._of(config, CONFIG, (layer,), LAYER)

    @classmethod
    def of_layers(cls, *layers: bytes, media_type: str = LAYER) -> Self:
        """Return an image of these layers, with an empty configuration."""
        return cls._of(b"{}", CONFIG, layers, media_type)

    @classmethod
    def artifact(cls, subject: Content, kind: str, seed: str) -> Self:
        """Return a referrer of an image."""
        about = descriptor(subject.media_type, subject.manifest)
        return cls._of(b"{}", EMPTY, (seed.encode(),), "text/plain", artifactType=kind, subject=about)

    @classmethod
    def index(cls, children: Sequence[Content]) -> Self:
        """Return an index of images."""
        platforms = [{"architecture": each, "os": "linux"} for each in ("amd64", "arm64", "s390x")]
        listed = [
            {**descriptor(child.media_type, child.manifest), "platform": platform}
            for child, platform in zip(children, platforms, strict=False)
        ]
        return cls(INDEX, encoded({"schemaVersion": 2, "mediaType": INDEX, "manifests": listed}))

    @classmethod
    def _of(cls, config: bytes, kind: str, layers: tuple[bytes, ...], layer_kind: str, **more: Any) -> Self:
        manifest = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": descriptor(kind, config),
            "layers": [descriptor(layer_kind, each) for each in layers],
            **more,
        }
        return cls(MANIFEST, encoded(manifest), (config, *layers))


def descriptor(media_type: str, data: bytes) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": sha(data), "size": len(data)}


def encoded(value: Any) -> bytes:
    return json.dumps(value).encode()


def sha(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()
