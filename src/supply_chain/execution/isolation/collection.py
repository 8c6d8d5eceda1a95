"""What was collected of isolated pods for an investigation, and the sealed bundle of it."""

from __future__ import annotations

import base64
import gzip
import io
import json
import secrets
import tarfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from pydantic import AwareDatetime, Field

from supply_chain.errors import ImageDamaged
from supply_chain.evidence.encryption import KeyWrapper
from supply_chain.model.image import Digest, Model, digest_of

NONCE, KEY = 12, 32
"""Bytes of a nonce and of a key of AES-256-GCM (NIST SP 800-38D)."""


class IsolatedPod(Model):
    """A pod in quarantine."""

    name: str
    uid: str
    node: str
    containers: dict[str, str] = Field(description="the container's name → its id in the node's runtime")


class CollectedItem(Model):
    """One file in the bundle."""

    name: str
    digest: Digest
    size: int
    collected: AwareDatetime
    truncated: bool = Field(default=False, description="whether it is only the end of what there was")


class Uncollected(Model):
    """What was not collected."""

    item: str
    why: str


@dataclass(frozen=True)
class Collection:
    """What was collected of an isolated application."""

    pods: tuple[IsolatedPod, ...]
    files: tuple[tuple[CollectedItem, bytes], ...]
    uncollected: tuple[Uncollected, ...] = ()
    allowing_policies: tuple[str, ...] = ()
    """Network policies of others that still let traffic through to the pods or from them."""


class SealedBundle(Model):
    """A bundle, encrypted with a key of its own that KMS wrapped."""

    referrer: Digest = Field(description="the referrer whose layer is the nonce and the encrypted bundle (tar.gz)")
    digest: Digest = Field(description="of that layer")
    algorithm: Literal["AES-256-GCM"] = "AES-256-GCM"
    key: str = Field(description="the KMS key")
    wrapped_key: str = Field(description="the bundle's key, wrapped by KMS, base64")
    context: dict[str, str] = Field(
        description="the KMS encryption context; as JSON with sorted keys also the additional authenticated data"
    )


def make_item(name: str, content: bytes, at: datetime, *, truncated: bool = False) -> tuple[CollectedItem, bytes]:
    """Return a file of a bundle with its description."""
    item = CollectedItem(
        name=name, digest=digest_of(content), size=len(content), collected=at, truncated=truncated
    )  # fmt: skip
    return item, content


@dataclass
class Room:
    """The bytes that are left in a bundle."""

    left: int
    now: Callable[[], datetime]

    def add(self, name: str, content: bytes, *, reserved: int = 0) -> tuple[CollectedItem, bytes] | Uncollected:
        """Return a file of the bundle; why not, if it would leave less than `reserved` bytes for others."""
        left = max(0, self.left - reserved)
        if len(content) > left:
            return Uncollected(item=name, why=f"it has {len(content)} bytes, and {left} are left")
        self.left -= len(content)
        return make_item(name, content, self.now())


def pack(files: Iterable[tuple[CollectedItem, bytes]]) -> bytes:
    """Return a gzipped tar archive of files; the same files give the same bytes."""
    packed = io.BytesIO()
    with (
        gzip.GzipFile(fileobj=packed, mode="wb", mtime=0) as zipped,
        tarfile.open(fileobj=zipped, mode="w") as archive,
    ):
        for item, content in files:
            entry = tarfile.TarInfo(item.name)
            entry.size, entry.mtime, entry.mode = len(content), int(item.collected.timestamp()), 0o400
            archive.addfile(entry, io.BytesIO(content))
    return packed.getvalue()


def encrypt(bundle: bytes, context: Mapping[str, str]) -> tuple[bytes, bytes]:
    """Encrypt a bundle with a new key; return the nonce with the encrypted bundle, and the key."""
    key, nonce = secrets.token_bytes(KEY), secrets.token_bytes(NONCE)
    return nonce + AESGCM(key).encrypt(nonce, bundle, _associated(context)), key


def unseal(sealed: SealedBundle, content: bytes, key: bytes) -> bytes:
    """Decrypt the layer of a sealed bundle with the key that KMS unwrapped.

    Raises `ImageDamaged` if it is not what was sealed.
    """
    try:
        if digest_of(content) == sealed.digest:
            return AESGCM(key).decrypt(content[:NONCE], content[NONCE:], _associated(sealed.context))
    except (InvalidTag, ValueError):
        pass
    raise ImageDamaged(
        f"What is stored as the sealed bundle {sealed.digest} is not it, or the key is another.\n"
        "Do not use it. Find out who pushed it."
    )


def wrap_key(keys: KeyWrapper, key: str, secret: bytes, context: Mapping[str, str]) -> str:
    """Return the wrapped key of a bundle, base64."""
    return base64.b64encode(keys.wrap(key, secret, dict(context))).decode()


def _associated(context: Mapping[str, str]) -> bytes:
    return json.dumps(context, sort_keys=True).encode()
