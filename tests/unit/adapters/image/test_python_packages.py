"""The comparison of Python packages in an image with what package indexes published."""

import base64
import hashlib
import io
import json
import zipfile
from dataclasses import dataclass, field

import pytest

from supply_chain.adapters.image import python_packages
from supply_chain.adapters.image.package_records import SystemFiles
from supply_chain.adapters.image.python_packages import (
    REMEDY,
    InstalledPackage,
    Published,
    is_python_metadata,
    parse_metadata,
    read_python_packages,
)
from tests.support.filesystem import lay_files

DIRECTORY = "opt/venv/lib/python3.11/site-packages"
INFO = f"{DIRECTORY}/hat-2.0.dist-info"
METADATA, WHEEL = (
    b"Metadata-Version: 2.1\nName: hat\nVersion: 2.0\n\nWear it.\n",
    b"Tag: py3-none-any\nTag: py2-none-any\n",
)
HAT = {f"{DIRECTORY}/hat/__init__.py": b"import os\n", f"{DIRECTORY}/hat/data.txt": b"x"}


def sha(content):
    return hashlib.sha256(content).digest()


def record(files, below=DIRECTORY):
    """Return the RECORD of these files."""
    lines = (
        f"{path.removeprefix(f'{below}/')},sha256={base64.urlsafe_b64encode(sha(content)).decode().rstrip('=')},1\n"
        for path, content in files.items()
    )
    return "".join(lines).encode()


def installed(files=HAT, info=INFO, metadata=METADATA, **others):
    """Return a package's files as pip installs them; `others` are more files of its directory of metadata."""
    about = {f"{info}/METADATA": metadata, f"{info}/WHEEL": WHEEL, f"{info}/RECORD": record(files)}
    return {**files, **about, **{f"{info}/{name}": content for name, content in others.items()}}


def wheel(files=HAT, metadata=METADATA, info=INFO):
    """Return what an index publishes as a wheel of these files."""
    listed = {**files, f"{info}/METADATA": metadata, f"{info}/WHEEL": WHEEL}
    return {path.removeprefix(f"{DIRECTORY}/"): sha(content) for path, content in listed.items()}


@dataclass
class MemoryIndex:
    """A package index in memory: (name, version) → what it published."""

    published: dict[tuple[str, str], Published]
    asked: list[InstalledPackage] = field(default_factory=list)

    def find(self, package):
        """Return what was published as a package."""
        self.asked.append(package)
        unknown = Published(has_name=package.name in {name for name, _ in self.published}, has_version=False)
        found = self.published.get((package.name, package.version), unknown)
        return found if not found.files or package.is_of(found.files) else Published()


def index(files=None, sources=None, name="hat", version="2.0"):
    """Return an index that has one version of one package, as a wheel or as a source."""
    source = {path: sha(content) for path, content in (sources or {}).items()}
    return MemoryIndex({(name, version): Published(files=files or {}, sources=source)})


SOURCE = {path.replace(f"{DIRECTORY}/", "src/"): content for path, content in HAT.items()}


def read(contents, index, links=None):
    """Return the packages of an image of these files and links."""
    keeper, files = lay_files(contents, links, keep=1024 * 1024)
    return read_python_packages(files, keeper, index)


def test_package_as_published_counts_as_installed():
    """Its files are then not read as the application's own; what pip adds is not published."""
    packages = read(installed(INSTALLER=b"pip\n"), index(wheel()))

    assert packages.false_claims == ()
    assert set(packages.installed.digests) == {f"/{path}" for path in (*HAT, f"{INFO}/METADATA", f"{INFO}/WHEEL")}


def read_on_base(contents, base, index):
    """Return the packages of an image on a base of apk with these files."""
    keeper, files = lay_files(contents, keep=1024 * 1024)
    below = {f"/{path}": (("sha256", sha(content)),) for path, content in base.items()}
    return read_python_packages(files, keeper, index, system=SystemFiles(base=below))


CHANGED = {path: content + b"#" for path, content in HAT.items()}


@pytest.mark.parametrize(
    "of", [index(wheel()), index(sources=SOURCE), index(version="3.0"), index(files={}), index(name="other")]
)
def test_python_package_unchanged_since_base_counts_as_installed(of):
    """Distributions change packages, and have versions of their own; the base was examined when it was built."""
    base = {**installed(), **CHANGED}
    packages = read_on_base({**base, "opt/own.py": b""}, base, of)

    assert packages.false_claims == ()
    assert all(("sha256", sha(content)) in packages.installed.digests[f"/{path}"] for path, content in base.items())
    assert "/opt/own.py" not in packages.installed.digests


