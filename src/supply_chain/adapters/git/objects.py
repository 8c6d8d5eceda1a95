"""git's objects, read as data: dulwich parses the packs, this module opens the files. No program is run.

Configuration, hooks, attributes, replacements, grafts and alternates are ignored, and no file is reached through a
link. Each object is verified against its id, so that a damaged or forged repository causes an error.
"""

from __future__ import annotations

import hashlib
import os
import re
import struct
import zlib
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from mmap import ACCESS_READ, mmap
from typing import Final

from dulwich.errors import ApplyDeltaError
from dulwich.object_format import SHA1
from dulwich.objects import ObjectID, RawObjectID
from dulwich.pack import (
    DELTA_TYPES,
    OFS_DELTA,
    PackData,
    PackIndex,
    apply_delta,
    load_pack_index_file,
)

from supply_chain.adapters.files.openat import list_names, open_file, read_file, translate_errors
from supply_chain.adapters.git.snapshot_budget import Budget
from supply_chain.errors import SourceInvalid

MAX_OBJECT = 256 * 1024**2
"""Maximum bytes of an object that is read from a repository; the object is held in memory."""
MAX_PACKS = 400
"""Maximum packs of one repository, each of which stays open."""
MAX_CHAIN = 5000
"""Maximum length of a chain of deltas; git creates 50 by default, and at most 4095."""
REMEMBERED = 256 * 1024
"""Maximum bytes of an object that is cached as the base of deltas."""
REMEMBERED_SIZE = 128 * 1024**2
"""Maximum bytes of all cached objects of a repository, with `OVERHEAD` for each."""
OVERHEAD = 512
"""Bytes that a cached object takes in addition to its content."""
LOOSE, INDEX = re.compile("[0-9a-f]{38}"), re.compile(r"pack-\S+\.idx")
KINDS = {1: "commit", 2: "tree", 3: "blob", 4: "tag"}
BROKEN: Final = (
    ApplyDeltaError, AssertionError, IndexError, KeyError, OverflowError, TypeError, ValueError, struct.error,
    zlib.error,
)  # fmt: skip
"""Errors that dulwich raises about an invalid pack."""


@dataclass
class _RecentObjects:
    """The objects of all packs that were read last, by the name of their pack and their offset in it."""

    objects: OrderedDict[tuple[str, int], tuple[str, bytes]] = field(default_factory=OrderedDict)
    size: int = 0

    def find(self, key: tuple[str, int]) -> tuple[str, bytes] | None:
        """Return the type and content of an object; None if it is not cached."""
        cached = self.objects.get(key)
        if cached is not None:
            self.objects.move_to_end(key)
        return cached

    def add(self, key: tuple[str, int], kind: str, content: bytes) -> None:
        """Cache an object that is small enough, and drop those that were not read for longest."""
        if len(content) > REMEMBERED or key in self.objects:
            return
        self.objects[key] = kind, content
        self.size += len(content) + OVERHEAD
        while self.size > REMEMBERED_SIZE:
            _, (_, dropped) = self.objects.popitem(last=False)
            self.size -= len(dropped) + OVERHEAD


@dataclass(frozen=True)
class Objects:
    """The objects in a repository's directory `objects`, which is open as `root`."""

    root: int
    stack: ExitStack
    """Closes the packs."""
    budget: Budget = field(default_factory=Budget)
    _recent: _RecentObjects = field(default_factory=_RecentObjects, init=False)

    def read(self, oid: str) -> tuple[str, bytes]:
        """Return an object's type and content.

        Raises `SourceInvalid` if the object is missing, too large, or does not match its id. Raises the errors of
        `Budget.checkpoint`.
        """
        git_object = self._read_packed(oid) or self._read_loose(oid)
        if git_object is None:
            raise SourceInvalid(
                f"The git repository has no object {oid}.\nFetch it (`git fsck` tells what is missing; a partial clone "
                "is completed by `git fetch --refetch --no-filter`)."
            )
        kind, content = git_object
        actual = hashlib.sha1(b"%s %d\0" % (kind.encode(), len(content)), usedforsecurity=False)
        actual.update(content)
        if actual.hexdigest() != oid:
            raise _damage_error(oid, "its content is another object's")
        self.budget.spend(len(content))
        return kind, content

    def matching(self, prefix: str) -> frozenset[str]:
        """Return the ids that begin with `prefix`, at least four hexadecimal digits."""
        oids = set()
        with suppress(FileNotFoundError):
            oids |= {prefix[:2] + name for name in list_names(self.root, prefix[:2]) if LOOSE.fullmatch(name)}
        for pack in self._packs:
            oids |= set(pack.matching(prefix))
        return frozenset(oid for oid in oids if oid.startswith(prefix))

    def _read_loose(self, oid: str) -> tuple[str, bytes] | None:
        packed = read_file(self.root, f"{oid[:2]}/{oid[2:]}", MAX_OBJECT)
        if packed is None:
            return None
        try:
            inflater = zlib.decompressobj()
            content = inflater.decompress(packed, MAX_OBJECT + 32)
            header, _, content = content.partition(b"\0")
            kind, _, size = header.decode().partition(" ")
            if inflater.unconsumed_tail or int(size) > MAX_OBJECT:
                raise _size_error(oid)
        except (zlib.error, ValueError) as error:
            raise _damage_error(oid, str(error)) from error
        return kind, content

    def _read_packed(self, oid: str) -> tuple[str, bytes] | None:
        for pack in self._packs:
            try:
                offset = pack.offset(oid)
                if offset is not None:
                    return pack.read(offset, oid)
            except BROKEN as error:
                raise _damage_error(oid, str(error) or "its pack or index is not in git's format") from error
        return None

    @cached_property
    def _packs(self) -> tuple[_Pack, ...]:
        try:
            names = sorted(name[:-4] for name in list_names(self.root, "pack") if INDEX.fullmatch(name))
        except FileNotFoundError:
            return ()
        except OSError as error:
            raise _damage_error("pack", error.strerror or "it cannot be read") from error
        if len(names) > MAX_PACKS:
            raise SourceInvalid(f"The git repository has {len(names)} packs.\nRun `git gc` in it.")
        return tuple(self._open(f"pack/{name}") for name in names)

    def _open(self, name: str) -> _Pack:
        with (
            translate_errors(f"{name}.pack"),
            open_file(self.root, f"{name}.idx") as index,
            open_file(self.root, f"{name}.pack") as data,
        ):
            try:
                with os.fdopen(os.dup(index), "rb") as file:
                    loaded = load_pack_index_file(name, file, SHA1)
                self.stack.callback(_close, loaded)
                with os.fdopen(os.dup(data), "rb") as file:  # both are mapped, and stay mapped after they are closed
                    unpacker = PackData(name, SHA1, file=file)
                self.stack.callback(_close, unpacker)
                raw = self.stack.enter_context(mmap(data, 0, access=ACCESS_READ))
            except BROKEN as error:
                raise _damage_error(name, str(error) or "its pack or index is not in git's format") from error
        return _Pack(name, unpacker, loaded, raw, self.budget, self._recent)


