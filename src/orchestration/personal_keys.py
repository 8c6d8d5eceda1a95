"""Keys of persons: only a run that the person started on their own machine uses one."""

from __future__ import annotations

from prefect.runtime import deployment

from supply_chain.errors import DeclarationInvalid


def require_own_machine(key: str, command: str) -> None:
    """Raise `DeclarationInvalid` if a run of a deployment is given a person's key; `command` is what it runs."""
    if key and deployment.id:
        raise DeclarationInvalid(
            "A person's key is not used by a run of a deployment, whose machine is not that person's.\n"
            f"Run `cscm {command} --key REF` where your key is."
        )