@pytest.mark.parametrize("base", [installed(), {**installed(), **CHANGED}])
def test_changed_code_of_python_package_of_base_is_a_false_claim(base):
    """A scanner would see no vulnerabilities of the version whose code is there."""
    for path in (path for path in HAT if path.endswith(".py")):
        (claim,) = read_on_base({**base, path: b"old = 1\n"}, base, index(wheel())).false_claims
        assert f"it claims to be hat 2.0, and what is published differs from /{path}; " in claim


def test_code_of_base_with_changed_python_metadata_is_a_false_claim():
    """The base vouches for its code as the version that it has."""
    image = installed(metadata=METADATA.replace(b"2.0", b"3.0"))
    (claim,) = read_on_base(
        {**image, **CHANGED}, {**installed(), **CHANGED}, index(sources=SOURCE, version="3.0")
    ).false_claims

    assert "it claims to be hat 3.0, and what is published differs from" in claim


def test_ambiguous_metadata_of_the_base_is_no_false_claim():
    """The owner of the base reviewed it."""
    base = installed(metadata=b"Name: cap\n" + METADATA)

    assert read_on_base(base, base, index(wheel())).false_claims == ()
    assert len(read_on_base(base, {}, index(wheel())).false_claims) == 1


def test_package_is_asked_for_by_name_version_and_tags():
    """The file WHEEL says which of several wheels was installed."""
    of = index(wheel())
    read(installed(), of)

    tags = frozenset({"py3-none-any", "py2-none-any"})
    assert of.asked == [InstalledPackage("hat", "2.0", sha(METADATA), sha(WHEEL), tags)]


def test_record_of_unpublished_python_package_proves_no_file():
    """A build step can write a record of anything; an index that does not know the name vouches for nothing."""
    packages = read(installed(), index(name="other"))

    assert packages.installed.digests == {}
    assert packages.false_claims == ()


@pytest.mark.parametrize(
    ("contents", "of", "why"),
    [
        (installed(), index(wheel(), version="1.0"), "a version that the package index does not have"),
        (
            installed({**HAT, f"{DIRECTORY}/hat/__init__.py": b"evil\n"}),
            index(wheel()),
            f"and what is published differs from /{DIRECTORY}/hat/__init__.py",
        ),
        (installed(metadata=METADATA + b"x"), index(wheel()), "and no published file has its metadata"),
        (
            installed({**HAT, f"{DIRECTORY}/hat/__init__.py": b"evil\n"}),
            index(sources=SOURCE),
            f"and what is published differs from /{DIRECTORY}/hat/__init__.py",
        ),
        (
            {f"{INFO}/METADATA": METADATA, f"{INFO}/WHEEL": WHEEL},
            index(wheel()),
            "but none of its code is in the image",
        ),
        ({f"{INFO}/METADATA": METADATA}, index(sources=SOURCE), "but none of its code is in the image"),
    ],
)
def test_false_claim_is_named(contents, of, why):
    """Scanners believe the metadata: a false version hides vulnerabilities."""
    assert read(contents, of).false_claims == (f"/{INFO}/METADATA:1: it claims to be hat 2.0, {why}; {REMEDY}",)


@pytest.mark.parametrize("target", ["/opt/old.bin", "/proc/self/root/opt/old.bin"])
@pytest.mark.parametrize("name", ["hat/__init__.py", "hat/felt.so"])
def test_link_to_other_code_is_a_false_claim(name, target):
    """Python loads it by the link's name, whatever the file's own name is, also by way of /proc."""
    path = f"{DIRECTORY}/{name}"
    own = {each: content for each, content in installed().items() if each != path}
    published = wheel({**HAT, path: b"new"})

    (claim,) = read({**own, "opt/old.bin": b"old"}, index(published), {path: target}).false_claims

    assert "and what is published differs from /opt/old.bin" in claim


def test_changed_file_does_not_count_as_installed():
    """It is read as the application's own, and the unchanged ones are not."""
    packages = read(installed({**HAT, f"{DIRECTORY}/hat/__init__.py": b"evil\n"}), index(wheel()))

    assert packages.installed.digests[f"/{DIRECTORY}/hat/__init__.py"] == (("sha256", sha(b"import os\n")),)


def test_many_changed_files_are_counted():
    files = {f"{DIRECTORY}/hat/{name}.py": b"1" for name in "abcde"}
    published = wheel(dict.fromkeys(files, b"2"))

    (why,) = read(installed(files), index(published)).false_claims
    assert why.endswith(f"/{DIRECTORY}/hat/a.py, /{DIRECTORY}/hat/b.py, /{DIRECTORY}/hat/c.py and 2 more; {REMEDY}")


