"""Tests that tools are downloaded from a local server, verified, resumed and, if necessary, built."""

from __future__ import annotations

import hashlib
import io
import tarfile
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from cscm_laptop.tools import download, install
from cscm_laptop.tools.installer import Installer
from supply_chain.adapters.tools import Pins, sources
from supply_chain.adapters.tools.pins import GoPin, SourcePin
from supply_chain.errors import DownloadFailed, ToolFailed, ToolMissing
from tests.support.release_server import Releases
from tests.support.tool_pins import PLATFORMS, pin, program


def archive(member: str, content: bytes) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz", compresslevel=0) as tar:
        for name, data in (("README.md", b"read me"), (member, content)):
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    return out.getvalue()


@pytest.fixture
def boxed(releases: Releases, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Installer]:
    """Return a factory of installers with the given pins on the local server; PATH contains only the system."""
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    monkeypatch.setattr(download, "PAUSE", 0.0)

    def make(pins: dict[str, dict[str, Any]], **more: Any) -> Installer:
        document = Pins.model_validate({"releases": releases.url, "tools": pins})
        return Installer(tmp_path / "tools", document, **({"build": no_build} | more))

    return make


def no_build(pin: GoPin, directory: Path, progress: Callable[[str], None]) -> Path:
    raise AssertionError(f"{pin.package} was built, though its release could be had")


def build(pin: GoPin, directory: Path, progress: Callable[[str], None]) -> Path:
    """Stand in for `go install`."""
    built = directory / pin.package.rsplit("/", 1)[-1]
    built.write_bytes(program(pin.version))
    return built


def test_release_archive_is_downloaded_verified_and_run(boxed: Callable[..., Installer], releases: Releases) -> None:
    """A missing tool is taken from the release of its project."""
    releases.publish("alpha", "alpha.tar.gz", archive("alpha", program("1.2.0")))
    messages: list[str] = []

    tool = boxed({"alpha": pin("alpha")}).ensure(messages.append)["alpha"]

    assert tool.version == "1.2.0"
    assert tool.run("version", timeout=5).stdout == "tool version 1.2.0\n"
    assert messages[-1] == "alpha: ready (1 of 1)"


def test_release_that_is_a_bare_program_is_downloaded(boxed: Callable[..., Installer], releases: Releases) -> None:
    """Some projects release the program itself."""
    releases.publish("beta", "beta-linux", program("1.2.0"))

    tool = boxed({"beta": pin("beta", files={key: {"name": "beta-linux"} for key in PLATFORMS})}).ensure()["beta"]

    assert tool.run("version", timeout=5).status == 0


def test_release_with_a_tag_of_its_own_is_downloaded(boxed: Callable[..., Installer], releases: Releases) -> None:
    """A repository with several programs has their names in its tags."""
    releases.publish("alpha", "alpha.tar.gz", archive("alpha", program("1.2.0")), tag="alpha/v1.2.0")

    assert boxed({"alpha": pin("alpha", tag="alpha/v{version}")}).ensure()["alpha"].version == "1.2.0"


def test_second_run_makes_no_request(boxed: Callable[..., Installer], releases: Releases) -> None:
    """An installed tool is not downloaded again."""
    releases.publish("alpha", "alpha.tar.gz", archive("alpha", program("1.2.0")))
    boxed({"alpha": pin("alpha")}).ensure()
    releases.asked.clear()

    boxed({"alpha": pin("alpha")}).ensure()

    assert releases.asked == []


