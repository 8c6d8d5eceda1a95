"""Posts events about new vulnerability data."""

from __future__ import annotations

from collections.abc import Sequence

from orchestration.events import post
from supply_chain.vulnerability.findings import Database


def post_updated(database: Database) -> None:
    """Post `cscm.database.updated`: another vulnerability database is in use from now on."""
    post("cscm.database.updated", f"cscm.database.{database.digest}", database.kind, database.model_dump(mode="json"))


def post_advisory(name: str, packages: Sequence[str]) -> None:
    """Post `cscm.advisory.published`: images with one of these packages need a check; without packages, all do."""
    payload = {"packages": list(packages)} if packages else {}
    post("cscm.advisory.published", f"cscm.advisory.{name}", name, payload)
