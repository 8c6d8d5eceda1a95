"""The adversary: the account's owner at the registry, who can push anything, and whoever else a test says."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import docker
import httpx
import pytest

from supply_chain.adapters.cosign import Cosign
from supply_chain.adapters.ecr import Ecr
from supply_chain.adapters.registry import MANIFEST, Registry
from supply_chain.adapters.tools import Pins, Toolbox
from supply_chain.concurrency import side_by_side
from supply_chain.evidence.statement import BUNDLE, about
from supply_chain.evidence.store import PREDICATE
from supply_chain.image import Descriptor, ImageRef, blobs_of
from supply_chain.laptop.aws import emulator_root
from supply_chain.laptop.emulator_service import root_key
from supply_chain.laptop.home import Home
from supply_chain.laptop.laptop import LaptopState, load_state
from supply_chain.laptop.prefect_server import auth_string
from supply_chain.tier import TierName
from tests.real.chain.conftest import ROOT, Ran, cscm, session_of
from tests.real.conftest import placed

PLACE = "attacked"
NAMES = ("prey", "quarry", "foreign", "copied", "hostile")
SUBJECT = Path(__file__).parents[1] / "faults/subject"


@dataclass(frozen=True)
class Adversary:
    """Reads and writes every repository, whoever's it is, and has a key of nobody."""

    laptop: LaptopState
    ecr: Any
    registry: Registry
    toolbox: Toolbox

    def alter(self, ref: ImageRef, tag: str, **config: object) -> ImageRef:
        """Another image like it, in the same repository: its configuration differs."""
        manifest = self.registry.manifest(ref)
        described = json.loads(self.registry.blob(ref.repository, manifest["config"]["digest"]))
        content = json.dumps({**described, "author": tag, **config}).encode()
        digest = self.registry.push_blob(ref.repository, content)
        changed = {**manifest, "config": {**manifest["config"], "digest": digest, "size": len(content)}}
        return self.push(ref.repository, json.dumps(changed).encode(), tag)

    def push(self, repository: str, manifest: bytes, tag: str) -> ImageRef:
        """Push a manifest under a tag, which moves there if it may."""
        address = f"http://{self.registry.host}/v2/{repository}/manifests/{tag}"
        headers = {"Content-Type": MANIFEST}
        httpx.put(
            address, content=manifest, headers=headers, auth=self.registry.credentials(), timeout=30
        ).raise_for_status()
        return ImageRef(repository=repository, digest=f"sha256:{hashlib.sha256(manifest).hexdigest()}")

    def copy(self, ref: ImageRef, repository: str, tag: str) -> ImageRef:
        """The same image in another repository, with everything that is attached to it."""
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
        """Every signed statement about an image, with its type."""
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
        """The real cosign with a tier's real key."""
        tool = self.toolbox.find("cosign").with_environment(**session_of(self.laptop, tier).environment())
        alias = self.laptop.identities[tier].signing_alias
        return Cosign(tool, f"awskms:///{alias}", self.laptop.registry, contextlib.nullcontext, insecure=True)  # type: ignore[arg-type]

    def stranger(self, directory: Path) -> Cosign:
        """The real cosign with a key that no tier has."""
        tool = self.toolbox.find("cosign").with_environment(COSIGN_PASSWORD="", HOME=str(directory))
        tool.run("generate-key-pair", "--output-key-prefix", directory / "stranger", timeout=60, quiet=True)
        return Cosign(tool, str(directory / "stranger.key"), self.laptop.registry, contextlib.nullcontext)  # type: ignore[arg-type]

    def everything(self) -> dict[str, frozenset[tuple[str, frozenset[str]]]]:
        """Every repository with every manifest and its tags."""
        pages = self.ecr.get_paginator("describe_repositories").paginate()
        names = [each["repositoryName"] for page in pages for each in page["repositories"]]
        return {name: frozenset(self._held(name)) for name in names}

    def _held(self, repository: str) -> Iterator[tuple[str, frozenset[str]]]:
        for page in self.ecr.get_paginator("describe_images").paginate(repositoryName=repository):
            for each in page["imageDetails"]:
                yield each["imageDigest"], frozenset(each.get("imageTags", ()))


@pytest.fixture(scope="session")
def laptop(home: Home) -> LaptopState:
    """The running laptop; `cscm up` has to have been run, as `make test` does."""
    return load_state(home)


@pytest.fixture(scope="session")
def adversary(home: Home, laptop: LaptopState) -> Iterator[Adversary]:
    root = emulator_root(root_key(home), laptop.region)
    client = root.client("ecr", endpoint_url=laptop.endpoint_url)
    registry = Registry(laptop.registry, Ecr(client, laptop.registry).credentials, insecure=True)
    toolbox = Toolbox(laptop.tools, Pins.load(ROOT / "deployments/tools.yaml"))
    _forget(client)
    yield Adversary(laptop, client, registry, toolbox)
    _forget(client)


