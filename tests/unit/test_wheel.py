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
    """Return a function that writes a root filesystem whose files contain their own names."""

    def make(*names):
        with tarfile.open(tmp_path / "image.tar", mode="w") as tar:
            for name in names:
                entry = tarfile.TarInfo(name)
                entry.size = len(name)
                tar.addfile(entry, io.BytesIO(name.encode()))
        return tmp_path / "image.tar"

    return make


def test_wheel_has_package_url():
    """It has the normalized name that pip uses."""
    assert purl_of(WHEEL) == "pkg:pypi/container-supply-chain@0.1.0"


def test_wheel_is_taken_from_release_directory(exported):
    """Other wheels in the image are ignored, such as that of pip."""
    tar = exported("usr/share/python-wheels/pip-23.whl", f"opt/release/{WHEEL}", "opt/release/note.txt")

    assert wheel_in(tar, REF) == (WHEEL, f"opt/release/{WHEEL}".encode())


@pytest.mark.parametrize("names", [(), ("opt/release/a.whl", "opt/release/b.whl"), ("opt/release/a.whl.asc",)])
def test_image_must_have_exactly_one_release_wheel(exported, names):
    """With two wheels, the release would be ambiguous."""
    with pytest.raises(EvidenceInvalid, match="wheels in /opt/release"):
        wheel_in(exported(*names), REF)
