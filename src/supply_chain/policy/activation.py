"""Whether the files by which a project decides are active: they ship with this version, or a person signed them.

These are the policies, the name register, and what decides of each environment. An authorised person signs the list
of all of them; each is compared with that list where it is used.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from pydantic import Field

from supply_chain.errors import PolicyInvalid, PolicyUnsigned
from supply_chain.model.documents import LIMIT
from supply_chain.model.image import Digest, Model, digest_of
from supply_chain.policy.people import FILE as PEOPLE
from supply_chain.policy.people import People, PeopleOwner, parse_owner_keys
from supply_chain.policy.shipped import SHIPPED
from supply_chain.policy.signed_documents import (
    DocumentKind,
    Signature,
    Unsigned,
    name_installation,
    read_bundle,
    read_file,
    verify_document,
)
from supply_chain.text import render_time

LISTING = "signed.list"
"""Name of the list that is signed; it is next to the policies, and its bundle too."""
POLICIES, NAMES, ENVIRONMENTS = "policies/", "names.yaml", "environments/"
"""The name register, and what the names of policies and environments begin with in the list."""
VERSIONS = "versions/"
"""What a version of a policy begins with in the list: verdicts name it, so that it stays what it was when signed."""
OWNER = f"the owner of {PEOPLE}"
NAME = re.compile(r"(?:policies/|environments/|versions/)?[A-Za-z0-9][A-Za-z0-9._-]*")
LINE = re.compile(rf"([0-9a-f]{{64}})  ({NAME.pattern})\n")


class PolicyState(Model):
    """Whether the gates decide by the policies of a project, or by another of its files."""

    active: bool
    why: str = Field(description="who signed them and when, or why they are not active")


def list_files(documents: Mapping[str, bytes]) -> bytes:
    """Return what is signed, from name → content: a line for each, as sha256sum writes it.

    So a signature covers neither a changed file nor one more or less. Raise `PolicyInvalid` for a name with other
    characters: one with a line break could stand for two files.
    """
    for name in documents:
        if not NAME.fullmatch(name):
            raise PolicyInvalid(f"{name!r} is not a name of a policy's file.\nUse letters, digits, '.', '_' and '-'.")
    return _format_list({name: digest_of(content) for name, content in documents.items()})


def list_next(documents: Mapping[str, bytes], directory: Path) -> bytes:
    """Return what is signed next, as `list_files`, with the versions in the list of the directory of the policies.

    Raise also `PolicyInvalid` for a version that ships, or is in that list, with another content.
    """
    before = _parse_list(read_file(directory / LISTING, LIMIT) or b"")
    signed = {name: digest for name, digest in before.items() if name.startswith(VERSIONS)}
    listed = _parse_list(list_files(documents))
    for name in sorted(each for each in listed if each.startswith(VERSIONS)):
        if any(each.get(name, listed[name]) != listed[name] for each in (SHIPPED, signed)):
            policy, _, version = name.removeprefix(VERSIONS).rpartition(".")
            raise PolicyInvalid(
                f"Version {version} of the policy {policy} was signed, or ships, with another content, and verdicts "
                "name it.\nRaise its `version`, and sign again."
            )
    return _format_list(signed | listed)


def _format_list(digests: Mapping[str, Digest]) -> bytes:
    return "".join(f"{digest.removeprefix('sha256:')}  {name}\n" for name, digest in sorted(digests.items())).encode()


def _parse_list(content: bytes) -> dict[str, Digest]:
    """Return name → digest of the lines of a list; other lines are left out."""
    lines = LINE.findall(content.decode("ascii", "replace"))
    return {name: f"sha256:{digest}" for digest, name in lines}


def name_policies(documents: Mapping[str, bytes]) -> dict[str, bytes]:
    """Return policies, as file name → content, by their names in the list."""
    return {f"{POLICIES}{name}": content for name, content in documents.items()}


class TrustedList(Model):
    """Files by which the gates may decide."""

    files: dict[str, Digest] = Field(description="name in the list → digest of the content")
    why: str = Field(description="who says so")
    change: str = Field(description="what a difference is called")


@dataclass(frozen=True)
class Activation:
    """What the files of a project are compared with."""

    trusted: tuple[TrustedList, ...]
    """The list that a person signed if it counts, and the one that ships if that counts."""
    uncounted: str
    """Why the signed list does not count; empty if it does."""

    def find_policy_state(self, documents: Mapping[str, bytes]) -> PolicyState:
        """Return whether policies, as file name → content, are active: all of them together."""
        return self._compare(name_policies(documents), lambda name: name.startswith(POLICIES))

    def find_state(self, name: str, content: bytes) -> PolicyState:
        """Return whether the name register, or what decides of an environment, is active; `name` as in the list."""
        return self._compare({name: content}, lambda each: each == name)

    def _compare(self, documents: Mapping[str, bytes], belongs: Callable[[str], bool]) -> PolicyState:
        """Compare documents, as name in the list → content, with the part of each list that `belongs` selects."""
        digests = {name: digest_of(content) for name, content in documents.items()}
        changes = list[str]()
        for each in self.trusted:
            files = {name: digest for name, digest in each.files.items() if belongs(name)}
            if files == digests:
                return PolicyState(active=True, why=each.why)
            changes.append(f"{each.change}: {', '.join(_differences(files, digests))}")
        uncounted = [f"the list of files does not count: {self.uncounted}"] if self.uncounted else []
        return PolicyState(active=False, why="; ".join((*changes[:1], *uncounted)))


def _differences(before: Mapping[str, Digest], now: Mapping[str, Digest]) -> Iterator[str]:
    for name in sorted(before.keys() | now.keys()):
        if before.get(name) != now.get(name):
            yield name + (" (added)" if name not in before else " (removed)" if name not in now else " (changed)")


def read_activation(
    directory: Path, people: People, owner: PeopleOwner, since: datetime | None, now: datetime
) -> Activation:
    """Read the signed list in the directory of the policies, and return what counts.

    The own signature of the owner of the people document counts too. Signatures before `since` do not count; if it is
    set, what ships with this version has to be signed as well. Raise `SettingInvalid` if the owner's key is none.
    """
    signed = _read_signed(directory, people, owner, since, now)
    shipped = TrustedList(
        files=dict(SHIPPED), why="they ship with this version", change="differs from what ships with this version"
    )
    trusted = ([] if isinstance(signed, Unsigned) else [signed]) + ([] if since else [shipped])
    return Activation(tuple(trusted), signed.why if isinstance(signed, Unsigned) else "")


def _read_signed(
    directory: Path, people: People, owner: PeopleOwner, since: datetime | None, now: datetime
) -> TrustedList | Unsigned:
    file = directory / LISTING
    content, bundle = read_file(file, LIMIT) or b"", read_bundle(file)
    keys = {OWNER: parse_owner_keys(owner.key), **people.policy_keys}
    signature = verify_document(DocumentKind.POLICIES, LISTING, content, bundle, keys, people.installation, now)
    if isinstance(signature, Signature) and not people.installation:  # what was signed before there was a name
        signature = Unsigned(why=f"{signature.by} signed it for {name_installation('')}")
    if isinstance(signature, Unsigned):
        distrusted = f" ({people.distrusted})" if bundle is not None and people.distrusted else ""
        return Unsigned(why=f"{signature.why}{distrusted}")
    signed = f"signed by {signature.by} at {render_time(signature.at)}"
    if since is not None and signature.at < since:
        why = f"{signed}, and signatures before {render_time(since)} do not count (`policies_signed_since`)"
        return Unsigned(why=why)
    files = _parse_list(content)
    if content != _format_list(files):
        return Unsigned(why=f"{signature.by} signed something else than a list of files")
    return TrustedList(files=files, why=signed, change=f"differs from what was {signed}")


def require_active(state: PolicyState, what: str) -> None:
    """Raise `PolicyUnsigned` unless a part is active; `what` says which part, and what follows if it is not."""
    if not state.active:
        raise PolicyUnsigned(
            f"{what}: {state.why}.\n"
            "Read them with `cscm policy check` and `cscm policy preview`, which need no signature. Then "
            f"{OWNER}, or a person with `policies: true` there, signs them: cscm policy sign --key REF"
        )
