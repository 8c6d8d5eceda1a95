"""Keyless signatures with cosign: it signs at a service on loopback, and verifies what the tests' service certifies.

Only the log in is not real: the service believes the token, as if a provider had made it.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml

from cscm_laptop.home import Home
from supply_chain.adapters.process.command import CommandResult
from supply_chain.adapters.tools import Toolbox
from supply_chain.adapters.tools.cosign import KEYLESS, sign_for_person, sign_statement
from supply_chain.errors import SignatureFailed
from supply_chain.evidence.keyless import Identity, SignedContent, verify_content
from supply_chain.evidence.statement import make_image_statement
from supply_chain.model.image import digest_of
from supply_chain.policy.people import FILE, TRUSTED_ROOT, PeopleOwner, read_people
from supply_chain.policy.signed_documents import (
    SIGNED_DOCUMENT,
    DocumentKind,
    locate_signature,
    make_document_statement,
)
from supply_chain.policy.waivers import DIRECTORY, WaiverReport, WaiverState, read_waivers
from tests.support.command import ROOT, cscm
from tests.support.facts import CURATED
from tests.support.signed_project import owner_key
from tests.support.signing_server import id_token, serve, write_service
from tests.support.signing_service import ISSUER, KeylessSigner, SigningService

ANN = "ann@shop.example"


@dataclass
class Project:
    """A project whose people sign keyless, the service that certifies them, and the laptop's owner of people.yaml."""

    place: Path
    service: SigningService
    owner: PeopleOwner

    def waive(self, home: Home, subject: str) -> WaiverReport:
        """Sign a waiver with the command as whoever logs in so, and return what the gates make of it."""
        environment = {"SIGSTORE_ID_TOKEN": id_token(subject), "CSCM_HOME": str(home.directory)}
        file = DIRECTORY / "zlib.yaml"
        done = cscm("waive", str(file), "--key", KEYLESS, environment=environment, cwd=self.place)
        assert done.status == 0, done.stderr
        now = datetime.now(UTC)
        people = read_people(self.place / FILE, self.owner, now)
        (report,) = read_waivers(self.place / DIRECTORY, people, {}, now).reports
        return report


@pytest.fixture
def project(tmp_path: Path, home: Home, toolbox: Toolbox) -> Iterator[Project]:
    service, now = SigningService(), datetime.now(UTC)
    for name in ("tools.yaml", "profiles/laptop.yaml"):
        (tmp_path / "deployments" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / "deployments" / name, tmp_path / "deployments" / name)
    waiver = {
        "vulnerabilities": ["CVE-2026-1"], "applications": ["*"], "reason": "so", "ticket": "A-1", "requester": "bob",
        "expires": now + timedelta(days=1),
    }  # fmt: skip
    (tmp_path / DIRECTORY).mkdir()
    (tmp_path / DIRECTORY / "zlib.yaml").write_text(yaml.safe_dump(waiver))
    with serve(service) as address:
        write_service((tmp_path / TRUSTED_ROOT).parent, service, address)
        ann = {"identities": [{"issuer": ISSUER, "subject": ANN}], "waive": {"vulnerabilities": "low", "days": 9}}
        people = {
            "installation": "example", "expires": now + timedelta(days=1), "people": {"ann": ann},
            "trusted_root": digest_of((tmp_path / TRUSTED_ROOT).read_bytes()),
        }  # fmt: skip
        document = tmp_path / FILE
        document.write_text(yaml.safe_dump(people))
        statement = make_document_statement(DocumentKind.PEOPLE, document.name, document.read_bytes(), "", now)
        cosign = toolbox.find("cosign").with_environment(COSIGN_PASSWORD="")
        locate_signature(document).write_bytes(sign_statement(cosign, owner_key(home), statement))
        yield Project(tmp_path, service, PeopleOwner(home.read_owner_key()))


def test_keyless_waiver_is_active_only_for_listed_identity(project: Project, home: Home) -> None:
    """It counts for whom the owner listed."""
    report = project.waive(home, ANN)
    assert (report.state, report.by) == (WaiverState.ACTIVE, "ann"), report
    report = project.waive(home, "eve@shop.example")
    assert report.state is WaiverState.INERT and "its certificate names eve@shop.example" in report.why


def test_signature_of_cosign_is_verified(project: Project, toolbox: Toolbox) -> None:
    """Its time is when the service recorded it."""
    cosign = toolbox.find("cosign").with_environment(SIGSTORE_ID_TOKEN=id_token(ANN))
    statement = make_image_statement(CURATED, "urn:x", {"a": 1})
    bundle = sign_for_person(cosign, KEYLESS, statement, (project.place / TRUSTED_ROOT).parent)
    found = verify_content(bundle, Identity(ISSUER, ANN, project.service.trusted_root()))

    assert isinstance(found, SignedContent), found
    assert found.envelope.payload == statement.bytes()
    assert found.at is not None and abs(found.at - datetime.now(UTC)) < timedelta(minutes=1)


def test_keyless_signing_without_login_fails(
    project: Project, toolbox: Toolbox, capfd: pytest.CaptureFixture[str]
) -> None:
    """The person sees what cosign asks, and the error says what it answered."""
    with pytest.raises(SignatureFailed, match=r"OIDC issuer.*\n.*Log in again"):
        sign_for_person(
            toolbox.find("cosign"),
            KEYLESS,
            make_image_statement(CURATED, "urn:x", {}),
            (project.place / TRUSTED_ROOT).parent,
        )
    assert "device flow" in capfd.readouterr().err


@pytest.mark.parametrize(("subject", "trusted"), [(ANN, True), ("eve@shop.example", True), (ANN, False)])
def test_cosign_verifies_bundle_of_test_signing_service(
    toolbox: Toolbox, tmp_path: Path, subject: str, trusted: bool
) -> None:
    """So the unit tests' service is right, and not only for our code."""
    service, content = SigningService(), b"content"
    statement = make_document_statement(DocumentKind.WAIVER, "zlib.yaml", content, "example", datetime.now(UTC))
    (tmp_path / "bundle.json").write_bytes(KeylessSigner(service, subject).sign(statement))
    (tmp_path / "root.json").write_bytes((service if trusted else SigningService()).trusted_root())
    (tmp_path / "content").write_bytes(content)
    done: CommandResult = toolbox.find("cosign").run(
        "verify-blob-attestation", "--bundle", tmp_path / "bundle.json", "--trusted-root", tmp_path / "root.json",
        "--certificate-identity", ANN, "--certificate-oidc-issuer", ISSUER, "--type", SIGNED_DOCUMENT,
        tmp_path / "content", timeout=60, check=False,
    )  # fmt: skip

    assert (done.status == 0) is (subject == ANN and trusted), done.stderr
