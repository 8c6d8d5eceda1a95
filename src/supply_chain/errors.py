"""All errors that a user can see; each docstring has the cause and its meaning, a blank line, and the remedy.

A refusal is not an error but an answer of a gate (`supply_chain.policy.outcome.Refused`). An error means that there is
no answer, and therefore that nothing was admitted.
"""

from __future__ import annotations

from typing import ClassVar

from supply_chain.text import sanitize_lines


class SupplyChainError(Exception):
    """Base class of all errors; each subclass has a stable, published code."""

    code: ClassVar[str] = "cscm.error"
    retryable: ClassVar[bool] = False

    @property
    def message(self) -> str:
        """Return what happened and the remedy, without the code."""
        return super().__str__()

    def __str__(self) -> str:
        return f"{sanitize_lines(self.message)} [{self.code}]"


class DeclarationInvalid(SupplyChainError):
    """A file that a person wrote is invalid. Nothing was started.

    Correct the line that the message names.
    """

    code = "declaration.invalid"


class SourceInvalid(SupplyChainError):
    """The source breaks a rule for what can be built, or its git repository cannot be read.

    Correct the path that the message names; docs/explanation/source.md has the rules.
    """

    code = "source.invalid"


class SettingInvalid(SupplyChainError):
    """A setting of the operator is missing or invalid, or contradicts another.

    Correct what the message names: block, environment, profile or name register.
    """

    code = "setting.invalid"


class LaptopMissing(SupplyChainError):
    """A command needs the laptop, and the project is installed without it.

    Install the extra `laptop`, or set PREFECT_API_URL to use another Prefect server.
    """

    code = "laptop.missing"


class ToolMissing(SupplyChainError):
    """A program that the chain needs is not installed.

    Run `cscm up`; `cscm doctor` lists what is still missing.
    """

    code = "tool.missing"


class ToolFailed(SupplyChainError):
    """A program ended without the result that it was run for.

    Read its output in the run's log.
    """

    code = "tool.failed"


class ToolTimedOut(SupplyChainError):
    """A program exceeded its timeout and was stopped.

    Read its last output in the log, or raise the timeout (of a build: `build.timeout`).
    """

    code = "tool.timed-out"


class Cancelled(SupplyChainError):
    """The run was cancelled.

    Start it again; proven steps are not repeated.
    """

    code = "run.cancelled"


class BuildFailed(SupplyChainError):
    """The image could not be built.

    Read the build's output in the run's log.
    """

    code = "build.failed"


class DockerfileRefused(SupplyChainError):
    """The Dockerfile asks for something that a build may not have. Nothing was built.

    Change the line that the message names, or declare in `build.fetch` what the build fetches.
    """

    code = "dockerfile.refused"


class BuildMaterialsDiffer(SupplyChainError):
    """BuildKit used something that the chain did not read from the Dockerfile.

    Report this. Try a newer engine or a simpler Dockerfile.
    """

    code = "build.materials-differ"


class FetchFailed(SupplyChainError):
    """A file that the Dockerfile adds by its URL cannot be fetched as declared.

    Check URL and checksum in `build.fetch.urls`; hosts in private networks are not allowed.
    """

    code = "build.fetch-failed"


class BuildLimitExceeded(SupplyChainError):
    """A build exceeded its limits, or its image is larger than declared.

    Use less, or raise the limit: `build_memory`, `build_processes` or `build_disk` of the container host,
    `build.max_size` of the image.
    """

    code = "build.limit"


class BaseMissing(SupplyChainError):
    """A base image that the Dockerfile names is not available, or is blocked.

    Run `cscm bases`, or declare another image by digest.
    """

    code = "base.missing"


class CheckIncomplete(SupplyChainError):
    """A check could not be carried out: neither a pass nor a failure.

    Correct what the message names.
    """

    code = "check.incomplete"


class ScannerFailed(SupplyChainError):
    """The scanner gave no complete report.

    Check scanner and database with `cscm doctor`.
    """

    code = "scanner.failed"


class RescanIncomplete(SupplyChainError):
    """Some images could not be judged. The results of all others are signed.

    Resolve the errors in the message, and run `cscm rescan`; it continues.
    """

    code = "rescan.incomplete"


class DatabaseUnusable(SupplyChainError):
    """The vulnerability database is missing, damaged or too old.

    Run `cscm up`.
    """

    code = "scanner.database-unusable"


class DatabaseOutdated(SupplyChainError):
    """The vulnerability database is older than the one of the image's last scan.

    Run `cscm up` on the machine that scans.
    """

    code = "scanner.database-outdated"


class PolicyInvalid(SupplyChainError):
    """A policy cannot be used: an expression does not fit the facts, or a rule's own test gives another result.

    Correct the rule that the message names, and run `cscm policy check`. No gate decides with such a policy.
    """

    code = "policy.invalid"


