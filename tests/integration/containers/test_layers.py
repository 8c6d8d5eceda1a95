"""Generated layers with all kinds of tar entries: the project's reader compared with the real engine."""

from __future__ import annotations

import contextlib
import io
import tarfile
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import docker
import pytest
from docker.errors import APIError, ImageLoadError, ImageNotFound
from hypothesis import given
from hypothesis import strategies as st

from supply_chain.adapters.image.file_content import ContentStore, FileContent
from supply_chain.adapters.image.filesystem import Filesystem, Kind
from supply_chain.adapters.image.layers import _Image
from tests.support.examples import tries
from tests.support.layered import MIB, layered, packed

pytestmark = pytest.mark.real

ENGINES = {"dev", "proc", "sys", "etc", ".dockerenv"}
"""Entries that the engine adds to the root of a container."""
names = st.sampled_from(["a", "b", "c", "\udcff"])
paths = st.lists(names, min_size=1, max_size=3).map("/".join)
prefixes = st.sampled_from(["", "./", "/", "x/../", ".//"])
targets = st.one_of(
    paths,
    paths.map("/{}".format),
    st.tuples(st.sampled_from(["..", "../..", "../../..", "."]), paths).map("/".join),
    st.sampled_from(["/", ".", "..", "nowhere"]),
)


@st.composite
def members(draw: st.DrawFn) -> tuple[tarfile.TarInfo, bytes]:
    """One entry of a layer."""
    kind = draw(st.sampled_from("ffffdddlllhwop"))
    path = draw(paths)
    head, _, last = path.rpartition("/")
    below = f"{head}/" if head else ""
    name = {"w": f"{below}.wh.{last}", "o": f"{path}/.wh..wh..opq"}.get(kind, path)
    member = tarfile.TarInfo(draw(prefixes) + name + ("/" if kind == "d" and draw(st.booleans()) else ""))
    member.type = {"d": tarfile.DIRTYPE, "l": tarfile.SYMTYPE, "h": tarfile.LNKTYPE, "p": tarfile.FIFOTYPE}.get(
        kind, tarfile.REGTYPE
    )
    member.mode = draw(st.sampled_from([0o755, 0o644, 0o4755, 0o2711]))
    member.uid = draw(st.sampled_from([0, 1000]))
    content = draw(st.sampled_from([b"", b"one", b"another"])) if kind == "f" else b""
    member.size = len(content)
    if kind in "lh":
        member.linkname = draw(targets if kind == "l" else paths)
    return member, content


layers = st.lists(st.lists(members(), max_size=5), min_size=1, max_size=3)


Files = dict[str, tuple[object, ...]]


def ours(directory: Path, unpacked: list[bytes]) -> tuple[Files, list[str]]:
    """Return every file as the project reads it, and the reported conflicts."""
    with (directory / f"{uuid4()}").open("w+b") as file:
        image = _Image(MIB, ContentStore(file), secrets=False)
        for layer in unpacked:
            image.add(io.BytesIO(layer), "application/vnd.oci.image.layer.v1.tar")
        return dict(_files(image.files, image.keeper)), image.files.conflicts


def _files(files: Filesystem[FileContent], keeper: ContentStore) -> Iterator[tuple[str, tuple[object, ...]]]:
    for path, node in files.walk():
        content = keeper.read(node.content) if node.content else b""
        mode = node.mode if node.kind is Kind.FILE else 0
        yield path, (node.kind, mode, node.target, content or b"")


def engines(engine: docker.DockerClient, archive: Path, digest: str) -> Files | None:
    """Return every file as the engine exports it from a container, or None if it refuses the image."""
    container = None
    try:
        with archive.open("rb") as file:
            engine.images.load(file)
        container = engine.containers.create(digest, ["/none"])
        exported = io.BytesIO()
        for chunk in container.export():
            exported.write(chunk)  # type: ignore[arg-type]
        exported.seek(0)
    except (APIError, ImageLoadError):
        return None
    finally:
        if container is not None:
            container.remove(force=True)
        with contextlib.suppress(ImageNotFound):
            engine.images.remove(digest, force=True)
    files: Files = {}
    with tarfile.open(fileobj=exported) as tar:
        for member in tar:
            path = f"/{member.name}"
            if member.name.partition("/")[0] in ENGINES:
                continue
            if member.islnk():
                files[path] = files[f"/{member.linkname}"]
                continue
            stream = tar.extractfile(member) if member.isreg() else None
            kind = {tarfile.DIRTYPE: Kind.DIRECTORY, tarfile.SYMTYPE: Kind.LINK, tarfile.FIFOTYPE: Kind.PIPE}.get(
                member.type, Kind.FILE
            )
            mode = member.mode if kind is Kind.FILE else 0
            files[path] = kind, mode, member.linkname, stream.read() if stream else b""
    return files


@pytest.fixture(scope="module")
def client() -> Iterator[docker.DockerClient]:
    with contextlib.closing(docker.from_env()) as client:
        yield client


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("layers")


@tries(40)
@given(layers)
def test_layer_reader_agrees_with_the_engine_or_reports_a_conflict(
    client: docker.DockerClient, place: Path, image: list[list[tuple[tarfile.TarInfo, bytes]]]
) -> None:
    """Images that the engine refuses have a conflict too."""
    unpacked = [packed(entries) for entries in image]
    archive = place / "image.tar"
    digest = layered(archive, unpacked)

    found, conflicts = ours(place, unpacked)
    real = engines(client, archive, digest)

    listing = [[(each.type, each.name, each.linkname, oct(each.mode)) for each, _ in entries] for entries in image]
    if real is None:
        assert conflicts, listing
    else:
        assert found == real or conflicts, listing
