"""Supplies on stand-ins: what reaches the engine, and what must not."""

from __future__ import annotations

import base64
import logging
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from supply_chain.app import Classification
from supply_chain.container import PREVIOUS, LocalImage, Login
from supply_chain.errors import AccessDenied, EngineFailed, EngineUnavailable, EvidenceInvalid, ImageDamaged
from supply_chain.evidence.statement import ENCRYPTION, Evidence, about
from supply_chain.execution.supply import DecryptingSupply, PullSupply, supply_for, tidy
from supply_chain.image import ImageRef
from supply_chain.tier import TierName
from tests.unit.conftest import NOON

KEY = "arn:aws:kms:eu-west-1:111122223333:key/content"
REF = ImageRef(repository="curated/secret", digest="sha256:" + "a" * 64)
COPY = "sha256:" + "c" * 64
OTHER = "sha256:" + "d" * 64


def record(**changes: Any) -> dict[str, Any]:
    """What curation attests of a confidential image."""
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
    """Curation's verified statements about the image, oldest first."""

    predicates: list[dict[str, Any]]

    def verified(self, subject: ImageRef, signer: TierName, *types: str) -> tuple[Evidence, ...]:
        assert signer is TierName.CURATION
        assert types == (ENCRYPTION,)
        return tuple(
            Evidence(
                digest=OTHER,
                repository=subject.repository,
                statement=about(subject, ENCRYPTION, predicate),
                signer=signer,
                attached=datetime(2026, 11, 24, tzinfo=UTC),
            )
            for predicate in self.predicates
        )


@dataclass
class Grant:
    """KMS: opens what was wrapped for this image, for a role that may."""

    granted: bool = True

    def unwrap(self, key: str, wrapped: bytes, context: dict[str, str]) -> bytes:
        if not self.granted:
            raise AccessDenied("no\nno")
        return b"private" if (key, wrapped, context) == (KEY, b"wrapped", {"image": REF.digest}) else b"nonsense"


class Opener:
    """skopeo: the archive says which copy it was made of and with which key."""

    def decrypt(self, copy: ImageRef, image: ImageRef, key: bytes, archive: Path) -> None:
        archive.write_text(f"{copy} as {image} with {key.decode()}")


@dataclass
class Engine:
    """An engine that calls whatever it gets `digest`."""

    digest: str = REF.digest
    got: list[str] = field(default_factory=list)
    images: dict[str, tuple[str, ...]] = field(default_factory=dict)
    there: tuple[Any, ...] = ()
    used: str = ""

    def names(self, repository: str) -> dict[str, tuple[str, ...]]:
        return {d: names for d, names in self.images.items() if any(repository in name for name in names)}

    def forget(self, name: str) -> None:
        if name == self.used:
            raise EngineFailed("in use\nno")
        self.images = {digest: names for digest, names in self.images.items() if names != (name,)}

    def containers(self) -> tuple[Any, ...]:
        return self.there

    def load(self, archive: Path) -> LocalImage:
        return self._took(archive.read_text())

    def pull(self, repository: str, digest: str, login: Login | None = None) -> LocalImage:
        return self._took(f"{repository}@{digest} as {login.username if login else 'nobody'}")

    def _took(self, what: str) -> LocalImage:
        self.got.append(what)
        return LocalImage(digest=self.digest, environment={}, command=("/hello",), volumes=(), labels={})


def decrypting(engine: Engine, *predicates: dict[str, Any], granted: bool = True) -> DecryptingSupply:
    return DecryptingSupply(engine, Word(list(predicates)), Grant(granted), Opener())  # type: ignore[arg-type]


def test_a_confidential_image_comes_from_the_copy_that_curation_attests() -> None:
    """The engine takes in what the unwrapped key opened, and the signed digest is what it is called."""
    engine = Engine()

    assert decrypting(engine, record()).supply(REF) == REF.digest
    assert engine.got == [f"curated/secret@{COPY} as {REF} with private"]


def test_curations_last_word_counts() -> None:
    """An older copy is not opened when there is a newer one."""
    engine = Engine()

    decrypting(engine, record(encrypted=OTHER), record()).supply(REF)

    assert engine.got == [f"curated/secret@{COPY} as {REF} with private"]


def test_without_the_grant_the_engine_gets_nothing() -> None:
    """Access denied by KMS ends it, whatever the engine already has."""
    engine = Engine()

    with pytest.raises(AccessDenied):
        decrypting(engine, record(), granted=False).supply(REF)

    assert engine.got == []


