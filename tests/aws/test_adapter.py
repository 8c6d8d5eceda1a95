"""The project's own ECR adapter keeps the contract of its ports."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import httpx
import pytest

from supply_chain.adapters.aws.ecr import Ecr
from supply_chain.model.image import ImageRef, StorageStatus
from tests.contract.ecr import EcrContract, Harness
from tests.support.cloud import Repository
from tests.support.content import Content
from tests.support.waiting import eventually

pytestmark = pytest.mark.real


class TestEcr(EcrContract):
    @pytest.fixture
    def harness(self, repository: Repository) -> Iterator[Harness]:
        adapter = Ecr(repository.ecr, "unused")

        def put(name: str, content: Content, *tags: str) -> ImageRef:
            dataclasses.replace(repository, name=name).put(content, *tags)
            return ImageRef(repository=name, digest=content.digest)

        def wait(ref: ImageRef) -> None:
            eventually(lambda: adapter.status(ref) is StorageStatus.ACTIVE, repository.cloud.patience)

        def can_pull(ref: ImageRef) -> bool:
            return repository.pull(ref.digest).status_code == 200

        yield Harness(adapter, repository.name, put, can_pull, wait, httpx.HTTPStatusError)
        for name in adapter.repositories(f"{repository.name}/"):
            repository.ecr.delete_repository(repositoryName=name, force=True)
