"""`cscm up`: what it notes once all is ready."""

from types import SimpleNamespace

import pytest
from click.testing import CliRunner

from cscm.laptop import up
from cscm_laptop import doctor, laptop
from cscm_laptop.checks import check


@pytest.mark.parametrize("free", [True, False])
def test_up_notes_an_environment_of_another_supply_chain(monkeypatch, free):
    """Otherwise, the first deployment finds it out, minutes later."""
    monkeypatch.setattr(
        laptop, "start_laptop", lambda *_, **__: SimpleNamespace(database=SimpleNamespace(kind="official"))
    )
    found = check("environments", "staging belongs to b1946", "free", free, "give the environment another name")
    monkeypatch.setattr(doctor, "check_environments", lambda _: [found])

    ended = CliRunner().invoke(up)

    assert ended.exit_code == 0, ended.output
    note = "note: staging belongs to b1946; give the environment another name"
    assert (note in ended.output) is not free