@pytest.mark.parametrize(
    "predicates",
    [[], [{**record(), "copy": None}], [record(plain=OTHER)], [record(), {**record(), "copy": None}]],
    ids=["no record", "no copy", "copy of another image", "copy withdrawn"],
)
def test_without_an_attested_copy_there_is_no_way_in(predicates: list[dict[str, Any]]) -> None:
    """The plain image is not a substitute."""
    engine = Engine()

    with pytest.raises(EvidenceInvalid):
        decrypting(engine, *predicates).supply(REF)

    assert engine.got == []


def test_the_context_in_the_evidence_is_not_what_is_unwrapped_with() -> None:
    """The context is made from the image that is asked for, so that no record can name another's."""
    engine = Engine()

    decrypting(engine, record(context={"image": OTHER})).supply(REF)

    assert engine.got == [f"curated/secret@{COPY} as {REF} with private"]


def test_an_image_is_pulled_by_digest_with_the_roles_credentials() -> None:
    """From the registry's host, never by tag."""
    engine = Engine()

    assert PullSupply(engine, "registry.example", lambda: ("AWS", "secret")).supply(REF) == REF.digest
    assert engine.got == [f"registry.example/{REF} as AWS"]


def test_another_digest_than_the_one_asked_for_is_damaged() -> None:
    """An engine that calls the image something else would run something else."""
    pulled = PullSupply(Engine(OTHER), "registry.example", lambda: ("AWS", "secret"))

    for supply in (pulled, decrypting(Engine(OTHER), record())):
        with pytest.raises(ImageDamaged):
            supply.supply(REF)


def test_only_confidential_applications_take_the_encrypted_way() -> None:
    """The declaration decides, and nothing else."""
    plain = PullSupply(Engine(), "registry.example", lambda: ("AWS", "secret"))
    confidential = decrypting(Engine(), record())

    assert {c: supply_for(c, plain, confidential) is confidential for c in Classification} == {
        Classification.PUBLIC: False,
        Classification.INTERNAL: False,
        Classification.CONFIDENTIAL: True,
    }


HERE = "registry.example/curated/secret"


def tidied(engine: Engine) -> None:
    tidy(lambda: engine, "registry.example", [REF.repository])  # type: ignore[arg-type,return-value]


def test_only_what_was_brought_and_is_not_needed_is_removed() -> None:
    """Pulled or decrypted; what somebody gave a name of their own stays, and what another registry's is."""
    stays = {
        REF.digest: (f"{HERE}@{REF.digest}",),
        COPY: (f"{HERE}@{COPY}", "mine:1"),
        "sha256:1": (f"{HERE}:1",),
        "sha256:2": ("elsewhere.example/curated/secret@sha256:2",),
        "sha256:3": ("localhost/curated/secret:4",),
    }
    pulled, decrypted = {OTHER: (f"{HERE}@{OTHER}",)}, {"sha256:5": ("localhost/curated/secret:5",)}
    engine = Engine(images={**stays, **pulled, **decrypted}, there=(SimpleNamespace(image=REF.digest, labels={}),))

    tidied(engine)

    assert engine.images == stays


def test_needed_is_what_a_container_is_of_and_what_it_would_go_back_to() -> None:
    """Whoever made the container; and an image that the engine will not let go of is told and costs nothing."""
    names = {d: (f"{HERE}@{d}",) for d in (REF.digest, COPY, OTHER, "sha256:1", "sha256:2")}
    there = (
        SimpleNamespace(image=REF.digest, labels={PREVIOUS: COPY}),
        SimpleNamespace(image=OTHER, labels={}),
    )
    engine = Engine(images=names, there=there)

    tidied(engine)

    assert set(engine.images) == {REF.digest, COPY, OTHER}


def test_what_cannot_be_removed_is_told(caplog: pytest.LogCaptureFixture) -> None:
    """The others are removed, and the deployment goes on."""
    engine = Engine(images={d: (f"{HERE}@{d}",) for d in (COPY, OTHER)}, used=f"{HERE}@{COPY}")

    with caplog.at_level(logging.WARNING, "supply_chain"):
        tidied(engine)

    assert set(engine.images) == {COPY}
    assert f"{HERE}@{COPY} stays in the engine: in use" in caplog.text


def test_an_engine_that_is_away_keeps_what_it_has(caplog: pytest.LogCaptureFixture) -> None:
    """What runs is not known, so nothing is removed, and that is told."""

    class Away(Engine):
        def containers(self) -> tuple[Any, ...]:
            raise EngineUnavailable("away\nno")

    engine = Away(images={OTHER: (f"{HERE}@{OTHER}",)})

    with caplog.at_level(logging.WARNING, "supply_chain"):
        tidied(engine)

    assert set(engine.images) == {OTHER}
    assert "stays in the engine: away" in caplog.text
