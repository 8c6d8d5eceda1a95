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
    is_compared,
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
    digests = {path.removeprefix(f"{at}/"): (hashlib.sha256(each).digest(),) for path, each in contents.items()}
    files = {path: digest for path, digest in digests.items() if is_compared(path)}
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


@pytest.mark.parametrize(
    "path",
    [
        "main.js", "index.js.js", "index.js/index.js", "index", "lib/package.json", "old.node", "a.cjs", "a.mjs",
        "a.jsx", "a.wasm", "A.JS", "build/a.js",
    ],
)  # fmt: skip
def test_code_that_was_not_published_is_a_false_claim(path):
    """Node.js completes names, so it could be loaded in place of the published code."""
    contents = package(**{"index.js": None if path.startswith("index.js/") else CODE, path: b"old"})

    assert f"hat 2.0.0, and no published package has /{PLACE}/{path}; " in claim_of(contents)


@pytest.mark.parametrize("path", ["notes.txt", "bin/hat", "index.d.ts", "LICENSE", ".npmrc", "data.json"])
def test_npm_package_may_add_and_omit_files(path):
    """Installers and builds do so."""
    assert read(package(**{path: b"x"})).false_claims == ()
    registry = MemoryRegistry({("hat", "2.0.0"): published(package(**{path: b"x"}))})
    assert read(package(**{"index.js": None}), registry).false_claims == ()


def test_npm_package_may_add_programs_and_replace_scripts_by_them():
    """Scripts of packages download them for this machine. Node.js reads no script in them."""
    program = b"\x7fELF\x02\x01\x01" + bytes(9) + b"\x02\x00\x3e\x00" + bytes(100)
    registry = MemoryRegistry(
        {("hat", "2.0.0"): published(package(**{"bin/hat": b"#!/usr/bin/env node\n", "a.node": program + b"1"}))}
    )

    assert read(package(**{"bin/hat": program, "more.node": program}), registry).false_claims == ()
    assert "differs from" in claim_of(package(**{"bin/hat": b"#!/usr/bin/env node\nold"}), registry)
    assert "differs from" in claim_of(package(**{"a.node": program + b"2"}), registry)


def test_results_of_a_native_build_may_be_added():
    """`node-gyp` writes them when the package is installed."""
    registry = MemoryRegistry({("hat", "2.0.0"): published(package(**{"binding.gyp": b"{}"}))})
    built = package(**{"build/Release/hat.node": b"x", "build/gyp.js": b"y"})

    assert read(built, registry, {f"{PLACE}/build/python3": "/usr/bin/python3"}).false_claims == ()
    assert "no published package has" in claim_of(package(**{"built/hat.js": b"y"}), registry)


def test_links_in_a_package_are_a_false_claim():
    """npm unpacks none."""
    assert f"no published package has /{PLACE}/lib; " in claim_of(package(), links={f"{PLACE}/lib": "/opt"})
    assert read(package(), links={f"{PLACE}/node_modules": "/opt/own"}).false_claims == ()


@pytest.mark.parametrize("change", [{each: "./old.txt"} for each in ENTRY_FIELDS])
def test_npm_metadata_with_changed_entry_points_is_a_false_claim(change):
    """The published code could be there, and never be loaded."""
    assert "and main, exports, imports, type differ from what is published" in claim_of(
        package(about=metadata(**change), **{"old.txt": b"old"})
    )
    assert read(package(about=metadata(_id="hat@2.0.0", scripts={}))).false_claims == ()


def test_npm_package_with_unknown_name_belongs_to_application():
    """Its own code is in no registry."""
    assert read(package("app/node_modules/own", metadata("own", "0.0.0"))).false_claims == ()


def test_npm_package_renamed_in_its_directory_is_a_false_claim():
    """Node.js finds a package by the directory's name, and scanners by that in the metadata."""
    assert f"it claims to be own 2.0.0, a name that no registry has, in the place of hat; {REMEDY}" in claim_of(
        package(about=metadata("own"))
    )
    assert read(package("app/node_modules/cap", metadata("hat"))).false_claims == ()  # an alias of npm


