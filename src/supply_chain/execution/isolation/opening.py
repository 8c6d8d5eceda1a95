"""Opening of a sealed bundle: verified against its signed record, decrypted by whoever may, and written as files."""

from __future__ import annotations

import base64
import io
import tarfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise, zip_longest
from pathlib import Path, PurePosixPath

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
from supply_chain.evidence.encryption import KeyUnwrapper
from supply_chain.evidence.reading import read_statements
from supply_chain.evidence.statement import ISOLATION
from supply_chain.evidence.store import EvidenceStore
from supply_chain.execution.isolation.collection import CollectedItem, unseal
from supply_chain.execution.isolation.record import IsolationRecord
from supply_chain.model.image import ImageRef, digest_of
from supply_chain.model.registry_ports import ContentReader
from supply_chain.model.tier import TierName
from supply_chain.policy.verdict import locate_execution_evidence
from supply_chain.scratch import make_scratch_directory
from supply_chain.text import summarize_error

RECORD = "isolation.json"
"""The file with the signed record, next to those of the bundle."""


@dataclass(frozen=True)
class OpenedBundle:
    """The signed record of an isolation, and the files that were sealed."""

    record: IsolationRecord
    files: tuple[tuple[CollectedItem, bytes], ...]


def open_bundle(
    ref: ImageRef, case: str | None, evidence: EvidenceStore, registry: ContentReader, keys: KeyUnwrapper
) -> OpenedBundle:
    """Verify and decrypt what was collected of an isolated image; `case` may be None if there is only one.

    1. The record is signed by execution, about this image (`EvidenceStore.verified`).
    2. Its chain of custody is complete, and what was signed before says the same (`check_custody`).
    3. The sealed bundle is the one in the record, for this case, and decrypts with its key (`collection.unseal`).
    4. It has exactly the recorded files, with their digests (`unpack`).

    Raises `ImageNotFound` without such a record, `DeclarationInvalid` if several are possible, `EvidenceInvalid` for a
    record that contradicts itself, `ImageDamaged` if the bundle is another one, and the errors of registry and KMS.
    """
    place = locate_execution_evidence(ref)
    signed = read_statements(
        evidence.read_verified(place, TierName.EXECUTION, ISOLATION), ISOLATION, IsolationRecord.model_validate
    )
    records = _select([each.value for each in signed], case, ref)
    check_custody(records, ref)
    record = records[-1]
    sealed = registry.content(place.with_digest(record.bundle.referrer))
    try:
        key = keys.unwrap(record.bundle.key, base64.b64decode(record.bundle.wrapped_key), record.bundle.context)
    except AwsUnavailable:
        raise
    except (AccessDenied, AwsFailed) as error:
        raise type(error)(
            f"{summarize_error(error)}\nThe bundle stays sealed. Open it with AWS credentials of your own, for example "
            f"AWS_PROFILE, that have kms:Decrypt on {record.bundle.key}."
        ) from error
    return OpenedBundle(record, unpack(unseal(record.bundle, sealed, key), record.items))


def check_custody(records: Sequence[IsolationRecord], ref: ImageRef) -> None:
    """Raise `EvidenceInvalid` unless the signed records of a case agree and have a complete chain of custody."""
    record = records[-1]
    acts, times = [each.act for each in record.custody], [each.at for each in record.custody]
    items = [each.collected for each in record.items]
    expected = ["quarantined", "began to collect", "collected", f"sealed as {record.bundle.digest}"]
    preserved = {"pods", "items", "uncollected", "bundle", "custody"}
    faults = {
        "it is about another image": (record.digest, record.application) != (ref.digest, ref.application),
        "its chain of custody has other steps": acts != expected,
        "its chain of custody is not in order": any(
            first > second + SKEW for first, second in pairwise([*times, record.at])
        ),
        "a file was collected before or after": any(
            at < record.isolated - SKEW or at > record.at + SKEW for at in items
        ),
        "its bundle belongs to another isolation": record.bundle.context
        != {"image": record.digest, "isolation": record.id},
        "an earlier record of it says otherwise": len({each.model_dump_json(include=preserved) for each in records})
        > 1,
        "it names files outside of the bundle": not _are_safe([each.name for each in record.items]),
    }
    if present := [fault for fault, is_there in faults.items() if is_there]:
        raise EvidenceInvalid(
            f"The record of the isolation {record.id} of {ref} does not hold: {'; '.join(present)}.\n"
            "Nothing was opened. Find out who signed it with execution's key."
        )


