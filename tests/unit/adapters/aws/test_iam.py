"""The IAM documents give each role what its code calls and nothing else."""

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
"""What ECR asks for where the registry's HTTP API is called; its tags are never listed."""
COSIGN = {"kms:DescribeKey", "kms:GetPublicKey", "kms:Sign"}
ECR_ITSELF = {"kms:CreateGrant", "kms:Decrypt", "kms:DescribeKey", "kms:Encrypt", "kms:GenerateDataKey"}
"""What ECR does with the storage key for whoever makes a repository (User Guide, "Encryption at rest")."""
FILES = {"ecr": ("ecr.py", "ecr_images.py"), "kms": ("kms.py",), "sqs": ("sqs.py",)}
CALL = re.compile(r"client\.(?:get_paginator\(\"(\w+)\"|(?!get_paginator)(\w+)\()")
READ = {"ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:DescribeImages", "ecr:GetDownloadUrlForLayer"}
WRITE = {"ecr:CompleteLayerUpload", "ecr:CreateRepository", "ecr:InitiateLayerUpload", "ecr:PutImage",
         "ecr:UploadLayerPart"}  # fmt: skip
CLOSE = {"ecr:UpdateImageStorageClass"}
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
    },
    "execution": {
        "curated/*": READ,
        "evidence/curation/*": READ,
        "evidence/execution/*": READ | WRITE,
        "evidence/lifecycle/*": READ,
    },
    "lifecycle": {
        "curated/*": READ | CLOSE | {"ecr:BatchDeleteImage"},
        "dev/*": {"ecr:BatchGetImage", "ecr:DescribeImages"} | CLOSE,
        "evidence/*": READ,
        "evidence/lifecycle/*": WRITE,
    },
    "bridge": {},
}
"""Role → repositories → what it may do there. Only the lifecycle changes storage classes, and nobody in `evidence/`."""


def made() -> set[str]:
    """Every action that the code asks AWS for."""
    found = set(REGISTRY | COSIGN | ECR_ITSELF)
    for service, files in FILES.items():
        for each in files:
            for pages, call in CALL.findall((ADAPTERS / each).read_text()):
                found.add(f"{service}:{''.join(word.capitalize() for word in (pages or call).split('_'))}")
    return found


def statements(path: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(path.read_text())["Statement"]
    return found


def listed(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else value


DOCUMENTS = sorted((ROOT / POLICIES).glob("*.json"))


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.stem)
def test_role_is_given_no_action_that_the_code_does_not_call(path: Path) -> None:
    """Nor a pattern of actions, nor anything but allowances."""
    given = {action for each in statements(path) for action in listed(each["Action"])}

    assert given <= made()
    assert {each["Effect"] for each in statements(path)} == {"Allow"}


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.stem)
def test_role_may_do_in_repositories_what_the_table_says(path: Path) -> None:
    """Exactly."""
    found: dict[str, set[str]] = {}
    for each in statements(path):
        for resource in listed(each["Resource"]):
            if ":repository/" in resource:
                found.setdefault(resource.partition(":repository/")[2], set()).update(listed(each["Action"]))

    assert found == REPOSITORIES[path.stem]


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.stem)
def test_role_may_do_in_all_repositories_nothing_but_find_them(path: Path) -> None:
    """A token and the list."""
    anywhere = {action for each in statements(path) if each["Resource"] == "*" for action in listed(each["Action"])}

    assert anywhere <= {"ecr:DescribeRepositories", "ecr:GetAuthorizationToken"}


def test_every_role_has_a_row() -> None:
    """A document that nobody looks at gives what nobody knows."""
    assert {path.stem for path in DOCUMENTS} == set(REPOSITORIES)
