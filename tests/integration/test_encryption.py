"""Encrypted copies with the real skopeo, KMS, registry and engine, each tier in its own role."""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
import os
import struct
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any
from uuid import uuid4

import docker
import pytest

from cscm_laptop.emulator_service import open_root_session
from cscm_laptop.home import Home
from supply_chain.adapters.aws.accounts import POLICIES, Accounts, Administrator, ensure_accounts
from supply_chain.adapters.aws.ecr import Ecr
from supply_chain.adapters.aws.kms import Kms
from supply_chain.adapters.aws.session import AwsSession
from supply_chain.adapters.docker.engine import DockerEngine
from supply_chain.adapters.process.command import Tool
from supply_chain.adapters.registry.client import Registry
from supply_chain.adapters.registry.http import RegistryHttp
from supply_chain.adapters.tools import Toolbox
from supply_chain.adapters.tools.cosign import Cosign
from supply_chain.adapters.tools.skopeo import Skopeo
from supply_chain.curation.encrypt import encrypt
from supply_chain.errors import AccessDenied, ImageDamaged, ImageUnsuitable, KeyUnusable
from supply_chain.evidence.encryption import EncryptionRecord, list_encryption_records, make_encryption_context
from supply_chain.evidence.statement import ENCRYPTION
from supply_chain.evidence.store import EvidenceStore
from supply_chain.execution.supply import DecryptingSupply, PullSupply
from supply_chain.model.declaration import Base, Classification
from supply_chain.model.image import EncryptedImage, ImageRef, Source, StoredImage
from supply_chain.model.tier import TierName
from tests.support.command import ROOT
from tests.support.place import free_port
from tests.support.waiting import eventually, until_ready

pytestmark = pytest.mark.real

REGION = "us-east-1"
OCI = "application/vnd.oci.image"
DOCKER = "application/vnd.docker"


@dataclass(frozen=True)
class Role:
    """A tier, with its clients and tools in its own role."""

    tier: TierName
    host: str
    accounts: Accounts
    tools: dict[str, Tool]

    @cached_property
    def session(self) -> AwsSession:
        who = self.accounts.identities[self.tier]
        return AwsSession(who.access_key_id, who.secret_access_key, who.role_arn, REGION, f"http://{self.host}")

    @cached_property
    def ecr(self) -> Ecr:
        return Ecr(self.session.client("ecr"), self.host)

    @cached_property
    def kms(self) -> Kms:
        return Kms(self.session.client("kms"))

    @cached_property
    def registry(self) -> Registry:
        return Registry(RegistryHttp(self.host, self.ecr.credentials, insecure=True))

    @cached_property
    def skopeo(self) -> Skopeo:
        return Skopeo(self.tools["skopeo"], self.host, self.ecr.docker_config, insecure=True)

    @cached_property
    def evidence(self) -> EvidenceStore:
        key = f"awskms:///{self.accounts.identities[self.tier].signing_alias}"
        tool = self.tools["cosign"].with_environment(**self.session.environment())
        trusted = {tier: identity.public_key for tier, identity in self.accounts.identities.items()}
        cosign = Cosign(tool, key, self.host, self.ecr.docker_config, insecure=True)
        return EvidenceStore(self.tier, self.registry, cosign, trusted, lambda: datetime.now(UTC))

    def supply(self) -> DecryptingSupply:
        return DecryptingSupply(DockerEngine.connect(), self.evidence, self.kms, self.skopeo)


@dataclass(frozen=True)
class Chain:
    """An AWS account, and the two tiers that take part in encryption."""

    admin: Administrator
    ecr_admin: Any
    accounts: Accounts
    curation: Role
    execution: Role

    def encrypt(self, stored: StoredImage, classification: Classification) -> EncryptedImage:
        role = self.curation
        return encrypt(
            stored,
            Base(kind="base", name="secret", owner="team", classification=classification, check=("true",)),
            role.kms,
            role.ecr,
            role.skopeo,
            role.evidence,
            storage_key="alias/cscm-storage",
            content_key="alias/cscm-content",
            now=lambda: datetime.now(UTC),
        )

    def digests(self, repository: str) -> set[str]:
        images = self.ecr_admin.describe_images(repositoryName=repository)["imageDetails"]
        return {image["imageDigest"] for image in images}


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The emulator's directory."""
    return tmp_path_factory.mktemp("emulator")


