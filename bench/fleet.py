"""A separate registry with a fleet of curated images, for benchmarks and for tests with many images.

The registry is the laptop's emulator over a directory. Statements are really signed, but by this process, with keys
that it makes: cosign would need minutes for a part that is not measured.
"""

from __future__ import annotations

import base64
import contextlib
import gzip
import hashlib
import json
import os
import random
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import boto3
import httpx
from botocore.config import Config
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from supply_chain.adapters.aws.ecr import Ecr
from supply_chain.adapters.registry.client import MANIFEST, Registry
from supply_chain.adapters.registry.content_cache import ContentCache
from supply_chain.adapters.registry.http import RegistryHttp
from supply_chain.adapters.tools.grype import Grype
from supply_chain.adapters.vulndb.report_cache import ReportCache
from supply_chain.concurrency import map_concurrently
from supply_chain.curation.scan import FORMATS
from supply_chain.evidence.encryption import EncryptionRecord
from supply_chain.evidence.examination import Examination
from supply_chain.evidence.provenance import make_provenance
from supply_chain.evidence.published import PublishedVerdicts
from supply_chain.evidence.sbom import Reference, References, Referred
from supply_chain.evidence.statement import ENCRYPTION, PAYLOAD, PROVENANCE, SBOM, Statement
from supply_chain.evidence.store import EvidenceStore
from supply_chain.fleet.image import FleetImage
from supply_chain.fleet.rescan import RescanPorts
from supply_chain.model.declaration import DECLARATION
from supply_chain.model.image import BuiltImage, ImageRef, Source, StoredManifest, digest_of
from supply_chain.model.tier import TierName
from supply_chain.policy.loading import read_project_policies
from supply_chain.vulnerability.scanner import Sbom, Sboms

REGION = "us-east-1"
SYFT = "syft 1.57.0"
VULNERABLE = (("jinja2", "2.10"), ("sqlparse", "0.4.3"), ("django", "3.2.3"), ("salt", "3000.1"), ("pyspark", "3.1.0"))
"""Packages for which the starter database has vulnerabilities."""


