"""Write the digest of deployments/policies into the package, so that these policies are active without a signature.

    python -m scripts.shipped_policies

Run it after a change of the policies that ship with the project, and review both together.
"""

from __future__ import annotations

import re
from pathlib import Path

from supply_chain.model.image import Digest, digest_of
from supply_chain.policy import activation
from supply_chain.policy.loading import DIRECTORY, read_documents

ROOT = Path(__file__).parents[1]


def current_digest() -> Digest:
    """Return the digest of the list of the repository's policies."""
    return digest_of(activation.list_policies(read_documents(ROOT / DIRECTORY)))


if __name__ == "__main__":
    module = Path(activation.__file__)
    line = f'SHIPPED: Digest = "{current_digest()}"'
    module.write_text(re.sub(r"^SHIPPED: .*$", line, module.read_text(encoding="utf-8"), flags=re.M), encoding="utf-8")
