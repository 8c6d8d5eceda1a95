"""The adapters keep the contracts of their ports on an emulator; `tests/aws` does the same for ECR."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from time import sleep
from uuid import uuid4

import pytest

from supply_chain.adapters.aws.kms import Kms
from supply_chain.adapters.aws.sqs import SqsQueue
from supply_chain.adapters.image.layers import examine_image
from supply_chain.adapters.registry.client import Registry
from supply_chain.adapters.registry.http import RegistryHttp
from supply_chain.adapters.tools import Toolbox
from supply_chain.adapters.tools.syft import Syft
from supply_chain.model.image import ImageRef
from tests.contract import generator, kms, queue, registry
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


def put(client: Registry, repository: str, content: Content, *tags: str) -> ImageRef:
    """Push an image to the registry and return its reference."""
    for blob in content.blobs:
        client.push_blob(repository, blob)
    for each in tags or (content.digest,):
        path = f"{repository}/manifests/{each}"
        client.http.call("PUT", path, content=content.manifest, media_type=content.media_type)
    return ImageRef(repository=repository, digest=content.digest)


class TestRegistry(registry.RegistryContract):
    @pytest.fixture
    def harness(self, shared: Emulator) -> registry.Harness:
        names = [f"{uuid4().hex[:8]}/{each}" for each in ("app", "other")]
        for name in names:
            shared.repository(name)
        password = shared.login()
        client = Registry(RegistryHttp(shared.host, lambda: ("AWS", password), insecure=True))
        return registry.Harness(client, names[0], names[1], partial(put, client))


@pytest.fixture(scope="module")
def syft(shared: Emulator, toolbox: Toolbox, tmp_path_factory: pytest.TempPathFactory) -> generator.Harness:
    """Syft, with an image that is in the registry."""
    repository, password, work = f"{uuid4().hex[:8]}/app", shared.login(), tmp_path_factory.mktemp("generator")
    shared.repository(repository)
    client = Registry(RegistryHttp(shared.host, lambda: ("AWS", password), insecure=True))
    package = "usr/lib/python3.11/site-packages/jinja2-3.1.6.dist-info/METADATA"
    content = Content.image(package, "Metadata-Version: 2.1\nName: jinja2\nVersion: 3.1.6\n")
    image = put(client, repository, content)
    (work / "source").mkdir()
    (work / "source/requirements.txt").write_text("jinja2==3.1.6\n")
    (work / "docker").mkdir()
    auth = base64.b64encode(f"AWS:{password}".encode()).decode()
    (work / "docker/config.json").write_text(json.dumps({"auths": {shared.host: {"auth": auth}}}))
    program = Syft(
        toolbox.find("syft"), shared.host, lambda: nullcontext(work / "docker"), insecure=True,
        examine=partial(examine_image, client),
    )  # fmt: skip
    return generator.Harness(program, image, work / "source", image.model_copy(update={"digest": f"sha256:{'0' * 64}"}))


class TestGenerator(generator.GeneratorContract):
    @pytest.fixture
    def harness(self, syft: generator.Harness) -> generator.Harness:
        return syft


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
