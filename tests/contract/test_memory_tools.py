"""Scanner and SBOM generator in memory keep the contracts of their ports, so tests that use them are valid."""

from __future__ import annotations

from pathlib import Path

import pytest

from supply_chain.model.image import ImageRef
from supply_chain.vulnerability.findings import Severity
from supply_chain.vulnerability.scanner import Sbom
from tests.contract import generator, scanner
from tests.support.builders import DIGEST, OTHER, finding, report
from tests.support.memory_generator import MemoryGenerator
from tests.support.memory_scanner import MemoryScanner


class TestMemoryScanner(scanner.ScannerContract):
    @pytest.fixture
    def harness(self) -> scanner.Harness:
        found = report(finding(), finding(severity=Severity.LOW, id="CVE-2026-2"))
        sboms = [Sbom(content, number, "syft 1.2.3") for number, content in enumerate((b"[1]", b"[2]"))]
        return scanner.Harness(MemoryScanner(found), *sboms)


class TestMemoryGenerator(generator.GeneratorContract):
    @pytest.fixture
    def harness(self, tmp_path: Path) -> generator.Harness:
        image, missing = (ImageRef(repository="dev/app", digest=each) for each in (DIGEST, OTHER))
        return generator.Harness(MemoryGenerator.of("jinja2", missing=(missing,)), image, tmp_path, missing)
