"""Tests that layers are combined as a container sees them, and that reading them is bounded."""

import base64
import bz2
import gzip
import hashlib
import io
import json
import lzma
import tarfile
import zlib
from collections.abc import Callable
from datetime import UTC, datetime

import httpx
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from supply_chain.adapters.debian_archive import DebianArchives
from supply_chain.adapters.files import free_space
from supply_chain.adapters.files.private_files import PrivateFiles
from supply_chain.adapters.image import budget as image_budget
from supply_chain.adapters.image import layers, privileged_files
from supply_chain.adapters.image.budget import TooLong
from supply_chain.adapters.image.file_content import HEAD, ContentStore
from supply_chain.adapters.image.layers import examine_image, is_larger, read_contents
from supply_chain.adapters.image.npm_packages import NpmPublished
from supply_chain.adapters.image.packaged_files import PackagedFiles
from supply_chain.adapters.image.packages import PackageSources
from supply_chain.adapters.image.python_packages import Published
from supply_chain.adapters.image.secret_forms import MARKS
from supply_chain.adapters.process.cancellation import Cancellation
from supply_chain.adapters.tools import secrets
from supply_chain.adapters.tools.bandit import ReadSources, SourceScan
from supply_chain.adapters.tools.secrets import LARGEST, SearchedFiles, SecretSearch, find_secrets
from supply_chain.errors import Cancelled, CheckIncomplete, DiskFull, PackageIndexUnavailable, ScannerFailed
from tests.support.content import Content
from tests.support.debian_archive import ArchivePackage, MemoryArchive
from tests.support.memory_engine import MemoryEngine
from tests.support.memory_registry import MemoryRegistry
from tests.support.present import present
from tests.support.python_tools import BANDIT, DETECT

MIB = 1024**2
OCI = "application/vnd.oci.image"


def holding(archive):
    """Return an engine whose only image is saved as this archive."""
    engine = MemoryEngine()
    engine.add("image", archive=archive)
    return engine


def entry(name, mode=0o755, kind=tarfile.REGTYPE, size=0, to="", **headers):
    member = tarfile.TarInfo(name)
    member.mode, member.type, member.size, member.pax_headers, member.linkname = mode, kind, size, headers, to
    member.devmajor = 1
    return member


