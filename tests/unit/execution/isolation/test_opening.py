"""A sealed bundle opens for whoever may decrypt it, if it is whole, as its signed record says; otherwise nothing is."""

from __future__ import annotations

import io
import json
import stat
import tarfile
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from supply_chain.errors import (
    AccessDenied,
    AwsFailed,
    AwsUnavailable,
    DeclarationInvalid,
    EvidenceInvalid,
    ImageDamaged,
    ImageNotFound,
)
from supply_chain.evidence.clock import SKEW
from supply_chain.evidence.statement import ISOLATION
from supply_chain.execution.isolation.collection import SealedBundle, encrypt, make_item, pack, wrap_key
from supply_chain.execution.isolation.opening import OpenedBundle, open_bundle, unpack, write_bundle
from supply_chain.execution.isolation.record import Custody, IsolationRecord, Recovery
from supply_chain.execution.isolation.sequence import BUNDLE
from supply_chain.model.image import ImageRef, digest_of
from supply_chain.model.tier import TierName
from tests.support.builders import NOON
from tests.support.memory_kms import MemoryKms
from tests.support.world import World

REF = ImageRef(repository="curated/hello", digest="sha256:" + "a" * 64)
PLACE = REF.with_repository("evidence/execution/hello")
FILES = {"deployment.json": b"{}", "pods/p/application.log": b"stolen\n", "pods/p/application/files/ab": b"\x7fELF"}
Seal = Callable[..., IsolationRecord]


@pytest.fixture
def kms() -> MemoryKms:
    return MemoryKms()


@pytest.fixture
def seal(world: World, kms: MemoryKms) -> Seal:
    """Return a function that seals files as an isolation does, and signs its record with changes."""

    def make(
        files: dict[str, bytes] = FILES, case: str = "12345678", sign: bool = True, **changes: Any
    ) -> IsolationRecord:
        items = [make_item(name, content, NOON + timedelta(seconds=2)) for name, content in files.items()]
        context = {"image": REF.digest, "isolation": case}
        content, secret = encrypt(pack(items), context)
        key = kms.create("forensics")
        bundle = SealedBundle(
            referrer=world.registry.attach(PLACE, BUNDLE, content, {}), digest=digest_of(content), key=key,
            wrapped_key=wrap_key(kms, key, secret, context), context=context,
        )  # fmt: skip
        acts = ("quarantined", "began to collect", "collected", f"sealed as {bundle.digest}")
        custody = [
            Custody(at=NOON + timedelta(seconds=at), by="execution, run 1", act=act) for at, act in enumerate(acts)
        ]
        record = IsolationRecord(
            id=case, environment="production", application="hello", digest=REF.digest, by="ann", reason="odd",
            since=NOON, isolated=NOON, pods=(), allowing_policies=(), items=tuple(item for item, _ in items),
            uncollected=(), bundle=bundle, custody=tuple(custody), at=NOON + timedelta(seconds=9),
        ).model_copy(update=changes)  # fmt: skip
        if sign:
            publish(world, record)
        return record

    return make


def publish(world: World, record: IsolationRecord, tier: TierName = TierName.EXECUTION) -> None:
    world.store(tier).attach(PLACE, ISOLATION, record.predicate(), record.at)


@pytest.fixture
def unlock(world: World, kms: MemoryKms) -> Callable[..., OpenedBundle]:
    """Return a function that opens the bundle of the image, as an investigator does."""

    def run(case: str | None = None) -> OpenedBundle:
        return open_bundle(REF, case, world.store(TierName.EXECUTION), world.registry, kms)

    return run


def read_all(directory: Path) -> dict[str, bytes]:
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def test_bundle_is_written_with_its_record(seal: Seal, unlock: Any, world: World, tmp_path: Path) -> None:
    """The last record of the case, with the recovery; nobody else can read the files, and nobody can run them."""
    record = seal()
    later = record.model_copy(
        update={"recovery": Recovery(outcome="scaled-to-zero"), "at": record.at + timedelta(seconds=1)}
    )
    publish(world, later)
    (tmp_path / "case").mkdir()

    write_bundle(unlock(), tmp_path / "case")

    files = read_all(tmp_path / "case")
    assert IsolationRecord.model_validate_json(files.pop("isolation.json")) == later and files == FILES
    assert stat.S_IMODE((tmp_path / "case").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "case/pods/p/application/files/ab").stat().st_mode) == 0o400
    assert [each.name for each in tmp_path.iterdir()] == ["case"]


