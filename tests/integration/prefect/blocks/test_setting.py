"""Errors for a missing or outdated block in Prefect."""

from typing import Any
from uuid import uuid4

import pytest

from blocks import Bridge, Tier, Workbench
from supply_chain.errors import SettingInvalid


async def test_outdated_block_error_names_field_without_value(machine):
    """`build_network` was once `host`; a value may be a secret, so it is not repeated."""
    name = f"earlier-{uuid4().hex[:8]}"
    former: Any = "host"
    earlier = Workbench.model_construct(
        project="/p", tools="/t", database="/d", build_network=former, _block_document_name=name
    )
    await earlier.save(name)

    with pytest.raises(SettingInvalid, match=f"The block {name} of the type .*Workbench .*build_network: ") as caught:
        await Workbench.aload(name)

    assert "'default' or 'none'" in str(caught.value) and "host" not in str(caught.value)


@pytest.mark.parametrize("kind", [Bridge, Tier, Workbench])
async def test_missing_block_error_names_setup_command(machine, kind):
    """The first `cscm up` registers blocks last, so an early run may miss them."""
    with pytest.raises(SettingInvalid, match=f"no block nobody of the type {kind.get_block_type_name()}") as caught:
        await kind.aload("nobody")

    assert "cscm up" in str(caught.value)
