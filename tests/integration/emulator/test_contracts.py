"""The adapters keep the contracts of their ports on an emulator; `tests/aws` does the same for ECR."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from time import sleep
from uuid import uuid4

import pytest

from supply_chain.adapters.aws.kms import Kms
from supply_chain.adapters.aws.sqs import SqsQueue
from supply_chain.adapters.registry.client import Registry
from supply_chain.adapters.registry.http import RegistryHttp
from supply_chain.model.image import ImageRef
from tests.contract import kms, queue, registry
from tests.support.content import Content
from tests.support.emulator import Emulator, allow, running

pytestmark = pytest.mark.real

HIDDEN = 3
"""Seconds until a received message is visible again."""


@pytest.fixture(scope="module")
def shared(python: Path, crane: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    """An emulator for all tests of this module."""
    with running(python, crane, tmp_path_factory.mktemp("contracts")) as started:
        yield started


class TestRegistry(registry.RegistryContract):
    @pytest.fixture
    def harness(self, shared: Emulator) -> registry.Harness:
        names = [f"{uuid4().hex[:8]}/{each}" for each in ("app", "other")]
        for name in names:
            shared.repository(name)
        password = shared.login()
        client = Registry(RegistryHttp(shared.host, lambda: ("AWS", password), insecure=True))

        def put(repository: str, content: Content, *tags: str) -> ImageRef:
            for blob in content.blobs:
                client.push_blob(repository, blob)
            for each in tags or (content.digest,):
                path = f"{repository}/manifests/{each}"
                client.http.call("PUT", path, content=content.manifest, media_type=content.media_type)
            return ImageRef(repository=repository, digest=content.digest)

        return registry.Harness(client, names[0], names[1], put)


class TestKms(kms.KmsContract):
    @pytest.fixture
    def harness(self, shared: Emulator) -> kms.Harness:
        client = shared.client("kms")
        nobody = shared.role(f"nobody-{uuid4().hex[:8]}", allow("*", "sts:GetCallerIdentity"))

        def create(rotated: bool) -> tuple[str, str]:
            key, alias = client.create_key()["KeyMetadata"], f"alias/test-{uuid4().hex[:8]}"
            client.create_alias(AliasName=alias, TargetKeyId=key["KeyId"])
            if rotated:
                client.enable_key_rotation(KeyId=key["KeyId"])
            return key["Arn"], alias

        denied = Kms(shared.client("kms", **nobody))
        return kms.Harness(Kms(client), create, lambda arn: client.disable_key(KeyId=arn), denied)


class TestQueue(queue.QueueContract):
    @pytest.fixture
    def harness(self, shared: Emulator) -> Iterator[queue.Harness]:
        client = shared.client("sqs")
        attributes = {"VisibilityTimeout": str(HIDDEN)}
        url = client.create_queue(QueueName=f"test-{uuid4().hex[:8]}", Attributes=attributes)["QueueUrl"]
        yield queue.Harness(SqsQueue(client, url, wait=1), lambda: sleep(HIDDEN + 0.5))
        client.delete_queue(QueueUrl=url)