def test_case_is_named_if_there_are_several(seal: Seal, unlock: Any) -> None:
    """Which one is meant is not guessed."""
    seal({"a": b"first"}, "11111111")
    seal({"a": b"second"}, "22222222", at=NOON + timedelta(seconds=10))

    with pytest.raises(DeclarationInvalid, match="11111111, 22222222"):
        unlock()

    assert [unlock(case).files[0][1] for case in ("11111111", "22222222")] == [b"first", b"second"]
    with pytest.raises(ImageNotFound, match=r"33333333 .* are: 11111111, 22222222"):
        unlock("33333333")


def test_image_without_isolation_is_an_error(unlock: Any) -> None:
    """It may be another image."""
    with pytest.raises(ImageNotFound, match="there are: none"):
        unlock()


def test_record_of_another_tier_opens_nothing(seal: Seal, unlock: Any, world: World) -> None:
    """Only execution isolates."""
    publish(world, seal(sign=False), TierName.CURATION)

    with pytest.raises(ImageNotFound):
        unlock()


def custody_of(record: IsolationRecord, **changes: Any) -> tuple[Custody, ...]:
    number = changes.pop("number", 1)
    return tuple(
        each.model_copy(update=changes) if place == number else each for place, each in enumerate(record.custody)
    )


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda r: {"digest": "sha256:" + "b" * 64}, "about another image"),
        (lambda r: {"application": "other"}, "about another image"),
        (lambda r: {"custody": r.custody[1:]}, "other steps"),
        (lambda r: {"custody": ()}, "other steps"),
        (lambda r: {"custody": custody_of(r, number=3, act="sealed as sha256:" + "b" * 64)}, "other steps"),
        (lambda r: {"custody": custody_of(r, at=r.custody[2].at + SKEW + timedelta(seconds=1))}, "not in order"),
        (lambda r: {"at": r.custody[-1].at - SKEW - timedelta(seconds=1)}, "not in order"),
        (
            lambda r: {"items": (r.items[0].model_copy(update={"collected": NOON - SKEW - timedelta(seconds=1)}),)},
            "collected before or after",
        ),
        (
            lambda r: {"items": (r.items[0].model_copy(update={"collected": r.at + SKEW + timedelta(seconds=1)}),)},
            "collected before or after",
        ),
        (
            lambda r: {"bundle": r.bundle.model_copy(update={"context": {**r.bundle.context, "isolation": "x"}})},
            "belongs to another isolation",
        ),
        (
            lambda r: {"bundle": r.bundle.model_copy(update={"context": {**r.bundle.context, "image": "x"}})},
            "belongs to another isolation",
        ),
    ],
)
def test_unseal_refuses_contradictory_record(
    seal: Seal, unlock: Any, world: World, kms: MemoryKms, change: Any, fault: str
) -> None:
    """Whoever signed it; the key is not even asked for."""
    record = seal(sign=False)
    publish(world, record.model_copy(update=change(record)))
    kms.allowed.clear()

    with pytest.raises(EvidenceInvalid, match=fault):
        unlock()


def test_clock_that_was_corrected_meanwhile_is_no_contradiction(seal: Seal, unlock: Any, world: World) -> None:
    """By less than the time that clocks may differ anyway."""
    record = seal(sign=False)
    publish(world, record.model_copy(update={"custody": custody_of(record, at=record.custody[2].at + SKEW)}))

    assert unlock().files


def test_unseal_refuses_record_that_contradicts_earlier_one(seal: Seal, unlock: Any, world: World) -> None:
    """What was sealed is signed before the recovery; a later record changes nothing of it."""
    record = seal()
    publish(world, record.model_copy(update={"items": record.items[:1], "at": record.at + timedelta(seconds=1)}))

    with pytest.raises(EvidenceInvalid, match="earlier record"):
        unlock()


@pytest.mark.parametrize(
    "name", ["../x", "/etc/x", "//x", "a/../../x", "a//b", "./a", "a/", ".", "..", "", "isolation.json", "a\0b"]
)
def test_name_outside_of_the_directory_opens_nothing(seal: Seal, unlock: Any, name: str) -> None:
    """Nor one that would replace the record."""
    item = make_item("x", b"", NOON)[0].model_copy(update={"name": name})
    seal({"a": b""}, items=(item,))

    with pytest.raises(EvidenceInvalid, match="outside of the bundle"):
        unlock()


@pytest.mark.parametrize("names", [("a", "a"), ("a", "a/b"), ("a/b/c", "a"), ("isolation.json/x",)])
def test_unseal_refuses_items_with_colliding_names(seal: Seal, unlock: Any, names: tuple[str, ...]) -> None:
    """One of them would be lost, or the rest could not be written."""
    seal({"x": b""}, items=tuple(make_item(name, b"", NOON)[0] for name in names))

    with pytest.raises(EvidenceInvalid, match="outside of the bundle"):
        unlock()


