"""Lookups of installed npm packages in registries."""

import base64
import gzip
import hashlib
import io
import json
import os
import tarfile

import httpx
import pytest

from supply_chain.adapters.files.private_files import PrivateFiles
from supply_chain.adapters.image.npm_packages import NpmPublished
from supply_chain.adapters.npm_registry import NpmRegistries, registry
from supply_chain.errors import PackageIndexFailed, PackageIndexUnavailable

URL, OTHER = "https://registry.invalid/npm/", "https://own.invalid"
METADATA = b'{"name": "hat", "version": "2.0.0", "main": "index.js", "scripts": {}}'
CODE = b"exports.hat = 2\n"
FILES = {
    "package/package.json": METADATA, "package/index.js": CODE, "package/lib/fast.node": b"\x7fELF",
    "package/readme.md": b"x", "package/test/package.json": b"no JSON",
}  # fmt: skip


def sha(content):
    return hashlib.sha256(content).digest()


PUBLISHED = NpmPublished(
    files={path.partition("/")[2]: (sha(content),) for path, content in FILES.items() if not path.endswith(".md")},
    entry='{"main": "index.js"}',
)


def pack(files=FILES):
    """Return a package as npm publishes it, always the same bytes; it also contains a link, which npm leaves out."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for path, content in files.items():
            member = tarfile.TarInfo(path)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
        link = tarfile.TarInfo("package/link.js")
        link.type, link.linkname = tarfile.SYMTYPE, "index.js"
        archive.addfile(link)
    return gzip.compress(packed.getvalue(), mtime=0)


PACKAGE = pack()


def integrity(content, algorithm="sha512"):
    """Return a digest as registries list it."""
    return f"{algorithm}-{base64.b64encode(hashlib.new(algorithm, content).digest()).decode()}"


class Server:
    """A registry that answers from memory."""

    def __init__(self, package=None, **dist):
        self.package = PACKAGE if package is None else package
        self.manifest = {
            "name": "hat", "version": "2.0.0",
            "dist": {"tarball": f"{URL}hat/-/hat-2.0.0.tgz", "integrity": integrity(self.package), **dist},
        }  # fmt: skip
        self.asked, self.failures = [], []

    def __call__(self, request):
        path = request.url.raw_path.decode()
        self.asked.append(f"{request.url.host}{path}")
        if self.failures:
            return self.failures.pop(0)
        if request.url.host == "registry.invalid" and path in ("/npm/hat/2.0.0", "/npm/hat/latest"):
            return httpx.Response(200, content=json.dumps(self.manifest))
        return httpx.Response(200, content=self.package) if path.endswith(".tgz") else httpx.Response(404)


@pytest.fixture
def of(tmp_path):
    """Return what makes the registries of a server."""

    def make(server, *urls):
        cache = PrivateFiles(tmp_path / "cache")
        return NpmRegistries(urls or (URL,), cache, transport=httpx.MockTransport(server), wait=lambda _: None)

    return make


def test_published_code_and_metadata_are_found_once(of):
    """What a registry publishes as a version does not change."""
    server = Server()

    assert of(server).find("hat", "2.0.0") == PUBLISHED
    assert of(server).find("hat", "2.0.0") == PUBLISHED
    assert server.asked == ["registry.invalid/npm/hat/2.0.0", "registry.invalid/npm/hat/-/hat-2.0.0.tgz"]


def test_damaged_cache_is_read_again(of, tmp_path):
    """As after a crash of the machine."""
    server = Server()
    of(server).find("hat", "2.0.0")
    (stored,) = (path for path in (tmp_path / "cache").rglob("*") if path.is_file())

    stored.write_bytes(stored.read_bytes()[:-1])
    assert of(server).find("hat", "2.0.0") == PUBLISHED
    assert len(server.asked) == 4


def test_unused_npm_cache_entry_is_removed(of, tmp_path):
    """The cache does not grow for ever."""
    of(Server()).find("hat", "2.0.0")
    (stored,) = (path for path in (tmp_path / "cache").rglob("*") if path.is_file())
    os.utime(stored, (0, 0))

    of(Server()).forget_unused()
    assert not stored.exists()


def test_npm_version_is_found_only_in_spelling_of_registry(of):
    """Old packages write a `v`; of any other spelling nobody knows what scanners make."""
    server = Server()

    assert of(server).find("hat", "v2.0.0") == PUBLISHED
    for version in ("latest", "=2.0.0", " 2.0.0", "2.0", "2.0.0/", "2.0.0\n", "2.0.0+build"):
        assert of(server).find("hat", version) == NpmPublished(has_version=False)
    server.manifest["version"] = "2.0.1"
    assert of(server).find("hat", "2.0.0") == NpmPublished(has_version=False)


def test_unknown_npm_name_is_reported_as_missing(of):
    """Also one that none can have."""
    server = Server()

    assert of(server).find("hat", "3.0.0") == NpmPublished(has_version=False)
    assert of(server).find("@me/own", "1.0.0") == NpmPublished(has_name=False, has_version=False)
    assert server.asked[-2:] == ["registry.invalid/npm/@me%2Fown/1.0.0", "registry.invalid/npm/@me%2Fown/latest"]
    number = len(server.asked)
    for name in ("../hat", "hat/", "hat?", "@me", "ha t", "", "h\u00e4t", ".."):
        assert of(server).find(name, "2.0.0").has_name is False
    assert len(server.asked) == number


def test_first_npm_registry_with_the_version_is_used(of):
    """Own registries come first; a name there does not hide what the next one has."""
    server = Server()

    assert of(server, OTHER, URL).find("hat", "2.0.0") == PUBLISHED
    assert server.asked[:2] == ["own.invalid/hat/2.0.0", "registry.invalid/npm/hat/2.0.0"]


@pytest.mark.parametrize(
    "dist",
    [
        {"integrity": integrity(PACKAGE, "sha1")},
        {"integrity": f"{integrity(b'other', 'sha1')} {integrity(PACKAGE)}?x"},
        {"integrity": None, "shasum": hashlib.sha1(PACKAGE).hexdigest()},
    ],
)
def test_package_has_the_strongest_listed_digest(of, dist):
    """Old packages have SHA-1 only."""
    assert of(Server(**dist)).find("hat", "2.0.0") == PUBLISHED


@pytest.mark.parametrize(
    ("dist", "why"),
    [
        ({"integrity": integrity(b"other")}, "the digest that the registry lists"),
        ({"integrity": f"{integrity(b'other')} {integrity(PACKAGE, 'sha1')}"}, "the digest that the registry lists"),
        ({"integrity": "sha512-?"}, "the digest that the registry lists"),
        ({"integrity": None}, "the digest that the registry lists"),
        ({"integrity": None, "shasum": "x"}, "the digest that the registry lists"),
        ({"integrity": None, "shasum": 1}, "the digest that the registry lists"),
        ({"tarball": f"{URL}hat/-/other"}, "the registry lists it, and it is not there"),
        ({"tarball": "../other"}, "npm/other cannot be read: the registry lists it, and it is not there"),
        ({"tarball": None}, "names no package"),
    ],
    ids=str,
)
def test_npm_package_that_does_not_match_its_listing_is_refused(of, dist, why):
    """It is compared with nothing else."""
    with pytest.raises(PackageIndexFailed, match=why):
        of(Server(**dist)).find("hat", "2.0.0")


@pytest.mark.parametrize(
    "package",
    [
        b"",
        b"no gzip",
        PACKAGE[:60],
        pack({"package/package.json": b"["}),
        pack({"package/package.json": b"[" * 100_000}),
    ],
    ids=len,
)
def test_invalid_package_is_refused(of, package):
    """A registry that publishes this is broken."""
    with pytest.raises(PackageIndexFailed, match="it is not a valid package"):
        of(Server(package)).find("hat", "2.0.0")


@pytest.mark.parametrize(("limit", "most"), [("MOST_FILES", 4), ("MOST_BYTES", 10)])
def test_npm_package_over_a_limit_is_refused(of, monkeypatch, limit, most):
    """A crafted package must not take a machine's memory."""
    monkeypatch.setattr(registry, limit, most)

    with pytest.raises(PackageIndexFailed, match="it has more than"):
        of(Server()).find("hat", "2.0.0")


