"""What a run says where Prefect does not have the block that it needs."""

import pytest

from blocks import Bridge, Tier, Workbench
from supply_chain.errors import SettingInvalid


@pytest.mark.parametrize("kind", [Bridge, Tier, Workbench])
async def test_a_block_that_is_not_there_yet_is_told(machine, kind):
    """The first `cscm up` registers blocks last; a run that is early ends with an error that says so."""
    with pytest.raises(SettingInvalid, match=f"no block nobody of the type {kind.get_block_type_name()}") as told:
        await kind.aload("nobody")

    assert "cscm up" in str(told.value)