def test_package_built_from_published_source_counts_as_installed():
    """What the build made is not published, and read as the application's own."""
    made = {f"{DIRECTORY}/hat/made.so": b"\x7fELF", f"{DIRECTORY}/hat/made.py": b"1"}
    packages = read(installed({**HAT, **made}), index(sources=SOURCE))

    assert packages.false_claims == ()
    listed = {path for path in packages.installed.digests if path.startswith(f"/{DIRECTORY}/hat/")}
    assert listed == {f"/{path}" for path in HAT}


def test_published_source_proves_files_only_at_installed_paths():
    """An example of dangerous code in a source would otherwise vouch for the application's."""
    packages = read({**installed(), "app/main.py": b"evil\n"}, index(sources={**SOURCE, "examples/main.py": b"evil\n"}))

    assert packages.installed.digests.get("/app/main.py") is None


def test_file_without_code_may_differ():
    """Organisations add their authority to a list of them."""
    changed = {**HAT, f"{DIRECTORY}/hat/data.txt": b"other"}

    packages = read(installed(changed), index(wheel()))
    assert packages.false_claims == ()
    assert packages.installed.digests[f"/{DIRECTORY}/hat/data.txt"] == (("sha256", sha(b"x")),)


def test_wheel_of_the_distribution_is_published():
    """Debian changes pip, and `venv` installs it from such a wheel."""
    path, held = "usr/share/python-wheels/hat-2.0-py3-none-any.whl", io.BytesIO()
    with zipfile.ZipFile(held, "w") as archive:
        about = {f"{INFO}/METADATA": METADATA, f"{INFO}/WHEEL": WHEEL}
        for name, content in {**HAT, **about, f"{INFO}/RECORD": record({**HAT, **about})}.items():
            archive.writestr(name.removeprefix(f"{DIRECTORY}/"), content)
    sums = f"{hashlib.md5(held.getvalue()).hexdigest()}  {path}\n".encode()
    files = {**installed(), path: held.getvalue()}
    of = index(wheel(), version="9")

    assert read({**files, "var/lib/dpkg/info/python3-hat-whl.md5sums": sums}, of).false_claims == ()
    assert of.asked == []
    assert len(read(files, of).false_claims) == 1


def test_removed_files_are_no_false_claim():
    """Images are made smaller by removing tests of packages."""
    contents = installed()
    del contents[f"{DIRECTORY}/hat/data.txt"]

    assert read(contents, index(wheel())).false_claims == ()


def test_missing_wheel_file_is_no_false_claim():
    contents = installed()
    del contents[f"{INFO}/WHEEL"]

    assert read(contents, index(wheel())).false_claims == ()


def test_file_of_two_wheels_may_be_that_of_either():
    """Both may install `google/__init__.py`; the last one wins."""
    shared, other = f"{DIRECTORY}/shared/__init__.py", f"{DIRECTORY}/cap-1.dist-info"
    metadata = b"Name: cap\nVersion: 1\n"
    contents = {**installed({shared: b"hat"}), **installed({shared: b"cap"}, other, metadata)}
    of = MemoryIndex(
        {
            ("hat", "2.0"): Published(files=wheel({shared: b"hat"})),
            ("cap", "1"): Published(files=wheel({shared: b"cap"}, metadata, other)),
        }
    )

    assert read(contents, of).false_claims == ()


def test_file_of_source_and_wheel_may_be_that_of_either():
    """Both may have `tests/__init__.py`; the last one wins."""
    shared, other = f"{DIRECTORY}/tests/__init__.py", f"{DIRECTORY}/cap-1.dist-info/METADATA"
    source = {"cap.py": sha(b"cap"), "tests/__init__.py": sha(b"cap")}
    of = MemoryIndex(
        {("hat", "2.0"): Published(files=wheel({**HAT, shared: b"hat"})), ("cap", "1"): Published(sources=source)}
    )
    contents = {**installed({**HAT, shared: b"cap"}), other: b"Name: cap\nVersion: 1\n", f"{DIRECTORY}/cap.py": b"cap"}

    assert read(contents, of).false_claims == ()


def test_source_of_another_package_does_not_vouch_for_code_of_a_wheel():
    """Anybody can publish one that contains an old version of somebody else's package."""
    old, other = {f"{DIRECTORY}/hat/__init__.py": b"old"}, f"{DIRECTORY}/cap-1.dist-info/METADATA"
    source = {path: sha(content) for path, content in (("cap.py", b"cap"), ("vendor/hat/__init__.py", b"old"))}
    of = MemoryIndex({("hat", "2.0"): Published(files=wheel()), ("cap", "1"): Published(sources=source)})

    found = read({**installed(old), other: b"Name: cap\nVersion: 1\n", f"{DIRECTORY}/cap.py": b"cap"}, of)

    (why,) = found.false_claims
    assert "it claims to be hat 2.0, and what is published differs" in why


