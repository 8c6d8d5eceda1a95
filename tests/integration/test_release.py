"""A release's files, signed by curation's key in KMS, verified with the command that the documentation gives."""

import re
import shlex
import subprocess
from pathlib import Path

import pytest

from cscm_laptop.laptop import LaptopState
from scripts.wheel import purl_of
from supply_chain.adapters.tools import Toolbox
from supply_chain.evidence.release import released
from supply_chain.model.image import ImageRef
from supply_chain.model.tier import TierName
from tests.support.access import cosign_of
from tests.support.command import ROOT

pytestmark = pytest.mark.real

REF = ImageRef(repository="curated/cscm", digest="sha256:" + "a" * 64)
FILES = {"container_supply_chain-0.1.0-py3-none-any.whl": b"a wheel", "sbom.syft.json": b"{}"}


@pytest.fixture
def release(laptop: LaptopState, toolbox: Toolbox, tmp_path: Path) -> Path:
    """A directory as `make release` leaves it."""
    cosign = cosign_of(laptop, TierName.CURATION)
    (wheel,) = [name for name in FILES if name.endswith(".whl")]
    (tmp_path / "release.sigstore.json").write_bytes(cosign.sign(released(purl_of(wheel), REF, FILES)))
    (tmp_path / "curation.pub").write_text(laptop.identities[TierName.CURATION].public_key)
    for name, content in FILES.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "cosign").symlink_to(toolbox.find("cosign").path)
    return tmp_path


def verified(release: Path, name: str) -> bool:
    """What a user finds out with the documentation's own command, and nothing of the chain's."""
    page = (ROOT / "docs" / "how-to" / "release.md").read_text()
    (told,) = re.findall(r"^cosign verify-blob-attestation(?:.*\\\n)*.*$", page, re.MULTILINE)
    program, *options = shlex.split(told.replace("\\\n", " "))
    done = subprocess.run(
        [release / program, *options[:-1], name],
        cwd=release,
        env={"HOME": str(release)},
        capture_output=True,
        timeout=60,
        check=False,
    )
    return done.returncode == 0


@pytest.mark.parametrize("name", FILES)
def test_each_file_is_verified_alone(release: Path, name: str) -> None:
    """With the public key and the bundle."""
    assert verified(release, name)


def test_a_file_that_was_changed_is_not_verified(release: Path) -> None:
    """Not by a byte."""
    name = next(iter(FILES))
    (release / name).write_bytes(FILES[name] + b"\0")

    assert not verified(release, name)


def test_another_tiers_key_does_not_verify_it(release: Path, laptop: LaptopState) -> None:
    """A release is curation's word."""
    (release / "curation.pub").write_text(laptop.identities[TierName.DEVELOPMENT].public_key)

    assert not verified(release, next(iter(FILES)))