@pytest.mark.parametrize("answer", [b"no JSON", b"[]", b"[" * 100_000])
def test_answer_that_is_no_document_is_refused(of, answer):
    """It says nothing about the package."""
    server = Server()
    server.failures = [httpx.Response(200, content=answer)]

    with pytest.raises(PackageIndexFailed, match="its answer is no"):
        of(server).find("hat", "2.0.0")


def test_registry_that_does_not_answer_is_named(of):
    """Whoever reads it has to know what to change."""
    server = Server()
    server.failures = [httpx.Response(503)] * 3

    with pytest.raises(PackageIndexUnavailable, match=r"The npm packages of an image are.*`npm_registries`"):
        of(server).find("hat", "2.0.0")


def test_large_code_is_read_in_parts(of, monkeypatch):
    """Programs of packages have hundreds of megabytes."""
    monkeypatch.setattr(registry, "LARGEST_METADATA", 80)
    files = {**FILES, "package/index.js": CODE * 100}

    assert of(Server(pack(files))).find("hat", "2.0.0").files["index.js"] == (sha(CODE * 100),)


def test_npm_script_with_unix_line_end_in_shebang_matches(of):
    """npm changes the line that names the interpreter, and no other one."""
    script, line = b"#!/usr/bin/env node\r\nhat()\r\n", b"#!/usr/bin/env node\n"
    files = {**FILES, "package/cli.js": script, "package/node_modules/cap/a.txt": b"a"}
    published = of(Server(pack(files))).find("hat", "2.0.0")

    assert set(published.files["cli.js"]) == {sha(script), sha(line + b"hat()\r\n")}
    assert published.files["node_modules/cap/a.txt"] == (sha(b"a"),)