def test_bundle_with_other_content_is_damaged(seal: Seal, unlock: Any, world: World, monkeypatch: Any) -> None:
    """Somebody changed what is stored."""
    seal()
    monkeypatch.setattr(world.registry, "content", lambda ref: b"x" * 100)

    with pytest.raises(ImageDamaged):
        unlock()


def items_of(files: dict[str, bytes]) -> Any:
    return [make_item(name, content, NOON) for name, content in files.items()]


@pytest.mark.parametrize(
    ("packed", "recorded", "why"),
    [
        ({"a": b"1"}, {"a": b"1", "b": b"2"}, "has None where the record has b"),
        ({"a": b"1", "b": b"2"}, {"a": b"1"}, "has b where the record has None"),
        ({"b": b"1"}, {"a": b"1"}, "has b where the record has a"),
        ({"a": b"11"}, {"a": b"1"}, "has a where the record has a"),
        ({"a": b"2"}, {"a": b"1"}, "a has another digest"),
    ],
    ids=["less", "more", "name", "size", "content"],
)
def test_bundle_with_other_files_than_recorded_is_damaged(packed: Any, recorded: Any, why: str) -> None:
    """Nobody gets files of which nobody knows when they were collected."""
    with pytest.raises(ImageDamaged, match=why):
        unpack(pack(items_of(packed)), [item for item, _ in items_of(recorded)])


def test_link_in_a_bundle_is_damaged() -> None:
    """Only files are packed."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        entry = tarfile.TarInfo("a")
        entry.type, entry.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(entry)

    with pytest.raises(ImageDamaged, match="has a where"):
        unpack(buffer.getvalue(), [make_item("a", b"", NOON)[0]])


@pytest.mark.parametrize("cut", [0, 5, 40])
def test_truncated_bundle_is_damaged(cut: int) -> None:
    """It is named as such."""
    archive = pack(items_of({"a": bytes(range(256)) * 100}))

    with pytest.raises(ImageDamaged, match=r"is not an archive|None where"):
        unpack(archive[:cut], [make_item("a", bytes(range(256)) * 100, NOON)[0]])


@pytest.mark.parametrize("error", [AccessDenied, AwsFailed])
def test_refused_key_says_whose_credentials_are_needed(seal: Seal, world: World, error: Any) -> None:
    """No tier has the permission."""
    seal()

    def refuse(*_: Any) -> bytes:
        raise error("may not decrypt\nask")

    keys = SimpleNamespace(unwrap=refuse)
    with pytest.raises(error, match=r"may not decrypt\n.*of your own.*kms:Decrypt on arn:.*forensics"):
        open_bundle(REF, None, world.store(TierName.EXECUTION), world.registry, keys)


def test_outage_of_the_key_stays_an_outage(seal: Seal, world: World) -> None:
    """It may be over with the next attempt."""
    seal()

    def fail(*_: Any) -> bytes:
        raise AwsUnavailable("no answer\nwait")

    with pytest.raises(AwsUnavailable, match="no answer\nwait"):
        open_bundle(REF, None, world.store(TierName.EXECUTION), world.registry, SimpleNamespace(unwrap=fail))


@pytest.mark.parametrize("obstacle", ["file", "other", "no parent"])
def test_unseal_refuses_unusable_target_directory(seal: Seal, unlock: Any, tmp_path: Path, obstacle: str) -> None:
    """What is there stays as it is, and nothing half-done is left."""
    seal()
    target = tmp_path / "case"
    if obstacle == "file":
        target.write_bytes(b"mine")
    elif obstacle == "other":
        target.mkdir()
        (target / "a").write_bytes(b"mine")
    else:
        target = tmp_path / "absent/case"
    before = read_all(tmp_path)

    with pytest.raises(DeclarationInvalid, match="Nothing was written"):
        write_bundle(unlock(), target)

    assert read_all(tmp_path) == before and [each.name for each in tmp_path.iterdir()] in (["case"], [])


def test_interrupted_unseal_leaves_no_files(seal: Seal, unlock: Any, tmp_path: Path, monkeypatch: Any) -> None:
    """Such as a full disk after the first file."""
    seal()
    opened, written, write = unlock(), list[Path](), Path.write_bytes

    def fail(path: Path, content: bytes) -> int:
        if written:
            raise KeyboardInterrupt
        written.append(path)
        return write(path, content)

    monkeypatch.setattr(Path, "write_bytes", fail)

    with pytest.raises(KeyboardInterrupt):
        write_bundle(opened, tmp_path / "case")

    assert list(tmp_path.iterdir()) == [] and json.loads(json.dumps(str(written[0]))).endswith("isolation.json")
