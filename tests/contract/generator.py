"""The contract of the port `SbomGenerator`, for the generator in memory and syft."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from supply_chain.errors import ScannerFailed
from supply_chain.model.image import ImageRef
from supply_chain.vulnerability.scanner import Sbom, SbomGenerator


@dataclass(frozen=True)
class Harness:
    """A generator, an image and a source directory that have the package `jinja2`, and an image that does not exist."""

    generator: SbomGenerator
    image: ImageRef
    directory: Path
    missing: ImageRef


class GeneratorContract:
    """The tests. A subclass has a fixture `harness`."""

    @pytest.fixture(params=["image", "directory"])
    def generate(self, harness: Harness, request: pytest.FixtureRequest) -> Callable[[], Sbom]:
        """A function that returns the SBOM of the image, or of the directory."""
        if request.param == "image":
            return lambda: harness.generator.make_image_sbom(harness.image)[0]
        return lambda: harness.generator.make_directory_sbom(harness.directory)

    def test_sbom_lists_the_package_and_names_its_tool(self, harness: Harness, generate: Callable[[], Sbom]) -> None:
        """The number of packages is that of the content."""
        record = generate()
        names = [each["name"] for each in json.loads(record.content)["artifacts"]]

        assert "jinja2" in names
        assert (record.packages, record.tool) == (len(names), harness.generator.generator)

    def test_converted_sbom_has_named_format(self, harness: Harness, generate: Callable[[], Sbom]) -> None:
        """Other tools read the two standard ones."""
        record = generate()
        sboms = harness.generator.convert(record)

        assert sboms.record == record
        assert json.loads(sboms.cyclonedx)["bomFormat"] == "CycloneDX"
        assert json.loads(sboms.spdx)["spdxVersion"].startswith("SPDX-")

    def test_image_that_does_not_exist_has_no_sbom(self, harness: Harness) -> None:
        """An empty one would hide all packages."""
        with pytest.raises(ScannerFailed):
            harness.generator.make_image_sbom(harness.missing)
