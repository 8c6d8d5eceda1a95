"""An SBOM generator in memory, with the methods of `adapters.tools.syft.Syft`."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

from supply_chain.errors import ScannerFailed
from supply_chain.evidence.examination import Examination
from supply_chain.model.image import ImageRef
from supply_chain.vulnerability.scanner import Sbom, Sboms

CYCLONEDX, SPDX = b'{"bomFormat": "CycloneDX"}', b'{"spdxVersion": "SPDX-2.3"}'
NOTHING = Sboms(Sbom(b'{"artifacts": []}', 0, "syft 1.2.3"), CYCLONEDX, SPDX)


@dataclass
class MemoryGenerator:
    """Lists the same in every directory and image that is not `missing`; `asked` and `examined` are the images."""

    sboms: Sboms = NOTHING
    examination: Examination = field(default_factory=Examination)
    asked: list[ImageRef] = field(default_factory=list)
    examined: list[ImageRef] = field(default_factory=list)
    missing: tuple[ImageRef, ...] = ()

    @classmethod
    def of(cls, *packages: str, **settings: Any) -> Self:
        """Return a generator that lists these Python packages."""
        listed = json.dumps({"artifacts": [{"type": "python", "name": each} for each in packages]}).encode()
        return cls(replace(NOTHING, record=Sbom(listed, len(packages), NOTHING.record.tool)), **settings)

    @property
    def generator(self) -> str:
        return self.sboms.record.tool

    def of_image(self, ref: ImageRef) -> Sboms:
        self.asked.append(ref)
        if ref in self.missing:
            raise ScannerFailed(f"The registry has no image {ref}.")
        return self.sboms

    def of_directory(self, directory: Path) -> Sboms:
        return self.sboms

    def examine(self, ref: ImageRef) -> Examination:
        self.examined.append(ref)
        return self.examination
