"""The block of a tier: its identity, its keys, and the public keys that it trusts."""

from __future__ import annotations

from functools import cached_property
from typing import ClassVar, Literal, Self

from prefect_aws import AwsCredentials
from pydantic import Field, model_validator

from blocks.credentials import session
from blocks.setting import Setting
from supply_chain.adapters.aws.ecr import Ecr
from supply_chain.adapters.aws.kms import Kms
from supply_chain.adapters.aws.session import AwsSession
from supply_chain.adapters.registry.client import Registry
from supply_chain.adapters.registry.http import RegistryHttp
from supply_chain.errors import SettingInvalid
from supply_chain.evidence.envelope import find_shared_keys, parse_keys


class Tier(Setting):
    """The identity of one tier: its AWS role, its registry, its keys, and the public keys that it trusts."""

    _block_type_name: ClassVar[str] = "Supply Chain Tier"
    _block_type_slug: ClassVar[str] = "supply-chain-tier"
    _description: ClassVar[str] = (
        "The identity of one tier: its AWS role, its registry, its KMS keys, and the public keys that it trusts."
    )

    tier: Literal["development", "curation", "execution", "lifecycle"] = Field(
        title="Tier",
        description="The name of the tier, or `lifecycle`.",
    )
    aws: AwsCredentials = Field(
        title="AWS credentials",
        description="Region and an access key that may only assume the role below, or no key where the worker itself "
        "has such an identity, as by IRSA; an endpoint only if AWS has another address. If they are a block of their "
        "own, choose it again with each edit, or the UI saves the mask of the secret.",
    )
    role_arn: str = Field(title="Role", description="ARN of the tier's own role.")
    registry: str = Field(
        title="Registry",
        description="The host of the ECR registry.",
    )
    insecure_registry: bool = Field(
        default=False,
        title="Plain HTTP",
        description="Whether the registry uses HTTP; only on the loopback address.",
    )
    signing_key: str = Field(
        title="Signing key", description="The tier's own asymmetric KMS key for evidence, as alias/… or ARN."
    )
    trusted_keys: dict[str, str] = Field(
        title="Trusted public keys",
        description="Tier → its trusted public keys (PEM), the present one first.",
    )
    verdict_key: str | None = Field(
        default=None,
        title="Verdict key",
        description="The asymmetric KMS key that signs the published verdicts of the tier's gates and nothing else, "
        "as alias/… or ARN; only curation and execution.",
    )
    verdict_keys: dict[str, str] = Field(
        default_factory=dict,
        title="Trusted verdict keys",
        description="Tier → its public keys for published verdicts (PEM), the present one first.",
    )
    storage_key: str | None = Field(
        default=None, title="Storage key", description="The KMS key that encrypts the repositories; only curation."
    )
    content_key: str | None = Field(
        default=None,
        title="Content key",
        description="The KMS key that wraps keys of confidential images: curation encrypts, execution decrypts.",
    )

    forensics_key: str | None = Field(
        default=None,
        title="Forensics key",
        description="The KMS key that seals what is collected of an isolated application; execution, which may not "
        "open it.",
    )

    @model_validator(mode="after")
    def _has_separate_keys(self) -> Self:
        """Raise `SettingInvalid` if a key has two uses: then nobody knows which tier signed something, or for what."""
        uses = {"signing": self.trusted_keys, "verdict": self.verdict_keys}
        keys = (
            (f"the {use} key of {tier}", key)
            for use, pems in uses.items()
            for tier, pem in pems.items()
            for key in parse_keys(pem, tier)
        )
        if shared := find_shared_keys(keys):
            raise SettingInvalid(
                f"In the block of the {self.tier} tier, {'; '.join(shared)} are the same key.\n"
                "Make a key for each tier and use, and write its public half into the blocks (docs/how-to/aws.md)."
            )
        return self

    @cached_property
    def session(self) -> AwsSession:
        """AWS session of the tier's role."""
        return session(self.aws, self.role_arn, f"the {self.tier} tier", self.tier)

    @cached_property
    def ecr(self) -> Ecr:
        """ECR's API, with this role's credentials."""
        return Ecr(self.session.client("ecr"), self.registry)

    @cached_property
    def kms(self) -> Kms:
        """KMS's API, with this role's credentials."""
        return Kms(self.session.client("kms"))

    @cached_property
    def http(self) -> Registry:
        """The registry's HTTP API, with this role's credentials."""
        ecr = self.ecr
        return Registry(RegistryHttp(self.registry, ecr.credentials, self.insecure_registry, renew=ecr.forget_token))

    def trusted_key(self, of: str) -> str:
        """Return a trusted tier's public key (PEM); raise `SettingInvalid` if this tier does not trust it."""
        if of not in self.trusted_keys:
            raise SettingInvalid(
                f"The block of the {self.tier} tier trusts no key of {of}.\nAdd the tier's public key to the block."
            )
        return self.trusted_keys[of]

    def trusted_verdict_key(self, of: str) -> str:
        """Return a tier's public key for published verdicts (PEM); raise `SettingInvalid` if the block has none."""
        if of not in self.verdict_keys:
            raise SettingInvalid(
                f"The block of the {self.tier} tier has no verdict key of {of}.\n"
                "Only curation and execution publish verdicts. Add the public key to the block's verdict_keys."
            )
        return self.verdict_keys[of]

    def key(self, name: Literal["storage_key", "content_key", "forensics_key"]) -> str:
        """Return one of the tier's keys; raise `SettingInvalid` if the block does not name it."""
        value: str | None = getattr(self, name)
        if value is None:
            raise SettingInvalid(f"The block of the {self.tier} tier names no {name}.\nAdd it to the block.")
        return value
