"""Makes encrypted copies of images, and decrypts them, with skopeo and ocicrypt (JWE recipients).

Skopeo rewrites manifests: an image that it decrypts has the layers and configuration of the signed image, but not
always its digest. The signed manifest is therefore read from the registry, compared with its digest, and used in place
of skopeo's.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tarfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_der_private_key,
)

from supply_chain.adapters.process import tool_errors
from supply_chain.adapters.process.command import WHOLE_OUTPUT, CommandResult, Tool
from supply_chain.errors import (
    AccessDenied,
    ImageDamaged,
    ImageNotFound,
    ImageUnsuitable,
    KeyUnusable,
    RegistryUnavailable,
    ToolFailed,
)
from supply_chain.execution.supply import LOADED
from supply_chain.model.image import Digest, ImageRef, digest_of, shorten_digest
from supply_chain.scratch import make_scratch_directory

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
ENCRYPTED = "+encrypted"
BITS = 3072
"""Size of an image's RSA key. As PKCS #8 it takes 1.8 KB of the 4096 bytes that KMS wraps."""
TIMEOUT = 900.0
"""Seconds for one copy of an image."""
MEMORY = Path("/dev/shm")  # noqa: S108 # nosec B108 - a private directory is made in it
"""Where a private key is written if the directory exists: in memory, not on a disk."""

NO_KEY = ("no suitable key unwrapper", "missing private key", "could not be used for decryption")
"""Skopeo's messages when a key does not decrypt a copy."""


@dataclass(frozen=True)
class Skopeo:
    """Skopeo with the permissions of one role.

    `docker_config` yields a directory with the role's credentials in `config.json`.
    """

    tool: Tool
    host: str
    docker_config: Callable[[], AbstractContextManager[Path]]
    insecure: bool = False

    def generate_key(self) -> bytes:
        """Return a new RSA private key: PKCS #8, DER, less than 2 KB."""
        key = rsa.generate_private_key(public_exponent=65537, key_size=BITS)
        return key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())

    def encrypt(self, image: ImageRef, tag: str, key: bytes, announce: Callable[[Digest], object]) -> Digest:
        """Push a copy that `key` decrypts to the image's repository; return its digest.

        Its tag is `<tag>-<first 12 digits of its digest>`. The copy is made and decrypted on this machine, then passed
        to `announce`, then pushed. Raises `ImageUnsuitable` if the image is not an OCI image manifest, and
        `ImageDamaged` if the copy is not as expected.
        """
        with make_scratch_directory("skopeo") as work, _key_files(key) as (public, private):
            signed = self._manifest(image, work)
            require_suitable(image, signed)
            self._copy(self._remote(image), f"oci:{work / 'copy'}:copy", "--encryption-key", f"jwe:{public}")
            digest = _read_only_digest(work / "copy")
            require_encrypted(image, json.loads(_blob(work / "copy", digest).read_bytes()))
            self._copy(f"oci:{work / 'copy'}:copy", f"oci:{work / 'back'}:back", "--decryption-key", str(private))
            require_same_content(image, signed, work / "back")
            announce(digest)
            target = f"docker://{self.host}/{image.repository}:{tag}-{shorten_digest(digest)}"
            self._copy(f"oci:{work / 'copy'}:copy", target, "--preserve-digests", "--digestfile", str(work / "pushed"))
            _check_pushed(digest, (work / "pushed").read_text().strip(), image)
        return digest

    def is_encrypted(self, copy: ImageRef) -> bool:
        """Return whether the registry holds this manifest and every layer of it is encrypted."""
        with make_scratch_directory("skopeo") as work:
            try:
                manifest = self._manifest(copy, work)
            except ImageNotFound:
                return False
        return not find_plain_layers(manifest) and bool(manifest.get("layers"))

    def decrypt(self, copy: ImageRef, image: ImageRef, key: bytes, archive: Path) -> None:
        """Write the image as an OCI archive for engines, with the content of its encrypted copy.

        `archive` contains exactly the manifest that `image` names and the blobs of that manifest, each compared with
        its digest. Raises `KeyUnusable` for a wrong key and `ImageDamaged` for any other content.
        """
        with make_scratch_directory("skopeo") as work, _key_files(key) as (_, private):
            require_encrypted(copy, self._manifest(copy, work))
            signed = self._manifest(image, work)
            self._copy(self._remote(copy), f"oci:{work / 'plain'}:plain", "--decryption-key", str(private))
            require_same_content(image, signed, work / "plain")
            pack(image, work / "manifest", work / "plain", archive)

    def _remote(self, ref: ImageRef) -> str:
        return f"docker://{self.host}/{ref}"

    def _manifest(self, ref: ImageRef, work: Path) -> dict[str, Any]:
        """Return the manifest of `ref`, verified against its digest; its exact bytes are written to `work/manifest`."""
        path = work / "manifest"
        with self.docker_config() as config:
            done = self.tool.run(
                "inspect", "--raw", *self._access("", config), self._remote(ref),
                timeout=60, stdout_to=path, check=False, quiet=True,
            )  # fmt: skip
        _check_result(done, f"read the manifest of {ref}")
        content = path.read_bytes()
        if digest_of(content) != ref.digest:
            raise ImageDamaged(
                f"The registry returned a manifest of {ref} that does not match its digest.\n"
                "Do not use it. Check the registry's storage, and who can write to it."
            )
        manifest: dict[str, Any] = json.loads(content)
        return manifest

    def _copy(self, source: str, target: str, *options: str) -> None:
        with self.docker_config() as config:
            access = [
                *(self._access("src-", config) if source.startswith("docker://") else ()),
                *(self._access("dest-", config) if target.startswith("docker://") else ()),
            ]
            done = self.tool.with_environment(TMPDIR=str(config)).run(
                "--insecure-policy", "copy", *access, *options, source, target, timeout=TIMEOUT, check=False, quiet=True
            )
        _check_result(done, f"copy {source} to {target}")

    def _access(self, side: str, config: Path) -> tuple[str, ...]:
        verify = () if not self.insecure else (f"--{side}tls-verify=false",)
        return (f"--{side}authfile", str(config / "config.json"), *verify)


