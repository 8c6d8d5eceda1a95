"""Layers laid one upon the other, as a container would see them, and never more read than is asked for."""

import gzip
import hashlib
import io
import json
import tarfile
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supply_chain.adapters import layers
from supply_chain.adapters.layers import read_contents
from supply_chain.errors import CheckNotMade

MIB = 1024**2
OCI = "application/vnd.oci.image"


@dataclass
class Engine:
    """Gives an archive, unless it has more bytes than are wanted."""

    archive: bytes

    def save(self, image, target, most):
        target.write_bytes(self.archive)
        return len(self.archive) <= most


def entry(name, mode=0o755, kind=tarfile.REGTYPE, size=0, **headers):
    member = tarfile.TarInfo(name)
    member.mode, member.type, member.size, member.pax_headers = mode, kind, size, headers
    return member


def layer(*members):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for member in members:
            tar.addfile(member, io.BytesIO(b"\0" * member.size))
    return buffer.getvalue()


def engine(*unpacked, kind="gzip", config=None, changed=None):
    """An engine with an image of these layers; `changed` makes one of its blobs another."""
    blobs = {}

    def blob(content, media_type):
        digest = hashlib.sha256(content).hexdigest()
        blobs[f"blobs/sha256/{digest}"] = content
        return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(content)}

    packed = [gzip.compress(each) if kind == "gzip" else each for each in unpacked]
    suffix = {"gzip": "tar+gzip", "docker": "tar.gzip"}.get(kind, kind)
    described = config or {"os": "linux", "architecture": "amd64"}
    manifest = {
        "config": blob(json.dumps(described).encode(), f"{OCI}.config.v1+json"),
        "layers": [blob(each, f"{OCI}.layer.v1.{suffix}") for each in packed],
    }
    top = blob(json.dumps(manifest).encode(), f"{OCI}.manifest.v1+json")
    blobs["index.json"] = json.dumps({"manifests": [top]}).encode()
    for name, content in (changed or (lambda _: {}))(blobs).items():
        blobs[name] = content
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, content in sorted(blobs.items()):
            tar.addfile(entry(name, size=len(content)), io.BytesIO(content))
    return Engine(buffer.getvalue())


def rights(*unpacked, **kwargs):
    return dict(read_contents(engine(*unpacked, **kwargs), "image", MIB).more_rights)


@pytest.mark.parametrize(
    ("member", "why"),
    [
        (entry("bin/su", 0o4755), {"/bin/su": "setuid"}),
        (entry("./bin/su", 0o4755), {"/bin/su": "setuid"}),
        (entry("bin/wall", 0o2755), {"/bin/wall": "setgid"}),
        (entry("bin/both", 0o6755), {"/bin/both": "setuid, setgid"}),
        (entry("bin/link", 0o4755, tarfile.LNKTYPE), {"/bin/link": "setuid"}),
        (entry("bin/ping", **{"SCHILY.xattr.security.capability": "\x01\0\0\x02"}), {"/bin/ping": "capabilities"}),
        (entry("srv/disk", 0o660, tarfile.BLKTYPE), {"/srv/disk": "device"}),
        (entry("srv/mem", 0o660, tarfile.CHRTYPE), {"/srv/mem": "device"}),
        (entry("dev/null", 0o666, tarfile.CHRTYPE), {}),
        (entry("var/mail", 0o2775, tarfile.DIRTYPE), {}),
        (entry("tmp", 0o1777, tarfile.DIRTYPE), {}),
        (entry("bin/sh", 0o777), {}),
        (entry("bin/sh", 0o4777, tarfile.SYMTYPE), {}),
    ],
    ids=lambda each: each.name if isinstance(each, tarfile.TarInfo) else "",
)
def test_names_what_gives_more_rights(member, why):
    """Files with the set-user and set-group bits or capabilities, and devices; no directories, no links by name."""
    assert rights(layer(member)) == why


SU = entry("bin/su", 0o4755)


@pytest.mark.parametrize(
    ("above", "left"),
    [
        ([entry("bin/su", 0o755)], []),
        ([entry("bin/.wh.su")], []),
        ([entry(".wh.bin")], []),
        ([entry("bin/.wh..wh..opq")], []),
        ([entry(".wh..wh..opq")], []),
        ([entry("bin")], []),
        ([entry("bin", kind=tarfile.SYMTYPE)], []),
        ([entry("bin", kind=tarfile.DIRTYPE)], ["/bin/su"]),
        ([entry("bin/.wh.s")], ["/bin/su"]),
        ([entry("bi/.wh..wh..opq")], ["/bin/su"]),
        ([entry("bin/.wh..wh..opq"), SU], ["/bin/su"]),
        ([SU, entry("bin/.wh..wh..opq")], ["/bin/su"]),
        ([SU, entry("bin/.wh.su")], ["/bin/su"]),
    ],
)
def test_a_layer_hides_what_lies_below_it_and_nothing_of_its_own(above, left):
    """Files in place of files, whiteouts and opaque ones (OCI image 1.1, "Whiteouts")."""
    assert list(rights(layer(SU), layer(*above))) == left


