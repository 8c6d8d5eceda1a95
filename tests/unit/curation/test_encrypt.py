"""encrypt, on KMS, ECR and registry in memory, with a test double for skopeo that records its input."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pytest

from supply_chain.curation.encrypt import encrypt
from supply_chain.errors import AccessDenied, EvidenceInvalid, KeyUnusable, RegistryUnavailable
from supply_chain.evidence.encryption import EncryptionRecord, list_encryption_records
from supply_chain.evidence.statement import ENCRYPTION
from supply_chain.evidence.store import EvidenceStore
from supply_chain.model.declaration import Base, Classification
from supply_chain.model.image import Digest, EncryptedImage, ImageRef, Source, StoredImage
from supply_chain.model.tier import TierName
from tests.support.memory_ecr import MemoryEcr
from tests.support.memory_kms import ACCOUNT, MemoryKms
from tests.support.memory_registry import MemoryRepository
from tests.support.signer import EcdsaSigner

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
ARN = f"{ACCOUNT}key/"
STORAGE, CONTENT = ARN + "storage", ARN + "content"
PLAIN = "sha256:" + "a" * 64
REPOSITORY = "curated/secret"


@dataclass
class Copies:
    """The encrypted copies of the registry: digest → the key that decrypts it, its image and its tag."""

    held: dict[Digest, tuple[bytes, ImageRef, str]] = field(default_factory=dict)
    keys: int = 0
    away: bool = False

    def generate_key(self) -> bytes:
        self.keys += 1
        return f"private key {self.keys}".encode()

    def encrypt(self, image: ImageRef, tag: str, key: bytes, announce: Callable[[Digest], object]) -> Digest:
        digest = f"sha256:{hashlib.sha256(key).hexdigest()}"
        announce(digest)
        if self.away:
            raise RegistryUnavailable("it does not answer\nAsk again.")
        self.held[digest] = (key, image, tag)
        return digest

    def is_encrypted(self, copy: ImageRef) -> bool:
        return copy.digest in self.held


class World:
    """Curation with its test doubles; `run` is the step."""

    def __init__(self) -> None:
        self.keys, self.ecr, self.copies = MemoryKms(), MemoryEcr(), Copies()
        self.attached = self.ecr.registry
        for name in ("storage", "content"):
            self.keys.create(name)
        self.encrypt_repository(STORAGE)
        self.signers: defaultdict[str, EcdsaSigner] = defaultdict(EcdsaSigner)
        self.image = ImageRef(repository=REPOSITORY, digest=PLAIN)

    def encrypt_repository(self, key: str | None) -> None:
        """Create the image's repository again, encrypted with this key."""
        self.attached.repositories[REPOSITORY] = MemoryRepository(immutable=True, key=key)

    def evidence(self, key: str = "curation's") -> EvidenceStore:
        trusted = {TierName.CURATION: self.signers["curation's"].public}
        return EvidenceStore(TierName.CURATION, self.attached, self.signers[key], trusted, lambda: NOW)

    def records(self) -> tuple[EncryptionRecord, ...]:
        found = list_encryption_records(self.evidence().read_verified(self.image, TierName.CURATION))
        return tuple(each.value for each in found)

    def run(self, classification: Classification = Classification.CONFIDENTIAL, **settings: Any) -> EncryptedImage:
        source = Source(path=".", repository="apps", revision="b" * 40, dirty=False)
        return encrypt(
            StoredImage(ref=self.image, tag="bbbbbbb-aaaaaaaaaaaa", source=source, blobs=2, size=1),
            Base(kind="base", name="secret", owner="team", classification=classification, check=("true",)),
            self.keys,
            self.ecr,
            self.copies,
            self.evidence(),
            **{"storage_key": "alias/storage", "content_key": "alias/content", "now": lambda: NOW, **settings},
        )


@pytest.fixture
def world(without_threads: None) -> World:
    return World()


def test_confidential_image_gets_copy_that_evidence_decrypts(world: World) -> None:
    """One signed record about the plain image has both digests, the wrapped key and its context."""
    image = world.run()

    (record,) = world.records()
    copy = record.encrypted_copy
    assert copy is not None
    assert (copy.plain, copy.encrypted, copy.protocol) == (PLAIN, image.copy_digest, "jwe")
    key, held, tag = world.copies.held[copy.encrypted]
    assert world.keys.unwrap(CONTENT, copy.wrapped, {"image": PLAIN}) == key
    assert (held, tag) == (world.image, "bbbbbbb-aaaaaaaaaaaa-encrypted")


def test_signed_predicate_has_published_fields(world: World) -> None:
    """Others read these fields by name; a policy looks for `copy`."""
    world.run()

    (evidence,) = world.evidence().read_verified(world.image, TierName.CURATION)
    assert evidence.predicate_type == ENCRYPTION
    assert set(evidence.predicate) == {"repository", "type", "key", "rotates", "classification", "copy", "verified"}
    assert set(evidence.predicate["copy"]) == {"plain", "encrypted", "protocol", "wrapped_key", "key", "context"}


@pytest.mark.parametrize("classification", [Classification.PUBLIC, Classification.INTERNAL])
def test_other_classifications_are_only_verified_at_rest(world: World, classification: Classification) -> None:
    """They need no copy and no content key."""
    image = world.run(classification, content_key=None)

    (record,) = world.records()
    assert (image.key, image.copy_digest) == (STORAGE, None)
    assert (record.key, record.rotates, record.encrypted_copy) == (STORAGE, True, None)
    assert world.copies.held == {}