@pytest.mark.parametrize(
    ("about", "why"),
    [
        (None, "there is no package.json, or it is behind a link"),
        (b"", ""),
        (b"{}", "it names no package, or no version"),
        (metadata(version=""), "it names no package, or no version"),
        (b'{"name": "hat", "version": "2.0.0", "Version": "1.0.0"}', "it names the package or its version several"),
        (b'{"name": "hat", "version": "2.0.0", "ver\\u017fion": "1.0.0"}', "it names the package or its version sev"),
        (metadata() + metadata(), ""),
        (b"\xef\xbb\xbf" + metadata(), ""),
        (metadata().replace(b'"2.0.0"', b"NaN"), "NaN is not JSON"),
        (b"[" * 100_000, "it is nested too deep"),
        (b"[{}]", "it names no package, or no version"),
    ],
    ids=lambda each: str(each)[:60],
)
def test_npm_package_unreadable_for_scanners_is_a_false_claim(about, why):
    """Node.js loads it without a name, too."""
    contents = {**package(), f"{PLACE}/package.json": about} if about is not None else {f"{PLACE}/index.js": CODE}
    claim = claim_of(contents)

    assert claim.startswith(f"/{PLACE}/package.json:1: what Node.js loads as a package, and no scanner reads its name")
    assert f"({why}" in claim


@pytest.mark.parametrize(
    "others",
    [
        {"version": 2}, {"description": ["x"]}, {"homepage": False}, {"private": "yes"}, {"latest": "x"},
        {"latest": [1]}, {"dependencies": {"cap": 1}}, {"devDependencies": []}, {"author": 1}, {"author": ["x"]},
        {"author": {"Name": 1}}, {"maintainers": [{"email": []}]}, {"contributors": 3}, {"repository": {"type": {}}},
        {"Repository": 1}, {"repository": {"a": []}}, {"author": {"name": []}},
    ],
    ids=lambda each: str(each)[:60],
)  # fmt: skip
def test_npm_metadata_of_type_that_syft_skips_is_refused(others):
    """It skips such a file as a whole."""
    with pytest.raises(ValueError, match="another type than scanners expect"):
        parse_package(metadata(**{"name": "hat", **others}))


@pytest.mark.parametrize(
    "member",
    [
        b'"dependencies": {"cap": 5, "cap": "1"}', b'"author": {"name": 5, "name": "x"}',
        b'"repository": {"url": [], "url": "x"}', b'"Private": 1, "private": true',
    ],
)  # fmt: skip
def test_npm_metadata_with_repeated_member_of_other_type_is_refused(member):
    """It reads every member of a name, and not the last one only."""
    with pytest.raises(ValueError, match="another type than scanners expect"):
        parse_package(b'{"name": "hat", "version": "2.0.0", ' + member + b"}")


@pytest.mark.parametrize("number", [b"1e999", b"-1e999", b"1" * 400, b"NaN", b"-Infinity"])
def test_npm_metadata_with_number_that_syft_skips_is_refused(number):
    """Python knows larger ones."""
    with pytest.raises(ValueError, match=r"too large for scanners|is not JSON"):
        parse_package(b'{"name": "hat", "version": "2.0.0", "author": {"x": ' + number + b"}}")


def test_npm_metadata_readable_for_syft_is_read():
    """Packages have these in many forms."""
    assert parse_package(
        metadata(
            description=None, homepage="x", private=False, latest=["x"], dependencies={"cap": "1"}, author="me",
            authors="me <me@example.com>", contributors=["me", {"name": "me", "since": 3}], maintainers={"url": None},
            repository={"type": "git"}, license=3, scripts={"name": 1, "version": []}, files=[{"name": "x"}],
        )
    ) == ("hat", "2.0.0")  # fmt: skip
    assert parse_package(b'{"Name": "hat", "VERSION": "2.0.0"}') == ("hat", "2.0.0")


def test_name_is_printable_in_a_reason():
    """A step of a build writes it; it must not look like another reason, and a lone surrogate is no text."""
    about = b'{"name": "a\\n/x:1: \\ud800' + b"y" * 300 + b'", "version": "1"}'

    claim = claim_of(package(about=about))
    assert "it claims to be a\\n/x:1: \\ud800yyy" in claim
    assert len(claim) < 600 and "in the place of hat" in claim


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
        (package("root/.node_modules/hat"), {}),
        (package("root/.node_libraries/@wear/hat"), {}),
        (package("usr/local/lib/node/hat"), {}),
        (package("usr/share/nodejs/hat"), {}),
    ],
    ids=lambda each: str(each)[:60],
)
def test_packages_are_found_as_node_js_finds_them(contents, links):
    """Directories of packages, scopes and packages may be links."""
    changed = {path: b"old" if path.endswith(".js") else content for path, content in contents.items()}

    assert read(contents, links=links).false_claims == ()
    assert "and what is published differs from" in claim_of(changed, links=links)


