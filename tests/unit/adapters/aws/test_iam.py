"""Tests that the IAM documents grant each role the actions that its code calls, and no others."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from supply_chain.adapters.aws.accounts import POLICIES
from tests.support.command import ROOT

ADAPTERS = ROOT / "src/supply_chain/adapters/aws"
REGISTRY = {
    "ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:CompleteLayerUpload", "ecr:GetDownloadUrlForLayer",
    "ecr:InitiateLayerUpload", "ecr:PutImage", "ecr:UploadLayerPart",
}  # fmt: skip
"""Actions that ECR checks for calls of the registry's HTTP API; the code never lists tags there."""
COSIGN = {"kms:DescribeKey", "kms:GetPublicKey", "kms:Sign"}
ECR_ITSELF = {"kms:CreateGrant", "kms:Decrypt", "kms:DescribeKey", "kms:Encrypt", "kms:GenerateDataKey"}
"""Actions that ECR performs with the storage key for the creator of a repository (User Guide, "Encryption at rest")."""
SETUP = {"__init__", "accounts", "session", "signers"}
"""Modules that make clients or change accounts; each other one is named after the service that it calls."""
CALL = re.compile(r"client\.(?:get_paginator\(\"(\w+)\"|(?!get_paginator|generate_presigned_url)(\w+)\()")
READ = {"ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:DescribeImages", "ecr:GetDownloadUrlForLayer"}
WRITE = {"ecr:CompleteLayerUpload", "ecr:CreateRepository", "ecr:InitiateLayerUpload", "ecr:PutImage",
         "ecr:UploadLayerPart"}  # fmt: skip
CLOSE = {"ecr:UpdateImageStorageClass"}
REPLACE = {"ecr:BatchDeleteImage"}
REPOSITORIES: dict[str, dict[str, set[str]]] = {
    "development": {
        "dev/*": READ | WRITE,
        "curated/*": READ,
        "evidence/lifecycle/*": READ,
    },
    "curation": {
        "dev/*": READ,
        "curated/*": READ | WRITE,
        "evidence/curation/*": READ | WRITE,
        "evidence/lifecycle/*": READ,
        "verdicts/intake/*": READ | WRITE | REPLACE,
        "verdicts/release/*": READ | WRITE | REPLACE,
    },
    "execution": {
        "curated/*": READ,
        "evidence/curation/*": READ,
        "evidence/execution/*": READ | WRITE,
        "evidence/lifecycle/*": READ,
        "verdicts/*": READ,
        "verdicts/deploy/*": WRITE | REPLACE,
    },
    "lifecycle": {
        "curated/*": READ | CLOSE | REPLACE,
        "dev/*": READ | CLOSE,
        "evidence/*": READ,
        "evidence/lifecycle/*": WRITE,
    },
    "bridge": {},
}
"""Map of role to repositories to allowed actions; only lifecycle changes storage classes, and no role does in
`evidence/`."""


def made() -> set[str]:
    """Return every action that the code requests from AWS."""
    found = set(REGISTRY | COSIGN | ECR_ITSELF)
    for each in sorted(ADAPTERS.glob("*.py")):
        if each.stem not in SETUP:
            service = each.stem.partition("_")[0]
            for pages, call in CALL.findall(each.read_text()):
                found.add(f"{service}:{''.join(word.capitalize() for word in (pages or call).split('_'))}")
    return found


def statements(path: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(path.read_text())["Statement"]
    return found


def listed(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else value


DOCUMENTS = sorted((ROOT / POLICIES).glob("*.json"))


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.stem)
def test_role_is_granted_only_actions_that_the_code_calls(path: Path) -> None:
    """A document has no wildcard actions and only Allow statements."""
    given = {action for each in statements(path) for action in listed(each["Action"])}

    assert given <= made()
    assert {each["Effect"] for each in statements(path)} == {"Allow"}


def test_every_call_is_granted_to_a_role() -> None:
    """A call that no role is granted fails on AWS, and passes on the emulator."""
    given = {action for path in DOCUMENTS for each in statements(path) for action in listed(each["Action"])}

    assert made() <= given


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.stem)
def test_role_is_granted_exactly_the_tabled_repository_actions(path: Path) -> None:
    """The table is compared for equality, so that a missing action fails too."""
    found: dict[str, set[str]] = {}
    for each in statements(path):
        for resource in listed(each["Resource"]):
            if ":repository/" in resource:
                found.setdefault(resource.partition(":repository/")[2], set()).update(listed(each["Action"]))

    assert found == REPOSITORIES[path.stem]


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.stem)
def test_role_may_only_list_and_log_in_for_all_repositories(path: Path) -> None:
    """Only the login token and the list of repositories need the resource `*`."""
    anywhere = {action for each in statements(path) if each["Resource"] == "*" for action in listed(each["Action"])}

    assert anywhere <= {"ecr:DescribeRepositories", "ecr:GetAuthorizationToken"}


def test_every_iam_document_has_a_row_in_the_table() -> None:
    """A document without a row would not be checked."""
    assert {path.stem for path in DOCUMENTS} == set(REPOSITORIES)
