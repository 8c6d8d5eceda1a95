"""All errors that a user can see; each docstring has the cause and its meaning, a blank line, and the remedy.

A refusal is not an error but an answer of a gate (`supply_chain.policy.outcome.Refused`). An error means that there is
no answer, and therefore that nothing was admitted.
"""

from __future__ import annotations

from typing import ClassVar

from supply_chain.text import plain_text_lines


class SupplyChainError(Exception):
    """Base class of all errors; each subclass has a stable, published code."""

    code: ClassVar[str] = "cscm.error"
    retryable: ClassVar[bool] = False

    def __str__(self) -> str:
        return f"{plain_text_lines(super().__str__())} [{self.code}]"


class DeclarationInvalid(SupplyChainError):
    """A file that a person wrote, such as a declaration, a profile or a policy, is invalid. Nothing was started.

    Correct the file at the line and column that the message names, and run the command again.
    """

    code = "declaration.invalid"


class SourceInvalid(SupplyChainError):
    """The source breaks a rule for what can be built, or its git repository cannot be read.

    Correct the path that the message names; the message says which rule it breaks and what to do.
    docs/explanation/source.md lists the rules.
    """

    code = "source.invalid"


class SettingInvalid(SupplyChainError):
    """A setting of the operator is missing, invalid or contradicts another setting.

    Correct the block, the environment, the profile or the name register that the message names.
    """

    code = "setting.invalid"


class ToolMissing(SupplyChainError):
    """A program that the chain needs is not installed on this machine.

    Run `cscm doctor`: it lists what is missing and how to get it. `cscm up` installs what it can.
    """

    code = "tool.missing"


class ToolFailed(SupplyChainError):
    """A program ended without the result that it was run for.

    Read the program's complete output in the run's log, correct what it names, and run the step again.
    """

    code = "tool.failed"


class ToolTimedOut(SupplyChainError):
    """A program exceeded its timeout and was stopped.

    Read the program's last output in the log. If the work needs more time, raise the timeout; for a build, this is
    `build.timeout` in supply-chain.yaml.
    """

    code = "tool.timed-out"


class Cancelled(SupplyChainError):
    """The run was cancelled. Its current command was stopped with every process that it had started.

    Do nothing if you cancelled it. Otherwise start the run again; it does not repeat steps that are already proven.
    """

    code = "run.cancelled"


class BuildFailed(SupplyChainError):
    """The image could not be built, so there is no image to judge.

    Read the build's output in the run's log, correct the Dockerfile or the code, and build again with
    `cscm build PATH`.
    """

    code = "build.failed"


class DockerfileRefused(SupplyChainError):
    """The Dockerfile asks for something that a build may not have. Nothing was built.

    Change the line or the source that the message names; the message says what to write instead. Declare in
    `build.fetch` what the build needs to fetch besides curated bases.
    """

    code = "dockerfile.refused"


class BuildMaterialsDiffer(SupplyChainError):
    """BuildKit used or ran something that the chain did not read from the Dockerfile. The image is not used.

    Report this: the chain and the engine's BuildKit read the Dockerfile differently. Try a newer engine, or write the
    Dockerfile in a simpler form.
    """

    code = "build.materials-differ"


class FetchFailed(SupplyChainError):
    """A file that the Dockerfile adds by its URL cannot be fetched as it is declared.

    Check the URL and its checksum in `build.fetch.urls`. Do not use a host in a private or local network: the chain
    sends it no request.
    """

    code = "build.fetch-failed"


class BuildLimitExceeded(SupplyChainError):
    """A build exceeded its limits on the host and was stopped, or its image is larger than declared.

    Look at what the steps of the build do. If they need that much, raise the limit in the block of the container host
    (`build_memory`, `build_processes`, `build_disk`), or free space on the engine's disk. For a larger image, raise
    `build.max_size` in supply-chain.yaml.
    """

    code = "build.limit"


class BaseMissing(SupplyChainError):
    """A base image that the Dockerfile names is not available, or is blocked.

    Make the project's own bases with `cscm bases`, or name by digest an upstream image that this machine can reach. If
    the base is blocked, use another one.
    """

    code = "base.missing"


class CheckNotMade(SupplyChainError):
    """A check could not be carried out. This is neither a pass nor a failure.

    Correct what the message names (a tool, a file, a remote engine), and run `cscm build PATH` again.
    """

    code = "check.not-made"


class ScannerFailed(SupplyChainError):
    """The scanner gave no complete report, so it is unknown whether the image has findings.

    Check the scanner and its database with `cscm doctor`, and run the step again.
    """

    code = "scanner.failed"