class PolicyUnsigned(SupplyChainError):
    """Policies, an environment or names.yaml are not as they ship, and no authorised person signed them.

    The gate does not decide. `cscm policy check` and `cscm policy preview` read policies without a signature. The owner
    of deployments/people.yaml, or a person with `policies: true` there, signs them: `cscm policy sign --key REF`.
    """

    code = "policy.unsigned"


class RuleNotEvaluated(SupplyChainError):
    """A rule cannot be evaluated for this image. Nothing was admitted.

    Correct the rule's expression, or the evidence that the fact is read from.
    """

    code = "policy.not-evaluated"


class EvidenceInvalid(SupplyChainError):
    """Evidence exists but cannot be read or verified.

    Find it with `cosign tree IMAGE`, and have an administrator remove it. For provenance, SBOMs and scans of an older
    version, `--force` is enough.
    """

    code = "evidence.invalid"


class TooManyReferrers(EvidenceInvalid):
    """The image has more foreign attachments than the chain reads, so its evidence is unknown.

    Find them with `cosign tree IMAGE`, and have an administrator remove them.
    """

    code = "evidence.too-many-referrers"


class GateSuperseded(SupplyChainError):
    """A gate refused the image after this run had read the evidence.

    Run it again to get the reasons.
    """

    code = "gate.superseded"
    retryable = True


class VerdictMissing(SupplyChainError):
    """The image has no valid published verdict, so an enforcer refuses it.

    The gate may not have judged it yet: run `cscm curate` or `cscm deploy`.
    """

    code = "verdict.missing"


class SignatureFailed(SupplyChainError):
    """A signature could not be made or verified.

    Check cosign and KMS with `cscm doctor`.
    """

    code = "signature.failed"


class ImageNotFound(SupplyChainError):
    """The registry or the inventory has no such image.

    Take the digest from `cscm images`, or run the previous tier first.
    """

    code = "image.not-found"


class ImageArchived(SupplyChainError):
    """The image is archived, so nobody can pull it, although it is not blocked.

    Wait up to 20 minutes after an unblock. Otherwise restore it: `aws ecr update-image-storage-class --repository-name
    NAME --image-id imageDigest=DIGEST --target-storage-class STANDARD`.
    """

    code = "image.archived"
    retryable = True


class ImageDamaged(SupplyChainError):
    """The content in the registry does not match the image's digest.

    Check the registry's storage and who can write to it, and build again.
    """

    code = "image.damaged"


class RegistryFailed(SupplyChainError):
    """The registry refused or could not complete a request.

    Read its answer in the message, and its log.
    """

    code = "registry.failed"


class RegistryUnavailable(RegistryFailed):
    """The registry did not answer, or asked to try later.

    Check the registry's address in the tier's block, and the network; on a laptop, run `cscm up`.
    """

    code = "registry.unavailable"
    retryable = True


class PackageIndexFailed(SupplyChainError):
    """A package index or archive gave an answer that cannot be used.

    Check the workbench's `python_indexes`, `debian_archives` and `npm_registries`.
    """

    code = "packages.index-failed"


class PackageIndexUnavailable(PackageIndexFailed):
    """A package index or archive did not answer.

    Check the workbench's `python_indexes`, `debian_archives` and `npm_registries`, and the network.
    """

    code = "packages.index-unavailable"
    retryable = True


class AccessDenied(SupplyChainError):
    """The role of the tier has no permission for this request.

    Give the tier its own role and keys (deployments/iam/).
    """

    code = "access.denied"


class KeyUnusable(SupplyChainError):
    """A key is missing, disabled, not rotated or of the wrong kind.

    Enable the key (`aws kms enable-key --key-id KEY`) or its rotation (`aws kms enable-key-rotation --key-id KEY`), or
    name the right key in the tier's block.
    """

    code = "key.unusable"


class InventoryFailed(SupplyChainError):
    """The inventory's database refused a request.

    Read its answer in the message. `cscm inventory --rebuild` replaces a lost database.
    """

    code = "inventory.failed"


class InventoryUnavailable(InventoryFailed):
    """The inventory's database did not answer, or was busy.

    Start it, or correct its address in the block `inventory`.
    """

    code = "inventory.unavailable"
    retryable = True


class AwsFailed(SupplyChainError):
    """AWS returned an error that is not listed here.

    Read its answer in the message; check the tier's block.
    """

    code = "aws.failed"


class AwsUnavailable(AwsFailed):
    """AWS did not answer, or throttled the request.

    Check the endpoint in the tier's block, and the network.
    """

    code = "aws.unavailable"
    retryable = True


class ClockWrong(SupplyChainError):
    """The clock of this machine, or of one that signed evidence, is wrong.

    Set the clocks. Wait until the time of the evidence, or have an administrator remove it, and make it again.
    """

    code = "clock.wrong"