def _forget(ecr: Any) -> None:
    """Remove the repositories of the tests' applications: what is pushed there is of no use to anybody."""
    for name in NAMES:
        for prefix in ("dev", "curated", "evidence/curation", "evidence/execution"):
            with contextlib.suppress(ecr.exceptions.RepositoryNotFoundException):
                ecr.delete_repository(repositoryName=f"{prefix}/{name}", force=True)


@pytest.fixture(scope="session")
def place() -> Iterator[dict[str, int]]:
    """The environment that the adversary's images go to: application → port."""
    with placed(PLACE, NAMES) as ports:
        yield ports


Application = Callable[..., Path]


@pytest.fixture(scope="session")
def application(program: Path, tmp_path_factory: pytest.TempPathFactory) -> Application:
    """A git repository with a small application of this name in it, and with these files instead of its own."""

    def make(name: str, files: Mapping[str, str] | None = None, remote: str = "") -> Path:
        path = tmp_path_factory.mktemp("source") / name
        shutil.copytree(SUBJECT, path)
        shutil.copy(program, path)
        (path / "revision").write_text("1\n")
        declaration = path / "supply-chain.yaml"
        text = declaration.read_text().replace("NAME", name).replace("[interrupted]", f"[{PLACE}]")
        declaration.write_text(text)
        for file, content in (files or {}).items():
            (path / file).write_text(content)
        for command in (
            ["init", "--quiet"],
            ["remote", "add", "origin", remote or f"git@example.com:{name}.git"],
            ["add", "."],
            ["-c", "user.name=test", "-c", "user.email=test@localhost", "commit", "--quiet", "--message", "Begin"],
        ):
            subprocess.run(["git", "-C", str(path), *command], check=True)
        return path

    return make


@pytest.fixture(scope="session")
def bases(laptop: LaptopState) -> None:
    made = cscm("bases", timeout=900)
    assert made.status == 0, made.stderr


@pytest.fixture(scope="session")
def offered(bases: None, adversary: Adversary, application: Application, place: dict[str, int]) -> ImageRef:
    """An honest application's image at boundary 1."""
    ran = cscm("develop", str(application("prey")), "--json")
    assert ran.status == 0, ran.stderr
    return ImageRef.model_validate(ran.result["ref"])


@pytest.fixture(scope="session")
def curated(offered: ImageRef) -> ImageRef:
    """The same, curated and signed."""
    ran = cscm("curate", str(offered), "--json")
    assert ran.status == 0, ran.stderr
    return ImageRef.model_validate(ran.result["ref"])


def statement(kind: str, bundle: bytes) -> dict[str, Any]:
    """The predicate that a bundle is about."""
    said = json.loads(base64.b64decode(json.loads(bundle)["dsseEnvelope"]["payload"]))
    assert said["predicateType"] == kind
    predicate: dict[str, Any] = said["predicate"]
    return predicate


@pytest.fixture(scope="session")
def vouched(offered: ImageRef, adversary: Adversary) -> Callable[[str], ImageRef]:
    """Another image like the offered one, about which development says the same, with its own key."""
    signer = adversary.cosign(TierName.DEVELOPMENT)

    def make(tag: str) -> ImageRef:
        ref = adversary.alter(offered, tag, comment="x" * 100)
        said = [(kind, statement(kind, bundle)) for kind, bundle in adversary.bundles(offered)]
        bundles = side_by_side(lambda each: signer.sign(about(ref, *each)), said)
        for (kind, _), bundle in zip(said, bundles, strict=True):
            adversary.attach(ref, kind, bundle)
        return ref

    return make


@pytest.fixture(scope="session")
def engine() -> Iterator[docker.DockerClient]:
    client = docker.from_env()
    yield client
    client.close()


def codes(ran: Ran) -> set[str]:
    """The codes of a refusal, which the command ends with status 3."""
    assert ran.status == 3, ran.stderr
    return {reason["code"] for reason in ran.result["reasons"]}


@pytest.fixture(scope="session")
def prefect(home: Home, laptop: LaptopState) -> Iterator[Callable[..., Any]]:
    """Prefect's own API: `prefect("flow_runs/filter", {...})`."""
    user, _, password = auth_string(home).partition(":")
    with httpx.Client(base_url=f"{laptop.prefect_api_url}/", auth=(user, password), timeout=30) as client:

        def ask(path: str, body: dict[str, Any]) -> Any:
            answer = client.post(path, json=body)
            assert answer.status_code < 300, answer.text
            return answer.json()

        yield ask