def layer(*members):
    """Return the archive of a layer; a member without content is filled with zeros."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for member in members:
            head, content = member if isinstance(member, tuple) else (member, b"\0" * member.size)
            tar.addfile(head, io.BytesIO(content))
    return buffer.getvalue()


ARM, X86 = 183, 62


def program(name, machine, mode=0o755, kind=2, order="little", start=b"\x7fELF", size=600):
    """Return a file that begins with an ELF header (System V ABI, "ELF Header")."""
    way = {"little": 1, "big": 2}[order]
    ident = start + bytes((2, way, 1)) + bytes(9)
    content = (ident + kind.to_bytes(2, order) + machine.to_bytes(2, order)).ljust(size, b"x")[:size]
    return entry(name, mode, size=len(content)), content


def engine(*unpacked, kind="gzip", config=None, changed=None):
    """Return an engine with an image of these layers; `changed` may replace its blobs."""
    blobs = {}

    def blob(content, media_type):
        digest = hashlib.sha256(content).hexdigest()
        blobs[f"blobs/sha256/{digest}"] = content
        return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(content)}

    packed = [gzip.compress(each) if kind == "gzip" else each for each in unpacked]
    suffix = {"gzip": "tar+gzip", "docker": "tar.gzip"}.get(kind, kind)
    described = config or {"os": "linux", "architecture": "amd64"}
    manifest = {
        "config": blob(
            (described if isinstance(described, str) else json.dumps(described)).encode(), f"{OCI}.config.v1+json"
        ),
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
    return holding(buffer.getvalue())


def rights(*unpacked, **kwargs):
    examination = present(read_contents(engine(*unpacked, **kwargs), "image", MIB)).examination
    return {each.path: each.rights for each in examination.privileged_files}


@pytest.mark.parametrize(
    ("member", "why"),
    [
        (entry("bin/su", 0o4755), {"/bin/su": "setuid"}),
        (entry("./bin/su", 0o4755), {"/bin/su": "setuid"}),
        (entry("bin/wall", 0o2755), {"/bin/wall": "setgid"}),
        (entry("bin/both", 0o6755), {"/bin/both": "setuid, setgid"}),
        (entry("bin/ping", **{"SCHILY.xattr.security.capability": "\x01\0\0\x02"}), {"/bin/ping": "capabilities"}),
        (entry("srv/disk", 0o660, tarfile.BLKTYPE), {"/srv/disk": "device"}),
        (entry("srv/mem", 0o660, tarfile.CHRTYPE), {"/srv/mem": "device"}),
        (entry("dev/null", 0o666, tarfile.CHRTYPE), {}),
        (entry("var/mail", 0o2775, tarfile.DIRTYPE), {}),
        (entry("tmp", 0o1777, tarfile.DIRTYPE), {}),
        (entry("bin/sh", 0o4777, tarfile.SYMTYPE), {}),
    ],
    ids=lambda each: each.name if isinstance(each, tarfile.TarInfo) else "",
)
def test_privileged_files_are_setuid_setgid_capabilities_and_devices(member, why):
    """Directories and symbolic links do not count."""
    assert rights(layer(member)) == why


SU = entry("bin/su", 0o4755)


@pytest.mark.parametrize(
    ("above", "left"),
    [
        ([entry("bin/su", 0o755)], []),
        ([entry("bin/.wh.su")], []),
        ([entry(".wh.bin")], []),
        ([entry("bin/.wh..wh..opq")], []),
        ([entry(".wh..wh..opq")], ["/bin/su"]),
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
def test_layer_hides_files_of_lower_layers_only(above, left):
    """Replacements and whiteouts never hide entries of their own layer (OCI image 1.1, "Whiteouts")."""
    assert list(rights(layer(SU), layer(*above))) == left


def test_file_restored_by_later_layer_is_present():
    """The last layer counts."""
    assert list(rights(layer(SU), layer(entry("bin/.wh.su")), layer(SU))) == ["/bin/su"]


@pytest.mark.parametrize("kind", ["gzip", "docker", "tar", "tar+zstd"])
def test_layers_are_read_in_every_stored_form(kind):
    """Layers may be compressed or not, with media types of OCI or of Docker."""
    packs: dict[str, Callable[[bytes], bytes]] = {"docker": gzip.compress, "tar+zstd": zstandard.compress}
    stored = [packs.get(kind, bytes)(layer(SU))]

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
def test_contents_name_platform_and_manifest_digest(config, platform):
    """The platform is read from the configuration of the image."""
    found = read_contents(engine(layer(), config=config), "image", MIB)
    assert found is not None

    assert found.platform == platform
    assert found.digest.startswith("sha256:")


def test_size_is_the_sum_of_all_unpacked_layers():
    """Files that a later layer hides count as well."""
    found = read_contents(engine(layer(entry("a", size=1000)), layer(entry("a", size=3000))), "image", MIB)
    assert found is not None

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
def test_read_contents_returns_none_for_too_large_image(unpacked):
    """The compressed size does not matter."""
    assert read_contents(engine(*unpacked), "image", MIB) is None


@pytest.mark.parametrize("kind", ["gzip", "docker", "tar", "tar+zstd"])
@pytest.mark.parametrize(("most", "larger"), [(5024, False), (5023, True)])
def test_is_larger_measures_all_unpacked_layers(tmp_path, kind, most, larger):
    """Each member counts with its header, and the content is not inspected."""
    unpacked = [layer(entry("a", size=1000)), layer(entry("a", size=3000))]
    packs: dict[str, Callable[[bytes], bytes]] = {"docker": gzip.compress, "tar+zstd": zstandard.compress}
    (content,) = engine(*map(packs.get(kind, bytes), unpacked), kind=kind).archives.values()
    (tmp_path / "image.tar").write_bytes(content)

    assert is_larger(tmp_path / "image.tar", most) is larger


def test_is_larger_trusts_declared_size_of_a_member(tmp_path):
    """The declared size alone is too large, so the content need not be read."""
    head = tarfile.TarInfo("zeros")
    head.size = 2**40
    (content,) = engine(head.tobuf()).archives.values()
    (tmp_path / "image.tar").write_bytes(content)

    assert is_larger(tmp_path / "image.tar", MIB)


def test_archive_larger_than_limit_is_not_stored():
    """The engine stops saving at the limit."""
    assert read_contents(holding(b"\0" * (layers.SLACK + MIB + 1)), "image", MIB) is None


def test_decompression_bomb_is_not_unpacked(monkeypatch):
    """A tiny archive may declare a huge file or a huge header."""
    huge = entry("x")
    huge.size = 1 << 40
    header = entry("x", kind=tarfile.XHDTYPE)
    header.size = 1 << 30

    assert read_contents(engine(huge.tobuf() + b"\0" * 1024), "image", MIB) is None
    with pytest.raises(CheckIncomplete, match="a header of"):
        read_contents(engine(header.tobuf() + b"\0" * 1024), "image", MIB)


def test_too_many_files_with_more_rights_are_an_error(monkeypatch):
    """No ordinary image comes near the limit."""
    monkeypatch.setattr(privileged_files, "MOST_LISTED", 3)
    with pytest.raises(CheckIncomplete, match="more than 3 files that"):
        read_contents(engine(layer(*(entry(f"{n}", 0o4755) for n in range(4)))), "image", MIB)


def test_contents_name_variables_that_load_code():
    """Those of the configuration, which no layer has."""
    config = {"os": "linux", "config": {"Env": ["LD_PRELOAD=/lib/x.so"]}}
    assert present(read_contents(engine(layer(), config=config), "image", MIB)).code_variables == ("LD_PRELOAD",)


@pytest.mark.parametrize(
    ("accounts", "is_root"),
    [(b"app:x:10001:0::/:\n", False), (b"app:x:0:0::/:\n", True), (b"#" * 65536 + b"\napp:x:10001:0::/:\n", True)],
    ids=["user", "root", "too large"],
)
def test_contents_state_whether_the_user_is_root(accounts, is_root):
    """A user's name says nothing without the image's accounts."""
    image = engine(layer(text("etc/passwd", accounts)), config={"os": "linux", "config": {"User": "app"}})

    assert present(read_contents(image, "image", MIB)).is_root is is_root


@pytest.mark.parametrize(
    "broken",
    [
        engine(layer(), kind="tar+zstd"),
        engine(zstandard.compress(layer(SU))[:-20], kind="tar+zstd"),
        engine(layer(), kind="tar+encrypted"),
        engine(b"rubbish" * 1000),
        engine(layer(SU)[:700]),
        engine(entry("a").tobuf() + b"rubbish" * 1000 + layer(SU)),
        engine(layer(), changed=lambda blobs: {"index.json": b"{}"}),
        engine(layer(), changed=lambda blobs: {"index.json": b"[" * 100}),
        engine(layer(), changed=lambda blobs: {"index.json": b'{"manifests": []}'}),
        engine(layer(), changed=lambda blobs: {name: b"{}" for name in blobs if name != "index.json"}),
        holding(b""),
        holding(b"rubbish" * 1000),
    ],
    ids=[
        "not zstd",
        "half of zstd",
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
def test_unreadable_image_raises_check_not_made(broken):
    """A layer that was not read may contain anything."""
    with pytest.raises(CheckIncomplete, match="cannot be read"):
        read_contents(broken, "image", MIB)


@given(st.binary(max_size=2000), st.booleans())
def test_any_layer_content_is_read_or_raises_check_not_made(content, wrapped):
    """No content raises another exception."""
    start = SU.tobuf() if wrapped else b""
    try:
        read_contents(engine(start + content, kind="tar"), "image", MIB)
    except CheckIncomplete:
        return


def foreign(*unpacked, **kwargs):
    found = read_contents(engine(*unpacked, **kwargs), "image", MIB)
    assert found is not None
    return found.programs, dict(found.foreign)


@pytest.mark.parametrize(
    ("file", "found"),
    [
        (program("bin/x", X86), (1, {})),
        (program("bin/x", ARM), (1, {"/bin/x": "AArch64"})),
        (program("bin/x", ARM, kind=3), (1, {"/bin/x": "AArch64"})),
        (program("bin/x", ARM, mode=0o100), (1, {"/bin/x": "AArch64"})),
        (program("bin/x", 3), (1, {"/bin/x": "i386"})),
        (program("bin/x", 9999), (1, {"/bin/x": "machine 9999"})),
        (program("bin/x", 21, order="big"), (1, {"/bin/x": "PowerPC64, big-endian"})),
        (program("bin/x", X86, order="big"), (1, {"/bin/x": "x86-64, big-endian"})),
        (program("bin/x", ARM, size=20), (1, {"/bin/x": "AArch64"})),
        (program("bin/x", ARM, size=19), (0, {})),
        (program("lib/x.so", ARM, mode=0o644), (0, {})),
        (program("lib/x.o", ARM, kind=1), (0, {})),
        (program("bin/x", ARM, start=b"#!/b"), (0, {})),
        (entry("bin/x"), (0, {})),
        (entry("bin", kind=tarfile.DIRTYPE), (0, {})),
        (entry("bin/x", kind=tarfile.SYMTYPE), (0, {})),
    ],
    ids=[
        "this machine's",
        "another's",
        "position independent",
        "its owner may run it",
        "32 bits",
        "a machine without a name",
        "the other byte order",
        "this machine's in the other byte order",
        "just a header",
        "less than a header",
        "a library",
        "an object file",
        "a script",
        "an empty file",
        "a directory",
        "a link",
    ],
)
def test_foreign_lists_programs_for_another_machine(file, found):
    """The ELF header decides; scripts, libraries that are not executable and object files do not count."""
    assert foreign(layer(entry("a", size=3), file, entry("z", size=3))) == found


@pytest.mark.parametrize("kind", ["gzip", "docker", "tar"])
def test_foreign_compares_programs_with_configured_architecture(kind):
    """A builder writes the requested platform into the configuration, whatever it built."""
    of_arm, both = {"os": "linux", "architecture": "arm64"}, layer(program("arm", ARM), program("x86", X86))
    stored = gzip.compress(both) if kind == "docker" else both

    assert foreign(stored, kind=kind) == (2, {"/arm": "AArch64"})
    assert foreign(stored, kind=kind, config=of_arm) == (2, {"/x86": "x86-64"})
    assert foreign(stored, kind=kind, config={"os": "linux"}) == (2, {"/arm": "AArch64", "/x86": "x86-64"})


def test_hard_link_to_program_is_listed_with_its_machine():
    """A hard link has no content of its own and remains if the first name is removed."""
    linked = entry("usr/bin/y", kind=tarfile.LNKTYPE)
    linked.linkname = "./bin/x"

    assert foreign(layer(program("bin/x", ARM), linked), layer(entry("bin/.wh.x"))) == (1, {"/usr/bin/y": "AArch64"})
    assert foreign(layer(program("bin/x", ARM)), layer(linked))[1] == {"/bin/x": "AArch64", "/usr/bin/y": "AArch64"}
    assert foreign(layer(program("bin/x", X86), linked)) == (1, {})


@pytest.mark.parametrize("above", [program("bin/x", X86), entry("bin/.wh.x"), entry("bin/.wh..wh..opq"), entry("bin")])
def test_program_hidden_by_later_layer_is_not_listed(above):
    """The same rule holds for files with more rights."""
    assert foreign(layer(program("bin/x", ARM)), layer(above))[1] == {}
    assert foreign(layer(above), layer(program("bin/x", ARM)))[1] == {"/bin/x": "AArch64"}


def test_program_may_be_foreign_and_have_more_rights():
    """Both findings are reported."""
    both = layer(program("bin/su", ARM, mode=0o4755))

    assert (rights(both), foreign(both)[1]) == ({"/bin/su": "setuid"}, {"/bin/su": "AArch64"})


TOKEN = b"ghp_" + b"aB3" * 12


def text(name, content):
    return entry(name, 0o644, size=len(content)), content


def test_secret_is_found_in_every_layer():
    """A hidden file is still in the image; files that the check of the source has searched are omitted."""
    hidden, searched = text("opt/hidden", b"first\n" + TOKEN), text("opt/known", b"x" + b"\n" + TOKEN + b"\n")
    made = engine(layer(hidden, searched), layer(entry("opt/.wh.hidden")))
    digest = hashlib.sha256(searched[1]).hexdigest()

    everything = present(read_contents(made, "image", MIB)).secrets
    others = present(read_contents(made, "image", MIB, lambda sha256, _: sha256 == digest)).secrets

    assert everything == ("/opt/hidden:2: GitHub token", "/opt/known:2: GitHub token")
    assert others == ("/opt/hidden:2: GitHub token",)


def test_secret_is_found_if_searched_file_replaces_it():
    """Path, line and kind are the same, but the first file can still be pulled."""
    written, copied = text("opt/settings", TOKEN), text("opt/settings", TOKEN + b"\n")
    digest = hashlib.sha256(copied[1]).hexdigest()

    for unpacked in ((written, copied), (copied, written)):
        found = present(
            read_contents(engine(*map(layer, unpacked)), "image", MIB, lambda sha256, _: sha256 == digest)
        ).secrets
        assert found == ("/opt/settings:1: GitHub token",)


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (TOKEN, ()),
        (b"\0\xff" + b"\n" + TOKEN, ("/opt/dump:2: GitHub token",)),
        (TOKEN + b"\n" + b"x" * LARGEST, ("/opt/dump:1: GitHub token",)),
    ],
    ids=["small text", "binary", "large text"],
)
def test_context_secret_is_omitted_only_if_check_secrets_read_it(tmp_path, content, found):
    """A file that the check `secrets` does not read has to be reported here."""
    (tmp_path / "dump").write_bytes(content)

    read = read_contents(engine(layer(text("opt/dump", content))), "image", 10 * MIB, SearchedFiles(tmp_path))
    assert read is not None

    assert read.secrets == found


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("./.npmrc", "/.npmrc"),
        ("usr/share/../../opt/key.pem", "/opt/key.pem"),
        (".usr/share/x.pem", "/.usr/share/x.pem"),
    ],
)
def test_secret_is_reported_with_normalised_path(name, path):
    """A path that merely begins like the directory of a package is not exempt."""
    key = b"-----BEGIN " + b"PRIVATE KEY-----\n" + b"MIIE" * 16 + b"\n"

    found = present(read_contents(engine(layer(text(name, key))), "image", MIB)).secrets

    assert found == (f"{path}:1: private key",)


def test_secret_in_image_configuration_is_found():
    """Examples are environment variables and build arguments in the history."""
    config = {"os": "linux", "architecture": "amd64", "history": [{"created_by": f"ARG T={TOKEN.decode()}"}]}

    assert present(read_contents(engine(layer(), config=config), "image", MIB)).secrets == (
        "configuration:1: GitHub token",
    )


def test_secret_in_variable_or_label_is_found_by_its_number():
    """The history repeats the variable, and is otherwise searched too. A name may be the secret."""
    token, other = TOKEN.decode(), "npm" + "_" + "aB3" * 12
    own = {"Env": ["PATH=/bin", f"GH_TOKEN={token}"], "Labels": {"key": 'a"\n' + token, other: ""}}
    history = [{"created_by": f"ENV GH_TOKEN={token}"}]
    config = {"os": "linux", "architecture": "amd64", "config": own, "history": history}

    found = present(read_contents(engine(layer(), config=config), "image", MIB))
    more = {**config, "history": [*history, {"created_by": f"RUN curl -H {token[:-1]}4"}]}

    assert found.settings == ("PATH", "GH_TOKEN", "key", "")
    assert found.secrets == (
        "configuration:2: GitHub token",
        "configuration:3: GitHub token",
        "configuration:4: npm token",
        "configuration:5: npm token",
    )
    assert "configuration:5: GitHub token" in present(read_contents(engine(layer(), config=more), "image", MIB)).secrets


ESCAPED = "".join(f"\\u{letter:04x}" for letter in TOKEN)


@pytest.mark.parametrize(
    "written",
    [f'"Env": ["{ESCAPED}"]', f'"Env": ["a\\t{TOKEN.decode()}"]', f'"{ESCAPED}": 1', f'"Cmd": "{ESCAPED}", "Cmd": ""'],
    ids=["escaped", "after a tab", "name", "twice"],
)
def test_secret_in_configuration_is_found_in_any_json_notation(written):
    """JSON has escapes and permits duplicate names in an object."""
    config = f'{{"os": "linux", "architecture": "amd64", {written}}}'

    assert present(read_contents(engine(layer(), config=config), "image", MIB)).secrets == (
        "configuration:1: GitHub token",
    )


def test_secret_in_file_name_is_found():
    """Hidden files and link targets count as well, and the finding does not repeat the secret."""
    token = TOKEN.decode()
    names = [text("a", b""), entry(f"opt/{token}.txt"), entry("link", kind=tarfile.SYMTYPE, to=token)]

    found = present(read_contents(engine(layer(*names), layer(entry(f"opt/.wh.{token}.txt"))), "image", MIB)).secrets

    assert found == (
        "names in layer 1:2: GitHub token",
        "names in layer 1:3: GitHub token",
        "names in layer 2:1: GitHub token",
    )


WORDS = f"\n{TOKEN.decode()}\npassword = hunter2\n".encode()
MARKED = {
    **{
        form: f"\ufefffirst{WORDS.decode()}".encode(form)
        for form in ("utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be")
    },
    **{f"{mark!r} before text": mark + WORDS for mark in MARKS},
    **{f"{mark!r} before more text": mark + WORDS + b"#" for mark in MARKS},
}
"""Texts that begin with a byte order mark, which may be wrong."""


UNMARKED = {
    f"{form} without a mark": f"clé{WORDS.decode()}".encode(form)
    for form in ("utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be")
}


@pytest.mark.parametrize("written", (MARKED | UNMARKED).values(), ids=MARKED | UNMARKED)
def test_text_in_any_unicode_encoding_is_searched(written):
    """Known formats of secrets are found, and the text is kept for the search for passwords."""
    found = read_contents(engine(layer(text("opt/a.reg", written))), "image", MIB)
    assert found is not None

    assert found.secrets == ("/opt/a.reg:2: GitHub token",)
    assert found.texts == {"/opt/a.reg": written}


MOST = 1000
FILES = {
    **MARKED,
    **UNMARKED,
    "text": WORDS,
    "latin-1": "clé".encode("latin-1") + WORDS,
    "zero byte": b"\0" + WORDS,
    "binary": b"\0\xff" + WORDS,
    "odd utf-16": "\ufeff".encode("utf-16-le") + b"x" + WORDS.decode().encode("utf-16-le"),
    "largest": WORDS.ljust(MOST, b"#"),
    "large": WORDS.ljust(MOST + 1, b"#"),
    "large utf-16": MARKED["utf-16-le"].ljust(MOST + 1, b"#"),
    "large binary": b"\0\xff" + WORDS.ljust(MOST, b"#"),
    "compressed": gzip.compress(WORDS),
    "compressed without zero bytes": b"\x1f\x8b\x08\x04"
    + b"\1" * 8
    + b"x" * 257
    + zlib.compress(WORDS, wbits=-15)[:-1],
}


def test_every_context_file_is_searched_by_at_least_one_check(tmp_path, monkeypatch):
    """A file that one check leaves to the other is found by the other."""
    monkeypatch.setattr(secrets, "LARGEST", MOST)
    for name, content in FILES.items():
        (tmp_path / name).write_bytes(content)
    image = engine(layer(*(text(f"opt/{name}", content) for name, content in FILES.items())))

    own = find_secrets(DETECT, tmp_path, lambda: datetime.now(UTC)).failed
    other = present(read_contents(image, "image", 10 * MIB, SearchedFiles(tmp_path))).secrets

    assert b"\0" not in FILES["compressed without zero bytes"]
    found = [each.removeprefix("/opt/").partition(":")[0] for each in (*own, *other) if "github token" in each.lower()]
    assert sorted(found) == sorted(FILES)


def test_small_texts_of_application_are_stored_for_password_search():
    """Files of the source, files of packages and texts without a suspicious word are omitted."""
    word = b"password = hunter2"
    made = engine(
        layer(
            text("opt/app.conf", word),
            text("srv/known.conf", word + b"\n"),
            text("usr/src/app/.env", word + b"1"),
            text("usr/local/etc/app.conf", word + b"2"),
            text("usr/src/app/node_modules/a.js", word),
            text("opt/fetch", b"curl -u bob:" + b"hunter2 https://a.example"),
            text("usr/lib/python3/x.py", word),
            text("var/lib/postgresql/.pgpass", b"*:*:*:bob:hunter2"),
            text("var/lib/x/list", b"*:*:*:bob:hunter2"),
            text("opt/venv/lib/site-packages/x.py", word),
            text("etc/nsswitch.conf", b"passwd: files"),
            text("opt/readme", b"nothing"),
            text("opt/binary", b"\0\xff" + word),
            text("opt/gone", word),
        ),
        layer(entry("opt/.wh.gone")),
    )

    reported = hashlib.sha256(word + b"\n").hexdigest()
    found = read_contents(made, "image", MIB, lambda sha256, _: sha256 == reported)
    assert found is not None

    assert dict(found.texts) == {
        "/opt/app.conf": word,
        "/opt/fetch": b"curl -u bob:" + b"hunter2 https://a.example",
        "/usr/local/etc/app.conf": word + b"2",
        "/usr/src/app/.env": word + b"1",
        "/var/lib/postgresql/.pgpass": b"*:*:*:bob:hunter2",
    }


@pytest.mark.parametrize(("path", "searched"), [("opt/run.sh", False), ("opt/run.ts", False), ("opt/run", True)])
def test_source_file_with_a_laxer_name_is_searched_in_the_image(tmp_path, path, searched):
    """In TypeScript a value has to be in quotes; the same bytes may be settings of a program in the image."""
    word = b"password = hunter2"
    (tmp_path / "run.ts").write_bytes(word)
    (tmp_path / "copy.sh").write_bytes(word + b"\n")
    content = word + b"\n" * path.endswith(".sh")

    found = read_contents(engine(layer(text(path, content))), "image", MIB, SearchedFiles(tmp_path))
    assert found is not None

    assert list(found.texts) == [f"/{path}"] * searched


def test_variables_and_labels_are_stored_for_password_search():
    """A value that is only called a password has no known form; each variable is in one line."""
    own = {"Env": ["PATH=/bin", f"DB_PASSWORD={'Zq8vT3m'}\nLw9"], "Labels": {"api_key": "hunter2", "b": "y"}}
    config = {"os": "linux", "architecture": "amd64", "config": own}

    found = present(read_contents(engine(layer(), config=config), "image", MIB)).texts
    assert found == {"configuration": b"PATH=/bin\nDB_PASSWORD=Zq8vT3m Lw9\napi_key=hunter2\nb=y"}
    assert SecretSearch(DETECT).search_files(found) == (
        "configuration:2: Secret Keyword",
        "configuration:3: Secret Keyword",
    )

    for harmless in ({}, {"Env": None, "Labels": None}, {"Env": ["LEVEL=1"]}):
        assert not present(read_contents(engine(layer(), config={**config, "config": harmless}), "image", MIB)).texts


def test_unsearched_texts_are_reported(monkeypatch):
    """Texts that are too large or exceed the total are reported, unless they belong to a package or the source."""
    word = b"password = hunter2\n"
    filler, large = word + b"#" * 1000, word * (HEAD // len(word) + 1)
    monkeypatch.setattr(layers, "MOST_TEXTS", 2 * len(word))
    made = engine(
        layer(
            text("a/known", filler), text("a/known-large", large + b"x"), text("a/one", word), text("a/two", word),
            text("a/three", word), text("a/short", b"x"), text("b/large", large), text("b/binary", b"\0\xff" + large),
            text("usr/lib/packaged", filler), text("usr/lib/large", large),
        )
    )  # fmt: skip
    searched = frozenset(hashlib.sha256(each).hexdigest() for each in (filler, large + b"x"))

    found = read_contents(made, "image", MIB, lambda sha256, _: sha256 in searched)
    assert found is not None

    assert sorted(found.texts) == ["/a/one", "/a/three"]
    assert found.unsearched == ("/a/two", "/b/large")


@pytest.mark.parametrize(
    "pack", [gzip.compress, bz2.compress, lzma.compress, lambda text: gzip.compress(bz2.compress(text))]
)
def test_compressed_text_that_is_searched_in_part_is_reported(pack):
    """A secret behind the searched beginning would not be found; packages install large texts of their own."""
    large, small, zeros = (pack(content) for content in (b"a line\n" * (MIB // 4), b"a line\n" * 1000, bytes(2 * MIB)))
    made = engine(
        layer(
            text("a/large", large), text("usr/local/large", large), text("a/small", small), text("a/zeros", zeros),
            text("usr/share/doc/large", large), text("usr/lib/large", large), text("var/lib/large", large),
        )
    )  # fmt: skip

    assert present(read_contents(made, "image", MIB)).unsearched == ("/a/large", "/usr/local/large")


def test_files_with_equal_printable_names_hide_no_text():
    """A byte that is not UTF-8 is printed as an escape and may look like another name."""
    word = b"password = hunter2"

    found = read_contents(engine(layer(text("a\udcff", word), text("a\\xff", word + b"3"))), "image", MIB)
    assert found is not None

    assert (list(found.texts), found.unsearched) == (["/a\\xff"], ("/a\\xff",))


def test_layer_with_global_path_header_is_refused():
    """Python applies global headers to every file, and container engines ignore them."""
    header = tarfile.TarInfo.create_pax_global_header({"path": "elsewhere"})

    with pytest.raises(CheckIncomplete, match="global headers"):
        read_contents(engine(header + layer(SU)), "image", MIB)
    assert list(rights(tarfile.TarInfo.create_pax_global_header({"comment": "x"}) + layer(SU))) == ["/bin/su"]


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_long_and_undecodable_names_are_read(form):
    """Both the GNU and the POSIX format are supported."""
    names = ["d/" * 60 + "su", "\udcff" * 120]
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form, encoding="utf-8", errors="surrogateescape") as tar:
        for name in names:
            tar.addfile(entry(name, 0o4755))

    assert sorted(rights(buffer.getvalue())) == ["/" + "\\xff" * 120, "/" + "d/" * 60 + "su"]


def shelf(*unpacked, kind="tar"):
    """Return a registry with an image of these layers, and the image."""
    registry = MemoryRegistry()
    return registry, registry.put("curated/hello", Content.of_layers(*unpacked, media_type=f"{OCI}.layer.v1.{kind}"))


def test_examine_image_reads_image_from_registry():
    """The result equals that for an image in the engine."""
    release = text("etc/os-release", b"ID=debian\nVERSION_ID=12\n")
    zipped = text("srv/picture.png", b"hsqs" + bytes(100))

    found, _ = examine_image(*shelf(layer(release), layer(zipped)))

    assert (str(found.distribution), [each.path for each in found.archives]) == ("debian 12", ["/srv/picture.png"])
    assert found == present(read_contents(engine(layer(release), layer(zipped)), "image", MIB)).examination


class OtherIndex:
    """A package index that knows every name, and no version."""

    def find(self, package):
        """Return that nothing was published."""
        return Published(has_version=False)


def test_python_packages_are_compared_with_the_index():
    """A record of its own would say of any code that a package installed it."""
    packages, code = "opt/venv/lib/python3.12/site-packages", b"eval(input())\n"
    digest = base64.urlsafe_b64encode(hashlib.sha256(code).digest()).decode().rstrip("=")
    image = layer(
        text(f"{packages}/hat-2.dist-info/METADATA", b"Name: hat\nVersion: 2\n"),
        text(f"{packages}/hat-2.dist-info/RECORD", f"hat.py,sha256={digest},14\n".encode()),
        text(f"{packages}/hat.py", code),
        text(f"{packages}/hat.pyc", bytes(16)),
    )

    believed = present(read_contents(engine(image), "image", MIB))
    compared = present(read_contents(engine(image), "image", MIB, sources=PackageSources(python=OtherIndex())))

    assert (believed.sources, believed.false_claims, believed.uncompared) == ({}, (), 1)
    assert dict(compared.sources) == {f"/{packages}/hat.py": code}
    assert len(compared.false_claims) == 1 and compared.uncompared == 0
    assert believed.examination.archives == () == examine_image(*shelf(image))[0].archives
    assert len(compared.examination.archives) == 1
    registry, ref = shelf(image)
    assert examine_image(registry, ref, PackageSources(python=OtherIndex()))[0] == compared.examination


class OtherRegistry:
    """A registry of npm that has another version of every package."""

    def find(self, name, version):
        """Return that this version was not published."""
        return NpmPublished(has_version=False)

    def has_name(self, name):
        """Return that there is such a package."""
        return True


def test_npm_packages_are_compared_with_registries():
    """Their metadata count only without one. An SBOM needs no registry: the content was compared before."""
    about = b'{"name": "hat", "version": "2.0.0", "description": "' + b"x" * 100_000 + b'"}'
    image = layer(text("app/node_modules/hat/package.json", about))
    sources = PackageSources(npm=OtherRegistry())

    believed = present(read_contents(engine(image), "image", MIB))
    compared = present(read_contents(engine(image), "image", MIB, sources=sources))

    assert (believed.false_claims, believed.uncompared_npm) == ((), 1)
    assert compared.uncompared_npm == 0
    (claim,) = compared.false_claims
    assert claim.startswith("/app/node_modules/hat/package.json:1: it claims to be hat 2.0.0, a version that the reg")


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("app/app.deps.json", ".NET"), ("app/packages.lock.json", ".NET"), ("opt/hat.jar", "Java"),
        ("opt/hat.WAR", None), ("opt/hat.war", "Java"), ("opt/lua/hat-1.rockspec", "Lua"),
        ("app/vendor/composer/installed.json", "PHP"), ("usr/share/php/.registry/.channel.x/hat.reg", "PHP"),
        ("usr/share/php/.registry/hat.reg", "PHP"), ("usr/lib/R/library/hat/DESCRIPTION", "R"),
        ("var/lib/gems/specifications/hat-1.gemspec", "Ruby"), ("gems/specifications/default/hat.gemspec", "Ruby"),
        ("src/hat.gemspec", None), ("opt/hat.jar.txt", None),
    ],
)  # fmt: skip
def test_files_of_uncompared_packages_above_base_are_counted(path, kind):
    """Those of the base were counted when it was built."""
    base, above = layer(text(path, b"base")), layer(text(path, b"above"))

    def count(*layers, of_base=0):
        sources = PackageSources(count_base_layers=lambda _: of_base)
        return dict(present(read_contents(engine(*layers), "image", MIB, sources=sources)).uncompared_files)

    assert count(base) == count(base, above, of_base=1) == ({kind: 1} if kind else {})
    assert count(base, layer(), of_base=1) == {}


EVIL = b"import subprocess, sys\nsubprocess.call(sys.argv[1], shell=True)\n"


def test_debian_packages_are_compared_with_the_archive(tmp_path):
    """A list of its own would say of any code, bytecode or key that a package installed it."""
    key = b"-----BEGIN " + b"PRIVATE KEY-----\n" + b"MIIE" * 16 + b"\n"
    published, code = {"usr/bin/hat": b"#!/bin/sh\n", "usr/lib/hat/own.py": b"import os\n"}, EVIL
    forged = {"usr/lib/hat/evil.py": code, "usr/share/hat/key.pem": key}
    sums = "".join(
        f"{hashlib.md5(content, usedforsecurity=False).hexdigest()}  {path}\n"
        for path, content in {**published, **forged}.items()
    )
    status = b"Package: hat\nStatus: install ok installed\nVersion: %s\n\n"
    archive = DebianArchives(
        ("https://archive.invalid/debian bookworm main",), PrivateFiles(tmp_path / "cache"),
        transport=httpx.MockTransport(MemoryArchive([ArchivePackage("hat", "2", published)])),
    )  # fmt: skip

    own = []

    def read(version=b"2", *, is_compared=True, **changed):
        sources = PackageSources(debian=archive if is_compared else None)
        image = layer(
            *(text(path, content) for path, content in {**published, **forged, **changed}.items()),
            text("usr/lib/hat/own.pyc", bytes(16)),
            text("usr/lib/hat/evil.pyc", bytes(16)),
            text("etc/os-release", b"ID=debian\nVERSION_ID=12\n"),
            text(
                "var/lib/dpkg/status",
                status % (version if b"Arch" in version else version + b"\nArchitecture: amd64")
                + b"Package: large\nDescription: x"
                + b"x" * HEAD
                + b"\n",
            ),
            text("var/lib/dpkg/info/hat.md5sums", sums.encode()),
        )
        found = present(read_contents(engine(image), "image", MIB, sources=sources))
        registry, ref = shelf(image)
        examination, packaged = examine_image(registry, ref, sources)
        assert examination == found.examination
        own.append(packaged)
        return found

    believed, compared, raised = read(is_compared=False), read(), read(b"3")
    assert (believed.sources, believed.secrets, believed.examination.archives) == ({}, (), ())
    assert (believed.false_claims, believed.uncompared_debian) == ((), 1)
    assert dict(compared.sources) == {"/usr/lib/hat/evil.py": code}
    (finding,) = SourceScan(BANDIT).search_files(compared.sources)
    assert finding.startswith("/usr/lib/hat/evil.py:2: high: ")
    assert compared.secrets == ("/usr/share/hat/key.pem:1: private key",)
    assert [each.path for each in compared.examination.archives] == ["/usr/lib/hat/evil.pyc"]
    (claim,) = compared.false_claims
    assert claim.startswith("/var/lib/dpkg/status:6: a record of dpkg without a version")
    assert any("the newest that the archives have is 2" in each for each in raised.false_claims)
    assert set(raised.sources) == {"/usr/lib/hat/evil.py", "/usr/lib/hat/own.py"}
    assert read(b"1").unknown == ("hat 1",)
    assert any("in an image for amd64" in each for each in read(b"2\nArchitecture: arm64").false_claims)
    changed = read(**{"usr/bin/hat": b"#!/bin/sh\nevil"})
    assert any("what is published differs from /usr/bin/hat" in each for each in changed.false_claims)
    assert own[0] == PackagedFiles(believed={"dpkg"})
    assert own[1] == PackagedFiles({"dpkg": {"/usr/bin/hat", "/usr/lib/hat/own.py"}})
    assert own[2] == PackagedFiles() and own[-1] == PackagedFiles({"dpkg": {"/usr/lib/hat/own.py"}})


def test_curated_base_proves_files_of_dropped_debian_package(tmp_path):
    """Its layers are the image's first ones; those above it vouch for nothing."""
    code, status = b"import os, sys\n", b"Package: hat\nArchitecture: amd64\nVersion: 1\n\n"
    sums = [f"{hashlib.md5(code, usedforsecurity=False).hexdigest()}  usr/lib/{each}.py\n" for each in ("old", "new")]
    base = layer(
        text("usr/lib/old.py", code),
        text("usr/lib/old.pyc", bytes(16)),
        text("var/lib/dpkg/status", status),
        text("var/lib/dpkg/info/hat.md5sums", sums[0].encode()),
    )
    above = layer(text("usr/lib/new.py", code + b"#\n"), text("var/lib/dpkg/info/hat.md5sums", "".join(sums).encode()))
    server = MemoryArchive([ArchivePackage("hat", "2")])
    archive = DebianArchives(
        ("https://archive.invalid/debian bookworm main",), PrivateFiles(tmp_path / "cache"),
        transport=httpx.MockTransport(server),
    )  # fmt: skip
    asked = []

    def read(count):
        def count_layers(layers):
            asked.append(layers)
            return count

        sources = PackageSources(debian=archive, count_base_layers=count_layers)
        registry, ref = shelf(base, above)
        examination, packaged = examine_image(registry, ref, sources)
        assert len(examination.archives) == (not count)
        assert packaged.proven == ({"dpkg": {"/usr/lib/old.py"}} if count else {})
        return present(read_contents(engine(base, above, kind="tar"), "image", MIB, sources=sources))

    assert set(read(0).sources) == {"/usr/lib/new.py", "/usr/lib/old.py"}
    assert set(read(1).sources) == {"/usr/lib/new.py"}
    assert (
        {len(each) for each in asked} == {2}
        and len(asked) == 4
        and asked[1][0] == f"sha256:{hashlib.sha256(base).hexdigest()}"
    )


