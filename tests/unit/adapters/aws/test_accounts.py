"""Tests of the shipped IAM policies, and of how policy documents are filled in and compared."""

import json
from fnmatch import fnmatchcase
from pathlib import Path
from unittest.mock import Mock

import pytest

from cscm_laptop.emulator_service import open_root_session
from supply_chain.adapters.aws.accounts import (
    ensure_identity,
    fill_template,
    is_same_attribute,
    is_same_document,
    make_key_policy,
    make_queue_policy,
    read_keys,
)
from supply_chain.errors import ComponentFailed, DeclarationInvalid
from supply_chain.model.tier import JUDGE, TierName

POLICIES = Path(__file__).parents[4] / "deployments" / "iam"
VALUES = {
    "ACCOUNT": "123456789012",
    "REGION": "eu-west-1",
    "SIGNING_KEY": "arn:aws:kms:eu-west-1:123456789012:key/signing",
    "VERDICT_KEY": "arn:aws:kms:eu-west-1:123456789012:key/verdicts",
    "STORAGE_KEY": "arn:aws:kms:eu-west-1:123456789012:key/storage",
    "CONTENT_KEY": "arn:aws:kms:eu-west-1:123456789012:key/content",
    "FORENSICS_KEY": "arn:aws:kms:eu-west-1:123456789012:key/forensics",
}
REPOSITORY = "arn:aws:ecr:eu-west-1:123456789012:repository/"
PUSH = "ecr:PutImage"
PULL = "ecr:BatchGetImage"
PLACES = (
    "dev/a", "curated/a", "curated/base/python", "evidence/curation/a", "evidence/execution/a", "evidence/lifecycle/a",
    "verdicts/intake/a", "verdicts/release/a", "verdicts/deploy/staging/a", "x/a",
)  # fmt: skip


def listed(value):
    return [value] if isinstance(value, str) else value


def allows(tier, action, resource):
    """Return whether the policy of the tier allows the action; check that it has only Allow statements."""
    statements = fill_template(POLICIES / f"{tier}.json", VALUES)["Statement"]
    assert {statement["Effect"] for statement in statements} == {"Allow"}
    return any(
        action in listed(statement["Action"])
        and any(fnmatchcase(resource, pattern) for pattern in listed(statement["Resource"]))
        for statement in statements
    )


def may(tier, action):
    return {place for place in PLACES if allows(tier, action, REPOSITORY + place)}


@pytest.mark.parametrize("action", [PUSH, "ecr:CreateRepository", "ecr:InitiateLayerUpload"])
def test_each_tier_writes_only_its_own_repositories(action):
    """AWS enforces the boundaries between tiers, not this program."""
    assert may("development", action) == {"dev/a"}
    assert may("curation", action) == {
        "curated/a", "curated/base/python", "evidence/curation/a", "verdicts/intake/a", "verdicts/release/a",
    }  # fmt: skip
    assert may("execution", action) == {"evidence/execution/a", "verdicts/deploy/staging/a"}
    assert may("lifecycle", action) == {"evidence/lifecycle/a"}


def test_each_tier_reads_the_repositories_it_has_to_verify():
    """Execution reads no image that is not curated; development also reads curated images and lifecycle evidence."""
    assert may("development", PULL) == {"dev/a", "curated/a", "curated/base/python", "evidence/lifecycle/a"}
    assert may("curation", PULL) == {
        "dev/a",
        "curated/a",
        "curated/base/python",
        "evidence/curation/a",
        "evidence/lifecycle/a",
        "verdicts/intake/a",
        "verdicts/release/a",
    }
    assert may("execution", PULL) == {
        "curated/a",
        "curated/base/python",
        "evidence/curation/a",
        "evidence/execution/a",
        "evidence/lifecycle/a",
        "verdicts/intake/a",
        "verdicts/release/a",
        "verdicts/deploy/staging/a",
    }
    published = {place for place in PLACES if place.startswith("verdicts/")}
    assert may("lifecycle", PULL) == set(PLACES) - {"x/a"} - published


