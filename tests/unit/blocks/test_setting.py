"""What a run says where Prefect does not have the block that it needs."""

from uuid import uuid4

import pytest

from blocks import Bridge, Tier, Workbench
from supply_chain.errors import SettingInvalid


async def test_block_of_an_earlier_version_is_named_with_what_it_may_not_hold(machine):
    """`build_network` was `host` once; a value is not repeated, for it may be a secret."""
    name = f"earlier-{uuid4().hex[:8]}"
    earlier = Workbench.model_construct(
        project="/p", tools="/t", database="/d", build_network="host", _block_document_name=name
    )
    await earlier.save(name)

    with pytest.raises(SettingInvalid, match=f"The block {name} of the type .*Workbench .*build_network: ") as told:
        await Workbench.aload(name)

    assert "'default' or 'none'" in str(told.value) and "host" not in str(told.value)


@pytest.mark.parametrize("kind", [Bridge, Tier, Workbench])
async def test_a_block_that_is_not_there_yet_is_told(machine, kind):
    """The first `cscm up` registers blocks last; a run that is early ends with an error that says so."""
    with pytest.raises(SettingInvalid, match=f"no block nobody of the type {kind.get_block_type_name()}") as told:
        await kind.aload("nobody")

    assert "cscm up" in str(told.value)
