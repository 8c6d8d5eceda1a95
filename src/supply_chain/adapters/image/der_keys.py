"""Private keys in DER, and the base64 in which a PEM file has them after its first line."""

from __future__ import annotations

RANDOM_SIZE = 32
"""Bytes of a key that are compared with random ones."""
SEQUENCE, INTEGER, OCTETS = b"\x30", b"\x02", b"\x04"
"""Tags (X.690, 8.3, 8.7 and 8.9)."""
_OPENSSH = b"b3BlbnNzaC1rZXktdjEAAAAA"
"""Base64 of an OpenSSH key's beginning (PROTOCOL.key)."""
_ANY = rb"[A-Za-z0-9+/]"
BODIES = (
    *((anchor, rb"MII%b{2}[AQgw]%b" % (_ANY, anchor))
      for anchor in (b"IBAAKB", b"IBAAKC", b"IBADANBgkqhkiG9w0BAQEFAAS")),
    *((anchor, rb"M%b{2}%b" % (_ANY, anchor)) for anchor in (b"CAQEEI", b"CAQEEM", b"CAQEEQ")),
    *((anchor, rb"MI[GH]%b%b" % (_ANY, anchor)) for anchor in (b"AgEBBD", b"AgEBBE")),
    *((b"MB%cGByqGSM49AgEG" % kind, rb"MI[GH]%bAgE[AB]MB%cGByqGSM49AgEG" % (_ANY, kind)) for kind in b"AM"),
    *((b"CAQAwE%cYHKoZIzj0CAQ" % kind, rb"M%b{2}CAQAwE%cYHKoZIzj0CAQ" % (_ANY, kind)) for kind in b"Aw"),
    *((b"CAQ%cwBQYDK2V" % version, rb"M%b{2}CAQ%cwBQYDK2V[u-x]B" % (_ANY, version)) for version in b"AE"),
    (b"BgkqhkiG9w0BBQ0w", rb"MII%b{2}[DTjz]B%bBgkqhkiG9w0BBQ0w" % (_ANY, _ANY)),
    (b"BgoqhkiG9w0BDAE", rb"MII%b{2}[DTjz]A%bBgoqhkiG9w0BDAE" % (_ANY, _ANY)),
    (b"GCSqGSIb3DQEFDTB", rb"MI[GH]%bM%b{2}GCSqGSIb3DQEFDTB" % (_ANY, _ANY)),
    (_OPENSSH, _OPENSSH),
)  # fmt: skip
"""Bytes near the beginning of a private key in base64, and the pattern of the beginning: RSA and DSA (PKCS #1 and #8),
elliptic curves (SEC 1; PKCS #8, also without the public key), Ed25519 and alike, and encrypted keys (RFC 8018)."""


def is_random(content: bytes) -> bool:
    """Return whether the first `RANDOM_SIZE` bytes look random. One random content in 100,000 does not."""
    key = content[:RANDOM_SIZE]
    high = sum(byte >> 7 for byte in key)
    return len(key) == RANDOM_SIZE and len(set(key)) >= 20 and 4 <= high <= RANDOM_SIZE - 4


def read_size(content: bytes, at: int) -> tuple[int, int]:
    """Return a length in DER (X.690, 8.1.3) and where it ends."""
    first = content[at] if at < len(content) else 0
    if first < 0x80:
        return first, at + 1
    end = at + 1 + (first & 0x7F)
    return int.from_bytes(content[at + 1 : min(end, at + 4)], "big"), end


def _read_element(content: bytes, at: int) -> tuple[bytes, bytes, int]:
    """Return tag and value of an element, and where it ends; the value is shorter if the content ends before."""
    size, begin = read_size(content, at + 1)
    return content[at : at + 1], content[begin : begin + size], begin + size


def has_private_key(content: bytes) -> bool:
    """Return whether DER, or an OpenSSH key, begins with a private key; it may end early.

    A key in DER has a version and one of: an algorithm and a key (RFC 5208, 5), a large number (RFC 8017, A.1.2, and
    DSA), random bytes (RFC 5915, 3). An encrypted key has an algorithm and random bytes (RFC 5208, 6).
    """
    if content.startswith(b"openssh-key-v1\0"):
        return any(is_random(content[at:]) for at in range(2 * RANDOM_SIZE, 6 * RANDOM_SIZE, RANDOM_SIZE))
    tag, inside, _ = _read_element(content, 0)
    first, version, at = _read_element(inside, 0)
    second, key, at = _read_element(inside, at)
    if tag != SEQUENCE or (first == INTEGER and len(version) != 1):
        return False
    if (first, second) == (INTEGER, SEQUENCE):
        third, key, _ = _read_element(inside, at)
        inner, octets, _ = _read_element(key, 0)
        return third == OCTETS and (is_random(octets) if inner == OCTETS else has_private_key(key))
    possible = (INTEGER, OCTETS) if first == INTEGER else (OCTETS,) if first == SEQUENCE else ()
    return second in possible and is_random(key.removeprefix(b"\0") if second == INTEGER else key)
