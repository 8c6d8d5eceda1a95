"""Check, before the build, that an application's name belongs to its source."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime

from supply_chain.development.snapshot import Snapshot
from supply_chain.evidence.store import EvidenceStore
from supply_chain.model.image import ImageRef
from supply_chain.policy.fact_values import name_conflict
from supply_chain.policy.facts import IntakeFacts
from supply_chain.policy.gate import refuse_name
from supply_chain.policy.names import Holder
from supply_chain.policy.outcome import Refused
from supply_chain.policy.policies import GatePolicy
from supply_chain.policy.reading import read_holder


def check_name(
    snapshot: Snapshot,
    curated_before: Sequence[ImageRef],
    registered: Holder | None,
    store: EvidenceStore,
    policy: Callable[[], GatePolicy[IntakeFacts]],
    at: datetime,
) -> Refused | None:
    """Return the refusal of a name that does not belong to this source, or None.

    `curated_before` and `registered` are as for `read_holder`. `policy` returns the active policies of the intake gate,
    and is called only if the name belongs to another source; without the rule about names, no name is refused.
    """
    holder = read_holder(curated_before, store, registered)
    conflict = name_conflict(snapshot.declaration.name, holder, Holder.of(snapshot.declaration, snapshot.source))
    return refuse_name(conflict, policy(), at) if conflict else None
