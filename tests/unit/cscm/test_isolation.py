"""`cscm unseal`: opens a bundle into a directory, or says why not."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner, Result

from cscm import isolation
from cscm.main import main
from supply_chain.errors import EvidenceInvalid
from supply_chain.execution.isolation.collection import SealedBundle, make_item
from supply_chain.execution.isolation.opening import OpenedBundle
from supply_chain.execution.isolation.record import IsolationRecord
from tests.support.builders import NOON
from tests.support.facts import CURATED
from tests.support.world import World

FILE = make_item("deployment.json", b"{}", NOON)
RECORD = IsolationRecord(
    id="12345678", environment="production", application="hello", digest=CURATED.digest, by="ann", reason="odd",
    since=NOON, isolated=NOON, pods=(), allowing_policies=(), items=(FILE[0],), uncollected=(), at=NOON, custody=(),
    bundle=SealedBundle(referrer=CURATED.digest, digest=CURATED.digest, key="k", wrapped_key="", context={}),
)  # fmt: skip


@pytest.fixture
def opening(world: World, monkeypatch: pytest.MonkeyPatch) -> Any:
    """What is given to the function that opens a bundle, which returns `result`."""
    world.registry.add(CURATED)
    ports = SimpleNamespace(
        repositories=world.ecr, evidence="evidence", registry="registry", load_own_kms=lambda: "own keys"
    )
    made = SimpleNamespace(given=None, result=OpenedBundle(RECORD, (FILE,)))

    def open_bundle(*given: Any) -> Any:
        made.given = given
        if isinstance(made.result, Exception):
            raise made.result
        return made.result

    monkeypatch.setattr(isolation, "load_execution_ports", lambda: ports)
    monkeypatch.setattr(isolation, "open_bundle", open_bundle)
    return made


def cscm(*arguments: object) -> Result:
    return CliRunner().invoke(main, [*map(str, arguments)])


def test_bundle_is_opened_into_a_directory(opening: Any, tmp_path: Path) -> None:
    """The digits of a digest are enough; the keys are the user's, the evidence is the tier's."""
    done = cscm("unseal", CURATED.short, tmp_path / "case")

    assert done.exit_code == 0, done.output
    assert opening.given == (CURATED, None, "evidence", "registry", "own keys")
    assert (tmp_path / "case/deployment.json").read_bytes() == b"{}"
    assert "hello in production is isolated (case 12345678)" in done.stdout
    printed = cscm("unseal", CURATED, tmp_path / "second", "--case", "12345678", "--json")
    assert json.loads(printed.stdout)["id"] == "12345678" and opening.given[1] == "12345678"


def test_invalid_bundle_is_not_written(opening: Any, tmp_path: Path) -> None:
    """The error has its code."""
    opening.result = EvidenceInvalid("The record does not hold.\nFind out why.")

    done = cscm("unseal", CURATED, tmp_path / "case")

    assert done.exit_code == 1 and "[evidence.invalid]" in done.stderr and not (tmp_path / "case").exists()
