"""Scopes of waivers that cover no image, as far as this project and its inventory know."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from cscm.session import load_block
from supply_chain.errors import DeclarationInvalid, SupplyChainError
from supply_chain.model.documents import read_document
from supply_chain.policy.loading import REGISTER, list_environments
from supply_chain.policy.names import read_register
from supply_chain.policy.waivers import DIRECTORY, EVERY, WaiverDocument, find_unmatched

UNCHECKED = (
    f"whether the applications exist was not checked: the inventory or {REGISTER} cannot be read, or the inventory has "
    "no image"
)


class Scopes(NamedTuple):
    """What is known of the scopes of waivers."""

    unmatched: tuple[str, ...]
    """A sentence about each waiver that is invalid, or names what no image has."""
    unchecked: str
    """Why nobody knows whether their applications exist; empty if that is known, or no waiver names any."""


def check_scopes(project: Path) -> Scopes:
    """Compare the scopes of the waivers of a project with its environments and the known applications."""
    documents, notes = dict[str, WaiverDocument](), list[str]()
    for file in sorted((project / DIRECTORY).glob("*.yaml")):
        try:
            documents[file.stem] = read_document(file, WaiverDocument)
        except DeclarationInvalid as error:
            why = error.message.rpartition("\n")[0]
            notes.append(f"{file.stem}: {why}")
    if not documents:
        return Scopes(tuple(notes), "")
    applications, environments = read_known_applications(project), list_environments(project)
    for name, document in documents.items():
        notes += (f"{name}: {why}" for why in find_unmatched(document, applications, environments))
    return Scopes(tuple(notes), explain_unchecked(documents.values(), applications))


def explain_unchecked(documents: Iterable[WaiverDocument], applications: Sequence[str] | None) -> str:
    """Return why nobody knows whether the applications of waivers exist; empty if it is known, or they name none."""
    named = (scope for each in documents for scope in each.applications if scope != EVERY)
    return UNCHECKED if applications is None and any(named) else ""


def read_known_applications(project: Path) -> tuple[str, ...] | None:
    """Return the names and patterns of the register, and the applications of the inventory; None without one of both.

    Whether an application exists is not known without an inventory, such as on the machine of a person who signs.
    """
    from httpx import HTTPError  # noqa: PLC0415 - Prefect's client does not wrap this error

    try:
        applications = load_block("Inventory", "inventory").open().applications()
        names = read_register(project / REGISTER).names
    except (ModuleNotFoundError, SupplyChainError, HTTPError):
        return None
    return (*names, *applications) if applications else None
