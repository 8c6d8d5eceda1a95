"""Release files, signed with curation's key in KMS and verified with the documented command."""

import re
import shlex
import subprocess
from pathlib import Path

import pytest

from cscm_laptop.laptop import LaptopState
from scripts.wheel import purl_of
from supply_chain.adapters.tools import Toolbox
from supply_chain.evidence.release import make_release_statement
from supply_chain.model.image import ImageRef
from supply_chain.model.tier import TierName
from tests.support.access import cosign_of
from tests.support.command import ROOT

pytestmark = pytest.mark.real

REF = ImageRef(repository="curated/cscm", digest="sha256:" + "a" * 64)
FILES = {
    "container_supply_chain-0.2.0-py3-none-any.whl": b"a wheel",
    "container_supply_chain_laptop-0.2.0-py3-none-any.whl": b"another wheel",
    "sbom.syft.json": b"{}",
}


@pytest.fixture
def release(laptop: LaptopState, toolbox: Toolbox, tmp_path: Path) -> Path:
    """A directory as `make release` creates it."""
    cosign = cosign_of(laptop, TierName.CURATION)
    (tmp_path / "release.sigstore.json").write_bytes(
        cosign.sign(make_release_statement(purl_of(next(iter(FILES))), REF, FILES))
    )
    (tmp_path / "curation.pub").write_text(laptop.identities[TierName.CURATION].public_key)
    for name, content in FILES.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "cosign").symlink_to(toolbox.find("cosign").path)
    return tmp_path


def verified(release: Path, name: str) -> bool:
    """Verify a file with the command in the documentation."""
    page = (ROOT / "docs" / "how-to" / "verify.md").read_text()
    (command,) = re.findall(r"^cosign verify-blob-attestation(?:.*\\\n)*.*$", page, re.MULTILINE)
    program, *options = shlex.split(command.replace("\\\n", " "))
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
def test_each_release_file_is_verified_alone(release: Path, name: str) -> None:
    """The public key and the bundle are enough."""
    assert verified(release, name)


def test_changed_release_file_is_not_verified(release: Path) -> None:
    """One added byte is enough."""
    name = next(iter(FILES))
    (release / name).write_bytes(FILES[name] + b"\0")

    assert not verified(release, name)


def test_key_of_another_tier_does_not_verify_a_release(release: Path, laptop: LaptopState) -> None:
    """Releases are signed by curation."""
    (release / "curation.pub").write_text(laptop.identities[TierName.DEVELOPMENT].public_key)

    assert not verified(release, next(iter(FILES)))