def record_of_apk(name, version, *paths, padding=0):
    """Return a record of apk with these files."""
    listed = "".join(f"F:{path.rpartition('/')[0]}\nR:{path.rpartition('/')[2]}\n" for path in paths)
    return f"C:Q1x=\nP:{name}\nV:{version}\nT:{'x' * padding}\n{listed}\n".encode()


def read_on_base(base, above, count):
    """Return the content of an image whose first `count` layers are those of a curated base; examine it twice."""
    sources = PackageSources(count_base_layers=lambda _: count)
    found = present(read_contents(engine(base, above), "image", MIB, sources=sources))
    registry, ref = shelf(base, above)
    examination, packaged = examine_image(registry, ref, sources)
    assert examination == found.examination
    return found, packaged


def test_apk_packages_count_only_if_curated_base_has_them():
    """A record of the image's own would say of any code or bytecode that a package installed it."""
    code, place = {name: f"import {name}\n".encode() for name in ("hat", "cap", "evil")}, "usr/lib/python3.12"
    database, hat = "lib/apk/db/installed", record_of_apk("hat", "1", f"{place}/hat.py", padding=HEAD)
    evil = record_of_apk("evil", "9", f"{place}/evil.py", f"{place}/cap.py")
    base = layer(
        *(text(f"{place}/{name}.py", code[name]) for name in ("hat", "cap")),
        text(f"{place}/hat.pyc", bytes(16)),
        text(database, hat),
    )
    above = layer(
        text(f"{place}/evil.py", code["evil"]),
        text(f"{place}/evil.pyc", bytes(16)),
        text(f"{place}/cap.py", code["evil"] + b"#"),
        text(database, hat + evil),
    )

    (on_base, own), (alone, believed) = read_on_base(base, above, 1), read_on_base(base, above, 0)

    assert own == PackagedFiles({"apk": {f"/{place}/hat.py"}})
    assert believed == PackagedFiles(believed={"apk"})
    assert set(on_base.sources) == {f"/{place}/evil.py", f"/{place}/cap.py"}
    assert [each.path for each in on_base.examination.archives] == [f"/{place}/evil.pyc"]
    assert (on_base.false_claims, on_base.uncompared_apk) == ((), ("evil 9",))
    assert set(alone.sources) == {f"/{place}/{name}.py" for name in code}
    assert [each.path for each in alone.examination.archives] == [f"/{place}/evil.pyc", f"/{place}/hat.pyc"]
    assert (alone.false_claims, alone.uncompared_apk) == ((), ("evil 9", "hat 1"))
    changed, _ = read_on_base(base, layer(text(database, record_of_apk("hat", "2"))), 1)
    assert [each.partition(",")[0] for each in changed.false_claims] == [f"/{database}:1: it claims to be hat 2"]


