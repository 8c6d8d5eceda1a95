"""Judges the stored facts of many images in several processes: the engine of the rules uses one processor."""

from __future__ import annotations

import gc
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from pathlib import Path

from supply_chain.adapters.database.connection import split_batches
from supply_chain.adapters.database.store import SqlInventory, open_inventory
from supply_chain.concurrency import iterate_in_processes
from supply_chain.fleet.gate_facts import GateSubject
from supply_chain.fleet.preview import Comparison, FactVersions, Result, judge_stored
from supply_chain.policy.loading import compile_policies, replace_policies
from supply_chain.policy.people import People
from supply_chain.policy.proposals import ProposedDecisions
from supply_chain.policy.reviews import Reviews
from supply_chain.vulnerability.matching import count_processors

PART = 250
"""Number of subjects that a process judges at a time."""
FEW = 1000
"""Number of subjects below which it takes longer to start processes than to judge."""

open_once = cache(open_inventory)


@dataclass(frozen=True)
class StoredJudge:
    """Judges stored facts by current and proposed policies. It can be pickled, and judges alike in every process."""

    address: str = field(repr=False)
    """The inventory's address, which may have a password."""
    directory: Path
    """The directory of the current policies, for messages."""
    current: Mapping[str, bytes]
    """File name → content of each current policy."""
    proposed: Mapping[str, str]
    """File name → text of each proposed policy."""
    decisions: ProposedDecisions
    """The waivers and VEX documents of the project, and with the proposed ones."""
    reviews: Reviews
    """The reviews of the project."""
    environments: tuple[str, ...]
    now: datetime

    @property
    def inventory(self) -> SqlInventory:
        """The inventory."""
        return open_once(self.address)

    def compare(self) -> Comparison:
        """Return both policies with their decisions; raise as `policy.loading.read_policies`."""
        current = compile_policies(self.current, self.environments, self.directory)
        proposed = replace_policies(current, self.proposed, self.environments)
        before, after = self.decisions.current, self.decisions.proposed
        return Comparison(
            current.with_decisions(People(), before.waivers, before.vex, self.reviews),
            proposed.with_decisions(People(), after.waivers, after.vex, self.reviews),
            self.now,
            self.decisions.notes,
        )

    def judge_part(self, versions: FactVersions) -> dict[GateSubject, Result]:
        """Return the results of these subjects, judged in this process."""
        return judge_stored(self.inventory, versions, self.compare())

    def judge_apart(self, versions: FactVersions) -> dict[GateSubject, Result]:
        """Return the results of these subjects, judged in a process that does nothing else."""
        gc.freeze()  # what is loaded stays; looking through it again and again would take a tenth of the time
        return self.judge_part(versions)

    def judge(self, versions: FactVersions) -> dict[GateSubject, Result]:
        """Return the results of these subjects; many are judged by all processors."""
        if len(versions) < FEW:
            return self.judge_part(versions)
        parts = [dict(part) for part in split_batches(tuple(versions.items()), PART)]
        results: dict[GateSubject, Result] = {}
        for each in iterate_in_processes(self.judge_apart, parts, count_processors()):
            results |= each
        return results
