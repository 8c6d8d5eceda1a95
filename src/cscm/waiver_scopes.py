"""Scopes of waivers that cover no image, as far as this project and its inventory know."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from cscm.session import load_block
from supply_chain.errors import DeclarationInvalid, SupplyChainError
from supply_chain.model.documents import read_document
from supply_chain.policy.loading import REGISTER, list_environments
from supply_chain.policy.names import read_register
from supply_chain.policy.waivers import DIRECTORY, WaiverDocument, find_unmatched


def list_unmatched(project: Path) -> tuple[str, ...]:
    """Return a sentence about each waiver of a project that is invalid, or names what no image has."""
    return tuple(_list_unmatched(project))


def _list_unmatched(project: Path) -> Iterator[str]:
    documents = dict[str, WaiverDocument]()
    for file in sorted((project / DIRECTORY).glob("*.yaml")):
        try:
            documents[file.stem] = read_document(file, WaiverDocument)
        except DeclarationInvalid as error:
            why = error.message.rpartition("\n")[0]
            yield f"{file.stem}: {why}"
    if documents:
        applications = read_known_applications(project)
        environments = list_environments(project)
        for name, document in documents.items():
            yield from (f"{name}: {why}" for why in find_unmatched(document, applications, environments))


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
