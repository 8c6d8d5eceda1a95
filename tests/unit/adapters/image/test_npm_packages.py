"""The comparison of npm packages in an image with what registries published."""

import hashlib
import json
from dataclasses import dataclass, field

import pytest

from supply_chain.adapters.image import npm_packages
from supply_chain.adapters.image.npm_packages import (
    ENTRY_FIELDS,
    REMEDY,
    NpmPublished,
    describe_entry,
    parse_package,
    read_npm_packages,
)
from supply_chain.adapters.image.package_records import NOTHING_COMPARED, InstalledFiles, read_installed_files
from supply_chain.adapters.image.standard_library import find_libraries
from tests.support.filesystem import lay_files

PLACE = "app/node_modules/hat"
CODE = b"exports.hat = 2\n"


def metadata(name="hat", version="2.0.0", **others):
    """Return a package.json."""
    return json.dumps({"name": name, "version": version, **others}).encode()


def package(at=PLACE, about=None, **files):
    """Return the files of a package in an image, with `index.js` unless it is None."""
    contents = {"package.json": metadata() if about is None else about, "index.js": CODE, "readme.md": b"x", **files}
    return {f"{at}/{name}": content for name, content in contents.items() if content is not None}


def published(contents=None, at=PLACE):
    """Return what a registry publishes as a package of these files."""
    contents = package() if contents is None else contents
    digests = {path.removeprefix(f"{at}/"): hashlib.sha256(content).digest() for path, content in contents.items()}
    files = {path: digest for path, digest in digests.items() if path.endswith((".js", ".json"))}
    return NpmPublished(files=files, entry=describe_entry(contents[f"{at}/package.json"]))


@dataclass
class MemoryRegistry:
    """A registry in memory: (name, version) → what it published."""

    published: dict[tuple[str, str], NpmPublished] = field(default_factory=lambda: {("hat", "2.0.0"): published()})
    asked: list[tuple[str, str]] = field(default_factory=list)

    def find(self, name, version):
        """Return what was published as a package."""
        self.asked.append((name, version))
        unknown = NpmPublished(has_name=self.has_name(name), has_version=False)
        return self.published.get((name, version), unknown)

    def has_name(self, name):
        """Return whether a package has this name."""
        return name in {each for each, _ in self.published}


def read(contents, registry=None, links=None, base=None, installed=None):
    """Return the npm packages of an image of these files and links, on a base of the files `base`."""
    keeper, files = lay_files(contents, links, keep=1024 * 1024)
    below = lay_files(base, keep=1024 * 1024, store=keeper)[1] if base is not None else None
    of = installed or read_installed_files(files, keeper)
    return read_npm_packages(files, keeper, registry or MemoryRegistry(), of, lambda: below)


def claim_of(contents, *args, **others):
    """Return the only false claim of an image."""
    (claim,) = read(contents, *args, **others).false_claims
    return claim


def test_package_as_published_is_no_false_claim():
    """An installer may leave files out, and add some that are no code."""
    registry = MemoryRegistry({("hat", "2.0.0"): published(package(**{"more.js": b"x", "test.js": b"y"}))})

    assert read(package(**{"more.js": b"x", "build/notes.txt": b"z"}), registry).false_claims == ()
    assert registry.asked == [("hat", "2.0.0")]


def test_version_that_no_registry_has_is_a_false_claim():
    """Nobody knows vulnerabilities of a version that was never published."""
    assert claim_of(package(about=metadata(version="2.0.1"))) == (
        f"/{PLACE}/package.json:1: it claims to be hat 2.0.1, a version that the registry does not have; {REMEDY}"
    )


def test_code_of_another_version_is_a_false_claim():
    """A scanner would see no vulnerabilities of the version whose code is there."""
    assert f"hat 2.0.0, and what is published differs from /{PLACE}/index.js; " in claim_of(
        package(**{"index.js": b"exports.hat = 1\n"})
    )