def unpack(archive: bytes, items: Sequence[CollectedItem]) -> tuple[tuple[CollectedItem, bytes], ...]:
    """Return the files in a decrypted bundle; raise `ImageDamaged` unless they are exactly these."""
    files = []
    try:
        with tarfile.open(fileobj=io.BytesIO(archive), mode="r|gz") as tar:
            for item, entry in zip_longest(items, tar):
                if not (item and entry and entry.isfile() and (entry.name, entry.size) == (item.name, item.size)):
                    raise _damaged(f"it has {entry and entry.name} where the record has {item and item.name}")
                file = tar.extractfile(entry)
                content = file.read() if file else b""
                if digest_of(content) != item.digest:
                    raise _damaged(f"{item.name} has another digest")
                files.append((item, content))
    except (tarfile.TarError, EOFError, zlib.error, OSError) as error:
        raise _damaged(f"it is not an archive: {error}") from error
    return tuple(files)


def write_bundle(opened: OpenedBundle, directory: Path) -> None:
    """Write the record and the files to a directory that is empty or does not exist; after an error, it is as before.

    Only the user can read them, and nobody can execute them. Raises `DeclarationInvalid` if something is there.
    """
    target = directory.resolve()
    record = opened.record.model_dump_json(indent=1).encode()
    try:
        with make_scratch_directory("bundle", target.parent) as temporary:
            bundle = temporary / "bundle"
            for name, content in ((RECORD, record), *((item.name, content) for item, content in opened.files)):
                path = bundle / name
                path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                path.write_bytes(content)
                path.chmod(0o400)
            bundle.rename(target)
    except OSError as error:
        raise DeclarationInvalid(
            f"{directory} cannot become the directory of the bundle: {error.strerror}.\n"
            "Nothing was written. Name a directory that is empty, or a new one in one that exists."
        ) from error


def _select(records: Sequence[IsolationRecord], case: str | None, ref: ImageRef) -> list[IsolationRecord]:
    """Return the records of one case, the oldest first."""
    cases = list(dict.fromkeys(each.id for each in records))
    listed = ", ".join(cases) or "none"
    if case is None and len(cases) > 1:
        raise DeclarationInvalid(f"{ref} was isolated several times: {listed}.\nName one of them with --case.")
    selected = [each for each in records if case in (None, each.id)]
    if not selected:
        raise ImageNotFound(
            f"No isolation{f' {case}' if case else ''} of {ref} is recorded; there are: {listed}.\n"
            "Name the image that was deployed when it was isolated, as the report of `cscm isolate` does."
        )
    return selected


def _are_safe(names: Sequence[str]) -> bool:
    """Return whether all files have places of their own below one directory."""
    paths = [PurePosixPath(name) for name in (RECORD, *names)]
    plain = all(str(path) == name and "\0" not in name for path, name in zip(paths[1:], names, strict=True))
    inside = all(path.parts and not path.is_absolute() and ".." not in path.parts for path in paths)
    above = {parent for path in paths for parent in path.parents}
    return plain and inside and len(set(paths)) == len(paths) and not above & set(paths)


def _damaged(why: str) -> ImageDamaged:
    return ImageDamaged(
        f"The bundle is not what the record says: {why}.\n"
        "Nothing was written. Find out who made it with execution's key."
    )
