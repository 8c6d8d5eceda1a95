"""The declaration of an application: what it may contain and what is refused."""

import contextlib

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from supply_chain.errors import DeclarationInvalid
from supply_chain.evidence.image_status import DIGESTS
from supply_chain.lifecycle.decisions import PLANS
from supply_chain.model.declaration import (
    DECLARATION,
    FILE,
    GUIDE,
    Base,
    Classification,
    Service,
    make_json_schema,
    read_declaration,
)
from supply_chain.model.tier import TierName, name_evidence_repository
from tests.support.command import ROOT

SERVICE = {
    "kind": "service",
    "name": "hello",
    "owner": "web team",
    "test": {"command": ["python", "-m", "unittest"]},
    "probe": {"port": 8080},
}
BASE = {"kind": "base", "name": "base/python", "owner": "platform", "check": ["python3", "--version"]}


@pytest.fixture
def read(tmp_path):
    """Return a function that reads a declaration from its own directory."""

    def reading(values):
        text = values if isinstance(values, str) else yaml.safe_dump(values)
        (tmp_path / FILE).write_text(text)
        return read_declaration(tmp_path)

    return reading


def test_declaration_defaults_are_strict(read):
    """A declaration has to ask for every exception."""
    service = read(SERVICE)

    assert isinstance(service, Service)
    assert service.classification is Classification.INTERNAL
    assert (service.runtime.uid, service.runtime.read_only_root, service.runtime.capabilities) == (10001, True, ())
    assert service.runtime.memory == 128 * 1024**2
    assert (service.limits.critical, service.limits.high, service.limits.kev) == (0, 0, 0)
    assert service.environments == ("staging",)
    assert service.build.platform == "linux/amd64"


def test_base_has_check_instead_of_probe(read):
    """It has no environments either."""
    assert isinstance(read(BASE), Base)


@pytest.mark.parametrize("place", [DIGESTS, PLANS])
def test_name_reserved_by_lifecycle_is_refused(read, place):
    """Statements about its images would apply to all images or to plans."""
    name = place.rpartition("/")[2]
    assert name_evidence_repository(TierName.LIFECYCLE, name) == place

    with pytest.raises(DeclarationInvalid, match=f"{FILE}:.*{name}.* is reserved for lifecycle decisions"):
        read({**SERVICE, "name": name})
    assert read({**SERVICE, "name": f"team/{name}"}).name == f"team/{name}"


def changed(values, path, value):
    """Return `values` with another value at a dotted path."""
    head, _, rest = path.partition(".")
    inner = values.get(head, {}) if isinstance(values.get(head, {}), dict) else {}
    return {**values, head: changed(inner, rest, value) if rest else value}


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("kind", "job"),
        ("name", "Hello"),
        ("name", "hello:latest"),
        ("name", "host:5000/hello"),
        ("name", "../hello"),
        ("name", "hello/"),
        ("name", "h"),
        ("name", "x" * 129),
        ("name", "hello\n"),
        ("owner", ""),
        ("owner", "web\nteam"),
        ("owner", "<script>"),
        ("classification", "secret"),
        ("build.context", "../other"),
        ("build.context", "/etc"),
        ("build.context", "a/../../b"),
        ("build.context", ""),
        ("build.context", "a\0b"),
        ("build.dockerfile", "../Dockerfile"),
        ("build.dockerfile", "/etc/passwd"),
        ("build.platform", "windows/amd64"),
        ("build.timeout", 9),
        ("build.timeout", 7201),
        ("build.more", 1),
        ("build.max_size", "1KiB"),
        ("build.max_size", "17GiB"),
        ("build.max_size", None),
        ("test.command", []),
        ("test.command", "python -m unittest"),
        ("test.command", [""]),
        ("test.stage", "-x"),
        ("test.stage", "x" * 129),
        ("test.stage", "Test"),
        ("probe.port", 80),
        ("probe.port", 1023),
        ("probe.port", 65536),
        ("probe.port", 0),
        ("probe.port", -1),
        ("probe.port", "http"),
        ("probe.path", "health"),
        ("probe.path", "/health check"),
        ("probe.path", "/\r\nHost: x"),
        ("probe.path", "/?q"),
        ("probe.start_timeout", 0),
        ("probe.stop_timeout", 61),
        ("runtime.uid", 0),
        ("runtime.uid", 65536),
        ("runtime.read_only_root", False),
        ("runtime.writable", ["tmp"]),
        ("runtime.writable", ["/"]),
        ("runtime.writable", ["//"]),
        ("runtime.writable", ["/."]),
        ("runtime.writable", ["/./"]),
        ("runtime.writable", ["/tmp/../etc"]),
        ("runtime.writable", ["/tmp\0"]),
        ("runtime.writable", ["/proc/sys"]),
        ("runtime.writable", ["//sys"]),
        ("runtime.memory", "\u0661\u0662\u0668MiB"),
        ("runtime.writable", [f"/{n}" for n in range(17)]),
        ("runtime.capabilities", ["SYS_ADMIN"]),
        ("runtime.capabilities", ["NET_RAW"]),
        ("runtime.privileged", True),
        ("runtime.memory", "1KiB"),
        ("runtime.memory", "lots"),
        ("runtime.memory", "-1GiB"),
        ("runtime.memory", 1.5),
        ("runtime.pids", 0),
        ("runtime.commands", [{}]),
        ("runtime.commands", [{"command": "/bin/sh"}]),
        ("runtime.configuration_paths", ["etc"]),
        ("runtime.configuration_paths", ["/etc/../app"]),
        ("runtime.pids", 4097),
        ("runtime.cpu", 0),
        ("runtime.cpu", 65),
        ("runtime.cpu", "half"),
        ("runtime.environment", {"1A": "x"}),
        ("runtime.environment", {"A": 1}),
        ("runtime.environment", {"A": "x\0"}),
        ("runtime.ports", [80]),
        ("runtime.init", "yes, please"),
        ("limits.critical", -1),
        ("limits.kev", 1),
        ("limits.kev", None),
        ("limits.moderate", 1),
        ("environments", ["Staging"]),
        ("environments", ["../staging"]),
        ("environments", "staging"),
        ("check", ["true"]),
        ("rootfs", {"packages": ["x"]}),
        ("image", "x"),
    ],
    ids=str,
)
def test_service_refuses_invalid_value(read, path, value):
    """The error names the key."""
    with pytest.raises(DeclarationInvalid) as caught:
        read(changed(SERVICE, path, value))
    assert path.rpartition(".")[2] in str(caught.value)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("probe", {"port": 8080}),
        ("environments", ["staging"]),
        ("test", {"command": ["true"]}),
        ("check", []),
        ("rootfs.packages", ["-o", "Apt::x"]),
        ("rootfs.packages", ["python3; id"]),
        ("rootfs.packages", ["p" * 129]),
        ("rootfs.packages", ["python3"] * 513),
        ("rootfs.suite", "../x"),
    ],
    ids=str,
)
def test_base_refuses_invalid_value(read, path, value):
    """A base never runs as a service, and its packages are names."""
    with pytest.raises(DeclarationInvalid):
        read(changed(BASE, path, value))


