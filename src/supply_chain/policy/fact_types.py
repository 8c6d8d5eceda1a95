"""The facts that the expressions of a policy read, by gate: the names, types and meanings of all of them.

A field that is `NotRequired` is absent if there is nothing to state. An expression tests that with `has(…)`; one that
reads an absent field cannot be evaluated. Fields never have a value that stands for "nothing".
"""

from __future__ import annotations

from datetime import datetime
from typing import NotRequired, TypedDict

from supply_chain.model.tier import Gate


class BlockFacts(TypedDict):
    """A block of an image."""

    image: str
    """The blocked image."""
    by: str
    """The person or rule that blocked it."""
    reason: str
    at: datetime
    text: str
    """The block in one line."""


class LimitsFacts(TypedDict):
    """What the owner accepts, as declared."""

    scan_days: int
    """Days for which a scan is valid."""
    unknown_distribution: bool
    """Whether the vulnerability database need not know the distribution."""


class DeclaredFacts(TypedDict):
    """What the declaration and the source determine of a build."""

    name: str
    """The declared name of the application."""
    kind: str
    """`service` or `base`."""
    owner: str
    classification: str
    """`public`, `internal` or `confidential`."""
    environments: list[str]
    """The declared environments."""
    repository: str
    """The git remote of the source, or the name of its directory."""
    path: str
    """The directory in the repository."""
    revision: str
    """The commit."""
    branch: str
    """The branch that was checked out when it was read, as the builder states; empty: none."""
    uncommitted: bool
    """Whether the source differed from the commit."""
    committers: list[str]
    """E-mail addresses of the author and the committer of the last commit that changed it, as git records them; empty
    if that is unknown, and for a source that differs from its commit."""
    required_checks: list[str]
    """The checks that this kind of application requires."""
    limits: LimitsFacts


class PlannedFacts(DeclaredFacts):
    """What the Dockerfile determines besides."""

    uncurated: list[str]
    """Bases that are not curated."""


class BuildFacts(PlannedFacts):
    """The newest build that development signed."""

    reviewers: list[str]
    """The people who signed with keys of their own that they reviewed the commit, and did not make the last change;
    empty if the source differed from the commit."""
    builder: str
    """The identity of the builder."""
    finished: datetime
    level: str
    """The highest level of SLSA's Build track that this build, or attached provenance of a trusted builder, shows."""
    level_builder: NotRequired[str]
    """The name of the trusted builder whose provenance shows it; absent: this build shows it."""


class CheckFacts(TypedDict):
    """The newest result of one check."""

    failed: list[str]
    """A sentence for each failure."""
    examined: bool
    """Whether the check examined anything."""
    finished: datetime


class SourceChecksFacts(TypedDict):
    """The checks that need no image."""

    dockerfile: NotRequired[CheckFacts]
    source: NotRequired[CheckFacts]
    secrets: NotRequired[CheckFacts]
    dependencies: NotRequired[CheckFacts]


class ImageChecksFacts(SourceChecksFacts):
    """The checks of a built image besides."""

    probe: NotRequired[CheckFacts]
    command: NotRequired[CheckFacts]


class ChecksFacts(ImageChecksFacts):
    """The checks whose results development signed."""

    tests: NotRequired[CheckFacts]
    content: NotRequired[CheckFacts]
    tests_reported: bool
    """Whether a test runner's own report shows that tests ran."""


class WaiverFacts(TypedDict):
    """A waiver that accepts a finding."""

    name: str
    digest: str
    """The digest of its document."""
    by: str
    """Who signed it."""
    reason: str
    expires: datetime


class VexFacts(TypedDict):
    """What an issuer states about a finding (VEX)."""

    status: str
    """`not_affected`, `affected`, `fixed` or `under_investigation`."""
    justification: NotRequired[str]
    """Of `not_affected`."""
    text: str
    by: str
    """The author and the document."""
    at: datetime
    until: NotRequired[datetime]
    """When `not_affected` or an investigation ends."""
    accepted: bool
    """Whether the finding does not count because of it."""


class FindingFacts(TypedDict):
    """One vulnerability in one package."""

    id: str
    aliases: list[str]
    severity: str
    """`critical`, `high`, `medium`, `low`, `negligible` or `unknown`."""
    package: str
    version: str
    type: str
    """The kind of package: `deb`, `python`, `go-module` and others."""
    fixed_in: list[str]
    exploited: bool
    """Whether it is known to be exploited."""
    epss: NotRequired[float]
    """Probability of an exploit, from 0 to 1."""
    cvss: NotRequired[float]
    """The highest base score of it and of its aliases, from 0 to 10."""
    published: NotRequired[datetime]
    """When a source of the database first published it or an alias."""
    fixed_since: NotRequired[datetime]
    """The day of the first version that fixes it."""
    layer: NotRequired[str]
    """The layer that last wrote the file which lists the package, by its unpacked digest."""
    waiver: NotRequired[WaiverFacts]
    """The waiver that accepts it; rules that nobody may waive see none."""
    vex: NotRequired[VexFacts]
    vex_contradiction: NotRequired[str]
    """Which issuers contradict each other about it."""
    text: str
    """The finding in one line."""
    fix: str
    """What removes it."""