@pytest.fixture(scope="module")
def emulator(home: Home, directory: Path) -> Iterator[str]:
    """The host of the registry, which is also the address of AWS."""
    host, port = "127.0.0.1", free_port()
    command = [
        str(home.emulator / "bin/python"), "-m", "cscm_laptop.emulator",
        "--host", host, "--port", str(port), "--state", str(directory / "state"),
    ]  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    with (directory / "log").open("wb") as log, subprocess.Popen(command, env=environment, stderr=log) as process:
        try:
            until_ready(process, f"{host}:{port}", directory / "log")
            yield f"{host}:{port}"
        finally:
            process.terminate()


@pytest.fixture(scope="module")
def chain(emulator: str, toolbox: Toolbox, directory: Path, tmp_path_factory: pytest.TempPathFactory) -> Chain:
    root = open_root_session(directory / "state/root-key.json", REGION)
    admin = Administrator.of(root, f"http://{emulator}")
    accounts = ensure_accounts(admin, ROOT / POLICIES, tmp_path_factory.mktemp("keys") / "keys.json")
    tools = {name: toolbox.find(name) for name in ("cosign", "crane", "skopeo")}
    curation, execution = (Role(t, emulator, accounts, tools) for t in (TierName.CURATION, TierName.EXECUTION))
    return Chain(admin, root.client("ecr", endpoint_url=f"http://{emulator}"), accounts, curation, execution)


def program(message: bytes) -> bytes:
    """Return a static ELF program for Linux on x86-64 that prints `message` and exits with 0."""
    base, start, length = 0x400000, 0x78, 39
    code = (
        b"\xb8\x01\0\0\0\xbf\x01\0\0\0\x48\xbe" + struct.pack("<Q", base + start + length)
        + b"\xba" + struct.pack("<I", len(message)) + b"\x0f\x05\xb8\x3c\0\0\0\x31\xff\x0f\x05"
    ).ljust(length, b"\x90")  # fmt: skip
    size = start + length + len(message)
    header = b"\x7fELF\x02\x01\x01" + b"\0" * 9
    header += struct.pack("<HHIQQQIHHHHHH", 2, 62, 1, base + start, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    return header + struct.pack("<IIQQQQQQ", 1, 5, 0, base, base, size, size, 0x1000) + code + message


def write_image(layout: Path, message: str, *, docker_format: bool = False) -> str:
    """Write an OCI layout of one image that prints `message`; return its digest. The JSON is indented as BuildKit's."""
    (layout / "blobs/sha256").mkdir(parents=True)
    kinds = ("image.rootfs.diff.tar.gzip", "container.image.v1+json", "distribution.manifest.v2+json")
    layer_type, config_type, manifest_type = (
        tuple(f"{DOCKER}.{kind}" for kind in kinds)
        if docker_format
        else (f"{OCI}.layer.v1.tar+gzip", f"{OCI}.config.v1+json", f"{OCI}.manifest.v1+json")
    )

    def blob(content: bytes, media_type: str) -> dict[str, Any]:
        digest = hashlib.sha256(content).hexdigest()
        (layout / "blobs/sha256" / digest).write_bytes(content)
        return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(content)}

    root = io.BytesIO()
    with tarfile.open(fileobj=root, mode="w") as tar:
        content = program(message.encode())
        entry = tarfile.TarInfo("hello")
        entry.mode, entry.size = 0o755, len(content)
        tar.addfile(entry, io.BytesIO(content))
    config = {
        "architecture": "amd64",
        "os": "linux",
        "config": {"Entrypoint": ["/hello"], "User": "10001"},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(root.getvalue()).hexdigest()}"]},
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": manifest_type,
        "config": blob(json.dumps(config).encode(), config_type),
        "layers": [blob(gzip.compress(root.getvalue(), mtime=0), layer_type)],
    }
    top = blob(json.dumps(manifest, indent=2).encode(), manifest_type)
    (layout / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    (layout / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [top]}))
    return str(top["digest"])


Store = Callable[..., StoredImage]


