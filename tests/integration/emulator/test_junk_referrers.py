"""Junk referrers, pushed by anyone with push permission: evidence is read as if they did not exist."""

from __future__ import annotations

import concurrent.futures
import contextlib
import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import httpx
import pytest

from supply_chain.adapters.registry.client import Registry
from supply_chain.adapters.registry.http import RegistryHttp
from supply_chain.adapters.tools import Toolbox
from supply_chain.adapters.tools.cosign import Cosign
from supply_chain.errors import RegistryFailed
from supply_chain.evidence.statement import BUNDLE, TEST_RESULT
from supply_chain.evidence.store import PREDICATE, EvidenceStore
from supply_chain.model.image import ImageRef
from supply_chain.model.tier import TierName
from tests.support.emulator import EMPTY, MANIFEST, Emulator, put_blob, put_manifest, sha

pytestmark = pytest.mark.real

MANY = 1000


def clock() -> datetime:
    return datetime.now(UTC)


@pytest.fixture
def cosign(toolbox: Toolbox, tmp_path: Path) -> Callable[[str, str], tuple[Cosign, str]]:
    """A function that returns the real cosign with a new key, and the public key."""
    own = {"COSIGN_PASSWORD": "", "HOME": str(tmp_path), "PATH": os.environ["PATH"]}
    tool = toolbox.find("cosign").with_environment(**own)

    @contextlib.contextmanager
    def nothing() -> Iterator[Path]:
        yield tmp_path

    def with_key(name: str, host: str) -> tuple[Cosign, str]:
        tool.run("generate-key-pair", "--output-key-prefix", tmp_path / name, timeout=60, quiet=True)
        public = (tmp_path / f"{name}.pub").read_text()
        return Cosign(tool, str(tmp_path / f"{name}.key"), host, nothing, insecure=True), public

    return with_key


class Pushed(NamedTuple):
    """An image that development pushed, with the registry's password, and its evidence as development sees it."""

    password: str
    ref: ImageRef
    registry: Registry
    store: EvidenceStore
    signer: Cosign


@pytest.fixture
def pushed(emulator: Emulator, cosign: Callable[[str, str], tuple[Cosign, str]]) -> Pushed:
    emulator.repository("dev/app")
    password = emulator.login()
    digest = emulator.push(password, "dev/app:one").stdout.strip().partition("@")[2]
    signer, key = cosign("development", emulator.host)
    registry = Registry(RegistryHttp(emulator.host, lambda: ("AWS", password), insecure=True))
    store = EvidenceStore(TierName.DEVELOPMENT, registry, signer, {TierName.DEVELOPMENT: key}, clock)
    return Pushed(password, ImageRef(repository="dev/app", digest=digest), registry, store, signer)


def referrer(subject: str, layer: bytes, *, size: int | None = None, **changes: object) -> bytes:
    """Return a manifest as cosign writes it for evidence, with changes."""
    return json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "artifactType": BUNDLE,
            "config": {"mediaType": "application/vnd.oci.empty.v1+json", "digest": sha(EMPTY), "size": len(EMPTY)},
            "layers": [{"mediaType": BUNDLE, "digest": sha(layer), "size": len(layer) if size is None else size}],
            "subject": {"mediaType": MANIFEST, "digest": subject, "size": 1},
            "annotations": {PREDICATE: TEST_RESULT},
            **changes,
        }
    ).encode()


def odd_manifests(subject: str, genuine: bytes) -> list[bytes]:
    """Return one manifest of each kind that the registry accepts and that is no evidence."""
    notes = {PREDICATE: TEST_RESULT}
    return [
        referrer(subject, EMPTY, annotations={**notes, "x": "y" * 3 * 1024 * 1024}),
        referrer(subject, EMPTY, annotations={**notes, "x": 7}),
        referrer(subject, EMPTY, config=None),
        referrer(subject, EMPTY, layers=[]),
        referrer(subject, EMPTY, layers=None),
        referrer(subject, EMPTY, size=-1),
        referrer(subject, EMPTY, size=1 << 60),
        referrer(subject, genuine, size=1),
        referrer(subject, genuine, annotations={PREDICATE: "https://example.com/another"}),
        referrer(subject, EMPTY, x=json.loads("[" * 500 + "]" * 500)),
        referrer(subject, EMPTY, artifactType=7),
    ]


