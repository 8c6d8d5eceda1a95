"""The policies that ship, and how documents are filled and compared."""

import json
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

from cscm_laptop.emulator_service import emulator_root
from supply_chain.adapters.aws.accounts import alike, fill, key_policy, queue_policy, read_keys, same
from supply_chain.errors import DeclarationInvalid, PartFailed
from supply_chain.model.tier import TierName

POLICIES = Path(__file__).parents[4] / "deployments" / "iam"
VALUES = {
    "ACCOUNT": "123456789012",
    "REGION": "eu-west-1",
    "SIGNING_KEY": "arn:aws:kms:eu-west-1:123456789012:key/signing",
    "STORAGE_KEY": "arn:aws:kms:eu-west-1:123456789012:key/storage",
    "CONTENT_KEY": "arn:aws:kms:eu-west-1:123456789012:key/content",
}
REPOSITORY = "arn:aws:ecr:eu-west-1:123456789012:repository/"
PUSH = "ecr:PutImage"
PULL = "ecr:BatchGetImage"
PLACES = (
    "dev/a", "curated/a", "curated/base/python", "evidence/curation/a", "evidence/execution/a", "evidence/lifecycle/a",
    "x/a",
)  # fmt: skip


def listed(value):
    return [value] if isinstance(value, str) else value


def allows(tier, action, resource):
    """Whether the tier's policy allows it; it holds nothing but plain Allow statements."""
    statements = fill(POLICIES / f"{tier}.json", VALUES)["Statement"]
    assert {statement["Effect"] for statement in statements} == {"Allow"}
    return any(
        action in listed(statement["Action"])
        and any(fnmatchcase(resource, pattern) for pattern in listed(statement["Resource"]))
        for statement in statements
    )


def may(tier, action):
    return {place for place in PLACES if allows(tier, action, REPOSITORY + place)}


@pytest.mark.parametrize("action", [PUSH, "ecr:CreateRepository", "ecr:InitiateLayerUpload"])
def test_each_tier_writes_only_what_is_its_own(action):
    """The boundaries are held by AWS, not by the program."""
    assert may("development", action) == {"dev/a"}
    assert may("curation", action) == {"curated/a", "curated/base/python", "evidence/curation/a"}
    assert may("execution", action) == {"evidence/execution/a"}
    assert may("lifecycle", action) == {"evidence/lifecycle/a"}


def test_each_tier_reads_what_it_has_to_judge():
    """Execution sees no image that was not curated; development sees what was, for it holds the names."""
    assert may("development", PULL) == {"dev/a", "curated/a", "curated/base/python", "evidence/lifecycle/a"}
    assert may("curation", PULL) == {
        "dev/a",
        "curated/a",
        "curated/base/python",
        "evidence/curation/a",
        "evidence/lifecycle/a",
    }
    assert may("execution", PULL) == {
        "curated/a",
        "curated/base/python",
        "evidence/curation/a",
        "evidence/execution/a",
        "evidence/lifecycle/a",
    }
    assert may("lifecycle", PULL) == set(PLACES) - {"x/a"}


def test_only_the_lifecycle_takes_images_away_and_nobody_takes_evidence():
    """It removes only curated ones, and archives what is blocked under every name: what was said of it outlives it."""
    images = {"curated/a", "curated/base/python"}

    assert {tier: may(tier, "ecr:BatchDeleteImage") for tier in TierName if may(tier, "ecr:BatchDeleteImage")} == {
        TierName.LIFECYCLE: images
    }
    assert {tier: found for tier in TierName if (found := may(tier, "ecr:UpdateImageStorageClass"))} == {
        TierName.LIFECYCLE: {*images, "dev/a"}
    }