@pytest.fixture
def stored(chain: Chain, tmp_path: Path) -> Iterator[Store]:
    """A function that stores an image which prints a message in a new curated repository."""
    made: list[ImageRef] = []

    def make(message: str = "", *, docker_format: bool = False, key: str | None = "alias/cscm-storage") -> StoredImage:
        layout, repository = tmp_path / uuid4().hex, f"curated/secret-{uuid4().hex[:8]}"
        digest = write_image(layout, message or uuid4().hex, docker_format=docker_format)
        chain.curation.ecr.ensure_repository(repository, immutable=True, key=key)
        tag = f"abc1234-{digest[7:19]}"
        with chain.curation.ecr.docker_config() as config:
            chain.curation.tools["crane"].with_environment(DOCKER_CONFIG=str(config)).run(
                "push", layout, f"{chain.curation.host}/{repository}:{tag}", "--insecure", timeout=60
            )
        made.append(ImageRef(repository=repository, digest=digest))
        source = Source(path=".", repository="apps", revision="a" * 40, dirty=False)
        return StoredImage(ref=made[-1], tag=tag, source=source, blobs=2, size=1000)

    yield make
    client = docker.from_env()
    for ref in made:
        for image in client.images.list(filters={"reference": f"*/{ref.repository}"}):
            client.images.remove(str(image.id), force=True)


def output(digest: str) -> str:
    """Run the image with this digest and return its output."""
    return docker.from_env().containers.run(digest, network_mode="none", remove=True).decode()


@pytest.fixture
def without_grant(chain: Chain) -> Iterator[None]:
    """Removes the grant on the content key from the execution role."""
    name = {"RoleName": "cscm-execution", "PolicyName": "cscm"}
    policy = chain.admin.iam.get_role_policy(**name)["PolicyDocument"]
    rest = [s for s in policy["Statement"] if "kms:Decrypt" not in s["Action"]]
    assert len(rest) == len(policy["Statement"]) - 1
    chain.admin.iam.put_role_policy(**name, PolicyDocument=json.dumps({**policy, "Statement": rest}))
    yield
    chain.admin.iam.put_role_policy(**name, PolicyDocument=json.dumps(policy))


def test_confidential_image_runs_from_its_encrypted_copy(chain: Chain, stored: Store) -> None:
    """Curation encrypts every layer; execution decrypts exactly the signed digest."""
    image = stored("confidential hello")

    encrypted = chain.encrypt(image, Classification.CONFIDENTIAL)

    assert encrypted.copy_digest not in (None, image.ref.digest)
    copy = image.ref.model_copy(update={"digest": encrypted.copy_digest})
    plain, secret = (chain.curation.registry.manifest(ref)["layers"] for ref in (image.ref, copy))
    assert [layer["mediaType"] for layer in secret] == [f"{OCI}.layer.v1.tar+gzip+encrypted"]
    assert secret[0]["digest"] != plain[0]["digest"]
    assert b"confidential" not in chain.curation.registry.blob(copy.repository, secret[0]["digest"])
    assert chain.execution.supply().supply(image.ref) == image.ref.digest
    assert DockerEngine.connect().image(image.ref.digest).digest == image.ref.digest
    assert output(image.ref.digest) == "confidential hello"


def test_encryption_record_names_both_digests_and_both_keys(chain: Chain, stored: Store) -> None:
    """Execution reads repository, storage key, copy and content key from signed evidence."""
    image = stored()
    encrypted = chain.encrypt(image, Classification.CONFIDENTIAL)

    (statement,) = list_encryption_records(chain.execution.evidence.read_verified(image.ref, TierName.CURATION))
    record = statement.value

    assert (record.repository, record.type, record.key) == (image.ref.repository, "KMS", chain.accounts.storage_key)
    assert encrypted.key == chain.accounts.storage_key
    copy = record.encrypted_copy
    assert copy is not None
    assert (copy.plain, copy.encrypted) == (image.ref.digest, encrypted.copy_digest)
    assert (copy.key, copy.context) == (chain.accounts.content_key, {"image": image.ref.digest})


