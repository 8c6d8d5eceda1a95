"""Every error a user can meet: what happened, what it means, what to do next.

A refusal is not an error: it is an answer (`supply_chain.policy.outcome.Refused`). An error means that no
answer could be had, and therefore that nothing was admitted.
"""

from __future__ import annotations

from typing import ClassVar

from supply_chain.text import plain_text_lines


class SupplyChainError(Exception):
    """Base of all errors; each subclass carries a stable, published code."""

    code: ClassVar[str] = "cscm.error"
    retryable: ClassVar[bool] = False

    def __str__(self) -> str:
        return f"{plain_text_lines(super().__str__())} [{self.code}]"


class DeclarationInvalid(SupplyChainError):
    """What a person wrote (a declaration, a profile, a policy) cannot be read as what it must be.

    The message names file, line and column. Correct what stands there; nothing was started.
    """

    code = "declaration.invalid"


class SourceInvalid(SupplyChainError):
    """The source cannot be taken as it is: it breaks a rule for what is built, or its git repository cannot be read.

    The message names the path and the rule, and what to do. docs/explanation/source.md lists the rules.
    """

    code = "source.invalid"


class SettingInvalid(SupplyChainError):
    """What an operator configured does not hold together.

    Correct the block, the environment, the profile or the register that the message names.
    """

    code = "setting.invalid"


class ToolMissing(SupplyChainError):
    """A program the chain needs is not on this machine.

    Run `cscm doctor`: it says what is missing and how to get it. `cscm up` installs what it can.
    """

    code = "tool.missing"


class ToolFailed(SupplyChainError):
    """A program ended without the answer it was asked for.

    Read the program's own output, whole in the run's log. Correct what it names, and run the step again.
    """

    code = "tool.failed"


class ToolTimedOut(SupplyChainError):
    """A program was ended because it took longer than it may.

    Look at its last output in the log. If the work is really that long, raise the timeout: of a build,
    `build.timeout` in supply-chain.yaml.
    """

    code = "tool.timed-out"


class Cancelled(SupplyChainError):
    """The run was cancelled; the command was ended with everything it started.

    Nothing, if you cancelled it. Start the run again; what was proven before is not done again.
    """

    code = "run.cancelled"


class BuildFailed(SupplyChainError):
    """The image could not be built, so there is nothing to judge.

    Read the build's output in the run's log, correct the Dockerfile or the code, and build again.
    """

    code = "build.failed"


class DockerfileRefused(SupplyChainError):
    """The Dockerfile asks for what a build may not have; nothing was built.

    The message names the line or the source, and what to write instead. What a build may fetch besides curated bases
    is declared in `build.fetch`.
    """

    code = "dockerfile.refused"


class BuildMaterialsDiffer(SupplyChainError):
    """BuildKit took in or ran something else than the Dockerfile was read to ask for; the image is not used.

    Report it: the reading and the engine's BuildKit differ. Try a newer engine, or write the Dockerfile more plainly.
    """

    code = "build.materials-differ"


class FetchFailed(SupplyChainError):
    """A file that a Dockerfile adds by its URL cannot be had as it is declared.

    Check the URL and its checksum in `build.fetch.urls`. Hosts in private and local networks are not asked.
    """

    code = "build.fetch-failed"


class BuildLimitExceeded(SupplyChainError):
    """A build used more of its host than a build may, and was ended; or its image is larger than declared.

    Look at what its steps do. If the work needs that much, raise the limit in the block of the container host
    (`build_memory`, `build_processes`, `build_disk`), or make room on the engine's disk. A larger image is declared
    with `build.max_size`.
    """

    code = "build.limit"


class BaseMissing(SupplyChainError):
    """A base image that a Dockerfile names cannot be had.

    Make our own bases with `cscm bases`, or name an upstream image by digest that this machine can reach.
    """

    code = "base.missing"


class CheckNotMade(SupplyChainError):
    """A check could not be carried out; that is neither a pass nor a failure.

    Correct what the message names (a tool, a file, an engine elsewhere), and run `cscm develop` again.
    """

    code = "check.not-made"


class ScannerFailed(SupplyChainError):
    """No whole report, so the image is neither clean nor dirty.

    Check the scanner and its database with `cscm doctor`, then run the step again.
    """

    code = "scanner.failed"


