"""Image supplies, tested with test doubles: what reaches the engine and what must not."""

from __future__ import annotations

import base64
import logging
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from supply_chain.errors import AccessDenied, EngineFailed, EngineUnavailable, EvidenceInvalid, ImageDamaged
from supply_chain.evidence.statement import ENCRYPTION, VerifiedStatement, make_image_statement
from supply_chain.execution.supply import DecryptingSupply, PullSupply, remove_unneeded
from supply_chain.model.container import PREVIOUS, Container, LocalImage, Login
from supply_chain.model.image import ImageRef
from supply_chain.model.tier import TierName
from tests.support.builders import NOON
from tests.support.memory_engine import MemoryEngine
from tests.support.memory_kms import ACCOUNT, MemoryKms

KEY = f"{ACCOUNT}key/content"
REF = ImageRef(repository="curated/secret", digest="sha256:" + "a" * 64)
COPY = "sha256:" + "c" * 64
OTHER = "sha256:" + "d" * 64


def record(**changes: Any) -> dict[str, Any]:
    """Return what curation attests of a confidential image."""
    copy = {
        "plain": REF.digest,
        "encrypted": COPY,
        "protocol": "jwe",
        "wrapped_key": base64.b64encode(b"wrapped").decode(),
        "key": KEY,
        "context": {"image": REF.digest},
    }
    common = {"repository": REF.repository, "type": "KMS", "key": KEY, "rotates": True, "verified": NOON.isoformat()}
    return {**common, "classification": "confidential", "copy": {**copy, **changes}}


@dataclass
class Word:
    """The verified statements of curation about the image, oldest first."""

    predicates: list[dict[str, Any]]

    def read_verified(self, subject: ImageRef, signer: TierName, *types: str) -> tuple[VerifiedStatement, ...]:
        assert signer is TierName.CURATION
        assert types == (ENCRYPTION,)
        return tuple(
            VerifiedStatement(
                digest=OTHER,
                repository=subject.repository,
                statement=make_image_statement(subject, ENCRYPTION, predicate),
                signer=signer,
                attached=datetime(2026, 11, 24, tzinfo=UTC),
            )
            for predicate in self.predicates
        )


class Opener:
    """skopeo: the archive names the copy and the key that it was made with."""

    def decrypt(self, copy: ImageRef, image: ImageRef, key: bytes, archive: Path) -> None:
        archive.write_text(f"{copy} as {image} with {key.decode()}")


@dataclass
class Takes:
    """An engine that accepts any image and gives it the digest `digest`."""

    digest: str = REF.digest
    got: list[str] = field(default_factory=list)

    def load(self, archive: Path) -> LocalImage:
        return self._took(archive.read_text())

    def pull(self, repository: str, digest: str, login: Login | None = None) -> LocalImage:
        return self._took(f"{repository}@{digest} as {login.username if login else 'nobody'}")

    def _took(self, what: str) -> LocalImage:
        self.got.append(what)
        return LocalImage(digest=self.digest, environment={}, command=("/hello",), volumes=(), labels={})


def decrypting(engine: Takes, *predicates: dict[str, Any], granted: bool = True) -> DecryptingSupply:
    kms = MemoryKms(allowed={"unwrap"} if granted else set())
    kms.wrapped[b"wrapped"] = (kms.create("content"), b"private", {"image": REF.digest})
    return DecryptingSupply(engine, Word(list(predicates)), kms, Opener())  # type: ignore[arg-type]


def test_confidential_image_is_decrypted_from_attested_copy() -> None:
    """The engine loads what the unwrapped key decrypts, under the signed digest."""
    engine = Takes()

    assert decrypting(engine, record()).supply(REF) == REF.digest
    assert engine.got == [f"curated/secret@{COPY} as {REF} with private"]


def test_latest_attested_copy_is_used() -> None:
    """An older copy is not decrypted if there is a newer one."""
    engine = Takes()

    decrypting(engine, record(encrypted=OTHER), record()).supply(REF)

    assert engine.got == [f"curated/secret@{COPY} as {REF} with private"]


def test_engine_gets_nothing_without_kms_grant() -> None:
    """The denial of KMS ends the supply."""
    engine = Takes()

    with pytest.raises(AccessDenied):
        decrypting(engine, record(), granted=False).supply(REF)

    assert engine.got == []


