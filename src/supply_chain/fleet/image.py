"""The model of an image in the inventory: facts from the registry, its verified evidence, and the hosts.

All of it can be read again from its sources. No decision that could wrongly admit or remove an image rests on the
inventory alone: code that acts reads the evidence again.
"""

from __future__ import annotations

from typing import Literal, Self

from pydantic import AwareDatetime, Field

from supply_chain.model.image import Digest, ImageRef, Model, Source, StorageStatus, StoredManifest
from supply_chain.model.tier import Gate, TierName, name_gate
from supply_chain.policy.outcome import Reason, UsedBreakGlass
from supply_chain.vulnerability.findings import Database, Finding, Report


class Note(Model):
    """A signed statement about an image."""

    digest: Digest = Field(description="the referrer's")
    repository: str
    predicate_type: str
    signer: TierName
    at: AwareDatetime | None = Field(description="when it was made")
    message: str = Field(default="", description="its text, of a person's decision or a soak")


class Judgement(Model):
    """A verdict of a gate about an image."""

    gate: Gate
    environment: str = Field(default="", description="of the deploy gate, if it is stated")
    passed: bool
    at: AwareDatetime
    reasons: tuple[Reason, ...] = ()
    waivers: tuple[str, ...] = Field(default=(), description="the waivers that it rests on, each as name@digest")
    expires: AwareDatetime | None = Field(default=None, description="when the first of them expires")
    policy: Digest
    evidence: Digest = Field(description="its referrer")

    @property
    def gate_name(self) -> str:
        """The name of the gate for people, with the environment if there is one."""
        return name_gate(self.gate, self.environment)


class Scan(Model):
    """The last signed vulnerability report about an image."""

    scanner: str
    scanner_version: str
    database: Database
    scanned: AwareDatetime
    sbom: Digest | None
    findings: tuple[Finding, ...]

    @classmethod
    def of(cls, report: Report) -> Self:
        """Return the part of a report that the inventory stores."""
        return cls.model_validate({name: getattr(report, name) for name in cls.model_fields})

    @property
    def exploited(self) -> tuple[Finding, ...]:
        """The findings that are known to be exploited."""
        return tuple(f for f in self.findings if f.known_exploited)


class Running(Model):
    """A recorded deployment, and its last observation."""

    environment: str = Field(description="empty without a record")
    application: str
    container: str = Field(description="its id; in a cluster, the id of the object that creates its pods")
    name: str
    reverse_proxy: str = Field(default="", description="id of the reverse proxy; empty: none")
    address: str
    host: str = Field(description="the name of the container host's block; empty: in a cluster")
    cluster: str = Field(default="", description="the name of the cluster's block; empty: on a container host")
    namespace: str = Field(default="", description="in the cluster")
    workload: str = Field(
        default="", description="kind and name of the object that creates its pods, such as Deployment/hello"
    )
    pods: tuple[str, ...] = Field(default=(), description="the names of its pods, as last observed")
    since: AwareDatetime = Field(description="when it was deployed")
    break_glass: UsedBreakGlass | None = Field(default=None, description="the break-glass that it rests on; null: none")
    observed_at: AwareDatetime | None = Field(default=None, description="its last observation")
    healthy: bool | None = None

    @property
    def place(self) -> str:
        """Where it runs: the container host, or cluster and namespace."""
        return f"{self.cluster}/{self.namespace}" if self.cluster else self.host


class HostContainer(Model):
    """A container as a host reports it, whoever started it; in a cluster, the pods of a workload that use an image."""

    container: str = Field(description="its id; in a cluster, the id of the object that creates the pods")
    name: str
    digest: Digest = Field(description="of the image it is of")
    running: bool
    healthy: bool | None = Field(default=None, description="None if it cannot be asked")
    cluster: str = Field(default="", description="the name of the cluster's block; empty: on a container host")
    namespace: str = ""
    workload: str = Field(
        default="", description="kind and name of the object that creates the pods, such as Deployment/hello"
    )
    pods: tuple[str, ...] = Field(default=(), description="their names; empty: it may make some later")


class BuiltOn(Model):
    """An image that went into the build of another."""

    digest: Digest
    name: str = Field(description="its name in the Dockerfile")


class FleetImage(Model):
    """A curated image, and everything that is recorded of it."""

    ref: ImageRef
    stored: StoredManifest
    kind: Literal["service", "base", "unknown"] = "unknown"
    owner: str = ""
    source: Source | None = None
    environments: tuple[str, ...] = ()
    signed: bool = Field(default=False, description="whether curation released it")
    sbom: Digest | None = None
    sbom_content: Digest | None = Field(default=None, description="the SBOM's content, unzipped")
    scan: Scan | None = None
    judgements: tuple[Judgement, ...] = Field(default=(), description="all, the oldest first")
    notes: tuple[Note, ...] = Field(default=(), description="all verified statements, the oldest first")
    bases: tuple[BuiltOn, ...] = ()
    copies: tuple[Digest, ...] = ()
    running: tuple[Running, ...] = Field(default=(), description="where it runs, by record or observation")
    deployed: tuple[Running, ...] = Field(default=(), description="replaced deployments, the oldest first")
    blocked: str = Field(default="", description="by whom, when and why; empty: by nobody")
    held: str = Field(default="", description="by whom, when and why; empty: by nobody")
    missing: bool = Field(default=False, description="whether the registry no longer has it")
    unreadable: str = Field(default="", description="why its evidence cannot be read; empty if it can")

    @property
    def application(self) -> str:
        """The name of the application."""
        return self.ref.application

    @property
    def shelved(self) -> bool:
        """Whether the image is archived and runs nowhere: nobody can pull it before it is restored."""
        return self.stored.status is StorageStatus.ARCHIVED and not self.running

    @property
    def released(self) -> bool:
        """Whether the image is released: signed, admitted by the last verdict of the release gate.

        A last verdict of the intake gate has to admit it too.
        """
        intake, release = self.last(Gate.INTAKE), self.last(Gate.RELEASE)
        return self.signed and release is not None and release.passed and (intake is None or intake.passed)

    def last(self, gate: Gate) -> Judgement | None:
        """Return the last verdict of a gate; if two have the same time, a refusal counts."""
        of = (j for j in self.judgements if j.gate is gate)
        return max(of, key=lambda j: (j.at, not j.passed), default=None)

    @property
    def last_judgements(self) -> tuple[Judgement, ...]:
        """The gates' last verdicts; those of the deploy gate for each environment that they name."""
        last: dict[str, Judgement] = {}
        for each in sorted(self.judgements, key=lambda j: (j.at, not j.passed)):
            last[each.gate_name] = each
        stand = (each for each in last.values() if each.environment or each == self.last(each.gate))
        return tuple(sorted(stand, key=lambda each: each.gate_name))

    @property
    def refusals(self) -> tuple[Judgement, ...]:
        """The last verdicts that are refusals."""
        return tuple(each for each in self.last_judgements if not each.passed)

    def drop_details(self) -> FleetImage:
        """Return a copy with reference, storage, owner and deployments only, to hold all images during a rescan."""
        return FleetImage(ref=self.ref, stored=self.stored, owner=self.owner, running=self.running)

    def keep_exploited_findings(self) -> FleetImage:
        """Return a copy with only the findings that are known to be exploited, for when many images are in memory."""
        scan = self.scan.model_copy(update={"findings": self.scan.exploited}) if self.scan else None
        return self.model_copy(update={"scan": scan})