def test_what_a_later_layer_brings_back_is_there():
    """The last one counts."""
    assert list(rights(layer(SU), layer(entry("bin/.wh.su")), layer(SU))) == ["/bin/su"]


@pytest.mark.parametrize("kind", ["gzip", "docker", "tar"])
def test_reads_layers_as_they_are_stored(kind):
    """Compressed or not, as OCI and as Docker name them."""
    stored = [gzip.compress(layer(SU)) if kind == "docker" else layer(SU)]

    assert list(rights(*stored, kind=kind)) == ["/bin/su"]


@pytest.mark.parametrize(
    ("config", "platform"),
    [
        ({"os": "linux", "architecture": "amd64"}, "linux/amd64"),
        ({"os": "linux", "architecture": "arm", "variant": "v7"}, "linux/arm/v7"),
        ({"os": "windows"}, "windows"),
        ({"config": {}}, ""),
    ],
)
def test_tells_the_platform_and_the_digest(config, platform):
    """As the configuration says; the digest is the manifest's."""
    found = read_contents(engine(layer(), config=config), "image", MIB)

    assert found.platform == platform
    assert found.digest.startswith("sha256:")


def test_the_size_is_of_all_layers_unpacked():
    """Also of what a later layer hides."""
    found = read_contents(engine(layer(entry("a", size=1000)), layer(entry("a", size=3000))), "image", MIB)

    assert 4000 <= found.size <= 4000 + 2 * 512


@pytest.mark.parametrize(
    "unpacked",
    [
        [layer(entry("zeros", size=2 * MIB))],
        [layer(entry("zeros", size=MIB // 2)), layer(entry("zeros", size=MIB // 2))],
        [layer(*(entry(f"{number}") for number in range(3000)))],
    ],
    ids=["one file", "two layers", "many files"],
)
def test_more_than_it_may_have_is_not_read(unpacked):
    """Whatever it packs to."""
    assert read_contents(engine(*unpacked), "image", MIB) is None


def test_an_archive_that_is_larger_than_its_image_may_be_is_not_kept():
    """The engine stops in the middle."""
    assert read_contents(Engine(b"\0" * (layers.SLACK + MIB + 1)), "image", MIB) is None


def test_what_unpacks_without_end_is_not_unpacked(monkeypatch):
    """A file of a gibibyte in a kilobyte, and a header that long."""
    huge = entry("x")
    huge.size = 1 << 40
    header = entry("x", kind=tarfile.XHDTYPE)
    header.size = 1 << 30

    assert read_contents(engine(huge.tobuf() + b"\0" * 1024), "image", MIB) is None
    with pytest.raises(CheckNotMade, match="a header of"):
        read_contents(engine(header.tobuf() + b"\0" * 1024), "image", MIB)


def test_so_many_files_with_more_rights_that_nobody_remembers_them_are_an_error(monkeypatch):
    """A bound that nothing honest comes near."""
    monkeypatch.setattr(layers, "MANY", 3)
    with pytest.raises(CheckNotMade, match="more than 3 files"):
        read_contents(engine(layer(*(entry(f"{n}", 0o4755) for n in range(4)))), "image", MIB)


@pytest.mark.parametrize(
    "broken",
    [
        engine(layer(), kind="tar+zstd"),
        engine(layer(), kind="tar+encrypted"),
        engine(b"rubbish" * 1000),
        engine(layer(SU)[:700]),
        engine(entry("a").tobuf() + b"rubbish" * 1000 + layer(SU)),
        engine(layer(), changed=lambda blobs: {"index.json": b"{}"}),
        engine(layer(), changed=lambda blobs: {"index.json": b"[" * 100}),
        engine(layer(), changed=lambda blobs: {"index.json": b'{"manifests": []}'}),
        engine(layer(), changed=lambda blobs: {name: b"{}" for name in blobs if name != "index.json"}),
        Engine(b""),
        Engine(b"rubbish" * 1000),
    ],
    ids=[
        "zstd",
        "encrypted",
        "rubbish",
        "cut",
        "rubbish inside",
        "no list",
        "no JSON",
        "nothing",
        "changed",
        "empty",
        "no archive",
    ],
)
def test_what_cannot_be_read_is_no_answer(broken):
    """A layer that was not looked at may hold anything."""
    with pytest.raises(CheckNotMade, match="cannot be read"):
        read_contents(broken, "image", MIB)


@given(st.binary(max_size=2000), st.booleans())
def test_any_bytes_in_a_layer_are_read_or_are_no_answer(content, wrapped):
    """`CheckNotMade` is all that may come out."""
    start = SU.tobuf() if wrapped else b""
    try:
        read_contents(engine(start + content, kind="tar"), "image", MIB)
    except CheckNotMade:
        return
