"""The base class of the blocks, which reports a missing or invalid block as `SettingInvalid`."""

from __future__ import annotations

from typing import Self

from prefect.blocks.core import Block
from prefect.client.orchestration import PrefectClient
from pydantic import ValidationError

from supply_chain.errors import SettingInvalid


class Setting(Block):
    """Base class of the project's blocks."""

    @classmethod
    async def aload(cls, name: str, validate: bool = True, client: PrefectClient | None = None) -> Self:
        """Return the block with this name; raise `SettingInvalid` if there is none or its values are invalid."""
        try:
            return await super().aload(name, validate=validate, client=client)
        except ValueError as error:
            raise SettingInvalid(
                f"Prefect has no block {name} of the type {cls.get_block_type_name()}: {error}\n"
                "Wait until `cscm up` is ready, or run it; on another server create the block."
            ) from error
        except RuntimeError as error:
            if not isinstance(error.__cause__, ValidationError):
                raise
            wrong = [f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.__cause__.errors()]
            raise SettingInvalid(
                f"The block {name} of the type {cls.get_block_type_name()} is not valid: {'; '.join(wrong)}\n"
                "Correct it in Prefect's UI (Blocks); on a laptop `cscm up` writes it again."
            ) from None  # the cause contains the values, which may be secrets
