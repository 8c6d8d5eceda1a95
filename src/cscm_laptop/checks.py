"""The lines of `cscm doctor`."""

from __future__ import annotations

from supply_chain.errors import SupplyChainError
from supply_chain.model.image import Model


class Check(Model):
    """One line of `cscm doctor`; the remedy of a check that is ok is optional."""

    name: str
    actual: str
    expected: str
    ok: bool
    remedy: str = ""


def check(name: str, actual: str, expected: str, ok: bool, remedy: str) -> Check:
    """Return a check that has its remedy only if it is not ok."""
    return Check(name=name, actual=actual, expected=expected, ok=ok, remedy="" if ok else remedy)


def make_note(name: str, actual: str, expected: str, remedy: str) -> Check:
    """Return a note about what cannot be seen or set by this user or from this machine."""
    return Check(name=name, actual=actual, expected=expected, ok=True, remedy=remedy)


def format_error_message(error: SupplyChainError) -> str:
    """Return an error's message in one line, without its code."""
    return " ".join(str(error.args[0]).split())