def test_changed_code_is_named_up_to_a_few_files():
    """Whoever reads the reason needs some examples."""
    names = [f"{number}.js" for number in range(6)]
    registry = MemoryRegistry({("hat", "2.0.0"): published(package(**dict.fromkeys(names, b"x")))})

    assert f"differs from /{PLACE}/0.js, /{PLACE}/1.js, /{PLACE}/2.js and 3 more" in claim_of(
        package(**dict.fromkeys(names, b"y")), registry
    )


def test_only_other_code_is_a_false_claim():
    """Such as that of another version in which all files have other names."""
    assert "and none of its code is there" in claim_of(package(**{"index.js": None, "main.js": b"old"}))
    assert read(package(**{"index.js": None})).false_claims == ()


@pytest.mark.parametrize("change", [{each: "./old/index.js"} for each in ENTRY_FIELDS])
def test_metadata_that_start_other_code_are_a_false_claim(change):
    """The published code could be there, and never be loaded."""
    assert "and main, exports, imports, type differ from what is published" in claim_of(
        package(about=metadata(**change), **{"old/index.js": b"old"})
    )
    assert read(package(about=metadata(_id="hat@2.0.0", scripts={}))).false_claims == ()


def test_package_of_an_unknown_name_is_the_application_s_own():
    """Its own code is in no registry."""
    assert read(package("app/node_modules/own", metadata("own", "0.0.0"))).false_claims == ()


def test_package_that_was_renamed_in_its_place_is_a_false_claim():
    """Node.js finds a package by the directory's name, and scanners by that in the metadata."""
    assert f"it claims to be own 2.0.0, a name that no registry has, in the place of hat; {REMEDY}" in claim_of(
        package(about=metadata("own"))
    )
    assert read(package("app/node_modules/cap", metadata("hat"))).false_claims == ()  # an alias of npm


@pytest.mark.parametrize(
    ("about", "why"),
    [
        (None, "there is no package.json"),
        (b"", ""),
        (b"{}", "it names no package, or no version"),
        (metadata(version=""), "it names no package, or no version"),
        (b'{"name": "hat", "version": "2.0.0", "Version": "1.0.0"}', "it names the package or its version several"),
        (b'{"name": "hat", "version": "2.0.0", "ver\\u017fion": "1.0.0"}', "it names the package or its version sev"),
        (metadata() + metadata(), ""),
        (b"\xef\xbb\xbf" + metadata(), ""),
        (metadata().replace(b'"2.0.0"', b"NaN"), "NaN is no JSON"),
        (b"[" * 100_000, "it is nested too deep"),
        (b"[{}]", "it names no package, or no version"),
    ],
    ids=str,
)
def test_package_that_no_scanner_reads_is_a_false_claim(about, why):
    """Node.js loads it without a name, too."""
    contents = {**package(), f"{PLACE}/package.json": about} if about is not None else {f"{PLACE}/index.js": CODE}
    claim = claim_of(contents)

    assert claim.startswith(f"/{PLACE}/package.json:1: code of an npm package whose name and version no scanner reads;")
    assert f"({why}" in claim
    assert read({path: each for path, each in contents.items() if not path.endswith(".js")}).false_claims == ()


@pytest.mark.parametrize(
    "others",
    [
        {"version": 2}, {"description": ["x"]}, {"homepage": False}, {"private": "yes"}, {"latest": "x"},
        {"latest": [1]}, {"dependencies": {"cap": 1}}, {"devDependencies": []}, {"author": 1}, {"author": ["x"]},
        {"author": {"Name": 1}}, {"maintainers": [{"email": []}]}, {"contributors": 3}, {"repository": {"type": {}}},
        {"Repository": 1},
    ],
    ids=str,
)  # fmt: skip
def test_metadata_with_a_type_that_syft_does_not_read_are_refused(others):
    """It skips such a file as a whole."""
    with pytest.raises(ValueError, match="another type than scanners expect"):
        parse_package(metadata(**{"name": "hat", **others}))


