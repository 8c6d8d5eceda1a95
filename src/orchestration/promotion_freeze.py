"""freeze: whether promotions by events wait, kept as a variable of Prefect's that everybody sees in its UI."""

from __future__ import annotations

from prefect.variables import Variable
from pydantic import ValidationError

from supply_chain.errors import SettingInvalid
from supply_chain.promotion.freeze import VARIABLE, Freeze


async def frozen() -> Freeze | None:
    """The freeze that is in force; `SettingInvalid` for a variable that says no such thing, which freezes too."""
    said = await Variable.aget(VARIABLE)
    if said is None:
        return None
    try:
        return Freeze.model_validate(said)
    except ValidationError as error:
        raise SettingInvalid(
            f"The variable {VARIABLE} is there, and does not say who froze promotions: {error.errors()[0]['msg']}\n"
            "Nothing is promoted meanwhile. `cscm thaw` removes it; then, if one is meant, `cscm freeze`."
        ) from error


async def freeze(about: Freeze) -> None:
    """Let promotions wait from now on."""
    await Variable.aset(VARIABLE, about.model_dump(mode="json"), overwrite=True)


async def thaw() -> bool:
    """Let them go on; whether they waited. What was missed is found by the next reconcile."""
    return await Variable.aunset(VARIABLE)