class RescanIncomplete(SupplyChainError):
    """Some images could not be judged; all others were, and what is new about them is signed.

    The message names each image with its own error. Do what that one says, and start the rescan again: it goes
    on with what is missing.
    """

    code = "rescan.incomplete"


class DatabaseUnusable(SupplyChainError):
    """The vulnerability database is missing, damaged or too old to judge with.

    Run `cscm up`: it gets the database anew, or makes the starter database where the network allows none.
    """

    code = "scanner.database-unusable"


class DatabaseOutdated(SupplyChainError):
    """The vulnerability database knows less than the one by which this image was scanned last.

    Get a newer one (`cscm up`) on the machine that scans, and run the step again. A scan with this one would count for
    nothing: what is known already is not forgotten.
    """

    code = "scanner.database-outdated"


class EvidenceInvalid(SupplyChainError):
    """Evidence is there but cannot be read or verified; it proves nothing.

    Find out what wrote it (`cosign tree IMAGE` lists what is attached), have an administrator remove it from the
    registry, and run the step again. `--fresh` is only for provenance, SBOM and scans of an older version of the
    chain, of which the newest counts.
    """

    code = "evidence.invalid"


class EvidenceFlooded(EvidenceInvalid):
    """More is attached to an image that is no evidence than is read, so that nobody knows what its evidence is.

    It says nothing of any other image. Find out who attached it (`cosign tree IMAGE` lists it), have an administrator
    remove it from the registry, and run the step again; or push the image anew, under another digest.
    """

    code = "evidence.flooded"


class GateOvertaken(SupplyChainError):
    """A gate said no to the image after this run had read what it judges by.

    Run the same again: the image is judged by what is known now, and the reasons are told.
    """

    code = "gate.overtaken"
    retryable = True


class SignatureFailed(SupplyChainError):
    """A signature could not be made or could not be verified.

    Look at cosign and KMS with `cscm doctor`, find out what changed, and run the curation tier again.
    """

    code = "signature.failed"


class ImageNotFound(SupplyChainError):
    """The registry holds no such image.

    Take the digest from the run that made the image, and run the tier before first.
    """

    code = "image.not-found"


class ImageArchived(SupplyChainError):
    """An image is archived, so that nobody can pull it, and no block says that it has to be.

    An image that was unblocked comes back within 20 minutes (ECR): run the step again. Otherwise find out who archived
    it, and restore it: `aws ecr update-image-storage-class --target-storage-class STANDARD`.
    """

    code = "image.archived"
    retryable = True


class ImageDamaged(SupplyChainError):
    """What the registry holds is not what its digest says.

    Do not use it. Look at the registry's storage and at who can write to it, then build and push it again.
    """

    code = "image.damaged"


class RegistryFailed(SupplyChainError):
    """The registry refused or could not carry out what was asked.

    Read the registry's own words in the message, and look at its log.
    """

    code = "registry.failed"


class RegistryUnavailable(RegistryFailed):
    """The registry did not answer, or asked to come back later.

    A step asks again, three times. Then see `cscm status`, start the registry, and run the step again.
    """

    code = "registry.unavailable"
    retryable = True


class AccessDenied(SupplyChainError):
    """The tier's role may not do this; that is usually the point of having roles.

    Give the tier the role and the keys of its own: deployments/iam/ says what each role may do.
    """

    code = "access.denied"


class KeyUnusable(SupplyChainError):
    """A key is missing, disabled, of the wrong kind, or does not rotate.

    Enable the key in KMS or turn its rotation on, as the message says, or name the right key in the tier's block.
    """

    code = "key.unusable"


class InventoryFailed(SupplyChainError):
    """The inventory's database refused what was asked of it.

    Read the database's own words in the message. Nothing is lost with the inventory: `cscm inventory --rebuild`
    makes it anew from the registry and the hosts.
    """

    code = "inventory.failed"


class InventoryUnavailable(InventoryFailed):
    """The inventory's database did not answer, or others kept it busy.

    A step asks again, three times. Then start the database, or correct its address in the block `inventory`.
    """

    code = "inventory.unavailable"
    retryable = True


class AwsFailed(SupplyChainError):
    """AWS answered with an error that has no better name here.

    Read AWS's own words in the message; check region, endpoint and credentials in the tier's block.
    """

    code = "aws.failed"