class ReleaseFindingFacts(FindingFacts):
    """The same, compared with the image's bases."""

    base: NotRequired[str]
    """A curated base that the image begins with and that has the same package in the same version."""


class SeverityFacts(TypedDict):
    """The findings of one severity, without those that a waiver or an accepted VEX statement removes."""

    severity: str
    found: int
    fixable: int
    accepted: NotRequired[int]
    """The most findings that the owner accepts; absent: any number."""
    worst: str
    """The first five, and how many more there are."""


class ScannerFacts(TypedDict):
    """What made a vulnerability report, and its summary."""

    scanned: datetime
    scanner: str
    version: str
    database: str
    """`official` or `starter`."""
    database_built: datetime
    database_digest: str
    severities: list[SeverityFacts]
    """Each severity, the worst first."""


class ScanFacts(ScannerFacts):
    """A vulnerability report."""

    findings: list[FindingFacts]
    """The worst first."""


class ImageScanFacts(ScanFacts):
    """The vulnerability report of an image."""

    unjudged: NotRequired[str]
    """The packages that the scanner did not judge, and why."""


class ReleaseScanFacts(ScannerFacts):
    """The vulnerability report of an image, compared with its bases."""

    findings: list[ReleaseFindingFacts]
    """The worst first."""
    unjudged: NotRequired[str]
    """The packages that the scanner did not judge, and why."""


class NameConflictFacts(TypedDict):
    """A name that belongs to another source."""

    name: str
    holder: str
    """Who holds it."""
    source: str
    """Who asks for it."""


class ClassificationConflictFacts(TypedDict):
    """A declared classification that is lower than the name register requires."""

    declared: str
    minimum: str


class LicenseFacts(TypedDict):
    """A licence that packages have."""

    license: str
    """As declared; an SPDX expression where there is one."""
    packages: int
    """The number of packages."""
    examples: str
    """The first five, and how many more there are."""


class SbomFacts(TypedDict):
    """The SBOM that curation signed."""

    packages: int
    """The number of packages."""
    names: list[str]
    """The packages, as `type/name`."""
    licenses: list[LicenseFacts]
    """Each licence of a package."""
    unlicensed: list[str]
    """The packages without a licence, as `type/name`."""


class LabelFacts(TypedDict):
    """A label of an image."""

    name: str
    value: str


class ContainerFacts(TypedDict):
    """What the image's configuration says about its containers, as the SBOM has it."""

    user: str
    """The user that its program runs as; empty: root."""
    ports: list[str]
    """The exposed ports, such as `8080/tcp`."""
    labels: list[LabelFacts]
    size: int
    """Bytes of all layers, unpacked."""


class ReleaseSbomFacts(SbomFacts):
    """The SBOM, compared with those of the image's bases."""

    missing: list[str]
    """Packages of the base that it lacks."""
    altered: list[str]
    """Packages of the base to which it gives another version, source or distribution."""


class PrivilegedFileFacts(TypedDict):
    """A file that gives more rights than its user has."""

    path: str
    rights: str
    """`setuid`, `setgid`, `capabilities`, `device` or `world-writable`, several with commas; or what it does."""


class ExaminationFacts(TypedDict):
    """What curation found in the image's files that no scanner judges, without what a base has or the owner accepts."""

    distribution: NotRequired[str]
    """The distribution that os-release names."""
    conflicts: list[str]
    """Where container engines would unpack other files."""
    differences: list[str]
    """Files, the SBOM, and at the release gate bases, that name another distribution."""
    databases: list[str]
    """Package databases besides the distribution's own."""
    archives: list[str]
    """Archives that no scanner opens."""
    privileged_files: list[PrivilegedFileFacts]
    """Files with setuid, setgid or capabilities, devices, world-writable system files, and a preload of libraries; also
    those that a base has."""
    unlisted: int
    """How many more databases and archives there are."""
    accepted: list[str]
    """What the owner accepts, at most twenty."""
    accepted_more: int
    """How much more the owner accepts."""


class ReleaseExaminationFacts(ExaminationFacts):
    """The examination, compared with those of the image's bases."""

    base_distributions: list[str]
    """Bases that are of another distribution, accepted or not."""


class EncryptionFacts(TypedDict):
    """The last record of encryption at rest."""

    key: str
    copy_of: NotRequired[str]
    """The digest of which there is an encrypted copy."""


class VerdictFacts(TypedDict):
    """The last verdict of a gate."""

    passed: bool
    at: datetime
    refused: list[str]
    """The codes of its reasons, if it refuses the image."""
    reasons: list[str]
    """The same reasons, each as `CODE: TEXT`."""
    refused_findings: list[str]
    """The digest of all findings that each rule refuses the image for, as `CODE: DIGEST`."""
    waivers: list[str]
    """The waivers that it rests on, each as `name@digest` of its document."""
    ended_waivers: list[str]
    """Those of them that have no effect on the image any more."""
    expires: NotRequired[datetime]
    """When the first of the people's decisions ends that it rests on."""


