"""What a command says where Prefect does not have what it needs."""

import sys
from types import SimpleNamespace

import pytest

from cscm import session
from supply_chain.errors import SettingInvalid


def test_a_block_that_is_not_there_yet_is_told(monkeypatch):
    """The first `cscm up` registers blocks last."""

    async def load(name):
        raise ValueError(f"Unable to find block document named {name}")

    monkeypatch.setattr(session, "use_prefect", lambda: None)
    monkeypatch.setitem(sys.modules, "blocks", SimpleNamespace(Inventory=SimpleNamespace(aload=load)))

    with pytest.raises(SettingInvalid, match=r"no block inventory of the type Inventory yet"):
        session.load_block("Inventory", "inventory")
