"""`python -m tests.integration.rescan.once FILE`: rescan a fleet once, in a process that a test can kill."""

from __future__ import annotations

import sys
from pathlib import Path

from pydantic import TypeAdapter

from bench.fleet import Fleet
from blocks.workbench import CHEAPER
from orchestration.clock import read_clock
from supply_chain.adapters.process.command import Tool
from supply_chain.adapters.tools.grype import Grype
from supply_chain.adapters.vulndb import pin_database
from supply_chain.fleet.exposure import RescanResult, Unjudged
from supply_chain.fleet.image import FleetImage
from supply_chain.fleet.rescan import rescan, split_into_chunks
from supply_chain.model.image import Model

FOUND: TypeAdapter[list[RescanResult | Unjudged]] = TypeAdapter(list[RescanResult | Unjudged])


class Asked(Model):
    """The parameters of a rescan."""

    host: str
    directory: Path
    grype: Path
    version: str
    database: Path
    results: Path
    images: tuple[FleetImage, ...]


def once(asked: Asked) -> list[RescanResult | Unjudged]:
    """Rescan every image in chunks, with the database pinned at the start."""
    tool = Tool("grype", asked.grype, asked.version)
    with pin_database(tool, asked.database) as held:
        scanner = Grype(tool, held.environment, held.database, held.knows, read_clock, CHEAPER, quiet=True)
        ports = Fleet(asked.host, asked.directory).rescan_ports(scanner, asked.results)
        return [result for chunk in split_into_chunks(asked.images) for result in rescan(chunk, ports)]


if __name__ == "__main__":
    sys.stdout.buffer.write(FOUND.dump_json(once(Asked.model_validate_json(Path(sys.argv[1]).read_bytes()))))
