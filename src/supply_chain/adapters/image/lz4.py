"""Recognition of lz4 content by its first bytes; it is not unpacked."""

from __future__ import annotations

FRAME, LEGACY = b"\x04\x22\x4d\x18", b"\x02\x21\x4c\x18"
"""Magic numbers of a frame, and of the older format in which Linux kernels are compressed."""
LEGACY_BLOCK = 8 * 1024**2 + 8 * 1024**2 // 255 + 16
"""Maximum bytes of a block in the older format, which has 8 MiB of content."""
_PRIMES = (2654435761, 2246822519, 3266489917, 668265263, 374761393)
"""Constants of XXH32 ("xxHash fast digest algorithm", XXH32)."""


def is_lz4(start: bytes) -> bool:
    """Return whether content that begins with a magic number of lz4 is lz4, as far as `start` shows.

    In a frame, the checksum in its header and the size of its first block decide ("LZ4 Frame Format Description"). The
    older format has no checksum, so the sequences of its first block decide.
    """
    if start.startswith(LEGACY):
        size = int.from_bytes(start[4:8], "little")
        return 0 < size <= LEGACY_BLOCK and _has_sequences(start[8 : 8 + size])
    if len(start) < 11 or start[4] >> 6 != 1 or start[4] & 2 or start[5] & 0x8F or start[5] >> 4 < 4:
        return False
    end = 6 + (8 if start[4] & 8 else 0) + (4 if start[4] & 1 else 0)
    block = int.from_bytes(start[end + 1 : end + 5], "little") & 0x7FFFFFFF
    largest = 1 << 2 * (start[5] >> 4) + 8
    return 0 < block <= largest and start[end : end + 1] == bytes((_xxh32(start[4:end]) >> 8 & 0xFF,))


def _has_sequences(block: bytes) -> bool:
    """Return whether a block, of which the end may be missing, is made of sequences ("LZ4 Block Format Description").

    A sequence repeats only what is before it.
    """
    at = size = 0
    while at < len(block):
        token = block[at]
        literals, at = _read_length(block, at + 1, token >> 4)
        at, size = at + literals, size + literals
        if at + 2 > len(block):
            return size > 0
        distance = int.from_bytes(block[at : at + 2], "little")
        if not 0 < distance <= size:
            return False
        repeated, at = _read_length(block, at + 2, token & 15)
        size += repeated + 4
    return size > 0


def _read_length(block: bytes, at: int, length: int) -> tuple[int, int]:
    """Return a length whose first four bits are `length` and that may continue at a place, and where it ends."""
    more = 255 if length == 15 else 0
    while more == 255 and at < len(block):
        more, at = block[at], at + 1
        length += more
    return length, at


def _xxh32(content: bytes) -> int:
    """Return the XXH32 of less than 16 bytes, with the seed 0."""
    one, two, three, four, five = _PRIMES
    total, words = five + len(content), len(content) // 4 * 4
    for at in range(0, words, 4):
        total = _rotate(total + int.from_bytes(content[at : at + 4], "little") * three, 17) * four
    for byte in content[words:]:
        total = _rotate(total + byte * five, 11) * one
    total &= 2**32 - 1
    total = (total ^ total >> 15) * two & 2**32 - 1
    total = (total ^ total >> 13) * three & 2**32 - 1
    return total ^ total >> 16


def _rotate(number: int, bits: int) -> int:
    number &= 2**32 - 1
    return (number << bits | number >> 32 - bits) & 2**32 - 1