def test_vendored_python_package_is_not_compared():
    """Packages contain changed copies of others, with their metadata."""
    brought = f"{DIRECTORY}/hat/_vendor/cap-1.dist-info/METADATA"
    files = {**HAT, brought: b"Name: cap\nVersion: 1\n"}
    of = MemoryIndex({("hat", "2.0"): Published(files=wheel(files)), ("cap", "2"): Published(files={"x": b""})})

    assert read(installed(files), of).false_claims == ()
    (why,) = read(installed(files), of, {f"opt/x/{INFO.rpartition('/')[2]}": f"/{INFO}"}).false_claims
    assert "none of its code is in the image" in why
    others = {**installed(), f"{DIRECTORY}/cap-1.dist-info/METADATA": b"Name: cap\nVersion: 1\n"}
    assert len(read(others, of).false_claims) == 1


def test_package_of_distribution_is_not_compared():
    """Debian changes packages of Python, and scanners match them as Debian's."""
    contents = {
        "usr/lib/python3/dist-packages/hat-2.0.dist-info/METADATA": METADATA,
        "var/lib/dpkg/info/python3-hat.md5sums": (
            hashlib.md5(METADATA).hexdigest() + "  usr/lib/python3/dist-packages/hat-2.0.dist-info/METADATA\n"
        ).encode(),
    }
    of = index(wheel())

    assert read(contents, of).false_claims == ()
    assert of.asked == []


def test_package_of_conda_is_not_compared():
    """Conda builds packages itself; its database is one that the owner has to accept, but not in the system's place."""
    files = {path.replace("opt/venv", "opt/conda"): content for path, content in installed().items()}
    of = index(name="hat", version="9")
    code = f"/{DIRECTORY}/hat/__init__.py".replace("venv", "conda")

    listed = json.dumps({"files": [path.removeprefix("opt/conda/") for path in files]}).encode()

    packages = read({**files, "opt/conda/conda-meta/hat-2.0-0.json": listed}, of)
    assert (packages.false_claims, of.asked) == ((), [])
    assert packages.installed.digests[code] == (("sha256", sha(b"import os\n")),)

    outside = json.dumps({"files": ["../" + path.removeprefix("opt/") for path in files]}).encode()
    assert len(read({**files, "opt/other/conda-meta/hat-2.0-0.json": outside}, of).false_claims) == 1
    for place, content in (("opt/conda/", b"{}"), ("opt/conda/", b"rubbish"), ("", listed)):
        assert len(read({**files, f"{place}conda-meta/hat-2.0-0.json": content}, of).false_claims) == 1


def test_metadata_of_interpreter_are_no_package():
    of = index(wheel())

    read({"usr/local/lib/python3.11/lib-dynload/Python-3.11.egg-info": b"Name: Python\nVersion: 3.11\n"}, of)
    assert of.asked == []


@pytest.mark.parametrize(
    ("path", "link"),
    [
        ("opt/real/METADATA", {f"{DIRECTORY}/hat-9.dist-info": "/opt/real"}),
        ("opt/m", {f"{DIRECTORY}/hat.egg-info": "/opt/m"}),
    ],
)
def test_metadata_behind_link_is_compared(path, link):
    """Syft follows links in the names that it looks for."""
    (why,) = read({path: b"Name: hat\nVersion: 9\n"}, index(wheel()), link).false_claims

    assert "it claims to be hat 9, a version" in why


def test_metadata_below_a_name_with_a_line_end_are_compared():
    """Syft reads them."""
    assert (
        len(read({"opt/a\nb/hat-9.dist-info/METADATA": b"Name: hat\nVersion: 9\n"}, index(wheel())).false_claims) == 1
    )


def test_unreadable_metadata_is_a_false_claim():
    """Its name and version are not known, and a scanner may read them."""
    big = b"Name: hat\nVersion: 2.0\n" + b"x" * 2 * 1024 * 1024

    assert "is too large, and is not read" in read(installed(metadata=big), index(wheel())).false_claims[0]
    twice = METADATA.replace(b"\n\n", b"\nVersion: 9\n\n")
    (why,) = read(installed(metadata=twice), index(wheel())).false_claims
    assert why.startswith(f"/{INFO}/METADATA:1: it names the package or its version several times, or over several")


