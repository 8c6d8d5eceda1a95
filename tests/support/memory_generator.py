"""An SBOM generator in memory, with the methods of `adapters.tools.syft.Syft`."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from supply_chain.errors import ScannerFailed
from supply_chain.evidence.examination import Examination
from supply_chain.model.image import ImageRef
from supply_chain.vulnerability.scanner import Sbom, Sboms

CYCLONEDX, SPDX = b'{"bomFormat": "CycloneDX"}', b'{"spdxVersion": "SPDX-2.3"}'
NOTHING = Sbom(b'{"artifacts": []}', 0, "syft 1.2.3")


@dataclass
class MemoryGenerator:
    """Lists the same in every directory and image that is not `missing`; `asked` are the images."""

    sbom: Sbom = NOTHING
    examination: Examination = field(default_factory=Examination)
    asked: list[ImageRef] = field(default_factory=list)
    missing: tuple[ImageRef, ...] = ()

    @classmethod
    def of(cls, *packages: str, **settings: Any) -> Self:
        """Return a generator that lists these Python packages."""
        listed = json.dumps({"artifacts": [{"type": "python", "name": each} for each in packages]}).encode()
        return cls(Sbom(listed, len(packages), NOTHING.tool), **settings)

    @property
    def generator(self) -> str:
        return self.sbom.tool

    def make_image_sbom(self, ref: ImageRef) -> tuple[Sbom, Examination]:
        self.asked.append(ref)
        if ref in self.missing:
            raise ScannerFailed(f"The registry has no image {ref}.")
        return self.sbom, self.examination

    def convert(self, sbom: Sbom) -> Sboms:
        return Sboms(sbom, CYCLONEDX, SPDX)

    def make_directory_sbom(self, directory: Path) -> Sbom:
        return self.sbom
