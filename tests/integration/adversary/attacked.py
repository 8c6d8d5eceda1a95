"""The application that is attacked, and what an attacker can do to it."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from cscm_laptop.laptop import LaptopState
from supply_chain.adapters.registry.client import MANIFEST, Registry
from supply_chain.adapters.tools import Toolbox
from supply_chain.adapters.tools.cosign import Cosign
from supply_chain.evidence.statement import BUNDLE, SUMMARY
from supply_chain.evidence.store import PREDICATE
from supply_chain.model.image import Descriptor, ImageRef, list_blobs
from supply_chain.model.tier import TierName
from tests.support.access import cosign_of, nowhere
from tests.support.command import cscm

PLACE = "attacked"
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
        for blob in list_blobs(self.registry.manifest(ref), ref):
            self.registry.push_blob(repository, self.registry.blob(ref.repository, blob.digest))
        content, _ = self.registry._manifest_bytes(ref)
        self.push(repository, content, tag)
        for referrer in self.registry.referrers(ref):
            self.registry.copy_referrer(ref.model_copy(update={"digest": referrer.digest}), repository)
        return ref.with_repository(repository)

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

    def notes(self, ref: ImageRef) -> list[str]:
        """List the notes of every verdict about an image."""
        verdicts = [statement(kind, bundle) for kind, bundle in self.bundles(ref) if kind == SUMMARY]
        return [note for verdict in verdicts for note in verdict["cscm"]["notes"]]

    def notes_after_acceptance(self, source: Path, accepted: str) -> list[str]:
        """Add lines to a declaration, build and curate the image, and list the notes of its verdicts."""
        declaration = source / "supply-chain.yaml"
        declaration.write_text(declaration.read_text() + accepted)
        offered = cscm("build", str(source), "--json")
        ran = cscm("curate", str(ImageRef.model_validate(offered.result["ref"])), "--json")
        assert ran.status == 0, ran.stderr
        return self.notes(ImageRef.model_validate(ran.result["ref"]))

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


Make = Callable[..., Path]


def statement(kind: str, bundle: bytes) -> dict[str, Any]:
    """Return the predicate of a bundle."""
    payload = json.loads(base64.b64decode(json.loads(bundle)["dsseEnvelope"]["payload"]))
    assert payload["predicateType"] == kind
    predicate: dict[str, Any] = payload["predicate"]
    return predicate