def test_wrong_checksum_fails_and_builds_nothing(
    boxed: Callable[..., Installer], releases: Releases, tmp_path: Path
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


def test_checksum_in_pin_file_is_verified_too(boxed: Callable[..., Installer], releases: Releases) -> None:
    """A release that was replaced together with its checksum file is detected."""
    releases.publish("alpha", "alpha.tar.gz", archive("alpha", program("1.2.0")))
    files = {key: {"name": "alpha.tar.gz", "member": "alpha", "sha256": "cd" * 32} for key in PLATFORMS}

    with pytest.raises(DownloadFailed, match="cd" * 32):
        boxed({"alpha": pin("alpha", files=files)}).ensure()


def test_interrupted_download_resumes_in_the_same_run(boxed: Callable[..., Installer], releases: Releases) -> None:
    """Only the missing bytes are requested."""
    releases.publish("alpha", "alpha.tar.gz", archive("alpha", program("1.2.0")))
    releases.cuts = [200_000]

    boxed({"alpha": pin("alpha")}).ensure()

    assert releases.fetched() == [None, "bytes=200000-"]


def test_interrupted_download_resumes_in_the_next_run(boxed: Callable[..., Installer], releases: Releases) -> None:
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


def test_partial_download_of_another_file_is_not_resumed(boxed: Callable[..., Installer], releases: Releases) -> None:
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
    case: str, boxed: Callable[..., Installer], releases: Releases, tmp_path: Path
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
        box = Installer(tmp_path / "tools", document, build=build)
    messages: list[str] = []

    tool = box.ensure(messages.append)["alpha"]

    assert tool.version == "1.2.0"
    assert box.report()[0].origin == "go"
    (missing,) = [line for line in messages if "no release available" in line]
    assert missing.endswith("; building it from source instead"), "it is no failure"
    assert messages[-1] == "alpha: ready (1 of 1)"


@pytest.mark.parametrize(
    ("says", "message"),
    [
        (None, "Go is not on PATH"),
        ("go version go1.19.8 linux/amd64", r"/go is go1\.19, so"),
        ("go version devel +1234 linux/amd64", "of an unknown version"),
    ],
)
def test_go_install_names_required_go_version(
    says: str | None, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The Go of Debian 12 is too old for the tools, and its own error is hard to understand."""
    monkeypatch.setattr(install, "GO_PLACE", str(tmp_path))
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    if says:
        (tmp_path / "go").write_text(f"#!/bin/sh\necho '{says}'\n")
        (tmp_path / "go").chmod(0o755)

    with pytest.raises(ToolMissing, match=rf"{message}(.|\n)*Go 1\.21 or later"):
        install.install_go_program(GoPin.model_validate(pin("alpha")), tmp_path, print)


def test_go_install_finds_program_of_major_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Go names a program after the last part of its package that is no version."""
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    (tmp_path / "go").write_text("#!/bin/sh\necho go version go1.27.3 linux/amd64\n")
    (tmp_path / "go").chmod(0o755)

    for package, name in (("x.io/a/tool/v5", "tool"), ("x.io/a/v5/cmd/tool", "tool"), ("x.io/a/v5x", "v5x")):
        pinned = GoPin.model_validate(pin("tool", package=package))
        assert install.install_go_program(pinned, tmp_path / "bin", print) == tmp_path / "bin" / name


def test_program_of_another_version_is_not_installed(
    boxed: Callable[..., Installer], releases: Releases, tmp_path: Path
) -> None:
    """The version that the program prints decides, not the name of the file."""
    releases.publish("alpha", "alpha.tar.gz", archive("alpha", program("1.3.0")))

    with pytest.raises(ToolFailed, match=r"should have the version 1\.2\.0 but reports 1\.3\.0"):
        boxed({"alpha": pin("alpha")}).ensure()

    assert list((tmp_path / "tools").rglob("alpha")) == []


def test_concurrent_runs_download_a_tool_once(boxed: Callable[..., Installer], releases: Releases) -> None:
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


def test_failed_tool_does_not_stop_the_others(boxed: Callable[..., Installer], releases: Releases) -> None:
    """Complete tools are available in the next run."""
    releases.publish("alpha", "alpha.tar.gz", b"damaged", listed="0" * 64)
    releases.publish("beta", "beta.tar.gz", archive("beta", program("1.2.0")))
    box = boxed({"alpha": pin("alpha"), "beta": pin("beta")})

    with pytest.raises(DownloadFailed):
        box.ensure()

    assert box.find("beta").version == "1.2.0"


def test_missing_packages_are_installed_together(boxed: Callable[..., Installer], tmp_path: Path) -> None:
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


SOURCE = {
    "kind": "source", "version": "1.2.0", "minimum": "1.2.0", "version_args": ["version"],
    "version_pattern": r"^(\d+(?:\.\d+)+)$", "package": "a_program", "stamp": "main.version={version}",
    "toolchain": "go1.27.3",
}  # fmt: skip


@pytest.fixture
def program_sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the directory with the sources of a program of this project."""
    monkeypatch.setattr(sources, "PACKAGES", tmp_path)
    directory = tmp_path / "a_program"
    directory.mkdir()
    for name in ("main.go", "main_test.go", "go.mod", "go.sum"):
        (directory / name).write_text(name)
    return directory


def test_own_program_is_rebuilt_only_if_its_sources_change(
    program_sources: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Test files do not count as sources, and a program of the same name on PATH is never used."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/reader").write_text("#!/bin/sh\necho 1.2.0\n")
    (tmp_path / "bin/reader").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    built: list[str] = []

    def build(pin: SourcePin, directory: Path, progress: object) -> Path:
        built.append(sources.compute_source_digest(pin))
        (directory / "program").write_text(f"#!/bin/sh\necho {pin.version}\n")
        return directory / "program"

    box = Installer(tmp_path / "tools", Pins.model_validate({"tools": {"reader": SOURCE}}), build_source=build)
    with pytest.raises(ToolMissing, match="cscm up"):
        box.find("reader")
    first = box.ensure()["reader"]
    box.ensure()
    (program_sources / "main_test.go").write_text("another")
    assert box.ensure()["reader"].path == first.path and len(built) == 1

    (program_sources / "main.go").write_text("another")
    second = box.ensure()["reader"]

    assert second.path != first.path and len(set(built)) == 2
    assert box.report()[0].origin == "source"


def test_own_program_is_built_from_copies_by_the_pinned_go(
    program_sources: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Go may not change go.sum, and the version is compiled in."""
    work = tmp_path / "work"
    work.mkdir()
    (tmp_path / "go").write_text(
        f'#!/bin/sh\n[ "$1" = version ] && {{ echo go version go1.26.8 linux/amd64; exit; }}\n'
        f'echo "$@" > {tmp_path}/asked; echo "$GOTOOLCHAIN $GOGC $CGO_ENABLED $GOFLAGS" >> {tmp_path}/asked\n'
        f"ls > {tmp_path}/files\n"
        f"[ ! -e {tmp_path}/fails ] || {{ echo checksum mismatch >&2; exit 1; }}\n"
    )
    (tmp_path / "go").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    one = Pins.model_validate({"tools": {"reader": SOURCE}}).tools["reader"]
    assert isinstance(one, SourcePin)

    assert install.build_go_program(one, work, lambda line: None) == work / "program"

    asked = (tmp_path / "asked").read_text()
    assert "-mod=readonly" in asked and "-X main.version=1.2.0" in asked and asked.endswith("go1.27.3 off 0 \n")
    assert (tmp_path / "files").read_text().split() == ["go.mod", "go.sum", "main.go"]
    (tmp_path / "fails").touch()
    with pytest.raises(ToolFailed, match="checksum mismatch"):
        install.build_go_program(one, work, lambda line: None)
