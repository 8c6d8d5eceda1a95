"""Lookups of installed Python packages in package indexes."""

import base64
import hashlib
import io
import json
import os
import tarfile
import zipfile
from dataclasses import replace
from urllib.parse import quote

import httpx
import pytest

from supply_chain.adapters.files.private_files import PrivateFiles
from supply_chain.adapters.image.python_packages import InstalledPackage
from supply_chain.adapters.python_index import PythonIndexes, index
from supply_chain.adapters.python_index.pages import JSON
from supply_chain.errors import PackageIndexFailed, PackageIndexUnavailable

URL = "https://index.invalid/simple/"
METADATA, WHEEL = b"Name: hat\nVersion: 2.0\n", b"Tag: py3-none-any\n"
MODULE, PLATFORM = b"import os\n", b"platform\n"


def sha(content):
    return hashlib.sha256(content).digest()


def make_wheel(metadata=METADATA, padding=0):
    """Return a wheel with a module, and with one for one platform; `padding` is the size of a file before its end."""
    files = {
        "hat/__init__.py": MODULE,
        "hat-2.0.data/platlib/hat/fast.py": PLATFORM,
        "hat-2.0.data/scripts/hat": b"#!python\n",
        "hat-2.0.dist-info/METADATA": metadata,
        "hat-2.0.dist-info/WHEEL": WHEEL,
    }
    lines = (
        f"{path},sha256={base64.urlsafe_b64encode(sha(content)).decode().rstrip('=')},{len(content)}\n"
        for path, content in files.items()
    )
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w") as archive:
        for path, content in {"hat/padding": b"x" * padding, **files}.items():
            archive.writestr(path, content)
        archive.writestr("hat-2.0.dist-info/RECORD", "".join(lines))
    return held.getvalue()


def make_source():
    """Return a source distribution."""
    held = io.BytesIO()
    with tarfile.open(fileobj=held, mode="w:gz") as archive:
        for path, content in {"hat-2.0/src/hat/__init__.py": MODULE, "hat-2.0/PKG-INFO": METADATA}.items():
            member = tarfile.TarInfo(path)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return held.getvalue()


class Server:
    """A package index that answers from memory."""

    def __init__(self, files, *, html=False, ranges=True, hashes=True):
        self.files, self.html, self.ranges, self.hashes = files, html, ranges, hashes
        self.asked, self.hosts = [], []
        self.failures = []

    def __call__(self, request):
        path = request.url.path
        self.asked.append((path, request.headers.get("range")))
        self.hosts.append(request.url.host)
        if self.failures:
            return self.failures.pop(0)
        if path == "/simple/hat/":
            return self._page()
        content = self.files.get(path.rpartition("/")[2])
        if content is None:
            return httpx.Response(404)
        if self.ranges and (given := request.headers.get("range")):
            start = max(0, len(content) - int(given.removeprefix("bytes=-")))
            headers = {"content-range": f"bytes {start}-{len(content) - 1}/{len(content)}"}
            return httpx.Response(206, content=content[start:], headers=headers)
        return httpx.Response(200, content=content)

    def _page(self):
        digests = {name: hashlib.sha256(content or b"").hexdigest() for name, content in self.files.items()}
        if self.html:
            links = "".join(
                f'<a href="../../f/{quote(name)}#sha256={digest}">{name}</a>' for name, digest in digests.items()
            )
            return httpx.Response(200, html=f"<html><a name=top>hat</a>{links}</html>")
        hashes = {name: {"sha256": digest} if self.hashes else {} for name, digest in digests.items()}
        listed = [{"filename": name, "url": f"/f/{name}", "hashes": hashes[name]} for name in self.files]
        return httpx.Response(200, content=json.dumps({"files": listed}), headers={"content-type": JSON})


@pytest.fixture
def of(tmp_path):
    """Return what makes the indexes of a server."""

    def make(server, *more):
        cache = PrivateFiles(tmp_path / "cache")
        return PythonIndexes((URL, *more), cache, transport=httpx.MockTransport(server), wait=lambda _: None)

    return make


def package(version="2.0", metadata=METADATA, name="Hat", tags=("py3-none-any",)):
    return InstalledPackage(name, version, sha(metadata), sha(WHEEL), frozenset(tags))


FILES = {
    "hat/__init__.py": sha(MODULE),
    "hat/fast.py": sha(PLATFORM),
    "hat-2.0.data/scripts/hat": sha(b"#!python\n"),
    "hat-2.0.dist-info/METADATA": sha(METADATA),
    "hat-2.0.dist-info/WHEEL": sha(WHEEL),
}