def test_python_package_of_apk_is_compared_unless_the_base_has_it():
    """A false version hides vulnerabilities, and apk's record is no proof of it."""
    metadata = "usr/lib/python3.12/site-packages/hat-2.dist-info/METADATA"
    image = layer(
        text(metadata, b"Name: hat\nVersion: 2\n"), text("lib/apk/db/installed", record_of_apk("hat", "2", metadata))
    )

    def read(count):
        sources = PackageSources(python=OtherIndex(), count_base_layers=lambda _: count)
        return present(read_contents(engine(image, layer()), "image", MIB, sources=sources))

    assert read(1).false_claims == ()
    (claim,) = read(0).false_claims
    assert claim.startswith(f"/{metadata}:1: it claims to be hat 2") and "or in a base" in claim


def test_python_above_a_base_of_rpm_is_read():
    """Without a base nobody could tell it from what rpm installed."""
    rpm = text("var/lib/rpm/Packages.db", b"RpmP")
    base, above = layer(rpm, text("usr/lib/hat.py", b"import os\n")), layer(text("usr/lib/evil.py", EVIL))

    (on_base, own), (alone, believed) = read_on_base(base, above, 1), read_on_base(base, above, 0)

    assert own == PackagedFiles({"rpm": {"/var/lib/rpm/Packages.db", "/usr/lib/hat.py"}})
    assert believed == PackagedFiles(believed={"rpm"})
    assert (set(on_base.sources), on_base.uncompared_databases) == ({"/usr/lib/evil.py"}, ())
    assert (alone.sources, alone.uncompared_databases) == ({}, ("rpm (/var/lib/rpm/Packages.db)",))