@dataclass(frozen=True)
class LocalSigner:
    """Signs in this process, in the way that cosign signs with a KMS key (DSSE v1; ECDSA P-256)."""

    private: ec.EllipticCurvePrivateKey

    @classmethod
    def with_key_in(cls, path: Path) -> LocalSigner:
        """Return a signer with the key in the file; make the key if there is none."""
        if not path.exists():
            made = ec.generate_private_key(ec.SECP256R1())
            form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            path.write_bytes(made.private_bytes(*form))
        key = serialization.load_pem_private_key(path.read_bytes(), None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        return cls(key)

    def _public(self, encoding: serialization.Encoding) -> bytes:
        return self.private.public_key().public_bytes(encoding, serialization.PublicFormat.SubjectPublicKeyInfo)

    @property
    def public(self) -> str:
        """The public key (PEM)."""
        return self._public(serialization.Encoding.PEM).decode()

    def sign(self, statement: Statement) -> bytes:
        """Return a sigstore bundle of the statement."""
        payload = statement.bytes()
        signed = b"DSSEv1 %d %s %d %s" % (len(PAYLOAD), PAYLOAD.encode(), len(payload), payload)
        signature = self.private.sign(signed, ec.ECDSA(hashes.SHA256()))
        hint = base64.b64encode(hashlib.sha256(self._public(serialization.Encoding.DER)).digest()).decode()
        envelope = {
            "payloadType": PAYLOAD,
            "payload": base64.b64encode(payload).decode(),
            "signatures": [{"sig": base64.b64encode(signature).decode()}],
        }
        return json.dumps(
            {
                "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
                "verificationMaterial": {"publicKey": {"hint": hint}},
                "dsseEnvelope": envelope,
            }
        ).encode()


class NoGenerator:
    """An SBOM generator for a fleet in which every image has its SBOM; it fails when called."""

    generator = SYFT

    def make_image_sbom(self, ref: ImageRef) -> tuple[Sbom, Examination]:
        """Fail, because the image has its SBOM."""
        raise AssertionError(f"{ref} has its SBOM")

    def convert(self, sbom: Sbom) -> Sboms:
        """Fail, because the image has its SBOM."""
        raise AssertionError(sbom)

    def make_directory_sbom(self, directory: Path) -> Sbom:
        """Fail, because no directory is scanned."""
        raise AssertionError(directory)


@dataclass
class Fleet:
    """A registry at `host`, and the keys of all tiers in `directory`."""

    host: str
    directory: Path
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    cache: Path | None = None
    """Where content is cached for the next night; None for no cache."""

    @cached_property
    def registry(self) -> Registry:
        """The registry's HTTP API."""
        registry = Registry(RegistryHttp(self.host, self._credentials, insecure=True))
        return replace(registry, memory=ContentCache(self.cache)) if self.cache else registry

    @cached_property
    def _credentials(self) -> Callable[[], tuple[str, str]]:
        data = self.ecr.get_authorization_token()["authorizationData"][0]
        user, _, password = base64.b64decode(data["authorizationToken"]).decode().partition(":")
        return lambda: (user, password)

    @cached_property
    def ecr(self) -> Any:
        """ECR's API, as root."""
        root = json.loads((self.directory / "state/root-key.json").read_text())
        return boto3.client(
            "ecr",
            region_name=REGION,
            endpoint_url=f"http://{self.host}",
            aws_access_key_id=root["access_key_id"],
            aws_secret_access_key=root["secret_access_key"],
            config=Config(proxies={}),
        )

    def store(self, tier: TierName) -> EvidenceStore:
        """Return the evidence store as a tier sees it."""
        store = self._store(tier, self.signers)
        publisher = PublishedVerdicts(self._store(tier, self.verdict_signers), Ecr(self.ecr, self.registry.http.host))
        return replace(store, publisher=publisher)

    def _store(self, tier: TierName, signers: Mapping[TierName, LocalSigner]) -> EvidenceStore:
        trusted = {name: signer.public for name, signer in signers.items()}
        return EvidenceStore(tier, self.registry, signers[tier], trusted, self.now)

    @cached_property
    def verdict_signers(self) -> dict[TierName, LocalSigner]:
        """The signers of published verdicts."""
        return {name: LocalSigner.with_key_in(self.directory / f"{name}-verdicts.pem") for name in TierName}

    @cached_property
    def signers(self) -> dict[TierName, LocalSigner]:
        """The signers of all tiers."""
        return {name: LocalSigner.with_key_in(self.directory / f"{name}.pem") for name in TierName}

    def rescan_ports(self, scanner: Grype, results: Path, **changes: Any) -> RescanPorts:
        """Return the dependencies of a rescan of this fleet."""
        ports = RescanPorts(
            generator=NoGenerator(),
            scanner=scanner,
            results=ReportCache(results),
            registry=self.registry,
            evidence=replace(self.store(TierName.CURATION), wide=1),
            repositories=Ecr(self.ecr, self.registry.http.host),
            layers=lambda ref: (),
            bases=(),
            base_decisions={},
            minimum_classification=lambda name: None,
            policy=read_project_policies(Path(__file__).parents[1]).release,
            production=frozenset({"production"}),
            now=self.now,
        )
        return replace(ports, **changes)

    def add(
        self, name: str, sboms: Sequence[bytes], limits: Mapping[str, int | None] | None = None
    ) -> list[FleetImage]:
        """Add images of an application, one for each SBOM, each with the evidence that a scan needs."""
        self.ecr.create_repository(repositoryName=f"curated/{name}")
        return list(map_concurrently(lambda pair: self._image(name, *pair, limits or {}), list(enumerate(sboms))))

    def _image(self, name: str, number: int, sbom: bytes, limits: Mapping[str, int | None]) -> FleetImage:
        repository, layer = f"curated/{name}", f"{name} {number}".encode()
        config = self.registry.push_blob(repository, b'{"architecture": "amd64", "os": "linux"}')
        blobs = [{"digest": self.registry.push_blob(repository, layer), "size": len(layer), "mediaType": "x/layer"}]
        manifest = {"schemaVersion": 2, "mediaType": MANIFEST, "config": {"digest": config, "size": 40,
                    "mediaType": "application/vnd.oci.image.config.v1+json"}, "layers": blobs}  # fmt: skip
        text = json.dumps(manifest)
        ref = ImageRef(repository=repository, digest=digest_of(text.encode()))
        self.ecr.put_image(
            repositoryName=repository,
            imageManifest=text,
            imageManifestMediaType=MANIFEST,
            imageTag=f"0000000-{ref.short}",
        )
        for tier, kind, predicate in self._evidence(ref, sbom, limits):
            self.store(tier).attach(ref, kind, predicate, self.now())
        return FleetImage(ref=ref, stored=StoredManifest(digest=ref.digest, pushed_at=self.now(), size=len(layer)))

    def _evidence(
        self, ref: ImageRef, sbom: bytes, limits: Mapping[str, int | None]
    ) -> Iterator[tuple[TierName, str, dict[str, Any]]]:
        now = self.now()
        declared = DECLARATION.validate_python(
            {"kind": "service", "name": ref.application, "owner": f"team {ref.application[-1]}",
             "test": {"command": ["true"]}, "probe": {"port": 8080}, "limits": dict(limits)}
        )  # fmt: skip
        built = BuiltImage(
            application=ref.application, digest=ref.digest, dockerfile=ref.digest, declaration=ref.digest,
            source=Source(path=".", repository="fleet", revision="0" * 40, dirty=False), materials=(), uncurated=(),
            versions={}, started=now, finished=now, invocation="fleet",
        )  # fmt: skip
        yield TierName.DEVELOPMENT, PROVENANCE, make_provenance(built, declared).predicate()
        yield TierName.CURATION, ENCRYPTION, EncryptionRecord(
            repository=ref.repository, type="KMS", key="arn:aws:kms:us-east-1:1:key/1", rotates=True,
            classification="internal", verified=now,
        ).predicate()  # fmt: skip
        zipped = gzip.compress(sbom, 6, mtime=0)
        referrer = self.registry.attach(ref, FORMATS["syft"], zipped, {}, media_type=f"{FORMATS['syft']}+gzip")
        about = Referred(referrer=referrer, generator=SYFT, packages=len(json.loads(sbom)["artifacts"]))
        reference = Reference(
            name="syft",
            media_type=FORMATS["syft"],
            digest={"sha256": digest_of(sbom).removeprefix("sha256:")},
            annotations=about,
        )
        references = References(references=(reference,), examination=Examination(), created=now)
        yield TierName.CURATION, SBOM, references.predicate()


@contextlib.contextmanager
def emulated(python: Path, directory: Path) -> Iterator[Fleet]:
    """Run an emulator over a directory, with the interpreter of the emulator's environment, until the block ends."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    source = str(Path(__file__).parents[1] / "src")
    state = str(directory / "state")
    command = [str(python), "-m", "cscm_laptop.emulator", "--port", str(port), "--state", state]
    with (directory / "log").open("ab") as log:
        process = subprocess.Popen(
            command, env={"PYTHONPATH": source, "PATH": os.environ["PATH"]}, stdout=log, stderr=log
        )
    try:
        _ready(process, port, directory / "log")
        fleet = Fleet(f"127.0.0.1:{port}", directory)
        assert fleet.signers  # make these before several threads ask for them
        yield fleet
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _ready(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    for _ in range(600):
        if process.poll() is not None:
            break
        with contextlib.suppress(httpx.TransportError):
            if httpx.get(f"http://127.0.0.1:{port}/_cscm/health", trust_env=False).status_code == 200:
                return
        time.sleep(0.1)
    raise SystemExit(f"the emulator did not start:\n{log.read_text()[-3000:]}")


def derived(real: Sequence[bytes], count: int, seed: int = 1) -> Iterator[bytes]:
    """Yield `count` SBOMs derived from real ones: no two have the same packages, and each has some vulnerable ones."""
    documents = [json.loads(each) for each in real]
    for number in range(count):
        chance = random.Random(f"{seed} {number}")  # noqa: S311 - the same numbers in every run
        document = dict(documents[number % len(documents)])
        document["artifacts"] = [
            _older(each, chance) for each in document["artifacts"] if each["type"] != "python" or chance.random() > 0.1
        ]
        document["source"] = {**document["source"], "name": f"derived {seed} {number}"}
        yield json.dumps(document, separators=(",", ":")).encode()


def _older(artifact: Mapping[str, Any], chance: random.Random) -> Mapping[str, Any]:
    """Return the package, or, with a probability of one in ten, a vulnerable package in its place."""
    if artifact["type"] != "python" or chance.random() > 0.1:
        return artifact
    name, version = chance.choice(VULNERABLE)
    return {**artifact, "name": name, "version": version, "purl": f"pkg:pypi/{name}@{version}", "cpes": []}