@pytest.mark.parametrize("html", [False, True])
@pytest.mark.parametrize("ranges", [False, True])
def test_wheel_is_found_by_its_metadata(of, html, ranges):
    """Indexes answer in JSON or HTML, and some servers give no parts of a file."""
    found = of(Server({"hat-2.0-py3-none-any.whl": make_wheel()}, html=html, ranges=ranges)).find(package())

    assert found.has_name
    assert dict(found.files) == FILES


@pytest.mark.parametrize("padding", [1_000_000, 10])
def test_only_the_end_of_a_wheel_is_fetched(of, monkeypatch, padding):
    """Wheels have up to gigabytes; if the list of files begins before the end that was fetched, all is fetched."""
    server = Server({"hat-2.0-py3-none-any.whl": make_wheel(padding=padding)})

    assert dict(of(server).find(package()).files) == FILES
    assert server.asked[1:] == [("/f/hat-2.0-py3-none-any.whl", f"bytes=-{index.TAIL}")]
    monkeypatch.setattr(index, "TAIL", 100)
    assert of(server)._find(package()).files == FILES
    assert server.asked[-1] == ("/f/hat-2.0-py3-none-any.whl", None)


def test_wheel_for_the_installed_tags_is_read_first(of):
    """A version has dozens of wheels for other interpreters and platforms."""
    other = make_wheel(METADATA + b"x")
    names = ("hat-2.0-cp312-cp312-win_amd64.whl", "hat-2.0-cp312-cp312-manylinux_2_17_x86_64.whl")
    server = Server({**dict.fromkeys(names, other), "hat-2.0-py3-none-any.whl": make_wheel()})

    of(server).find(package())

    assert [path for path, _ in server.asked] == ["/simple/hat/", "/f/hat-2.0-py3-none-any.whl"]


def test_source_is_read_if_no_wheel_has_the_metadata(of):
    server = Server({"hat-2.0-py3-none-any.whl": make_wheel(b"other"), "hat-2.0.tar.gz": make_source()})
    found = of(server).find(package())

    assert found.files == {}
    assert found.sources == {"src/hat/__init__.py": sha(MODULE), "PKG-INFO": sha(METADATA)}


@pytest.mark.parametrize("version", ["3.0", "no version"])
def test_version_missing_in_index_is_reported_as_missing(of, version):
    found = of(Server({"hat-2.0-py3-none-any.whl": make_wheel()})).find(package(version))

    assert (found.has_name, found.has_version) == (True, False)


def test_name_missing_in_index_is_reported_as_missing(of):
    assert of(Server({})).find(package(name="cap")).has_name is False


@pytest.mark.parametrize("name", ["hat?x", "../hat", "hat#", "ha t", "hat\n", ""])
def test_invalid_package_name_is_not_requested(of, name):
    """It would be another address."""
    server = Server({"hat-2.0-py3-none-any.whl": make_wheel()})

    assert of(server).find(package(name=name)).has_name is False
    assert server.asked == []


def test_every_index_is_asked(of):
    """An organisation has one of its own beside the public one."""
    server = Server({"hat-2.0-py3-none-any.whl": make_wheel()})
    indexes = of(server, "https://own.invalid/simple")

    indexes.find(package(name="cap"))

    assert [path for path, _ in server.asked] == ["/simple/cap/", "/simple/cap/"]
    assert server.hosts == ["index.invalid", "own.invalid"]


def test_published_files_are_cached_and_others_are_not(of):
    """An unknown name may be published tomorrow."""
    server = Server({"hat-2.0-py3-none-any.whl": make_wheel(), "hat-1.0.tar.gz": make_source()})
    first = [of(server).find(each) for each in (package(), package("1.0"))]
    asked = len(server.asked)

    assert [of(server).find(each) for each in (package(), package("1.0"))] == first
    assert [path for path, _ in server.asked[asked:]] == ["/simple/hat/"]
    of(server).find(package("3.0"))
    of(server).find(package("3.0"))
    assert len(server.asked) == asked + 3
    assert of(server, "https://own.invalid/simple").find(package()) == first[0]
    assert len(server.asked) > asked + 3


def test_source_is_cached_once_for_all_metadata(of, tmp_path):
    """Whoever makes an image can invent thousands, for one large source."""
    server = Server({"hat-2.0.tar.gz": make_source()})
    given = [replace(package(), metadata=sha(b"%d" % number)) for number in range(3)]

    first = [of(server).find(each) for each in given]

    assert [each.sources for each in first] == [{"src/hat/__init__.py": sha(MODULE), "PKG-INFO": sha(METADATA)}] * 3
    assert [path for path, _ in server.asked].count("/f/hat-2.0.tar.gz") == 1
    assert len([*(tmp_path / "cache").glob("*/*")]) == 1


