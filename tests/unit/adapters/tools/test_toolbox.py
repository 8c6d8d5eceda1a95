"""Tests that tools are found, downloaded from a local server, verified, resumed and, if necessary, built."""

from __future__ import annotations

import hashlib
import io
import re
import tarfile
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from supply_chain.adapters.tools import Pins, Toolbox, download, install
from supply_chain.adapters.tools.pins import GoPin, SourcePin
from supply_chain.adapters.tools.toolbox import _platform
from supply_chain.errors import DeclarationInvalid, DownloadFailed, ToolFailed, ToolMissing

PINS = Path(__file__).parents[4] / "deployments/tools.yaml"


def program(version: str) -> bytes:
    """Return a program that prints its version and is large enough to be cut in two."""
    return f"#!/bin/sh\necho tool version {version}\nexit 0\n".encode() + b"#" * 600_000


def archive(member: str, content: bytes) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz", compresslevel=0) as tar:
        for name, data in (("README.md", b"read me"), (member, content)):
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    return out.getvalue()


@dataclass
class Releases:
    """Server of releases, with its files, the points where it cuts a connection, and the requests it received."""

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    cuts: list[int] = field(default_factory=list)
    asked: list[tuple[str, str | None]] = field(default_factory=list)

    def publish(self, name: str, asset: str, content: bytes, listed: str | None = None) -> None:
        base = f"/project/{name}/releases/download/v1.2.0"
        self.files[f"{base}/{asset}"] = content
        digest = listed or hashlib.sha256(content).hexdigest()
        self.files[f"{base}/checksums.txt"] = f"{'0' * 64}  other\n{digest}  {asset}\n".encode()

    def fetched(self) -> list[str | None]:
        """Return the byte ranges of all requests for assets other than checksum files."""
        return [part for path, part in self.asked if not path.endswith("checksums.txt")]


@pytest.fixture
def releases() -> Iterator[Releases]:
    """Serve the releases on a free port."""
    state = Releases()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            wanted = self.headers.get("Range")
            state.asked.append((self.path, wanted))
            content = state.files.get(self.path)
            if content is None:
                self.send_error(404)
                return
            tag = f'"{hashlib.md5(content).hexdigest()}"'
            start = int(wanted[6:-1]) if wanted and self.headers.get("If-Range") == tag else 0
            self.send_response(206 if start else 200)
            if start:
                self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
            self.send_header("Content-Length", str(len(content) - start))
            self.send_header("ETag", tag)
            self.end_headers()
            if state.cuts and not self.path.endswith("checksums.txt"):
                self.wfile.write(content[start : start + state.cuts.pop(0)])
                self.close_connection = True
                return
            self.wfile.write(content[start:])

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    state.url = f"http://127.0.0.1:{server.server_port}"
    yield state
    server.shutdown()
    server.server_close()


def pin(name: str, **more: Any) -> dict[str, Any]:
    return {
        "kind": "go",
        "version": "1.2.0",
        "minimum": "1.1.0",
        "below": "2.0.0",
        "version_args": ["version"],
        "version_pattern": r"^tool version (\d+(?:\.\d+)+)",
        "repository": f"project/{name}",
        "package": f"example.com/project/{name}",
        "stamp": "main.version={version}",
        "toolchain": "go1.27.3",
        "checksums": "checksums.txt",
        "files": {_platform(): {"name": f"{name}.tar.gz", "member": name}},
    } | more


@pytest.fixture
def boxed(releases: Releases, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Toolbox]:
    """Return a factory of toolboxes with the given pins on the local server; PATH contains only the system."""
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    monkeypatch.setattr(download, "PAUSE", 0.0)

    def make(pins: dict[str, dict[str, Any]], **more: Any) -> Toolbox:
        document = Pins.model_validate({"releases": releases.url, "tools": pins})
        return Toolbox(tmp_path / "tools", document, **({"build": no_build} | more))

    return make


def no_build(pin: GoPin, directory: Path, progress: Callable[[str], None]) -> Path:
    raise AssertionError(f"{pin.package} was built, though its release could be had")


def build(pin: GoPin, directory: Path, progress: Callable[[str], None]) -> Path:
    """Stand in for `go install`."""
    built = directory / pin.package.rsplit("/", 1)[-1]
    built.write_bytes(program(pin.version))
    return built


