"""Release the commit that is checked out: through our own chain, then as files that anybody can verify.

    python -m scripts.release

The chain builds the wheels and an image that has the first one installed, and checks, scans and signs that image. The
wheels and the SBOM are taken from the image that curation admitted; curation's key signs them. Each file is verified
as a user would do it before the release is reported. The exit status is 3 if a gate refuses the image.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import sys
from pathlib import Path

from cscm.running import REFUSED
from cscm.session import use_prefect

PROJECT = use_prefect()  # sets Prefect's environment, so it precedes the imports of Prefect


from blocks.curation_ports import CurationPorts  # noqa: E402
from scripts.wheel import purl_of, wheels_in  # noqa: E402
from supply_chain.adapters.process.command import Tool  # noqa: E402
from supply_chain.errors import EvidenceInvalid, SignatureFailed, SupplyChainError  # noqa: E402
from supply_chain.evidence.release import RELEASE, make_release_statement  # noqa: E402
from supply_chain.evidence.sbom import read_signed_sbom  # noqa: E402
from supply_chain.model.image import ImageRef  # noqa: E402
from supply_chain.model.tier import TierName  # noqa: E402
from supply_chain.policy.outcome import Refused  # noqa: E402
from supply_chain.scratch import make_scratch_directory  # noqa: E402

TARGET = PROJECT / "build" / "release"
BUNDLE, KEY, SBOM, IMAGE = "release.sigstore.json", "curation.pub", "sbom.syft.json", "image.txt"
TRUSTED_ROOT = '{"mediaType":"application/vnd.dev.sigstore.trustedroot+json;version=0.1"}'


def main() -> int:
    """Make the release in `build/release` and return the exit status.

    An earlier release stays there until the new one is verified.
    """
    done = subprocess.run(
        [Path(sys.executable).with_name("cscm"), "chain", PROJECT, "--revision", "HEAD", "--json"],
        cwd=PROJECT,
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    if done.returncode == REFUSED:
        sys.stderr.write(f"No release was made: {Refused.model_validate_json(done.stdout)}\n")
    if done.returncode:
        return done.returncode
    curated = json.loads(done.stdout)
    ref = ImageRef.model_validate(curated["ref"])
    ports = asyncio.run(CurationPorts.aload())
    wheels = _wheels(ports, ref)
    files = {**wheels, SBOM: _sbom(ports, ref)}
    bundle = ports.cosign.sign(make_release_statement(purl_of(next(iter(wheels))), ref, files))
    key = ports.tier.trusted_keys[TierName.CURATION.value]
    image = f"{ports.tier.registry}/{ref}\n"
    target, new = TARGET, TARGET.with_name(f"{TARGET.name}.new")
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(parents=True)
    for path, text in {**files, BUNDLE: bundle, KEY: key.encode(), IMAGE: image.encode()}.items():
        (new / path).write_bytes(text)
    _verify(ports.cosign.tool, new, files)
    ports.cosign.verify_image(ref, key)
    shutil.rmtree(target, ignore_errors=True)
    new.rename(target)
    sys.stdout.write(f"{target}: {', '.join(sorted(files))}, signed for commit {curated['source']['revision']}\n")
    return 0


def _wheels(ports: CurationPorts, ref: ImageRef) -> dict[str, bytes]:
    """Return the wheels in the image by name; its layers are verified against the signed digest."""
    with make_scratch_directory("release") as place:
        ports.crane.export(ref, place / "image.tar")
        return wheels_in(place / "image.tar", ref)


def _sbom(ports: CurationPorts, ref: ImageRef) -> bytes:
    """Return the SBOM of record, as curation signed it."""
    inventory = read_signed_sbom(ports.evidence.read_verified(ref, TierName.CURATION), ports.evidence.referrers.content)
    if inventory is None:
        raise EvidenceInvalid(f"Curation signed no SBOM of {ref}.\nRun `cscm curate --force` on it.")
    return inventory.content


def _verify(cosign: Tool, target: Path, files: dict[str, bytes]) -> None:
    """Verify the files as docs/how-to/verify.md tells a user to do; raise `SignatureFailed`."""
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
        sys.exit(main())
    except SupplyChainError as error:
        sys.exit(f"error: {error}")
