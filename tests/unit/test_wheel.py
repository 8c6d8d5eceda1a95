"""The wheel in the image of this project, from which a release is made."""

import io
import tarfile

import pytest

from scripts.wheel import purl_of, wheel_in
from supply_chain.errors import EvidenceInvalid
from supply_chain.model.image import ImageRef

REF = ImageRef(repository="curated/cscm", digest="sha256:" + "a" * 64)
WHEEL = "container_supply_chain-0.1.0-py3-none-any.whl"


@pytest.fixture
def exported(tmp_path):
    """A root filesystem with files that hold their own names."""

    def make(*names):
        with tarfile.open(tmp_path / "image.tar", mode="w") as tar:
            for name in names:
                entry = tarfile.TarInfo(name)
                entry.size = len(name)
                tar.addfile(entry, io.BytesIO(name.encode()))
        return tmp_path / "image.tar"

    return make


def test_a_wheel_has_a_package_url():
    """As pip calls the package."""
    assert purl_of(WHEEL) == "pkg:pypi/container-supply-chain@0.1.0"


def test_the_wheel_is_taken_from_its_place(exported):
    """And not another that the image holds, such as pip's own."""
    tar = exported("usr/share/python-wheels/pip-23.whl", f"opt/release/{WHEEL}", "opt/release/note.txt")

    assert wheel_in(tar, REF) == (WHEEL, f"opt/release/{WHEEL}".encode())


@pytest.mark.parametrize("names", [(), ("opt/release/a.whl", "opt/release/b.whl"), ("opt/release/a.whl.asc",)])
def test_one_wheel_is_a_release(exported, names):
    """Two would leave open which one it is."""
    with pytest.raises(EvidenceInvalid, match="wheels in /opt/release"):
        wheel_in(exported(*names), REF)