def test_npm_code_behind_link_is_a_false_claim():
    """A package's file may lead to another one."""
    contents = {**package(**{"index.js": None}), "opt/old": b"old"}

    assert "differs from" in claim_of(contents, links={f"{PLACE}/index.js": "/opt/old"})


def test_metadata_behind_a_link_are_not_read():
    """Scanners follow links otherwise than a running container."""
    contents = {f"{PLACE}/index.js": CODE, "opt/meta": metadata()}

    for target in ("/opt/meta", "/proc/self/root/opt/meta"):
        assert "there is no package.json, or it is behind a link" in claim_of(
            contents, links={f"{PLACE}/package.json": target}
        )


def test_npm_package_is_compared_under_every_linked_name():
    """The first one could be that of an own package."""
    own = package("app/node_modules/acme", metadata("acme"))

    for links in ({PLACE: "acme"}, {"opt/node_modules/hat": "/app/node_modules/acme"}):
        assert "a name that no registry has, in the place of hat" in claim_of(own, links=links)
    renamed = package("app/node_modules/hat", metadata("acme"))
    assert "in the place of hat" in claim_of(renamed, links={"a/node_modules/@scope": "/app/node_modules"})


def test_file_in_node_modules_counts_as_package_without_metadata():
    """Node.js loads it by its name without the ending."""
    for name in ("hat.js", "hat", "hat.txt", "@hat"):
        assert claim_of({f"app/node_modules/{name}": CODE}).startswith(
            f"/app/node_modules/{name}:1: what Node.js loads as a package, and no scanner reads"
        )
    assert read({"app/node_modules/.cache/x.js": CODE, "app/node_modules/.package-lock.json": b""}).false_claims == ()


def test_linked_npm_workspace_with_own_name_is_no_false_claim():
    """Workspaces are linked into the directory of packages."""
    own, other = (package("app/parts/hat", metadata(name, "0.0.0", private=True)) for name in ("@me/hat", "hat"))

    assert read(own, links={"app/node_modules/@me/hat": "../../parts/hat"}).false_claims == ()
    assert "a version that the registry does not have" in claim_of(other, links={PLACE: "../parts/hat"})


def test_npm_package_inside_published_package_is_no_claim():
    """Tests of packages contain packages, with any name and version; they count while they are as published."""
    inner = f"{PLACE}/test/node_modules/cap"
    bare, file = f"{PLACE}/node_modules/own", f"{PLACE}/node_modules/file.txt"
    brought = {**package(inner, metadata("cap", "0.0.0")), f"{bare}/index.js": CODE, file: b"x"}
    outer = {**package(), **brought}
    registry = MemoryRegistry({("hat", "2.0.0"): published(outer), ("cap", "1.0.0"): NpmPublished()})

    assert read(outer, registry).false_claims == ()
    for change in (
        {f"{inner}/index.js": b"old"},
        {f"{bare}/more.txt": b"new"},
        {f"{inner}/package.json": metadata("cap", "0.0.1")},
        {file: b"y"},
    ):
        (claim,) = read({**outer, **change}, registry).false_claims
        assert claim.startswith(f"/{PLACE}/")
    assert len(read(outer, registry, {f"{inner}/more": "/opt"}).false_claims) == 1
    assert len(read({**outer, **package(about=metadata(version="1.0.0"))}, registry).false_claims) == 4


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
    assert len(read({**package(), **new, f"{inner}/index.js": b"evil"}, registry).false_claims) == 1
    mixed = {**package(), **old, f"{inner}/package.json": metadata("cap", "1.0.1")}
    assert len(read(mixed, registry).false_claims) == 1


