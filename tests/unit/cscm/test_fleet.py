"""The inventory on a terminal: what stands in it comes from anywhere."""

import json
from types import SimpleNamespace

from click.testing import CliRunner

from cscm import fleet
from cscm.main import main
from tests.unit.lifecycle.stock import image, stored

NASTY = "web\u009b2J\u202e\x1b[2J"


def test_json_controls_no_terminal(monkeypatch):
    """It is the same JSON, in ASCII."""
    known = image(1, owner=NASTY)
    kept = SimpleNamespace(images=lambda application: iter((known,)), reconciled=lambda: None)
    monkeypatch.setattr(fleet, "_inventory", lambda: kept)

    printed = CliRunner().invoke(main, ["images", "--json"]).output
    (found,) = json.loads(printed)

    assert printed.isascii() and printed.replace("\n", "").isprintable()
    assert found["owner"] == NASTY
    assert found["stored"]["digest"] == stored(1).digest