@pytest.mark.parametrize("tier", list(TierName))
def test_nobody_may_loosen_anything(tier):
    """No wildcards, no deletion of more than images, no change of mutability, lifecycle or permissions."""
    actions = {
        action
        for statement in fill(POLICIES / f"{tier}.json", VALUES)["Statement"]
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
def test_a_tier_signs_with_its_own_key_only(tier):
    """By the key's ARN, as AWS asks, and by the alias's, as the emulator asks."""
    alias = "arn:aws:kms:eu-west-1:123456789012:alias/cscm-"

    assert allows(tier, "kms:Sign", VALUES["SIGNING_KEY"])
    assert [name for name in (*TierName, "storage", "content") if allows(tier, "kms:Sign", alias + name)] == [tier]


def test_a_condition_is_one_that_the_action_has():
    """Under it any other is allowed nothing (KMS Developer Guide, "condition keys")."""
    every = [each for tier in TierName for each in fill(POLICIES / f"{tier}.json", VALUES)["Statement"]]
    (only,) = [each for each in every if "Condition" in each]

    assert only["Condition"] == {"Bool": {"kms:GrantIsForAWSResource": "true"}}
    assert set(listed(only["Action"])) <= {"kms:CreateGrant", "kms:ListGrants", "kms:RevokeGrant"}


def test_confidential_content_is_closed_by_curation_and_opened_by_execution():
    """Neither can do the other's part."""
    key = VALUES["CONTENT_KEY"]

    assert [tier for tier in TierName if allows(tier, "kms:Encrypt", key)] == [TierName.CURATION]
    assert [tier for tier in TierName if allows(tier, "kms:Decrypt", key)] == [TierName.EXECUTION]


@pytest.mark.parametrize("text", ['{"Resource": "${UNKNOWN}"}', "{", "[]"])
def test_a_policy_that_cannot_be_filled_is_refused(tmp_path, text):
    """A placeholder that stays would match nothing, or anything."""
    (tmp_path / "policy.json").write_text(text)

    with pytest.raises(DeclarationInvalid, match=r"policy\.json"):
        fill(tmp_path / "policy.json", VALUES)


def test_a_signing_key_denies_everyone_but_its_role():
    """Also to those to whom IAM would allow everything."""
    role = "arn:aws:iam::123456789012:role/cscm-curation"

    deny = key_policy("123456789012", role)["Statement"][1]

    assert (deny["Effect"], deny["Principal"], deny["Action"]) == ("Deny", "*", "kms:Sign")
    assert deny["Condition"]["ArnNotLike"]["aws:PrincipalArn"] == [
        role,
        "arn:aws:sts::123456789012:assumed-role/cscm-curation/*",
    ]


def test_documents_are_compared_by_content():
    """AWS gives some as text; spaces and order of keys say nothing."""
    wanted = key_policy("123456789012", None)

    assert same(json.dumps(wanted, indent=4, sort_keys=True), wanted)
    assert not same(json.dumps({**wanted, "Version": "2008-10-17"}), wanted)
    assert not same(None, wanted)


def test_lost_or_damaged_keys_are_no_keys(tmp_path):
    """So that new ones are made."""
    (tmp_path / "keys.json").write_text('{"development": {"access_key_id"')

    assert read_keys(tmp_path / "keys.json") == {}
    assert read_keys(tmp_path / "missing.json") == {}


@pytest.mark.parametrize("text", [None, '{"access_key_id": "AKIA", "secret": "topsecret"}'])
def test_a_lost_or_damaged_root_key_is_told_without_its_secret(tmp_path, text):
    """With what to do; there is no well-known key to fall back to."""
    file = tmp_path / "root-key.json"
    if text:
        file.write_text(text)

    with pytest.raises(PartFailed, match="cscm down") as told:
        emulator_root(file, "us-east-1")

    assert "topsecret" not in str(told.value)


def test_the_bridge_may_carry_messages_and_nothing_else():
    """It reads no image, signs nothing, and makes no queue. What it only looked at it shows again."""
    values = {**VALUES, "PUSHED_QUEUE": "arn:q", "DEAD_QUEUE": "arn:d"}
    carries, looks = fill(POLICIES / "bridge.json", values)["Statement"]

    assert carries["Effect"] == looks["Effect"] == "Allow"
    assert carries["Action"] == ["sqs:DeleteMessage", "sqs:ReceiveMessage", "sqs:SendMessage"]
    assert carries["Resource"] == ["arn:q", "arn:d"]
    assert looks["Action"] == ["sqs:ChangeMessageVisibility", "sqs:GetQueueAttributes"]
    assert looks["Resource"] == "arn:d"


def test_only_its_rule_fills_the_queue():
    """Not every rule of everybody's account (the confused deputy)."""
    (statement,) = queue_policy("arn:q", "arn:rule")["Statement"]

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
def test_attributes_of_queues_are_compared_by_what_they_say(found, wanted, same):
    """Otherwise each start would set them again."""
    assert alike(found, wanted) is same