def test_package_of_the_base_is_not_compared_unless_its_code_changed():
    """The base was examined when it was built; distributions change packages."""
    base = package(about=metadata(version="0.0.0"), **{"more.js": b"more"})
    registry = MemoryRegistry()

    assert read(base, registry, base=base).false_claims == () and registry.asked == []
    assert read(package(), base=base).false_claims == ()
    assert read({**base, f"{PLACE}/notes.txt": b"x"}, registry, base=base).false_claims == ()
    for changed in ("more.js", "own.js"):
        assert f"no published package has /{PLACE}/{changed}" in claim_of(
            {**base, f"{PLACE}/{changed}": b"x"}, base=base
        )
    linked = {path: content for path, content in base.items() if not path.endswith("/more.js")} | {"opt/old": b"old"}
    assert "no published package has" in claim_of(linked, links={f"{PLACE}/more.js": "/opt/old"}, base=base)
    assert "a version that the registry does not have" in claim_of(
        {**base, f"{PLACE}/package.json": metadata(version="0.0.1")}, base=base
    )
    changed_base = package(**{"index.js": b"changed"})
    assert read({**changed_base, f"{PLACE}/index.js": CODE}, base=changed_base).false_claims == ()
    assert "differs from" in claim_of({**changed_base, f"{PLACE}/index.js": b"old"}, base=changed_base)


def test_npm_link_of_base_must_lead_to_content_of_base():
    """Distributions share code of their packages by links."""
    linked = {
        f"{PLACE}/package.json": metadata(version="0.0.0"),
        "usr/share/hat/lib/index.js": CODE,
        "opt/cap.js": CODE,
    }
    links = {f"{PLACE}/lib": "/usr/share/hat/lib", f"{PLACE}/cap.js": "/opt/cap.js", f"{PLACE}/self": "."}

    def read_linked(contents, links=links):
        keeper, files = lay_files(contents, links, keep=1024 * 1024)
        below = lay_files(linked, {**links}, keep=1024 * 1024, store=keeper)[1]
        return read_npm_packages(
            files, keeper, MemoryRegistry(), read_installed_files(files, keeper), lambda: below
        ).false_claims

    assert read_linked(linked) == ()
    for path in ("usr/share/hat/lib/index.js", "usr/share/hat/lib/more.js", "opt/cap.js"):
        assert len(read_linked({**linked, path: b"old"})) == 1


def test_package_that_another_kind_of_package_installed_is_not_compared():
    """Debian and wheels have packages of npm, with changes of their own."""
    contents = {
        **package("opt/node_modules/hat", metadata(version="0.0.0")),
        "opt/node_modules/cap/index.js": CODE,
        "usr/share/cap/more.js": CODE,
    }
    links = {"opt/node_modules/cap/lib": "/usr/share/cap"}
    files = lay_files({})[1]
    digests = {f"/{path}": (("sha256", hashlib.sha256(each).digest()),) for path, each in contents.items()}
    installed = InstalledFiles(digests, is_complete=True, libraries=find_libraries(files, has_apk=False))

    assert read(contents, links=links, installed=installed).false_claims == ()
    for path in ("opt/node_modules/cap/more.js", "usr/share/cap/more.js", "opt/node_modules/hat/index.js"):
        assert len(read({**contents, path: b"new"}, links=links, installed=installed).false_claims) == 1


@pytest.mark.parametrize("is_complete", [False, True])
def test_npm_system_packages_are_not_compared_without_records(is_complete):
    """Those of rpm, for example."""
    contents = package("usr/lib/node_modules/hat", metadata(version="0.0.0"))
    files = lay_files({})[1]
    installed = InstalledFiles({}, is_complete=is_complete, libraries=find_libraries(files, has_apk=False))

    assert len(read(contents, installed=installed).false_claims) == is_complete


def test_npm_packages_are_counted_as_uncompared_without_registry():
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
    monkeypatch.setattr(npm_packages, "MOST_NAMES", 2)
    with pytest.raises(ValueError, match="more than 1 npm packages"):
        read(package(), links={f"{number}/node_modules/hat": f"/{PLACE}" for number in range(2)})


def test_dangling_npm_links_count_towards_limit_of_names(monkeypatch):
    """Otherwise they could come first, and the packages after them would not be compared."""
    monkeypatch.setattr(npm_packages, "MOST_NAMES", 3)
    old = package("b/node_modules/hat", **{"index.js": b"old"})

    assert len(read(old, links={f"a/node_modules/{number}": "/nowhere" for number in range(2)}).false_claims) == 1
    with pytest.raises(ValueError, match="npm packages"):
        read(old, links={f"a/node_modules/{number}": "/nowhere" for number in range(4)})


def test_checkpoint_is_called_for_each_file():
    """A check ends when its time is over."""
    keeper, files = lay_files(package())
    calls = []

    read_npm_packages(
        files, keeper, MemoryRegistry(), read_installed_files(files, keeper), checkpoint=lambda: calls.append(1)
    )
    assert len(calls) >= 7