def require_suitable(image: ImageRef, manifest: dict[str, Any]) -> None:
    """Raise `ImageUnsuitable` unless this is one OCI image with layers, which can be encrypted and decrypted."""
    config = manifest.get("config", {}).get("mediaType")
    if not manifest.get("layers") or config != CONFIG:
        raise ImageUnsuitable(
            f"{image} cannot have an encrypted copy: it is not one OCI image with layers ({config or 'an index'}).\n"
            "Build it for one platform as an OCI image (buildx: --provenance=false --output oci-mediatypes=true)."
        )


def find_plain_layers(manifest: dict[str, Any]) -> list[str]:
    """Return the digests of the layers that are not encrypted."""
    return [x["digest"] for x in manifest.get("layers", []) if not x["mediaType"].endswith(ENCRYPTED)]


def require_encrypted(image: ImageRef, manifest: dict[str, Any]) -> None:
    """Raise `ImageDamaged` unless there are layers and every one is encrypted; skopeo's status does not show this."""
    plain = find_plain_layers(manifest)
    if plain or not manifest.get("layers"):
        raise ImageDamaged(
            f"The copy of {image} is not encrypted: {', '.join(plain) or 'it has no layers'}.\n"
            "Nothing is started from it. Run `cscm curate` again and look at skopeo's version (`cscm doctor`)."
        )


def require_same_content(image: ImageRef, signed: dict[str, Any], layout: Path) -> None:
    """Raise `ImageDamaged` unless the layout has every blob of the signed manifest, each with its digest.

    The layout's own manifest must name the same blobs in the same order, none of them encrypted.
    """
    decrypted = json.loads(_blob(layout, _read_only_digest(layout)).read_bytes())
    expected, actual = _blobs(signed), _blobs(decrypted)
    still = [x["digest"] for x in decrypted["layers"] if x["mediaType"].endswith(ENCRYPTED)]
    damaged = [digest for digest in expected if _digest_of(_blob(layout, digest)) != digest]
    if still or damaged or actual != expected:
        raise ImageDamaged(
            f"The encrypted copy of {image} does not hold what is signed: "
            f"{', '.join(still or damaged or sorted(set(actual) ^ set(expected))) or 'layers in another order'}.\n"
            "Nothing is started from it. Find out who wrote the copy, then run `cscm curate` again."
        )


