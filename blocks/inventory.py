"""The block of the inventory: the database of all facts about curated images."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field, SecretStr

from blocks.setting import Setting

if TYPE_CHECKING:
    from supply_chain.adapters.database import SqlInventory


class Inventory(Setting):
    """The database with the known facts about every curated image. It can be rebuilt at any time."""

    _block_type_name: ClassVar[str] = "Supply Chain Inventory"
    _block_type_slug: ClassVar[str] = "supply-chain-inventory"
    _description: ClassVar[str] = (
        "The database of all curated images, made from the registry, the container hosts and the clusters."
    )

    address: SecretStr = Field(
        title="Address",
        description="sqlite:////absolute/path, or postgresql+psycopg://USER@HOST/DATABASE with its password.",
    )

    def open(self) -> SqlInventory:
        """Return the inventory, with its tables migrated to this version."""
        from supply_chain.adapters.database import open_inventory  # noqa: PLC0415 - SQLAlchemy; most runs need none

        return open_inventory(self.address.get_secret_value())