class AwsUnavailable(AwsFailed):
    """AWS did not answer, or throttled; the same call may succeed later.

    A step asks again, three times. Then check the endpoint in the tier's block and that it can be reached.
    """

    code = "aws.unavailable"
    retryable = True


class ClockWrong(SupplyChainError):
    """The clock of this machine, or the one of whoever signed evidence, is wrong: nothing can be told by age.

    Set the clocks of both by one time server and run the step again. Evidence of the future that is left is
    removed from the registry by an administrator, or waited for, and made again by the tier that signed it.
    """

    code = "clock.wrong"


class DiskFull(SupplyChainError):
    """There is no space left where the chain, or a program that it runs, has to write.

    Make room there (temporary files go to TMPDIR, images to the engine's own directory), and run the step again.
    """

    code = "disk.full"


class EngineUnavailable(SupplyChainError):
    """The container engine did not answer.

    A step asks again, three times. Then start the engine (`cscm up` on a laptop) and run the step again.
    """

    code = "engine.unavailable"
    retryable = True


class EngineUnsuitable(SupplyChainError):
    """The container engine lacks what the chain needs.

    Install Docker Engine 26.1 or later and its client, with the containerd image store; see `cscm doctor`.
    """

    code = "engine.unsuitable"


class DeploymentFailed(SupplyChainError):
    """The new container did not become ready; the one before it, if any, still serves.

    Read the container's last words in the message, correct the application, and deploy again.
    """

    code = "deployment.failed"


class PortBusy(SupplyChainError):
    """Something else listens where a part of the chain has to.

    Stop it, or give the application (deployments/environments/) or the part (the profile) another port.
    """

    code = "port.busy"


class DownloadFailed(SupplyChainError):
    """A download did not arrive whole or is not what it should be.

    Check the network and the mirror, and run it again; a file that is not what its checksum says is never used.
    """

    code = "download.failed"


class PartFailed(SupplyChainError):
    """A part of the laptop's supply chain did not start or did not answer.

    Read the end of its log in the message, correct what it complains about, and run `cscm up` again.
    """

    code = "part.failed"


class EngineFailed(SupplyChainError):
    """The container engine refused or could not carry out what was asked.

    Read the engine's own words in the message, and look at its log.
    """

    code = "engine.failed"


class PlanUnfinished(SupplyChainError):
    """Part of a lifecycle plan could not be carried out; what was done is done, and nothing was left half done.

    Correct what the codes in the message name, and carry the same plan out again: it goes on from what is left.
    """

    code = "lifecycle.unfinished"


class ApplicationBusy(SupplyChainError):
    """Images of an application were being admitted or deployed for as long as a plan waited to remove some.

    Carry the same plan out again when they are through; look in the UI for a run of the application that hangs.
    """

    code = "lifecycle.busy"


class ContainerGone(EngineFailed):
    """The engine has no such container.

    Find out who removed it, and deploy the application again.
    """

    code = "engine.container-gone"


class ImageUnsuitable(SupplyChainError):
    """The image is whole, but of a form that the step cannot work with.

    Build it for one platform as one OCI image, as the message says.
    """

    code = "image.unsuitable"


class ImageGone(EngineFailed):
    """An image that was there a moment ago was removed before a container was made of it.

    A step pulls it again. If that happens often, find out what removes images from the engine.
    """

    code = "engine.image-gone"
    retryable = True


class ProgramNotStarted(EngineFailed):
    """The container is there, but the program it should run is not, or may not be executed.

    Correct the entry point in the Dockerfile: the file has to exist in the image and be executable by its user.
    """

    code = "engine.program-not-started"


class EventUnreadable(SupplyChainError):
    """A message is not what it should tell of: not JSON, of another shape, or about something else.

    It lies in the dead-letter queue, with the reason: `cscm events dead` lists it. Correct who sends it, and
    `cscm events replay --all` sends it through again; `cscm events discard ID` deletes what is of no use.
    """

    code = "event.unreadable"


class EventNotTaken(SupplyChainError):
    """Prefect did not take an event, so that what it tells of was not announced yet.

    Nothing is lost: the bridge tries again until it is taken. See whether Prefect's server runs (`cscm status`).
    """

    code = "event.not-taken"
    retryable = True


UNREADABLE = (EvidenceInvalid, ImageDamaged, ClockWrong)
"""Errors that say of one image that it, or what is signed about it, cannot be read; others can."""
