"""Creates the chain's users, roles, keys, queues and EventBridge rule in an AWS account.

There is one user, role and signing key for each tier, a key for the published verdicts of each tier with a gate, and
two keys for content. Each object is created once and then reused. The same calls work on the emulator and, with an
administrator's session, on AWS. A user may only assume the role of its tier. The documents in `deployments/iam/` say
what each role may do. The bridge has a user and a role, but no key: it reads ECR's push events from a queue that an
EventBridge rule fills.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Any, TypeVar

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_public_key
from pydantic import TypeAdapter, ValidationError

from supply_chain.adapters.aws.session import read_error_code, translate_errors
from supply_chain.errors import DeclarationInvalid, KeyUnusable
from supply_chain.model.image import Model
from supply_chain.model.tier import JUDGE, TierName
from supply_chain.promotion.pushes import PATTERN
from supply_chain.scratch import write_private

POLICIES = Path("deployments/iam")
STORAGE = "alias/cscm-storage"
CONTENT = "alias/cscm-content"
FORENSICS = "alias/cscm-forensics"
POLICY_NAME = "cscm"
READERS = (TierName.CURATION, TierName.LIFECYCLE)
"""Tiers that pull images only to judge them. Their pulls do not count as use, so they do not keep an image from ageing.
"""
BRIDGE = "bridge"
"""Name of the bridge in its user, role and policy file, as the tier's name is for a tier."""
RULE = "cscm-pushed"
"""Name of the EventBridge rule and of the queue that it fills."""
DEAD = "cscm-pushed-dead"
TRIES = "5"
"""Number of times SQS delivers a message before it moves the message to the dead-letter queue."""
RETENTION = str(14 * 24 * 3600)
"""Seconds for which SQS keeps a message: SQS's maximum."""
PROPAGATION = 60.0
"""Seconds that AWS may take to accept a new user as a principal."""

T = TypeVar("T")
Client = Any
"""A boto3 client. Its methods are generated at run time."""


class AccessKey(Model):
    """A user's long-lived access key, which can only be used to assume the user's role."""

    access_key_id: str
    secret_access_key: str


class Identity(AccessKey):
    """A user's access key and the role that the user may assume."""

    role_arn: str


class BridgeIdentity(Identity):
    """The bridge's user and role, and the queues that it reads."""

    queue: str
    """URL of the queue that the rule fills."""
    dead: str
    """URL of the dead-letter queue."""


class TierIdentity(Identity):
    """A tier's user, role and signing key."""

    signing_alias: str
    signing_key_arn: str
    public_key: str
    """PEM. It is enough to verify signatures without asking AWS."""
    verdict_alias: str | None = None
    """The key that signs the published verdicts of the tier's gates; None for a tier without a gate."""
    verdict_public_key: str | None = None
    """PEM."""


class Accounts(Model):
    """Everything that the chain needs in an AWS account."""

    account: str
    identities: dict[TierName, TierIdentity]
    storage_key: str
    content_key: str
    forensics_key: str
    bridge: BridgeIdentity


Keys = TypeAdapter(dict[str, AccessKey])


@dataclass(frozen=True)
class Administrator:
    """AWS clients of a session that may create users, roles, keys, queues and rules."""

    iam: Client
    kms: Client
    sts: Client
    sqs: Client
    events: Client
    ecr: Client
    region: str

    @classmethod
    def of(cls, session: boto3.Session, endpoint_url: str | None = None) -> Administrator:
        """Return clients for `endpoint_url` (no proxy is used), or for AWS."""
        retries: Any = {"mode": "standard", "total_max_attempts": 5}
        config = Config(retries=retries, proxies={}) if endpoint_url else Config(retries=retries)
        names = ("iam", "kms", "sts", "sqs", "events", "ecr")
        clients = {name: session.client(name, endpoint_url=endpoint_url, config=config) for name in names}
        return cls(**clients, region=session.region_name)


def ensure_accounts(
    admin: Administrator, policies: Path, keys_file: Path, workers: Mapping[str, str] | None = None
) -> Accounts:
    """Create what is missing, correct what differs, and leave the rest.

    `workers` maps tiers to the ARNs of roles of their workers, which may then assume the tiers' roles without a key
    (on EKS, those of pod identity or IRSA). AWS returns a user's secret only once: it is written to `keys_file` (mode
    0600). A user whose secret is lost gets a new key. Raises `AwsFailed`, `AwsUnavailable`, `AccessDenied`.
    """
    with translate_errors("prepare the account"):
        account = admin.sts.get_caller_identity()["Account"]
        storage = ensure_key(admin.kms, STORAGE, "Encrypts the curated repositories", account)
        content = ensure_key(admin.kms, CONTENT, "Wraps the keys of confidential images", account)
        forensics = ensure_key(admin.kms, FORENSICS, "Seals what is collected of isolated applications", account)
        values = {"ACCOUNT": account, "REGION": admin.region, "STORAGE_KEY": storage, "CONTENT_KEY": content,
                  "FORENSICS_KEY": forensics}  # fmt: skip
        identities = {
            tier: ensure_tier(admin, tier, policies / f"{tier}.json", values, keys_file, (workers or {}).get(tier))
            for tier in TierName
        }
        ensure_unrecorded(admin.ecr, [identities[tier].role_arn for tier in READERS])
        bridge = ensure_bridge(admin, policies / f"{BRIDGE}.json", values, keys_file)
    return Accounts(
        account=account,
        identities=identities,
        storage_key=storage,
        content_key=content,
        forensics_key=forensics,
        bridge=bridge,
    )