def test_release_archive_is_downloaded_verified_and_run(boxed: Callable[..., Toolbox], releases: Releases) -> None:
    """A missing tool is taken from the release of its project."""
    releases.publish("alpha", "alpha.tar.gz", archive("alpha", program("1.2.0")))
    said: list[str] = []

    tool = boxed({"alpha": pin("alpha")}).ensure(said.append)["alpha"]

    assert tool.version == "1.2.0"
    assert tool.run("version", timeout=5).stdout == "tool version 1.2.0\n"
    assert said[-1] == "alpha: ready"


def test_release_that_is_a_bare_program_is_downloaded(boxed: Callable[..., Toolbox], releases: Releases) -> None:
    """Some projects release the program itself."""
    releases.publish("beta", "beta-linux", program("1.2.0"))

    tool = boxed({"beta": pin("beta", files={_platform(): {"name": "beta-linux"}})}).ensure()["beta"]

    assert tool.run("version", timeout=5).status == 0


def test_second_run_makes_no_request(boxed: Callable[..., Toolbox], releases: Releases) -> None:
    """An installed tool is not downloaded again."""
    releases.publish("alpha", "alpha.tar.gz", archive("alpha", program("1.2.0")))
    boxed({"alpha": pin("alpha")}).ensure()
    releases.asked.clear()

    boxed({"alpha": pin("alpha")}).ensure()

    assert releases.asked == []


def test_wrong_checksum_fails_and_builds_nothing(
    boxed: Callable[..., Toolbox], releases: Releases, tmp_path: Path
) -> None:
    """Damage or an attack must not be worked around; the error names both checksums."""
    content = archive("alpha", program("1.2.0"))
    releases.publish("alpha", "alpha.tar.gz", content, listed="ab" * 32)

    with pytest.raises(DownloadFailed) as failure:
        boxed({"alpha": pin("alpha")}).ensure()

    assert "ab" * 32 in str(failure.value)
    assert hashlib.sha256(content).hexdigest() in str(failure.value)
    assert list((tmp_path / "tools/downloads").iterdir()) == []
    assert list((tmp_path / "tools").rglob("alpha")) == []


def test_checksum_in_pin_file_is_verified_too(boxed: Callable[..., Toolbox], releases: Releases) -> None:
    """A release that was replaced together with its checksum file is detected."""
    releases.publish("alpha", "alpha.tar.gz", archive("alpha", program("1.2.0")))
    files = {_platform(): {"name": "alpha.tar.gz", "member": "alpha", "sha256": "cd" * 32}}

    with pytest.raises(DownloadFailed, match="cd" * 32):
        boxed({"alpha": pin("alpha", files=files)}).ensure()


def test_interrupted_download_resumes_in_the_same_run(boxed: Callable[..., Toolbox], releases: Releases) -> None:
    """Only the missing bytes are requested."""
    releases.publish("alpha", "alpha.tar.gz", archive("alpha", program("1.2.0")))
    releases.cuts = [200_000]

    boxed({"alpha": pin("alpha")}).ensure()

    assert releases.fetched() == [None, "bytes=200000-"]


def test_interrupted_download_resumes_in_the_next_run(boxed: Callable[..., Toolbox], releases: Releases) -> None:
    """A new run after an outage does not start from the beginning."""
    releases.publish("alpha", "alpha.tar.gz", archive("alpha", program("1.2.0")))
    releases.cuts = [100_000, 100_000, 100_000]
    box = boxed({"alpha": pin("alpha")})

    with pytest.raises(DownloadFailed, match=r"300000 bytes.*\n.*continues"):
        box.ensure()
    releases.asked.clear()
    box.ensure()

    assert releases.fetched() == ["bytes=300000-"]
    assert box.find("alpha").run("version", timeout=5).status == 0


