"""Tests of how the adapter handles the files, statuses and errors of skopeo, which a script replaces."""

from __future__ import annotations

import contextlib
import hashlib
import json
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from supply_chain.adapters.process.command import Tool
from supply_chain.adapters.tools import skopeo
from supply_chain.adapters.tools.skopeo import (
    CONFIG,
    MANIFEST,
    Skopeo,
    pack,
    require_encrypted,
    require_same_content,
    require_suitable,
)
from supply_chain.errors import (
    AccessDenied,
    ImageDamaged,
    ImageNotFound,
    ImageUnsuitable,
    KeyUnusable,
    RegistryUnavailable,
    SupplyChainError,
    ToolFailed,
)
from supply_chain.model.image import ImageRef

LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
SCRIPT = (
    f"#!{sys.executable} -IS"
    + """
import json, os, pathlib, sys
arguments = sys.argv[1:]
here = pathlib.Path(__file__).parent
if "inspect" in arguments:
    sys.stdout.write((here / "manifest").read_text())
    sys.exit()
key = pathlib.Path(arguments[arguments.index("--decryption-key") + 1])
seen = {
    "arguments": arguments,
    "path": str(key),
    "content": key.read_text(),
    "mode": oct(key.stat().st_mode & 0o777),
    "directory": oct(key.parent.stat().st_mode & 0o777),
    "config": (pathlib.Path(arguments[arguments.index("--src-authfile") + 1])).read_text(),
}
(here / "seen").write_text(json.dumps(seen))
sys.stderr.write((here / "says").read_text())
sys.exit(1)
"""
)


def digest_of(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def manifest_of(layer: str, media_type: str = LAYER, config: str = digest_of(b"{}")) -> dict[str, Any]:
    return {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": {"mediaType": CONFIG, "digest": config, "size": 2},
        "layers": [{"mediaType": media_type, "digest": layer, "size": 7}],
    }


SIGNED = manifest_of(digest_of(b"content"))
BYTES = json.dumps(SIGNED, indent=2).encode()
KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048).private_bytes(
    Encoding.DER, PrivateFormat.PKCS8, NoEncryption()
)
IMAGE = ImageRef(repository="curated/secret", digest=digest_of(BYTES))