def ensure_unrecorded(ecr: Client, roles: Sequence[str]) -> None:
    """Exclude these roles' pulls from ECR's pull times: they judge images, which must not delay an image's ageing."""
    for role in roles:
        with contextlib.suppress(ecr.exceptions.ExclusionAlreadyExistsException):
            ecr.register_pull_time_update_exclusion(principalArn=role)


def ensure_tier(
    admin: Administrator, tier: TierName, policy: Path, values: dict[str, str], keys_file: Path, worker: str | None
) -> TierIdentity:
    """Ensure the tier's user with an access key, its role with its policy, and its signing keys.

    Its user may assume the role, and the role `worker` (ARN), if there is one.
    """
    name, account = f"cscm-{tier}", values["ACCOUNT"]
    role_arn = f"arn:aws:iam::{account}:role/{name}"
    signing = ensure_key(admin.kms, f"alias/{name}", f"Signs for the {tier} tier", account, only_signer=role_arn)
    verdicts = f"alias/{name}-verdicts" if tier in JUDGE.values() else None
    purpose = f"Signs published verdicts of the {tier} tier and nothing else"
    verdict_key = ensure_key(admin.kms, verdicts, purpose, account, only_signer=role_arn) if verdicts else ""
    filled = fill_template(policy, {**values, "SIGNING_KEY": signing, "VERDICT_KEY": verdict_key})
    identity = ensure_identity(admin.iam, tier, filled, account, keys_file, worker)
    return TierIdentity(
        **identity.model_dump(),
        signing_alias=f"alias/{name}",
        signing_key_arn=signing,
        public_key=read_public_key(admin.kms, signing),
        verdict_alias=verdicts,
        verdict_public_key=read_public_key(admin.kms, verdict_key) if verdict_key else None,
    )


def ensure_identity(
    iam: Client, who: str, policy: dict[str, Any], account: str, keys_file: Path, worker: str | None = None
) -> Identity:
    """Ensure the user `cscm-WHO` with an access key, and the role `cscm-WHO` with this policy."""
    name = f"cscm-{who}"
    role_arn = f"arn:aws:iam::{account}:role/{name}"
    user = ensure_user(iam, name, role_arn)
    ensure_role(iam, name, [user, worker] if worker else user, policy)
    key = ensure_access_key(iam, name, who, keys_file)
    return Identity(**key.model_dump(), role_arn=role_arn)


def ensure_bridge(admin: Administrator, policy: Path, values: dict[str, str], keys_file: Path) -> BridgeIdentity:
    """Ensure the rule for pushes to `dev/*`, its queue with a dead-letter queue, and the bridge's identity."""
    dead_url, dead_arn = ensure_queue(admin.sqs, DEAD, {})
    rule = f"arn:aws:events:{admin.region}:{values['ACCOUNT']}:rule/{RULE}"
    arn = f"arn:aws:sqs:{admin.region}:{values['ACCOUNT']}:{RULE}"
    redrive = json.dumps({"deadLetterTargetArn": dead_arn, "maxReceiveCount": TRIES})
    filled_by = json.dumps(make_queue_policy(arn, rule))
    url, arn = ensure_queue(admin.sqs, RULE, {"RedrivePolicy": redrive, "Policy": filled_by})
    ensure_rule(admin.events, RULE, PATTERN, arn)
    filled = fill_template(policy, {**values, "PUSHED_QUEUE": arn, "DEAD_QUEUE": dead_arn})
    identity = ensure_identity(admin.iam, BRIDGE, filled, values["ACCOUNT"], keys_file)
    return BridgeIdentity(**identity.model_dump(), queue=url, dead=dead_url)