@pytest.mark.parametrize("classification", list(Classification))
def test_second_encryption_changes_nothing(world: World, classification: Classification) -> None:
    """The result is the same and refers to its proof; there is no further copy or record."""
    first = world.run(classification)
    before = deepcopy((world.copies.held, world.attached.refs()))

    again = world.run(classification)

    (record,) = world.evidence().read_verified(world.image, TierName.CURATION)
    assert again.proven is not None and again.proven.evidence == (record.digest,)
    assert again == first.model_copy(update={"proven": again.proven})
    assert (world.copies.held, world.attached.refs()) == before


def test_fresh_encryption_writes_new_copy_and_record(world: World) -> None:
    """The option ignores existing proof."""
    first = world.run()
    again = world.run(force=True)

    assert again.proven is None and again.copy_digest != first.copy_digest
    assert len(world.evidence().read_verified(world.image, TierName.CURATION)) == 2


def test_copy_missing_in_registry_is_written_again(world: World) -> None:
    """The old record stays, and the new record is the latest."""
    first = world.run()
    world.copies.held.clear()

    second = world.run()

    assert second.copy_digest != first.copy_digest
    copies = {r.encrypted_copy.encrypted for r in world.records() if r.encrypted_copy}
    assert copies == {first.copy_digest, second.copy_digest}


def test_copy_is_attested_before_it_is_written(world: World) -> None:
    """A partly written copy can be decrypted; if nothing arrived, another copy is written."""
    world.copies.away = True
    with pytest.raises(RegistryUnavailable):
        world.run()
    (record,) = world.records()
    world.copies.away = False

    image = world.run()

    assert record.encrypted_copy is not None and record.encrypted_copy.encrypted not in world.copies.held
    assert [image.copy_digest] == list(world.copies.held)


def test_copy_under_replaced_content_key_is_not_reused(world: World) -> None:
    """Execution has a grant for the new key only."""
    first = world.run()
    world.keys.create("new")

    assert world.run(content_key=ARN + "new").copy_digest != first.copy_digest


def test_copy_attested_by_other_signer_is_not_reused(world: World) -> None:
    """A writer of referrers must not make curation release a foreign copy."""
    image = world.run()
    (evidence,) = world.evidence().read_verified(world.image, TierName.CURATION)
    world.encrypt_repository(STORAGE)
    world.evidence("somebody's").attach(world.image, ENCRYPTION, evidence.predicate, NOW)

    assert world.run().copy_digest != image.copy_digest


def test_unreadable_signed_record_stops_encryption(world: World) -> None:
    """A record that curation signed is not skipped because of its format."""
    world.evidence().attach(world.image, ENCRYPTION, {"repository": REPOSITORY}, NOW)

    with pytest.raises(EvidenceInvalid):
        world.run()


@pytest.mark.parametrize("answer", [("AES256", None), ("KMS", None), ("KMS_DSSE", STORAGE)])
def test_repository_without_kms_key_is_refused(
    world: World, answer: tuple[str, str | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The registry's own encryption, the AWS-managed key and other types are not the key of the tier."""
    monkeypatch.setattr(world.ecr, "encryption", lambda _: answer)

    with pytest.raises(KeyUnusable, match=r"not with the tier's KMS key"):
        world.run()


@pytest.mark.parametrize("found", [CONTENT, ARN + "unknown", "alias/content"])
def test_repository_under_other_key_is_refused(world: World, found: str) -> None:
    """The name of the other key does not matter, even if this role may not inspect it."""
    world.encrypt_repository(found)

    with pytest.raises(KeyUnusable, match="another key"):
        world.run()

    assert (world.copies.held, world.attached.refs()) == ({}, ())


@pytest.mark.parametrize("found", [STORAGE, "alias/storage", "storage"])
def test_storage_key_is_recognized_by_arn_alias_and_id(world: World, found: str) -> None:
    """All three name the same key; the evidence has the ARN."""
    world.encrypt_repository(found)

    assert world.run().key == STORAGE


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"enabled": False}, "not enabled"),
        ({"customer_managed": False}, "belongs to AWS"),
        ({"rotates": False}, "enable-key-rotation"),
        ({"rotates": None}, "enable-key-rotation"),
    ],
)
def test_unusable_storage_key_is_refused(world: World, changes: dict[str, bool], says: str) -> None:
    """The error names the failed requirement, and nothing is attested."""
    world.keys.change(STORAGE, **changes)

    with pytest.raises(KeyUnusable, match=says):
        world.run(Classification.INTERNAL)

    assert world.attached.refs() == ()


@pytest.mark.parametrize(
    ("changes", "says"), [({"enabled": False}, "not enabled"), ({"customer_managed": False}, "AWS")]
)
def test_unusable_content_key_is_refused(world: World, changes: dict[str, bool], says: str) -> None:
    """A copy that nobody can decrypt is not written."""
    world.keys.change(CONTENT, **changes)

    with pytest.raises(KeyUnusable, match=says):
        world.run()

    assert (world.copies.held, world.attached.refs()) == ({}, ())


def test_confidential_image_requires_content_key(world: World) -> None:
    """A tier without a content key fails instead of omitting the copy."""
    with pytest.raises(KeyUnusable, match="content_key"):
        world.run(content_key=None)

    assert world.attached.refs() == ()


def test_no_copy_is_written_if_its_key_cannot_be_wrapped(world: World) -> None:
    """The key is wrapped first, because a copy without its key is useless."""
    world.keys.allowed.remove("wrap")

    with pytest.raises(AccessDenied):
        world.run()

    assert (world.copies.held, world.attached.refs()) == ({}, ())