def test_junk_referrers_of_any_kind_and_number_are_ignored(
    emulator: Emulator, cosign: Callable[[str, str], tuple[Cosign, str]], pushed: Pushed
) -> None:
    """The signed evidence is found within a minute, and a note says what was ignored."""
    password, ref, registry, store, _ = pushed
    subject = ref.digest
    stranger, _ = cosign("stranger", emulator.host)
    digest = store.attach(ref, TEST_RESULT, {"result": "FAILED"}, datetime.now(UTC))
    genuine = registry.content(ref.model_copy(update={"digest": digest}))
    forged = EvidenceStore(TierName.DEVELOPMENT, registry, stranger, {}, clock)
    forged.attach(ref, TEST_RESULT, {"result": "PASSED"}, datetime.now(UTC))

    with emulator.http(password) as http, concurrent.futures.ThreadPoolExecutor(8) as pool:
        put_blob(http, "dev/app", b"x" * 20 * 1024 * 1024)
        huge = referrer(subject, b"x" * 20 * 1024 * 1024, size=1)
        for manifest in (*odd_manifests(subject, genuine), huge):
            answer = put_manifest(http, "dev/app", sha(manifest), manifest)
            assert answer.status_code in (201, 400), answer.text
        list(pool.map(lambda n: push(http, subject, f"junk {n}".encode()), range(MANY)))

    started = time.monotonic()
    reading = store.read(ref)
    seconds = time.monotonic() - started

    assert [e.predicate for e in reading.list_signed_by(TierName.DEVELOPMENT)] == [{"result": "FAILED"}]
    (note,) = reading.notes()
    assert "1 × not signed by a tier that is trusted here" in note
    assert "2 × larger than" in note and "× not as large as its manifest says" in note
    assert len(reading.left_out) > MANY
    assert seconds < 60, f"{seconds:.0f} s"


def push(http: httpx.Client, subject: str, content: bytes) -> None:
    put_blob(http, "dev/app", content)
    manifest = referrer(subject, content)
    put_manifest(http, "dev/app", sha(manifest), manifest).raise_for_status()


def test_statement_pushed_again_under_another_media_type_counts(pushed: Pushed) -> None:
    """Whoever may push cannot hide it that way, in the list of referrers or in what a gate reads."""
    _, ref, registry, store, _ = pushed
    digest = store.attach(ref, TEST_RESULT, {"result": "FAILED"}, datetime.now(UTC))
    content = registry.read_manifest_text(ref.with_digest(digest)).encode()

    for media_type in ("application/vnd.oci.image.index.v1+json", "application/octet-stream"):
        with contextlib.suppress(RegistryFailed):  # a registry may refuse it
            registry.push_manifest(ref.repository, content, media_type)
        later = Registry(registry.http)
        reading = replace(store, referrers=later).read(ref)
        assert [each.predicate for each in reading.list_signed_by(TierName.DEVELOPMENT)] == [{"result": "FAILED"}]


def test_evidence_store_and_cosign_verify_each_others_statements(pushed: Pushed, tmp_path: Path) -> None:
    """The project's implementation and the common tool agree."""
    _, ref, registry, store, signer = pushed
    digest = store.attach(ref, TEST_RESULT, {"result": "PASSED"}, datetime.now(UTC))
    (tmp_path / "bundle.json").write_bytes(registry.content(ref.model_copy(update={"digest": digest})))

    done = subprocess.run(
        [signer.tool.path, "verify-blob-attestation", "--key", tmp_path / "development.pub",
         "--bundle", tmp_path / "bundle.json", "--type", TEST_RESULT, "--digest", ref.digest.removeprefix("sha256:"),
         "--digestAlg", "sha256", "--insecure-ignore-tlog", "--trusted-root", root(tmp_path)],
        env=dict(signer.tool.environment), capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip

    assert done.returncode == 0, done.stderr
    assert [e.digest for e in store.read_verified(ref, TierName.DEVELOPMENT)] == [digest]


def root(directory: Path) -> Path:
    """Write a trusted root without certificate authority and transparency log."""
    path = directory / "root.json"
    path.write_text('{"mediaType":"application/vnd.dev.sigstore.trustedroot+json;version=0.1"}')
    return path