def test_debian_package_above_a_base_of_two_managers_counts_as_published(tmp_path):
    """The base has an older file of it; what the archive published counts too."""
    code, status = b"import os, sys\n", b"Package: hat\nArchitecture: amd64\nVersion: 2\n\n"
    archive = DebianArchives(
        ("https://archive.invalid/debian bookworm main",), PrivateFiles(tmp_path / "cache"),
        transport=httpx.MockTransport(MemoryArchive([ArchivePackage("hat", "2", {"usr/lib/hat.py": code})])),
    )  # fmt: skip
    base = layer(text("usr/lib/hat.py", b"import os\n"), text("var/lib/rpm/Packages.db", b"RpmP"))
    above = layer(text("usr/lib/hat.py", code), text("var/lib/dpkg/status", status))
    sources = PackageSources(debian=archive, count_base_layers=lambda _: 1)

    found = present(read_contents(engine(base, above), "image", MIB, sources=sources))

    assert (found.sources, found.false_claims) == ({}, ())


def test_image_is_not_read_if_the_archive_does_not_answer(tmp_path):
    """An outage is an error, and never a pass."""
    server = MemoryArchive([], failures=[httpx.Response(503) for _ in range(3)])
    archive = DebianArchives(
        ("https://archive.invalid/debian bookworm main",), PrivateFiles(tmp_path / "cache"),
        transport=httpx.MockTransport(server), wait=lambda _: None,
    )  # fmt: skip
    image = layer(text("var/lib/dpkg/status", b"Package: hat\nVersion: 1\nArchitecture: all\n"))

    with pytest.raises(PackageIndexUnavailable):
        read_contents(engine(image), "image", MIB, sources=PackageSources(debian=archive))