@dataclass(frozen=True)
class _Pack:
    """One pack with its index. Sizes are checked before anything is decompressed."""

    name: str
    data: PackData
    index: PackIndex
    raw: mmap
    budget: Budget
    recent: _RecentObjects

    def offset(self, oid: str) -> int | None:
        """Return an object's offset in the pack; None if it is not in the pack."""
        try:
            return self.index.object_offset(ObjectID(oid.encode()))
        except KeyError:
            return None

    def matching(self, prefix: str) -> Iterator[str]:
        """Yield the ids that begin with the complete bytes of a prefix; an odd last digit is ignored."""
        even = bytes.fromhex(prefix[: len(prefix) & ~1])
        return (bytes(raw).hex() for raw in self.index.iter_prefix(even))

    def read(self, offset: int, oid: str) -> tuple[str, bytes]:
        """Return the type and content of the object at an offset, with all deltas applied."""
        deltas: list[tuple[int, list[bytes]]] = []
        memory = 0
        while (base := self.recent.find((self.name, offset))) is None:
            self.budget.checkpoint()
            if self._size(offset) > MAX_OBJECT or memory > MAX_OBJECT or len(deltas) > MAX_CHAIN:
                raise _size_error(oid)
            unpacked = self.data.get_unpacked_object_at(offset)
            if unpacked.pack_type_num not in DELTA_TYPES:
                base = KINDS[unpacked.pack_type_num], b"".join(unpacked.decomp_chunks)
                break
            deltas.append((offset, unpacked.decomp_chunks))
            memory += sum(map(len, unpacked.decomp_chunks))
            offset = self._base(offset, unpacked.pack_type_num, unpacked.delta_base)
        kind, content = base
        self.recent.add((self.name, offset), kind, content)
        for place, delta in reversed(deltas):
            self.budget.checkpoint()
            if _result_size(b"".join(delta)) > MAX_OBJECT:
                raise _size_error(oid)
            content = b"".join(apply_delta(content, delta))
            self.recent.add((self.name, place), kind, content)
        return kind, content

    def _base(self, offset: int, kind: int, base: int | bytes | None) -> int:
        if kind == OFS_DELTA and isinstance(base, int) and 0 < base < offset:
            return offset - base
        if isinstance(base, bytes):
            return self.index.object_offset(RawObjectID(base))
        raise ValueError("a delta of nothing")

    def _size(self, offset: int) -> int:
        """Return the declared size of an object or a delta (gitformat-pack(5)); no more than that is decompressed."""
        raw = self.raw[offset : offset + 10]
        size, shift = raw[0] & 15, 4
        for before, byte in pairwise(raw):
            if not before & 128:
                break
            size |= (byte & 127) << shift
            shift += 7
        return size


def _close(mapped: PackData | PackIndex) -> None:
    """Close what dulwich maps into memory.

    If an error's traceback holds a part of the mapping, the mapping is released together with the traceback.
    """
    try:
        mapped.close()
    except BufferError:
        mapped.close()


def _result_size(delta: bytes) -> int:
    """Return the size of a delta's result: the second number in the delta."""
    numbers, value, shift = [], 0, 0
    for byte in delta[:20]:
        value |= (byte & 127) << shift
        shift += 7
        if not byte & 128:
            numbers.append(value)
            value, shift = 0, 0
        if len(numbers) == 2:
            return numbers[1]
    raise ValueError("a delta without sizes")


def _size_error(oid: str) -> SourceInvalid:
    return SourceInvalid(
        f"The git object {oid} is larger than {MAX_OBJECT // 1024**2} MiB.\n"
        "Keep such a file outside of git (Git LFS, or an artifact that the build fetches), or build without a revision."
    )


def _damage_error(oid: str, why: str) -> SourceInvalid:
    return SourceInvalid(f"The git repository is damaged at {oid}: {why}\nCheck it with `git fsck`, or clone it again.")