def test_second_encryption_writes_no_copy_and_no_record(chain: Chain, stored: Store) -> None:
    """The repository has the same content after both runs."""
    image = stored()
    first = chain.encrypt(image, Classification.CONFIDENTIAL)
    before = chain.digests(image.ref.repository)

    second = chain.encrypt(image, Classification.CONFIDENTIAL)

    assert second.proven is not None
    assert second == first.model_copy(update={"proven": second.proven})
    assert chain.digests(image.ref.repository) == before
    assert len(chain.curation.registry.referrers(image.ref)) == 1


def test_deleted_copy_is_written_again(chain: Chain, stored: Store) -> None:
    """The record of a missing copy does not count as proof, and the new copy can be decrypted."""
    image = stored()
    first = chain.encrypt(image, Classification.CONFIDENTIAL)
    chain.ecr_admin.batch_delete_image(
        repositoryName=image.ref.repository, imageIds=[{"imageDigest": first.copy_digest}]
    )

    second = chain.encrypt(image, Classification.CONFIDENTIAL)

    assert second.copy_digest != first.copy_digest
    assert chain.execution.supply().supply(image.ref) == image.ref.digest


def test_internal_image_gets_no_encrypted_copy(chain: Chain, stored: Store) -> None:
    """Its encryption at rest is verified and attested, and it is pulled directly."""
    image = stored("internal hello")

    encrypted = chain.encrypt(image, Classification.INTERNAL)

    (statement,) = list_encryption_records(chain.execution.evidence.read_verified(image.ref, TierName.CURATION))
    record = statement.value
    assert (encrypted.copy_digest, record.encrypted_copy) == (None, None)
    execution = chain.execution
    supply = PullSupply(DockerEngine.connect(), execution.host, execution.ecr.credentials)
    assert supply.supply(image.ref) == image.ref.digest
    assert output(image.ref.digest) == "internal hello"


def test_other_private_key_cannot_decrypt_the_copy(chain: Chain, stored: Store, tmp_path: Path) -> None:
    """No archive is written that could be loaded."""
    image = stored()
    encrypted = chain.encrypt(image, Classification.CONFIDENTIAL)
    copy, skopeo = image.ref.model_copy(update={"digest": encrypted.copy_digest}), chain.execution.skopeo

    with pytest.raises(KeyUnusable):
        skopeo.decrypt(copy, image.ref, skopeo.generate_key(), tmp_path / "image.tar")

    assert not (tmp_path / "image.tar").exists()


@pytest.mark.usefixtures("without_grant")
def test_execution_without_the_grant_gets_no_image(chain: Chain, stored: Store) -> None:
    """The role may read the repository but not use the key, so the engine stays empty."""
    image = stored()
    chain.encrypt(image, Classification.CONFIDENTIAL)

    with pytest.raises(AccessDenied):
        chain.execution.supply().supply(image.ref)

    assert not docker.from_env().images.list(filters={"reference": f"*/{image.ref.repository}"})


def test_plain_layers_on_the_host_do_not_replace_the_grant(
    chain: Chain, stored: Store, request: pytest.FixtureRequest
) -> None:
    """An image that ran before is not supplied again once the grant is revoked."""
    image = stored()
    chain.encrypt(image, Classification.CONFIDENTIAL)
    assert chain.execution.supply().supply(image.ref) == image.ref.digest
    request.getfixturevalue("without_grant")

    with pytest.raises(AccessDenied):
        chain.execution.supply().supply(image.ref)


def test_wrapped_key_cannot_be_used_for_another_image(chain: Chain, stored: Store) -> None:
    """The encryption context binds each key to its image."""
    image, other = stored(), stored()
    chain.encrypt(image, Classification.CONFIDENTIAL)
    (statement,) = list_encryption_records(chain.execution.evidence.read_verified(image.ref, TierName.CURATION))
    record = statement.value
    assert record.encrypted_copy is not None

    with pytest.raises(KeyUnusable):
        chain.execution.kms.unwrap(
            record.encrypted_copy.key, record.encrypted_copy.wrapped, make_encryption_context(other.ref.digest)
        )