@pytest.mark.parametrize("held", [shelf(b"rubbish" * 100), shelf(layer(), kind="tar+encrypted")])
def test_examine_image_fails_for_unreadable_layers(held):
    """An unreadable image must not pass as examined."""
    with pytest.raises(ScannerFailed, match="cannot be read"):
        examine_image(*held)


def saved(tmp_path, *unpacked, **kwargs):
    """Return the path of the archive of an image with these layers."""
    assert engine(*unpacked, **kwargs).save("image", tmp_path / "image.tar", 10 * MIB)
    return tmp_path / "image.tar"


def test_reading_beyond_its_time_budget_fails(tmp_path, monkeypatch):
    """Small files can be made to take hours of processor time."""
    image = layer(text("a", b"a"))
    archive = saved(tmp_path, image)
    monkeypatch.setattr(image_budget, "MAX_SECONDS", -1)

    with pytest.raises(CheckIncomplete, match="minutes of processor time"):
        read_contents(engine(image), "image", MIB)
    with pytest.raises(ScannerFailed, match="minutes of processor time"):
        examine_image(*shelf(image))
    with pytest.raises(TooLong):
        is_larger(archive, MIB)


@pytest.mark.parametrize(
    ("kind", "content"),
    [
        (".tar", layer(entry("a", size=3 * MIB))),
        (".tar+zstd", zstandard.compress(layer(entry("a", size=3 * MIB)))),
        (".tar+gzip", gzip.compress(b"") * 10_000 + gzip.compress(layer())),
    ],
)
def test_reading_stops_when_its_run_is_cancelled(kind, content):
    """Reading stops within one layer, whether it unpacks to much or to nothing."""
    with Cancellation().nested() as scope:

        class Packed(io.BytesIO):
            def read(self, size=-1):
                assert not scope.cancelled, "it is read on"
                scope.cancel()
                return super().read(size)

        with pytest.raises(Cancelled):
            layers._Image(10 * MIB, ContentStore(io.BytesIO()), secrets=True).add(Packed(content), kind)


