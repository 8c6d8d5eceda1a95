"""Whether the policies of a project are active: they ship with this version, or an authorised person signed them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

from pydantic import Field

from supply_chain.errors import PolicyInvalid, PolicyUnsigned
from supply_chain.model.image import Digest, Model, digest_of
from supply_chain.policy.people import FILE as PEOPLE
from supply_chain.policy.people import People, keys_of_owner
from supply_chain.policy.signed_documents import DocumentKind, Unsigned, read_bundle, verify_document

LISTING = "policies"
"""Name of the list that is signed; its bundle is next to the policies."""
SHIPPED: Digest = "sha256:3f2326c30283d4bcdb433447302de5df86b225416190532853e979f336b18bfa"
"""Digest of the list of the policies in this repository; `python -m scripts.shipped_policies` writes it."""
OWNER = f"the owner of {PEOPLE}"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


class PolicyState(Model):
    """Whether the gates decide by the policies of a project."""

    active: bool
    why: str = Field(description="who signed them and when, or why they are not active")


def list_policies(documents: Mapping[str, bytes]) -> bytes:
    """Return what is signed of policies, from file name → content: a line for each, as sha256sum writes it.

    So a signature covers neither a changed file nor one more or less. Raise `PolicyInvalid` for a name with other
    characters: one with a line break could stand for two files.
    """
    for name in documents:
        if not NAME.fullmatch(name):
            raise PolicyInvalid(f"{name!r} is no name of a policy's file.\nUse letters, digits, '.', '_' and '-'.")
    lines = (f"{digest_of(content).removeprefix('sha256:')}  {name}\n" for name, content in sorted(documents.items()))
    return "".join(lines).encode()


def find_policy_state(
    directory: Path, documents: Mapping[str, bytes], people: People, owner: str, since: datetime | None, now: datetime
) -> PolicyState:
    """Return whether policies, as file name → content, are active in their directory.

    `owner` is the public key (PEM) of the owner of the people document, whose own signature counts too. Signatures
    before `since` do not count; if it is set, the policies that ship with this version have to be signed as well.
    Raise `SettingInvalid` if `owner` is no key, and `PolicyInvalid` as `list_policies`.
    """
    content, bundle = list_policies(documents), read_bundle(directory / LISTING)
    keys = {OWNER: keys_of_owner(owner), **people.policy_keys}
    signature = verify_document(DocumentKind.POLICIES, LISTING, content, bundle, keys, now)
    if since is None and digest_of(content) == SHIPPED and isinstance(signature, Unsigned):
        return PolicyState(active=True, why="they ship with this version")
    if isinstance(signature, Unsigned):
        distrusted = f" ({people.distrusted})" if bundle is not None and people.distrusted else ""
        return PolicyState(active=False, why=f"the list of their files does not count: {signature.why}{distrusted}")
    signed = f"signed by {signature.by} at {signature.at:%Y-%m-%d %H:%M} UTC"
    if since is not None and signature.at < since:
        why = f"{signed}, and signatures before {since:%Y-%m-%d %H:%M} UTC do not count (`policies_signed_since`)"
        return PolicyState(active=False, why=why)
    return PolicyState(active=True, why=signed)


def require_active(state: PolicyState, directory: Path) -> None:
    """Raise `PolicyUnsigned` unless the policies of a directory are active."""
    if not state.active:
        raise PolicyUnsigned(
            f"The policies in {directory} are not active, so no gate decides: {state.why}.\n"
            "Read them with `cscm policy check` and `cscm policy preview`, which need no signature. Then "
            f"{OWNER}, or a person with `policies: true` there, signs them: cscm policy sign --key REF"
        )
