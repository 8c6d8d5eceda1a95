"""A release's files, signed by curation's key in KMS, verified with the command that the documentation gives."""

import re
import shlex
import subprocess
from pathlib import Path

import pytest

from scripts.wheel import purl_of
from supply_chain.adapters.aws import AwsSession
from supply_chain.adapters.cosign import Cosign
from supply_chain.adapters.ecr import Ecr
from supply_chain.adapters.tools import Pins, Toolbox
from supply_chain.evidence.release import released
from supply_chain.image import ImageRef
from supply_chain.laptop.home import Home
from supply_chain.laptop.laptop import LaptopState, load_state
from supply_chain.tier import TierName

pytestmark = pytest.mark.real

ROOT = Path(__file__).parents[2]
REF = ImageRef(repository="curated/cscm", digest="sha256:" + "a" * 64)
FILES = {"container_supply_chain-0.1.0-py3-none-any.whl": b"a wheel", "sbom.syft.json": b"{}"}


@pytest.fixture(scope="module")
def home() -> Home:
    return Home.find(start=ROOT)


@pytest.fixture(scope="module")
def laptop(home: Home) -> LaptopState:
    """The running laptop; `make test` has started it."""
    return load_state(home)


@pytest.fixture
def release(home: Home, laptop: LaptopState, tmp_path: Path) -> Path:
    """A directory as `make release` leaves it."""
    role = laptop.identities[TierName.CURATION]
    session = AwsSession(role.access_key_id, role.secret_access_key, role.role_arn, laptop.region, laptop.endpoint_url)
    tool = Toolbox(home.tools, Pins.load(ROOT / "deployments" / "tools.yaml")).find("cosign")
    cosign = Cosign(
        tool.with_environment(**session.environment()),
        f"awskms:///{role.signing_alias}",
        laptop.registry,
        Ecr(session.client("ecr"), laptop.registry).docker_config,
        insecure=True,
    )
    (wheel,) = [name for name in FILES if name.endswith(".whl")]
    (tmp_path / "release.sigstore.json").write_bytes(cosign.sign(released(purl_of(wheel), REF, FILES)))
    (tmp_path / "curation.pub").write_text(role.public_key)
    for name, content in FILES.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "cosign").symlink_to(tool.path)
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
def test_each_file_is_verified_alone(release: Path, name: str):
    """With the public key and the bundle."""
    assert verified(release, name)


def test_a_file_that_was_changed_is_not_verified(release: Path):
    """Not by a byte."""
    name = next(iter(FILES))
    (release / name).write_bytes(FILES[name] + b"\0")

    assert not verified(release, name)


def test_another_tiers_key_does_not_verify_it(release: Path, laptop: LaptopState):
    """A release is curation's word."""
    (release / "curation.pub").write_text(laptop.identities[TierName.DEVELOPMENT].public_key)

    assert not verified(release, next(iter(FILES)))