def test_metadata_with_what_syft_reads_are_read():
    """Packages have these in many forms."""
    assert parse_package(
        metadata(
            description=None, homepage="x", private=False, latest=["x"], dependencies={"cap": "1"}, author="me",
            authors="me <me@example.com>", contributors=["me", {"name": "me", "since": 3}], maintainers={"url": None},
            repository={"type": "git"}, license=3, scripts={"name": 1, "version": []}, files=[{"name": "x"}],
        )
    ) == ("hat", "2.0.0")  # fmt: skip
    assert parse_package(b'{"Name": "hat", "VERSION": "2.0.0"}') == ("hat", "2.0.0")


def test_large_metadata_are_not_read():
    """A scanner reads them all the same."""
    keeper, files = lay_files(package(), keep=0)

    (claim,) = read_npm_packages(files, keeper, MemoryRegistry(), read_installed_files(files, keeper)).false_claims
    assert "(it is too large, and is not read)" in claim


@pytest.mark.parametrize(
    ("contents", "links"),
    [
        (package("opt/lib/hat"), {"app/node_modules": "../opt/lib"}),
        (package("opt/hat"), {PLACE: "/opt/hat"}),
        (package("opt/node_modules/@wear/hat"), {}),
        (package("opt/wear/hat"), {"app/node_modules/@wear": "../../opt/wear"}),
        (package("app/node_modules/.store/hat@2/node_modules/hat"), {PLACE: ".store/hat@2/node_modules/hat"}),
        (package("opt/hat"), {"app/node_modules": "/proc/self/root/opt"}),
    ],
    ids=str,
)
def test_packages_are_found_as_node_js_finds_them(contents, links):
    """Directories of packages, scopes and packages may be links."""
    changed = {path: b"old" if path.endswith(".js") else content for path, content in contents.items()}

    assert read(contents, links=links).false_claims == ()
    assert "and what is published differs from" in claim_of(changed, links=links)


def test_code_behind_a_link_is_compared():
    """A package's file may lead to another one."""
    contents = package(**{"index.js": None, "old.js": b"old"})

    assert "differs from" in claim_of(contents, links={f"{PLACE}/index.js": "old.js"})


def test_file_in_a_directory_of_packages_is_one_without_metadata():
    """Node.js loads it by its name without the ending."""
    assert claim_of({"app/node_modules/hat.js": CODE}).startswith("/app/node_modules/hat.js:1: code of an npm package")
    assert read({"app/node_modules/.cache/x.js": CODE, "app/node_modules/x.txt": b""}).false_claims == ()


def test_part_of_the_application_behind_a_link_is_its_own():
    """Workspaces are linked into the directory of packages, with any name. In that directory, it says nothing."""
    about = metadata(version="0.0.0", private=True)

    assert read(package("app/parts/hat", about), links={PLACE: "../parts/hat"}).false_claims == ()
    assert "a version that the registry does not have" in claim_of(package(about=about))
    assert "a version that the registry does not have" in claim_of(
        package("app/parts/hat", metadata(version="0.0.0")), links={PLACE: "../parts/hat"}
    )


def test_package_that_another_one_brings_along_is_no_claim():
    """Tests of packages contain packages, with any name and version; they count while they are as published."""
    inner = f"{PLACE}/test/node_modules/cap"
    bare = f"{PLACE}/node_modules/own"
    brought = {**package(inner, metadata("cap", "0.0.0")), f"{bare}/index.js": CODE}
    outer = {**package(), **brought}
    registry = MemoryRegistry({("hat", "2.0.0"): published(outer), ("cap", "1.0.0"): NpmPublished()})

    assert read(outer, registry).false_claims == ()
    assert len(read({**outer, f"{inner}/index.js": b"old"}, registry).false_claims) == 2
    assert len(read({**outer, f"{bare}/more.js": b"new"}, registry).false_claims) == 1
    assert len(read({**outer, f"{inner}/package.json": metadata("cap", "0.0.1")}, registry).false_claims) == 1