def test_partial_download_of_another_file_is_not_resumed(boxed: Callable[..., Toolbox], releases: Releases) -> None:
    """Parts of two releases must never be combined."""
    releases.publish("alpha", "alpha.tar.gz", archive("alpha", program("1.1.9")))
    releases.cuts = [100_000, 100_000, 100_000]
    box = boxed({"alpha": pin("alpha")})
    with pytest.raises(DownloadFailed):
        box.ensure()

    releases.publish("alpha", "alpha.tar.gz", archive("alpha", program("1.2.0")))

    assert box.ensure()["alpha"].version == "1.2.0"


@pytest.mark.parametrize("case", ["no such release", "no checksum", "no network", "no such platform"])
def test_tool_is_built_if_no_release_is_available(
    case: str, boxed: Callable[..., Toolbox], releases: Releases, tmp_path: Path
) -> None:
    """The module proxy of Go may be reachable even so, and the progress output says that the tool is built."""
    pins = {"alpha": pin("alpha")}
    if case == "no checksum":
        releases.publish("alpha", "other.tar.gz", b"")
    elif case == "no such platform":
        pins["alpha"]["files"] = {"plan/mips": {"name": "alpha"}}
    box = boxed(pins, build=build)
    if case == "no network":
        document = Pins.model_validate({"releases": "http://127.0.0.1:9", "tools": pins})
        box = Toolbox(tmp_path / "tools", document, build=build)
    said: list[str] = []

    tool = box.ensure(said.append)["alpha"]

    assert tool.version == "1.2.0"
    assert box.report()[0].origin == "go"
    assert any("no release available" in line for line in said)


