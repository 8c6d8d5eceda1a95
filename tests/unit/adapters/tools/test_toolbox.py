"""Tests that tools are found on this machine, and that the shipped pin file describes them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from supply_chain.adapters.tools import Pins, Toolbox
from supply_chain.adapters.tools.pins import GoPin, SourcePin
from supply_chain.adapters.tools.sources import read_source_files
from supply_chain.errors import DeclarationInvalid, ToolMissing
from tests.support.tool_pins import pin, program

PINS = Path(__file__).parents[4] / "deployments/tools.yaml"


def toolbox(directory: Path) -> Toolbox:
    """Return a toolbox with one pinned program."""
    return Toolbox(directory / "tools", Pins.model_validate({"tools": {"alpha": pin("alpha")}}))


@pytest.mark.parametrize(("version", "fits"), [("1.1.0", True), ("1.10.2", True), ("1.0.9", False), ("2.0.0", False)])
def test_program_on_path_is_used_if_its_version_is_in_range(
    version: str, fits: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only versions that were tested with the supply chain are in range."""
    box = toolbox(tmp_path)
    own = tmp_path / "bin/alpha"
    own.parent.mkdir()
    own.write_bytes(program(version))
    own.chmod(0o755)
    monkeypatch.setenv("PATH", f"{own.parent}:/usr/bin:/bin")

    (report,) = box.report()

    assert (report.ok, report.version, report.path, report.origin) == (fits, version, own, "path")
    if fits:
        assert box.find("alpha").path == own
    else:
        with pytest.raises(ToolMissing, match=r">=1\.1\.0,<2\.0\.0"):
            box.find("alpha")


def test_version_of_program_is_cached_until_the_file_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Finding a tool is cheap, and an update is noticed."""
    own, asked = tmp_path / "bin/alpha", tmp_path / "asked"
    own.parent.mkdir()
    script = f"#!/bin/sh\necho asked >> {asked}\necho tool version %s\n"
    own.write_text(script % "1.1.5")
    own.chmod(0o755)
    monkeypatch.setenv("PATH", f"{own.parent}:/usr/bin:/bin")

    found = [toolbox(tmp_path).find("alpha").version for _ in range(3)]
    own.write_text(script % "1.1.16")
    found.append(toolbox(tmp_path).find("alpha").version)

    assert found == ["1.1.5", "1.1.5", "1.1.5", "1.1.16"]
    assert asked.read_text().count("asked") == 2


def test_shipped_pins_are_complete() -> None:
    """Each Go tool has a release for both platforms and is built from the repository that releases it."""
    pins = Pins.load(PINS)

    assert set(pins.tools) == {*VERSION_OUTPUT, "ps"}
    assert {name for name, one in pins.tools.items() if one.optional} == {"kustomize", "helm"}
    for name, one in pins.tools.items():
        if isinstance(one, GoPin):
            assert one.fits(one.version)
            assert set(one.files) == ({"linux/amd64", "linux/arm64"} if name != "helm" else set())
            assert one.package.startswith((f"github.com/{one.repository}/", "sigs.k8s.io/kustomize/", "helm.sh/helm/"))
            assert "{version}" in one.stamp


VERSION_OUTPUT = {
    "grype": ("Application:         grype\nVersion:             0.121.2\nSyft Version:        v1.57.0\n", "0.121.2"),
    "syft": ("Application:   syft\nVersion:       1.57.0\nSchemaVersion: 16.1.13\n", "1.57.0"),
    "cosign": ("cosign: A tool\n\nGitVersion:    v3.1.3\nGoVersion:     go1.27.3\n", "3.1.3"),
    "crane": ("v0.22.1\n", "0.22.1"),
    "buildx": ("github.com/docker/buildx v0.38.2 \n", "0.38.2"),
    "dockerfile-reader": ("1.0.0\n", "1.0.0"),
    "kustomize": ("v5.8.2\n", "5.8.2"),
    "helm": ("v4.3.2", "4.3.2"),
    "skopeo": ("skopeo version 1.9.3\n", "1.9.3"),
    "mmdebstrap": ("mmdebstrap 1.3.5\n", "1.3.5"),
    "bandit": ("bandit 1.9.4\n  python version = 3.11.7 (main)\n", "1.9.4"),
    "detect-secrets": ("1.5.0\n", "1.5.0"),
    "hadolint": ("Haskell Dockerfile Linter 2.15.1\n", "2.15.1"),
}


@pytest.mark.parametrize("name", sorted(VERSION_OUTPUT))
def test_version_patterns_match_recorded_output_of_tools(name: str) -> None:
    """The patterns are those of the shipped pin file."""
    output, version = VERSION_OUTPUT[name]

    found = re.search(Pins.load(PINS).tools[name].version_pattern, output, re.MULTILINE)

    assert found is not None
    assert found.group(1) == version


def test_optional_tools_are_needed_only_if_used() -> None:
    """Everything else is needed everywhere."""
    pins = Pins.model_validate({
        "releases": "http://127.0.0.1:9",
        "tools": {"alpha": pin("alpha"), "beta": pin("beta", optional=True), "gamma": pin("gamma", optional=True)},
    })  # fmt: skip

    assert list(pins.needed(()).tools) == ["alpha"]
    assert list(pins.needed(["gamma", "alpha"]).tools) == ["alpha", "gamma"]
    assert pins.needed(()).releases == "http://127.0.0.1:9"


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


def test_dockerfile_reader_sources_are_part_of_the_project() -> None:
    """go.sum has the checksums of all required modules."""
    one = Pins.load(PINS).tools["dockerfile-reader"]
    assert isinstance(one, SourcePin)

    files = read_source_files(one)

    assert {"main.go", "read.go", "graph.go", "ignore.go", "go.mod", "go.sum"} == set(files)
    assert b"github.com/moby/buildkit v0.22.0 h1:" in files["go.sum"]