def test_number_of_packages_is_limited(monkeypatch):
    """The index is asked for each, and each may take a download."""
    monkeypatch.setattr(python_packages, "MOST_PACKAGES", 1)
    more = {f"{DIRECTORY}/cap-1.dist-info/METADATA": b"Name: cap\nVersion: 1\n"}

    assert read(installed(), index(wheel())).false_claims == ()
    with pytest.raises(ValueError, match="more than 1 Python packages"):
        read({**installed(), **more}, index(wheel()))


def test_number_of_published_files_is_limited(monkeypatch):
    """Each metadata may name a large source."""
    other = {f"{DIRECTORY}/x.dist-info/METADATA": METADATA + b"\n"}
    published = index(sources=SOURCE)
    monkeypatch.setattr(python_packages, "MOST_PUBLISHED", 2 * len(SOURCE))
    read({**installed(), **other}, published)

    monkeypatch.setattr(python_packages, "MOST_PUBLISHED", 2 * len(SOURCE) - 1)
    with pytest.raises(ValueError, match="more than"):
        read({**installed(), **other}, published)


def test_number_of_places_is_limited(monkeypatch):
    """A source with nested packages multiplies them."""
    places = len([*python_packages._list_places(SOURCE)])
    monkeypatch.setattr(python_packages, "MOST_PLACES", places)
    read(installed(), index(sources=SOURCE))

    monkeypatch.setattr(python_packages, "MOST_PLACES", places - 1)
    with pytest.raises(ValueError, match="more than"):
        read(installed(), index(sources=SOURCE))


def test_package_is_asked_for_once(monkeypatch):
    """Links and copies can give it many places."""
    of = index(wheel())
    read({**installed(), f"opt/{INFO}/METADATA": METADATA, f"opt/{INFO}/WHEEL": WHEEL}, of)

    assert len(of.asked) == 1


def test_records_are_trusted_without_python_index():
    packages = read(installed(), None)

    assert packages.uncompared == 1
    assert set(packages.installed.digests) == {f"/{path}" for path in HAT}


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (METADATA, ("hat", "2.0")),
        (b"\n\nname:hat\nVER-SION:  2\n\nVersion: 3\n", ("hat", "2")),
        (b"Name: hat\r\nVersion: 2\r\n\r\nname: other\r\n", ("hat", "2")),
        (b"no colon\n: x\nName: hat\n", ("hat", "")),
        (b"", ("", "")),
    ],
)
def test_metadata_are_read_as_the_scanner_reads_them(content, named):
    assert parse_metadata(content) == named


@pytest.mark.parametrize("content", [b"Name: a\nname: b\n", b"Version: 1\n 2\n", b"Name: a\nNa-me: a\n"])
def test_ambiguous_metadata_are_refused(content):
    with pytest.raises(ValueError, match="several times"):
        parse_metadata(content)


@pytest.mark.parametrize(
    ("path", "matches"),
    [
        ("/a/x.dist-info/METADATA", True),
        ("/a/xdist-info/METADATA", True),
        ("/X.DIST-INFO/METADATA", True),
        ("/a/x.egg-info/PKG-INFO", True),
        ("/a/x.egg-info", True),
        ("/a/x.Dist-Info/METADATA", True),
        ("/a/x.dist-info/PKG-INFO", True),
        ("/a/x.egg-info/METADATA", True),
        ("/a/x.dist-info/metadata", False),
        ("/a/x.dist-info/RECORD", False),
        ("/a/METADATA", False),
    ],
)
def test_metadata_are_recognised_by_their_path(path, matches):
    """These are the paths at which syft reads metadata."""
    assert is_python_metadata(path) is matches


@pytest.mark.parametrize("has_index", [True, False])
@pytest.mark.parametrize(
    "path", ["hat-2.0.Dist-Info/METADATA", "hat-2.0.dist-info/PKG-INFO", "hat.egg-info/METADATA", "hat.Egg-Info",
             "hat.EGG-info/PKG-INFO"],
)  # fmt: skip
def test_python_metadata_invisible_to_scanners_is_a_false_claim(path, has_index):
    """Its vulnerabilities would not be found. An image's base was compared when it was built."""
    files = {**HAT, f"opt/{path}": METADATA}

    (claim,) = read(files, index(wheel()) if has_index else None).false_claims
    assert claim.startswith(f"/opt/{path}:1: metadata of a Python package that no scanner reads under this name")


def test_second_python_metadata_that_is_never_read_is_ignored():
    """Python prefers METADATA."""
    assert read({**installed(), f"{INFO}/PKG-INFO": b"Name: cap\nVersion: 1\n"}, index(wheel())).false_claims == ()
