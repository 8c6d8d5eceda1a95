"""Reads, sets and removes the promotion freeze, a Prefect variable that everybody sees in the UI."""

from __future__ import annotations

from prefect.variables import Variable
from pydantic import ValidationError

from supply_chain.errors import SettingInvalid
from supply_chain.promotion.freeze import VARIABLE, PromotionFreeze


async def find_active_freeze() -> PromotionFreeze | None:
    """Return the promotion freeze in force, or None; raise `SettingInvalid` if the variable is no valid freeze.

    Promotions wait in that case too.
    """
    value = await Variable.aget(VARIABLE)
    if value is None:
        return None
    try:
        return PromotionFreeze.model_validate(value)
    except ValidationError as error:
        raise SettingInvalid(
            f"The variable {VARIABLE} exists but is not a valid promotion freeze: {error.errors()[0]['msg']}\n"
            "Promotions wait. Remove it with `cscm unfreeze`; then run `cscm freeze` if promotions have to stay frozen."
        ) from error


async def set_freeze(about: PromotionFreeze) -> None:
    """Make promotions wait from now on."""
    await Variable.aset(VARIABLE, about.model_dump(mode="json"), overwrite=True)


async def lift_freeze() -> bool:
    """End the freeze; return whether there was one. The next run of `catch-up` finds the missed promotions."""
    return await Variable.aunset(VARIABLE)