def test_only_lifecycle_deletes_images_and_no_tier_deletes_evidence():
    """Lifecycle deletes curated images only and archives blocked images everywhere; the evidence outlives them.

    A tier with a gate deletes the verdicts that it published before.
    """
    images = {"curated/a", "curated/base/python"}

    assert {tier: may(tier, "ecr:BatchDeleteImage") for tier in TierName if may(tier, "ecr:BatchDeleteImage")} == {
        TierName.CURATION: {"verdicts/intake/a", "verdicts/release/a"},
        TierName.EXECUTION: {"verdicts/deploy/staging/a"},
        TierName.LIFECYCLE: images,
    }
    assert {tier: found for tier in TierName if (found := may(tier, "ecr:UpdateImageStorageClass"))} == {
        TierName.LIFECYCLE: {*images, "dev/a"}
    }


@pytest.mark.parametrize("tier", list(TierName))
def test_policies_grant_no_wildcard_and_no_administrative_action(tier):
    """No tier may delete anything but images, or change mutability, lifecycle rules or permissions."""
    actions = {
        action
        for statement in fill_template(POLICIES / f"{tier}.json", VALUES)["Statement"]
        for action in listed(statement["Action"])
    }

    assert not [action for action in actions if "*" in action]
    assert not [
        action
        for action in actions
        if action != "ecr:BatchDeleteImage"
        and any(word in action for word in ("Delete", "Mutability", "Lifecycle", "Policy", "Schedule", "Disable"))
    ]


@pytest.mark.parametrize("tier", list(TierName))
def test_each_tier_signs_with_its_own_key_only(tier):
    """AWS checks the ARN of the key; the emulator checks the ARN of the alias."""
    alias = "arn:aws:kms:eu-west-1:123456789012:alias/cscm-"
    judges = tier in JUDGE.values()
    names = (*TierName, *(f"{each}-verdicts" for each in TierName), "storage", "content")

    assert allows(tier, "kms:Sign", VALUES["SIGNING_KEY"])
    assert allows(tier, "kms:Sign", VALUES["VERDICT_KEY"]) is judges
    own = [tier, f"{tier}-verdicts"] if judges else [tier]
    assert [name for name in names if allows(tier, "kms:Sign", alias + name)] == own


def test_policy_conditions_are_supported_by_their_actions():
    """An action denies everything under a condition key it does not support (KMS Developer Guide, "condition keys")."""
    every = [each for tier in TierName for each in fill_template(POLICIES / f"{tier}.json", VALUES)["Statement"]]
    (only,) = [each for each in every if "Condition" in each]

    assert only["Condition"] == {"Bool": {"kms:GrantIsForAWSResource": "true"}}
    assert set(listed(only["Action"])) <= {"kms:CreateGrant", "kms:ListGrants", "kms:RevokeGrant"}


def test_content_key_encrypts_for_curation_and_decrypts_for_execution():
    """Neither tier can do the part of the other."""
    key = VALUES["CONTENT_KEY"]

    assert [tier for tier in TierName if allows(tier, "kms:Encrypt", key)] == [TierName.CURATION]
    assert [tier for tier in TierName if allows(tier, "kms:Decrypt", key)] == [TierName.EXECUTION]


def test_forensics_key_encrypts_for_execution_and_decrypts_for_no_tier():
    """Who takes over the tier that seals evidence does not read what was sealed before."""
    key = VALUES["FORENSICS_KEY"]

    assert [tier for tier in TierName if allows(tier, "kms:Encrypt", key)] == [TierName.EXECUTION]
    assert [tier for tier in TierName if allows(tier, "kms:Decrypt", key)] == []


@pytest.mark.parametrize("text", ['{"Resource": "${UNKNOWN}"}', "{", "[]"])
def test_fill_refuses_policy_with_unknown_placeholder_or_bad_json(tmp_path, text):
    """A placeholder that remains would match nothing, or too much."""
    (tmp_path / "policy.json").write_text(text)

    with pytest.raises(DeclarationInvalid, match=r"policy\.json"):
        fill_template(tmp_path / "policy.json", VALUES)


def test_key_policy_denies_signing_to_all_but_its_role():
    """The denial also holds for principals to whom IAM allows every action."""
    role = "arn:aws:iam::123456789012:role/cscm-curation"

    deny = make_key_policy("123456789012", role)["Statement"][1]

    assert (deny["Effect"], deny["Principal"], deny["Action"]) == ("Deny", "*", "kms:Sign")
    assert deny["Condition"]["ArnNotLike"]["aws:PrincipalArn"] == [
        role,
        "arn:aws:sts::123456789012:assumed-role/cscm-curation/*",
    ]


