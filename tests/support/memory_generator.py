"""An SBOM generator in memory, with the methods of `adapters.tools.syft.Syft`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from supply_chain.evidence.examination import Examination
from supply_chain.model.image import ImageRef
from supply_chain.vulnerability.scanner import Sbom, Sboms

NOTHING = Sboms(Sbom(b'{"artifacts": []}', 0, "syft 1.2.3"), b"cyclonedx", b"spdx")


@dataclass
class MemoryGenerator:
    """Lists the same in every image and directory; `asked` and `examined` are the images."""

    sboms: Sboms = NOTHING
    examination: Examination = field(default_factory=Examination)
    asked: list[ImageRef] = field(default_factory=list)
    examined: list[ImageRef] = field(default_factory=list)

    @property
    def generator(self) -> str:
        return self.sboms.record.tool

    def of_image(self, ref: ImageRef) -> Sboms:
        self.asked.append(ref)
        return self.sboms

    def of_directory(self, directory: Path) -> Sboms:
        return self.sboms

    def examine(self, ref: ImageRef) -> Examination:
        self.examined.append(ref)
        return self.examination