def test_cancelled_run_reads_no_image(tmp_path):
    """Neither the size nor the content is read."""
    image = layer(text("a", b"a"))
    archive = saved(tmp_path, image)

    with Cancellation().nested() as scope:
        scope.cancel()
        with pytest.raises(Cancelled):
            is_larger(archive, MIB)
        with pytest.raises(Cancelled):
            read_contents(engine(image), "image", MIB)


def test_cancelled_run_inspects_no_texts():
    """There may be as many texts as files."""
    word = b"password = hunter2"

    with Cancellation().nested() as scope:

        def searches(*_):
            scope.cancel()
            return False

        with pytest.raises(Cancelled):
            read_contents(engine(layer(text("a", word), text("b", word))), "image", MIB, searches)


def test_examine_image_fails_for_too_large_image(monkeypatch):
    """The part that is not read may contain anything."""
    monkeypatch.setattr(layers, "LARGEST_IMAGE", 1000)
    with pytest.raises(ScannerFailed):
        examine_image(*shelf(layer(entry("a", size=2000))))


def test_private_key_in_package_directory_is_ignored():
    """Packages ship published example keys; a token is always reported, and a key that no record lists."""
    key = b"-----BEGIN " + b"PRIVATE KEY-----\n" + b"MIIE" * 16 + b"\n"
    places = (
        "usr/share/go/tls.pem", "opt/venv/lib/site-packages/x.pem", "opt/key.pem", "etc/ssl/own.pem",
        "app/vendor/key.pem", "app/node_modules/key.pem", "root/.m2/key.pem", "root/go/pkg/key.pem",
        "usr/share/app/own.pem", "usr/lib/own.pem", "opt/venv/lib/site-packages/own.pem",
    )  # fmt: skip
    digest = base64.urlsafe_b64encode(hashlib.sha256(key + TOKEN).digest()).decode().rstrip("=")
    md5 = hashlib.md5(key + TOKEN, usedforsecurity=False).hexdigest()
    records = (
        text("opt/venv/lib/site-packages/x.dist-info/RECORD", f"x.pem,sha256={digest},9\n".encode()),
        text("var/lib/dpkg/info/go.md5sums", f"{md5}  usr/share/go/tls.pem\n".encode()),
    )

    image = engine(layer(*(text(place, key + TOKEN) for place in places), *records))
    found = present(read_contents(image, "image", MIB)).secrets

    assert [each for each in found if "private key" in each] == [
        "/app/node_modules/key.pem:1: private key",
        "/app/vendor/key.pem:1: private key",
        "/etc/ssl/own.pem:1: private key",
        "/opt/key.pem:1: private key",
        "/opt/venv/lib/site-packages/own.pem:1: private key",
        "/root/.m2/key.pem:1: private key",
        "/root/go/pkg/key.pem:1: private key",
        "/usr/lib/own.pem:1: private key",
        "/usr/share/app/own.pem:1: private key",
    ]
    assert sum("GitHub token" in each for each in found) == 11


def test_private_key_in_large_file_of_a_system_package_is_ignored():
    """Libraries hold keys for their self-tests, and are too large to be compared with the package's record."""
    key = b"-----BEGIN " + b"PRIVATE KEY-----\n" + b"MIIE" * 16 + b"\n"
    record = text("var/lib/dpkg/info/a.md5sums", f"{'0' * 32}  usr/lib/large.so\n".encode())

    image = engine(layer(text("usr/lib/large.so", key + bytes(64 * 1024)), text("usr/lib/b.so", key), record))

    assert present(read_contents(image, "image", MIB)).secrets == ("/usr/lib/b.so:1: private key",)


def test_private_key_in_system_directory_of_rpm_image_is_ignored():
    """The lists of rpm are not read; those of pip are."""
    key = b"-----BEGIN " + b"PRIVATE KEY-----\n" + b"MIIE" * 16 + b"\n"
    places = "usr/share/go/tls.pem", "opt/venv/lib/site-packages/own.pem"

    image = engine(layer(*(text(place, key) for place in places), text("var/lib/rpm/Packages.db", b"RpmP")))

    assert present(read_contents(image, "image", MIB)).secrets == (
        "/opt/venv/lib/site-packages/own.pem:1: private key",
    )


def header(name, kind=tarfile.REGTYPE, size=0, mode=0o4755, fields=(), magic=b"ustar\x0000"):
    """Return a tar header as it is stored; `fields` are pairs of offset and bytes to overwrite."""
    made = bytearray(entry(name, mode, kind, size).tobuf(tarfile.USTAR_FORMAT))
    made[257:265], made[156:157] = magic, kind
    for at, content in ((0, name.encode()), *fields):
        made[at : at + len(content)] = content
    made[148:156] = b" " * 8
    made[148:156] = b"%06o\0 " % sum(made)
    return bytes(made)


