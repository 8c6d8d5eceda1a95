"""The adapters keep the contracts of their ports on an emulator; `tests/aws` does the same for ECR."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from time import sleep
from uuid import uuid4

import httpx
import pytest

from supply_chain.adapters.aws.kms import Kms
from supply_chain.adapters.aws.sqs import SqsQueue
from supply_chain.adapters.debian_archive import DebianArchives
from supply_chain.adapters.files.private_files import PrivateFiles
from supply_chain.adapters.image.layers import examine_image
from supply_chain.adapters.image.packages import NO_SOURCES, PackageSources
from supply_chain.adapters.registry.client import Registry
from supply_chain.adapters.registry.http import RegistryHttp
from supply_chain.adapters.tools import Toolbox
from supply_chain.adapters.tools.syft import Syft
from supply_chain.model.image import ImageRef
from tests.contract import generator, kms, queue, registry
from tests.support.content import Content
from tests.support.debian_archive import ArchivePackage, MemoryArchive
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


@dataclass(frozen=True)
class SyftOnRegistry:
    """Makes SBOMs of images in the repository."""

    client: Registry
    repository: str
    syft: Callable[[PackageSources], Syft]

    def put(self, files: Mapping[str, bytes]) -> ImageRef:
        """Push an image with these files."""
        return put(self.client, self.repository, Content.of_files(files))


@pytest.fixture(scope="module")
def syft(shared: Emulator, toolbox: Toolbox, tmp_path_factory: pytest.TempPathFactory) -> SyftOnRegistry:
    repository, password, work = f"{uuid4().hex[:8]}/app", shared.login(), tmp_path_factory.mktemp("docker")
    shared.repository(repository)
    client = Registry(RegistryHttp(shared.host, lambda: ("AWS", password), insecure=True))
    auth = base64.b64encode(f"AWS:{password}".encode()).decode()
    (work / "config.json").write_text(json.dumps({"auths": {shared.host: {"auth": auth}}}))

    def make(sources: PackageSources) -> Syft:
        examine = partial(examine_image, client, sources=sources)
        return Syft(toolbox.find("syft"), shared.host, lambda: nullcontext(work), insecure=True, examine=examine)

    return SyftOnRegistry(client, repository, make)


class TestGenerator(generator.GeneratorContract):
    @pytest.fixture
    def harness(self, syft: SyftOnRegistry, tmp_path: Path) -> generator.Harness:
        package = "usr/lib/python3.11/site-packages/jinja2-3.1.6.dist-info/METADATA"
        image = syft.put({package: b"Metadata-Version: 2.1\nName: jinja2\nVersion: 3.1.6\n"})
        (tmp_path / "requirements.txt").write_text("jinja2==3.1.6\n")
        missing = image.model_copy(update={"digest": f"sha256:{'0' * 64}"})
        return generator.Harness(syft.syft(NO_SOURCES), image, tmp_path, missing)


BUSYBOX = b"\x7fELF\x02\x01\x01" + bytes(57) + b"BusyBox v1.30.1 (2019-06-12 17:51:55 UTC) multi-call binary.\n"
DEBIAN = {
    "etc/os-release": b"ID=debian\nVERSION_ID=12\nVERSION_CODENAME=bookworm\n",
    "var/lib/dpkg/status": b"Package: busybox\nStatus: install ok installed\nArchitecture: amd64\n"
    b"Version: 1:1.30.1-6\n\n",
}
RECORDS = {
    "nothing": {},
    "dpkg": {
        **DEBIAN, "var/lib/dpkg/info/busybox.md5sums": hashlib.md5(BUSYBOX).hexdigest().encode() + b"  bin/busybox\n"
    },
    "apk": {"lib/apk/db/installed": b"P:busybox\nV:1.30.1-r1\nA:x86_64\nF:bin\nR:busybox\n\n"},
    "other version": {"lib/apk/db/installed": b"P:busybox\nV:9.9.9-r1\nA:x86_64\nF:bin\nR:busybox\n\n"},
    "java": {"bin/release": b'IMPLEMENTOR="x"\nJAVA_VERSION="99"\n'},
}  # fmt: skip
"""Kind of the records that claim a program's file → the records."""


@pytest.mark.parametrize(
    ("kind", "published", "is_listed"),
    [
        ("nothing", None, True),
        ("java", None, True),
        ("apk", None, False),
        ("other version", None, True),
        ("dpkg", None, False),
        ("dpkg", BUSYBOX, False),
        ("dpkg", b"another", True),
    ],
)
def test_sbom_lists_program_unless_a_package_owns_it(
    syft: SyftOnRegistry, tmp_path: Path, kind: str, published: bytes | None, is_listed: bool
) -> None:
    """Whoever builds an image writes its records, and they hide no program that an archive did not publish."""
    image = syft.put({**RECORDS[kind], "bin/busybox": BUSYBOX})
    sources = NO_SOURCES
    if published is not None:
        archive = MemoryArchive([ArchivePackage("busybox", "1:1.30.1-6", {"bin/busybox": published})])
        sources = PackageSources(
            debian=DebianArchives(
                ("https://archive.invalid/debian bookworm main",), PrivateFiles(tmp_path / "cache"),
                transport=httpx.MockTransport(archive),
            )
        )  # fmt: skip
    generator = syft.syft(sources)

    sbom, _ = generator.make_image_sbom(image)

    programs = [each["version"] for each in json.loads(sbom.content)["artifacts"] if each["type"] == "binary"]
    assert ("1.30.1" in programs) is is_listed
    components = json.loads(generator.convert(sbom).cyclonedx)["components"]
    assert ("1.30.1" in {each["version"] for each in components if each["type"] == "application"}) is is_listed


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