def test_is_same_document_compares_policies_by_content():
    """AWS returns some documents as text, in which spaces and the order of keys have no meaning."""
    wanted = make_key_policy("123456789012", None)

    assert is_same_document(json.dumps(wanted, indent=4, sort_keys=True), wanted)
    assert not is_same_document(json.dumps({**wanted, "Version": "2008-10-17"}), wanted)
    assert not is_same_document(None, wanted)


def test_read_keys_returns_nothing_for_missing_or_damaged_file(tmp_path):
    """New keys are then created."""
    (tmp_path / "keys.json").write_text('{"development": {"access_key_id"')

    assert read_keys(tmp_path / "keys.json") == {}
    assert read_keys(tmp_path / "missing.json") == {}


@pytest.mark.parametrize("text", [None, '{"access_key_id": "AKIA", "secret": "topsecret"}'])
def test_missing_or_damaged_root_key_is_reported_without_its_secret(tmp_path, text):
    """The message names the remedy, because there is no default key to fall back to."""
    file = tmp_path / "root-key.json"
    if text:
        file.write_text(text)

    with pytest.raises(ComponentFailed, match="cscm down") as caught:
        open_root_session(file, "us-east-1")

    assert "topsecret" not in str(caught.value)


def test_bridge_policy_allows_only_message_transfer():
    """The bridge reads no image, signs nothing and creates no queue; it may make inspected messages visible again."""
    values = {**VALUES, "PUSHED_QUEUE": "arn:q", "DEAD_QUEUE": "arn:d"}
    carries, looks = fill_template(POLICIES / "bridge.json", values)["Statement"]

    assert carries["Effect"] == looks["Effect"] == "Allow"
    assert carries["Action"] == ["sqs:DeleteMessage", "sqs:ReceiveMessage", "sqs:SendMessage"]
    assert carries["Resource"] == ["arn:q", "arn:d"]
    assert looks["Action"] == ["sqs:ChangeMessageVisibility", "sqs:GetQueueAttributes"]
    assert looks["Resource"] == "arn:d"


def test_queue_policy_admits_only_its_own_rule():
    """A rule of another account must not fill the queue (confused deputy)."""
    (statement,) = make_queue_policy("arn:q", "arn:rule")["Statement"]

    assert statement["Principal"] == {"Service": "events.amazonaws.com"}
    assert (statement["Action"], statement["Resource"]) == ("sqs:SendMessage", "arn:q")
    assert statement["Condition"] == {"ArnEquals": {"aws:SourceArn": "arn:rule"}}


@pytest.mark.parametrize(
    ("found", "wanted", "same"),
    [
        ('{"a": 1, "b": 2}', '{"b":2,"a":1}', True),
        ("true", "true", True),
        (None, "true", False),
        ("text", "text", True),
        ('{"a": 1}', '{"a": 2}', False),
    ],
)
def test_is_same_attribute_compares_queue_attributes_by_content(found, wanted, same):
    """A comparison by text would set the attributes again at each start."""
    assert is_same_attribute(found, wanted) is same


@pytest.mark.parametrize("worker", [None, "arn:aws:iam::123456789012:role/worker"])
def test_role_of_tier_is_assumed_by_its_user_and_its_worker_alone(worker, tmp_path):
    """Whoever else was allowed before is not any more."""
    iam = Mock()
    iam.exceptions.NoSuchEntityException = LookupError
    iam.get_user.return_value = {"User": {"Arn": "arn:aws:iam::123456789012:user/cscm-curation"}}
    iam.get_user_policy.return_value = iam.get_role_policy.return_value = {"PolicyDocument": {}}
    iam.get_role.return_value = {"Role": {"AssumeRolePolicyDocument": {"Statement": []}}}
    iam.create_access_key.return_value = {"AccessKey": {"AccessKeyId": "A" * 16, "SecretAccessKey": "s"}}
    iam.list_access_keys.return_value = {"AccessKeyMetadata": []}

    ensure_identity(iam, "curation", {}, "123456789012", tmp_path / "keys.json", worker)

    (update,) = iam.update_assume_role_policy.call_args_list
    (statement,) = json.loads(update.kwargs["PolicyDocument"])["Statement"]
    user = "arn:aws:iam::123456789012:user/cscm-curation"
    assert statement["Principal"] == {"AWS": [user, worker] if worker else user}
