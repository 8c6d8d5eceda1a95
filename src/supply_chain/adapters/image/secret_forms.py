"""Known forms of secrets, and the search for them in bytes of any encoding."""

from __future__ import annotations

import base64
import codecs
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice

import re2

from supply_chain.adapters.image.der_keys import BODIES, has_private_key, is_random, read_size
from supply_chain.adapters.image.patterns import compile_linear_pattern, search_for
from supply_chain.adapters.image.vendor_tokens import SHORT, SHORT_TAIL, TOKENS

PEM = "private key"
_PEM_ANCHOR, _OPENVPN_ANCHOR = b"PRIVATE KEY", b"OpenVPN tls-crypt-v2"
_SIGNATURE_ANCHOR, _VAULT_ANCHOR = b"sig=", b"hvs."


def _encode_unaligned(text: bytes) -> tuple[bytes, ...]:
    """Return the characters that a text has in base64, at each of the three places where it can begin."""
    encoded = (base64.b64encode(bytes(offset) + text + b"\0\0") for offset in range(3))
    return tuple(each[-(-8 * offset // 6) : 8 * (offset + len(text)) // 6] for offset, each in enumerate(encoded))


_SPACES = (b"%20", b"%2520", b"+", b"\\u0020", b"\\x20")
"""A space in an address, an address in another one, a form, and in JSON and source code."""
_ESCAPED_ANCHORS = tuple(b"PRIVATE" + space + b"KEY" for space in _SPACES)
_ENCODED_ANCHORS, _ENCODED_BEGINS = (_encode_unaligned(each) for each in (b"PRIVATE KEY", b"-----BEGIN "))
_TWICE_ENCODED_ANCHORS = tuple(each for anchor in _ENCODED_ANCHORS for each in _encode_unaligned(anchor))
_RSA_ANCHORS = tuple(b"\x02\x03\x01\0\x01\x02" + size for size in (b"\x81", b"\x82\1", b"\x82\2", b"\x82\3", b"\x82\4"))
"""Public exponent of an RSA key and beginning of its private one (RFC 8017, A.1.2), which no other structure has."""
_EC_HEADERS = (
    b"\x30\x77", b"\x30\x6b", b"\x30\x74", b"\x30\x31", b"\x30\x2e", b"\x30\x25", b"\x30\x81\xa4", b"\x30\x81\x9b",
    b"\x30\x3e", b"\x30\x35", b"\x30\x81\xdc", b"\x30\x81\xd3", b"\x30\x50", b"\x30\x47",
)  # fmt: skip
"""Headers of elliptic curve keys (RFC 5915, 3): P-256 and secp256k1, P-384, and P-521; each with and without the name
of the curve and the public key."""
_EC_SIZES = (*(32,) * 6, *(48,) * 4, *(66,) * 4)
_EC_ANCHORS = tuple(
    header + b"\x02\x01\x01\x04" + bytes((size,)) for header, size in zip(_EC_HEADERS, _EC_SIZES, strict=True)
)
_ED_ANCHORS = (b"\x06\x03\x2b\x65\x70\x04\x22\x04\x20", b"\x06\x03\x2b\x65\x71\x04\x3b\x04\x39")
"""Algorithm and beginning of a key of Ed25519 and Ed448 (RFC 8410, 7)."""
_DER_ANCHORS = (*_RSA_ANCHORS, *_EC_ANCHORS, *_ED_ANCHORS)
_KEY_BAG, _JAVA_KEY = b"\x2a\x86\x48\x86\xf7\x0d\x01\x0c\x0a\x01\x02", b"\x2b\x06\x01\x04\x01\x2a\x02\x11\x01\x01"
"""Object identifiers of an encrypted private key in a PKCS #12 file (RFC 7292, 4.2.2) and in a Java key store."""
_BREAK = rb"[ \t]*(?:[\r\n]|\\[nr])[ \t]*"
_HEADER = rb"[A-Za-z][A-Za-z-]*: (?:[^\r\n\\]|\\[^nr])*(?:%b)+" % _BREAK
_KEY = compile_linear_pattern(
    rb"(?:\s|\\[nr])+(?:Proc-Type|(?:%b)*[A-Za-z0-9+/](?:(?:%b)*[A-Za-z0-9+/]){31})" % (_HEADER, _BREAK)
)
"""Text after a private key's first line: headers (RFC 4880, 6.2; RFC 4716, 3.3), and base64 in lines."""
_RUN = compile_linear_pattern(rb"[A-Za-z0-9+/]{32,}")
_ESCAPED = re.compile(rb"\\/|%2[BbFf]|\\u002[BbFf]")
"""A character of base64, as JSON and addresses escape it."""
_CODE = re.compile(rb"(?:%(?:25)?|\\u00|\\x)([0-9A-Fa-f]{2})")
"""Any character, escaped so."""
_KEY_CHARACTERS = tuple(re.compile(b"[%b]" % kind) for kind in (b"0-9", b"A-Z", b"a-z"))
KEY_SIZE, KEY_DIGITS = 64, 4
"""Minimum base64 characters of a private key, and of the digits, capital and small letters among them. Identifiers and
digests in source code have fewer."""
HEADERS_SIZE, DECORATION_SIZE = 240, 64
"""Maximum bytes between the first line of a private key and its base64, and between two lines of it, in a text that
quotes, comments or concatenates the lines."""
KEY_WINDOW = 2048
"""Bytes after a private key's first line that are examined."""
BEFORE_BODY = 512
"""Bytes before a private key's base64 in which its first line is."""
ENCODED_WINDOW = 1024
"""Bytes of base64 after the beginning of a private key's first line that are decoded."""
SIGNATURE_WINDOW = 400
"""Bytes before and after an Azure signature in which another field of the signed address has to be."""
_SIGNED = compile_linear_pattern(rb"\bs[ev]=")
"""The expiry or the version of a shared access signature."""
_AWS_KINDS = (b"AKIA", b"ASIA")
_AWS_NAMES = (
    b"ecret_access_key", b"ECRET_ACCESS_KEY", b"ecretAccessKey",
    b"ws_secret_key", b"WS_SECRET_KEY", b"wsSecretKey", b"WSSecretKey", b"ws.secretKey",
)  # fmt: skip
_SESSION_NAMES = (b"ession_token", b"ESSION_TOKEN", b"essionToken")
_BETWEEN = rb"\W{1,40}(?:(?:key|name|value|str|[Ss]tring)\W{1,40}){0,2}"
"""What may be between a name and its value: a separator and quotes, elements and attributes of XML, a type."""
_VALUE = rb"(?!\S{30}EXAMPLEKEY)(?=[a-z0-9/+]{0,39}[A-Z])(?=[A-Z0-9/+]{0,39}[a-z])(?=[A-Za-z]{0,39}[0-9/+])"
_PEM_FORM = rb"-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY(?: BLOCK)?-----|---- BEGIN SSH2 ENCRYPTED[ ]PRIVATE KEY ----"
FORMS = (
    (PEM, _PEM_ANCHOR, _PEM_FORM),
    *((PEM, anchor, rb"BEGIN%b(?:[A-Z0-9]+%b){0,3}%b(?:%b(?:BLOCK)?)?" % (gap, gap, re.escape(anchor), gap))
      for anchor, gap in zip(_ESCAPED_ANCHORS, map(re.escape, _SPACES), strict=True)),
    *((PEM, anchor, form) for anchor, form in BODIES),
    (PEM, b"PuTTY-User-Key-File-",
     rb"PuTTY-User-Key-File-\d+(?:: |%%3A(?:\+|%%20))[A-Za-z0-9@.%%-]+(?:(?:%b)+|%%0[AD])Encryption" % _BREAK),
    (PEM, b"OpenVPN Static key V1", rb"-----BEGIN OpenVPN Static key V1-----\W{0,24}(?:[nr]\W{0,24})?[0-9a-f]{32}"),
    (PEM, _OPENVPN_ANCHOR, rb"-----BEGIN OpenVPN tls-crypt-v2 (?:client|server) key-----"),
    *((PEM, anchor, rb"%b[A-Za-z0-9+/]{203}=" % anchor) for anchor in (b"RWRTY0Iy", b"RWQAAEIy")),
    (PEM, b"RWRCSwAA", rb"RWRCSwAA[A-Za-z0-9+/]{131}="),
    *((PEM, name, rb"%b[ \t]*[A-Za-z0-9+/]{42}[AEIMQUYcgkosw048]=" % name)
      for name in (b"PrivateKey=", b"PrivateKey =")),
    *((PEM, anchor, rb"(?:%b)[A-Za-z0-9+/\s\\]{0,80}%b" % (b"|".join(_ENCODED_BEGINS), anchor))
      for anchor in _ENCODED_ANCHORS),
    *((PEM, anchor, re.escape(anchor)) for anchor in (*_TWICE_ENCODED_ANCHORS, *_DER_ANCHORS)),
    (PEM, _KEY_BAG, rb"\x06\x0b%b\xa0" % re.escape(_KEY_BAG)),
    (PEM, _JAVA_KEY, rb"\x06\x0a%b\x05\x00" % re.escape(_JAVA_KEY)),
    *(("AWS access key", kind,
       rb"%b(?![A-Z0-9]{9}EXAMPLE)(?:(?<![A-Z0-9+/]%b)|(?=[A-Z2-7]{16}(?![A-Za-z0-9+/])))[A-Z2-7]{16}" % (kind, kind))
      for kind in _AWS_KINDS),
    *(("AWS key", name, name + _BETWEEN + _VALUE + rb"[A-Za-z0-9/+]{40}(?![A-Za-z0-9/+])") for name in _AWS_NAMES),
    *(("AWS session token", name,
       name + _BETWEEN + rb"(?![A-Za-z0-9/+]{0,99}EXAMPLE)(?=[A-Za-z/+]{0,99}\d)[A-Za-z0-9/+]{100}")
      for name in _SESSION_NAMES),
    *TOKENS,
    ("Vault token", _VAULT_ANCHOR, rb"\bhvs\.[A-Za-z0-9_-]{24,}"),
    ("Azure storage key", b"AccountKey=", rb"AccountKey=[A-Za-z0-9+/]{86}=="),
    ("Azure access key", b"SharedAccessKey=", rb"SharedAccessKey=[A-Za-z0-9+/]{43}="),
    *(("Azure client secret", mark, rb"[A-Za-z0-9_~.-]{3}%b[A-Za-z0-9_~.-]{34}" % mark) for mark in (b"7Q~", b"8Q~")),
    ("Azure signature", _SIGNATURE_ANCHOR,
     rb"(?:\b|u0026)sig=(?!aBBKDWQvyuVcTPH9EBp)(?:[A-Za-z0-9+/]|%2[BbFf]){43}(?:=|%3[Dd])"),
)  # fmt: skip
"""Kind of a secret, bytes that each such secret contains, and its pattern. The vendors' example values do not match.

Keys of minisign and signify have no first line of their own; those of WireGuard have a name.

In records of SQLite or pickle, any byte may stand directly before and after a secret. In a text, an AWS key has to
begin or end at a word boundary, because otherwise it may be part of a longer word.
"""
BINARY_FORMS = (
    *(("AWS access key", kind,
       rb"%b(?![A-Z0-9]{9}EXAMPLE)(?:(?<![A-Za-z0-9+/]{24}%b)|(?=[A-Z2-7]{16}(?![A-Za-z0-9+/]{24})))[A-Z2-7]{16}"
       % (kind, kind))
      for kind in _AWS_KINDS),
    *(("AWS key", name,
       name + rb"(?:[\WXq]{1,8}(?=[A-Za-z/+]{0,39}\d)|(?=(?:[A-Za-z/+]{0,37}\d){3}))" + _VALUE + rb"[A-Za-z0-9/+]{40}")
      for name in _AWS_NAMES),
    *(("AWS session token", name, name + rb"(?s:.){0,9}?(?:FwoG|FQoG|IQoJ|AQo[DE])(?!\S{0,99}EXAMPLE)[A-Za-z0-9/+]{96}")
      for name in _SESSION_NAMES),
)  # fmt: skip
"""Patterns for content with zero bytes. There, an AWS key is rejected only in the middle of base64 or of a table of
words, which has fewer digits."""
_Form = tuple[str, bytes, "re.Pattern[bytes] | re2.Pattern[bytes]"]


def _compile(kind: str, anchor: bytes, form: bytes) -> _Form:
    """Compile a pattern with RE2, or with `re` if it has a lookahead, which RE2 does not support.

    A pattern with a lookahead matches only a bounded length.
    """
    return kind, anchor, re.compile(form) if b"(?!" in form else compile_linear_pattern(form)


_FORMS, _BINARY_FORMS = (tuple(_compile(*form) for form in forms) for forms in (FORMS, BINARY_FORMS))
_PROGRAM_FORMS = tuple(form for form in _FORMS if form[1] not in _DER_ANCHORS)
_KEY_FORMS = tuple(form for form in _FORMS if form[1] in (*_DER_ANCHORS, _KEY_BAG, _JAVA_KEY))
_ZEROS = (b"", b"\0", b"\0\0\0")
"""Bytes between ASCII letters: none, or as in UTF-16 and UTF-32."""


def _spread(anchor: bytes, zeros: bytes) -> bytes:
    """Return the pattern of an anchor, and of what follows a short one, with zero bytes between the letters."""
    letters = zeros.join(anchor[at : at + 1] for at in range(len(anchor)))
    more = b"(?:%b[%b]){%d}" % (re.escape(zeros), SHORT[anchor], SHORT_TAIL) if anchor in SHORT else b""
    return re.escape(letters) + more


_ANCHORS = compile_linear_pattern(b"|".join(_spread(anchor, zeros) for _, anchor, _ in FORMS for zeros in _ZEROS))
_find_anchors = search_for(anchor for _, anchor, _ in FORMS)
_WIDE = compile_linear_pattern(rb"[^\x00](?:\x00[^\x00]){15,}|[^\x00](?:\x00\x00\x00[^\x00]){15,}")
"""ASCII text in UTF-16 or UTF-32, of either byte order."""
LONGEST_FORM = 4096
"""Bytes of a piece that are searched again with the next piece, so that no match across the border is missed."""
MOST_SECRETS = 20
"""Maximum places of one kind of secret in one file that are reported."""
MARKS = {
    codecs.BOM_UTF32_LE: "utf-32",  # begins like the mark of UTF-16
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
"""Byte order mark → encoding."""


def find_secret_patterns(
    content: bytes, line: int = 1, most: int | None = MOST_SECRETS, *, program: bool = False
) -> Iterator[tuple[int, str]]:
    """Yield line and kind of everything that matches a pattern of a secret; `line` is the number of the first line.

    At most `most` places for each pattern; all if None. With `program`, the content is of a program of a machine: keys
    in DER are ignored, because `openssl` contains some for tests. Also searches ASCII in UTF-16 and UTF-32.
    """
    if not _ANCHORS.search(content):
        return
    yield from _find_secrets(content, line, most, _PROGRAM_FORMS if program else _FORMS)
    if b"\0" in content:
        yield from _find_secrets(content, line, most, _BINARY_FORMS)
        counted = 0
        for match in _WIDE.finditer(content):
            line += content.count(b"\n", counted, match.start())
            counted = match.start()
            yield from find_secret_patterns(match.group().replace(b"\0", b"") + b"\0", line, most)


def find_binary_keys(content: bytes) -> Iterator[tuple[int, str]]:
    """Yield line and kind of each key in DER or in a key store, at most `MOST_SECRETS` for each pattern.

    A file that begins with a byte order mark is read as text, which changes the bytes of a binary key.
    """
    if _ANCHORS.search(content):
        yield from _find_secrets(content, 1, MOST_SECRETS, _KEY_FORMS)


def _find_secrets(content: bytes, line: int, most: int | None, forms: Iterable[_Form]) -> Iterator[tuple[int, str]]:
    anchors = _find_anchors(content)
    for kind, anchor, form in forms:
        if anchor in anchors:
            place, counted = line, 0
            confirm = _CONFIRM.get(anchor)
            matches = (
                each for each in form.finditer(content) if not confirm or confirm(content, each.start(), each.end())
            )
            for match in islice(matches, most):
                place += content.count(b"\n", counted, match.start())
                counted = match.start()
                yield place, kind


def _is_key(content: bytes, _start: int, end: int) -> bool:
    """Return whether a private key's base64 follows its first line, which ends at `end`.

    The base64 may be decorated, as in a string literal or a comment.
    """
    text = content[end : end + KEY_WINDOW]
    if _KEY.match(text):
        return True
    key = _join_base64(text, HEADERS_SIZE)
    return len(key) >= KEY_SIZE and all(len(kind.findall(key)) >= KEY_DIGITS for kind in _KEY_CHARACTERS)


def _join_base64(text: bytes, gap: int) -> bytes:
    """Return the base64 in the decorated lines of a text, which begins at most `gap` bytes after the text."""
    key, end = b"", 0
    for run in _RUN.finditer(_ESCAPED.sub(b"/", text.partition(b"-----")[0])):
        if run.start() - end > gap:
            break
        key, end, gap = key + run.group(), run.end(), DECORATION_SIZE
    return key


def _is_escaped_key(content: bytes, _start: int, end: int) -> bool:
    """Return whether a private key follows its first line, in which spaces are escaped."""
    return _is_key(_unescape(content[end : end + 2 * KEY_WINDOW]).lstrip(b"- "), 0, 0)


def _unescape(text: bytes) -> bytes:
    return _CODE.sub(lambda code: bytes.fromhex(code[1].decode()), text)


def _is_key_body(content: bytes, start: int, _end: int) -> bool:
    """Return whether a private key's base64 begins at `start`; False if its first line, another place, is before."""
    key = _join_base64(_BREAKS.sub(b"", _unescape(content[start : start + KEY_WINDOW])), 0)
    if not has_private_key(base64.b64decode(key[: len(key) // 4 * 4])):
        return False
    begin = max(0, start - BEFORE_BODY)
    return not any(_is_key(content, begin, begin + each.end()) for each in _FIRST_LINE.finditer(content[begin:start]))


def _is_signature(content: bytes, start: int, end: int) -> bool:
    return bool(_SIGNED.search(content[max(0, start - SIGNATURE_WINDOW) : end + SIGNATURE_WINDOW]))


def _is_encoded_key(content: bytes, start: int, _end: int) -> bool:
    """Return whether base64, in which the first line of a private key begins at `start`, is of a private key."""
    text = _BREAKS.sub(b"", content[max(0, start - 3) : start + ENCODED_WINDOW])
    runs = (each for each in _RUN.finditer(text))
    run = next((each.group() for each in runs if any(begin in each.group() for begin in _ENCODED_BEGINS)), b"")
    return any(
        _is_key(decoded, each.start(), each.end())
        for decoded in _decode_unaligned(run)
        for each in islice(_FIRST_LINE.finditer(decoded), 1)
    )


def _decode_unaligned(run: bytes) -> Iterator[bytes]:
    """Yield what a run of base64 is decoded to, from each of the four places where it may begin."""
    for skipped in range(4):
        yield base64.b64decode(run[skipped : len(run) - (len(run) - skipped) % 4])


def _is_twice_encoded_key(content: bytes, start: int, _end: int) -> bool:
    """Return whether base64, in which the encoded first line of a private key is at `start`, is of an encoded key."""
    text = _BREAKS.sub(b"", content[max(0, start - ENCODED_WINDOW) : start + 2 * ENCODED_WINDOW])
    return any(
        _has_encoded_key(decoded, anchor)
        for run in _RUN.finditer(text)
        for decoded in _decode_unaligned(run.group())
        for anchor in _ENCODED_ANCHORS
    )


def _has_encoded_key(content: bytes, anchor: bytes) -> bool:
    """Return whether base64 around the first place of an anchor is of a private key."""
    at = content.find(anchor)
    begins = (content.rfind(begin, 0, at) for begin in _ENCODED_BEGINS)
    return at >= 0 and any(begin >= 0 and _is_encoded_key(content, begin, at) for begin in begins)


def _is_rsa_key(content: bytes, start: int, _end: int) -> bool:
    """Return whether a private exponent, two odd primes, and three numbers of their size follow a public exponent."""
    numbers, at = list[bytes](), start + 5
    while len(numbers) < 6 and content[at : at + 1] == b"\x02":
        size, at = read_size(content, at + 1)
        numbers.append(content[at : at + size])
        at += size
    if len(numbers) < 6 or at > len(content):
        return False
    exponent, *others = numbers
    sizes = [len(each) for each in others]
    primes = others[:2]
    return (
        is_random(exponent[1:])
        and all(each and each[-1] & 1 for each in primes)
        and len(exponent) // 4 <= max(sizes) <= len(exponent) // 2 + 8
    )


def _is_random_key(content: bytes, _start: int, end: int) -> bool:
    """Return whether random bytes follow the header of a key: programs contain the header alone."""
    return is_random(content[end:])


def _is_vault_token(content: bytes, start: int, end: int) -> bool:
    return all(kind.search(content[start + len(_VAULT_ANCHOR) : end]) for kind in _KEY_CHARACTERS)


_BREAKS = compile_linear_pattern(rb"(?:\s|\\[nr])+")
_FIRST_LINE = compile_linear_pattern(_PEM_FORM)
_CONFIRM: Mapping[bytes, Callable[[bytes, int, int], bool]] = {
    _PEM_ANCHOR: _is_key,
    _OPENVPN_ANCHOR: _is_key,
    _SIGNATURE_ANCHOR: _is_signature,
    _VAULT_ANCHOR: _is_vault_token,
    **dict.fromkeys(_ESCAPED_ANCHORS, _is_escaped_key),
    **dict.fromkeys((anchor for anchor, _ in BODIES), _is_key_body),
    **dict.fromkeys(_ENCODED_ANCHORS, _is_encoded_key),
    **dict.fromkeys(_TWICE_ENCODED_ANCHORS, _is_twice_encoded_key),
    **dict.fromkeys(_RSA_ANCHORS, _is_rsa_key),
    **dict.fromkeys((*_EC_ANCHORS, *_ED_ANCHORS), _is_random_key),
}
"""Bytes that each secret of a form contains → whether a match, from start to end in a content, is a secret."""


def is_wide(content: bytes) -> bool:
    """Return whether most of the content is ASCII in UTF-16 or UTF-32, with or without a byte order mark."""
    few = 3 * content.count(b"\0") < len(content)
    return not few and 2 * sum(len(each.group()) for each in _WIDE.finditer(content)) > len(content)


def decode_texts(content: bytes) -> tuple[str, ...]:
    """Return every text that a file can be decoded to; empty if it is binary (zero bytes, but not UTF-16 or UTF-32).

    A byte order mark proves nothing, so the content is also decoded without it. UTF-16 and UTF-32 without a byte order
    mark are decoded by removing the zero bytes.
    """
    encoding = next((name for mark, name in MARKS.items() if content.startswith(mark)), "")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        if b"\0" in content and not encoding and not is_wide(content):
            return ()
        text = content.decode("latin-1")
    marked = (content.decode(encoding, "replace"),) if encoding else ()
    return tuple(dict.fromkeys((*marked, text, text.replace("\0", ""))))
