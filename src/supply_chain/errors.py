"""Every error a user can meet: what happened, what it means, what to do next.

A refusal is not an error: it is an answer (`supply_chain.policy.Refused`). An error means that no
answer could be had, and therefore that nothing was admitted.
"""

from __future__ import annotations

from typing import ClassVar


class SupplyChainError(Exception):
    """Base of all errors; each subclass carries a stable, published code."""

    code: ClassVar[str] = "cscm.error"
    retryable: ClassVar[bool] = False

    def __str__(self) -> str:
        return f"{super().__str__()} [{self.code}]"


class DeclarationInvalid(SupplyChainError):
    """What a person wrote (a declaration, a profile, a policy) cannot be read as what it must be."""

    code = "declaration.invalid"


class SettingInvalid(SupplyChainError):
    """What an operator configured does not hold together."""

    code = "setting.invalid"


class ToolMissing(SupplyChainError):
    """A program the chain needs is not on this machine."""

    code = "tool.missing"


class ToolFailed(SupplyChainError):
    """A program ended without the answer it was asked for."""

    code = "tool.failed"


class ToolTimedOut(SupplyChainError):
    """A program was ended because it took longer than it may."""

    code = "tool.timed-out"


class Cancelled(SupplyChainError):
    """The run was cancelled; the command was ended with everything it started."""

    code = "run.cancelled"


class BuildFailed(SupplyChainError):
    """The image could not be built, so there is nothing to judge."""

    code = "build.failed"


class BaseMissing(SupplyChainError):
    """A base image that a Dockerfile names cannot be had."""

    code = "base.missing"


class CheckNotMade(SupplyChainError):
    """A check could not be carried out; that is neither a pass nor a failure."""

    code = "check.not-made"


class ScannerFailed(SupplyChainError):
    """No whole report, so the image is neither clean nor dirty."""

    code = "scanner.failed"


class DatabaseUnusable(SupplyChainError):
    """The vulnerability database is missing, damaged or too old to judge with."""

    code = "scanner.database-unusable"


class EvidenceInvalid(SupplyChainError):
    """Evidence is there but cannot be read or verified; it proves nothing."""

    code = "evidence.invalid"


class SignatureFailed(SupplyChainError):
    """A signature could not be made or could not be verified."""

    code = "signature.failed"


class ImageNotFound(SupplyChainError):
    """The registry holds no such image."""

    code = "image.not-found"


class ImageDamaged(SupplyChainError):
    """What the registry holds is not what its digest says."""

    code = "image.damaged"


class RegistryFailed(SupplyChainError):
    """The registry refused or could not carry out what was asked."""

    code = "registry.failed"


class RegistryUnavailable(RegistryFailed):
    """The registry did not answer, or asked to come back later."""

    code = "registry.unavailable"
    retryable = True


class AccessDenied(SupplyChainError):
    """The tier's role may not do this; that is usually the point of having roles."""

    code = "access.denied"


class KeyUnusable(SupplyChainError):
    """A key is missing, disabled, of the wrong kind, or does not rotate."""

    code = "key.unusable"


class AwsFailed(SupplyChainError):
    """AWS answered with an error that has no better name here."""

    code = "aws.failed"


class AwsUnavailable(AwsFailed):
    """AWS did not answer, or throttled; the same call may succeed later."""

    code = "aws.unavailable"
    retryable = True


class EngineUnavailable(SupplyChainError):
    """The container engine did not answer."""

    code = "engine.unavailable"
    retryable = True


class EngineUnsuitable(SupplyChainError):
    """The container engine lacks what the chain needs."""

    code = "engine.unsuitable"


class DeploymentFailed(SupplyChainError):
    """The new container did not become ready; the one before it, if any, still serves."""

    code = "deployment.failed"


class PortBusy(SupplyChainError):
    """Something else listens where a part of the chain has to."""

    code = "port.busy"


class DownloadFailed(SupplyChainError):
    """A download did not arrive whole or is not what it should be."""

    code = "download.failed"


class PartFailed(SupplyChainError):
    """A part of the laptop's supply chain did not start or did not answer."""

    code = "part.failed"


class EngineFailed(SupplyChainError):
    """The container engine refused or could not carry out what was asked."""

    code = "engine.failed"


class ContainerGone(EngineFailed):
    """The engine has no such container."""

    code = "engine.container-gone"


class ImageUnsuitable(SupplyChainError):
    """The image is whole, but of a form that the step cannot work with."""

    code = "image.unsuitable"


class ProgramNotStarted(EngineFailed):
    """The container is there, but the program it should run is not, or may not be executed."""

    code = "engine.program-not-started"