@pytest.mark.parametrize(
    ("says", "told"),
    [
        (None, "Go is not on PATH"),
        ("go version go1.19.8 linux/amd64", r"/go is go1\.19, so"),
        ("go version devel +1234 linux/amd64", "of an unknown version"),
    ],
)
def test_go_install_names_required_go_version(
    says: str | None, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The Go of Debian 12 is too old for the tools, and its own error is hard to understand."""
    monkeypatch.setattr(install, "GO_PLACE", str(tmp_path))
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    if says:
        (tmp_path / "go").write_text(f"#!/bin/sh\necho '{says}'\n")
        (tmp_path / "go").chmod(0o755)

    with pytest.raises(ToolMissing, match=rf"{told}(.|\n)*Go 1\.21 or later"):
        install.go_install(GoPin.model_validate(pin("alpha")), tmp_path, str)


def test_program_of_another_version_is_not_installed(
    boxed: Callable[..., Toolbox], releases: Releases, tmp_path: Path
) -> None:
    """The version that the program prints decides, not the name of the file."""
    releases.publish("alpha", "alpha.tar.gz", archive("alpha", program("1.3.0")))

    with pytest.raises(ToolFailed, match=r"was to be 1\.2\.0 but says it is 1\.3\.0"):
        boxed({"alpha": pin("alpha")}).ensure()

    assert list((tmp_path / "tools").rglob("alpha")) == []


def test_concurrent_runs_download_a_tool_once(boxed: Callable[..., Toolbox], releases: Releases) -> None:
    """Two flow runs that start together must not write to the same file."""
    releases.publish("alpha", "alpha.tar.gz", archive("alpha", program("1.2.0")))
    versions: list[str] = []

    def run() -> None:
        versions.append(boxed({"alpha": pin("alpha")}).ensure()["alpha"].version)

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)

    assert versions == ["1.2.0"] * 4
    assert len(releases.fetched()) == 1


def test_failed_tool_does_not_stop_the_others(boxed: Callable[..., Toolbox], releases: Releases) -> None:
    """Complete tools are available in the next run."""
    releases.publish("alpha", "alpha.tar.gz", b"damaged", listed="0" * 64)
    releases.publish("beta", "beta.tar.gz", archive("beta", program("1.2.0")))
    box = boxed({"alpha": pin("alpha"), "beta": pin("beta")})

    with pytest.raises(DownloadFailed):
        box.ensure()

    assert box.find("beta").version == "1.2.0"


@pytest.mark.parametrize(("version", "fits"), [("1.1.0", True), ("1.10.2", True), ("1.0.9", False), ("2.0.0", False)])
def test_program_on_path_is_used_if_its_version_is_in_range(
    version: str, fits: bool, boxed: Callable[..., Toolbox], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only versions that were tested with the supply chain are in range."""
    box = boxed({"alpha": pin("alpha")})
    own = tmp_path / "bin/alpha"
    own.parent.mkdir()
    own.write_bytes(program(version))
    own.chmod(0o755)
    monkeypatch.setenv("PATH", f"{own.parent}:/usr/bin:/bin")

    (report,) = box.report()

    assert (report.ok, report.found, report.path, report.origin) == (fits, version, own, "path")
    if fits:
        assert box.find("alpha").path == own
    else:
        with pytest.raises(ToolMissing, match=r">=1\.1\.0,<2\.0\.0"):
            box.find("alpha")


def test_version_of_program_is_cached_until_the_file_changes(
    boxed: Callable[..., Toolbox], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Finding a tool is cheap, and an update is noticed."""
    own, asked = tmp_path / "bin/alpha", tmp_path / "asked"
    own.parent.mkdir()
    script = f"#!/bin/sh\necho asked >> {asked}\necho tool version %s\n"
    own.write_text(script % "1.1.5")
    own.chmod(0o755)
    monkeypatch.setenv("PATH", f"{own.parent}:/usr/bin:/bin")

    found = [boxed({"alpha": pin("alpha")}).find("alpha").version for _ in range(3)]
    own.write_text(script % "1.1.16")
    found.append(boxed({"alpha": pin("alpha")}).find("alpha").version)

    assert found == ["1.1.5", "1.1.5", "1.1.5", "1.1.16"]
    assert asked.read_text().count("asked") == 2


def test_missing_packages_are_installed_together(boxed: Callable[..., Toolbox], tmp_path: Path) -> None:
    """The package manager is called once for all of them."""
    installed: list[Sequence[str]] = []
    pins = {
        name: {
            "kind": "distribution",
            "minimum": "1.0",
            "version_args": ["--version"],
            "version_pattern": r"(\d+\.\d+)",
            "package": f"{name}-package",
        }
        for name in ("not-here", "nor-here")
    }

    def install(packages: Sequence[str], progress: Callable[[str], None]) -> None:
        installed.append(packages)

    with pytest.raises(ToolMissing, match="apt-get install not-here-package"):
        boxed(pins, install_packages=install).ensure()

    assert installed == [["not-here-package", "nor-here-package"]]


def test_shipped_pins_are_complete() -> None:
    """Each Go tool has a release for both platforms and is built from the repository that releases it."""
    pins = Pins.load(PINS)

    assert set(pins.tools) == {*SAID, "ps"}
    for one in pins.tools.values():
        if isinstance(one, GoPin):
            assert one.fits(one.version)
            assert set(one.files) == {"linux/amd64", "linux/arm64"}
            assert one.package.startswith(f"github.com/{one.repository}/")
            assert "{version}" in one.stamp


SAID = {
    "grype": ("Application:         grype\nVersion:             0.121.2\nSyft Version:        v1.57.0\n", "0.121.2"),
    "syft": ("Application:   syft\nVersion:       1.57.0\nSchemaVersion: 16.1.13\n", "1.57.0"),
    "cosign": ("cosign: A tool\n\nGitVersion:    v3.1.3\nGoVersion:     go1.27.3\n", "3.1.3"),
    "crane": ("v0.22.1\n", "0.22.1"),
    "buildx": ("github.com/docker/buildx v0.38.2 \n", "0.38.2"),
    "dockerfile-reader": ("1.0.0\n", "1.0.0"),
    "skopeo": ("skopeo version 1.9.3\n", "1.9.3"),
    "mmdebstrap": ("mmdebstrap 1.3.5\n", "1.3.5"),
    "bandit": ("bandit 1.9.4\n  python version = 3.11.7 (main)\n", "1.9.4"),
    "detect-secrets": ("1.5.0\n", "1.5.0"),
    "hadolint": ("Haskell Dockerfile Linter 2.15.1\n", "2.15.1"),
}


@pytest.mark.parametrize("name", sorted(SAID))
def test_version_patterns_match_recorded_output_of_tools(name: str) -> None:
    """The patterns are those of the shipped pin file."""
    said, version = SAID[name]

    found = re.search(Pins.load(PINS).tools[name].version_pattern, said, re.MULTILINE)

    assert found is not None
    assert found.group(1) == version


@pytest.mark.parametrize(
    ("key", "value"),
    [("version_pattern", "no group"), ("version", "latest"), ("repository", "https://x/y"), ("chekcsums", "x")],
)
def test_invalid_pin_file_is_refused(key: str, value: str, tmp_path: Path) -> None:
    """A misspelt key must not read as a missing one."""
    file = tmp_path / "tools.yaml"
    file.write_text(yaml.safe_dump({"tools": {"alpha": pin("alpha", **{key: value})}}))

    with pytest.raises(DeclarationInvalid, match=key):
        Pins.load(file)


SOURCE = {
    "kind": "source", "version": "1.2.0", "minimum": "1.2.0", "version_args": ["version"],
    "version_pattern": r"^(\d+(?:\.\d+)+)$", "package": "a_program", "stamp": "main.version={version}",
    "toolchain": "go1.27.3",
}  # fmt: skip


@pytest.fixture
def sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the directory with the sources of a program of this project."""
    monkeypatch.setattr(install, "ADAPTERS", tmp_path)
    directory = tmp_path / "a_program"
    directory.mkdir()
    for name in ("main.go", "main_test.go", "go.mod", "go.sum"):
        (directory / name).write_text(name)
    return directory


def test_own_program_is_rebuilt_only_if_its_sources_change(
    sources: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Test files do not count as sources, and a program of the same name on PATH is never used."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/reader").write_text("#!/bin/sh\necho 1.2.0\n")
    (tmp_path / "bin/reader").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    built: list[str] = []

    def build(pin: SourcePin, directory: Path, progress: object) -> Path:
        built.append(install.source_digest(pin))
        (directory / "program").write_text(f"#!/bin/sh\necho {pin.version}\n")
        return directory / "program"

    box = Toolbox(tmp_path / "tools", Pins.model_validate({"tools": {"reader": SOURCE}}), build_source=build)
    with pytest.raises(ToolMissing, match="cscm up"):
        box.find("reader")
    first = box.ensure()["reader"]
    box.ensure()
    (sources / "main_test.go").write_text("another")
    assert box.ensure()["reader"].path == first.path and len(built) == 1

    (sources / "main.go").write_text("another")
    second = box.ensure()["reader"]

    assert second.path != first.path and len(set(built)) == 2
    assert box.report()[0].origin == "source"


def test_own_program_is_built_from_copies_by_the_pinned_go(
    sources: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Go may not change go.sum, and the version is compiled in."""
    work = tmp_path / "work"
    work.mkdir()
    (tmp_path / "go").write_text(
        f'#!/bin/sh\n[ "$1" = version ] && {{ echo go version go1.26.8 linux/amd64; exit; }}\n'
        f'echo "$@" > {tmp_path}/asked; echo "$GOTOOLCHAIN $CGO_ENABLED $GOFLAGS" >> {tmp_path}/asked\n'
        f"ls > {tmp_path}/files\n"
        f"[ ! -e {tmp_path}/fails ] || {{ echo checksum mismatch >&2; exit 1; }}\n"
    )
    (tmp_path / "go").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    one = Pins.model_validate({"tools": {"reader": SOURCE}}).tools["reader"]
    assert isinstance(one, SourcePin)

    assert install.go_build(one, work, lambda line: None) == work / "program"

    asked = (tmp_path / "asked").read_text()
    assert "-mod=readonly" in asked and "-X main.version=1.2.0" in asked and asked.endswith("go1.27.3 0 \n")
    assert (tmp_path / "files").read_text().split() == ["go.mod", "go.sum", "main.go"]
    (tmp_path / "fails").touch()
    with pytest.raises(ToolFailed, match="checksum mismatch"):
        install.go_build(one, work, lambda line: None)


def test_dockerfile_reader_sources_are_part_of_the_project() -> None:
    """go.sum has the checksums of all required modules."""
    one = Pins.load(PINS).tools["dockerfile-reader"]
    assert isinstance(one, SourcePin)

    files = install.source_files(one)

    assert {"main.go", "read.go", "graph.go", "ignore.go", "go.mod", "go.sum"} == set(files)
    assert b"github.com/moby/buildkit v0.22.0 h1:" in files["go.sum"]