def ensure_queue(sqs: Client, name: str, attributes: dict[str, str]) -> tuple[str, str]:
    """Ensure an encrypted queue with these attributes and the longest retention; return its URL and ARN."""
    settings = {"MessageRetentionPeriod": RETENTION, "SqsManagedSseEnabled": "true", **attributes}
    try:
        url = sqs.get_queue_url(QueueName=name)["QueueUrl"]
    except sqs.exceptions.QueueDoesNotExist:
        url = sqs.create_queue(QueueName=name, Attributes=settings)["QueueUrl"]
    current = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
    if any(not is_same_attribute(current.get(key), value) for key, value in settings.items()):
        sqs.set_queue_attributes(QueueUrl=url, Attributes=settings)
    return str(url), str(current["QueueArn"])


def ensure_rule(events: Client, name: str, pattern: dict[str, Any], queue: str) -> None:
    """Ensure a rule on the default event bus that sends matching events to the queue."""
    try:
        rule = events.describe_rule(Name=name)
    except events.exceptions.ResourceNotFoundException:
        rule = {}
    if not is_same_document(rule.get("EventPattern", "null"), pattern) or rule.get("State") != "ENABLED":
        events.put_rule(Name=name, EventPattern=json.dumps(pattern), State="ENABLED", Description="Pushes to dev/*")
    targets = [each["Arn"] for each in events.list_targets_by_rule(Rule=name)["Targets"]]
    if targets != [queue]:
        events.put_targets(Rule=name, Targets=[{"Id": "queue", "Arn": queue}])


def make_queue_policy(queue: str, rule: str) -> dict[str, Any]:
    """Return a policy that lets EventBridge send to the queue for this rule only.

    See the EventBridge User Guide, "SQS permissions".
    """
    sent = {
        "Effect": "Allow",
        "Principal": {"Service": "events.amazonaws.com"},
        "Action": "sqs:SendMessage",
        "Resource": queue,
        "Condition": {"ArnEquals": {"aws:SourceArn": rule}},
    }
    return make_policy_document(sent)


def is_same_attribute(current: str | None, value: str) -> bool:
    """Return whether a queue's attribute has this value; JSON documents are compared by their content."""
    try:
        return bool(json.loads(current or "null") == json.loads(value))
    except ValueError:
        return current == value


def fill_template(template: Path, values: dict[str, str]) -> dict[str, Any]:
    """Read a policy document and fill in its ${PLACEHOLDERS}.

    Raises `DeclarationInvalid` for an unknown placeholder, and where the result is not a JSON object.
    """
    try:
        document = json.loads(Template(template.read_text(encoding="utf-8")).substitute(values))
    except (OSError, ValueError, KeyError) as error:
        raise DeclarationInvalid(
            f"{template} is not a usable policy: {error!r}\n"
            f"It has to be JSON; it may name {', '.join('${' + name + '}' for name in values)}."
        ) from error
    if not isinstance(document, dict):
        raise DeclarationInvalid(f"{template} is not a policy document.\nWrite a JSON object with its Statement.")
    return document


def ensure_user(iam: Client, name: str, role_arn: str) -> str:
    """Ensure a user that may assume this role and do nothing else; return its ARN."""
    try:
        arn = iam.get_user(UserName=name)["User"]["Arn"]
    except iam.exceptions.NoSuchEntityException:
        arn = iam.create_user(UserName=name)["User"]["Arn"]
    document = make_policy_document({"Effect": "Allow", "Action": "sts:AssumeRole", "Resource": role_arn})
    try:
        current = iam.get_user_policy(UserName=name, PolicyName=POLICY_NAME)["PolicyDocument"]
    except iam.exceptions.NoSuchEntityException:
        current = None
    if not is_same_document(current, document):
        iam.put_user_policy(UserName=name, PolicyName=POLICY_NAME, PolicyDocument=json.dumps(document))
    return str(arn)


def ensure_role(iam: Client, name: str, assumed_by: str | list[str], policy: dict[str, Any]) -> None:
    """Ensure a role that only these principals (ARNs) may assume, and that has this policy."""
    trust = make_policy_document({"Effect": "Allow", "Principal": {"AWS": assumed_by}, "Action": "sts:AssumeRole"})
    try:
        current: Any = iam.get_role(RoleName=name)["Role"]["AssumeRolePolicyDocument"]
    except iam.exceptions.NoSuchEntityException:
        current = None
        retry_until_user_exists(lambda: iam.create_role(RoleName=name, AssumeRolePolicyDocument=json.dumps(trust)))
    if current is not None and not is_same_document(current, trust):
        retry_until_user_exists(lambda: iam.update_assume_role_policy(RoleName=name, PolicyDocument=json.dumps(trust)))
    try:
        current = iam.get_role_policy(RoleName=name, PolicyName=POLICY_NAME)["PolicyDocument"]
    except iam.exceptions.NoSuchEntityException:
        current = None
    if not is_same_document(current, policy):
        iam.put_role_policy(RoleName=name, PolicyName=POLICY_NAME, PolicyDocument=json.dumps(policy))


