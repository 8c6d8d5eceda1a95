"""Signs documents as a person, with a key or keyless; nothing of it needs the chain's servers."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import click

from cscm.options import Words
from cscm.session import load_block
from cscm.start import KEY_VARIABLE
from orchestration.project import TOOLS, find_home, find_project
from supply_chain.adapters.process.command import Tool
from supply_chain.adapters.tools.cosign import KEYLESS, read_signing_variables, sign_for_person
from supply_chain.adapters.tools.pins import Pins
from supply_chain.adapters.tools.toolbox import Toolbox
from supply_chain.errors import DeclarationInvalid, SupplyChainError
from supply_chain.policy.people import FILE, TRUSTED_ROOT, read_installation
from supply_chain.policy.signed_documents import (
    DocumentKind,
    locate_signature,
    make_document_statement,
    name_installation,
)
from supply_chain.scratch import write_private

F = TypeVar("F", bound=Callable[..., Any])


class KeyReference(click.ParamType[str]):
    """A key as cosign names it, without a secret in the name; or `keyless`."""

    name = "key"

    def __init__(self, keyless: bool) -> None:
        self.keyless = keyless

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the value as typed; fail if it contains a PIN, which would be stored with the run."""
        if "pin-value=" in value:
            self.fail("it contains a PIN; set COSIGN_PKCS11_PIN in place of it", param, ctx)
        if value == KEYLESS and not self.keyless:
            self.fail("this signature counts only with a key; call a file of that name ./keyless", param, ctx)
        return value


def key_option(*, keyless: bool = True, **settings: Any) -> Callable[[F], F]:
    """Return the option `--key`; `keyless` says whether a keyless signature can count."""
    text = "Your own key, as cosign names it: a file, awskms:///…, gcpkms://…, hashivault://… or pkcs11:…."
    more = " `keyless`: log in with your identity." if keyless else ""
    return click.option("--key", metavar="REF", type=KeyReference(keyless), help=text + more, **settings)


def signer_option(**settings: Any) -> Callable[[F], F]:
    """Return the option `--by` of a command that has `--key` too."""
    text = "Your name. With --key, as in deployments/people.yaml; without, nobody verifies it."
    return click.option("--by", metavar="NAME", type=Words(), help=text, **settings)


def use_key(key: str) -> None:
    """Set the variables that cosign needs for a key in this process, whose run signs with it; empty: there is none."""
    if key:
        os.environ.update(read_key_variables(key))


def sign_document(kind: DocumentKind, document: Path, key: str) -> Path:
    """Sign the document as it is now, write the bundle next to it, and return the bundle's path.

    A person signs for the installation that deployments/people.yaml names, which is printed. That document is verified
    where the workbench block has its owner's key; otherwise a note says so. Raises the errors of
    `cosign.sign_for_person` and `read_installation`, and `ToolMissing`.
    """
    return sign_content(kind, document, document.read_bytes(), key)


def sign_content(kind: DocumentKind, document: Path, content: bytes, key: str) -> Path:
    """Sign content as the document with this path, which need not exist; otherwise as `sign_document`."""
    cosign = find_cosign().with_environment(**read_key_variables(key))
    at = datetime.now(UTC)
    installation = _find_installation(at) if kind is not DocumentKind.PEOPLE else ""
    statement = make_document_statement(kind, document.name, content, installation, at)
    bundle = sign_for_person(cosign, key, statement, find_project() / TRUSTED_ROOT.parent)
    signed = locate_signature(document)
    write_readable(signed, bundle)
    if installation:
        click.echo(f"signed for {name_installation(installation)}")
    return signed


def write_readable(file: Path, content: bytes) -> None:
    """Write a file atomically that every user can read; on an error the old file stays."""
    write_private(file, content)
    file.chmod(0o644)


def _find_installation(now: datetime) -> str:
    """Return the installation for which a person signs; note it if nobody knows whether the owner named it."""
    project = find_project()
    owner = find_owner_key() if locate_signature(project / FILE).exists() else ""
    installation = read_installation(project, owner, now)
    if installation.unverified:
        click.echo(f"note: {FILE} is not verified: {installation.unverified}", err=True)
    return installation.name


def find_owner_key() -> str:
    """Return the public key of the owner of people.yaml; empty if the workbench block has none, or is not there.

    It is not there on the machine of a person who only signs.
    """
    from httpx import HTTPError  # noqa: PLC0415 - Prefect's client does not wrap this error

    try:
        return str(load_block("Workbench", "workbench").people_owner)
    except (ModuleNotFoundError, SupplyChainError, HTTPError):
        return ""


def require_place(file: Path, directory: Path, suffix: str) -> None:
    """Raise `DeclarationInvalid` unless a document is where the gates read it."""
    if file.resolve().parent != (find_project() / directory).resolve() or file.suffix != suffix:
        raise DeclarationInvalid(
            f"{file} is not {directory}/NAME{suffix} of this project.\nMove it there, and sign it."
        )


def find_cosign() -> Tool:
    """Return cosign; raise `ToolMissing` if it is not installed."""
    project = find_project()
    return Toolbox(find_home(project) / TOOLS, Pins.load(project / "deployments/tools.yaml")).find("cosign")


def read_key_variables(key: str) -> Mapping[str, str]:
    """Return the variables that cosign needs for a key; ask for the password of a file if it is not set."""
    settings = read_signing_variables()
    if KEY_VARIABLE not in settings and key != KEYLESS and Path(key).is_file():
        settings[KEY_VARIABLE] = click.prompt(
            f"Password of {key} (Enter if it has none)", hide_input=True, default="", show_default=False, err=True
        )
    return settings