def test_damaged_cache_is_read_again(of, tmp_path):
    """A file may be truncated after a crash of the machine."""
    server = Server({"hat-2.0-py3-none-any.whl": make_wheel()})
    of(server).find(package())
    (cached,) = (tmp_path / "cache").glob("*/*")
    cached.write_bytes(cached.read_bytes()[:-1])

    assert dict(of(server).find(package()).files) == FILES


def test_unused_files_are_forgotten(of, tmp_path):
    of(Server({"hat-2.0-py3-none-any.whl": make_wheel()})).find(package())
    (cached,) = (tmp_path / "cache").glob("*/*")
    of(Server({})).forget_unused()
    assert cached.exists()

    os.utime(cached, (0, 0))
    of(Server({})).forget_unused()
    assert not cached.exists()


def test_local_version_on_a_page_in_html_is_found(of):
    """The page has it percent-encoded."""
    metadata = b"Name: hat\nVersion: 2.0+cpu\n"
    server = Server({"hat-2.0+cpu-py3-none-any.whl": make_wheel(metadata)}, html=True)

    assert of(server).find(package("2.0+cpu", metadata)).files


def test_complete_wheel_is_fetched_if_server_refuses_ranges(of):
    server = Server({"hat-2.0-py3-none-any.whl": make_wheel()})
    page = server._page()
    server.failures = [page, httpx.Response(416)]

    assert dict(of(server).find(package()).files) == FILES


def test_broken_download_is_repeated(of):
    class Broken(httpx.SyncByteStream):
        def __iter__(self):
            yield b"x"
            raise httpx.ReadError("broken")

    server = Server({"hat-2.0-py3-none-any.whl": make_wheel()}, ranges=False)
    page = server._page()
    server.failures = [page, httpx.Response(200, stream=Broken())]

    assert dict(of(server).find(package()).files) == FILES


def test_index_request_is_repeated_after_429_and_503(of):
    server = Server({"hat-2.0-py3-none-any.whl": make_wheel()})
    server.failures = [httpx.Response(503), httpx.Response(429)]

    assert dict(of(server).find(package()).files) == FILES


def test_index_that_does_not_answer_is_a_temporary_error(of):
    """Nothing is admitted that could not be compared."""
    server = Server({})
    server.failures = [httpx.Response(503) for _ in range(3)]

    with pytest.raises(PackageIndexUnavailable, match="it answers 503"):
        of(server).find(package())


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (httpx.Response(403), "it answers 403"),
        (httpx.Response(200, content=b"{", headers={"content-type": JSON}), "its answer is not a page of an index"),
        (httpx.Response(200, content=b"[]", headers={"content-type": JSON}), "its answer is not a page of an index"),
    ],
)
def test_unusable_answer_of_an_index_is_a_lasting_error(of, answer, why):
    server = Server({})
    server.failures = [answer]

    with pytest.raises(PackageIndexFailed, match=why) as caught:
        of(server).find(package())
    assert not caught.value.retryable


@pytest.mark.parametrize(
    ("files", "why"),
    [
        ({"hat-2.0-py3-none-any.whl": None}, "the index lists it, and it is not there"),
        ({"hat-2.0-py3-none-any.whl": b"no archive"}, "it is not a valid wheel"),
        ({"hat-2.0.tar.gz": b"no archive"}, "it is not a valid archive"),
    ],
)
def test_invalid_file_of_an_index_is_an_error(of, files, why):
    with pytest.raises(PackageIndexFailed, match=why):
        of(Server(files)).find(package())


def test_file_with_another_digest_is_an_error(of):
    server = Server({"hat-2.0.tar.gz": make_source()})
    indexes = of(server)
    page = server._page()
    server.files = {"hat-2.0.tar.gz": make_source() + b"\0"}
    server.failures = [page]

    with pytest.raises(PackageIndexFailed, match="and the index lists"):
        indexes.find(package())


def test_too_large_page_is_an_error(of, monkeypatch):
    monkeypatch.setattr(index, "LARGEST_PAGE", 10)

    with pytest.raises(PackageIndexFailed, match="it has more than 10 bytes"):
        of(Server({"hat-2.0-py3-none-any.whl": make_wheel()})).find(package())


def test_connection_error_is_an_error(of):
    def refuse(request):
        raise httpx.ConnectError("refused", request=request)

    with pytest.raises(PackageIndexUnavailable, match="refused"):
        of(refuse).find(package())