class RescanIncomplete(SupplyChainError):
    """Some images could not be judged. All others were judged, and what is new about them is signed.

    Resolve the error of each image that the message names, and start the rescan again with `cscm rescan`. It continues
    with the missing images.
    """

    code = "rescan.incomplete"


class DatabaseUnusable(SupplyChainError):
    """The vulnerability database is missing, damaged or too old, so no image can be judged with it.

    Run `cscm up`: it gets the database again, or makes the starter database if the network does not allow the download.
    """

    code = "scanner.database-unusable"


class DatabaseOutdated(SupplyChainError):
    """The vulnerability database knows less than the one that this image was last scanned with.

    Get a newer database with `cscm up` on the machine that scans, and run the step again. A scan with the older
    database does not count, because known findings are not forgotten.
    """

    code = "scanner.database-outdated"


class EvidenceInvalid(SupplyChainError):
    """Evidence exists but cannot be read or verified, so it proves nothing.

    List what is attached with `cosign tree IMAGE` and find out what wrote it. Have an administrator remove it from the
    registry, and run the step again. Use `--force` only for provenance, SBOM and scans from an older version of the
    chain: of these, the newest counts.
    """

    code = "evidence.invalid"


class EvidenceFlooded(EvidenceInvalid):
    """The image has more attachments that are no evidence than the chain reads, so its evidence is unknown.

    Find out who attached them (`cosign tree IMAGE` lists them), have an administrator remove them from the registry,
    and run the step again. Or push the image again under another digest. Other images are not affected.
    """

    code = "evidence.flooded"


class GateOvertaken(SupplyChainError):
    """A gate refused the image after this run had read the evidence, so this run may not admit it.

    Run the same again: the gate judges the image by what is known now, and states the reasons.
    """

    code = "gate.overtaken"
    retryable = True


class SignatureFailed(SupplyChainError):
    """A signature could not be made or could not be verified.

    Check cosign and KMS with `cscm doctor`, find out what changed, and run the curation tier again with
    `cscm curate IMAGE`.
    """

    code = "signature.failed"


class ImageNotFound(SupplyChainError):
    """The registry or the inventory has no such image.

    Take the digest from the run that made the image, or from `cscm images`. If no run made it, run the previous tier
    first.
    """

    code = "image.not-found"


class ImageArchived(SupplyChainError):
    """The image is archived, so nobody can pull it, although no block requires that.

    If the image was unblocked just now, wait until ECR restores it (up to 20 minutes), and run the step again.
    Otherwise find out who archived it, and restore it: `aws ecr update-image-storage-class --repository-name NAME
    --image-id imageDigest=DIGEST --target-storage-class STANDARD`.
    """

    code = "image.archived"
    retryable = True


class ImageDamaged(SupplyChainError):
    """The content in the registry does not match the image's digest, or is not one valid image.

    Do not use it. Check the registry's storage and who can write to it, and then build and push the image again.
    """

    code = "image.damaged"


class RegistryFailed(SupplyChainError):
    """The registry refused a request or could not complete it.

    Read the registry's answer in the message, and look at the registry's log.
    """

    code = "registry.failed"


class RegistryUnavailable(RegistryFailed):
    """The registry did not answer, or asked the client to try again later.

    Wait for the three retries of the step. If they fail too, look at `cscm status`, start the registry, and run the
    step again.
    """

    code = "registry.unavailable"
    retryable = True


class AccessDenied(SupplyChainError):
    """The tier's role has no permission for this request. Usually this is intended: each role has few permissions.

    Give the tier its own role and its own keys. deployments/iam/ lists what each role may do.
    """

    code = "access.denied"


class KeyUnusable(SupplyChainError):
    """A key is missing, disabled, of the wrong kind, or not rotated.

    Do what the message says: enable the key in KMS (`aws kms enable-key --key-id KEY`), turn on its rotation
    (`aws kms enable-key-rotation --key-id KEY`), or name the right key in the tier's block.
    """

    code = "key.unusable"


class InventoryFailed(SupplyChainError):
    """The inventory's database refused a request.

    Read the database's answer in the message. If the database is lost, nothing else is: `cscm inventory --rebuild`
    makes the inventory again from the registry and the container hosts.
    """

    code = "inventory.failed"


class InventoryUnavailable(InventoryFailed):
    """The inventory's database did not answer, or was busy with other requests.

    Wait for the three retries of the step. If they fail too, start the database, or correct its address in the block
    `inventory`.
    """

    code = "inventory.unavailable"
    retryable = True


class AwsFailed(SupplyChainError):
    """AWS answered with an error that has no code of its own here.

    Read the answer of AWS in the message, and check region, endpoint and credentials in the tier's block.
    """

    code = "aws.failed"