def test_copy_of_other_content_is_refused(chain: Chain, stored: Store, tmp_path: Path) -> None:
    """The copy can be decrypted but contains another image than the signed one."""
    image, other = stored(), stored()
    skopeo = chain.curation.skopeo
    key = skopeo.generate_key()
    foreign = skopeo.encrypt(other.ref, f"{other.tag}-encrypted", key, lambda _: None)
    copy = other.ref.model_copy(update={"digest": foreign})

    with pytest.raises(ImageDamaged):
        skopeo.decrypt(copy, image.ref, key, tmp_path / "image.tar")

    assert not (tmp_path / "image.tar").exists()


def test_plain_image_is_not_accepted_as_encrypted_copy(chain: Chain, stored: Store, tmp_path: Path) -> None:
    """It is refused although its layers are the right ones."""
    image, keys = stored(), chain.curation
    wrapped = keys.kms.wrap("alias/cscm-content", keys.skopeo.generate_key(), make_encryption_context(image.ref.digest))
    record = EncryptionRecord.model_validate(
        {
            "repository": image.ref.repository,
            "type": "KMS",
            "key": chain.accounts.storage_key,
            "rotates": True,
            "classification": "confidential",
            "verified": datetime.now(UTC),
            "copy": {
                "plain": image.ref.digest,
                "encrypted": image.ref.digest,
                "wrapped_key": base64.b64encode(wrapped).decode(),
                "key": chain.accounts.content_key,
                "context": make_encryption_context(image.ref.digest),
            },
        }
    )
    keys.evidence.attach(image.ref, ENCRYPTION, record.predicate(), datetime.now(UTC))

    with pytest.raises(ImageDamaged, match="not encrypted"):
        chain.execution.supply().supply(image.ref)


def test_image_in_docker_format_is_refused_before_encryption(chain: Chain, stored: Store) -> None:
    """Encryption would convert it to OCI with another digest, which cannot be reversed."""
    image = stored(docker_format=True)
    before = chain.digests(image.ref.repository)

    with pytest.raises(ImageUnsuitable):
        chain.encrypt(image, Classification.CONFIDENTIAL)

    assert chain.digests(image.ref.repository) == before


@pytest.mark.parametrize("classification", [Classification.INTERNAL, Classification.CONFIDENTIAL])
def test_repository_without_the_tier_key_is_refused(
    chain: Chain, stored: Store, classification: Classification
) -> None:
    """Encryption with the registry's own key does not count, and nothing is attested."""
    image = stored(key=None)

    with pytest.raises(KeyUnusable, match="AES256"):
        chain.encrypt(image, classification)

    assert chain.curation.registry.referrers(image.ref) == ()


def test_storage_key_without_rotation_is_refused(chain: Chain, stored: Store) -> None:
    """The error names the command that enables rotation."""
    image, key = stored(), chain.accounts.storage_key
    chain.admin.kms.disable_key_rotation(KeyId=key)
    try:
        with pytest.raises(KeyUnusable, match="enable-key-rotation"):
            chain.encrypt(image, Classification.INTERNAL)
    finally:
        chain.admin.kms.enable_key_rotation(KeyId=key)

    assert chain.encrypt(image, Classification.INTERNAL).key == key


def test_disabled_content_key_prevents_a_copy(chain: Chain, stored: Store) -> None:
    """Nobody could decrypt such a copy."""
    image, key = stored(), chain.accounts.content_key
    before = chain.digests(image.ref.repository)
    chain.admin.kms.disable_key(KeyId=key)
    try:
        with pytest.raises(KeyUnusable, match="not enabled"):
            chain.encrypt(image, Classification.CONFIDENTIAL)
    finally:
        chain.admin.kms.enable_key(KeyId=key)

    assert chain.digests(image.ref.repository) == before


def test_encryption_leaves_no_private_key_and_no_plain_content(
    chain: Chain, stored: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Temporary directories on disk and in memory are removed."""
    image = stored()
    work, memory = tmp_path / "work", Path("/dev/shm")
    work.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(work))
    before = set(memory.glob("cscm-scratch-key-*"))

    chain.encrypt(image, Classification.CONFIDENTIAL)
    chain.execution.supply().supply(image.ref)

    assert list(work.iterdir()) == []
    eventually(lambda: set(memory.glob("cscm-scratch-key-*")) <= before)  # those of other sessions end, too
