"""Images for a real cluster, imported into the containerd of its node (CONTAINERD_ADDRESS)."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import MappingProxyType
from uuid import uuid4

from supply_chain.model.image import Digest
from tests.support.layered import layered

REGISTRY = "registry.test"
NAME, COLLECTOR = f"{REGISTRY}/curated/hello", f"{REGISTRY}/curated/base/python"
UNUSED = {"ensurepip", "idlelib", "lib2to3", "pydoc_data", "site-packages", "test", "tkinter"}
"""Directories of Python's library that the collector does not need."""
CTR = ("ctr", "-n", "k8s.io")
Import = Callable[..., Digest]
"""Imports an image whose program has the given faults, and returns its digest."""


@contextmanager
def imported_images(program: Path, directory: Path) -> Iterator[Import]:
    """Yield what imports images of a program, which are removed at the end; archives are written to a directory."""
    layer = pack_files({"subject": program})
    with ExitStack() as stack:

        def make(*faults: str) -> Digest:
            config: dict[str, object] = {"Entrypoint": ["/subject"], "Cmd": list(faults)}
            return stack.enter_context(imported_image(NAME, layer, config, directory)).rpartition("@")[2]

        yield make


@contextmanager
def imported_image(name: str, layer: bytes, config: dict[str, object], directory: Path) -> Iterator[str]:
    """Yield the reference of an image of one layer, which no other has, and which is removed at the end."""
    path = directory / f"{uuid4().hex}.tar"
    image = f"{name}@{layered(path, [layer], {**config, 'Labels': {'test': uuid4().hex}})}"
    run_ctr("images", "import", "--base-name", name, "--digests", str(path))
    path.unlink()
    try:
        yield image
    finally:
        run_ctr("images", "rm", image)


@contextmanager
def imported_python(directory: Path) -> Iterator[str]:
    """Yield the reference of an image that has nothing but the Python of the tests, as /usr/bin/python3."""
    executable, library = Path(sys.executable).resolve(), Path(os.__file__).parent
    modules = [
        path
        for path in library.rglob("*")
        if path.suffix in (".py", ".so") and not UNUSED & set(path.relative_to(library).parts)
    ]
    native = [executable, *(path for path in modules if path.suffix == ".so")]
    found = subprocess.run(["ldd", *map(str, native)], check=False, capture_output=True, text=True, timeout=60).stdout
    needed = [Path(word) for word in found.split() if word.startswith("/") and not word.endswith(":")]
    files = {str(path).lstrip("/"): path for path in (executable, *modules, *needed)}
    with imported_image(COLLECTOR, pack_files(files, {"usr/bin/python3": str(executable)}), {}, directory) as image:
        yield image


def pack_files(files: Mapping[str, Path], links: Mapping[str, str] = MappingProxyType({})) -> bytes:
    """Return a layer with executable files, and with symbolic links."""
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as tar:
        for name, path in files.items():
            content, entry = path.read_bytes(), tarfile.TarInfo(name)
            entry.mode, entry.size = 0o755, len(content)
            tar.addfile(entry, io.BytesIO(content))
        for name, target in links.items():
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = tarfile.SYMTYPE, target
            tar.addfile(entry)
    return layer.getvalue()


def run_ctr(*arguments: str) -> str:
    """Run a command of the node's containerd, and return its output."""
    return subprocess.run([*CTR, *arguments], check=True, timeout=60, capture_output=True, text=True).stdout
