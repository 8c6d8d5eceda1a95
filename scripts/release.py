"""Release the commit that is checked out: through our own chain, then as files that anybody can verify.

    python scripts/release.py [build/release]

The chain builds the wheel and an image that has it installed, checks, scans and signs that. From the image
that curation admitted come the wheel and its SBOM; curation's key signs both. Each file is verified as a
user would before this says so. Exits 3 where a gate refuses.
"""

from __future__ import annotations

import asyncio
import io
import json
import subprocess
import sys
import tarfile
from pathlib import Path

from cscm.session import use_prefect

HOME = use_prefect()  # sets Prefect's environment, so it comes before what imports it

from blocks import Tier, Workbench  # noqa: E402
from supply_chain.adapters.command import Tool  # noqa: E402
from supply_chain.curation.release import RELEASE, released  # noqa: E402
from supply_chain.errors import EvidenceInvalid, SignatureFailed, SupplyChainError  # noqa: E402
from supply_chain.evidence.inventory import inventory_in  # noqa: E402
from supply_chain.image import ImageRef  # noqa: E402
from supply_chain.tier import TierName  # noqa: E402

WHEELS = "opt/release"
BUNDLE, KEY, SBOM, IMAGE = "release.sigstore.json", "curation.pub", "sbom.syft.json", "image.txt"
TRUSTED_ROOT = '{"mediaType":"application/vnd.dev.sigstore.trustedroot+json;version=0.1"}'


def main(target: Path) -> int:
    """Make the release in `target`; the exit status."""
    done = subprocess.run(
        [Path(sys.executable).with_name("cscm"), "chain", HOME.project, "--revision", "HEAD", "--json"],
        cwd=HOME.project,
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    if done.returncode:
        sys.stderr.write(done.stdout)
        return done.returncode
    curated = json.loads(done.stdout)
    ref = ImageRef.model_validate(curated["ref"])
    tier, workbench = asyncio.run(_blocks())
    files = {**_wheel(tier, workbench, ref), SBOM: _sbom(tier, workbench, ref)}
    (wheel,) = [name for name in files if name.endswith(".whl")]
    name, version = wheel.split("-")[:2]
    bundle = tier.cosign(workbench).sign(released(f"pkg:pypi/{name.replace('_', '-')}@{version}", ref, files))
    target.mkdir(parents=True, exist_ok=True)
    for old in target.iterdir():
        old.unlink()
    key = tier.trusted_keys[TierName.CURATION.value]
    image = f"{tier.registry}/{ref}\n"
    for path, content in {**files, BUNDLE: bundle, KEY: key.encode(), IMAGE: image.encode()}.items():
        (target / path).write_bytes(content)
    _verify(workbench.tool("cosign"), target, files)
    tier.cosign(workbench).verify_image(ref, key)
    sys.stdout.write(f"{target}: {', '.join(sorted(files))}, signed for commit {curated['source']['revision']}\n")
    return 0


async def _blocks() -> tuple[Tier, Workbench]:
    return await Tier.aload("curation"), await Workbench.aload("workbench")


def _wheel(tier: Tier, workbench: Workbench, ref: ImageRef) -> dict[str, bytes]:
    """The wheel in the image; its layers are verified against the signed digest on the way."""
    insecure = ("--insecure",) if tier.insecure_registry else ()
    with tier.ecr.docker_config() as config:
        done = subprocess.run(
            [workbench.tool("crane").path, "export", *insecure, f"{tier.registry}/{ref}", "-"],
            env={"DOCKER_CONFIG": str(config), "PATH": ""},
            stdout=subprocess.PIPE,
            check=True,
            timeout=300,
        )
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as tar:
        members = [m for m in tar if m.isreg() and m.name.startswith(f"{WHEELS}/") and m.name.endswith(".whl")]
        if len(members) != 1:
            raise EvidenceInvalid(
                f"{ref} holds {len(members)} wheels below /{WHEELS}.\nLook at examples/self/Dockerfile."
            )
        stream = tar.extractfile(members[0])
        assert stream is not None
        return {Path(members[0].name).name: stream.read()}


def _sbom(tier: Tier, workbench: Workbench, ref: ImageRef) -> bytes:
    """The SBOM of record, as curation signed it."""
    evidence = tier.evidence(workbench)
    inventory = inventory_in(evidence.verified(ref, TierName.CURATION), evidence.referrers.content)
    if inventory is None:
        raise EvidenceInvalid(f"Curation signed no SBOM of {ref}.\nRun `cscm curate --fresh` on it.")
    return inventory.content


def _verify(cosign: Tool, target: Path, files: dict[str, bytes]) -> None:
    """What docs/how-to/release.md tells a user to do; raises `SignatureFailed`."""
    root = target / ".root.json"
    root.write_text(TRUSTED_ROOT)
    try:
        for name in files:
            done = cosign.run(
                "verify-blob-attestation", "--key", target / KEY, "--bundle", target / BUNDLE, "--type", RELEASE,
                "--insecure-ignore-tlog", "--trusted-root", root, target / name,
                timeout=60, check=False, quiet=True,
            )  # fmt: skip
            if done.status != 0:
                raise SignatureFailed(f"{name} was not verified: {done.stderr[-500:].strip()}\nRelease again.")
    finally:
        root.unlink()


if __name__ == "__main__":
    try:
        sys.exit(main(Path(sys.argv[1] if len(sys.argv) > 1 else HOME.project / "build/release")))
    except SupplyChainError as error:
        sys.exit(f"error: {error}")
