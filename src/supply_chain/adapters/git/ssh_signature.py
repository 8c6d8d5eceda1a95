"""Signatures of commits with an SSH key, which git (gpg.format=ssh), Flux and git hosts verify.

The format is OpenSSH's PROTOCOL.sshsig. git signs with the namespace `git`.
"""

from __future__ import annotations

import hashlib
import struct
from base64 import b64decode, b64encode
from textwrap import wrap

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_ssh_private_key

from supply_chain.errors import SettingInvalid

MAGIC = b"SSHSIG"
VERSION = struct.pack(">I", 1)
NAMESPACE = b"git"
HASH = b"sha512"
ALGORITHM = b"ssh-ed25519"
LINE = 70
"""Characters of a line of the armor."""


def load_key(text: str) -> Ed25519PrivateKey:
    """Return the key in a file of ssh-keygen; raise `SettingInvalid` unless it is Ed25519 and has no passphrase."""
    try:
        key = load_ssh_private_key(text.encode(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:  # the cause may quote the key
        raise SettingInvalid(
            "The signing key of a git repository cannot be read.\n"
            "Put the file that `ssh-keygen -t ed25519 -N ''` made into its block."
        ) from error
    if not isinstance(key, Ed25519PrivateKey):
        raise SettingInvalid(
            "The signing key of a git repository is not an Ed25519 key.\nMake one with `ssh-keygen -t ed25519 -N ''`."
        )
    return key


def sign(key: Ed25519PrivateKey, content: bytes) -> bytes:
    """Return the armored signature of the content of a commit."""
    public = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).split()[1]
    hashed = hashlib.sha512(content).digest()
    signed = MAGIC + b"".join(map(_string, (NAMESPACE, b"", HASH, hashed)))
    signature = _string(ALGORITHM) + _string(key.sign(signed))
    blob = MAGIC + VERSION + b"".join(map(_string, (b64decode(public), NAMESPACE, b"", HASH, signature)))
    lines = "\n".join(wrap(b64encode(blob).decode(), LINE))
    return f"-----BEGIN SSH SIGNATURE-----\n{lines}\n-----END SSH SIGNATURE-----".encode()


def _string(value: bytes) -> bytes:
    return struct.pack(">I", len(value)) + value
