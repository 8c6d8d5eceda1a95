"""The adversary: it owns the account at the registry and can push anything; a test may give it more rights."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from cscm_laptop.laptop import LaptopState
from supply_chain.adapters.aws.ecr import Ecr
from supply_chain.adapters.registry.client import MANIFEST, Registry
from supply_chain.adapters.registry.http import RegistryHttp
from supply_chain.adapters.tools import Toolbox
from supply_chain.adapters.tools.cosign import Cosign
from supply_chain.concurrency import map_concurrently
from supply_chain.evidence.statement import BUNDLE, about
from supply_chain.evidence.store import PREDICATE
from supply_chain.model.image import Descriptor, ImageRef, blobs_of
from supply_chain.model.tier import TierName
from tests.support.access import cosign_of, nowhere
from tests.support.application import Application, git
from tests.support.command import cscm
from tests.support.place import placed

PLACE = "attacked"
NAMES = ("prey", "quarry", "foreign", "copied", "hostile", "caught", "leaky", "liar", "twofold", "dumped", "printer")
BAIT = "base/bait"


@dataclass(frozen=True)
class Adversary:
    """Reads and writes every repository, and has a key that no tier trusts."""

    laptop: LaptopState
    ecr: Any
    registry: Registry
    toolbox: Toolbox

    def alter(self, ref: ImageRef, tag: str, **config: object) -> ImageRef:
        """Push a variant of an image, with another configuration, to the same repository."""
        manifest = self.registry.manifest(ref)
        described = json.loads(self.registry.blob(ref.repository, manifest["config"]["digest"]))
        content = json.dumps({**described, "author": tag, **config}).encode()
        digest = self.registry.push_blob(ref.repository, content)
        changed = {**manifest, "config": {**manifest["config"], "digest": digest, "size": len(content)}}
        return self.push(ref.repository, json.dumps(changed).encode(), tag)

    def push(self, repository: str, manifest: bytes, tag: str) -> ImageRef:
        """Push a manifest under a tag, and move the tag if the repository allows it."""
        address = f"http://{self.registry.http.host}/v2/{repository}/manifests/{tag}"
        headers = {"Content-Type": MANIFEST}
        httpx.put(
            address, content=manifest, headers=headers, auth=self.registry.http.credentials(), timeout=30
        ).raise_for_status()
        return ImageRef(repository=repository, digest=f"sha256:{hashlib.sha256(manifest).hexdigest()}")

    def copy(self, ref: ImageRef, repository: str, tag: str) -> ImageRef:
        """Copy an image with all of its referrers to another repository."""
        with contextlib.suppress(self.ecr.exceptions.RepositoryAlreadyExistsException):
            self.ecr.create_repository(repositoryName=repository)
        for blob in blobs_of(self.registry.manifest(ref), ref):
            self.registry.push_blob(repository, self.registry.blob(ref.repository, blob.digest))
        content, _ = self.registry._manifest_bytes(ref)
        self.push(repository, content, tag)
        for referrer in self.registry.referrers(ref):
            self.registry.copy_referrer(ref.model_copy(update={"digest": referrer.digest}), repository)
        return ref.moved_to(repository)

    def bundles(self, ref: ImageRef) -> list[tuple[str, bytes]]:
        """List every signed statement about an image, with its predicate type."""
        found = []
        for referrer in self.registry.referrers(ref):
            if referrer.artifact_type == BUNDLE:
                layer = self.registry.layer(ref.model_copy(update={"digest": referrer.digest}))
                assert isinstance(layer, Descriptor)
                found.append((referrer.annotations[PREDICATE], self.registry.blob(ref.repository, layer.digest)))
        return found

    def attach(self, ref: ImageRef, kind: str, bundle: bytes) -> None:
        self.registry.attach(ref, BUNDLE, bundle, {PREDICATE: kind})

    def cosign(self, tier: TierName) -> Cosign:
        """Return the real cosign with a tier's real key."""
        return cosign_of(self.laptop, tier)

    def stranger(self, directory: Path) -> Cosign:
        """Return the real cosign with a key that belongs to no tier."""
        tool = self.toolbox.find("cosign").with_environment(COSIGN_PASSWORD="", HOME=str(directory))
        tool.run("generate-key-pair", "--output-key-prefix", directory / "stranger", timeout=60, quiet=True)
        return Cosign(tool, str(directory / "stranger.key"), self.laptop.registry, nowhere)

    def everything(self) -> dict[str, frozenset[tuple[str, frozenset[str]]]]:
        """List every manifest of every repository, with its tags."""
        pages = self.ecr.get_paginator("describe_repositories").paginate()
        names = [each["repositoryName"] for page in pages for each in page["repositories"]]
        return {name: frozenset(self._held(name)) for name in names}

    def _held(self, repository: str) -> Iterator[tuple[str, frozenset[str]]]:
        for page in self.ecr.get_paginator("describe_images").paginate(repositoryName=repository):
            for each in page["imageDetails"]:
                yield each["imageDigest"], frozenset(each.get("imageTags", ()))