@pytest.mark.parametrize("missing", ["kind", "name", "owner", "test", "probe"])
def test_service_requires_key(read, missing):
    """The error names the missing key."""
    with pytest.raises(DeclarationInvalid, match=missing):
        read({key: value for key, value in SERVICE.items() if key != missing})


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("name", "team/hello-world_2.x"),
        ("runtime.writable", ["/tmp", "/var/cache/app", "/dev/shm"]),
        ("runtime.memory", 1024**2),
        ("limits.critical", None),
        ("limits.unknown", 0),
        ("environments", []),
        ("build.context", "./src"),
        ("probe.path", "/health/ready"),
        ("probe.port", 65535),
        ("build.max_size", "16GiB"),
        ("runtime.environment", {"A_1": "", "b": "x=y"}),
        ("runtime.ports", [1024, 65535]),
        ("runtime.init", True),
    ],
    ids=str,
)
def test_service_accepts_valid_value(read, path, value):
    """These are the limits of the allowed values."""
    assert read(changed(SERVICE, path, value))


@pytest.mark.parametrize(
    ("text", "size"),
    [("128MiB", 128 * 1024**2), ("1 GiB", 1024**3), ("2048kib", 2048 * 1024), ("1048576", 1024**2), (1048577, 1048577)],
)
def test_size_is_bytes_or_number_with_unit(read, text, size):
    """The units are powers of 1024."""
    assert read(changed(SERVICE, "runtime.memory", text)).runtime.memory == size


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("runtime.memory", f"{'1' * 4299}GiB"),  # more digits than Python writes
        ("test.memory", 2**53),
        ("limits.critical", 2**64),  # no integer of CEL
        ("limits.unknown", 1_000_001),
    ],
)
def test_declaration_refuses_integer_that_no_later_step_takes(read, path, value):
    """What reads the declaration later would end without saying what is wrong with it."""
    with pytest.raises(DeclarationInvalid, match=f"{path.partition('.')[2]}: Input should be less than or equal to"):
        read(changed(SERVICE, path, value))


def test_declaration_error_has_line_and_column(read):
    """An editor can jump there."""
    text = yaml.safe_dump(SERVICE, sort_keys=False).replace("port: 8080", "port: 80")

    with pytest.raises(DeclarationInvalid, match=rf"{FILE}:\d+:3: service\.probe\.port: .*1024"):
        read(text)


def test_links_out_of_application_directory_are_refused(read, tmp_path):
    """This applies to the context and the Dockerfile."""
    outside = tmp_path.parent / "outside"
    outside.mkdir(exist_ok=True)
    (tmp_path / "link").symlink_to(outside)
    (tmp_path / "loop").symlink_to(tmp_path / "loop")

    for name in ("link", "loop", "loop/x"):
        for path in ("build.context", "build.dockerfile"):
            with pytest.raises(DeclarationInvalid):
                read(changed(SERVICE, path, name))