class VerdictsFacts(TypedDict):
    """The last verdicts of the earlier gates."""

    intake: NotRequired[VerdictFacts]
    release: NotRequired[VerdictFacts]


class ApprovalFacts(TypedDict):
    """The last decision of a person about the image in the environment."""

    approved: bool
    by: str
    reason: str
    at: datetime


class BreakGlassFacts(TypedDict):
    """That a person lets the image run although the gate refuses it."""

    by: str
    reason: str
    at: datetime
    """When the person signed it."""
    expires: datetime
    overrides: list[str]
    """What it overrides: codes of rules, and with the code each finding, reason of an earlier gate with the digest of
    its findings, or ended waiver."""


class SoakFacts(TypedDict):
    """The longest soak in the environment in which one is required."""

    seconds: int
    text: str


class RequiredSoakFacts(TypedDict):
    """A soak that an environment requires."""

    environment: str
    seconds: int
    time: str
    """The time in words."""


class EnvironmentFacts(TypedDict):
    """What the environment requires."""

    name: str
    approval: bool
    """Whether a person has to approve."""
    signed_approvals: int
    """How many people have to approve with keys of their own; 0 if an unsigned approval is enough."""
    test_report: bool
    """Whether a test runner's own report has to show that tests ran."""
    soak: NotRequired[RequiredSoakFacts]


class StatementFacts(TypedDict):
    """The newest verified statement of a predicate type and signer about the image."""

    predicate_type: str
    """Such as `https://slsa.dev/provenance/v1`."""
    signer: str
    """The tier whose key signed it, or `lifecycle`."""
    signed: NotRequired[datetime]
    """The time in the signed content; a signature of cosign has none."""


class ImageValues(TypedDict):
    """The facts of every gate."""

    repository: str
    digest: str
    application: str
    """The application that the repository is for."""
    block: NotRequired[BlockFacts]
    build: NotRequired[BuildFacts]
    classification_conflict: NotRequired[ClassificationConflictFacts]
    checks: ChecksFacts
    statements: list[StatementFacts]
    """Sorted by predicate type and signer."""
    ignored: list[str]
    """What else is attached to the image, and why that is not evidence."""


class IntakeValues(ImageValues):
    """The facts of the intake gate."""

    name_conflict: NotRequired[NameConflictFacts]
    source_scan: NotRequired[ScanFacts]


class BaseFacts(TypedDict):
    """A curated base that the image is built on or copies from, or that one of these is."""

    image: str
    built: NotRequired[datetime]


class CuratedValues(ImageValues):
    """The facts of both gates that decide about an image in the curated repository."""

    bases: list[BaseFacts]
    """All curated bases that went into the image, also those that it only copies from."""
    blocked_bases: list[BlockFacts]
    container: NotRequired[ContainerFacts]
    encryption: NotRequired[EncryptionFacts]


class ReleaseValues(CuratedValues):
    """The facts of the release gate."""

    scan: NotRequired[ReleaseScanFacts]
    sbom: NotRequired[ReleaseSbomFacts]
    examination: NotRequired[ReleaseExaminationFacts]
    copied_bases: list[str]
    """Curated bases that the build only copied from."""


class DeployValues(CuratedValues):
    """The facts of the deploy gate."""

    scan: NotRequired[ImageScanFacts]
    sbom: NotRequired[SbomFacts]
    examination: NotRequired[ExaminationFacts]
    signed: bool
    """Whether curation signed the image."""
    verdicts: VerdictsFacts
    environment: EnvironmentFacts
    approval: NotRequired[ApprovalFacts]
    approvers: list[str]
    """The people who approved it for the environment with keys of their own, and may do that."""
    independent_approvers: list[str]
    """Those of the approvers who did not make the last commit, by their e-mail addresses in the people document; nobody
    if the committer is unknown."""
    break_glass: list[BreakGlassFacts]
    """What people who may do that signed to let it run although the gate refuses it, also what has expired."""
    soak: NotRequired[SoakFacts]


class CheckedValues(TypedDict):
    """The facts of the intake gate that the checks of a working copy determine."""

    repository: str
    application: str
    checks: SourceChecksFacts
    classification_conflict: NotRequired[ClassificationConflictFacts]
    source_scan: ScanFacts


class DeclaredValues(CheckedValues):
    """The same, with what the declaration determines."""

    build: DeclaredFacts


class PlannedValues(CheckedValues):
    """The same, with what a Dockerfile determines that can be built."""

    build: PlannedFacts


class ImageCheckedValues(TypedDict):
    """The facts of the intake gate that the checks of a local image determine."""

    repository: str
    application: str
    checks: ImageChecksFacts
    build: DeclaredFacts


class ImageScannedValues(TypedDict):
    """The facts of the release gate that the scan of a local image determines."""

    repository: str
    application: str
    build: DeclaredFacts
    scan: ImageScanFacts


FACTS: dict[Gate, type] = {Gate.INTAKE: IntakeValues, Gate.RELEASE: ReleaseValues, Gate.DEPLOY: DeployValues}
"""Gate → the type of the variable `image` in its expressions."""
