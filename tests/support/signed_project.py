"""Signs what a project of the laptop decides by, as the owner of its people document."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from cscm_laptop.home import Home
from supply_chain.adapters.tools.cosign import sign_statement
from supply_chain.execution.signed_project import read_project_state, read_signable
from supply_chain.policy.activation import LISTING, list_files
from supply_chain.policy.loading import DIRECTORY
from supply_chain.policy.people import PeopleOwner, read_installation
from supply_chain.policy.signed_documents import DocumentKind, locate_signature, make_document_statement
from tests.support.access import toolbox_in
from tests.support.command import ROOT


def owner_key(home: Home) -> str:
    """Return the path of the key of the people document's owner; it has no password."""
    return str(home.state / "people" / "owner.key")


def withdraw_signature(project: Path = ROOT) -> None:
    """Delete the signed list: what does not ship is not active."""
    document = project / DIRECTORY / LISTING
    for file in (document, locate_signature(document)):
        file.unlink(missing_ok=True)


def sign_project(home: Home, project: Path = ROOT) -> None:
    """Sign policies, environments and names as they are now; delete the signature if all of it is as it ships."""
    withdraw_signature(project)
    if not read_project_state(project, PeopleOwner(), None, datetime.now(UTC)).problems:
        return
    document, listing = project / DIRECTORY / LISTING, list_files(read_signable(project))
    cosign = toolbox_in(home.tools).find("cosign").with_environment(COSIGN_PASSWORD="")
    statement = make_document_statement(
        DocumentKind.POLICIES,
        LISTING,
        listing,
        read_installation(project, "", datetime.now(UTC)).name,
        datetime.now(UTC),
    )
    bundle = sign_statement(cosign, owner_key(home), statement)
    document.write_bytes(listing)
    locate_signature(document).write_bytes(bundle)