@pytest.mark.parametrize(
    "predicates",
    [[], [{**record(), "copy": None}], [record(plain=OTHER)], [record(), {**record(), "copy": None}]],
    ids=["no record", "no copy", "copy of another image", "copy withdrawn"],
)
def test_engine_gets_nothing_without_attested_copy(predicates: list[dict[str, Any]]) -> None:
    """The plain image is not a substitute."""
    engine = Takes()

    with pytest.raises(EvidenceInvalid):
        decrypting(engine, *predicates).supply(REF)

    assert engine.got == []


def test_unwrap_uses_context_of_requested_image() -> None:
    """The context in the evidence is ignored, so a record cannot use the context of another image."""
    engine = Takes()

    decrypting(engine, record(context={"image": OTHER})).supply(REF)

    assert engine.got == [f"curated/secret@{COPY} as {REF} with private"]


def test_image_is_pulled_by_digest_with_credentials_of_role() -> None:
    """The image comes from the registry's host and is never pulled by tag."""
    engine = Takes()

    assert PullSupply(engine, "registry.example", lambda: ("AWS", "secret")).supply(REF) == REF.digest
    assert engine.got == [f"registry.example/{REF} as AWS"]


def test_supply_fails_if_engine_reports_other_digest() -> None:
    """The engine would run another image."""
    pulled = PullSupply(Takes(OTHER), "registry.example", lambda: ("AWS", "secret"))

    for supply in (pulled, decrypting(Takes(OTHER), record())):
        with pytest.raises(ImageDamaged):
            supply.supply(REF)


HERE = "registry.example/curated/secret"
LOADED = "localhost/curated/secret"


def digest(digit: int) -> str:
    return "sha256:" + str(digit) * 64


def pulled(engine: MemoryEngine, *digests: str) -> None:
    """Add images to the engine, as a deployment would."""
    for each in digests:
        engine.add(f"{HERE}@{each}", digest=each)


def tidied(engine: MemoryEngine) -> set[str]:
    """Run tidy and return the remaining names."""
    remove_unneeded(lambda: engine, "registry.example", [REF.repository])
    return set(engine.tags)


def test_tidy_removes_only_unneeded_images_of_the_chain() -> None:
    """Names that a person gave and images of other registries are kept."""
    engine = MemoryEngine()
    pulled(engine, REF.digest, COPY)
    engine.add(f"{HERE}:1", digest=digest(1))
    engine.add(f"elsewhere.example/curated/secret@{digest(2)}", digest=digest(2))
    engine.add(f"{LOADED}:4", digest=digest(3))
    engine.tags["mine:1"] = COPY
    engine.container("serves", REF.digest)
    stays = set(engine.tags)
    pulled(engine, OTHER)
    engine.add(f"{LOADED}:{'5' * 12}", digest=digest(5))

    assert tidied(engine) == stays


def test_tidy_keeps_images_of_containers_and_their_predecessors(caplog: pytest.LogCaptureFixture) -> None:
    """The owner of the container does not matter; the engine is not asked to remove such an image."""
    engine = MemoryEngine()
    pulled(engine, REF.digest, COPY, OTHER, digest(1), digest(2))
    engine.container("serves", REF.digest, labels={PREVIOUS: COPY})
    engine.owned("another").container("another's", OTHER)

    tidied(engine.owned("ours"))

    assert set(engine.images) == {REF.digest, COPY, OTHER}
    assert caplog.text == ""


def test_tidy_logs_image_that_cannot_be_removed(caplog: pytest.LogCaptureFixture) -> None:
    """The other images are removed and the deployment goes on."""

    class Refusing(MemoryEngine):
        def forget(self, name: str) -> None:
            if name.endswith(COPY):
                raise EngineFailed("in use\nno")
            super().forget(name)

    engine = Refusing()
    pulled(engine, COPY, OTHER)

    with caplog.at_level(logging.WARNING, "supply_chain"):
        left = tidied(engine)

    assert left == {f"{HERE}@{COPY}"}
    assert f"{HERE}@{COPY} stays in the engine: in use" in caplog.text


def test_tidy_keeps_everything_and_logs_if_engine_is_unavailable(caplog: pytest.LogCaptureFixture) -> None:
    """The running containers are unknown, so nothing is removed."""

    class Away(MemoryEngine):
        def containers(self) -> tuple[Container, ...]:
            raise EngineUnavailable("away\nno")

    engine = Away()
    pulled(engine, OTHER)

    with caplog.at_level(logging.WARNING, "supply_chain"):
        left = tidied(engine)

    assert left == {f"{HERE}@{OTHER}"}
    assert "stays in the engine: away" in caplog.text