class DiskFull(SupplyChainError):
    """A disk to which the chain writes is full.

    Free space for temporary files (TMPDIR) or in the engine's directory.
    """

    code = "disk.full"


class EngineUnavailable(SupplyChainError):
    """The container engine did not answer.

    Start the engine (`cscm up` on a laptop).
    """

    code = "engine.unavailable"
    retryable = True


class EngineUnsuitable(SupplyChainError):
    """The container engine lacks something that the chain needs.

    Install Docker Engine 26.1 or later with the containerd image store; `cscm doctor` lists what is missing.
    """

    code = "engine.unsuitable"


class ClusterUnavailable(SupplyChainError):
    """The cluster did not answer.

    Check the address in the cluster's block.
    """

    code = "cluster.unavailable"
    retryable = True


class ClusterRefused(SupplyChainError):
    """The cluster refused a request.

    The message says which permission, policy, quota or webhook refused it.
    """

    code = "cluster.refused"


class ClusterConflict(ClusterRefused):
    """Another field manager owns a field, or somebody else deployed the application meanwhile.

    Find out who did, and let one place deploy it.
    """

    code = "cluster.conflict"


class NoSuitableNode(SupplyChainError):
    """No node of the cluster qualifies for the application.

    Label, untaint or uncordon a node, or correct `nodes` in the environment.
    """

    code = "cluster.no-node"


class ManifestsRefused(SupplyChainError):
    """Manifests would let an application do more than it declares.

    Correct what the message lists.
    """

    code = "manifests.refused"


class GitUnavailable(SupplyChainError):
    """The git repository did not answer, or others kept changing it.

    Check the address in the repository's block; the step is retried.
    """

    code = "git.unavailable"
    retryable = True


class GitRefused(SupplyChainError):
    """The git repository refused to be read or changed.

    The message says whether the account, a protected branch or a hook refused it.
    """

    code = "git.refused"


class DeploymentFailed(SupplyChainError):
    """The new container did not become ready. The previous one still serves.

    Read its last output in the message, and correct the application.
    """

    code = "deployment.failed"


class PortBusy(SupplyChainError):
    """Another program listens on an address that the chain needs.

    Stop it, or choose another port in the environment or the profile.
    """

    code = "port.busy"


class DownloadFailed(SupplyChainError):
    """A download is incomplete or has a wrong checksum.

    Check the network and the mirror.
    """

    code = "download.failed"


class ComponentFailed(SupplyChainError):
    """A part of the laptop, such as Prefect's server, did not start or answer.

    Read its log in the message, and run `cscm up`.
    """

    code = "component.failed"


class EngineFailed(SupplyChainError):
    """The container engine refused or could not complete a request.

    Read its answer in the message, and its log.
    """

    code = "engine.failed"


class PlanUnfinished(SupplyChainError):
    """Some steps of a lifecycle plan failed. No step is half done.

    Resolve the errors in the message, and apply the plan again; it continues.
    """

    code = "lifecycle.unfinished"


class LockBusy(SupplyChainError, TimeoutError):
    """Another run held the lock of some work for too long. This run did not do it.

    Look in the UI for a run that hangs, cancel it, and run this again.
    """

    code = "lock.busy"


class ResponseIncomplete(SupplyChainError):
    """A part of the response to an event failed. The rest is done.

    Correct what the lines of the message name, and retry the run; it does what is left.
    """

    code = "response.incomplete"


class ContainerGone(EngineFailed):
    """The engine has no such container.

    Find out who removed it, and deploy the application again.
    """

    code = "engine.container-gone"


class ImageUnsuitable(SupplyChainError):
    """The image has a format that the step cannot use.

    Build it as one OCI image for one platform.
    """

    code = "image.unsuitable"


class ImageGone(EngineFailed):
    """An image or layer was removed from the engine while it was needed.

    Find out which program removes images.
    """

    code = "engine.image-gone"
    retryable = True


class ProgramNotStarted(EngineFailed):
    """The program of the container is missing or cannot be executed.

    Correct the entry point in the Dockerfile.
    """

    code = "engine.program-not-started"


class EventUnreadable(SupplyChainError):
    """A message is not JSON, has another form, or is about something else.

    Correct the sender, and run `cscm events replay ID` or `cscm events discard ID`; `cscm events dead` lists the ids.
    """

    code = "event.unreadable"


class EventRejected(SupplyChainError):
    """Prefect did not accept an event, or the run for a push.

    Check that Prefect's server runs (on a laptop, `cscm status`). The bridge tries again. A git hook does not: start
    the chain yourself (`cscm chain PATH --revision COMMIT`).
    """

    code = "event.rejected"
    retryable = True


UNREADABLE = (EvidenceInvalid, ImageDamaged, ClockWrong)
"""Errors about one image: it, or what is signed about it, cannot be read. Other images can still be read."""