class AwsUnavailable(AwsFailed):
    """AWS did not answer, or throttled the request. The same request may succeed later.

    Wait for the three retries of the step. If they fail too, check the endpoint in the tier's block and that this
    machine can reach it.
    """

    code = "aws.unavailable"
    retryable = True


class ClockWrong(SupplyChainError):
    """The clock of this machine, or of a machine that signed evidence, is wrong, so no age is certain.

    Set both clocks from one time server, and run the step again. If evidence with a time in the future is left, wait
    until that time or have an administrator remove the evidence from the registry, and make it again with the tier that
    signed it.
    """

    code = "clock.wrong"


class DiskFull(SupplyChainError):
    """The disk is full where the chain, or a program that it runs, has to write.

    Free space there (temporary files are in TMPDIR, images in the engine's own directory), and run the step again.
    """

    code = "disk.full"


class EngineUnavailable(SupplyChainError):
    """The container engine did not answer.

    Wait for the three retries of the step. If they fail too, start the engine (`cscm up` on a laptop), and run the step
    again.
    """

    code = "engine.unavailable"
    retryable = True


class EngineUnsuitable(SupplyChainError):
    """The container engine lacks something that the chain needs.

    Install Docker Engine 26.1 or later and its client, with the containerd image store. `cscm doctor` lists what is
    missing.
    """

    code = "engine.unsuitable"


class DeploymentFailed(SupplyChainError):
    """The new container did not become ready. The previous container, if there is one, still serves.

    Read the container's last output in the message, correct the application, and deploy it again with
    `cscm chain PATH`.
    """

    code = "deployment.failed"


class PortBusy(SupplyChainError):
    """Another program already listens on an address that a part of the chain needs.

    Stop that program, or choose another port: for an application in deployments/environments/, for a part of the chain
    in the profile.
    """

    code = "port.busy"


class DownloadFailed(SupplyChainError):
    """A download is incomplete, or is not the expected file.

    Check the network and the mirror, and run the command again. A file with a wrong checksum is never used.
    """

    code = "download.failed"


class PartFailed(SupplyChainError):
    """A part of the supply chain, such as Prefect's server, did not start or did not answer as expected.

    Read the end of its log in the message, correct what it reports, and run `cscm up` again.
    """

    code = "part.failed"


class EngineFailed(SupplyChainError):
    """The container engine refused a request or could not complete it.

    Read the engine's answer in the message, and look at the engine's log.
    """

    code = "engine.failed"


class PlanUnfinished(SupplyChainError):
    """Some steps of a lifecycle plan failed. Completed steps stay done, and no step is left half done.

    Resolve the errors whose codes the message lists, and apply the same plan again with `cscm lifecycle apply PLAN`. It
    continues with the remaining steps.
    """

    code = "lifecycle.unfinished"


class ApplicationBusy(SupplyChainError):
    """Runs admitted or deployed images of the application for as long as a lifecycle plan waited for them.

    Apply the same plan again when these runs have ended, with `cscm lifecycle apply PLAN`. Look in the UI for a run of
    the application that hangs.
    """

    code = "lifecycle.busy"


class ContainerGone(EngineFailed):
    """The engine has no such container.

    Find out who removed it, and deploy the application again with `cscm deploy IMAGE --environment ENVIRONMENT`.
    """

    code = "engine.container-gone"


class ImageUnsuitable(SupplyChainError):
    """The image is not damaged, but has a format that the step cannot work with.

    Build it as one OCI image for one platform, as the message says.
    """

    code = "image.unsuitable"


class ImageGone(EngineFailed):
    """An image was removed from the engine before a container could be made from it.

    Do nothing if it happens once: the step pulls the image again. If it happens often, find out what removes images
    from the engine.
    """

    code = "engine.image-gone"
    retryable = True


class ProgramNotStarted(EngineFailed):
    """The container exists, but the program that it should run is missing or cannot be executed.

    Correct the entry point in the Dockerfile: the file has to exist in the image, and its user has to be able to
    execute it.
    """

    code = "engine.program-not-started"


class EventUnreadable(SupplyChainError):
    """A message is not JSON, has an unexpected form, or is about something else.

    List the message with its reason with `cscm events dead`; it is in the dead-letter queue. Correct the sender, and
    process the messages again with `cscm events replay --all`. Delete a useless message with `cscm events discard ID`.
    """

    code = "event.unreadable"


class EventNotTaken(SupplyChainError):
    """Prefect did not accept an event, so what it reports is not announced yet.

    Check with `cscm status` that Prefect's server runs. Nothing is lost: the bridge tries again until Prefect accepts
    the event.
    """

    code = "event.not-taken"
    retryable = True


UNREADABLE = (EvidenceInvalid, ImageDamaged, ClockWrong)
"""Errors about one image: it, or what is signed about it, cannot be read. Other images can still be read."""