def pack(image: ImageRef, manifest: Path, layout: Path, archive: Path) -> None:
    """Write an OCI layout of exactly the signed manifest and its blobs as a tar file, named by its digest."""
    content = manifest.read_bytes()
    name = f"{LOADED}/{image.repository}:{image.short}"
    descriptor = {
        "mediaType": MANIFEST,
        "digest": image.digest,
        "size": len(content),
        "annotations": {"io.containerd.image.name": name, "org.opencontainers.image.ref.name": image.short},
    }
    (layout / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [descriptor]}))
    _blob(layout, image.digest).write_bytes(content)
    digests = [image.digest, *_blobs(json.loads(content))]
    names = ["oci-layout", "index.json", *dict.fromkeys(f"blobs/sha256/{d.partition(':')[2]}" for d in digests)]
    with tarfile.open(archive, "w") as tar:
        for each in names:
            tar.add(layout / each, arcname=each)


def _blobs(manifest: dict[str, Any]) -> list[str]:
    return [manifest["config"]["digest"], *(layer["digest"] for layer in manifest["layers"])]


def _blob(layout: Path, digest: str) -> Path:
    return layout / "blobs" / "sha256" / digest.partition(":")[2]


def _digest_of(path: Path) -> str:
    if not path.is_file():
        return "missing"
    with path.open("rb") as stream:
        return f"sha256:{hashlib.file_digest(stream, 'sha256').hexdigest()}"


def _read_only_digest(layout: Path) -> Digest:
    manifests = json.loads((layout / "index.json").read_text())["manifests"]
    if len(manifests) != 1:
        raise ImageDamaged(f"skopeo wrote {len(manifests)} images in place of one.\nLook at its output in the log.")
    return str(manifests[0]["digest"])


def _check_pushed(expected: Digest, answered: str, image: ImageRef) -> None:
    if answered != expected:
        raise ImageDamaged(
            f"The encrypted copy of {image} arrived in the registry as {answered}, not as {expected}.\n"
            "It is not used. Run the step again, and look at what lies between skopeo and the registry."
        )


def _check_result(done: CommandResult, doing: str) -> None:
    if done.status == 0:
        return
    message = done.stderr[-1500:].strip()
    what = f"skopeo could not {doing}: {message}\n"
    if any(words in message for words in NO_KEY):
        raise KeyUnusable(
            f"{what}The key does not open this copy. Run `cscm curate` again; it writes a copy with a key of its own."
        )
    if tool_errors.is_not_found(message):
        raise ImageNotFound(f"{what}Check the reference.")
    if tool_errors.is_denied(message):
        raise AccessDenied(f"{what}Each tier may read and write only what its policy in deployments/iam allows.")
    if tool_errors.is_transient(message):
        raise RegistryUnavailable(f"{what}The step is retried.")
    raise ToolFailed(f"skopeo could not {doing} (status {done.status}): {message}\n{WHOLE_OUTPUT}.")


@contextlib.contextmanager
def _key_files(key: bytes) -> Iterator[tuple[Path, Path]]:
    """Yield the public and the private key as PEM files that only this user can read, in memory where possible.

    Raises `KeyUnusable` if `key` is not a private key.
    """
    try:
        private = load_der_private_key(key, password=None)
    except ValueError as error:
        raise KeyUnusable(
            f"The unwrapped key of the encrypted copy is not a private key: {error}\n"
            "Run `cscm curate` again; it writes a copy with a key of its own."
        ) from error
    with make_scratch_directory("key", _memory()) as work:
        files = work / "public.pem", work / "private.pem"
        _write(files[0], private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
        _write(files[1], private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        yield files


def _memory() -> Path | None:
    return MEMORY if MEMORY.is_dir() and os.access(MEMORY, os.W_OK) else None


def _write(path: Path, content: bytes) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)
