"""A project with people and waivers, and the keys with which they sign."""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import yaml

from supply_chain.execution.signed_project import read_signable
from supply_chain.model.image import digest_of
from supply_chain.policy.activation import LISTING, list_files
from supply_chain.policy.loading import DIRECTORY as POLICIES
from supply_chain.policy.people import FILE, TRUSTED_ROOT, PeopleOwner
from supply_chain.policy.signed_documents import DocumentKind, locate_signature, make_document_statement
from supply_chain.policy.waivers import DIRECTORY
from tests.support.builders import NOON
from tests.support.command import ROOT
from tests.support.signer import EcdsaSigner
from tests.support.signing_service import KeylessSigner, SigningService

EVERYTHING: dict[str, Any] = {"rules": ["scan.*", "sbom.*", "a.*"], "vulnerabilities": "critical", "days": 90}


TERMS: dict[str, Any] = {
    "justifications": ["component_not_present", "vulnerable_code_not_in_execute_path"], "investigation_days": 7,
}  # fmt: skip


def copy_shipped(project: Path) -> None:
    """Copy what people sign of a project, as it ships: policies, environments and names."""
    for name in ("policies", "environments"):
        shutil.copytree(ROOT / "deployments" / name, project / "deployments" / name)
    shutil.copy(ROOT / "deployments/names.yaml", project / "deployments")


def raise_version(policy: Path) -> int:
    """Give a policy the next version, so that it differs from what ships; return that version."""
    text = policy.read_text()
    (found,) = re.findall(r"^version: (\d+)$", text, re.MULTILINE)
    policy.write_text(text.replace(f"version: {found}\n", f"version: {int(found) + 1}\n"))
    return int(found) + 1


@dataclass
class Office:
    """Ann may waive everything that can be waived, Bob asks for it, and the owner says so."""

    project: Path
    owner: EcdsaSigner = field(default_factory=EcdsaSigner)
    ann: EcdsaSigner = field(default_factory=EcdsaSigner)
    bob: EcdsaSigner = field(default_factory=EcdsaSigner)
    issuers: dict[str, EcdsaSigner] = field(default_factory=dict)
    """Whose VEX documents count."""
    builders: dict[str, Any] = field(default_factory=dict)
    """Whose provenance counts, as the people document has it."""
    terms: dict[str, Any] = field(default_factory=dict)
    """Changes of what issuers may state."""
    policies: tuple[str, ...] = ()
    """Who may change policies."""
    break_glass: dict[str, Any] | None = field(default_factory=lambda: {"environments": ["production"], "hours": 8})
    """Where Ann may break the glass, and for how long."""
    may: dict[str, Any] = field(default_factory=dict)
    """What else Ann may do."""
    bob_may: dict[str, Any] = field(default_factory=dict)
    """What else Bob may do."""
    service: SigningService | None = None
    """What certifies identities."""

    installation: str = "example"
    """The installation for which they sign."""

    @property
    def people_owner(self) -> PeopleOwner:
        """Whose people document counts."""
        return PeopleOwner(self.owner.public)

    def write_people(self, signer: EcdsaSigner | None = None, at: datetime = NOON, **changes: Any) -> Path:
        """Write and sign the people document; `changes` are changes of Ann's role."""
        people: dict[str, dict[str, Any]] = {
            "ann": {
                "keys": [self.ann.public],
                "approve": ["production"],
                "waive": EVERYTHING | changes,
                "break_glass": self.break_glass,
                **self.may,
            },
            "bob": {"keys": [self.bob.public], "approve": ["production", "staging"], **self.bob_may},
        }
        for name in self.policies:
            people[name]["policies"] = True
        document: dict[str, Any] = {
            "installation": self.installation, "expires": NOON + timedelta(days=300), "people": people,
        }  # fmt: skip
        if self.service:
            root = self.project / TRUSTED_ROOT
            root.parent.mkdir(parents=True, exist_ok=True)
            root.write_bytes(self.service.trusted_root())
            document["trusted_root"] = digest_of(root.read_bytes())
        if self.issuers:
            keys = {name: {"keys": [issuer.public]} for name, issuer in self.issuers.items()}
            document["vex"] = {**TERMS, **self.terms, "issuers": keys}
        if self.builders:
            document["builders"] = self.builders
        return self.write(self.project / FILE, document, DocumentKind.PEOPLE, signer or self.owner, at)

    def waive(
        self, name: str, signer: EcdsaSigner | KeylessSigner | None = None, at: datetime = NOON, **changes: Any
    ) -> Path:
        """Write and sign a waiver of CVE-2026-1 for every application for 30 days; `changes` make another of it."""
        given = {
            "vulnerabilities": () if changes.get("rules") else ("CVE-2026-1",), "applications": ("*",),
            "reason": "not reachable", "ticket": "SEC-1", "requester": "bob", "expires": NOON + timedelta(days=30),
        }  # fmt: skip
        return self.write(self.project / DIRECTORY / f"{name}.yaml", given | changes, DocumentKind.WAIVER, signer, at)

    def sign_policies(
        self,
        signer: EcdsaSigner | KeylessSigner,
        at: datetime = NOON,
        kind: DocumentKind = DocumentKind.POLICIES,
        name: str = LISTING,
    ) -> Path:
        """Sign the policies, names and environments of the project as they are, and return the bundle's path."""
        document, content = self.project / POLICIES / LISTING, list_files(read_signable(self.project))
        document.write_bytes(content)
        bundle = locate_signature(document)
        statement = make_document_statement(kind, name, content, self.installation, at)
        bundle.write_bytes(signer.sign(statement))
        return bundle

    def write(
        self, file: Path, document: dict[str, Any], kind: DocumentKind, signer: EcdsaSigner | KeylessSigner | None,
        at: datetime,
    ) -> Path:  # fmt: skip
        """Write a document, and sign it; as Ann by default."""
        file.parent.mkdir(parents=True, exist_ok=True)
        plain = {key: list(value) if isinstance(value, tuple) else value for key, value in document.items()}
        file.write_text(yaml.safe_dump(plain))
        installation = "" if kind is DocumentKind.PEOPLE else self.installation
        statement = make_document_statement(kind, file.name, file.read_bytes(), installation, at)
        locate_signature(file).write_bytes((signer or self.ann).sign(statement))
        return file
