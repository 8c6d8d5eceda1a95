"""Write the digests of what decides in deployments/ into the package, so that it is active without a signature.

    python -m scripts.shipped_policies

Run it after a change of the policies, environments or names that ship with the project, and review both together.
"""

from __future__ import annotations

from pathlib import Path

from supply_chain.execution.signed_project import read_signable
from supply_chain.model.image import digest_of
from supply_chain.policy import shipped

ROOT = Path(__file__).parents[1]
MODULE = '''"""Digests of what ships with this version and decides; `python -m scripts.shipped_policies` writes them."""

from __future__ import annotations

from collections.abc import Mapping

from supply_chain.model.image import Digest

SHIPPED: Mapping[str, Digest] = {{
{lines}}}
'''


def module_text() -> str:
    """Return the module with the digests of the repository's files."""
    listed = sorted(read_signable(ROOT).items())
    return MODULE.format(lines="".join(f'    "{name}": "{digest_of(content)}",\n' for name, content in listed))


if __name__ == "__main__":
    Path(shipped.__file__).write_text(module_text(), encoding="utf-8")