def test_declaration_file_that_is_a_link_out_is_refused(tmp_path):
    """It would be the declaration of another application."""
    other, here = tmp_path / "other", tmp_path / "here"
    other.mkdir()
    here.mkdir()
    (other / FILE).write_text(yaml.safe_dump(SERVICE))
    (here / FILE).symlink_to(other / FILE)

    with pytest.raises(DeclarationInvalid, match="leaves the application's directory"):
        read_declaration(here)


def test_path_without_declaration_is_refused(tmp_path):
    """The error says whether the directory or the file is missing."""
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path / "nothing", tmp_path / "a\0b"):
        with pytest.raises(DeclarationInvalid, match="not a directory"):
            read_declaration(path)
    with pytest.raises(DeclarationInvalid, match="does not exist"):
        read_declaration(tmp_path)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-1, 70000) | st.text(max_size=8) | st.sampled_from(sorted(SERVICE)),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(sorted(SERVICE)), inner),
        max_leaves=8,
    ),
    st.sampled_from([*SERVICE, *BASE, "build", "runtime", "limits", "environments", "rootfs"]),
)
def test_any_value_is_read_or_declared_invalid(tmp_path_factory, value, key):
    """No other exception than `DeclarationInvalid` may be raised."""
    directory = tmp_path_factory.mktemp("app")
    for values in (SERVICE, BASE):
        (directory / FILE).write_text(yaml.safe_dump({**values, key: value}, allow_unicode=True))
        with contextlib.suppress(DeclarationInvalid):
            read_declaration(directory)


@given(st.data())
def test_any_text_is_declaration_or_declared_invalid(tmp_path_factory, data):
    """The text is random, or a valid declaration with a replaced part."""
    directory = tmp_path_factory.mktemp("app")
    good = yaml.safe_dump(SERVICE | {"build": {"context": "."}, "environments": ["staging"]}, sort_keys=False)
    start = data.draw(st.integers(0, len(good)))
    end = data.draw(st.integers(start, min(len(good), start + 20)))
    likely = st.text(
        alphabet=st.characters(codec="utf-8") | st.sampled_from(":-{}[]&*!|>'\"#%,\n\t /.~0x1"), max_size=20
    )
    text = data.draw(st.sampled_from([good[:start] + data.draw(likely) + good[end:], data.draw(st.text(max_size=100))]))
    (directory / FILE).write_text(text, encoding="utf-8", errors="surrogatepass", newline="")
    with contextlib.suppress(DeclarationInvalid):
        assert isinstance(read_declaration(directory), Service | Base)


def test_schema_has_every_key():
    """Editors complete keys from it and mark unknown ones."""
    definitions = make_json_schema()["$defs"]

    assert set(definitions["Service"]["properties"]) == set(Service.model_fields)
    assert set(definitions["Base"]["properties"]) == set(Base.model_fields)
    assert all(d["additionalProperties"] is False for d in definitions.values() if d["type"] == "object")


IMAGE = "docker.io/library/python:3@sha256:" + "a" * 64
SUM = "sha256:" + "a" * 64


@pytest.mark.parametrize(
    "fetch",
    [
        {"images": [IMAGE, f"python@{SUM}", f"r.test:5000/a/b_c@{SUM}"]},
        {"urls": {"https://files.test/a.tgz": SUM, "https://files.test:8443/a?b=c": SUM}},
    ],
)
def test_fetch_accepts_pinned_images_and_urls(fetch):
    """Images need a digest, URLs need https and a checksum."""
    assert DECLARATION.validate_python({**FETCHING, "build": {"fetch": fetch}}).build.fetch.model_dump(
        exclude_unset=True
    )


@pytest.mark.parametrize(
    "fetch",
    [
        {"images": ["docker.io/library/python:3"]},
        {"images": [f"python@{SUM}0"]},
        {"images": [f"python:@{SUM}"]},
        {"images": [f"PYTHON@{SUM}"]},
        {"images": [f"https://r.test/a@{SUM}"]},
        {"images": [f"$BASE@{SUM}"]},
        {"images": [f"*@{SUM}"]},
        {"images": [f"[::1]:5000/a@{SUM}"]},
        {"urls": {"http://files.test/a": SUM}},
        {"urls": {"https://files.test": SUM}},
        {"urls": {"https://me@files.test/a": SUM}},
        {"urls": {"https://[::1]/a": SUM}},
        {"urls": {"https://files.test/a b": SUM}},
        {"urls": {"https://files.test/a": "latest"}},
        {"urls": {"https://files.test/a": None}},
        {"git": []},
    ],
    ids=str,
)
def test_fetch_refuses_unpinned_images_and_urls(fetch):
    """Tags, other schemes and patterns are refused."""
    with pytest.raises(ValidationError):
        DECLARATION.validate_python({**FETCHING, "build": {"fetch": fetch}})


FETCHING = {"kind": "base", "name": "base/x", "owner": "us", "check": ["/x"]}


def test_empty_declaration_names_the_page_that_shows_one(tmp_path):
    """The page exists."""
    (tmp_path / FILE).touch()

    with pytest.raises(DeclarationInvalid, match=rf"is empty\.\nWrite it as {GUIDE} shows"):
        read_declaration(tmp_path)
    assert (ROOT / GUIDE).is_file()