def layout(directory: Path, manifest: dict[str, Any], *blobs: bytes) -> Path:
    """Write an OCI layout as skopeo does: the manifest in skopeo's own formatting, and the blobs."""
    (directory / "blobs/sha256").mkdir(parents=True)
    content = json.dumps(manifest, separators=(",", ":")).encode()
    for blob in (content, *blobs):
        (directory / "blobs/sha256" / digest_of(blob)[7:]).write_bytes(blob)
    index = {"schemaVersion": 2, "manifests": [{"mediaType": MANIFEST, "digest": digest_of(content), "size": 1}]}
    (directory / "index.json").write_text(json.dumps(index))
    (directory / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
    return directory


@contextlib.contextmanager
def no_credentials(directory: Path) -> Iterator[Path]:
    (directory / "config.json").write_text("the role's credentials")
    yield directory


@pytest.fixture
def played(tmp_path: Path) -> Skopeo:
    """Return a skopeo that serves one encrypted manifest, records its input and fails with the text in `says`."""
    program = tmp_path / "skopeo"
    program.write_text(SCRIPT)
    program.chmod(0o755)
    (tmp_path / "manifest").write_text(json.dumps(manifest_of(digest_of(b"secret"), LAYER + "+encrypted")))
    (tmp_path / "says").write_text("it broke")
    return Skopeo(Tool("skopeo", program, "1"), "registry.example", lambda: no_credentials(tmp_path), insecure=True)


@pytest.fixture
def copy(tmp_path: Path, played: Skopeo) -> ImageRef:
    return IMAGE.model_copy(update={"digest": digest_of((tmp_path / "manifest").read_bytes())})


def test_new_key_is_unique_and_small_enough_for_kms(played: Skopeo) -> None:
    """KMS encrypts at most 4096 bytes."""
    first, second = played.generate_key(), played.generate_key()

    assert first != second
    assert len(first) <= 4096


def test_private_key_is_in_private_file_and_removed_afterwards(played: Skopeo, copy: ImageRef, tmp_path: Path) -> None:
    """Only this user can read it, no argument contains it, and it is removed after a failure too."""
    with pytest.raises(ToolFailed):
        played.decrypt(copy, copy, KEY, tmp_path / "image.tar")

    recorded = json.loads((tmp_path / "seen").read_text())
    assert (recorded["mode"], recorded["directory"]) == ("0o600", "0o700")
    assert recorded["content"].startswith("-----BEGIN PRIVATE KEY-----")
    assert "PRIVATE KEY" not in " ".join(recorded["arguments"])
    assert not Path(recorded["path"]).parent.exists()


def test_private_key_is_stored_in_memory_if_possible(
    played: Skopeo, copy: ImageRef, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a file system in memory a private temporary directory is used."""
    places = []
    (tmp_path / "memory").mkdir()
    for memory in (tmp_path / "memory", tmp_path / "none"):
        monkeypatch.setattr(skopeo, "MEMORY", memory)
        with pytest.raises(ToolFailed):
            played.decrypt(copy, copy, KEY, tmp_path / "image.tar")
        places.append(Path(json.loads((tmp_path / "seen").read_text())["path"]).parent.parent)

    assert places[0] == tmp_path / "memory"
    assert places[1] not in (tmp_path / "memory", tmp_path / "none")


def test_skopeo_reads_credentials_of_role_from_a_file(played: Skopeo, copy: ImageRef, tmp_path: Path) -> None:
    """TLS verification is disabled only if the block permits it."""
    for insecure in (True, False):
        role = Skopeo(played.tool, played.host, played.docker_config, insecure)
        with pytest.raises(ToolFailed):
            role.decrypt(copy, copy, KEY, tmp_path / "image.tar")
        recorded = json.loads((tmp_path / "seen").read_text())
        assert recorded["config"] == "the role's credentials"
        assert ("--src-tls-verify=false" in recorded["arguments"]) is insecure


@pytest.mark.parametrize(
    ("says", "error"),
    [
        ("decrypting layer sha256:1: no suitable key unwrapper found or none of the private keys", KeyUnusable),
        ("missing private key needed for decryption", KeyUnusable),
        ("reading manifest sha256:1: manifest unknown", ImageNotFound),
        ("writing blob: denied: User: x is not authorized to perform: ecr:PutImage", AccessDenied),
        ("unauthorized: authentication required", AccessDenied),
        ("pinging container registry h: Get http://h/v2/: dial tcp: connect: connection refused", RegistryUnavailable),
        ("received unexpected HTTP status: 500 Internal Server Error", RegistryUnavailable),
        ("panic: out of ideas", ToolFailed),
    ],
)
def test_skopeo_failure_raises_exception_for_its_cause(
    played: Skopeo, copy: ImageRef, tmp_path: Path, says: str, error: type[SupplyChainError]
) -> None:
    """A wrong key, a denial, a missing image and an outage are distinguished; only an outage is retryable."""
    (tmp_path / "says").write_text(f'time="2026-11-24" level=fatal msg="{says}"')

    with pytest.raises(SupplyChainError, match="skopeo could not copy") as raised:
        played.decrypt(copy, copy, KEY, tmp_path / "image.tar")

    assert type(raised.value) is error
    assert raised.value.retryable is (error is RegistryUnavailable)


def test_manifest_that_does_not_match_its_digest_is_refused(played: Skopeo, tmp_path: Path) -> None:
    """The registry returned another manifest."""
    with pytest.raises(ImageDamaged):
        played.decrypt(IMAGE, IMAGE, KEY, tmp_path / "image.tar")


def test_unwrapped_key_that_is_no_private_key_is_refused(played: Skopeo, copy: ImageRef, tmp_path: Path) -> None:
    """The error is raised before skopeo starts."""
    with pytest.raises(KeyUnusable):
        played.decrypt(copy, copy, b"no key", tmp_path / "image.tar")


@pytest.mark.parametrize(
    "manifest",
    [
        SIGNED,
        {**SIGNED, "layers": []},
        {**SIGNED, "layers": [*manifest_of("sha256:1", LAYER + "+encrypted")["layers"], *SIGNED["layers"]]},
    ],
    ids=["plain", "no layers", "one of two plain"],
)
def test_fully_encrypted_refuses_plain_layer_or_no_layer(manifest: dict[str, Any]) -> None:
    """skopeo exits with status 0 in any case, so the media types decide."""
    with pytest.raises(ImageDamaged, match="not encrypted"):
        require_encrypted(IMAGE, manifest)


@pytest.mark.parametrize(
    "manifest",
    [
        {"schemaVersion": 2, "manifests": []},
        {**SIGNED, "layers": []},
        {**SIGNED, "config": {"mediaType": "application/vnd.docker.container.image.v1+json"}},
    ],
    ids=["index", "no layers", "docker"],
)
def test_unsuitable_refuses_image_that_cannot_be_restored(manifest: dict[str, Any]) -> None:
    """An index, an empty image and the format of Docker are refused with the remedy."""
    with pytest.raises(ImageUnsuitable, match="oci-mediatypes"):
        require_suitable(IMAGE, manifest)


def test_same_content_accepts_reformatted_manifest(tmp_path: Path) -> None:
    """skopeo rewrites manifests, so the configuration and the layers decide."""
    require_same_content(IMAGE, SIGNED, layout(tmp_path / "layout", SIGNED, b"content", b"{}"))


@pytest.mark.parametrize(
    ("manifest", "blobs"),
    [
        (manifest_of(digest_of(b"other")), (b"other", b"content", b"{}")),
        (manifest_of(digest_of(b"content"), config=digest_of(b"[]")), (b"content", b"{}", b"[]")),
        (manifest_of(digest_of(b"content"), LAYER + "+encrypted"), (b"content", b"{}")),
        (SIGNED, (b"{}",)),
        ({**SIGNED, "layers": SIGNED["layers"] * 2}, (b"content", b"{}")),
    ],
    ids=["other layer", "other configuration", "still encrypted", "layer missing", "layer twice"],
)
def test_same_content_refuses_other_content(tmp_path: Path, manifest: dict[str, Any], blobs: tuple[bytes, ...]) -> None:
    """The decrypted layers have to be exactly the signed ones in their order."""
    with pytest.raises(ImageDamaged):
        require_same_content(IMAGE, SIGNED, layout(tmp_path / "layout", manifest, *blobs))


def test_same_content_refuses_blob_that_does_not_match_its_digest(tmp_path: Path) -> None:
    """The name of a file proves nothing."""
    directory = layout(tmp_path / "layout", SIGNED, b"content", b"{}")
    (directory / "blobs/sha256" / digest_of(b"content")[7:]).write_bytes(b"CONTENT")

    with pytest.raises(ImageDamaged):
        require_same_content(IMAGE, SIGNED, directory)


def test_pack_writes_signed_manifest_and_its_blobs_only(tmp_path: Path) -> None:
    """The index names the signed digest, and the manifest of skopeo is not included."""
    directory = layout(tmp_path / "layout", SIGNED, b"content", b"{}")
    (tmp_path / "manifest").write_bytes(BYTES)

    pack(IMAGE, tmp_path / "manifest", directory, tmp_path / "image.tar")

    with tarfile.open(tmp_path / "image.tar") as tar:
        files = {entry.name: tar.extractfile(entry).read() for entry in tar}  # type: ignore[union-attr]
    (described,) = json.loads(files.pop("index.json"))["manifests"]
    del files["oci-layout"]
    assert (described["digest"], described["size"]) == (IMAGE.digest, len(BYTES))
    assert set(files) == {f"blobs/sha256/{digest_of(blob)[7:]}" for blob in (BYTES, b"content", b"{}")}
    assert files[f"blobs/sha256/{IMAGE.digest[7:]}"] == BYTES
