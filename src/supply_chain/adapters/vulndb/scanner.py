"""The scanner with the vulnerability database of this machine."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from supply_chain.adapters.process.command import Tool
from supply_chain.adapters.tools.grype import Grype
from supply_chain.adapters.vulndb.current import (
    has_distribution,
    make_grype_environment,
    read_database,
    read_publications,
)


def make_grype_scanner(tool: Tool, directory: Path, now: Callable[[], datetime]) -> Grype:
    """Return the scanner, with the database in `directory` and no other."""
    return Grype(
        tool=tool,
        environment=make_grype_environment(directory),
        database=lambda: read_database(directory).facts,
        knows=lambda distribution: has_distribution(directory, distribution),
        now=now,
        publications=lambda names: read_publications(directory, names),
    )