def test_bundled_package_may_be_replaced_by_another_published_one():
    """Its own version's code counts in its place, and so does that of the package that brought it along."""
    inner = f"{PLACE}/node_modules/cap"
    old, new = package(inner, metadata("cap", "1.0.0")), package(inner, metadata("cap", "1.0.1"), **{"index.js": b"1"})
    registry = MemoryRegistry(
        {
            ("hat", "2.0.0"): published({**package(), **old}),
            ("cap", "1.0.1"): published(new, inner),
        }
    )

    assert read({**package(), **new}, registry).false_claims == ()
    assert len(read({**package(), **new, f"{inner}/index.js": b"evil"}, registry).false_claims) == 2


def test_package_of_the_base_is_not_compared_unless_its_code_changed():
    """The base was examined when it was built; distributions change packages."""
    base = package(about=metadata(version="0.0.0"), **{"more.js": b"more"})
    registry = MemoryRegistry()

    assert read(base, registry, base=base).false_claims == () and registry.asked == []
    assert read(package(), base=base).false_claims == ()
    assert read({**base, f"{PLACE}/own.js": b"x"}, registry, base=base).false_claims == ()
    assert f"differs from /{PLACE}/more.js" in claim_of({**base, f"{PLACE}/more.js": b"old"}, base=base)
    assert "a version that the registry does not have" in claim_of(
        {**base, f"{PLACE}/package.json": metadata(version="0.0.1")}, base=base
    )
    as_published = package(**{"index.js": b"changed"})
    assert read({**as_published, f"{PLACE}/index.js": CODE}, base=as_published).false_claims == ()


def test_package_that_another_kind_of_package_installed_is_not_compared():
    """Debian and wheels have packages of npm, with changes of their own."""
    contents = package("opt/node_modules/hat", metadata(version="0.0.0"))
    bare = {"opt/node_modules/cap/index.js": CODE}
    files = lay_files({})[1]
    digests = {f"/{path}": (("sha256", hashlib.sha256(each).digest()),) for path, each in {**contents, **bare}.items()}
    installed = InstalledFiles(digests, is_complete=True, libraries=find_libraries(files, has_apk=False))

    assert read({**contents, **bare}, installed=installed).false_claims == ()
    assert len(read({**contents, **bare, f"{next(iter(bare))}.js": b"new"}, installed=installed).false_claims) == 1


@pytest.mark.parametrize("is_complete", [False, True])
def test_system_s_packages_are_not_compared_while_its_records_are_not_read(is_complete):
    """Those of rpm, for example."""
    contents = package("usr/lib/node_modules/hat", metadata(version="0.0.0"))
    files = lay_files({})[1]
    installed = InstalledFiles({}, is_complete=is_complete, libraries=find_libraries(files, has_apk=False))

    assert len(read(contents, installed=installed).false_claims) == is_complete


def test_without_a_registry_packages_are_counted():
    """An operator without one believes the metadata."""
    keeper, files = lay_files({**package(), **package("app/node_modules/cap")})

    packages = read_npm_packages(files, keeper, None, read_installed_files(files, keeper, system=NOTHING_COMPARED))
    assert (packages.uncompared, packages.false_claims) == (2, ())


def test_too_many_packages_are_not_compared(monkeypatch):
    """An image must not make a machine ask a registry for ever."""
    monkeypatch.setattr(npm_packages, "MOST_PACKAGES", 1)

    assert read(package()).false_claims == ()
    with pytest.raises(ValueError, match="more than 1 npm packages"):
        read({**package(), **package("app/node_modules/cap")})


def test_checkpoint_is_called_for_each_file():
    """A check ends when its time is over."""
    keeper, files = lay_files(package())
    calls = []

    read_npm_packages(
        files, keeper, MemoryRegistry(), read_installed_files(files, keeper), checkpoint=lambda: calls.append(1)
    )
    assert len(calls) >= 6