def extended(content, kind=tarfile.XHDTYPE, padding=b"", magic=b"ustar\x0000"):
    packed = (content + padding).ljust(-(-len(content) // 512) * 512, b"\0")
    return header("x", kind, len(content), 0o644, magic=magic) + packed


def record(text):
    """Return a pax record, which begins with its own length."""
    return next(each for n in range(999) if len(each := b"%d %s\n" % (n, text.encode())) == n)


def long_name(name, kind=tarfile.GNUTYPE_LONGNAME, padding=b""):
    return extended(name, kind, padding, b"ustar  \0")


HARMLESS, OTHER = record("path=tmp/harmless"), record("path=tmp/another1")
SETUID = header("usr/bin/su")
GNU_SETUID = header("usr/bin/su", magic=b"ustar  \0")


@pytest.mark.parametrize(
    "unpacked",
    [
        extended(record("GNU.sparse.name=tmp/harmless")) + SETUID,
        extended(record("GNU.sparse.realsize=0")) + SETUID,
        header("usr/bin/su/", tarfile.AREGTYPE) + SETUID,
        extended(record("path=usr/bin/su")) + header("tmp/", tarfile.AREGTYPE, 512) + header("hidden"),
        extended(record("path=usr/bin/")) + header("usr/bin/su", tarfile.AREGTYPE),
        long_name(b"usr/bin/") + header("usr/bin/su", tarfile.AREGTYPE, magic=b"ustar  \0"),
        header("usr/bin/su/"),
        extended(record("path=")) + SETUID,
        extended(HARMLESS) + extended(record("size=0")) + SETUID,
        extended(HARMLESS) + extended(b"", tarfile.XGLTYPE) + SETUID,
        extended(HARMLESS) + long_name(b"usr/bin/su") + GNU_SETUID,
        long_name(b"tmp/harmless") + long_name(b"usr/bin/su") + GNU_SETUID,
        extended(record("a=b"), padding=HARMLESS) + SETUID,
        extended(b"+9 a=bcd\n" + HARMLESS) + SETUID,
        long_name(b"usr/bin/su", padding=b"-harmless") + GNU_SETUID,
        header("usr/bin/su", fields=[(100, b"\0004755\0\0\0")]),
        header("usr/bin/su", size=512, fields=[(124, b"\0" + b"1000\0")]) + bytes(512),
        header("su", fields=[(345, b"usr/bin")], magic=b"ustar  \0"),
        header("usr/bin/su", fields=[(345, b"tmp")], magic=bytes(8)),
        header("usr/bin/su", fields=[(508, b"tar\0")]),
        header("usr/bin/su", tarfile.GNUTYPE_SPARSE, magic=b"ustar  \0"),
        extended(record("size=-512")) + SETUID,
    ],
    ids=[
        "sparse name", "sparse size", "file or directory", "directory or file", "directory by its other name",
        "directory by its long name", "file with a directory's name", "empty path", "two extended headers",
        "extended header before a global one", "extended header before a long name", "two long names",
        "record in the padding", "length with a sign", "long name in the padding", "mode after a zero byte",
        "size after a zero byte", "prefix of GNU's", "prefix of no format", "star's", "sparse file", "negative size",
    ],
)  # fmt: skip
def test_layer_that_engines_read_differently_is_refused(unpacked):
    """Go's archive/tar reads another file from these layers, such as `usr/bin/su` with more rights."""
    with pytest.raises(CheckIncomplete, match="LayerInvalid"):
        read_contents(engine(unpacked + bytes(1024)), "image", MIB)


@pytest.mark.parametrize(
    "unpacked",
    [
        SETUID,
        GNU_SETUID,
        extended(record("path=usr/bin/su")) + header("other"),
        long_name(b"usr/bin/su") + GNU_SETUID,
        long_name(b"to", tarfile.GNUTYPE_LONGLINK) + long_name(b"usr/bin/su") + GNU_SETUID,
        header("su", fields=[(345, b"usr/bin")]),
        header("usr/bin/su", fields=[(108, b"\x80\0\0\0\xff\xff\xff\xff")]),
        header("usr/bin/su", fields=[(100, b"  4755 \0")]),
    ],
    ids=["POSIX", "GNU", "extended", "long name", "two long names", "prefix", "large user", "spaces"],
)
def test_layer_in_posix_or_gnu_format_is_read(unpacked):
    """All variants that POSIX and GNU describe are supported."""
    assert list(rights(header("usr/", tarfile.DIRTYPE) + unpacked + bytes(1024))) == ["/usr/bin/su"]


def test_files_that_would_use_the_reserve_are_not_stored(monkeypatch):
    """A layer unpacks to more than its archive; the disk is one that everything else needs, too."""
    image = layer(text("a", b"a"))
    assert read_contents(engine(image), "image", MIB)
    monkeypatch.setattr(free_space, "RESERVE", 2**62)

    for read in (lambda: read_contents(engine(image), "image", MIB), lambda: examine_image(*shelf(image))):
        with pytest.raises(DiskFull, match=r"files of an image are not read: Only \d+ MiB are free in .*cscm-scratch"):
            read()


COPIED = """import subprocess


def run(words):
    return subprocess.call(words, shell=True)
"""


def test_script_of_the_entry_point_is_found():
    """`ENTRYPOINT ["/usr/bin/python3", "/app/server.txt"]`."""
    started = {"Entrypoint": ["/usr/bin/python3", "server.txt"], "WorkingDir": "/app"}
    config = {"os": "linux", "architecture": "amd64", "config": started}
    image = engine(layer(text("app/server.txt", COPIED.encode()), text("app/other.txt", b"1\n")), config=config)

    assert dict(present(read_contents(image, "image", MIB)).sources) == {"/app/server.txt": COPIED.encode()}


def test_python_created_during_build_is_found(tmp_path):
    """Such as what a `RUN` writes: the check `source` does not read it, and Python imports it."""
    (tmp_path / "app.py").write_text("import helper\n")
    image = engine(layer(text("app/app.py", b"import helper\n"), text("app/helper.py", COPIED.encode())))

    found = present(read_contents(image, "image", MIB, is_read=ReadSources(tmp_path)))

    assert (dict(found.sources), found.unread) == ({"/app/helper.py": COPIED.encode()}, ())
    (finding,) = SourceScan(BANDIT).search_files(found.sources)
    assert finding.startswith("/app/helper.py:5: high: ")


def test_long_record_of_package_is_read_completely():
    """Large packages list thousands of files."""
    packages, code = "opt/venv/lib/python3.12/site-packages", b"eval(input())\n"
    digest = base64.urlsafe_b64encode(hashlib.sha256(code).digest()).decode().rstrip("=")
    record = "".join(f"a/{number}.py,,\n" for number in range(10_000)) + f"a.py,sha256={digest},14\n"
    files = {f"{packages}/a.py": code, f"{packages}/b.py": code + b"\n"}

    found = read_contents(
        engine(
            layer(
                text(f"{packages}/a.dist-info/RECORD", record.encode()),
                *(text(name, content) for name, content in files.items()),
            )
        ),
        "image",
        MIB,
    )

    assert dict(present(found).sources) == {f"/{packages}/b.py": code + b"\n"}


@pytest.mark.parametrize(("size", "unread"), [(64 * 1024, ()), (64 * 1024 + 1, ("configuration",))])
def test_command_that_is_too_long_to_split_is_not_read(size, unread):
    """To split a word of some megabytes would take minutes."""
    config = {"os": "linux", "architecture": "amd64", "config": {"Cmd": ["sh", "-c", "python3 x".ljust(size)]}}

    assert present(read_contents(engine(layer(text("x", b"#")), config=config), "image", MIB)).unread == unread