@pytest.fixture(scope="session")
def adversary(laptop: LaptopState, ecr: Any, toolbox: Toolbox) -> Iterator[Adversary]:
    registry = Registry(RegistryHttp(laptop.registry, Ecr(ecr, laptop.registry).credentials, insecure=True))
    _forget(ecr)
    yield Adversary(laptop, ecr, registry, toolbox)
    _forget(ecr)


def _forget(ecr: Any) -> None:
    """Remove the repositories of the tests' applications."""
    for name in (*NAMES, BAIT):
        for prefix in ("dev", "curated", "evidence/curation", "evidence/execution", "evidence/lifecycle"):
            with contextlib.suppress(ecr.exceptions.RepositoryNotFoundException):
                ecr.delete_repository(repositoryName=f"{prefix}/{name}", force=True)


@pytest.fixture(scope="session")
def place() -> Iterator[dict[str, int]]:
    """The environment that the adversary's images are deployed to: a map from application to port."""
    with placed(PLACE, NAMES) as ports:
        yield ports


Make = Callable[..., Path]


@pytest.fixture(scope="session")
def application(program: Path, place: dict[str, int], tmp_path_factory: pytest.TempPathFactory) -> Make:
    """A function that creates a git repository with a small application of this name; `files` replaces its files."""

    def make(name: str, files: Mapping[str, str] | None = None, remote: str = "") -> Path:
        made = Application(name, tmp_path_factory.mktemp("source") / name)
        made.write(program, PLACE)
        for file, content in {"revision": "1\n", **(files or {})}.items():
            (made.path / file).write_text(content)
        git(made.path, "remote", "add", "origin", remote or f"git@example.com:{name}.git")
        made.commit()
        return made.path

    return make


@pytest.fixture(scope="session")
def offered(bases: None, adversary: Adversary, application: Make, place: dict[str, int]) -> ImageRef:
    """The image of an honest application, offered to the intake gate."""
    ran = cscm("build", str(application("prey")), "--json")
    assert ran.status == 0, ran.stderr
    return ImageRef.model_validate(ran.result["ref"])


@pytest.fixture(scope="session")
def curated(offered: ImageRef) -> ImageRef:
    """The same image, curated and signed."""
    ran = cscm("curate", str(offered), "--json")
    assert ran.status == 0, ran.stderr
    return ImageRef.model_validate(ran.result["ref"])


def statement(kind: str, bundle: bytes) -> dict[str, Any]:
    """Return the predicate of a bundle."""
    said = json.loads(base64.b64decode(json.loads(bundle)["dsseEnvelope"]["payload"]))
    assert said["predicateType"] == kind
    predicate: dict[str, Any] = said["predicate"]
    return predicate


@pytest.fixture(scope="session")
def vouched(offered: ImageRef, adversary: Adversary) -> Callable[[str], ImageRef]:
    """A function that pushes another image with the same statements, signed with development's own key."""
    signer = adversary.cosign(TierName.DEVELOPMENT)

    def make(tag: str) -> ImageRef:
        ref = adversary.alter(offered, tag, comment="x" * 100)
        said = [(kind, statement(kind, bundle)) for kind, bundle in adversary.bundles(offered)]
        bundles = map_concurrently(lambda each: signer.sign(about(ref, *each)), said)
        for (kind, _), bundle in zip(said, bundles, strict=True):
            adversary.attach(ref, kind, bundle)
        return ref

    return make