def ensure_access_key(iam: Client, user: str, who: str, keys_file: Path) -> AccessKey:
    """Return the user's only access key: the one in `keys_file` if AWS knows it, else a new one (others deleted)."""
    stored = read_keys(keys_file)
    existing = [key["AccessKeyId"] for key in iam.list_access_keys(UserName=user)["AccessKeyMetadata"]]
    if who in stored and stored[who].access_key_id in existing:
        return stored[who]
    for key_id in existing:
        iam.delete_access_key(UserName=user, AccessKeyId=key_id)
    answer = iam.create_access_key(UserName=user)["AccessKey"]
    key = AccessKey(access_key_id=answer["AccessKeyId"], secret_access_key=answer["SecretAccessKey"])
    write_private(keys_file, Keys.dump_json({**stored, who: key}, indent=2).decode())
    return key


def read_keys(keys_file: Path) -> dict[str, AccessKey]:
    """Read the access keys from the file; return none if it is missing or damaged, so that new keys are created."""
    try:
        return Keys.validate_json(keys_file.read_bytes())
    except (FileNotFoundError, ValidationError):
        return {}


def ensure_key(kms: Client, alias: str, purpose: str, account: str, *, only_signer: str | None = None) -> str:
    """Ensure the key behind an alias and return its ARN: symmetric and rotating, or with `only_signer` a signing key.

    Raises `KeyUnusable` if the alias names a key of another kind or a disabled key.
    """
    spec = "ECC_NIST_P256" if only_signer else "SYMMETRIC_DEFAULT"
    policy = make_key_policy(account, only_signer)
    try:
        key = kms.describe_key(KeyId=alias)["KeyMetadata"]
    except kms.exceptions.NotFoundException:
        key = kms.create_key(
            Description=purpose,
            KeySpec=spec,
            KeyUsage="SIGN_VERIFY" if only_signer else "ENCRYPT_DECRYPT",
            Policy=json.dumps(policy),
        )["KeyMetadata"]
        kms.create_alias(AliasName=alias, TargetKeyId=key["KeyId"])
    if key.get("KeySpec") != spec or key.get("KeyState") != "Enabled":
        raise KeyUnusable(
            f"{alias} is a {key.get('KeySpec')} key, {key.get('KeyState')}; it has to be {spec}, Enabled.\n"
            "Enable that key again, or point the alias at another one."
        )
    if not is_same_document(kms.get_key_policy(KeyId=key["KeyId"])["Policy"], policy):
        kms.put_key_policy(KeyId=key["KeyId"], PolicyName="default", Policy=json.dumps(policy))
    if not only_signer and not kms.get_key_rotation_status(KeyId=key["KeyId"])["KeyRotationEnabled"]:
        kms.enable_key_rotation(KeyId=key["KeyId"])
    return str(key["Arn"])


def make_key_policy(account: str, only_signer: str | None) -> dict[str, Any]:
    """Return a key policy: IAM decides in this account, but only `only_signer` may sign, not even administrators."""
    owner = {
        "Effect": "Allow",
        "Principal": {"AWS": f"arn:aws:iam::{account}:root"},
        "Action": "kms:*",
        "Resource": "*",
    }
    if only_signer is None:
        return make_policy_document(owner)
    session = only_signer.replace(":iam:", ":sts:").replace(":role/", ":assumed-role/") + "/*"
    others = {  # aws:PrincipalArn is the role's ARN on AWS, the session's on the emulator
        "Effect": "Deny",
        "Principal": "*",
        "Action": "kms:Sign",
        "Resource": "*",
        "Condition": {"ArnNotLike": {"aws:PrincipalArn": [only_signer, session]}},
    }
    return make_policy_document(owner, others)


def read_public_key(kms: Client, key: str) -> str:
    """Return the public half of a signing key as PEM."""
    der = kms.get_public_key(KeyId=key)["PublicKey"]
    return load_der_public_key(der).public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def make_policy_document(*statements: dict[str, Any]) -> dict[str, Any]:
    """Return an IAM policy document (version 2012-10-17) with these statements."""
    return {"Version": "2012-10-17", "Statement": list(statements)}


def is_same_document(current: Any, document: dict[str, Any]) -> bool:
    """Return whether AWS holds this document; AWS returns some documents as text and some decoded."""
    return bool((json.loads(current) if isinstance(current, str) else current) == document)


def retry_until_user_exists(call: Callable[[], T]) -> T:
    """Repeat the call until AWS knows the user that it names, which takes some seconds after the user's creation."""
    end = time.monotonic() + PROPAGATION
    while True:
        try:
            return call()
        except ClientError as error:
            if read_error_code(error) != "MalformedPolicyDocument" or time.monotonic() > end:
                raise
        time.sleep(2)
